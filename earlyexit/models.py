"""Models by the name that the command line and weight files use."""

from pathlib import Path

from torch import nn

from .backbone import DynPerceiver
from .classifier import ExitClassifier
from .detector import EarlyExitRetinaNet
from .factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from .weights import load_state, read_about

DETECTORS = {"nano": dyn_retinanet_nano, "regnet_y_800mf": dyn_retinanet_regnet_y_800mf}


def make_detector(name: str, num_classes: int, **detector) -> EarlyExitRetinaNet:
    """The detector called `name`, with fresh weights; keyword arguments go to its factory."""
    if name not in DETECTORS:
        raise ValueError(f"model must be one of {sorted(DETECTORS)}, got {name!r}")
    return DETECTORS[name](num_classes, **detector)


def make_classifier(name: str, num_classes: int) -> ExitClassifier:
    """The backbone of the detector called `name`, as a classifier."""
    detector = make_detector(name, num_classes)
    return ExitClassifier(detector.backbone, image_size=detector.transform.min_size[-1])


def load_detector(weights: str | Path, **detector) -> tuple[EarlyExitRetinaNet, list[str]]:
    """A detector with its weights, and the names of its classes.

    Args:
        weights: a name of `available_weights()`, or a file that `earlyexit train` or `export` wrote.
        **detector: go to the factory, e.g. `filler="zero"`.
    """
    about = read_about(weights)
    if about.get("task") != "detect":
        raise ValueError(f"{str(weights)!r} does not hold a detector that this package trained: its card says {about}")
    detector = {"filler": about.get("filler", "downsample"), **detector}
    model = make_detector(about["model"], len(about["classes"]), weights=weights, **detector)
    return model, about["classes"]


def load_backbone(backbone: DynPerceiver, weights: str | Path, *, classifiers: bool = True) -> list[str]:
    """Load the backbone of a trained classifier or detector.

    Args:
        backbone: the backbone to fill.
        weights: a name of `available_weights()` or a file.
        classifiers: load the exits' classifiers, too. They are left out anyway when they were trained for another
            number of classes.

    Returns:
        The names of the weights that were left as they were.
    """
    found = {k.removeprefix("backbone."): v for k, v in load_state(weights).items() if k.startswith("backbone.")}
    first = found.get("classifiers.0.weight")
    if first is None or len(first) != backbone.num_classes or not classifiers:
        found = {k: v for k, v in found.items() if not k.startswith(("classifiers.", "carries."))}
    own = backbone.state_dict()
    missing = [k for k in own if k not in found]
    wrong = [k for k, v in found.items() if k not in own or own[k].shape != v.shape]
    wrong += [k for k in missing if not k.startswith(("classifiers.", "carries."))]
    if wrong:
        raise ValueError(f"the weights in {str(weights)!r} are of another backbone: {wrong[:5]} ({len(wrong)} in all)")
    backbone.load_state_dict(found, strict=False)
    return missing


def reset_classifiers(backbone: DynPerceiver) -> None:
    """Draw new random weights for the exits' classifiers and what connects them."""
    for module in [*backbone.classifiers.modules(), *backbone.carries.modules()]:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
