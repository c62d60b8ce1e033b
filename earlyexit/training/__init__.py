"""From a data set and settings to a run folder: settings, batches, the loop, checkpoints, export."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "loop": ["fit", "train_mode"],
        "run": ["set_norms", "train"],
        "settings": ["TrainSettings", "preset"],
    },
)
