"""What a Dyn-Perceiver's feature branch is made of: a stem and four stages, from torchvision, timm or yourself."""

import copy
import difflib
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torchvision.models import RegNet

from ..weights import misfit
from ..weights.published import read_part

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
AT_STRIDES = (2, 4, 8, 16, 32)  # of the stem's map and of those of the stages
TIMM = "timm/"
IN_ORDER = "in-order:"
_SIDES = (64, 96)  # height and width of the image that a trunk is tried with
_RIGHT = (
    f"a trunk is a chain of modules whose maps are (N, C, H, W) at strides {AT_STRIDES}, of images of any size: "
    "RegNet, ResNet, EfficientNet, MobileNet, e.g. 'timm/tf_efficientnet_lite0'"
)


@runtime_checkable
class Trunk(Protocol):
    """What `DynPerceiver` needs to know of a convolutional network."""

    stem: nn.Module  #: (N, 3, H, W) to a map at stride 2
    stages: Sequence[nn.Module]  #: four, one after the other, from that to maps at strides 4, 8, 16 and 32
    widths: Sequence[int]  #: channels of these five maps, the stem's first
    mean: Sequence[float]  #: of each colour, by which images in [0, 1] are normalised
    std: Sequence[float]  #: likewise


@dataclass(frozen=True)
class Chain:
    """The plainest `Trunk`: its parts, and what was measured of them."""

    stem: nn.Module
    stages: tuple[nn.Module, ...]
    widths: tuple[int, ...]
    mean: Sequence[float]
    std: Sequence[float]


def as_trunk(model: Trunk | nn.Module, name: str = "") -> Trunk:
    """A network as a trunk; its own modules are used, not copies, and its classifier is not.

    Args:
        model: a trunk, a RegNet of torchvision, timm's EfficientNet or MobileNetV3, or what
            `timm.create_model(..., features_only=True)` gives where that is a chain of modules.
        name: stands in messages.

    Raises:
        ValueError: if the network cannot be run stage by stage, or its maps have another layout or other strides; and
            if a trunk says other widths than its maps have, or a mean or std that images in [0, 1] cannot have.
    """
    name = name or type(model).__name__
    if isinstance(model, Trunk):
        widths = measured_widths(model.stem, model.stages, name)
        if widths != tuple(model.widths):
            raise ValueError(f"the widths of the trunk {name!r} must be {widths}, got {tuple(model.widths)}")
        for what, got, least in (("mean", model.mean, 0), ("std", model.std, 1e-6)):
            values = torch.as_tensor(got, dtype=torch.float64)
            if values.shape != (3,) or not ((values >= least) & (values <= 1)).all():
                raise ValueError(f"the {what} of the trunk {name!r} must be three numbers from 0 to 1, got {got}")
        return model
    if isinstance(model, RegNet):
        stem, stages = model.stem, tuple(model.trunk_output.children())
        return Chain(stem, stages, measured_widths(stem, stages, name), IMAGENET_MEAN, IMAGENET_STD)
    stem, *stages = _by_stride(_timm_parts(model, name), name)
    about = model.pretrained_cfg
    return Chain(stem, tuple(stages), measured_widths(stem, stages, name), list(about["mean"]), list(about["std"]))


def timm_trunk(name: str, weights: str | Path | None = None) -> Trunk:
    """A trunk of timm by its name there, "timm/tf_efficientnet_lite0".

    Args:
        name: "timm/" and a name of `timm.list_models()`, with or without the tag of its weights.
        weights: "DEFAULT": timm's own, which it downloads. A file: a state dict of the whole network, `.pth` or
            `.safetensors`, under timm's names; "in-order:FILE" takes tensors under other names, if all fit one by one.
            None: random.

    Raises:
        ValueError: if timm is missing or has no such network, it cannot be a trunk, or the weights do not fit.
    """
    check_trunk_name(name)
    trunk = as_trunk(_of_timm(name), name)
    if weights is None:
        return trunk
    if weights != "DEFAULT":
        known = {"state_dict": _whole_state(name, str(weights))}
        return as_trunk(_of_timm(name, pretrained=True, pretrained_cfg_overlay=known), name)
    from timm.models import get_pretrained_cfg

    about = get_pretrained_cfg(name.removeprefix(TIMM))
    source = about and (about.hf_hub_id or about.url)
    if not source:
        raise ValueError(f"timm has no weights of {name!r}: start from a file of yours, or from random weights")
    try:
        return as_trunk(_of_timm(name, pretrained=True), name)
    except Exception as error:  # every way to fetch a file has exceptions of its own
        raise ValueError(
            f"cannot fetch timm's weights of {name!r} ({type(error).__name__}: {str(error):.150}): get the file of "
            f"{source!r} on a machine with a network and start from it, --init FILE (trunk_weights=FILE)"
        ) from error


def check_trunk_name(name: str) -> None:
    """`ValueError` unless timm is there and has this network; nothing is built."""
    if not name.startswith(TIMM):
        raise ValueError(f"trunk must be 'timm/' and a name of timm, e.g. 'timm/tf_efficientnet_lite0', got {name!r}")
    try:
        import timm
    except ImportError:
        raise ValueError(f"the trunk {name!r} needs the package timm: pip install timm") from None
    if not timm.is_model(name.removeprefix(TIMM)):
        close = difflib.get_close_matches(name.removeprefix(TIMM), timm.list_models(), 3)
        raise ValueError(f"trunk: timm {timm.__version__} has no {name!r}" + (f", but {close}" if close else ""))


def _of_timm(name: str, **weights: Any) -> nn.Module:
    """The network as timm makes it: whole where its blocks are known to be a chain, or else as feature maps."""
    import timm

    short = name.removeprefix(TIMM)
    whole = timm.create_model(short, num_classes=0)
    chained = isinstance(whole, timm.models.EfficientNet | timm.models.MobileNetV3)
    if chained and not weights:
        return whole
    try:
        return timm.create_model(short, **({"num_classes": 0} if chained else {"features_only": True}), **weights)
    except (RuntimeError, AttributeError, AssertionError) as error:
        if weights:
            raise
        raise _refusal(name, f"timm gives no feature maps of it ({str(error):.80})") from error


def _whole_state(name: str, weights: str) -> dict[str, Tensor]:
    """The tensors of a file under timm's names, all of the network except its classifier; `ValueError` if not."""
    import timm

    path, model = weights.removeprefix(IN_ORDER), timm.create_model(name.removeprefix(TIMM))
    found, own = read_part(path, "trunk"), model.state_dict()
    alike = len(found) == len(own) and all(map(_same_kind, found.items(), own.items()))
    if weights.startswith(IN_ORDER):
        if not alike:
            raise ValueError(f"the {len(found)} tensors of {path!r} do not fit the {len(own)} of {name!r} one by one")
        warnings.warn(
            f"the {len(own)} tensors of {path!r} were taken for those of {name!r} in order: all shapes fit, "
            "but no name was compared",
            stacklevel=2,
        )
        return dict(zip(own, found.values(), strict=True))
    last = model.pretrained_cfg.get("classifier") or ()
    last = tuple(f"{part}." for part in ((last,) if isinstance(last, str) else last))
    found, own = ({k: v for k, v in state.items() if not k.startswith(last)} for state in (found, own))
    if wrong := misfit(own, found):
        hint = f". All {len(found)} fit in order, though: {IN_ORDER}{path} takes them so" if alike else ""
        raise ValueError(f"{path!r} is no state dict of {name!r}: {wrong}{hint}")
    return found


def _same_kind(found: tuple[str, Tensor], own: tuple[str, Tensor]) -> bool:
    """Whether two tensors have the same shape and are the same part of a layer: weight, bias, running_mean, ..."""
    return found[1].shape == own[1].shape and found[0].rpartition(".")[2] == own[0].rpartition(".")[2]


def _timm_parts(model: nn.Module, name: str) -> dict[str, nn.Module]:
    """The modules of a network of timm that run one after the other; `ValueError` if it is no chain."""
    if not type(model).__module__.startswith("timm."):
        raise _refusal(name, f"a {type(model).__name__} is neither a Trunk nor a RegNet nor a network of timm")
    from timm.models import EfficientNet, FeatureListNet, MobileNetV3

    if isinstance(model, EfficientNet | MobileNetV3):
        blocks = {f"blocks_{i}": block for i, block in enumerate(model.blocks)}
        return {"conv_stem": model.conv_stem, "bn1": model.bn1, **blocks}
    if not isinstance(model, FeatureListNet):
        raise _refusal(name, f"a {type(model).__name__} does not run stage by stage")
    if model.output_fmt != "NCHW":
        raise _refusal(name, f"its maps are {model.output_fmt.value}")
    return dict(model.items())


def _by_stride(parts: dict[str, nn.Module], name: str) -> list[nn.Module]:
    """The stem and the four stages: each part belongs to the stride of the map that it makes."""
    groups: dict[int, dict[str, nn.Module]] = {stride: {} for stride in AT_STRIDES}
    for key, shape, _ in _tried(parts.items(), name):
        stride = max(2, _SIDES[0] // shape[2]) if len(shape) == 4 and shape[2] else 0
        if stride not in groups:
            raise _refusal(name, f"its part {key!r} makes {shape} of an image of {_SIDES} pixels")
        groups[stride][key] = parts[key]
    missing = [stride for stride, group in groups.items() if not group]
    if missing:
        raise _refusal(name, f"it has no map at stride {missing[0]}")
    return [nn.Sequential(OrderedDict(group)) for group in groups.values()]


def measured_widths(stem: nn.Module, stages: Sequence[nn.Module], name: str) -> tuple[int, ...]:
    """Channels of the maps of a stem and its stages; `ValueError` unless the maps have the strides of a trunk."""
    widths = []
    parts = [("stem", stem), *((f"stage {i}", stage) for i, stage in enumerate(stages, 1))]
    for stride, (key, shape, changed) in zip(AT_STRIDES, _tried(parts, name), strict=False):
        if len(shape) != 4 or shape[2:] != tuple(side // stride for side in _SIDES):
            raise _refusal(name, f"its {key} makes {shape} of an image of {_SIDES} pixels, not stride {stride}")
        if changed and key != "stem":
            raise _refusal(name, f"its {key} changes the map in place that it reads, which neck and latents read, too")
        widths.append(shape[1])
    return tuple(widths)


@torch.inference_mode(False)  # where no versions are counted
@torch.no_grad()
def _tried(parts: Iterable[tuple[str, nn.Module]], name: str) -> list[tuple[str, tuple[int, ...], bool]]:
    """What each part makes of an image of `_SIDES`: its name, the shape, whether it changes its input in place.

    Copies run, in eval mode: the parts stay as they are.
    """
    x, found = torch.zeros(1, 3, *_SIDES), []
    for key, part in parts:
        before, version = x, x._version
        try:
            x = copy.deepcopy(part).to("cpu", torch.float32).eval()(x)
            found.append((key, tuple(x.shape), before._version != version))
        except Exception as error:  # whatever a network says of an image whose size it was not made for
            why = f"its part {key!r} cannot run an image of {_SIDES} pixels ({str(error):.80})"
            raise _refusal(name, why) from error
    return found


def _refusal(name: str, why: str) -> ValueError:
    return ValueError(f"{name!r} cannot be a trunk, {why}: {_RIGHT}")


def sync_norms(model: nn.Module) -> nn.Module:
    """The model with batch normalisations over all processes; those of timm hold an activation, which stays."""
    if not any(type(module).__module__.startswith("timm.") for module in model.modules()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(model)
