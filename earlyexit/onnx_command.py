"""The options of `earlyexit onnx`."""

from pathlib import Path
from typing import Annotated

import typer

from . import commands
from .models import load_detector
from .onnx_export import check_installed, export_onnx
from .weights import DEFAULT_WEIGHTS


def onnx_command(
    out: Annotated[Path, typer.Option(help="Folder of the graphs and their card.json.")],
    weights: Annotated[
        str, typer.Option(help="Weights that come with the package, or a safetensors file.")
    ] = DEFAULT_WEIGHTS,
    image_size: Annotated[
        str | None,
        typer.Option(help="Height,width after resizing and padding; a square photo's by default."),
    ] = None,
    exits: Annotated[str, typer.Option(help="Exits to leave at: some of 1,2,3,4, and always 4.")] = "1,2,3,4",
) -> None:
    """Write a detector as ONNX graphs, one for each part between two exits. Needs the extra "onnx" of this package."""
    check_installed("onnx", "onnxscript", "onnxruntime")
    size = None if image_size is None else tuple(commands.numbers(image_size, int, "--image-size"))
    wanted = commands.numbers(exits, int, "--exits")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}")
    model, classes = load_detector(weights)
    for path in export_onnx(model, out, size, wanted, classes=classes):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
