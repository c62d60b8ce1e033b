"""Average precision from matches made once: equal to pycocotools for any choice of exits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_records import judged, made_records
from pycocotools.cocoeval import COCOeval

from earlyexit.evaluation.coco import METRICS
from earlyexit.evaluation.matching import average_precision, match_records


@pytest.fixture(scope="module")
def records():
    """Crowds, images with no, one and several objects, equal scores, more than 100 detections, unsorted ids."""
    return made_records()


def some_exits(count: int, seed: int) -> torch.Tensor:
    return torch.randint(1, 5, (count,), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(4))
def test_random_choices_equal_pycocotools_to_the_last_bit(records, seed):
    chosen = some_exits(len(records), seed)
    ours = average_precision(match_records(records), chosen)
    assert ours == judged(records, chosen)
    assert len(set(ours.values())) == len(METRICS)  # the six differ, so that mixing them up would be seen


@pytest.mark.parametrize("exit", [1, 2, 3, 4])
def test_one_exit_for_all_equals_pycocotools(records, exit):
    chosen = torch.full((len(records),), exit)
    assert average_precision(match_records(records), chosen) == judged(records, chosen)


def test_single_objects_without_crowds_equal_pycocotools():
    records = made_records(objects=(1,), crowds=0, seed=5)
    chosen = some_exits(len(records), 5)
    assert average_precision(match_records(records), chosen) == judged(records, chosen)


@pytest.mark.parametrize("seed", range(4))
def test_an_image_that_counts_twice_is_there_twice(records, seed):
    chosen = some_exits(len(records), seed)
    counts = np.random.default_rng(seed).integers(0, 4, len(records))
    ours = average_precision(match_records(records), chosen, counts)
    assert ours == judged(records, chosen, counts)
    assert ours != average_precision(match_records(records), chosen)


def test_counts_of_one_change_nothing(records):
    chosen = some_exits(len(records), 0)
    ones = np.ones(len(records), dtype=np.int64)
    assert average_precision(match_records(records), chosen, ones) == judged(records, chosen)


def test_equal_scores_within_an_image_keep_their_order_in_each_copy():
    """One image thrice with a hit and a miss of equal score: hit, miss, hit, miss, ... and not all hits first."""
    records = made_records(images=1, objects=(1,), crowds=0, seed=3)
    truth_box = records.truth.boxes[0].clone()
    truth_box[2:] += truth_box[:2]
    label = int(records.truth.labels[0])
    records.found.boxes[:] = torch.tensor([500.0, 500.0, 520.0, 520.0])
    records.found.boxes[0] = truth_box.float()
    records.found.labels[:] = label
    records.found.scores[:] = 0.5
    records.found.labels[2:130] = 0  # at exit 1 remain the hit and one miss; class 0 has no object
    chosen, counts = torch.ones(1, dtype=torch.int64), np.array([3])
    ours = average_precision(match_records(records), chosen, counts)
    assert ours == judged(records, chosen, counts)
    # Precision at the hits is 1, 2/3, 3/5; COCO reads it at 101 recalls: 34 up to 1/3, 33 up to 2/3, 34 up to 1.
    assert ours["mAP"] == pytest.approx(100 * (34 * 1 + 33 * 2 / 3 + 34 * 3 / 5) / 101)


def test_no_object_in_a_range_of_area_has_no_metric():
    records = made_records(crowds=1)
    ours = average_precision(match_records(records), torch.ones(len(records), dtype=torch.int64))
    assert ours == dict.fromkeys(METRICS)


def test_no_detection_at_all_is_nothing_found():
    records = made_records(found=(0, 1), many=0)
    assert len(records.found.scores) == 0
    chosen = torch.ones(len(records), dtype=torch.int64)
    assert average_precision(match_records(records), chosen) == dict.fromkeys(METRICS, 0.0) == judged(records, chosen)


def test_one_metric_alone_is_the_same(records):
    chosen = some_exits(len(records), 1)
    both = average_precision(match_records(records), chosen)
    assert average_precision(match_records(records), chosen, metrics=("AP75",)) == {"AP75": both["AP75"]}


def test_matches_are_made_once(records):
    assert match_records(records) is match_records(records)
    assert match_records(replace(records, gmacs=2 * records.gmacs)) is not match_records(records)


@pytest.mark.parametrize(
    "chosen, message",
    [(torch.ones(3, dtype=torch.int64), r"each of 40 images"), (torch.ones(40), "float32"), ([5] * 40, r"\[5, 5")],
)
def test_bad_choices_are_refused(records, chosen, message):
    with pytest.raises(ValueError, match=message):
        average_precision(match_records(records), chosen)


@pytest.mark.parametrize("counts", [np.ones(3, dtype=int), np.full(40, 0.5), np.full(40, -1)])
def test_bad_counts_are_refused(records, counts):
    with pytest.raises(ValueError, match="counts must be 40 whole numbers"):
        average_precision(match_records(records), some_exits(40, 0), counts)


def test_once_matched_pycocotools_is_not_needed(monkeypatch):
    records = made_records(images=120, classes=20, objects=(1,), crowds=0, seed=1)
    matches, choices = match_records(records), [some_exits(len(records), seed) for seed in range(3)]
    theirs = [judged(records, chosen) for chosen in choices]
    for name in ("computeIoU", "evaluateImg", "accumulate"):
        monkeypatch.setattr(COCOeval, name, None)
    assert [average_precision(matches, chosen) for chosen in choices] == theirs
