"""Detectors and classifiers by name, with fresh or trained weights."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision.models import RegNet, RegNet_Y_800MF_Weights, regnet_y_800mf
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.models.regnet import BlockParams

from ..losses import JointLoss
from ..weights import ModelConfig, available_weights, load_parts, load_state, load_weights, parse_card, read_about
from ..weights.published import CLASSIFIERS, read_published, without_foreign_classifiers
from .backbone import DynPerceiver
from .detector import EarlyExitRetinaNet, check_scales
from .exits import kind_of_rule, make_rule
from .heads import EarlyExitFPN, EarlyPyramid, early_head, retinanet_anchors, retinanet_head
from .inputs import check_images, check_targets
from .trunks import IN_ORDER, Trunk, timm_trunk

PICKLED = (".pth", ".pt", ".tar")


class ExitClassifier(nn.Module):
    """A Dyn-Perceiver that learns the class of single-object images at its four exits; see `exit_loss`.

    It takes images and targets as the detector does, so that the same training loop serves both. The shorter side of
    images is resized to `image_size` pixels, the longer to at most `max_size`, twice as many unless given.
    """

    def __init__(
        self, backbone: DynPerceiver, *, image_size: int = 128, max_size: int | None = None, distillation: float = 0.5
    ):
        super().__init__()
        self.backbone = backbone
        pixels, max_size = (backbone.image_mean, backbone.image_std), max_size or 2 * image_size
        self.transform = GeneralizedRCNNTransform(image_size, max_size, *pixels)
        self.distillation = distillation

    def forward(self, images: Sequence[Tensor], targets: Sequence[dict] | None = None):
        """In training {"exit": loss}; in eval the four exits' logits, a list of (N, classes)."""
        check_images(images, self, values=not self.training)
        if not self.training:
            return self.backbone(self.transform(images)[0].tensors)
        check_targets(images, targets, self.backbone.num_classes)
        logits = [x.float() for x in self.backbone(self.transform(images)[0].tensors)]
        return {"exit": JointLoss(distillation=self.distillation).of_classes(logits, targets)}


def dyn_retinanet_regnet_y_800mf(
    num_classes: int,
    *,
    weights: str | Path | None = None,
    trunk: Trunk | str | None = None,
    trunk_weights: RegNet_Y_800MF_Weights | str | Path | None = None,
    filler: str = "downsample",
    widths: Sequence[int] | None = None,
    first_read: str = "published",
    **detector,
) -> EarlyExitRetinaNet:
    """The paper's detector: RegNetY-800MF, 128 latents, a 256-channel pyramid, images of 800 to 1333 pixels.

    Args:
        num_classes: number of classes, labelled from 0; no background class.
        weights: a safetensors file of this model's weights.
        trunk: in the place of RegNetY-800MF: the name of a network of timm, "timm/tf_efficientnet_lite0", or a `Trunk`.
        trunk_weights: torchvision's ImageNet weights for RegNetY-800MF, e.g. "IMAGENET1K_V2"; for the weights of
            timm's networks see `timm_trunk`.
        filler: "downsample" or "zero", see `EarlyExitFPN`; "learned": early exits have a pyramid and a head of their
            own, see `EarlyPyramid`.
        widths: with "learned" the channels of the pyramid and the head of exits 1, 2, ... at most 4, which begin with
            P4 at exits 1 and 2 and with P3 after them; 0, or too few numbers, leave an exit the shared ones.
        first_read: "merged" reads large maps the first time for less compute, see `DynPerceiver`.
        **detector: passed to `EarlyExitRetinaNet`.
    """
    made = _regnet(trunk_weights) if trunk is None else _other_trunk(trunk, trunk_weights)
    backbone = DynPerceiver(made, num_classes, first_read=first_read)
    sizes = {"head_convs": 4, "anchor_scale": 4, "widths": widths or (128, 128, 128)}
    return _assemble(backbone, weights, 256, filler=filler, **{**sizes, **detector})


def dyn_retinanet_nano(
    num_classes: int = 20,
    *,
    weights: str | Path | None = None,
    trunk: Trunk | str | None = None,
    trunk_weights: str | Path | None = None,
    filler: str = "downsample",
    widths: Sequence[int] | None = None,
    first_read: str = "published",
    **detector,
) -> EarlyExitRetinaNet:
    """The same detector at 1.6 M parameters for images of 128 pixels: it learns on two CPU cores in minutes.

    Args:
        num_classes: number of classes, labelled from 0; 20 for the scenes.
        weights: the name of weights that come with the package ("scenes", "scenes-baseline") or a file. For those of a
            detector with other options, as "scenes-early", `load_detector` makes the detector that they fit.
        trunk: in the place of the small RegNetY, for which there are no `trunk_weights`.
        trunk_weights, filler, widths, first_read, detector: see `dyn_retinanet_regnet_y_800mf`.
    """
    detector = {**dict(zip(("min_size", "max_size"), SIZES["nano"], strict=True)), **detector}
    backbone = nano_backbone(num_classes, trunk, trunk_weights, first_read)
    sizes = {"head_convs": 2, "anchor_scale": 3, "widths": widths or (48, 24, 40)}
    return _assemble(backbone, weights, 64, filler=filler, **{**sizes, **detector})


def nano_backbone(
    num_classes: int = 20,
    trunk: Trunk | str | None = None,
    trunk_weights: str | Path | None = None,
    first_read: str = "published",
) -> DynPerceiver:
    """The backbone of `dyn_retinanet_nano`: a RegNetY of depths 1, 1, 2, 1, or another trunk, and 32 latents."""
    sizes = {"num_latents": 32, "depths": (1, 1, 2, 2), "first_read": first_read}
    if trunk is not None:
        return DynPerceiver(_other_trunk(trunk, trunk_weights), num_classes, **sizes)
    if trunk_weights is not None:
        known = "ImageNet weights are for the model 'regnet_y_800mf', not for 'nano'"
        raise ValueError(f"{known}, unless that has a trunk of timm, got trunk_weights={trunk_weights!r}")
    blocks = BlockParams(
        depths=[1, 1, 2, 1],
        widths=[32, 64, 128, 192],
        group_widths=[16] * 4,
        bottleneck_multipliers=[1.0] * 4,
        strides=[2] * 4,
        se_ratio=0.25,
    )
    return DynPerceiver(RegNet(blocks, num_classes=1, stem_width=32), num_classes, heads=(1, 2, 4, 4), **sizes)


def _other_trunk(trunk: Trunk | str, weights: RegNet_Y_800MF_Weights | str | Path | None) -> Trunk:
    if isinstance(trunk, str):
        return timm_trunk(trunk, weights)
    if weights is not None:
        raise ValueError(f"a trunk of your own has the weights that you gave it, got trunk_weights={weights!r}")
    return trunk


def _regnet(weights: RegNet_Y_800MF_Weights | str | None) -> RegNet:
    try:
        return regnet_y_800mf(weights=weights)
    except KeyError:
        names = list(RegNet_Y_800MF_Weights.__members__)
        raise ValueError(f"trunk_weights must be one of torchvision's {names}, got {weights!r}") from None
    except URLError as error:
        url = RegNet_Y_800MF_Weights[weights].url if isinstance(weights, str) else weights.url
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise ValueError(
            f"cannot fetch torchvision's weights ({error.reason}): put {url} into {str(folder)!r}"
        ) from None


def _assemble(
    backbone: DynPerceiver,
    weights: str | Path | None,
    channels: int,
    *,
    filler: str,
    head_convs: int,
    anchor_scale: float,
    widths: Sequence[int],
    **detector,
) -> EarlyExitRetinaNet:
    if head_convs not in range(1, 5):
        raise ValueError(f"head_convs must be 1 to 4 convolutions, got {head_convs!r}")
    if len(widths) > 4 or min(widths, default=0) < 0:
        raise ValueError(f"widths must be the channels of at most four exits, 0 for the shared ones, got {widths}")
    in_channels = [backbone.out_channels[name] for name in ("c3", "c4", "c5")]
    learned, early = filler == "learned", {}
    for exit, width in [(exit, width) for exit, width in enumerate(widths, 1) if width and learned]:
        finest = "p4" if exit <= 2 else "p3"
        pyramid = EarlyPyramid(in_channels[:exit], backbone.latent_dims[exit], width, finest)
        anchors = 9 if finest == "p3" else 18  # see `anchors_without_finest`
        early[exit] = pyramid, early_head(width, backbone.num_classes, convs=head_convs, anchors=anchors)
    model = EarlyExitRetinaNet(
        backbone,
        EarlyExitFPN(in_channels, channels, filler="downsample" if learned else filler),
        retinanet_head(channels, backbone.num_classes, convs=head_convs),
        early=early,
        anchor_generator=retinanet_anchors(anchor_scale),
        **detector,
    )
    if weights is not None:
        load_weights(model, weights)
    return model.to(memory_format=torch.channels_last)  # faster on CPU and GPU, with the same results


SIZES = {"nano": (128, 256), "regnet_y_800mf": (800, 1333)}  # shorter side and limit of the longer, unless given
DETECTORS = {"nano": dyn_retinanet_nano, "regnet_y_800mf": dyn_retinanet_regnet_y_800mf}


def make_model(config: ModelConfig, **more) -> EarlyExitRetinaNet | ExitClassifier:
    """The detector that a config describes or, for the task "classify", its backbone as a classifier; fresh weights.

    Args:
        config: what a weight file says of itself, or a training is about to write into one.
        **more: for the factory, what the weights do not depend on: `loss`, `allow_empty`, `trunk_weights`, ...
    """
    if config.model not in DETECTORS:
        raise ValueError(f"model must be one of {sorted(DETECTORS)}, got {config.model!r}")
    model = DETECTORS[config.model](len(config.classes), **config.options(), **more)
    if config.task == "classify":
        sizes = {"image_size": model.transform.min_size[-1], "max_size": config.max_size}
        return ExitClassifier(model.backbone, **sizes, distillation=model.loss.distillation)
    model.rule = make_rule(config.rule, config.exit_target)
    return model


def check_card(model: nn.Module, about: dict, classes: Sequence[str] | None = None) -> None:
    """`ValueError` if a card would make another model than this one, which its weights would fit all the same.

    Args:
        about: the card; one without a task describes no model.
        classes: names of the classes that the model learns, if they are known.
    """
    if "task" not in about:
        return
    config = ModelConfig.of(parse_card(json.dumps(about), "about"))
    if config.model not in SIZES:
        raise ValueError(f"about: model must be one of {sorted(SIZES)}, got {config.model!r}")
    least, most = SIZES[config.model]
    said = {"task": config.task, "classes": list(config.classes), "min_size": config.min_size or least}
    has = {"task": "detect" if isinstance(model, EarlyExitRetinaNet) else "classify"}
    has |= {"classes": said["classes"] if classes is None else list(classes), "min_size": model.transform.min_size[-1]}
    if isinstance(model, EarlyExitRetinaNet):
        rule, scales = make_rule(config.rule), check_scales(config.score_scales)
        said |= {"max_size": config.max_size or most, "exit_target": config.exit_target, "filler": config.filler}
        has |= {"max_size": model.transform.max_size, "exit_target": model.exit_target}
        shared = config.filler == "learned" and not any(config.widths or (1,))  # widths 0: no neck is its own
        said |= {"filler": "downsample"} if shared else {}
        has |= {"filler": "learned" if model.early_necks else model.filler or said["filler"]}  # a neck may have none
        said |= {"rule": kind_of_rule(rule), "score_scales": scales}
        has |= {"rule": kind_of_rule(model.rule), "score_scales": check_scales(model.score_scales)}
    wrong = [f"{name} is {has[name]!r}, the card says {said[name]!r}" for name in said if said[name] != has[name]]
    if wrong:
        raise ValueError(f"about is the card of another model: {'; '.join(wrong)}")


def read_config(weights: str | Path) -> ModelConfig:
    """What a name of `available_weights()` or a file says of its model; `ValueError` if it is none of this package."""
    about = read_about(weights)
    if "task" not in about:
        how = "fit(..., about=ModelConfig(...).card()) writes one"
        raise ValueError(f"{str(weights)!r} has no card that tells how to make its model, only {about}: {how}")
    return ModelConfig.of(about)


def load_model(weights: str | Path, **changes) -> EarlyExitRetinaNet | ExitClassifier:
    """A trained detector or classifier; arguments as for `load_detector`."""
    config = read_config(weights)
    own = {name: changes.pop(name) for name in asdict(config) if name in changes}
    try:
        model = make_model(replace(config, **own), **changes)
    except ValueError as error:
        kind = "detector" if config.task == "detect" else "classifier"
        raise ValueError(f"cannot make the {kind} of {str(weights)!r}: {error}") from error
    load_weights(model, weights, rule=own.get("rule", config.rule) == config.rule)
    return model


def load_detector(weights: str | Path, **changes) -> tuple[EarlyExitRetinaNet, list[str]]:
    """A detector with its weights, and the names of its classes.

    Args:
        weights: a name of `available_weights()`, or a file that `earlyexit train` or `export` wrote.
        **changes: to its `ModelConfig`, e.g. `filler="zero"`, or for the factory, e.g. `score_thresh=0.3`.
    """
    config = read_config(weights)
    if config.task != "detect":
        raise ValueError(f"{str(weights)!r} does not hold a detector, but a model for the task {config.task!r}")
    return load_model(weights, **changes), config.classes


def trunk_weights_of(init: str | None, trunk: str | None) -> str | None:
    """What of an init the factory takes as `trunk_weights`: timm's or torchvision's own, or a file of a timm network.

    Args:
        init: "imagenet", "in-order:FILE", anything that `load_init` takes, or None.
        trunk: the name of a network of timm, None for the model's own trunk.
    """
    if init == "imagenet":
        return "DEFAULT"
    if trunk is None or init is None:
        return None
    if init.startswith(IN_ORDER) or Path(init).suffix in PICKLED:
        return init
    ours = not Path(init).is_file() or any(name.startswith("backbone.") for name in load_state(init))
    return None if ours else init


def load_init(backbone: DynPerceiver, init: str, *, classifiers: bool = True) -> list[str]:
    """Load a pretrained backbone from any kind of file; gives the names of the weights that were left as they were.

    Args:
        backbone: the backbone to fill.
        init: a name of `available_weights()`, a safetensors file of this package's classifier or detector, or a
            checkpoint of the published Dyn-Perceiver (`.pth`).
        classifiers: load the exits' classifiers, too, if they are for the same number of classes.

    Raises:
        ValueError: if there is no such file, it cannot be read, or it holds another backbone.
    """
    if Path(init).suffix in PICKLED:
        try:
            found = read_published(init, "backbone")
        except ValueError as error:
            raise ValueError(f"init: {error}") from error
    elif init in available_weights() or Path(init).is_file():
        found = {k.removeprefix("backbone."): v for k, v in load_state(init).items() if k.startswith("backbone.")}
    else:
        kinds = f"'imagenet', one of {available_weights()}, a safetensors file or a checkpoint (.pth)"
        raise ValueError(f"init must be {kinds}, got {init!r}")
    found = without_foreign_classifiers(found, backbone.num_classes)
    if not classifiers:
        found = {name: value for name, value in found.items() if not name.startswith(CLASSIFIERS)}
    return load_parts(backbone, found, CLASSIFIERS, f"init: the weights in {init!r} are of another backbone")


def load_warm_start(model: EarlyExitRetinaNet, weights: str | Path, classes: Sequence[str] | None = None) -> list[str]:
    """Go on from a trained detector, of other classes, too; gives the names of the weights that were left as they were.

    It may lack the parts for early exits, which then keep their fresh weights. If it tells apart another number of
    classes, or others by name, the layers that know classes stay fresh: the exits' classifiers and what connects them,
    the last layer of each class head, and the opinions. Everything else carries over.

    Args:
        model: the detector to fill; one with `filler="learned"` may start from one trained the paper's way.
        weights: a name of `available_weights()` or a file.
        classes: the names that `model` is for; None: only the number is compared.

    Raises:
        ValueError: if the file holds something that the model has not, or in another shape.
    """
    found = {name: value for name, value in load_state(weights).items() if not name.startswith("rule.")}
    optional = ("early_necks.", "early_heads.", "opinions.")
    known = read_about(weights).get("classes")
    first = found.get("backbone.classifiers.0.weight", ())
    if len(first) != model.num_classes or (classes and known and list(classes) != known):
        of_classes = tuple(filter(_knows_classes, model.state_dict()))
        found = {name: value for name, value in found.items() if name not in of_classes}
        optional += of_classes
    return load_parts(model, found, optional, f"cannot go on from {str(weights)!r}, which is of another detector")


def _knows_classes(name: str) -> bool:
    """Whether a weight of a detector belongs to a layer that is for its classes."""
    backbone = tuple(f"backbone.{part}" for part in CLASSIFIERS)
    return name.startswith((*backbone, "opinions.")) or ".cls_logits." in name


def describe_fresh(names: Sequence[str]) -> str:
    """What the weights `names`, as `load_warm_start` gives them, belong to, in words; "" for none."""
    classes = [name for name in names if _knows_classes(name)]
    parts = {
        "the exits' classifiers": any(name.startswith("backbone.") for name in classes),
        "the heads' class layers": any(".cls_logits." in name for name in classes),
        "the opinions": any(name.startswith("opinions.") for name in classes),
        "the early exits' own necks and heads": len(classes) < len(names),
    }
    return ", ".join(part for part, fresh in parts.items() if fresh)


def reset_classifiers(backbone: DynPerceiver) -> None:
    """Draw new random weights for the exits' classifiers and what connects them."""
    for module in [*backbone.classifiers.modules(), *backbone.carries.modules()]:
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(p.numel() for p in model.parameters())
