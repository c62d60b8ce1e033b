"""The options of `earlyexit study`."""

from pathlib import Path
from typing import Annotated

import typer

from .study.costs import ROUNDS
from .study.limits import first_images
from .study.manifest import check_manifest, check_numbers
from .study.measure import REPEATS
from .study.plan import plan
from .study.runner import run_study

_FOLDERS = {"scenes": Path("data/scenes-single")}


def study_command(
    data: Annotated[
        str, typer.Option(help="scenes, coco_single or ilsvrc_single: which recipe and what to compare.")
    ] = ("scenes"),
    folder: Annotated[
        Path | None, typer.Option(help="The data in COCO layout: splits train, calibration, test, one object an image.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the results; results/DATA unless told.")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="Folder of the runs; runs/study for scenes, OUT/runs for a trial.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Models at a time; each has its share of the cores.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of baseline and proposed: seeds 0, 1, ...")] = 3,
    repeats: Annotated[int, typer.Option(min=2, help="Bootstrap samples over images.")] = REPEATS,
    model: Annotated[str | None, typer.Option(help="To try things out: nano instead of the data's detector.")] = None,
    epochs_factor: Annotated[float, typer.Option(help="To try things out: 0.2 is a fifth of the epochs.")] = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="To try things out: so many images of each split.")] = None,
    show: Annotated[bool, typer.Option("--show", help="List the models and stop.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Say which code changed since the results, and whether that matters; stop.")
    ] = False,
) -> None:
    """Reproduce the paper's study: train, measure, write tables and verdicts.

    It may be stopped and started again at any point: what is done is not done twice.
    """
    trial = model is not None or epochs_factor != 1 or limit is not None
    if trial and out is None and not (show or check):
        raise ValueError("a trial with --model, --epochs-factor or --limit needs an --out of its own")
    out = out or Path("results") / data
    if check:
        _check(out)
        return
    folder = folder or _FOLDERS.get(data)
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
    failed = run_study(trainings, data, out, jobs=jobs, repeats=repeats, rounds=rounds, say=_say)
    if failed:
        typer.echo(f"earlyexit: {len(failed)} of {len(trainings)} models failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _check(out: Path) -> None:
    changed = check_manifest(out)
    if not changed:
        typer.echo(f"{out} is of the code as it is")
        return
    typer.echo(f"changed since {out} was made:")
    for name in changed:
        typer.echo(f"  {name}")
    numbers = check_numbers(out)
    if numbers:
        typer.echo(f"and other numbers come out of it: {', '.join(numbers)}")
        raise typer.Exit(1)
    typer.echo("the numbers of a sample of trainings and evaluations are still the same")


def _say(line: str) -> None:
    typer.echo(line)
    typer.get_text_stream("stdout").flush()
