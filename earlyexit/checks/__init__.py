"""Exercises that check themselves: `check("2.iou", iou)` says whether an answer is right, or which slip it looks like.

Each is a function that is given the answer and a generator of random inputs; in which file it lies, `verdicts` says.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"network": ["level_pairs"], "verdicts": ["Verdict", "check"]}
)
