"""All numbers of one model beyond the paper, into one JSON file.

    python -m earlyexit.beyond.measure RUN GROUP OUT

Whatever is chosen, thresholds and router, is chosen on the calibration split; numbers are of the test split.
"""

import json
import sys
import time
from pathlib import Path

import torch

from ..commands import pick_device
from ..models import load_detector
from ..provenance import provenance
from ..records import (
    RULES,
    ExitRecords,
    collect_records,
    evaluate_exits,
    evaluate_records,
    fit_router,
    thresholds_for_budget,
)
from ..study.measure import checked_split, training_of
from ..study.plan import Training
from ..study.results import describe_data, model_path, write_model
from .rules_score import rule_score

BUDGETS = (0.35, 0.4, 0.5, 0.62, 0.75, 0.9)


def measure_beyond(training: Training, out: str | Path) -> Path:
    """Measure a model that has been trained, and write its results."""
    settings, run, started = training.settings, Path(training.settings.out), time.perf_counter()
    model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
    splits = {name: checked_split(settings.data, name) for name in ("calibration", "test")}
    records = {name: collect_records(model, data, path=run / f"{name}.safetensors") for name, data in splits.items()}
    test, calibration = records["test"], records["calibration"]
    result = {"forced": forced(test), "budgets": budgets(test, calibration)}
    if training.group == "early":
        result["rules"] = rules(test, calibration)
    story = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    about = {"name": training.name, "group": training.group, "settings": story["settings"]}
    about |= {"data": describe_data(settings.data), "seconds": round(time.perf_counter() - started, 1)}
    path = model_path(out, training.name)
    write_model(path, {**about, **provenance(), **result})
    return path


def forced(records: ExitRecords) -> list[dict]:
    """COCO's metrics and GMACs with all images at one exit, for each exit."""
    return [{"exit": k, **evaluate_exits(records, torch.full((len(records),), k))} for k in (1, 2, 3, 4)]


def budgets(test: ExitRecords, calibration: ExitRecords) -> list[dict]:
    """The best thresholds of the largest softmax value for each budget that can be kept, and what they reach."""
    full, most = (
        float(calibration.gmacs[-1].mean()),
        evaluate_exits(test, torch.full((len(test),), 4), metrics=("mAP",)),
    )
    rows = []
    for share in BUDGETS:
        if share * full < float(calibration.gmacs.amin(0).mean()):
            continue
        found = thresholds_for_budget(calibration, gmacs=share * full)
        reached = evaluate_records(test, found.thresholds)
        rows.append(
            {
                "budget": share,
                "thresholds": found.thresholds,
                "loss_at_most": found.loss_at_most,
                "share": reached["gmacs"] / reached["gmacs_full"],
                "kept": reached["mAP"] / most["mAP"],
                **{name: reached[name] for name in ("mAP", "gmacs", "exits", "accuracy")},
            }
        )
    return rows


def rules(test: ExitRecords, calibration: ExitRecords) -> dict[str, dict]:
    """The score of each rule and of a router, see `rule_score`."""
    router = fit_router(calibration)
    found = {name: rule_score(test, rule(test), calibration, rule(calibration)) for name, rule in RULES.items()}
    return {**found, "router": rule_score(test, router(test), calibration, router(calibration))}


if __name__ == "__main__":
    print(measure_beyond(training_of(sys.argv[1], sys.argv[2]), sys.argv[3]))
