"""Early-exit object detection on a Dynamic Perceiver backbone."""

__version__ = "0.1.0"
