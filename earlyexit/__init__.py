"""Early-exit object detection: a Dyn-Perceiver backbone with four exits in front of a RetinaNet.

Re-implements Kang et al., "Object Detection System Based on Early-Exit Dynamic Perceiver". Names are imported when they
are first used, so that `import earlyexit` and `earlyexit --help` do not wait for PyTorch.
"""

import lazy_loader

__version__ = "0.1.0"

_ROOMS = ("checks", "data", "evaluation", "homework", "model", "study", "training", "weights")

__getattr__, __dir__, _names = lazy_loader.attach(
    __name__,
    submodules=_ROOMS,
    submod_attrs={
        "checks": ["check"],
        "evaluation": [
            "calibrate_thresholds",
            "collect_records",
            "count_macs",
            "evaluate",
            "evaluate_records",
            "exit_proportions",
            "oracle",
            "random_exit",
            "sweep",
        ],
        "losses": ["JointLoss", "exit_loss"],
        "model": [
            "DynPerceiver",
            "EarlyExitFPN",
            "EarlyExitRetinaNet",
            "Exit",
            "dyn_retinanet_nano",
            "dyn_retinanet_regnet_y_800mf",
            "load_detector",
        ],
        "weights": ["available_weights"],
        "weights.published": ["load_published_weights"],
    },
)

__all__ = [name for name in _names if name not in _ROOMS]
