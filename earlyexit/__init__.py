"""Early-exit object detection: a Dyn-Perceiver backbone with four exits in front of a RetinaNet.

Re-implements Kang et al., "Object Detection System Based on Early-Exit Dynamic Perceiver".
"""

from .backbone import DynPerceiver, Exit
from .compute import count_macs
from .detector import EarlyExitRetinaNet
from .evaluation import evaluate
from .factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from .losses import exit_loss
from .models import load_detector
from .neck import EarlyExitFPN
from .published import load_published_weights
from .records import collect_records, evaluate_records, oracle, random_exit, sweep
from .thresholds import calibrate_thresholds, exit_proportions
from .weights import available_weights

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
