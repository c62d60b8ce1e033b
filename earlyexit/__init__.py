"""Early-exit object detection: a Dyn-Perceiver backbone with four exits in front of a RetinaNet.

Re-implements Kang et al., "Object Detection System Based on Early-Exit Dynamic Perceiver".
"""

from .evaluation.coco import evaluate
from .evaluation.collect import collect_records
from .evaluation.cost import count_macs
from .evaluation.policies import calibrate_thresholds, exit_proportions
from .evaluation.scores import evaluate_records, oracle, random_exit, sweep
from .losses import exit_loss
from .model.backbone import DynPerceiver, Exit
from .model.detector import EarlyExitRetinaNet
from .model.factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf, load_detector
from .model.necks import EarlyExitFPN
from .weights import available_weights
from .weights.published import load_published_weights

__version__ = "0.1.0"

__all__ = [
    "DynPerceiver",
    "EarlyExitFPN",
    "EarlyExitRetinaNet",
    "Exit",
    "available_weights",
    "calibrate_thresholds",
    "collect_records",
    "count_macs",
    "dyn_retinanet_nano",
    "dyn_retinanet_regnet_y_800mf",
    "evaluate",
    "evaluate_records",
    "exit_loss",
    "exit_proportions",
    "load_detector",
    "load_published_weights",
    "oracle",
    "random_exit",
    "sweep",
]
