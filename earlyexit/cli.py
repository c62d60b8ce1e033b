"""The command line."""

import itertools
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import torch
import typer

from . import __version__
from .data.coco import coco_split
from .evaluation.coco import METRICS, checked, exit_accuracy, exit_confidences, is_single_object
from .evaluation.coco import evaluate as evaluate_on
from .evaluation.pictures import detect as detect_photos
from .evaluation.policies import calibrate_thresholds, exit_proportions
from .files import check_file, write_json
from .model.export import check_installed, export_onnx
from .model.factories import load_detector
from .processes import pick_device, process_state
from .study.command import beyond_command, study_command
from .training.release import export as export_run
from .training.release import export_paths
from .training.run import advice, train
from .training.settings import PRESETS, TrainSettings, check_settings, preset
from .training.settings import preset as preset_values
from .weights import DEFAULT_WEIGHTS

# Every kind of wrong usage: options that are unknown or missing, values that are none. Typer does not export the class.
UsageError = typer.BadParameter.__base__
_D = TrainSettings("", "")  # the defaults
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


def run_app(app: typer.Typer, errors: tuple[type[Exception], ...] = (), prefix: str = "") -> None:
    """Run a command and leave Python with its exit code; wrong usage ends in one line and exit code 2.

    Args:
        app: the commands.
        errors: kinds of exceptions whose message is such a line, too.
        prefix: what the line begins with.
    """
    try:
        code = app(standalone_mode=False) or 0  # otherwise Typer draws a box of many lines around what is wrong
    except UsageError as error:
        if len(sys.argv) == 1:  # not wrong, but a question
            error.show()
        else:
            typer.echo(f"{prefix}{' '.join(error.format_message().split())}{_given(error)} (see --help)", err=True)
        code = 2
    except typer.Abort:
        code = 130
    except errors as error:
        typer.echo(f"{prefix}{error}", err=True)
        code = 2
    if code == 130:  # what a shell gives for Ctrl-C
        typer.echo(f"{prefix}stopped", err=True)
    raise SystemExit(code)


def _given(error: Exception) -> str:
    """The value of the option that is wrong, as it stands on the command line."""
    names = getattr(getattr(error, "param", None), "opts", ())
    values = [value for name, value in itertools.pairwise(sys.argv) if name in names]
    return f", got {values[-1]!r}" if values else ""


def evaluate_weights(
    data: Path, split: str, weights: str, thresholds, exit, batch_size: int, device: torch.device
) -> dict:
    """COCO metrics, GMACs, exits and, if every image has one object, the accuracy of the exits."""
    model, classes = load_detector(weights)
    dataset = checked(coco_split(data, split), classes)
    model.to(device)
    result = evaluate_on(model, dataset, thresholds=thresholds, exit=exit, batch_size=batch_size)
    if is_single_object(dataset):
        result["accuracy"] = exit_accuracy(model, dataset, batch_size=batch_size)
    return result


def calibrate_weights(
    data: Path, split: str, weights: str, index: int, device: torch.device
) -> tuple[float, float, float]:
    """Thresholds for row `index` of the paper's settings, from a calibration split."""
    model, classes = load_detector(weights)
    dataset = checked(coco_split(data, split), classes)
    confidences = exit_confidences(model.to(device), dataset)
    return calibrate_thresholds(confidences, exit_proportions()[index - 1])


def as_table(result: dict) -> str:
    """A result of `evaluate` as lines of a name and a value."""
    rows = {name: _or_dash(result[name]) for name in METRICS}
    rows["GMACs per image"] = f"{result['gmacs']:.4f} ({result['gmacs'] / result['gmacs_full']:.1%} of full depth)"
    rows["images per exit"] = ", ".join(f"{k}: {n}" for k, n in result["exits"].items())
    if "accuracy" in result:
        rows["accuracy per exit"] = ", ".join(f"{k}: {a:.1f}" for k, a in enumerate(result["accuracy"], 1))
    return "\n".join(f"{name:18} {value}" for name, value in rows.items())


def as_line(row: dict[str, float]) -> str:
    """A row of the log as one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items())


def _or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def as_options(values: dict) -> str:
    """Settings as the options of `earlyexit train` that give them."""
    parts = []
    for name, value in values.items():
        option = "--" + name.rstrip("_").replace("_", "-")
        if value is True or value is False:
            parts.append(option if value else option.replace("--", "--no-", 1))
        else:
            parts.append(f"{option} {value}")
    return " ".join(parts)


def numbers(text: str, kind: Callable, option: str) -> list:
    """The comma-separated numbers of an option."""
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, got {text!r}") from None


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
    values = dict(locals(), data=str(data), exits=tuple(numbers(exits, int, "--exits")))
    if exit_weights is not None:
        values["exit_weights"] = tuple(numbers(exit_weights, float, "--exit-weights"))
    values["opinions"] = () if opinions is None else tuple(numbers(opinions, int, "--opinions"))
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

    train(settings, command, lambda row: typer.echo(as_line(row)), say_notes)


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
    size = None if image_size is None else tuple(numbers(image_size, int, "--image-size"))
    wanted = numbers(exits, int, "--exits")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}")
    model, classes = load_detector(weights)
    for path in export_onnx(model, out, size, wanted, classes=classes):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


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
        typer.echo(as_options(preset(name)))
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
    limits = None if thresholds is None else numbers(thresholds, float, "--thresholds")
    check_file("--json", json_file)
    result = evaluate_weights(data, split, weights, limits, exit, batch_size, pick_device(device))
    if not process_state().is_main_process:
        return
    typer.echo(as_table(result))
    typer.echo(json.dumps(result))
    if json_file:
        write_json(json_file, result)


@app.command()
def calibrate(
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    split: Split = "calibration",
    index: Annotated[int, typer.Option(min=1, max=34, help="Threshold index of the paper: 1 early, 34 never.")] = 17,
    device: Device = "auto",
) -> None:
    """Print the thresholds of exits 1-3 with which the paper's shares of images leave on this split."""
    limits = calibrate_weights(data, split, weights, index, pick_device(device))
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
    limits = None if thresholds is None else numbers(thresholds, float, "--thresholds")
    chosen = pick_device(device)
    for line in detect_photos(images, weights, limits, exit, min_score, save, chosen, bf16):
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
    old = [str(path) for path in export_paths(run, name) if path.exists()]
    card = export_run(run, name, data, split)
    if old:
        typer.echo(f"note: this replaced {' and '.join(old)}", err=True)
    typer.echo(json.dumps(card, indent=1))


def main() -> None:
    """Run the command; bad input ends in one line and exit code 2."""
    torch.set_float32_matmul_precision("high")
    run_app(app, (ValueError, OSError, FloatingPointError), "earlyexit: ")


if __name__ == "__main__":
    main()
