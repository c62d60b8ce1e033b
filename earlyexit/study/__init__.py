"""The paper's study and what goes beyond it: what is trained, what is measured, and which claims hold.

`earlyexit study` and `earlyexit beyond` run it; the chapters and the page of claims read its results, which come with
the package.
"""

from .finished import Study, open_study

__all__ = ["Study", "open_study"]
