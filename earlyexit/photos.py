"""Detection on photos from anywhere: what `earlyexit detect` does, without any printing."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import ImageOps
from torchvision.transforms.v2.functional import pil_to_tensor

from .command_line import check_file
from .compute import count_macs
from .data.photos import open_image, to_rgb
from .evaluation import network_size
from .models import load_detector
from .plots import draw_detection, image_grid, save_figure
from .weights import read_about


def detect(
    images: Sequence[Path], weights: str, thresholds, exit, min_score: float, save: Path | None, device, bf16: bool
) -> Iterator[str]:
    """Lines that say what was found, image by image; the picture is written last."""
    if save and save.suffix.lower() not in (".png", ".jpg", ".jpeg", ".pdf", ".svg"):
        raise ValueError(f"--save must end in .png, .jpg, .pdf or .svg, got {str(save)!r}")
    check_file("--save", save)
    photos = [read_photo(path) for path in images]
    if thresholds is None and exit is None:
        thresholds = own_thresholds(weights)
    model, classes = load_detector(weights)
    kind = torch.bfloat16 if bf16 else torch.float32
    model.to(device, kind).eval()
    yield f"this model knows {len(classes)} classes: {', '.join(classes)}"
    macs_at = functools.cache(functools.partial(count_macs, model))
    found, notes = [], []
    for path, photo in zip(images, photos, strict=True):
        with torch.inference_mode():
            detection = model([photo.to(device, kind)], thresholds=thresholds, exit=exit)[0]
        detection = {k: v.float().cpu() if k in ("boxes", "scores") else v for k, v in detection.items()}
        detection["labels"] = detection["labels"].cpu()
        macs = macs_at(network_size(model, photo))
        saved = 1 - macs[detection["exit"]]["total"] / macs[4]["total"]
        found.append(detection)
        notes.append(f"{saved:.0%} of the compute saved")
        yield _line(path, detection, notes[-1], classes, min_score)
    if save:
        _draw(save, photos, found, notes, classes, min_score)
        yield f"wrote {save}"


def own_thresholds(weights: str) -> list[float] | None:
    """The thresholds that weights come with, if any; None in a card is infinity, which JSON does not have."""
    stored = read_about(weights).get("thresholds")
    return stored and [float("inf") if t is None else t for t in stored]


def _line(path: Path, detection: dict, note: str, classes: list[str], min_score: float) -> str:
    rows = zip(*(detection[key].tolist() for key in ("boxes", "scores", "labels")), strict=True)
    objects = [f"{classes[c]} {s:.2f} at [{', '.join(f'{v:.0f}' for v in b)}]" for b, s, c in rows if s >= min_score]
    what = "; ".join(objects) or f"nothing with a score of {min_score:g} or more"
    return f"{path}: exit {detection['exit']} (confidence {detection['confidence']:.2f}), {note}: {what}"


def _draw(save: Path, photos: list, found: list[dict], notes: list[str], classes: list[str], min_score: float) -> None:
    figure, axes = image_grid(len(photos), columns=3, size=4)
    for ax, photo, detection, note in zip(axes, photos, found, notes, strict=True):
        draw_detection(ax, photo, detection, classes, min_score=min_score, note=note)
    save_figure(figure, save, format=save.suffix[1:].lower(), dpi=120)
    plt.close(figure)


def read_photo(path: Path) -> torch.Tensor:
    """Any image file as (3, H, W) floats in [0, 1], turned the way its EXIF data says."""
    if not path.exists():
        raise ValueError(f"no image {str(path)!r}")
    try:
        with open_image(path) as image:
            return pil_to_tensor(to_rgb(ImageOps.exif_transpose(image))).float() / 255
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a readable image: {error}") from None
