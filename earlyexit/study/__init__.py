"""The paper's study: what is trained, what is measured, and which of the paper's claims hold.

`earlyexit study` runs it; the tables that it writes are what the chapters and the page of claims read.
"""
