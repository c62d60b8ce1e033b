"""Named sets of arguments for `earlyexit train`; each argument can still be given by itself."""

from typing import Any

# MMDetection's RetinaNet "1x" schedule as the paper used it (section 4.1.2): batch 16 at a learning rate of 0.01,
# a tenth of it after epochs 8 and 11. The published code feeds BGR to a backbone trained on RGB; this is RGB.
_PAPER = {
    "model": "regnet_y_800mf",
    "init": "imagenet",
    "freeze": 1,  # the stem, stage 1 and its attention, as in the published code
    "theta": 0.0115,
    "lambda_": 1.0,
    "distillation": 0.5,
    "filler": "downsample",
    "min_size": 800,
    "max_size": 1333,
    "epochs": 12,
    "batch_size": 16,
    "optimizer": "sgd",
    "lr": 0.01,
    "weight_decay": 5e-5,
    "schedule": "steps",
    "warmup": 500,
    "clip": 35.0,
    "shape_groups": True,
    "workers": 4,
}

_NANO = {
    "model": "nano",
    "theta": 0.0115,
    "lambda_": 1.0,
    "distillation": 0.5,
    "filler": "downsample",
    "epochs": 6,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 1e-3,
    "weight_decay": 0.05,
    "schedule": "cosine",
    "warmup": 100,
    "clip": 1.0,
}

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "nano": ("the small detector on the scenes; the defaults of the command", _NANO),
    "paper-coco": ("the paper's recipe on COCO-Single", _PAPER),
    # 200 classes change nothing but the last layers; the paper names one recipe for both data sets.
    "paper-ilsvrc": ("the paper's recipe on ILSVRC-Single", {**_PAPER, "theta": 0.0115}),
    "colab": (
        "the paper's detector on COCO-Single at 480 pixels, for one GPU of 15 GB",
        {
            **_PAPER,
            "min_size": 480,
            "max_size": 800,
            "epochs": 6,
            "batch_size": 8,
            "optimizer": "adamw",
            "lr": 2e-4,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "clip": 1.0,
            "precision": "fp16",
            "workers": 2,
        },
    ),
}


def preset(name: str) -> dict[str, Any]:
    """The arguments of a preset, as fields of `TrainSettings`; `ValueError` if there is none of that name."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {name!r}")
    return dict(PRESETS[name][1])
