"""Easy and hard images (paper, section 5.4): does what makes an image hard go with the exit that it takes?"""

import math

import numpy as np
import torch

from ..backbone import NUM_EXITS
from ..data.coco import CocoDataset
from ..records import ExitRecords, average_precision, bootstrap, correct_classes, match_records
from .ranks import spearman

SETTING = 20  # the threshold index of section 5.4
CAUSES = ("occlusion", "clutter", "contrast")  # recorded for scenes
EXTREMES = 8
EXITS = range(1, NUM_EXITS + 1)


def difficulty_numbers(records: ExitRecords, dataset: CocoDataset, chosen: torch.Tensor, repeats: int) -> dict:
    """Everything about easy and hard images that is kept of a model.

    Args:
        records: of the images, each with one object.
        dataset: the same images; annotations of scenes say how difficult they are and why.
        chosen: (N,) the exits taken at `SETTING`.
        repeats: bootstrap samples.

    Returns:
        "setting"; "exits_taken", a digit for each image; "correlations", "thirds", see those; "easiest" and "hardest",
        image ids for a picture such as Figure 10.
    """
    traits = traits_of(dataset, records.image_ids.tolist())
    return {
        "setting": SETTING,
        "exits_taken": "".join(map(str, chosen.tolist())),
        "correlations": correlations(records, chosen, traits, repeats),
        "thirds": thirds(records, chosen, traits, repeats),
        **extremes(records, chosen),
    }


def traits_of(dataset: CocoDataset, ids: list[int]) -> dict[str, np.ndarray]:
    """What may make the images hard: "size" of the object, and for scenes the causes and the "difficulty".

    The size is the square root of the share of the image's area that the object's box covers. Contrast is how much
    the object stands out; clutter counts distractors; occlusion is the hidden share of the object.
    """
    objects = [dataset.objects(i)[0] for i in ids]
    areas = [dataset.coco.imgs[i]["width"] * dataset.coco.imgs[i]["height"] for i in ids]
    boxes = [math.sqrt(o["bbox"][2] * o["bbox"][3] / area) for o, area in zip(objects, areas, strict=True)]
    traits = {"size": np.array(boxes)}
    if all("causes" in o for o in objects):
        traits |= {name: np.array([o["causes"][name] for o in objects]) for name in CAUSES}
        traits["difficulty"] = np.array([o["difficulty"] for o in objects])
    return traits


def correlations(records: ExitRecords, chosen: torch.Tensor, traits: dict, repeats: int) -> list[dict]:
    """Spearman's rank correlation of each trait with the confidences and with the exit taken, with intervals.

    Returns:
        Rows of "of" ("exit taken", "confidence 1" to "confidence 4"), "with" (the trait), "value", "low", "high"; None
        where one of both is the same for all images.
    """
    signals = {f"confidence {exit}": values.numpy() for exit, values in zip(EXITS, records.confidence, strict=True)}
    rows = []
    for of, signal in {"exit taken": chosen.numpy(), **signals}.items():
        for name, trait in traits.items():
            found = {"value": None, "low": None, "high": None}
            if not math.isnan(spearman(signal, trait)):

                def resampled(counts, a=signal, b=trait):
                    drawn = np.repeat(np.arange(len(a)), counts)
                    return spearman(a[drawn], b[drawn])

                interval = bootstrap(resampled, len(signal), repeats=repeats)
                found = {key: round(getattr(interval, key), 4) for key in found}
            rows.append({"of": of, "with": name, **found})
    return rows


def thirds(records: ExitRecords, chosen: torch.Tensor, traits: dict, repeats: int) -> list[dict]:
    """The easiest third of the images, the middle, the hardest: mAP and accuracy at each exit, and who leaves where.

    Thirds are those of the recorded difficulty or, where there is none, of the size: the largest objects are easy.

    Returns:
        Rows of "third", "by", "images", "exit" (1-4, or "taken": where the images leave at `SETTING`), "mAP", "low",
        "high", "accuracy" and, of "taken", "shares" of exits 1-4.
    """
    by = "difficulty" if "difficulty" in traits else "size"
    order = np.argsort(traits[by] if by == "difficulty" else -traits[by], kind="stable")
    matches, right, rows = match_records(records), correct_classes(records), []
    for third, members in zip(("easy", "middle", "hard"), np.array_split(order, 3), strict=True):
        inside = np.isin(np.arange(len(order)), members).astype(np.int64)
        for exit in (*EXITS, "taken"):
            exits = chosen if exit == "taken" else torch.full_like(chosen, exit)

            def reached(counts, exits=exits, inside=inside):
                return average_precision(matches, exits, counts * inside, metrics=("mAP",))["mAP"]

            interval = bootstrap(reached, len(order), repeats=repeats)
            row = {"third": third, "by": by, "images": len(members), "exit": exit, "mAP": round(interval.value, 3)}
            correct = right.gather(0, exits[None] - 1)[0][torch.from_numpy(members)].double().mean()
            row |= {"low": round(interval.low, 3), "high": round(interval.high, 3)}
            row["accuracy"] = round(100 * float(correct), 3)
            if exit == "taken":
                row["shares"] = [round(float((exits[members] == k).double().mean()), 5) for k in EXITS]
            rows.append(row)
    return rows


def extremes(records: ExitRecords, chosen: torch.Tensor) -> dict[str, list[int]]:
    """Ids of the images that left at exit 1 with most confidence, and of those at exit 4 with least at exit 3."""
    found = {}
    for name, exit, confidence in (("easiest", 1, -records.confidence[0]), ("hardest", 4, records.confidence[2])):
        there = torch.nonzero(chosen == exit).flatten()
        found[name] = records.image_ids[there[confidence[there].argsort(stable=True)[:EXTREMES]]].tolist()
    return found
