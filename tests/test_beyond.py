"""The plan beyond the paper, its tables and what is summed up."""

import pytest
import torch
from made_records import made_records

from earlyexit import count_macs, dyn_retinanet_nano
from earlyexit.beyond import clock
from earlyexit.beyond.clock import times_of_budgets, times_of_exits
from earlyexit.beyond.fresh import _rows
from earlyexit.beyond.plan import ABLATIONS, RECIPE, plan_beyond
from earlyexit.beyond.summary import summarise_beyond
from earlyexit.beyond.tables import budgets_table, clock_table, exits_table, rules_table, times_table
from earlyexit.beyond.times import time_ratio
from earlyexit.settings import check_settings
from earlyexit.study.finished import open_study
from earlyexit.study.results import load_models


def model(name="early-0", full=60.0, kept=(0.99, 0.97, 0.91), **more):
    metrics = dict.fromkeys(("AP50", "AP75", "AP small", "AP medium", "AP large"), 1.0)
    forced = [
        {"exit": k, "mAP": m, "gmacs": g, "gmacs_full": 2.0, **metrics}
        for k, m, g in ((1, 48.0, 0.6), (2, 57.0, 0.8), (3, 59.0, 1.9), (4, full, 2.0))
    ]
    budgets = [
        {"budget": b, "share": b - 0.01, "kept": k, "mAP": full * k, "loss_at_most": 1.0, "exits": {1: 5}, **metrics}
        for b, k in zip((0.62, 0.5, 0.35), kept, strict=True)
    ]
    return {
        "name": name,
        "group": "early",
        "split": "test",
        "settings": {"epochs": 4},
        "forced": forced,
        "budgets": budgets,
        **more,
    }


def proposed(value):
    sweep = [{"mAP": value}] * 34
    return {"filler": "downsample", "fillers": {"downsample": {"sweep": sweep}}}


def test_plan():
    found = plan_beyond("scenes", "single", "many", "runs", seeds=(0, 1))
    names = [t.name for t in found]
    assert names == ["early-0", "early-1", "many", *(f"ablation-{n}" for n in ABLATIONS)]
    by_name = {t.name: t.settings for t in found}
    for settings in by_name.values():
        check_settings(settings)
    assert by_name["early-1"].seed == 1 and by_name["early-1"].filler == "learned"
    for t in found[:2]:  # the first two train all exits, and then the early ones alone
        assert t.first.group == "joint" and t.first.settings.exits == (1, 2, 3, 4) and t.first.settings.epochs == 6
        assert t.settings.warm_start == f"{t.first.settings.out}/model.safetensors" and t.settings.epochs == 4
        check_settings(t.first.settings)
    for name, changes in ABLATIONS.items():
        ours = by_name[f"ablation-{name}"]
        assert ours.epochs == 2 and all(getattr(ours, k) == v for k, v in {**RECIPE, **changes}.items())
    assert by_name["many"].data == "many" and by_name["many"].exit_target == "present"


def test_summary():
    times = {name: {"mean": m, "low": m, "high": m} for name, m in (("batch1", 0.6), ("batch16", 0.7))}
    models = [model(), model("early-1", 62.0, (0.97, 0.99, 0.87))]
    found = summarise_beyond(models, [proposed(61.0), proposed(61.4)], times)
    assert found["map_kept"]["0.62"]["mean"] == pytest.approx(0.98)
    assert found["map_kept"]["0.35"]["gmacs_share"] == pytest.approx(0.34)
    assert found["map_kept"]["0.62"]["of_proposed"] == pytest.approx((0.99 * 60 + 0.97 * 62) / 2 / 61.2, abs=1e-4)
    assert found["forced_exit1_kept"]["mean"] == pytest.approx((48 / 60 + 48 / 62) / 2, abs=1e-4)
    assert found["full_depth_map"]["mean"] == 61.0 and found["proposed_full_depth_map"]["mean"] == 61.2
    assert found["reached"] == {
        "map_kept 0.62": False,
        "map_kept 0.50": True,
        "map_kept 0.35": False,
        "forced_exit1_kept": False,
        "full_depth_map": True,
        "time_ratio batch1": True,
        "time_ratio batch16": False,
    }
    broken = model()
    broken["budgets"] = broken["budgets"][:2]
    with pytest.raises(ValueError, match="early-0 has no thresholds for a budget of 0.35"):
        summarise_beyond([broken], [proposed(61.0)], times)


def test_tables():
    rows = exits_table([model()])
    assert [row["share"] for row in rows] == [0.3, 0.4, 0.95, 1.0] and rows[0]["kept"] == 0.8
    one = budgets_table([model(budgets_unscaled=model()["budgets"][:1])])
    assert [row["scores"] for row in one] == ["as they are"] + ["comparable"] * 3 and one[0]["exit 1"] == 5


def test_rows_of_experiments_that_lost_stay():
    study = open_study()
    models, rows = load_models(study.folder / "beyond"), study.table("beyond_exits")
    lost = ("neck-topdown", "head-distillation", "gradient-stopped", "gradient-half", "sandwich")
    for name in (f"ablation-{name}" for name in lost):
        assert name.removeprefix("ablation-") not in ABLATIONS
        assert exits_table([models[name]]) == [row for row in rows if row["model"] == name]
    # With those of the plan they are all that the table has.
    planned = {f"ablation-{name}" for name in (*ABLATIONS, *lost)}
    assert {row["model"] for row in rows if row["group"] == "ablation"} == planned


def test_fresh_images_leave_by_the_thresholds_that_were_found():
    records = made_records(images=60, objects=(1,), crowds=0, seed=4)
    never = {"budget": 1.0, "thresholds": (None, None, None)}
    second = {"budget": 0.35, "thresholds": (None, 0.0, None)}
    rows = _rows(records, {"score_scales": [(1.0, 0.0)] * 4, "budgets": [never, second]})
    by_policy = {row.pop("policy"): row for row in rows}
    assert by_policy["budget 1.00"] == by_policy["exit 4"] and by_policy["exit 4"]["kept"] == 1.0
    assert by_policy["budget 0.35"] == by_policy["exit 2"] != by_policy["exit 4"]
    assert by_policy["exit 1"]["images"] == 60


def test_rules_are_compared_with_the_papers_on_the_same_images():
    def rule(score, noise):
        points = [
            {"mAP": 50.0 + 10 * score, "random": 50.0, "oracle": 60.0},
            {"mAP": 52.0, "random": 50.0, "oracle": 62.0},
        ]
        return {"score": score, "samples": [score + n for n in noise], "points": points}

    shared = (-0.1, 0.0, 0.1)
    models = [
        model(rules={"max softmax": rule(0.2 + s, shared), "router": rule(0.3 + s, shared)}) for s in (0.0, 0.05, -0.05)
    ]
    softmax, router = rules_table(models)
    assert softmax["difference"] == 0 and router["difference"] == pytest.approx(0.1)
    assert (router["mAP"], router["lots"], router["oracle"]) == (52.5, 50.0, 61.0)  # the mean of 53 and 52
    assert router["difference low"] == pytest.approx(0.1, abs=1e-3) and router["low"] < 0.2


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


def test_times_of_budgets_are_those_of_their_thresholds(monkeypatch):
    # The export has tests of its own and takes half a minute.
    monkeypatch.setattr(clock, "export_onnx", lambda model, folder, size: None)
    monkeypatch.setattr(clock, "OnnxDetector", lambda folder, model: model)
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned", min_size=64, max_size=64).eval()
    rows = [
        {"budget": b, "share": b - 0.01, "kept": 0.9, "thresholds": t}
        for b, t in ((0.4, (0.0, None, None)), (1.0, (None, None, None)))
    ]
    first, never = times_of_budgets(model, [torch.rand(3, 64, 64)] * 16, rows, rounds=3)
    assert set(first["times"]) == {"batch1", "batch16", "onnx batch1", "onnx batch16"}
    assert first["share"] == pytest.approx(0.39) and never["budget"] == 1.0
    for name, ratio in first["times"].items():  # all leave at exit 1, and nobody early
        assert ratio["mean"] < 0.9 and 0.5 < never["times"][name]["mean"] < 2, name
    table = times_table([first, never])
    assert len(table) == 8 and table[0]["runs"] == "batch1" and table[0]["ms"] == first["times"]["batch1"]["ms"]


def test_times_of_exits_stand_beside_their_compute():
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, filler="learned").eval()
    rows = times_of_exits(model, (128, 160), rounds=2)
    macs = count_macs(model, (128, 160))
    assert [row["share"] for row in rows] == [macs[k]["total"] / macs[4]["total"] for k in (1, 2, 3, 4)]
    assert rows[0]["time"] < 0.9 and rows[0]["ms"] < rows[3]["ms"]
    assert model.transform.min_size == (128,)  # the model is as it was
    (row,) = clock_table([{"detector": "nano", **rows[0]}])
    assert row["detector"] == "nano" and row["share"] == round(rows[0]["share"], 4) and row["width"] == 160
