"""The options of `earlyexit study` and `earlyexit beyond`; what needs PyTorch is imported by the command."""

from pathlib import Path
from typing import Annotated

import typer

SCENES = Path("data/scenes-single")
Data = Annotated[str, typer.Option(help="scenes, coco_single or ilsvrc_single: which recipe and what to compare.")]
Out = Annotated[Path | None, typer.Option(help="Folder of the results; results/DATA unless told.")]
Jobs = Annotated[int, typer.Option(min=1, help="Models at a time; each has its share of the cores.")]
Nano = Annotated[str | None, typer.Option(help="To try things out: nano instead of the data's detector.")]
Factor = Annotated[float, typer.Option(help="To try things out: 0.2 is a fifth of the epochs.")]
Show = Annotated[bool, typer.Option("--show", help="List the models and stop.")]


def study_command(
    data: Data = "scenes",
    folder: Annotated[
        Path | None, typer.Option(help="The data in COCO layout: splits train, calibration, test, one object an image.")
    ] = None,
    out: Out = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/study for scenes, OUT/runs for a trial.")
    ] = None,
    jobs: Jobs = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of baseline and proposed: seeds 0, 1, ...")] = 3,
    repeats: Annotated[int, typer.Option(min=2, help="Bootstrap samples over images.")] = 100,
    model: Nano = None,
    epochs_factor: Factor = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="To try things out: so many images of each split.")] = None,
    show: Show = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Say whether this code still gives the results; without --out, those that come."),
    ] = False,
) -> None:
    """Reproduce the paper's study: train, measure, write tables and verdicts.

    It may be stopped and started again at any point: what is done is not done twice.
    """
    from .finished import RESULTS
    from .plan import first_images, plan
    from .run import ROUNDS, run_study

    trial = model is not None or epochs_factor != 1 or limit is not None
    if trial and out is None and not (show or check):
        raise ValueError("a trial with --model, --epochs-factor or --limit needs an --out of its own")
    results = Path("results") / data
    if check:
        _check(out or (results if results.is_dir() else RESULTS / data))
        return
    out = out or results
    folder = folder or (SCENES if data == "scenes" else None)
    if folder is None:
        raise ValueError(f"--folder is missing: the COCO-layout folder of {data}, see data_prep/README.md")
    runs = runs or (out / "runs" if trial else Path("runs/study" if data == "scenes" else f"runs/study-{data}"))
    if limit and not show:
        folder = first_images(folder, runs / f"first-{limit}", limit)
    trainings = plan(data, folder, runs, seeds=range(seeds), model=model, epochs_factor=epochs_factor)
    if show:
        for t in trainings:
            typer.echo(f"{t.name:26} {t.settings.epochs:3} epochs, measured with {' and '.join(t.fillers)}")
        return
    rounds = 2 if trial else ROUNDS
    _end(run_study(trainings, data, out, jobs=jobs, repeats=repeats, rounds=rounds, say=_say), len(trainings))


def beyond_command(
    data: Data = "scenes",
    folder: Annotated[Path, typer.Option(help="The study's data: one object an image.")] = SCENES,
    many: Annotated[Path, typer.Option(help="Images with any number of objects, in COCO layout.")] = Path(
        "data/scenes"
    ),
    fresh: Annotated[
        Path | None, typer.Option(help="Test images that nobody has looked at, one object each, in COCO layout.")
    ] = None,
    out: Out = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/beyond"),
    jobs: Jobs = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of the whole recipe: seeds 0, 1, ...")] = 3,
    model: Nano = None,
    epochs_factor: Factor = 1.0,
    show: Show = False,
    measured: Annotated[
        bool, typer.Option("--measured", help="Train nothing more: tables and summary of what has been measured.")
    ] = False,
    export: Annotated[
        Path | None, typer.Option(help="Store the best model in this file, with thresholds and scales; stop.")
    ] = None,
) -> None:
    """Go beyond the paper: train at several exits, measure, and compare with the study's models.

    Needs the results of `earlyexit study` in the same folder. It may be stopped and started again at any point.
    """
    from .finished import load_models, model_path, write_table
    from .measure import fresh_rows
    from .plan import plan_beyond
    from .run import export_early, run_beyond

    results = Path("results") / data
    out = out or results
    if (model is not None or epochs_factor != 1) and out == results and not show:
        raise ValueError("a trial with --model or --epochs-factor needs an --out of its own")
    if export:
        typer.echo(export_early(out, runs, export))
        return
    options = {"seeds": range(seeds), "model": model, "epochs_factor": epochs_factor}
    trainings = plan_beyond(data, folder, many, runs, **options)
    if show:
        for t in trainings:
            typer.echo(f"{t.name:30} {t.settings.epochs:3} epochs")
        return
    if measured:
        trainings = [t for t in trainings if model_path(out / "beyond", t.name).exists()]
    for needed in (folder, many, *([fresh] if fresh else [])):
        if not (needed / "annotations").is_dir():
            raise ValueError(f"there is no data in COCO layout in {str(needed)!r}, see data_prep/README.md")
    failed = run_beyond(trainings, out, jobs=jobs, say=_say)
    if fresh:
        early = [model for model in load_models(out / "beyond").values() if model["group"] == "early"]
        write_table(out / "beyond_fresh.csv", fresh_rows(early, runs, fresh, _say))
        _say(f"wrote {out / 'beyond_fresh.csv'}")
    _end(failed, len(trainings))


def _check(out: Path) -> None:
    from .fingerprint import check_numbers

    numbers = check_numbers(out)
    if numbers:
        typer.echo(f"since {out} was made, other numbers come out: {', '.join(numbers)}")
        raise typer.Exit(1)
    typer.echo(f"{out} is of the code as it is: a sample of trainings and evaluations gives the same numbers")


def _end(failed: list[str], of: int) -> None:
    if failed:
        typer.echo(f"earlyexit: {len(failed)} of {of} models failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _say(line: str) -> None:
    typer.echo(line)
    typer.get_text_stream("stdout").flush()
