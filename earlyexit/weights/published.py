"""Load the published weights: their parameter names, mapped to ours."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from . import misfit

State = Mapping[str, Tensor]
CLASSIFIERS = ("classifiers.", "carries.")  # the parts of a backbone that depend on the number of classes
# Published name (a regular expression) and ours, in the order in which they are applied.
_ATTENTION = [
    (r"cross_attn\.q_norm", "query_norm"),
    (r"cross_attn\.kv_norm", "context_norm"),
    (r"self_attn\.norm", "query_norm"),
    (r"(cross|self)_attn\.attention\.", "attention."),
    (r"relative_position_bias", "key_bias"),
    (r"attention\.q_proj", "attention.query"),
    (r"attention\.k_proj", "attention.key"),
    (r"attention\.v_proj", "attention.value"),
    (r"attention\.o_proj", "attention.out"),
    (r"mlp\.layernorm", "mlp.0"),
    (r"mlp\.fc1", "mlp.1"),
    (r"mlp\.fc2", "mlp.3"),
]
_BACKBONE = [
    (r"^latent$", "latents"),
    (r"^cnn_stem\.", "stem."),
    (r"^cnn_body\.block(\d)\.", lambda m: f"stages.{int(m[1]) - 1}."),
    (r"^dwc(\d)_x2z\.", lambda m: f"reads.{int(m[1]) - 1}.local."),
    (r"^cross_att(\d)_x2z\.", lambda m: f"reads.{int(m[1]) - 1}.cross."),
    (r"^self_att(\d)\.", lambda m: f"reads.{int(m[1]) - 1}.blocks."),
    (r"^cross_att(\d)_z2x\.", lambda m: f"writes.{int(m[1]) - 2}.cross."),
    (r"^last_cross_att_z2x\.", "writes.3.cross."),
    (r"^token_mixer\.(\d)\.", r"transitions.\1.mixer."),
    (r"^token_expander\.(\d)\.", r"transitions.\1.expander."),
    (r"^isc(\d)\.", lambda m: f"carries.{int(m[1]) - 3}."),
    (r"^early_classifier3\.", "classifiers.0."),
    (r"^classifier_att\.", "classifiers.1."),
    (r"^classifier_cnn\.", "classifiers.2."),
    (r"^classifier_merge\.", "classifiers.3."),
    *_ATTENTION,
]
_NECK = [
    (r"^lateral_convs\.(\d)\.conv\.", r"fpn.inner_blocks.\1.0."),
    (r"^fpn_convs\.([012])\.conv\.", r"fpn.layer_blocks.\1.0."),
    (r"^fpn_convs\.3\.conv\.", "fpn.extra_blocks.p6."),
    (r"^fpn_convs\.4\.conv\.", "fpn.extra_blocks.p7."),
]
_HEAD = [
    (r"^cls_convs\.(\d)\.conv\.", r"classification_head.conv.\1.0."),
    (r"^reg_convs\.(\d)\.conv\.", r"regression_head.conv.\1.0."),
    (r"^retina_cls\.", "classification_head.cls_logits."),
    (r"^retina_reg\.", "regression_head.bbox_reg."),
]
_RULES = {"backbone": _BACKBONE, "neck": _NECK, "head": _HEAD}
# The module names under which whole-detector and classifier checkpoints keep these parts.
_PREFIXES = {
    "backbone": ("module.", "backbone."),
    "neck": ("module.", "neck."),
    "head": ("module.", "bbox_head."),
    "trunk": ("module.",),
}


def load_published_weights(
    model: nn.Module,
    *,
    backbone: State | str | Path | None = None,
    neck: State | str | Path | None = None,
    head: State | str | Path | None = None,
) -> list[str]:
    """Load published weights into a detector, part by part; nothing is loaded if any part does not fit.

    Args:
        model: an `EarlyExitRetinaNet`, or a `DynPerceiver` if only `backbone` is given.
        backbone, neck, head: a state dict under the published names, or a file of one (`.pth`, `.safetensors`; also
            with the weights under "model" or "state_dict", and a whole detector's file for each part).

    Returns:
        The names of the model's weights that were left as they were: empty, or the classifiers of a backbone that
        was trained for another number of classes (a warning says so, too).

    Raises:
        ValueError: with the missing, unexpected and misshapen weights listed.
    """
    given = {"backbone": backbone, "neck": neck, "head": head}
    given = {part: source for part, source in given.items() if source is not None}
    if not given:
        raise ValueError("give at least one of backbone=, neck= and head=")
    if any(part != "backbone" and not hasattr(model, part) for part in given):
        raise ValueError(f"this {type(model).__name__} has a backbone alone, but {sorted(given)} were given")
    classes, states, skipped = getattr(model, "backbone", model).num_classes, [], []
    for part, source in given.items():
        module = getattr(model, part, model)
        state = read_published(source, part)
        kept = without_foreign_classifiers(state, classes) if part == "backbone" else state
        own, optional = module.state_dict(), CLASSIFIERS if len(kept) < len(state) else ()
        skipped += [f"{part}.{name}" for name in own if name.startswith(optional)]
        if wrong := misfit(own, kept, optional):
            raise ValueError(f"the weights do not fit the {part}: {wrong}")
        states.append((module, kept))
    for module, state in states:
        module.load_state_dict(state, strict=False)
    if skipped:
        warnings.warn(
            f"the backbone was trained for another number of classes than {classes}: its classifiers were "
            f"not loaded ({len(skipped)} weights: {', '.join(skipped[:3])}, ...)",
            stacklevel=2,
        )
    return skipped


def read_published(source: State | str | Path, part: str) -> dict[str, Tensor]:
    """The tensors of a published "backbone", "neck" or "head" under our names; see `read_part`."""
    found = {}
    for name, value in read_part(source, part).items():
        for pattern, ours in _RULES[part]:
            name = re.sub(pattern, ours, name)
        found[name] = value
    return found


def without_foreign_classifiers(state: State, num_classes: int) -> dict[str, Tensor]:
    """The weights of a backbone, without its classifiers if they are for another number of classes."""
    weight = state.get("classifiers.0.weight")
    foreign = weight is not None and len(weight) != num_classes
    return {name: value for name, value in state.items() if not (foreign and name.startswith(CLASSIFIERS))}


def read_part(source: State | str | Path, part: str) -> dict[str, Tensor]:
    """The tensors of a "backbone", "neck", "head" or "trunk", by the names that they have in a state dict or file.

    Raises:
        ValueError: if there is no such file, or it holds anything but tensors by name.
    """
    if isinstance(source, str | Path):
        source = read_tensors(source)
    if not isinstance(source, Mapping):
        raise ValueError(f"the weights of the {part} must be a state dict, got {type(source).__name__}")
    for key in ("state_dict", "model"):
        if isinstance(source.get(key), Mapping):
            source = source[key]
    if not all(isinstance(key, str) for key in source):
        raise ValueError(f"the weights of the {part} must be tensors by name, got the names {list(source)[:5]}")
    for prefix in _PREFIXES[part]:
        inside = {k.removeprefix(prefix): v for k, v in source.items() if k.startswith(prefix)}
        source = inside or source
    wrong = [key for key, value in source.items() if not isinstance(value, Tensor)]
    if wrong:
        raise ValueError(f"the weights of the {part} must be tensors by name, got {wrong[:5]} that are none")
    return dict(source)


def read_tensors(path: str | Path) -> State:
    """What is in a file of `torch.save` or, if its name says so, a safetensors file; `ValueError` if it is neither."""
    if not Path(path).is_file():
        raise ValueError(f"no such file {str(path)!r}")
    try:
        if Path(path).suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # there is no end to what torch.load says about a file that is none
        raise ValueError(
            f"{str(path)!r} is no file of tensors ({type(error).__name__}); if torch.save wrote it with more in it, "
            "store its state dict alone"
        ) from error
