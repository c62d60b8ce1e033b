"""The command line: earlyexit train | calibrate | evaluate | detect | export."""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import torch
import typer

from . import commands, photos
from .training import TrainSettings, train

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
Data = Annotated[Path, typer.Argument(help="Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")]
Split = Annotated[str, typer.Option(help="Which split of the folder.")]
Weights = Annotated[str, typer.Option(help="Weights that come with the package, or a safetensors file.")]
Thresholds = Annotated[str | None, typer.Option(help="Confidences for exits 1-3, e.g. 0.9,0.9,0.8; inf is never.")]
ForcedExit = Annotated[int | None, typer.Option("--exit", help="Let every image leave at this exit, 1-4.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]
BF16 = Annotated[bool, typer.Option("--bf16", help="Run the network in bfloat16.")]


@app.command("train")
def train_command(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the run: log.csv, model.safetensors, checkpoint.pt.")],
    split: Split = "train",
    task: Annotated[str, typer.Option(help="detect, or classify: the backbone alone.")] = "detect",
    model: Annotated[str, typer.Option(help="nano or regnet_y_800mf.")] = "nano",
    init: Annotated[str | None, typer.Option(help="Start from the backbone in these weights.")] = None,
    keep_classifiers: Annotated[bool, typer.Option(help="Take the exits' classifiers from --init, too.")] = True,
    theta: Annotated[float, typer.Option(help="Weight of the exits' loss; 0 is the baseline.")] = 0.0115,
    lambda_: Annotated[float, typer.Option("--lambda", help="Weight of the detection losses.")] = 1.0,
    distillation: Annotated[float, typer.Option(help="Weight of the distillation in the exits' loss.")] = 0.5,
    exits: Annotated[str, typer.Option(help="Exits with detection loss, e.g. 1,2,4; 4 is the paper.")] = "4",
    exit_target: Annotated[str, typer.Option(help="single or largest: the exits' class of an image.")] = "single",
    filler: Annotated[str, typer.Option(help="downsample or zero.")] = "downsample",
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Images without a box are background.")] = False,
    epochs: Annotated[int, typer.Option(min=1)] = 6,
    batch_size: Annotated[int, typer.Option(min=1, help="Per process.")] = 16,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = "adamw",
    weight_decay: Annotated[float, typer.Option()] = 0.05,
    schedule: Annotated[str, typer.Option(help="cosine or steps.")] = "cosine",
    warmup: Annotated[int, typer.Option(help="Warm-up steps.")] = 100,
    clip: Annotated[float, typer.Option(help="Largest gradient norm; 0: not clipped.")] = 1.0,
    precision: Annotated[str, typer.Option(help="no (float32), bf16 or fp16.")] = "no",
    seed: Annotated[int, typer.Option(help="Of initialisation, order and augmentation.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes that load data.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Train a detector (or, with --task classify, its backbone) on a COCO-layout folder."""
    values = dict(locals(), data=str(data), out=str(out), exits=tuple(commands.numbers(exits, int, "--exits")))
    command = shlex.join(["earlyexit", *sys.argv[1:]])
    train(TrainSettings(**values), command, on_epoch=lambda row: typer.echo(commands.as_line(row)))


@app.command()
def evaluate(
    data: Data,
    weights: Weights = "scenes",
    split: Split = "test",
    thresholds: Thresholds = None,
    exit: ForcedExit = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images that run together; results do not depend on it.")] = 16,
    device: Device = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file, too.")] = None,
) -> None:
    """Measure a detector: COCO's metrics, GMACs, exits taken and, on single-object images, the exits' accuracy."""
    limits = commands.numbers(thresholds, float, "--thresholds") if thresholds else None
    result = commands.evaluate(data, split, weights, limits, exit, batch_size, commands.pick_device(device))
    typer.echo(commands.as_table(result))
    typer.echo(json.dumps(result))
    if json_file:
        commands.write_json(json_file, result)


@app.command()
def calibrate(
    data: Data,
    weights: Weights = "scenes",
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
    weights: Weights = "scenes",
    thresholds: Thresholds = None,
    exit: ForcedExit = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Weaker detections are left out.")] = 0.5,
    save: Annotated[Path | None, typer.Option(help="Draw the detections into this picture.")] = None,
    device: Device = "auto",
    bf16: BF16 = False,
) -> None:
    """Detect objects in photos; print and, with --save, draw boxes, the exit taken and the compute saved."""
    limits = commands.numbers(thresholds, float, "--thresholds") if thresholds else None
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
    typer.echo(json.dumps(commands.export(run, name, data, split), indent=1))


def main() -> None:
    """Run the command; bad input ends in one line and exit code 2."""
    torch.set_float32_matmul_precision("high")
    try:
        app()
    except (ValueError, OSError, FloatingPointError) as error:
        typer.echo(f"earlyexit: {error}", err=True)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
