"""Early-exit object detection: a Dyn-Perceiver backbone with four exits in front of a RetinaNet.

Re-implements Kang et al., "Object Detection System Based on Early-Exit Dynamic Perceiver".
"""

from .backbone import DynPerceiver, Exit
from .compute import count_macs
from .detector import EarlyExitRetinaNet
from .factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from .losses import exit_loss
from .neck import EarlyExitFPN
from .published import load_published_weights
from .thresholds import calibrate_thresholds, exit_proportions

__version__ = "0.1.0"

__all__ = [
    "DynPerceiver",
    "EarlyExitFPN",
    "EarlyExitRetinaNet",
    "Exit",
    "calibrate_thresholds",
    "count_macs",
    "dyn_retinanet_nano",
    "dyn_retinanet_regnet_y_800mf",
    "exit_loss",
    "exit_proportions",
    "load_published_weights",
]
