"""The paper's study and what goes beyond it: what is trained, what is measured, and which claims hold.

`earlyexit study` and `earlyexit beyond` run it; the chapters and the page of claims read its results, which come with
the package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submod_attrs={"finished": ["Study", "open_study"]})
