"""Marking homework: `earlyexit-grade submissions/ --out marks.csv`, see `grade`; its exercises lie in `checks`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "board": ["Score", "score"],
        "grade": ["Mark", "grade", "hidden_seeds", "seed_of"],
        "student": ["Student"],
    },
)
