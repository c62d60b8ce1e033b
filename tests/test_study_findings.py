"""What one model reaches, against the functions that it rests on and against values found by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made_records import made_records

from earlyexit.evaluation.policies import threshold_exits
from earlyexit.evaluation.scores import evaluate_exits, evaluate_records, random_exit
from earlyexit.study.findings import (
    accuracy_rows,
    correlations,
    extremes,
    forced_rows,
    random_rows,
    spearman,
    sweep_rows,
    thirds,
    traits_of,
)


@pytest.fixture(scope="module")
def records():
    return made_records(images=60, objects=(1,), crowds=0.0, found=(1, 8), many=20)


@pytest.fixture(scope="module")
def swept(records):
    return sweep_rows(records, made_records(images=50, seed=1).confidence, repeats=4)


def test_sweep_rows_are_the_evaluation_of_their_thresholds(records, swept):
    assert [row["index"] for row in swept] == list(range(1, 35))
    assert swept[33]["thresholds"] == [None] * 3 and swept[33]["realised"] == [0, 0, 0, 1]
    for row in (swept[0], swept[19]):
        thresholds = [float("inf") if t is None else t for t in row["thresholds"]]
        direct = evaluate_records(records, thresholds)
        assert row["mAP"] == pytest.approx(direct["mAP"], abs=5e-4)
        assert row["gmacs"] == direct["gmacs"] and row["AP50"] == pytest.approx(direct["AP50"], abs=5e-4)
        assert row["realised"] == pytest.approx([n / 60 for n in direct["exits"].values()], abs=1e-5)
        assert len(row["samples"]) == 4 and row["low"] <= max(row["samples"]) and min(row["samples"]) <= row["high"]


def test_random_rows_are_ten_draws_with_the_realised_shares(records, swept):
    row = random_rows(records, swept[:20], repeats=4)[19]
    shares = np.array(swept[19]["realised"])
    direct = random_exit(records, shares / shares.sum(), 10, seed=20)
    values = [draw["mAP"] for draw in direct["draws"]]
    assert len(values) == 10 and row["mAP"] == pytest.approx(np.mean(values), abs=5e-4)
    assert (row["low"], row["high"]) == pytest.approx((min(values), max(values)), abs=5e-4)
    assert min(values) < row["mAP"] < max(values)


def test_forced_and_accuracy_rows(records):
    rows = forced_rows(records, repeats=4)
    for row in rows:
        direct = evaluate_exits(records, torch.full((60,), row["exit"]))
        assert row["AP75"] == pytest.approx(direct["AP75"], abs=5e-4)
        assert row["accuracy"] == pytest.approx(direct["accuracy"], abs=5e-4)
    accuracy = accuracy_rows(records, repeats=50)
    assert [a["accuracy"] for a in accuracy] == [r["accuracy"] for r in rows]
    assert all(a["low"] < a["accuracy"] < a["high"] for a in accuracy)
    spread = np.std(accuracy[3]["samples"])  # of a share of 60 images
    share = accuracy[3]["accuracy"] / 100
    assert spread == pytest.approx(100 * np.sqrt(share * (1 - share) / 60), rel=0.35)


def scenes(count):
    """A data set of images of 100x50 with one object each, the later the smaller and the more occluded."""
    imgs = {i: {"width": 100, "height": 50} for i in range(count)}
    causes = [{"occlusion": i / 100, "clutter": 3.0, "contrast": 1 - i / 100} for i in range(count)]
    found = [{"bbox": [0, 0, 50 - i / 2, 25], "causes": c, "difficulty": i / count} for i, c in enumerate(causes)]
    return SimpleNamespace(coco=SimpleNamespace(imgs=imgs), objects=lambda i: [found[i]])


def test_traits_of_scenes_and_of_photos():
    data = scenes(3)
    found = traits_of(data, [2, 0])
    assert found["size"] == pytest.approx([np.sqrt(49 * 25 / 5000), 0.5])
    assert found["occlusion"].tolist() == [0.02, 0] and found["difficulty"][1] == 0
    photos = SimpleNamespace(coco=data.coco, objects=lambda i: [{"bbox": [0, 0, 10, 20]}])
    assert list(traits_of(photos, [0])) == ["size"]


def test_correlations_find_the_order(records):
    traits = traits_of(scenes(60), list(range(60)))
    chosen = torch.arange(60) // 15 + 1  # the later, the later the exit
    rows = {(r["of"], r["with"]): r for r in correlations(records, chosen, traits, repeats=10)}
    late = spearman(np.arange(60) // 15, np.arange(60))
    assert rows["exit taken", "occlusion"]["value"] == pytest.approx(late, abs=5e-5)
    assert rows["exit taken", "size"]["value"] == pytest.approx(-late, abs=5e-5)
    assert rows["exit taken", "size"]["high"] < -0.9
    assert rows["exit taken", "clutter"] == {"of": "exit taken", "with": "clutter"} | dict.fromkeys(
        ("value", "low", "high")
    )
    assert len(rows) == 5 * 5


def test_thirds_are_the_evaluation_of_their_images(records):
    traits = {"size": np.arange(60)[::-1].copy()}  # the first images have the largest objects: they are easy
    chosen = torch.ones(60, dtype=torch.int64)
    chosen[40:] = 4
    rows = {(r["third"], r["exit"]): r for r in thirds(records, chosen, traits, repeats=3)}
    assert len(rows) == 3 * 5 and {r["by"] for r in rows.values()} == {"size"}
    assert rows["easy", "taken"]["shares"] == [1, 0, 0, 0] and rows["hard", "taken"]["shares"] == [0, 0, 0, 1]
    assert rows["easy", "taken"]["mAP"] == rows["easy", 1]["mAP"] != rows["easy", 4]["mAP"]
    right = (records.logits[1, 20:40].argmax(1) == records.labels[20:40]).double().mean()
    assert rows["middle", 2]["accuracy"] == pytest.approx(100 * float(right), abs=5e-4)


def test_extremes_are_the_surest_first_and_the_least_sure_last(records):
    chosen = threshold_exits(records.confidence, (0.4, 0.5, 0.5))
    found = extremes(records, chosen)
    position = {int(i): n for n, i in enumerate(records.image_ids)}
    at_first = records.confidence[0][chosen == 1]
    assert records.confidence[0, position[found["easiest"][0]]] == at_first.max()
    at_last = records.confidence[2][chosen == 4]
    assert [float(records.confidence[2, position[i]]) for i in found["hardest"]] == at_last.sort().values[:8].tolist()
