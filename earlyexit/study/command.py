"""The options of `earlyexit study` and `earlyexit beyond`; what needs PyTorch is imported by the command."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

SINGLE_FOLDER, MANY_FOLDER = Path("data/scenes-single"), Path("data/scenes")
Data = Annotated[str, typer.Option(help="scenes, coco_single or ilsvrc_single: which recipe and what to compare.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; results/DATA unless told.")]
Jobs = Annotated[int, typer.Option(min=1, help="Models at a time; each has its share of the cores.")]
Seeds = Annotated[int, typer.Option(min=1, help="Seeds 0, 1, ... of what is compared; all else has seed 0.")]
Nano = Annotated[str | None, typer.Option(help="To try things out: nano instead of the data's detector.")]
Factor = Annotated[float, typer.Option(help="To try things out: 0.2 is a fifth of the epochs.")]
Show = Annotated[bool, typer.Option("--show", help="List the models and stop.")]


def study_command(
    data: Data = "scenes",
    folder: Annotated[Path | None, typer.Option(help="The data in COCO layout, one object an image.")] = None,
    out: Out = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of the runs; runs/study, or OUT/runs for a trial.")] = None,
    jobs: Jobs = 2,
    seeds: Seeds = 3,
    repeats: Annotated[int, typer.Option(min=2, help="Bootstrap samples over images.")] = 100,
    model: Nano = None,
    epochs_factor: Factor = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="To try things out: so many images of each split.")] = None,
    show: Show = False,
    check: Annotated[bool, typer.Option("--check", help="Say whether this code still gives OUT's results.")] = False,
) -> None:
    """Reproduce the paper's study: train, measure, write tables and verdicts.

    It may be stopped and started again at any point: what is done is not done twice.
    """
    from ..data.coco import first_images
    from .finished import RESULTS
    from .plan import plan

    trial, results = model is not None or epochs_factor != 1 or limit is not None, Path("results") / data
    if check:
        _check(out or (results if results.is_dir() else RESULTS / data))
        return
    out = _results(data, out, trial and not show)
    folder = folder or (SINGLE_FOLDER if data == "scenes" else None)
    if folder is None:
        raise ValueError(f"--folder is missing: the COCO-layout folder of {data}, see data_prep/README.md")
    runs = runs or (out / "runs" if trial else Path("runs/study" if data == "scenes" else f"runs/study-{data}"))
    if limit and not show:
        folder = first_images(folder, runs / f"first-{limit}", limit)
    trainings = plan(data, folder, runs, seeds=range(seeds), model=model, epochs_factor=epochs_factor)
    options = {"repeats": repeats, **({"rounds": 2} if trial else {})}
    _run(trainings, data, out, show, jobs=jobs, **options)


def beyond_command(
    data: Data = "scenes",
    folder: Annotated[Path, typer.Option(help="The study's data: one object an image.")] = SINGLE_FOLDER,
    many: Annotated[Path, typer.Option(help="Images with any number of objects, in COCO layout.")] = MANY_FOLDER,
    fresh: Annotated[Path | None, typer.Option(help="Test images that nobody has looked at, as in --folder.")] = None,
    out: Out = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/beyond"),
    jobs: Jobs = 2,
    seeds: Seeds = 3,
    model: Nano = None,
    epochs_factor: Factor = 1.0,
    show: Show = False,
    measured: Annotated[bool, typer.Option("--measured", help="Train nothing more: sum up what is measured.")] = False,
    export: Annotated[Path | None, typer.Option(help="Store the best model, thresholds too, in a file; stop.")] = None,
) -> None:
    """Go beyond the paper: train at several exits, measure, and compare with the study's models.

    Needs the results of `earlyexit study` in the same folder. It may be stopped and started again at any point.
    """
    from .measure import model_path
    from .plan import plan
    from .run import export_early, write_fresh

    out = _results(data, out, (model is not None or epochs_factor != 1) and not show)
    if export:
        typer.echo(export_early(out, runs, export))
        return
    trainings = plan(data, folder, runs, many=many, seeds=range(seeds), model=model, epochs_factor=epochs_factor)
    if measured:
        trainings = [t for t in trainings if model_path(out / "beyond", t.name).exists()]
    for needed in () if show else (folder, many, *([fresh] if fresh else [])):
        if not (needed / "annotations").is_dir():
            raise ValueError(f"there is no data in COCO layout in {str(needed)!r}, see data_prep/README.md")
    _run(trainings, data, out, show, fresh and functools.partial(write_fresh, out, runs, fresh, typer.echo), jobs=jobs)


def choosing_command(
    runs: Annotated[
        list[Path] | None, typer.Argument(help="Runs that choose, by seed and image size; else trained.")
    ] = None,
    data: Annotated[
        Path, typer.Option(help="COCO layout: splits calibration and test, and train to train.")
    ] = MANY_FOLDER,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results/choosing"),
    static: Annotated[list[Path] | None, typer.Option(help="Runs that do not choose.")] = None,
    fresh: Annotated[Path | None, typer.Option(help="Other data, whose test images are judged instead.")] = None,
    name: Annotated[str, typer.Option(help="Name of the data in the summary.")] = "scenes_many",
    rule: Annotated[str, typer.Option(help="Rule of the summary: worth, or worth of detections.")] = "worth",
    repeats: Annotated[int, typer.Option(min=2, help="Bootstrap samples over images.")] = 100,
    into: Annotated[Path | None, typer.Option(help="Without RUNS: their folder; OUT/runs unless told.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Without RUNS: so many trainings of each.")] = 1,
    epochs: Annotated[int, typer.Option(min=1, help="Without RUNS: of each of their two steps.")] = 8,
    min_size: Annotated[int, typer.Option(min=32, help="Without RUNS: shorter side of the images, in pixels.")] = 128,
    jobs: Annotated[int, typer.Option(min=1, help="Without RUNS: trainings at a time.")] = 1,
) -> None:
    """Compare detectors whose images choose their exit with the best that do not choose.

    Without RUNS both are trained first. It may be stopped and started again at any point.
    """
    from .choosing import compare, train_all
    from .plan import choosing_plan

    if not runs:
        changes = {"min_size": min_size, "max_size": 2 * min_size} if min_size != 128 else {}
        plans = choosing_plan(data, into or out / "runs", seeds=range(seeds), epochs=epochs, **changes)
        runs, others = (train_all(trainings, jobs, typer.echo) for trainings in plans)
        static = [*others, *(static or ())]
    typer.echo(compare(runs, data, out, static=static or (), fresh=fresh, name=name, rule=rule, repeats=repeats))


def _results(data: str, out: Path | None, trial: bool) -> Path:
    results = Path("results") / data
    if trial and out in (None, results):
        raise ValueError("a trial with --model, --epochs-factor or --limit needs an --out of its own")
    return out or results


def _run(trainings: list, data: str, out: Path, show: bool, then: Callable | None = None, **options) -> None:
    """Show a plan, or run it and what comes `then`; an exit code of 1 if models failed."""
    from .run import run_study

    if show:
        for training in trainings:
            typer.echo(f"{training.name:30} {training.settings.epochs:3} epochs")
        return
    failed = run_study(trainings, data, out, say=typer.echo, **options)
    if then:
        then()
    if failed:
        typer.echo(f"earlyexit: {len(failed)} of {len(trainings)} models failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _check(out: Path) -> None:
    from .run import check_numbers

    numbers = check_numbers(out)
    if numbers:
        typer.echo(f"since {out} was made, other numbers come out: {', '.join(numbers)}")
        raise typer.Exit(1)
    typer.echo(f"{out} is of the code as it is: a sample of trainings and evaluations gives the same numbers")
