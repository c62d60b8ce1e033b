"""The whole recipe on images that nobody has looked at: no choice of the recipe can have been made by them."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ..commands import pick_device
from ..data.coco import coco_split
from ..models import load_detector
from ..records import ExitRecords, collect_records, evaluate_records, rescale_records
from .measure import forced


def fresh_rows(
    results: Sequence[dict], runs: str | Path, folder: str | Path, say: Callable[[str], object] = print
) -> list[dict]:
    """Each model at each exit and with its thresholds for each budget, on the split "test" of another data set.

    Thresholds and scales of scores are those that `measure_beyond` found on the calibration split.

    Args:
        results: of `measure_beyond`, group "early".
        runs: the folder of the models' runs.
        folder: images with one object each, in COCO layout.
        say: gets a line for each model.

    Returns:
        Rows of "model", "policy" ("exit 1" to "exit 4", "budget 0.62", ...), "mAP", "kept", "share" and "images".
    """
    rows = []
    for result in results:
        run = Path(runs) / result["name"]
        say(f"{result['name']}: fresh images ...")
        model = load_detector(run / "model.safetensors")[0].to(pick_device("auto"))
        records = collect_records(model, coco_split(folder, "test"), path=run / "records-fresh.safetensors")
        rows += [{"model": result["name"], **row} for row in _rows(records, result)]
    return rows


def _rows(records: ExitRecords, result: dict) -> list[dict]:
    found = {f"exit {row['exit']}": row for row in forced(records)}
    comparable = rescale_records(records, result["score_scales"])
    for row in result["budgets"]:
        thresholds = [float("inf") if t is None else t for t in row["thresholds"]]
        found[f"budget {row['budget']:.2f}"] = evaluate_records(comparable, thresholds, metrics=("mAP",))
    full = found["exit 4"]
    return [
        {
            "policy": policy,
            "mAP": round(row["mAP"], 2),
            "kept": round(row["mAP"] / full["mAP"], 4),
            "share": round(row["gmacs"] / full["gmacs"], 4),
            "images": row["images"],
        }
        for policy, row in found.items()
    ]
