"""The paper's own numbers, as published: Tables 3, 4, 6 and 7, and the exits taken on COCO-Single."""

import csv
import functools
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "paper_data"
DATASETS = ("coco_single", "ilsvrc_single")


def paper_sweep(dataset: str = "coco_single", theta: float = 0.0115, lambda_: float = 1.0) -> list[dict]:
    """The 34 settings of one model of Tables 6 (COCO-Single) and 7 (ILSVRC-Single); `ValueError` if it is in neither.

    Rows of "index" (1-34), "gmacs" (mean of an image) and "mAP" in percent; those of ILSVRC-Single are VOC's AP at an
    IoU of 0.5, as its published code computes it.
    """
    if dataset not in DATASETS:
        raise ValueError(f"the paper's data sets are {', '.join(DATASETS)}, got {dataset!r}")
    rows = [row for row in _read("sweep.csv") if row["dataset"] == dataset]
    found = [row for row in rows if (float(row["theta"]), float(row["lambda"])) == (theta, lambda_)]
    if not found:
        raise ValueError(f"Tables 6 and 7 have the pairs (theta, lambda) {paper_pairs()}, got {(theta, lambda_)}")
    return [{"index": int(r["threshold_index"]), "gmacs": float(r["gmacs"]), "mAP": float(r["map"])} for r in found]


def paper_pairs() -> list[tuple[float, float]]:
    """The ten pairs (theta, lambda) of Tables 6 and 7, in their order."""
    return list(dict.fromkeys((float(row["theta"]), float(row["lambda"])) for row in _read("sweep.csv")))


def paper_exit_counts() -> list[dict]:
    """Images of COCO-Single's 593 that left at each exit: rows {"index": 1-34, "exits": [n1, n2, n3, n4]}."""
    rows = _read("exit_counts_coco_single.csv")
    return [{"index": int(r["threshold_index"]), "exits": [int(r[f"exit{k}"]) for k in (1, 2, 3, 4)]} for r in rows]


def paper_baseline(dataset: str = "coco_single") -> dict:
    """The baseline of Table 3: {"map": percent, "gmacs": mean of an image}."""
    return paper_figures()["table 3"]["baseline"][dataset]


def paper_ceiling() -> float:
    """Percent of compute that is saved on COCO-Single if every image leaves at exit 1."""
    gmacs = paper_figures()["gmacs by exit"]["gmacs"]
    return 100 * (1 - gmacs[0] / gmacs[3])


def paper_figures() -> dict:
    """The figures that are in no table of their own, each with where it comes from."""
    return json.loads((FOLDER / "figures.json").read_text(encoding="utf-8"))


@functools.cache
def _read(name: str) -> list[dict]:
    with open(FOLDER / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
