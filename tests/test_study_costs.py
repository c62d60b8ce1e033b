"""Compute and time: which numbers the tables hold. Nothing here reads a clock."""

import itertools

import pytest
import torch

from earlyexit import count_macs, dyn_retinanet_nano
from earlyexit.data.coco import coco_split
from earlyexit.study import costs
from earlyexit.study.costs import (
    compute_table,
    latency_table,
    profile_exits,
    same_size,
    time_ratio,
    times_of_budgets,
    times_of_exits,
)
from earlyexit.study.tables import clock_table, times_table


def test_images_of_one_size_are_found(single):
    images = same_size(coco_split(single, "test"), most=2)
    assert [tuple(image.shape) for image in images] == [(3, 64, 64)] * 2


def test_latency_of_rounds_has_an_interval(single, nano, monkeypatch):
    """Exit 1 takes 8, 7 and 6 ms in three rounds, exit 4 always 10."""
    times = iter([8.0, 8.0, 7.0, 7.0, 6.0, 6.0])

    def timed(model, images, *, batch_sizes=(1, 16), repeats, warmup):
        first = next(times)
        same = {"p95_ms": 20.0, "repeats": repeats, "height": 128, "width": 128, "threads": 1, "device": "cpu"}
        exits = {1: (first, 1.0), 4: (10.0, 2.0)}
        rows = [
            {"batch_size": b, "exit": e, "median_ms": t, "gmacs": g} for b in batch_sizes for e, (t, g) in exits.items()
        ]
        return [{**row, **same} for row in rows]

    monkeypatch.setattr(costs, "measure_latency", timed)
    monkeypatch.setattr(costs, "paper_detector", lambda: nano)
    rows = {
        (r["model"], r["batch_size"], r["exit"]): r for r in latency_table(nano, coco_split(single, "test"), rounds=3)
    }
    assert len(rows) == 6 and ("regnet_y_800mf", 16, 1) not in rows
    row = rows["nano", 16, 1]
    assert (row["median_ms"], row["time_saved"], row["gmacs_saved"], row["rounds"]) == (7, 30, 50, 3)
    assert row["high"] - 30 == pytest.approx(4.303 * 10 / 3**0.5, abs=0.006)
    assert (row["low"], rows["nano", 1, 4]["time_saved"]) == (pytest.approx(60 - row["high"], abs=0.011), 0)


def test_compute_table_has_every_part_under_both_fillers(nano, monkeypatch):
    def count(model, size):
        base = size[0] + (1000 if model.neck.filler == "zero" else 0)
        return {exit: {"neck": exit, "total": base + exit} for exit in (1, 2, 3, 4)}

    monkeypatch.setattr(costs, "paper_detector", lambda: nano)
    monkeypatch.setattr(costs, "count_macs", count)
    rows = compute_table(nano)
    total = {(r["model"], r["filler"], r["exit"]): r["gmacs"] for r in rows if r["part"] == "total"}
    assert len(rows) == 2 * 2 * 4 * 2
    assert (total["nano", "zero", 3], total["regnet_y_800mf", "downsample", 1]) == (1131, 801)
    assert nano.neck.filler == "downsample"


def test_time_ratio_takes_turns():
    calls = []
    found = time_ratio(
        lambda batch: calls.append(("early", len(batch))),
        lambda batch: calls.append(("full", len(batch))),
        [torch.zeros(1)] * 5,
        2,
        rounds=3,
    )
    assert calls == [("early", 2), ("full", 2)] * (2 + 2 * 3)  # two to warm up, then two batches in each round
    assert found["low"] <= found["mean"] <= found["high"]
    with pytest.raises(ValueError, match="at least one batch of 16"):
        time_ratio(len, len, [], 16)


def stages_run(run, device):
    """A clock that never goes wrong: a call takes as many seconds as the exits that its images reach."""
    return sum(found["exit"] for found in run())


def test_times_of_budgets_are_those_of_their_thresholds(monkeypatch):
    # The export has tests of its own and takes half a minute.
    monkeypatch.setattr(costs, "export_onnx", lambda model, folder, size: None)
    monkeypatch.setattr(costs, "OnnxDetector", lambda folder, model: model)
    monkeypatch.setattr(costs, "seconds", stages_run)
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned", min_size=64, max_size=64).eval()
    rows = [
        {"budget": b, "share": b - 0.01, "kept": 0.9, "thresholds": t}
        for b, t in ((0.4, (0.0, None, None)), (1.0, (None, None, None)))
    ]
    first, never = times_of_budgets(model, [torch.rand(3, 64, 64)] * 16, rows, rounds=3)
    assert set(first["times"]) == {"batch1", "batch16", "onnx batch1", "onnx batch16"}
    assert first["share"] == pytest.approx(0.39) and never["budget"] == 1.0
    for name, ratio in first["times"].items():  # all leave at exit 1 of 4, and nobody early
        assert ratio == {"mean": 0.25, "low": 0.25, "high": 0.25, "ms": 1000, "ms_full": 4000}, name
        assert never["times"][name] == {"mean": 1, "low": 1, "high": 1, "ms": 4000, "ms_full": 4000}, name
    table = times_table([first, never])
    assert len(table) == 8 and table[0]["runs"] == "batch1" and table[0]["ms"] == first["times"]["batch1"]["ms"]


def test_times_of_exits_stand_beside_their_compute(monkeypatch):
    monkeypatch.setattr(costs, "seconds", stages_run)
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned").eval()
    rows = times_of_exits(model, (128, 160), rounds=2)
    macs = count_macs(model, (128, 160))
    assert [row["share"] for row in rows] == [macs[k]["total"] / macs[4]["total"] for k in (1, 2, 3, 4)]
    assert [(row["time"], row["ms"]) for row in rows] == [(k / 4, 1000 * k) for k in (1, 2, 3, 4)]
    assert model.transform.min_size == (128,)  # the model is as it was
    (row,) = clock_table([{"detector": "nano", **rows[0]}])
    assert row["detector"] == "nano" and row["share"] == round(rows[0]["share"], 4) and row["width"] == 160


def test_profile_is_the_median_of_each_part_without_the_first_call(monkeypatch, nano):
    clock = itertools.count(1)
    monkeypatch.setattr(costs, "seconds", lambda run, device: run() and next(clock) / 1000)
    (row,) = profile_exits(nano, [torch.rand(3, 128, 128)], exits=(1,), repeats=3)
    # Of 1 to 4 ms for the whole, the next four for neck and head, ... the first is left out.
    assert row == {"exit": 1, "resize": 11, "backbone": 15, "neck and head": 7, "post-processing": 0}


def test_a_call_is_timed_once(monkeypatch):
    ticks, calls = iter([2.0, 5.0]), []
    monkeypatch.setattr(costs.time, "perf_counter", lambda: next(ticks))
    assert costs.seconds(lambda: calls.append(1), torch.device("cpu")) == 3 and calls == [1]
