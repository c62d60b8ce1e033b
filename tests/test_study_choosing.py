"""The comparison of who chooses with who does not: on records made by hand, and with numbers worked out by hand."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from made_records import judged, made_records
from test_fitting import planted, with_latents

import earlyexit
from earlyexit.data.scenes import export_scenes
from earlyexit.evaluation.matching import map_of, match_records
from earlyexit.evaluation.records import Detections
from earlyexit.evaluation.scores import evaluate_exits
from earlyexit.files import read_table
from earlyexit.study import choosing
from earlyexit.study.choosing import at_any_size, by_worth, curve, summarise_choices, train_all, way_to_oracle
from earlyexit.study.opponents import (
    PAPER,
    Choosing,
    lots,
    open_run,
    side_by_side,
    static_rows,
    two_passes,
    upper_hull,
)
from earlyexit.study.plan import choosing_plan

SPLITS = ("calibration", "test")


def records(seed):
    return with_latents(made_records(images=150, seed=seed, objects=(0, 1, 2), crowds=0))


@pytest.fixture(scope="module")
def run():
    return Choosing("mine-0", records(0), records(1), unit=4.0)


def test_side_by_side_is_each_exit_of_its_records(run):
    """Also against pycocotools: half of the images from the one detector, half from the other."""
    test = run.test
    both = side_by_side([(test, 3), (test, 1)])
    matches, exits = match_records(both), torch.arange(len(both)) % 2 + 1
    assert map_of(matches, exits) == pytest.approx(judged(test, torch.where(exits == 1, 3, 1))["mAP"])
    assert map_of(matches, both.all_at(4)) == map_of(matches, both.all_at(2))
    assert both.gmacs[:, 0].tolist() == [2.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("points", "hull"),
    [
        ([(1, 10), (2, 20), (4, 30)], [0, 1, 2]),
        ([(1, 10), (2, 11), (4, 30)], [0, 2]),
        ([(1, 10), (2, 9), (3, 25), (4, 24)], [0, 2]),
        ([(3, 30), (1, 10), (2, 20)], [1, 0]),
        ([(1, 10), (1, 12), (2, 14)], [1, 2]),
    ],
)
def test_upper_hull(points, hull):
    assert upper_hull(points) == hull


def test_lots_take_the_compute_that_is_wanted(run):
    points = [(1.0, 10.0), (1.3, 11.0), (2.0, 20.0), (4.0, 30.0)]
    row = lots(run.test, 1.5, 2, points)
    assert row["gmacs"] == pytest.approx(1.5, abs=0.06) and (row["exit 2"], row["exit 4"]) == (0, 0)
    assert row["exit 1"] == pytest.approx(0.5, abs=0.06)
    all_there = lots(run.test, 9.0, 2, points)
    assert all_there["mAP"] == pytest.approx(evaluate_exits(run.test, run.test.all_at(4), metrics=("mAP",))["mAP"])


def test_what_looking_costs_is_counted(run):
    rows = {r["policy"]: r for r in curve(run, 2) if (r.get("of"), r.get("share")) in {("own", 0.5), (None, None)}}
    assert rows["exit 3"]["gmacs"] == 2.0
    for policy, looks in (("worth", 0.0), ("worth of detections", 0.1)):
        row = rows[policy]
        costs = [1.0, 1.3 + looks, 2.0 + 2.3 * looks, 4.0 + 4.3 * looks]
        assert row["gmacs"] == pytest.approx(sum(row[f"exit {k}"] * cost for k, cost in enumerate(costs, 1)))
        assert rows[f"lots for {policy}"]["gmacs"] == pytest.approx(min(row["gmacs"], 4.0), abs=0.15)


def unsure(seed):
    """Records whose exit 1 finds nothing of half of the images but a false alarm, the less sure the later it is."""
    records, deep = planted(seed)
    slots = torch.arange(4 * len(records))
    false = deep[slots // 4] & (slots % 4 != 3)
    boxes = records.truth.boxes[slots // 4].float()
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.where(false, 0.5 - 0.1 * slots / len(slots), 0.9).float()
    found = Detections(boxes + 500 * false[:, None], scores, records.truth.labels[slots // 4], torch.arange(1201))
    return replace(records, found=found), deep


@pytest.mark.parametrize("policy", ["two passes", "two passes by worth"])
def test_two_passes(policy):
    """The first pass finds nothing on half of the images: those go on, as far as is paid for."""
    (test, deep), (calibration, _) = unsure(1), unsure(2)
    small, large = (Choosing(name, calibration, test, unit=5.0) for name in ("small", "large"))
    rows = {row["share"]: row for row in two_passes([large, small], [4, 1], 2) if row["policy"] == policy}
    assert list(rows) == list(PAPER) and rows[0.4]["run"] == "statics" and rows[0.4]["pair"] == "small, large"
    full, kept = (float(evaluate_exits(test, test.all_at(k), metrics=("mAP",))["mAP"]) for k in (4, 1))
    assert rows[0.8]["mAP"] == full and float(deep.double().mean()) == pytest.approx(0.5, abs=0.05)
    for share, row in rows.items():
        assert row["gmacs"] == pytest.approx(1 + 4 * row["exit 2"]) and row["exit 3"] == row["exit 4"] == 0
        if share < 0.6:  # 1 + 4 * 0.25 = 0.4 * 5
            assert row["exit 2"] == pytest.approx((5 * share - 1) / 4, abs=0.12)
            assert row["mAP"] == pytest.approx(kept + 2 * row["exit 2"] * (full - kept), abs=8), "those that gain go on"


def test_a_single_detector_has_no_second_pass(run):
    assert two_passes([run], [4], 2) == []


def test_budgets_that_no_static_detector_keeps_compare_nothing(run):
    """The cheapest of these takes half of the unit."""
    dear = replace(run, unit=4.0)
    rows = static_rows([dear, dear], [3, 4], 2)
    found = {row["share"]: row["gmacs"] for row in rows if row["policy"] == "static lots"}
    assert list(found) == [0.5, 0.6, 0.7, 0.8] and found[0.5] == pytest.approx(2.0)
    ways, mine = [way_to_oracle(dear, 2)], curve(dear, 2)
    found = summarise_choices(mine + rows, ways, "worth", 4.0)
    gains = [gain["mean"] for gain in found["gain_over_static_at"].values()]
    assert list(found["gain_over_static_at"]) == ["0.50", "0.60", "0.70", "0.80"]
    assert found["gain_over_static"]["mean"] == pytest.approx(np.mean(gains), abs=0.01)
    assert "gain_over_static" not in summarise_choices(mine + static_rows([dear], [4], 2), ways, "worth", 4.0)


def test_opening_a_run(tmp_path):
    """Its records are kept; thresholds come from its own calibration images, also for fresh test images."""
    export_scenes(tmp_path / "data", {"calibration": 8, "test": 8}, workers=1)
    shutil.copy(Path(earlyexit.__file__).parent / "weights" / "scenes-many.safetensors", tmp_path / "many")
    seen = open_run(tmp_path / "many", tmp_path / "data", tmp_path / "kept")
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [f"many-{s}.safetensors" for s in SPLITS]
    export_scenes(tmp_path / "fresh", {"test": 5}, seed=7, workers=1)
    fresh = open_run(tmp_path / "many", tmp_path / "data", tmp_path / "kept", tmp_path / "fresh")
    assert (len(fresh.test), len(fresh.calibration), fresh.unit) == (5, 8, seen.unit)


def test_detectors_for_larger_images_are_judged_by_the_same_unit(run, tmp_path, monkeypatch):
    """Theirs, the paper's full depth on such images, is another."""
    found = {"mine-0": run, "large-0": replace(run, name="large-0", unit=9.0)}
    monkeypatch.setattr(choosing, "open_run", lambda name, *_: found[name])
    monkeypatch.setattr(choosing, "static_exit", lambda _: 1)
    choosing.compare(["mine-0"], tmp_path, tmp_path, static=["large-0", "mine-0"], repeats=2)
    rows = [row for row in read_table(tmp_path / "choosing_scenes_many.csv") if row["policy"] == "static lots"]
    assert [row["share"] for row in rows] == list(PAPER) and {row["gmacs"] for row in rows} == {1.0}
    worth = [row for row in read_table(tmp_path / "choosing_scenes_many.csv") if row["policy"] == "worth"]
    assert max(row["gmacs"] for row in worth if row["of"] == "paper") <= 0.85 * run.unit


def test_the_size_of_images_is_chosen_on_the_calibration_split():
    """A detector of half the cost, otherwise the same, is taken where compute is short; one too dear is not."""
    run = Choosing("mine-0", *(with_latents(unsure(seed)[0]) for seed in (2, 1)), unit=4.0)
    splits = (run.calibration, run.test)
    cheap, dear = (
        Choosing(name, *(r.priced((share * r.gmacs.mean(1)).tolist()) for r in splits), unit=share * run.unit)
        for name, share in (("cheap", 0.5), ("dear", 20.0))
    )
    rows = at_any_size([run, dear, cheap], "worth", 2)
    forced, rows = rows[:8], rows[8:]
    assert [(row["run"], row["policy"]) for row in forced[3:5]] == [
        ("dear", "exit 4 of another size"),
        ("cheap", "exit 1 of another size"),
    ]
    assert forced[3]["gmacs"] == pytest.approx(dear.full) and forced[3]["mAP"] == forced[7]["mAP"]
    assert [row["share"] for row in rows] == list(PAPER) and [row["run"] for row in rows[:2]] == ["cheap", "cheap"]
    for row in rows:
        taken = cheap if row["run"] == "cheap" else run
        exits, gmacs = by_worth(taken.calibration, taken.test, "worth", min(row["share"] * run.unit, taken.full))
        assert row["gmacs"] == gmacs and row["mAP"] == map_of(match_records(taken.test), exits)
    assert {row["run"] for row in at_any_size([run, dear], "worth", 2)[4:]} == {"mine-0"}
    known = curve(run, 2) + static_rows([run, run], [1, 4], 2)
    found = summarise_choices(known + rows, [way_to_oracle(run, 2)], "worth", run.unit)
    gains = [gain["mean"] for gain in found["gain_over_static_at_any_size_at"].values()]
    assert np.mean(gains) == pytest.approx(found["gain_over_static_at_any_size"]["mean"], abs=0.01)
    assert found["gain_over_static_at_any_size"]["mean"] > found["gain_over_static"]["mean"]
    kept = {share: row["mAP"] / known[3]["mAP"] for row, share in zip(rows[1:4], ("0.50", "0.60", "0.70"), strict=True)}
    assert {share: found["kept_at_any_size"][share]["mean"] for share in kept} == pytest.approx(kept, abs=1e-4)


def test_all_of_the_comparison_together(run):
    """A static detector at full depth that is this one keeps all of its mAP where the rule goes as deep."""
    rows = curve(run, 3) + [row for row in static_rows([run, run], [1, 4], 3) if not row["policy"].startswith("two")]
    ways = [way_to_oracle(run, 3)]
    found = summarise_choices(rows, ways, "worth", run.unit)
    static = {"gain_over_static", "gain_over_static_at", "kept"}
    scores = {f"{name}{of}" for name in ("rule_score", "paper_rule_score") for of in ("", "_of_all_exits")}
    assert set(found) == {*scores, "gain_over_fixed", *static}
    all_exits = [
        np.mean([r["mAP"] for r in rows if r["policy"] == policy and r.get("of") == "own"])
        for policy in ("worth", "lots for worth", "oracle")
    ]
    way = (all_exits[0] - all_exits[1]) / (all_exits[2] - all_exits[1])
    assert found["rule_score_of_all_exits"]["mean"] == pytest.approx(way, abs=1e-3)
    assert list(found["gain_over_fixed"]) == ["0.70", "0.60", "0.50", "0.42"]
    full = next(r for r in rows if r["policy"] == "static" and r["gmacs"] == 4.0)
    ours = next(r for r in rows if (r["policy"], r.get("of"), r.get("share")) == ("worth", "paper", 0.6))
    assert found["kept"]["0.60"]["mean"] == pytest.approx(ours["mAP"] / full["mAP"], abs=1e-4)
    means = [
        np.mean([r["mAP"] for r in rows if r["policy"] == policy and r["share"] in PAPER and r["of"] == "paper"])
        for policy in ("worth", "static lots")
    ]
    assert found["gain_over_static"]["mean"] == pytest.approx(means[0] - means[1], abs=0.01)
    at = [row["mean"] for row in found["gain_over_static_at"].values()]
    assert np.mean(at) == pytest.approx(means[0] - means[1], abs=0.01) and len(at) == len(PAPER)
    alone = summarise_choices([r for r in rows if not r["policy"].startswith("static")], ways, "worth", run.unit)
    assert set(found) - set(alone) == static
    start = {"run": "statics", "seed": 0, "policy": "two passes", "of": "paper", "mAP": 10.0}
    passes = [{**start, "share": share} for share in PAPER]
    gain = summarise_choices(rows + [{**row, "samples": np.full(3, 10.0)} for row in passes], ways, "worth", run.unit)
    assert list(gain["gain_over_two_passes"]) == ["two passes"]
    assert gain["gain_over_two_passes"]["two passes"]["mean"] == pytest.approx(means[0] - 10, abs=0.01)


def test_seeds_are_compared_with_static_detectors_of_their_own(run):
    """The rule reaches 50 and 54; statics of the same seeds 49 and 51, or those of one seed 49 for both."""

    def row(policy, seed, value, **more):
        return {"run": policy, "policy": policy, "seed": seed, "mAP": value, "samples": np.full(3, value), **more}

    def rows(policy, seed, value):  # all budgets
        budgets = [("own", share) for share in choosing.OWN] + [("paper", share) for share in PAPER]
        return [row(policy, seed, value, of=of, share=share) for of, share in budgets]

    ours = [*rows("worth", 3, 50.0), *rows("lots for worth", 3, 45.0), *rows("oracle", 3, 60.0)]
    ours += [*rows("worth", 1, 54.0), *rows("lots for worth", 1, 47.0), *rows("oracle", 1, 61.0)]
    for seed in (3, 1):
        ours += [*rows("max softmax", seed, 48.0), *rows("lots for max softmax", seed, 48.0)]
    whole, cut = {"exit 4": 1}, {"exit 4": 0}  # who is cut off early on larger images may cost as much
    first = [*rows("static lots", 3, 49.0), row("static", 3, 60.0, gmacs=4.0, **whole)]
    first += [row("static", 3, 40.0, gmacs=2.0, **whole), row("static", 3, 41.0, gmacs=4.0, **cut)]
    second = [*rows("static lots", 1, 51.0), row("static", 1, 60.0, gmacs=3.8, **whole)]
    second += [row("static", 1, 72.0, gmacs=4.0, **whole)]
    ways = [way_to_oracle(run, 3)] * 2
    both, one = (summarise_choices([*others, *ours], ways, "worth", 4.0) for others in (second + first, first))
    assert both["gain_over_fixed"]["0.60"]["mean"] == 6 == one["gain_over_fixed"]["0.60"]["mean"]
    assert one["rule_score_of_all_exits"]["mean"] == pytest.approx((5 / 15 + 7 / 14) / 2, abs=1e-3)
    assert one["paper_rule_score_of_all_exits"]["mean"] == 0
    assert (both["gain_over_static"]["mean"], one["gain_over_static"]["mean"]) == (2, 3)
    assert both["gain_over_static"]["high"] == pytest.approx(2 + 12.706 * 1, abs=0.01), "Student's t over two seeds"
    assert both["kept"]["0.60"]["mean"] == pytest.approx((50 / 60 + 54 / 72) / 2, abs=1e-4)
    assert one["kept"]["0.60"]["mean"] == pytest.approx(52 / 60, abs=1e-4)


def test_seeds_that_cannot_be_compared(tmp_path, monkeypatch):
    seeds = {"a-0": 0, "a-1": 1, "b-0": 0, "s-0": 0, "s-2": 2}
    monkeypatch.setattr(choosing, "open_run", lambda run, *_: Choosing(run, None, None, 1.0, seeds[run]))
    with pytest.raises(ValueError, match=r"differ in their seed or image size, got the seeds \[0, 0\]"):
        choosing.compare(["a-0", "b-0"], tmp_path, tmp_path)
    sizes = {"a-0": 1.0, "a-1": 2.0}
    monkeypatch.setattr(choosing, "open_run", lambda run, *_: Choosing(run, None, None, sizes[run], seeds[run]))
    with pytest.raises(ValueError, match="must be for images of the same size, got units {1: 2.0, 0: 1.0}"):
        choosing.compare(["a-0", "a-1"], tmp_path, tmp_path)
    monkeypatch.setattr(choosing, "open_run", lambda run, *_: Choosing(run, None, None, 1.0, seeds[run]))
    with pytest.raises(ValueError, match=r"static runs of the seeds \[0, 2\] for runs of \[0, 1\]"):
        choosing.compare(["a-0", "a-1"], tmp_path, tmp_path, static=["s-0", "s-2"])


def test_the_way_to_the_oracle(run):
    """Of a rule whose order is that of the gains most, of one by chance nothing."""
    ways = way_to_oracle(run, 3)
    assert set(ways) == {"worth", "worth of detections", "max softmax"}
    assert all(abs(way["mAP"]) < 0.5 and len(way["samples"]) == 3 for way in ways.values()), "logits are noise here"


def test_detectors_that_find_nothing(run):
    """As after a first short training: there is no way to an oracle that is not above lots, and no share to keep."""
    nothing = Detections.of(
        [{"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0).long()}] * 600
    )
    blind = Choosing("blind", *(replace(records, found=nothing) for records in (run.calibration, run.test)), unit=4.0)
    rows = curve(blind, 3) + static_rows([blind, blind], [1, 4], 3)
    found = summarise_choices(rows, [way_to_oracle(blind, 3)], "worth", 4.0)
    assert math.isnan(found["rule_score"]["mean"]) and math.isnan(found["kept"]["0.60"]["mean"])
    assert found["gain_over_static"]["mean"] == found["gain_over_fixed"]["0.60"]["mean"] == 0


def test_training_what_is_not_there_yet(tmp_path, monkeypatch):
    """First the deep exits, then the early ones; a photo that is missing is said before."""
    export_scenes(tmp_path, {"train": 2, "calibration": 1, "test": 1}, workers=1)
    ours, _ = choosing_plan(tmp_path, tmp_path / "runs", epochs=1)
    asked = []
    monkeypatch.setattr(choosing, "run_jobs", lambda jobs, *_: asked.extend(jobs) or [])
    assert train_all(ours[:1], 1, print) == [tmp_path / "runs" / "early-0"]
    assert [word for word, _ in asked[0].steps] == ["training deep-0", "training early-0"]
    monkeypatch.setattr(choosing, "run_jobs", lambda jobs, *_: [job.name for job in jobs])
    with pytest.raises(ValueError, match="not trained: early-0"):
        train_all(ours[:1], 1, print)
    next((tmp_path / "calibration").iterdir()).unlink()
    with pytest.raises(ValueError, match="no such image"):
        train_all(ours, 1, print)
