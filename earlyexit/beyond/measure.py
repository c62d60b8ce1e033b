"""All numbers of one model beyond the paper, into one JSON file.

    python -m earlyexit.beyond.measure RUN GROUP OUT

Whatever is chosen, thresholds, router and the scales of scores, is chosen on the calibration split; numbers are of the
test split. Ablations are there to choose a recipe by, so they are measured on the calibration split.
"""

import json
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from ..commands import pick_device
from ..compute import count_macs
from ..data.coco import coco_split
from ..detector import EarlyExitRetinaNet
from ..evaluation import METRICS, network_size
from ..models import load_detector
from ..provenance import provenance
from ..records import (
    RULES,
    ExitRecords,
    collect_records,
    evaluate_exits,
    evaluate_records,
    fit_router,
    fit_score_scales,
    rescale_records,
    skip_empty,
    thresholds_for_budget,
)
from ..study.measure import training_of
from ..study.plan import Training
from ..study.results import describe_data, model_path, write_model
from .rules_score import rule_score

BUDGETS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.62, 0.75, 0.9)
EMPTY = (0.5, 0.7, 0.8, 0.9, 0.95, 0.98)  # probabilities from which on an image is taken for empty


def measure_beyond(training: Training, out: str | Path) -> Path:
    """Measure a model that has been trained, and write its results.

    Groups: "joint" and "ablation" are measured at each exit; "early" and "many" with thresholds for budgets, too,
    "early" under all rules of leaving, and "many" with images skipped that are taken for empty.
    """
    settings, run, started = training.settings, Path(training.settings.out), time.perf_counter()
    model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
    split = "calibration" if training.group == "ablation" else "test"
    records = _records(model, settings.data, split, run)
    result: dict = {"split": split, "forced": forced(records)}
    if training.group in ("early", "many"):
        calibration = _records(model, settings.data, "calibration", run)
        scales = fit_score_scales(calibration)
        result |= {"score_scales": scales, "budgets_unscaled": budgets(records, calibration, repeats=2)}
        records, calibration = (rescale_records(r, scales) for r in (records, calibration))
        result["budgets"] = budgets(records, calibration)
        if training.group == "early":
            result["rules"] = rules(records, calibration)
        else:
            size = network_size(model, coco_split(settings.data, "test")[0][0])
            full = torch.full((len(records),), 4)
            result["empty"] = skip_empty(records, full, EMPTY, count_macs(model, size)[1]["backbone"])
    story = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    about = {"name": training.name, "group": training.group, "settings": story["settings"]}
    about |= {"data": describe_data(settings.data), "seconds": round(time.perf_counter() - started, 1)}
    path = model_path(out, training.name)
    write_model(path, {**about, **provenance(), **result})
    return path


def _records(model: EarlyExitRetinaNet, data: str, split: str, run: Path) -> ExitRecords:
    return collect_records(model, coco_split(data, split), path=run / f"records-{split}.safetensors")


def forced(records: ExitRecords) -> list[dict]:
    """COCO's metrics and GMACs with all images at one exit, for each exit."""
    return [{"exit": k, **evaluate_exits(records, torch.full((len(records),), k))} for k in (1, 2, 3, 4)]


def budgets(test: ExitRecords, calibration: ExitRecords, repeats: int = 100) -> list[dict]:
    """The best thresholds of the exits' confidence for each budget that can be kept, and what they reach.

    `repeats` are bootstrap samples for the bound on the loss.
    """
    full = float(calibration.gmacs[-1].mean())
    most = evaluate_exits(test, torch.full((len(test),), 4), metrics=("mAP",))["mAP"]
    rows = []
    for share in BUDGETS:
        if share * full < float(calibration.gmacs.amin(0).mean()):
            continue
        found = thresholds_for_budget(calibration, gmacs=share * full, repeats=repeats)
        reached = evaluate_records(test, found.thresholds)
        row = {"budget": share, "thresholds": found.thresholds, "loss_at_most": found.loss_at_most}
        row |= {"share": reached["gmacs"] / reached["gmacs_full"], "kept": reached["mAP"] / most}
        rows.append({**row, **{name: reached[name] for name in (*METRICS, "gmacs", "exits", "accuracy")}})
    return rows


def rules(test: ExitRecords, calibration: ExitRecords) -> dict[str, dict]:
    """The score of each rule and of a router, see `rule_score`."""
    router = fit_router(calibration)
    found = {name: rule_score(test, rule(test), calibration, rule(calibration)) for name, rule in RULES.items()}
    return {**found, "router": rule_score(test, router(test), calibration, router(calibration))}


def main(
    run: Annotated[Path, typer.Argument(help="The run's folder.")],
    group: Annotated[str, typer.Argument(help="joint, early, ablation or many.")],
    out: Annotated[Path, typer.Argument(help="The folder of results.")],
) -> None:
    """Measure one model."""
    try:
        typer.echo(f"wrote {measure_beyond(training_of(run, group), out)}")
    except (ValueError, OSError) as error:
        typer.echo(f"earlyexit: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
