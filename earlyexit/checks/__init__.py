"""Exercises that check themselves: `check("2.iou", iou)` says whether an answer is right, or which slip it looks like.

A chapter's exercises lie in the file of its part of the book, an assignment's in that of its name: one function each,
which is given the answer and a generator of random inputs, see `verdicts`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"network": ["level_pairs"], "verdicts": ["Verdict", "check"]}
)
