"""Pictures: detections on images, of data sets and of photos from anywhere."""

import functools
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from ..data.photos import open_photo
from ..files import check_file, write_whole
from ..model.factories import load_detector
from ..model.inputs import network_size
from .cost import count_macs

# Okabe and Ito's colours, which colour-blind readers can tell apart; one for each exit.
EXIT_COLOURS = {1: "#009E73", 2: "#0072B2", 3: "#E69F00", 4: "#D55E00"}
TRUTH_COLOUR = "#222222"
SHOWN = 480  # pixels of the longer side of a photo in a picture of many


def show_image(ax: Axes, image: Tensor | np.ndarray) -> None:
    """Show an image, (3, H, W) floats in [0, 1] or (H, W, 3) bytes, without axes."""
    ax.imshow(image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy() if isinstance(image, Tensor) else image)
    ax.set_axis_off()


def draw_boxes(ax: Axes, boxes: Tensor, names: Sequence[str], *, colour: str, dashed: bool = False) -> None:
    """Draw xyxy boxes with their names into an axes that shows the image; names grow towards its middle."""
    middle = sum(ax.get_xlim()) / 2
    for (x0, y0, x1, y1), name in zip(boxes.tolist(), names, strict=True):
        style = {"fill": False, "edgecolor": colour, "linewidth": 1.6, "linestyle": "--" if dashed else "-"}
        ax.add_patch(plt.Rectangle((x0, y0), x1 - x0, y1 - y0, **style))
        label = {"color": "white", "fontsize": 8, "bbox": {"facecolor": colour, "edgecolor": "none", "pad": 1.2}}
        if name:
            at_right = (x0 + x1) / 2 > middle
            label |= {"ha": "right" if at_right else "left", "va": "bottom", "parse_math": False}  # "$" is a letter
            ax.text(x1 if at_right else x0, y0, name, **label)


def draw_detection(
    ax: Axes, image: Tensor, detection: dict, classes: Sequence[str], *, min_score: float = 0.5, note: str = ""
) -> None:
    """Show an image, its detections from `min_score` on, and the exit that it took with its confidence.

    Args:
        ax: where to draw.
        image: (3, H, W) floats in [0, 1].
        detection: one item of what the detector gives in eval mode.
        classes: names by label.
        min_score: weaker detections are not drawn.
        note: added to the title.
    """
    show_image(ax, image)
    rising = detection["scores"].argsort()  # so that the best is drawn over the others
    good = rising[detection["scores"][rising] >= min_score]
    scored = zip(detection["labels"][good].tolist(), detection["scores"][good].tolist(), strict=True)
    names = [f"{classes[label]} {score:.2f}" for label, score in scored]
    empty = detection["exit"] not in EXIT_COLOURS  # exit 1 took the image for empty
    colour = TRUTH_COLOUR if empty else EXIT_COLOURS[detection["exit"]]
    draw_boxes(ax, detection["boxes"][good], names, colour=colour)
    title = "taken for empty at exit 1" if empty else f"exit {detection['exit']}"
    title += f", confidence {detection['confidence']:.2f}"
    ax.set_title(title + (f"\n{note}" if note else ""), fontsize=9, color=colour, fontweight="bold")


def image_grid(count: int, *, columns: int = 4, size: float = 2.4) -> tuple[Figure, list[Axes]]:
    """A figure of `count` square axes in rows of `columns`."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * size * 1.12), squeeze=False)
    flat = list(axes.flat)
    for ax in flat[count:]:
        ax.remove()
    figure.set_layout_engine("constrained")
    return figure, flat[:count]


def save_figure(figure: Figure, path: Path, **options) -> None:
    """`figure.savefig` into a file that appears whole or not at all; a letter that the font lacks is an empty box."""
    with warnings.catch_warnings():
        # Matplotlib has a warning for each such letter, which tells a user nothing that the picture does not.
        warnings.filterwarnings("ignore", "Glyph .* missing from|Matplotlib currently does not support")
        write_whole(path, lambda temporary: figure.savefig(temporary, **options))


def detect(
    images: Sequence[Path], weights: str, thresholds, exit, min_score: float, save: Path | None, device, bf16: bool
) -> Iterator[str]:
    """Lines that say what was found, photo by photo, of which one is in memory at a time; the picture is written last.

    Raises:
        ValueError: before the first line if a file is missing, no photo can be read or `save` is no picture; after the
            last one if some photos could not be read.
    """
    if save and save.suffix.lower() not in (".png", ".jpg", ".jpeg", ".pdf", ".svg"):
        raise ValueError(f"--save must end in .png, .jpg, .pdf or .svg, got {str(save)!r}")
    check_file("--save", save)
    for path in images:
        if not path.exists():
            raise ValueError(f"no image {str(path)!r}")
    model, classes = load_detector(weights)
    kind = torch.bfloat16 if bf16 else torch.float32
    model.to(device, kind).eval()
    macs_at = functools.cache(functools.partial(count_macs, model))
    shown, bad, begun = [], [], False
    for path in images:
        try:
            photo = read_photo(path)
        except ValueError as error:
            bad.append(str(error))
            continue
        with torch.inference_mode():
            detection = model([photo.to(device, kind)], thresholds=thresholds, exit=exit)[0]
        macs = macs_at(network_size(model, photo))
        note = f"{1 - macs[detection['exit']]['total'] / macs[4]['total']:.0%} of the compute saved"
        if not begun:
            yield f"this model knows {len(classes)} classes: {', '.join(classes)}"
        begun = True
        if save:
            shown.append((*_small(photo, detection), note))
        yield _line(path, detection, note, classes, min_score)
    if shown:
        figure, axes = image_grid(len(shown), columns=3, size=4)
        for ax, (photo, detection, note) in zip(axes, shown, strict=True):
            draw_detection(ax, photo, detection, classes, min_score=min_score, note=note)
        save_figure(figure, save, format=save.suffix[1:].lower(), dpi=120)
        plt.close(figure)
        yield f"wrote {save}"
    if bad:
        raise ValueError(bad[0] if len(images) == 1 else f"{len(bad)} of {len(images)} photos: {'; '.join(bad)}")


def _small(photo: Tensor, detection: dict) -> tuple[Tensor, dict]:
    """A photo and what was found on it at the size of a picture of many: large photos would fill the memory."""
    scale = min(1.0, SHOWN / max(photo.shape[-2:]))
    if scale == 1:
        return photo, detection
    size = [max(1, round(side * scale)) for side in photo.shape[-2:]]
    boxes = detection["boxes"] * detection["boxes"].new_tensor([size[1] / photo.shape[2], size[0] / photo.shape[1]] * 2)
    return resize(photo, size, antialias=True), {**detection, "boxes": boxes}


def _line(path: Path, detection: dict, note: str, classes: list[str], min_score: float) -> str:
    rows = zip(*(detection[key].tolist() for key in ("boxes", "scores", "labels")), strict=True)
    objects = [f"{classes[c]} {s:.2f} at [{', '.join(f'{v:.0f}' for v in b)}]" for b, s, c in rows if s >= min_score]
    what = "; ".join(objects) or f"nothing with a score of {min_score:g} or more"
    return f"{path}: exit {detection['exit']} (confidence {detection['confidence']:.2f}), {note}: {what}"


def read_photo(path: Path) -> torch.Tensor:
    """Any image file as (3, H, W) floats in [0, 1], turned the way its EXIF data says."""
    try:
        return pil_to_tensor(open_photo(path).image).float() / 255
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a readable image: {error}") from None
