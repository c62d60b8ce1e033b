"""Models by the name that the command line and weight files use."""

import warnings
from pathlib import Path

from torch import nn

from .backbone import DynPerceiver
from .classifier import ExitClassifier
from .detector import EarlyExitRetinaNet
from .factories import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from .published import load_published_weights, read_tensors
from .weights import available_weights, load_state, load_weights, read_about

# Of a card, what the factory needs.
MADE_WITH = ("filler", "opinions", "exit_target", "score_scales", "min_size", "max_size")
DETECTORS = {"nano": dyn_retinanet_nano, "regnet_y_800mf": dyn_retinanet_regnet_y_800mf}


def make_detector(name: str, num_classes: int, **detector) -> EarlyExitRetinaNet:
    """The detector called `name`, with fresh weights; keyword arguments go to its factory."""
    if name not in DETECTORS:
        raise ValueError(f"model must be one of {sorted(DETECTORS)}, got {name!r}")
    return DETECTORS[name](num_classes, **detector)


def make_classifier(name: str, num_classes: int, **detector) -> ExitClassifier:
    """The backbone of the detector called `name`, as a classifier; keyword arguments as for `make_detector`."""
    whole = make_detector(name, num_classes, **detector)
    return ExitClassifier(whole.backbone, image_size=whole.transform.min_size[-1])


def load_detector(weights: str | Path, **detector) -> tuple[EarlyExitRetinaNet, list[str]]:
    """A detector with its weights, and the names of its classes.

    Args:
        weights: a name of `available_weights()`, or a file that `earlyexit train` or `export` wrote.
        **detector: go to the factory, e.g. `filler="zero"`.
    """
    about = read_about(weights)
    if about.get("task") != "detect":
        raise ValueError(f"{str(weights)!r} does not hold a detector that this package trained: its card says {about}")
    made_with = {key: about[key] for key in MADE_WITH if key in about}
    try:
        model = make_detector(about["model"], len(about["classes"]), **{**made_with, **detector})
    except ValueError as error:
        raise ValueError(f"cannot make the detector of {str(weights)!r}: {error}") from error
    load_weights(model, weights)
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


def load_init(backbone: DynPerceiver, init: str, *, classifiers: bool = True) -> list[str]:
    """Load a pretrained backbone from any kind of file; see `load_backbone` for what is returned.

    Args:
        backbone: the backbone to fill.
        init: a name of `available_weights()`, a safetensors file of this package, or a checkpoint of the published
            Dyn-Perceiver (`.pth`).
        classifiers: load the exits' classifiers, too, if they are for the same number of classes.

    Raises:
        ValueError: if there is no such file, it cannot be read, or it holds another backbone.
    """
    if Path(init).suffix not in (".pth", ".pt", ".tar"):
        if init not in available_weights() and not Path(init).is_file():
            kinds = f"'imagenet', one of {available_weights()}, a safetensors file or a checkpoint (.pth)"
            raise ValueError(f"init must be {kinds}, got {init!r}")
        return load_backbone(backbone, init, classifiers=classifiers)
    try:
        state = read_tensors(init)
    except ValueError as error:
        raise ValueError(f"init: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # classifiers of another number of classes are expected here
        try:
            left = load_published_weights(backbone, backbone=state)
        except ValueError as error:  # which lists every weight
            raise ValueError(f"init: {init!r}: {str(error):.300} ...") from error
    if classifiers:
        return [name.removeprefix("backbone.") for name in left]
    return [name for name in backbone.state_dict() if name.startswith(("classifiers.", "carries."))]


def load_warm_start(model: EarlyExitRetinaNet, weights: str | Path) -> list[str]:
    """Go on from a trained detector that may lack the parts for early exits, which then keep their fresh weights.

    Args:
        model: the detector to fill; one with `filler="learned"` may start from one trained the paper's way.
        weights: a name of `available_weights()` or a file.

    Returns:
        The names of the weights that were left as they were.

    Raises:
        ValueError: if the file holds something that the model has not, or in another shape.
    """
    found, own = load_state(weights), model.state_dict()
    wrong = [name for name, value in found.items() if name not in own or own[name].shape != value.shape]
    fresh = [name for name in own if name not in found]
    wrong += [name for name in fresh if not name.startswith(("early_necks.", "early_heads.", "opinions."))]
    if wrong:
        raise ValueError(
            f"cannot go on from {str(weights)!r}, which is of another detector: {wrong[:5]} ({len(wrong)} in all)"
        )
    model.load_state_dict(found, strict=False)
    return fresh


def reset_classifiers(backbone: DynPerceiver) -> None:
    """Draw new random weights for the exits' classifiers and what connects them."""
    for module in [*backbone.classifiers.modules(), *backbone.carries.modules()]:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
