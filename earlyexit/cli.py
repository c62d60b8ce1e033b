"""The command line: earlyexit train | study | beyond | presets | calibrate | evaluate | detect | export | onnx."""

import json
from pathlib import Path
from typing import Annotated

import torch
import typer

from . import __version__, commands, exporting, photos
from .command_line import check_file, run_app
from .onnx_command import onnx_command
from .presets import PRESETS, preset
from .processes import process_state
from .study.command import beyond_command, study_command
from .train_command import train_command
from .weights import DEFAULT_WEIGHTS

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
Data = Annotated[Path, typer.Argument(help="Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")]
Split = Annotated[str, typer.Option(help="Which split of the folder.")]
Weights = Annotated[str, typer.Option(help="Weights that come with the package, or a safetensors file.")]
Thresholds = Annotated[
    str | None,
    typer.Option(help="Confidences for exits 1-3, e.g. 0.9,0.9,inf; inf is never. Those of the weights are not used."),
]
ForcedExit = Annotated[int | None, typer.Option("--exit", help="Let every image leave at this exit, 1-4.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]
BF16 = Annotated[bool, typer.Option("--bf16", help="Run the network in bfloat16.")]


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"earlyexit {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """What stands before the command."""


app.command("train")(train_command)
app.command("study")(study_command)
app.command("beyond")(beyond_command)
app.command("onnx")(onnx_command)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="Print what this preset sets, as options of `train`.")] = None,
) -> None:
    """List the presets of `earlyexit train`, or print one."""
    if name:
        typer.echo(commands.as_options(preset(name)))
        return
    for key, (about, _) in PRESETS.items():
        typer.echo(f"{key:14} {about}")


@app.command()
def evaluate(
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    split: Split = "test",
    thresholds: Thresholds = None,
    exit: ForcedExit = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that run together; results do not depend on it.")] = 16,
    device: Device = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file, too.")] = None,
) -> None:
    """Measure a detector: COCO's metrics, GMACs, exits taken and, on single-object images, the exits' accuracy."""
    limits = None if thresholds is None else commands.numbers(thresholds, float, "--thresholds")
    check_file("--json", json_file)
    result = commands.evaluate(data, split, weights, limits, exit, batch_size, commands.pick_device(device))
    if not process_state().is_main_process:
        return
    typer.echo(commands.as_table(result))
    typer.echo(json.dumps(result))
    if json_file:
        commands.write_json(json_file, result)


@app.command()
def calibrate(
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    split: Split = "calibration",
    index: Annotated[int, typer.Option(min=1, max=34, help="Threshold index of the paper: 1 early, 34 never.")] = 17,
    device: Device = "auto",
) -> None:
    """Print the thresholds of exits 1-3 with which the paper's shares of images leave on this split."""
    limits = commands.calibrate(data, split, weights, index, commands.pick_device(device))
    typer.echo(",".join(map(repr, limits)))  # all digits: rounded up, a threshold would hold its own image back


@app.command()
def detect(
    images: Annotated[list[Path], typer.Argument(help="Any photos.")],
    weights: Weights = DEFAULT_WEIGHTS,
    thresholds: Annotated[
        str | None,
        typer.Option(help="Confidences for exits 1-3, e.g. 0.9,0.9,inf; those of the weights, if they have any."),
    ] = None,
    exit: ForcedExit = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Weaker detections are left out.")] = 0.5,
    save: Annotated[Path | None, typer.Option(help="Draw the detections into this picture.")] = None,
    device: Device = "auto",
    bf16: BF16 = False,
) -> None:
    """Detect objects in photos; print and, with --save, draw boxes, the exit taken and the compute saved."""
    limits = None if thresholds is None else commands.numbers(thresholds, float, "--thresholds")
    chosen = commands.pick_device(device)
    for line in photos.detect(images, weights, limits, exit, min_score, save, chosen, bf16):
        typer.echo(line)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `earlyexit train`.")],
    name: Annotated[Path, typer.Option(help="The safetensors file to write; its card is the JSON beside it.")],
    data: Annotated[Path | None, typer.Option(help="COCO-layout folder for the metrics in the card.")] = None,
    split: Split = "test",
) -> None:
    """Store a run's weights in half precision, with a card: command, seed, data, versions, metrics."""
    check_file("--name", name)
    old = [str(path) for path in exporting.export_paths(run, name) if path.exists()]
    card = exporting.export(run, name, data, split)
    if old:
        typer.echo(f"note: this replaced {' and '.join(old)}", err=True)
    typer.echo(json.dumps(card, indent=1))


def main() -> None:
    """Run the command; bad input ends in one line and exit code 2."""
    torch.set_float32_matmul_precision("high")
    run_app(app, (ValueError, OSError, FloatingPointError), "earlyexit: ")


if __name__ == "__main__":
    main()
