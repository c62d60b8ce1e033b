"""Verdicts from made-up results, compared with numbers found by hand."""

import json
import math

import pytest
from made_study import made_costs, made_early, made_models

from earlyexit.files import plain
from earlyexit.study import claims, open_study
from earlyexit.study.claims import summarise, summarise_beyond
from earlyexit.study.measure import load_models
from earlyexit.study.tables import Models, fillers_table


@pytest.fixture(scope="module")
def models():
    return Models(made_models())


def test_claims_of_what_is_better(models):
    found = claims.full_depth(models)
    assert (found["ours"]["mean"], found["holds"], found["seeds"]) == (10, "yes", 3)
    assert found["paper"] == {"coco_single": 3.8, "ilsvrc_single": 0.4}
    assert claims.full_depth(Models(made_models(gain=-2)))["holds"] == "no"
    assert claims.full_depth(Models(made_models(gain=2, own=9.0)))["holds"] == "within noise"
    assert claims.last_accuracy(models)["ours"]["mean"] == 10
    # Index 31 reaches 1.5 less than full depth.
    assert claims.same_or_less_compute(models)["ours"]["mean"] == 8.5
    assert claims.same_or_less_compute(models)["paper"] == {"coco_single": 0.4, "gmacs saved (%)": 0.52}
    assert claims.same_or_less_compute(Models(made_models(gain=1)))["holds"] == "no"
    assert claims.rises_by_3_8(Models(made_models(gain=5)))["holds"] == "no"
    assert claims.rises_by_3_8(Models(made_models(gain=5.5)))["holds"] == "yes"


def test_claims_of_curves(models):
    assert claims.along_the_sweep(models)["ours"]["mean"] == 10
    assert claims.beats_random(models)["ours"]["mean"] == 6
    assert claims.beats_random(Models(made_models(random=-0.1)))["holds"] == "no"
    assert claims.downsampling_published(models)["holds"] == "yes"
    assert claims.downsampling_fair(Models(made_models(zero=0)))["holds"] == "within noise"


def test_one_worse_setting_refutes_every_setting():
    found = made_models()
    for seed in range(3):
        worse = found[f"proposed-{seed}"]["fillers"]["downsample"]["random"][4]
        worse["mAP"], worse["samples"] = worse["mAP"] + 20, [s + 20 for s in worse["samples"]]
    row = claims.beats_random(Models(found))
    assert row["holds"] == "no" and row["ours"]["mean"] > 0
    assert "higher beyond noise at 32, lower at 1" in row["detail"]


def test_claims_of_theta():
    best = Models(made_models(grid={(0.0115, 1.0): 25.0, (0.1, 1.0): 23.0}))
    assert claims.best_theta(best)["ours"]["mean"] == 2
    assert claims.best_theta(best)["holds"] == "yes"
    assert "theta 0.1 and" in claims.best_theta(best)["detail"]
    assert claims.best_theta(Models(made_models(grid={(0.1, 1.0): 23.0})))["holds"] == "no"
    assert claims.small_changes(best)["ours"]["mean"] == 5
    assert claims.small_changes(best)["paper"] == {"coco_single": 4.4, "ilsvrc_single": 0.8}
    assert claims.smaller_lambda(best)["paper"] == {"coco_single": -4.3, "ilsvrc_single": 3.0}


def test_noise_of_seeds_is_part_of_a_difference_in_theta():
    noisy = Models(made_models(per_seed=3.0, grid={(0.0115, 1.0): 25.0}))
    found = claims.best_theta(noisy)
    half = 4.303 * 3 * math.sqrt(2)  # of the difference of two trainings
    assert found["ours"]["high"] - found["ours"]["mean"] == pytest.approx(half, abs=0.006)
    assert found["holds"] == "within noise"


def test_claims_of_exits(models):
    rows = {r["name"]: r for r in claims.easy_and_hard(models)}
    assert rows["easy and hard: size"]["holds"] == "yes"  # negative, as it should be
    assert rows["easy and hard: difficulty"]["ours"] == {"mean": 0.5, "low": 0.4, "high": 0.6}
    shares = claims.calibrated_shares(models)
    assert shares["ours"]["mean"] == 0 and shares["holds"] == "yes"
    assert shares["paper"]["largest"] == 3.65
    off = made_models()
    for row in off["proposed-0"]["fillers"]["downsample"]["sweep"][:20]:
        row["realised"] = [row["realised"][0] + 0.2, row["realised"][1] - 0.2, *row["realised"][2:]]
    assert claims.calibrated_shares(Models(off))["holds"] == "no"


def test_summary_has_every_claim_or_says_what_is_left_out(models):
    found = summarise(models, *made_costs())
    assert found["left_out"] == [] and found["passes_ratio"] is None
    assert {r["holds"] for r in found["claims"]} <= {"yes", "no", "within noise"}
    assert len({r["name"] for r in found["claims"]}) == len(found["claims"]) >= 19
    few = {name: model for name, model in made_models().items() if model["group"] != "grid"}
    less = summarise(Models(few), *made_costs())
    assert less["left_out"] == ["best_theta", "small_changes", "smaller_lambda", "accuracy_and_map"]
    ceiling = next(r for r in found["claims"] if r["name"] == "ceiling")
    assert ceiling["ours"]["mean"] == pytest.approx(100 * (1 - 141 / 154.6), abs=0.005)
    assert ceiling["paper"] == {"ceiling": 8.78}


def test_summary_takes_the_ratios_of_the_benchmark(models, tmp_path):
    (tmp_path / "b.json").write_text('{"passes_ratio": 374.0, "time_ratio": 123.456}')
    found = summarise(models, *made_costs(), tmp_path / "b.json")
    assert (found["passes_ratio"], found["time_ratio"]) == (374, 123.5)


def test_fillers_are_compared_at_the_same_compute():
    found = made_models(zero=0.0)
    for model in found.values():
        for row in model["fillers"].get("zero", {"sweep": []})["sweep"]:
            row["gmacs"] += 0.02
    rows = [r for r in fillers_table(Models(found)) if r["index"] == 20]
    slope = 0.5 / made_step(19, 20)  # half a point of mAP an index
    for row in rows:
        assert row["difference"] == pytest.approx(0.02 * slope, abs=0.011)
    assert claims.downsampling_published(Models(found))["holds"] == "yes"


def made_step(first: int, second: int) -> float:
    sweep = made_models()["proposed-0"]["fillers"]["downsample"]["sweep"]
    return sweep[second - 1]["gmacs"] - sweep[first - 1]["gmacs"]


def proposed(value):
    sweep = [{"mAP": value}] * 34
    return {"filler": "downsample", "fillers": {"downsample": {"sweep": sweep}}}


def test_summary_beyond_compares_with_the_aims():
    times = {name: {"mean": m, "low": m, "high": m} for name, m in (("batch1", 0.6), ("batch16", 0.7))}
    models = [made_early(), made_early("early-1", 62.0, (0.97, 0.99, 0.87))]
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
    broken = made_early()
    broken["budgets"] = broken["budgets"][:2]
    with pytest.raises(ValueError, match="early-0 has no thresholds for a budget of 0.35"):
        summarise_beyond([broken], [proposed(61.0)], times)


def test_verdicts_of_the_package_follow_from_its_models():
    study = open_study()
    models, rows = Models(load_models(study.folder)), (study.table("compute"), study.table("latency"))
    found = json.loads(json.dumps(plain(summarise(models, *rows))))
    ratios = ("passes_ratio", "time_ratio")  # of a benchmark
    found |= {name: study.summary[name] for name in ratios}
    assert found == study.summary, "`make study` writes the verdicts of other claims anew; it trains nothing twice"
