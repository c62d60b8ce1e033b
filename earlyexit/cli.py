"""The command line: earlyexit train | presets | calibrate | evaluate | detect | export | onnx | study | ...

What needs PyTorch is imported by the command that needs it, so that `--help` answers at once.
"""

import inspect
import itertools
import json
import math
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from . import __version__
from .files import check_file, write_json
from .study.command import beyond_command, choosing_command, study_command
from .training.settings import PRESETS, TrainSettings, as_options, check_settings, option_name, preset

DEFAULT_WEIGHTS = "scenes-many"
# Every kind of wrong usage: options that are unknown or missing, values that are none. Typer does not export the class.
UsageError = typer.BadParameter.__base__
Data = Annotated[Path, typer.Argument(help="Folder in COCO layout: annotations/instances_SPLIT.json and SPLIT/.")]
Split = Annotated[str, typer.Option(help="Which split of the folder.")]
Weights = Annotated[str, typer.Option(help="Weights that come with the package, a file, or a run's folder.")]
Thresholds = Annotated[
    str | None,
    typer.Option(help="Scores for exits 1-3, e.g. 0.9,0.9,inf; inf is never. Those of the weights, if they have any."),
]
ForcedExit = Annotated[int | None, typer.Option("--exit", help="Let every image leave at this exit, 1-4.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda if there is one.")]

app = typer.Typer(
    help="Early-exit object detection.", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False
)


def main() -> None:
    """Run the command; bad input ends in one line and exit code 2."""
    run_app(app, (ValueError, OSError, FloatingPointError), "earlyexit: ")


def run_app(app: typer.Typer, errors: tuple[type[Exception], ...] = (), prefix: str = "") -> None:
    """Run a command and leave Python with its exit code; wrong usage, or an exception of the kinds `errors`, is 2.

    What went wrong is said in one line, which begins with `prefix`.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a letter that a terminal or a file lacks is no reason to stop
            stream.reconfigure(errors="replace")
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


def numbers(text: str, kind: Callable, option: str) -> tuple:
    """The comma-separated numbers of an option."""
    try:
        return tuple(kind(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"{option} takes numbers with commas between them, got {text!r}") from None


def _is_given(context: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, rather than having its default."""
    return context.get_parameter_source(name).name == "COMMANDLINE"


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


def _kinds_of_numbers(kind: type) -> dict[str, Callable]:
    """int or float for each setting of several numbers, which a command line has as one text."""
    hints = get_type_hints(kind).items()
    tuples = {name: part for name, hint in hints for part in (hint, *get_args(hint)) if get_origin(part) is tuple}
    return {name: get_args(part)[0] for name, part in tuples.items()}


def add_train(app: typer.Typer, kind: type = TrainSettings) -> None:
    """Add the command `train` whose options are the fields of the settings, in their groups."""

    def train(context: typer.Context, preset_name: str | None, show: bool, **values: Any) -> None:
        """Train a detector (or, with --task classify, its backbone) on a COCO-layout folder.

        On several GPUs: torchrun --nproc-per-node 4 -m earlyexit train DATA --out RUN ...
        """
        given = {name for name in values if _is_given(context, name)}
        settings = _settings(kind, values, given, preset_name)
        check_settings(settings)
        if show:
            typer.echo(json.dumps(asdict(settings), indent=1))
        else:
            _train(settings)

    about, keyword = inspect.Parameter, inspect.Parameter.KEYWORD_ONLY
    preset_option = typer.Option("--preset", help="Start from these values: see `earlyexit presets`.")
    show_option = typer.Option("--show", help="Print the settings that this command means, and stop.")
    options = [
        about("context", keyword, annotation=typer.Context),
        *_train_options(kind),
        about("preset_name", keyword, default=None, annotation=Annotated[str | None, preset_option]),
        about("show", keyword, default=False, annotation=Annotated[bool, show_option]),
    ]
    train.__signature__ = inspect.Signature(options)
    train.__annotations__ = {option.name: option.annotation for option in options}
    app.command("train")(train)


def _train_options(kind: type) -> list[inspect.Parameter]:
    """The settings as parameters of a command: the folder as its argument, all others as options."""
    found, several, hints = [], _kinds_of_numbers(kind), get_type_hints(kind)
    for setting in fields(kind):
        hint, default, about = hints[setting.name], setting.default, setting.metadata
        if setting.name in several:
            hint, default = (str, ",".join(map(str, default))) if default else (str | None, None)
        name = option_name(setting.name)
        names = [f"{name}/--no-{name[2:]}"] if hint is bool else [name]
        option = typer.Option(*names, help=about["help"], rich_help_panel=about["group"] or None)
        if setting.name == "data":
            option = typer.Argument(help=about["help"])
        needed = {} if default == "" else {"default": default}
        hint = Annotated[hint, option]
        found.append(inspect.Parameter(setting.name, inspect.Parameter.KEYWORD_ONLY, annotation=hint, **needed))
    return found


def _settings(kind: type, values: dict[str, Any], given: set[str], preset_name: str | None) -> TrainSettings:
    """The settings that a command line means: what is given by hand, then the preset, then the defaults."""
    defaults = {setting.name: setting.default for setting in fields(kind)}
    for name, number in _kinds_of_numbers(kind).items():
        text = values[name]
        values[name] = defaults[name] if text is None else numbers(text, number, option_name(name))
    if preset_name:
        values |= {name: value for name, value in preset(preset_name).items() if name not in given}
    if values["init"] == "none":
        values["init"] = None
    return kind(**values)


def _train(settings: TrainSettings) -> None:
    from .processes import process_state
    from .training.run import advice, train

    _device("auto")
    new = settings.resume and not Path(settings.out, "checkpoint.pt").exists()
    notes = [advice(settings), f"there is no run in {settings.out!r} to go on with: this begins one" if new else None]
    printed = []

    def say_row(row: dict) -> None:
        printed.append(row)
        typer.echo(_as_line(row))

    try:
        rows = train(
            settings,
            shlex.join(["earlyexit", *sys.argv[1:]]),
            say_row,
            lambda of_the_data: _say([*filter(None, notes), *of_the_data]),
        )
    except KeyboardInterrupt:
        if process_state().is_main_process:
            typer.echo(f"earlyexit: stopped; {_left_behind(settings)}", err=True)
        raise SystemExit(130) from None  # what a shell gives for Ctrl-C
    if process_state().is_main_process:
        done = f"{settings.out!r} is finished; its last epoch: {_as_line(rows[-1])}"
        typer.echo(_after_training(settings) if printed else done)


def _left_behind(settings: TrainSettings) -> str:
    """What a stopped training can go on from."""
    checkpoint = Path(settings.out, "checkpoint.pt")
    if not checkpoint.exists():
        return "no epoch is saved yet: the same command with --resume begins again"
    return f"the last checkpoint is {str(checkpoint)!r}: the same command with --resume goes on from it"


def _after_training(s: TrainSettings) -> str:
    from .data import annotation_file

    if s.task == "classify":
        return next_step("train", s.data, "--init", Path(s.out) / "model.safetensors", "--out", f"{s.out}-detector")
    given = s.val_split or ("calibration" if annotation_file(s.data, "calibration").exists() else s.split)
    split = () if given == "calibration" else ("--split", given)
    return next_step("calibrate", s.data, *split, "--into", s.out)


def next_step(*words: object) -> str:
    """The line that a command ends with: what to do with what it wrote."""
    return f"next: {shlex.join(['earlyexit', *map(str, words)])}"


def _say(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _as_line(row: dict[str, float]) -> str:
    """A row of the log as one line."""
    return "  ".join(f"{name} {value:.4g}" for name, value in row.items())


add_train(app)


@app.command()
def presets(
    name: Annotated[str | None, typer.Argument(help="Print what this preset sets, as options of `train`.")] = None,
) -> None:
    """List the presets of `earlyexit train`, or print one."""
    if name:
        typer.echo(" ".join(as_options(preset(name))))
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
    workers: Annotated[int, typer.Option(min=0, help="Processes that load images, each with PyTorch in it.")] = 0,
    device: Device = "auto",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result to this file, too.")] = None,
) -> None:
    """Measure a detector: COCO's metrics, GMACs, exits taken and, on single-object images, the exits' accuracy."""
    from .evaluation import evaluate as evaluate_on
    from .evaluation import exit_accuracy
    from .evaluation.coco import is_single_object
    from .processes import process_state

    check_file("--json", json_file)
    limits = _limits(weights, thresholds, exit)
    model, dataset = _model_and_data(data, split, weights)
    model.to(_device(device))
    how = {"batch_size": batch_size, "workers": workers, "progress": True}
    result = evaluate_on(model, dataset, thresholds=limits, exit=exit, **how)
    if is_single_object(dataset):
        result["accuracy"] = exit_accuracy(model, dataset, **how)
    if not process_state().is_main_process:
        return
    typer.echo(_as_table(result))
    typer.echo(json.dumps(result))
    if json_file:
        write_json(json_file, result)


def _model_and_data(data: Path, split: str, weights: str):
    """A detector, and a split that has images of its classes; `ValueError` otherwise."""
    from .data import coco_split
    from .evaluation.coco import checked
    from .model import load_detector
    from .model.exits import ONE_CLASS
    from .processes import process_state

    model, classes = load_detector(weights)
    dataset = checked(coco_split(data, split), classes)
    if process_state().is_main_process:
        _say(dataset.notes + [ONE_CLASS] * (len(classes) == 1))
    return model, dataset


def _limits(weights: str, thresholds: str | None, exit: int | None) -> tuple[float, ...] | None:
    """The thresholds of the command or, if it forces no exit, those of the weights."""
    from .model.exits import check_thresholds
    from .model.factories import read_config

    if thresholds is not None:
        return check_thresholds(numbers(thresholds, float, "--thresholds"))
    return read_config(weights).limits if exit is None else None


def _device(name: str):
    """The device of a command; float32 products on a GPU may use its tensor cores."""
    import torch

    from .processes import pick_device

    torch.set_float32_matmul_precision("high")
    return pick_device(name)


def _as_table(result: dict) -> str:
    """A result of `evaluate` as lines of a name and a value."""
    from .evaluation import METRICS

    rows = {name: "-" if result[name] is None else f"{result[name]:.2f}" for name in METRICS}
    rows["GMACs per image"] = f"{result['gmacs']:.4f} ({result['gmacs'] / result['gmacs_full']:.1%} of full depth)"
    rows["images per exit"] = ", ".join(f"{k}: {n}" for k, n in result["exits"].items())
    if "accuracy" in result:
        rows["accuracy per exit"] = ", ".join(f"{k}: {a:.1f}" for k, a in enumerate(result["accuracy"], 1))
    return "\n".join(f"{name:18} {value}" for name, value in rows.items())


@app.command()
def calibrate(
    context: typer.Context,
    data: Data,
    weights: Weights = DEFAULT_WEIGHTS,
    split: Split = "calibration",
    index: Annotated[
        int | None,
        typer.Option(min=1, max=34, help="Threshold index of the paper: 1 early, 34 never; 17 without a budget."),
    ] = None,
    rule: Annotated[
        str | None, typer.Option(help="Who leaves: max softmax (the paper), entropy, ..., router or worth.")
    ] = None,
    budget: Annotated[
        float | None, typer.Option(help="Instead of an index: the mean compute as a share of full depth, e.g. 0.6.")
    ] = None,
    clock: Annotated[
        bool, typer.Option("--clock", help="The budget is of time, as measured here and now, one image at a time.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(help="Store rule and thresholds in this run's weights (its folder, or a file), too.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Print the thresholds of exits 1-3 with which the paper's shares of images leave, or that a budget allows."""
    from .data import annotation_file
    from .evaluation.fitting import scores_of_rule
    from .evaluation.policies import calibrate_thresholds, exit_proportions, few_images
    from .model import make_rule
    from .weights import own_weights, store_in_card

    named = weights if _is_given(context, "weights") else None
    for option, other, given in (("--index", "--budget", (index, budget)), ("--weights", "--into", (named, into))):
        if None not in given:
            raise ValueError(f"give {option} or {other}, not both, got {' and '.join(map(str, given))}")
    weights = weights if into is None else str(own_weights(into))
    if rule is not None and make_rule(rule).fitted and into is None:
        raise ValueError(f"--rule {rule} is fitted to these images, and lost with this command: add --into RUN")
    if clock and budget is None:
        raise ValueError("--clock says what a budget counts: add --budget, a share of full depth's time such as 0.8")
    model, dataset = _model_and_data(data, split, weights)
    before, scales, notes = model.rule, model.score_scales, []
    model.to(_device(device))
    if budget is None:
        shares = exit_proportions()[(17 if index is None else index) - 1]
        scores = scores_of_rule(model, dataset, rule, progress=True)
        limits, notes = calibrate_thresholds(scores, shares), few_images(scores, shares)
    else:
        limits, notes = _within_budget(model, dataset, rule, budget, clock)
    other = type(model.rule) is not type(before) and into is None
    only = f"these thresholds are for the rule {rule!r}, which {weights!r} do not have: --into RUN stores both"
    _say([*([only] if other else []), *notes])
    typer.echo(",".join(map(repr, limits)))  # all digits: rounded up, a threshold would hold its own image back
    if into is not None:
        stored = {"rule": rule, "thresholds": [None if math.isinf(t) else t for t in limits]}
        stored["score_scales"] = model.score_scales if model.score_scales != scales else None
        path = store_in_card(into, {key: value for key, value in stored.items() if value is not None}, model)
        there = () if annotation_file(data, "test").exists() else ("--split", split)
        typer.echo(f"stored in {path}\n{next_step('evaluate', data, '--weights', into, *there)}", err=True)


def _within_budget(model, dataset, rule: str | None, budget: float, clock: bool) -> tuple[tuple, list[str]]:
    """The thresholds of a budget, a share of full depth's compute or, by the clock, of its time; and what to say."""
    from .evaluation.cost import time_exits
    from .evaluation.fitting import calibrate_rule, check_budget

    check_budget(budget)  # before anything is timed
    costs, notes = None, []
    if clock:
        costs = time_exits(model, dataset)
        each = ", ".join(f"{cost:.1f}" for cost in costs)
        notes = [f"exits 1 to 4 take {each} ms here, and the budget is {budget * costs[-1]:.1f} ms an image"]
    return calibrate_rule(model, dataset, budget, rule, costs=costs, progress=True), notes


@app.command()
def detect(
    images: Annotated[
        list[str],
        typer.Argument(help="Photos, films, folders of them, patterns such as 'photos/*.jpg', numbers of cameras."),
    ],
    weights: Weights = DEFAULT_WEIGHTS,
    thresholds: Thresholds = None,
    exit: ForcedExit = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Weaker detections are left out.")] = 0.5,
    save: Annotated[
        Path | None,
        typer.Option(help="Folder for a picture of each photo and a film of each film; or a picture, as --sheet."),
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw all photos, with their names, into this picture.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write what was found on each photo; boxes are x1, y1, x2, y2.")
    ] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a row for every box.")] = None,
    device: Device = "auto",
    bf16: Annotated[bool, typer.Option("--bf16", help="Run the network in bfloat16.")] = False,
) -> None:
    """Detect objects in photos and films; print, and draw, boxes, the exit taken and the compute saved.

    Films and cameras need the extra "video" of this package; Ctrl-C stops a camera.
    """
    from .evaluation.detecting import Places
    from .evaluation.detecting import detect as detect_all

    limits, places = _limits(weights, thresholds, exit), Places(save, sheet, json_file, csv_file)
    how = {"thresholds": limits, "exit": exit, "min_score": min_score, "device": _device(device), "bf16": bf16}
    for line in detect_all(images, weights, places=places, **how):
        typer.echo(line)


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run of `earlyexit train`.")],
    name: Annotated[Path, typer.Option(help="The safetensors file to write; its card is the JSON beside it.")],
    data: Annotated[Path | None, typer.Option(help="COCO-layout folder for the metrics in the card.")] = None,
    split: Split = "test",
) -> None:
    """Store a run's weights in half precision, with a card: command, seed, data, versions, metrics."""
    from .training import run as release

    check_file("--name", name)
    old = [str(path) for path in release.export_paths(run, name) if path.exists()]
    card = release.export(run, name, data, split)
    if old:
        typer.echo(f"note: this replaced {' and '.join(old)}", err=True)
    typer.echo(json.dumps(card, indent=1))
    typer.echo(next_step("detect", "PHOTOS", "--weights", release.export_paths(run, name)[0]), err=True)


@app.command()
def onnx(
    out: Annotated[Path, typer.Option(help="Folder of the graphs and their card.json.")],
    weights: Weights = DEFAULT_WEIGHTS,
    image_size: Annotated[
        str | None, typer.Option(help="Height,width after resizing and padding; a square photo's by default.")
    ] = None,
    exits: Annotated[str, typer.Option(help="Exits to leave at: some of 1,2,3,4, and always 4.")] = "1,2,3,4",
) -> None:
    """Write a detector as ONNX graphs, one for each part between two exits. Needs the extra "onnx" of this package."""
    from .model.export import check_installed, export_onnx
    from .model.factories import load_detector, read_config

    check_installed("onnx", "onnxscript", "onnxruntime")
    size = None if image_size is None else numbers(image_size, int, "--image-size")
    wanted = numbers(exits, int, "--exits")
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out must be a folder, got the file {str(out)!r}")
    (model, classes), limits = load_detector(weights), read_config(weights).limits
    lost = [k for k, limit in enumerate(limits or (), 1) if limit < math.inf and k not in wanted]
    for path in export_onnx(model, out, size, wanted, classes=classes, thresholds=None if lost else limits):
        typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    if lost:
        why = f"they let images leave at exits {lost}, which are not exported"
        _say([f"the thresholds of {weights!r} are not stored: {why}"])


app.command("study")(study_command)
app.command("beyond")(beyond_command)
app.command("choosing")(choosing_command)

if __name__ == "__main__":
    main()
