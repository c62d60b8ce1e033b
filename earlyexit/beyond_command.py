"""The options of `earlyexit beyond`."""

from pathlib import Path
from typing import Annotated

import typer

from .beyond.export import export_early
from .beyond.fresh import fresh_rows
from .beyond.plan import plan_beyond
from .beyond.runner import run_beyond
from .study.files import write_table
from .study.results import load_models, model_path


def beyond_command(
    data: Annotated[str, typer.Option(help="scenes, coco_single or ilsvrc_single: whose recipe.")] = "scenes",
    folder: Annotated[Path, typer.Option(help="The study's data: one object an image.")] = Path("data/scenes-single"),
    many: Annotated[Path, typer.Option(help="Images with any number of objects, in COCO layout.")] = Path(
        "data/scenes"
    ),
    fresh: Annotated[
        Path | None, typer.Option(help="Test images that nobody has looked at, one object each, in COCO layout.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the study's results; results/DATA unless told.")] = None,
    runs: Annotated[Path, typer.Option(help="Folder of the runs.")] = Path("runs/beyond"),
    jobs: Annotated[int, typer.Option(min=1, help="Models at a time; each has its share of the cores.")] = 2,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of the whole recipe: seeds 0, 1, ...")] = 3,
    model: Annotated[str | None, typer.Option(help="To try things out: nano instead of the data's detector.")] = None,
    epochs_factor: Annotated[float, typer.Option(help="To try things out: 0.2 is a fifth of the epochs.")] = 1.0,
    show: Annotated[bool, typer.Option("--show", help="List the models and stop.")] = False,
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
    out = out or Path("results") / data
    trial = model is not None or epochs_factor != 1
    if trial and out == Path("results") / data and not show:
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
        early = [model for name, model in load_models(out / "beyond").items() if model["group"] == "early"]
        write_table(out / "beyond_fresh.csv", fresh_rows(early, runs, fresh, _say))
        _say(f"wrote {out / 'beyond_fresh.csv'}")
    if failed:
        typer.echo(f"earlyexit: {len(failed)} of {len(trainings)} models failed: {', '.join(failed)}", err=True)
        raise typer.Exit(1)


def _say(line: str) -> None:
    typer.echo(line)
    typer.get_text_stream("stdout").flush()
