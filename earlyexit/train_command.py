"""The options of `earlyexit train`, and presets under them."""

import json
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import commands
from .presets import preset as preset_values
from .settings import TrainSettings, check_settings
from .training import advice, train

_D = TrainSettings("", "")  # the defaults


def train_command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")],
    out: Annotated[str, typer.Option(help="Folder of the run: log.csv, model.safetensors, checkpoint.pt.")],
    preset: Annotated[str | None, typer.Option(help="Start from these values: see `earlyexit presets`.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Print the settings that this command means, and stop.")] = False,
    split: Annotated[str, typer.Option(help="Which split of the folder.")] = _D.split,
    task: Annotated[str, typer.Option(help="detect, or classify: the backbone alone.")] = _D.task,
    model: Annotated[str, typer.Option(help="nano or regnet_y_800mf.")] = _D.model,
    init: Annotated[
        str | None,
        typer.Option(
            help="Start from this backbone: imagenet (torchvision's RegNetY), a name or file of this package, or a "
            "published Dyn-Perceiver checkpoint (.pth). none: random weights, also where the preset says otherwise."
        ),
    ] = _D.init,
    warm_start: Annotated[
        str | None,
        typer.Option(help="Go on from this detector (a name or file); parts for early exits may be missing in it."),
    ] = _D.warm_start,
    keep_classifiers: Annotated[bool, typer.Option(help="Take the exits' classifiers from --init, too.")] = True,
    freeze: Annotated[int, typer.Option(help="Stem and so many stages are not trained, 0-4.")] = _D.freeze,
    only_early: Annotated[
        bool, typer.Option(help="Train the early exits' own necks and heads alone: full depth stays as it is.")
    ] = False,
    norm: Annotated[str, typer.Option(help="Batch normalisation: batch, frozen or sync (several GPUs).")] = _D.norm,
    theta: Annotated[float, typer.Option(help="Weight of the exits' loss; 0 is the baseline.")] = _D.theta,
    lambda_: Annotated[float, typer.Option("--lambda", help="Weight of the detection losses.")] = _D.lambda_,
    distillation: Annotated[float, typer.Option(help="Weight of the distillation in the exits' loss.")] = 0.5,
    exits: Annotated[str, typer.Option(help="Exits with detection loss, e.g. 1,2,4; 4 is the paper.")] = "4",
    exit_weights: Annotated[
        str | None,
        typer.Option(help="Weights of the detection losses at --exits, e.g. 0.3,0.3,0.4."),
    ] = None,
    exit_target: Annotated[
        str, typer.Option(help="single, largest or present: what the exits say of an image.")
    ] = "single",
    filler: Annotated[
        str, typer.Option(help="downsample, zero, or learned: early exits have a pyramid and head of their own.")
    ] = _D.filler,
    opinions: Annotated[
        str | None, typer.Option(help="Exits at which the classifier's opinion moves the class scores, e.g. 1,2.")
    ] = None,
    allow_empty: Annotated[bool, typer.Option("--allow-empty", help="Images without a box are background.")] = False,
    min_size: Annotated[int | None, typer.Option(help="Shorter side of the images, in pixels.")] = None,
    max_size: Annotated[int | None, typer.Option(help="Limit of the longer side.")] = None,
    jitter: Annotated[float, typer.Option(help="Scale jitter: 0.2 is 0.8 to 1.2 times --min-size.")] = _D.jitter,
    epochs: Annotated[int, typer.Option(help="Passes over the data.")] = _D.epochs,
    batch_size: Annotated[int, typer.Option(help="Images of a step, over all processes.")] = _D.batch_size,
    accumulate: Annotated[int, typer.Option(help="Forward passes a step, to save memory.")] = _D.accumulate,
    shape_groups: Annotated[bool, typer.Option(help="Wide and high images in batches of their own.")] = False,
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = _D.lr,
    optimizer: Annotated[str, typer.Option(help="adamw or sgd.")] = _D.optimizer,
    weight_decay: Annotated[float, typer.Option()] = _D.weight_decay,
    schedule: Annotated[str, typer.Option(help="cosine, or steps: a tenth after 8/12 and 11/12.")] = _D.schedule,
    warmup: Annotated[int, typer.Option(help="Warm-up steps, at most a tenth of all.")] = _D.warmup,
    clip: Annotated[float, typer.Option(help="Largest gradient norm; 0: not clipped.")] = _D.clip,
    ema: Annotated[float, typer.Option(help="Moving average of the weights, e.g. 0.999; 0: none.")] = _D.ema,
    precision: Annotated[str, typer.Option(help="no (float32), bf16 or fp16.")] = _D.precision,
    seed: Annotated[int, typer.Option(help="Of initialisation, order and augmentation.")] = _D.seed,
    workers: Annotated[int, typer.Option(help="Processes that load data.")] = _D.workers,
    save_every: Annotated[int, typer.Option(help="Epochs between checkpoints.")] = _D.save_every,
    val_split: Annotated[str | None, typer.Option(help="Measure mAP on this split after each epoch.")] = None,
    pictures: Annotated[bool, typer.Option(help="Draw detections into OUT/pictures after each epoch.")] = False,
    tensorboard: Annotated[bool, typer.Option(help="Write OUT/tensorboard; needs the package tensorboard.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
) -> None:
    """Train a detector (or, with --task classify, its backbone) on a COCO-layout folder.

    On several GPUs: torchrun --nproc-per-node 4 -m earlyexit train DATA --out RUN ...
    """
    values = dict(locals(), data=str(data), exits=tuple(commands.numbers(exits, int, "--exits")))
    if exit_weights is not None:
        values["exit_weights"] = tuple(commands.numbers(exit_weights, float, "--exit-weights"))
    values["opinions"] = () if opinions is None else tuple(commands.numbers(opinions, int, "--opinions"))
    for name in ("context", "preset", "show"):
        del values[name]
    if preset:
        given = {name for name in values if context.get_parameter_source(name).name == "COMMANDLINE"}
        values |= {name: value for name, value in preset_values(preset).items() if name not in given}
    if values["init"] == "none":
        values["init"] = None
    settings = TrainSettings(**values)
    check_settings(settings)
    if show:
        typer.echo(json.dumps(asdict(settings), indent=1))
        return
    nothing = f"there is no run in {out!r} to go on with: this begins one"
    notes = [advice(settings), nothing if resume and not Path(out, "checkpoint.pt").exists() else None]
    command = shlex.join(["earlyexit", *sys.argv[1:]])

    def say_notes() -> None:
        for note in filter(None, notes):
            typer.echo(f"note: {note}", err=True)

    train(settings, command, lambda row: typer.echo(commands.as_line(row)), say_notes)
