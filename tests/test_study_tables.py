"""Tables and verdicts from made-up results, compared with numbers found by hand."""

import math

import numpy as np
import pytest
from made_study import FULL_GMACS, made_models

from earlyexit.study import claims, claims_curves, claims_exits, claims_theta
from earlyexit.study.difficulty_table import difficulty_table
from earlyexit.study.estimates import Estimate, at_gmacs, difference, estimate, seed_half
from earlyexit.study.files import read_table, write_table
from earlyexit.study.models import Models, at_setting
from earlyexit.study.summary import summarise
from earlyexit.study.tables import (
    accuracy_table,
    fillers_table,
    forced_table,
    random_table,
    shares_table,
    sweep_table,
    theta_table,
)

NOISE = 1.96 * math.sqrt(2)  # 1.96 standard deviations of the samples -1 and 1


@pytest.fixture(scope="module")
def models():
    return Models(made_models())


def test_estimate_adds_images_and_seeds_in_quadrature():
    found = estimate([1.0, 2.0, 3.0], [[0, 2], [1, 3], [2, 4]])
    images = 1.96 * np.std([1, 3], ddof=1)
    seeds = 4.303 * 1 / math.sqrt(3)
    assert found.mean == 2
    assert found.high - 2 == pytest.approx(math.hypot(images, seeds))
    assert 2 - found.low == pytest.approx(found.half)
    assert seed_half([5.0]) == 0
    assert estimate([5.0], [[4.0, 6.0]], extra=3.0).half == pytest.approx(math.hypot(NOISE, 3))


def test_difference_cancels_what_both_share():
    found = Models(made_models())
    exact = difference(*found.pairs("proposed", "baseline"), at_setting(34))
    assert (exact.mean, exact.low, exact.high) == (10, 10, 10)
    apart = Models(made_models(own=2.0))
    assert difference(*apart.pairs("proposed", "baseline"), at_setting(34)).half == pytest.approx(NOISE)


def test_pairs_have_the_same_seeds():
    found = made_models()
    del found["baseline-1"]
    first, second = Models(found).pairs("proposed", "baseline")
    assert [m["name"] for m in first] == ["proposed-0", "proposed-2"]
    assert [m["name"] for m in second] == ["baseline-0", "baseline-2"]


def test_at_gmacs_lies_on_the_line_between_settings():
    rows = [{"gmacs": 2.0, "mAP": 30.0, "samples": [20, None]}, {"gmacs": 1.0, "mAP": 10.0, "samples": [10, 1]}]
    found = at_gmacs(rows, 1.25)
    assert found["mAP"] == 15
    assert found["samples"][0] == 12.5
    assert at_gmacs(rows, 5.0)["mAP"] == 30


def test_sweep_table(models):
    rows = sweep_table(models)
    assert len(rows) == 2 * 2 * 34
    last = next(r for r in rows if (r["model"], r["filler"], r["index"]) == ("proposed", "zero", 34))
    assert last == {
        **{"model": "proposed", "filler": "zero", "index": 34, "gmacs": 2.0, "saved": 0.0, "mAP": 26.0},
        **{"low": round(26 - NOISE, 2), "high": round(26 + NOISE, 2), "seeds": 3},
    }
    assert [r["saved"] for r in rows[:34]] == sorted((r["saved"] for r in rows[:34]), reverse=True)


def test_spread_of_seeds_widens_the_interval():
    (row,) = (r for r in sweep_table(Models(made_models(per_seed=3.0)))[68:102] if r["index"] == 34)
    assert row["model"] == "proposed" and row["mAP"] == 33
    assert row["high"] - 33 == pytest.approx(math.hypot(NOISE, 4.303 * 3 / math.sqrt(3)), abs=0.006)


def test_other_tables(models):
    (row,) = (r for r in random_table(models) if (r["model"], r["index"]) == ("proposed", 30))
    assert (row["mAP"], row["spread"]) == (20 + 10 - 2 - 6, 2)
    forced = {(r["model"], r["filler"], r["exit"]): r for r in forced_table(models)}
    assert forced["baseline", "downsample", 1]["mAP"] == 17
    assert forced["baseline", "downsample", 1]["gmacs"] == FULL_GMACS[0]
    assert forced["fair-zero", "zero", 4]["AP50"] == 21
    accuracy = {(r["model"], r["exit"]): r for r in accuracy_table(models)}
    assert accuracy["proposed", 3]["accuracy"] == 63
    assert accuracy["grid-theta1-lambda1", 4]["seeds"] == 1
    shares = [r for r in shares_table(models) if (r["model"], r["index"]) == ("baseline", 20)]
    assert sum(r["realised"] for r in shares) == pytest.approx(100, abs=0.02)
    assert all(r["wanted"] == r["realised"] for r in shares)


def test_theta_table_is_ordered_and_says_the_epochs():
    rows = theta_table(Models(made_models(grid={(0.011, 1.0): 12.5})))
    assert len(rows) == 10 * 34
    assert [(r["theta"], r["lambda"]) for r in rows[::34]][:3] == [(1, 1), (0.5, 1), (0.5, 0.5)]
    assert {r["epochs"] for r in rows} == {2}
    (row,) = (r for r in rows if (r["theta"], r["index"]) == (0.011, 34))
    assert row["mAP"] == 12.5


def test_fillers_table_has_both_ways(models):
    rows = {(r["way"], r["index"]): r for r in fillers_table(models)}
    assert len(rows) == 68
    published, fair = rows["published", 34], rows["fair", 34]
    assert (published["downsample"], published["zero"], published["difference"]) == (30, 26, 4)
    # The fair way compares each model under its own filler.
    assert (fair["downsample"], fair["zero"], fair["low"]) == (25, 21, 4)


def test_difficulty_table(models):
    rows = {(r["model"], r["measure"], r["of"], r["with"]): r for r in difficulty_table(models)}
    assert rows["proposed", "rank correlation", "exit taken", "size"]["high"] == -0.4
    assert rows["proposed", "mAP", "exit 2", "hard (difficulty)"]["value"] == 41
    assert rows["proposed", "share", "exit 3", "easy (difficulty)"]["value"] == 30
    changes = rows["proposed", "exit changes", "exit taken", "another seed"]
    assert (changes["value"], changes["low"], changes["high"]) == (33.33, 25, 50)


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
    assert claims_curves.along_the_sweep(models)["ours"]["mean"] == 10
    assert claims_curves.beats_random(models)["ours"]["mean"] == 6
    assert claims_curves.beats_random(Models(made_models(random=-0.1)))["holds"] == "no"
    assert claims_curves.downsampling_published(models)["holds"] == "yes"
    assert claims_curves.downsampling_fair(Models(made_models(zero=0)))["holds"] == "within noise"


def test_one_worse_setting_refutes_every_setting():
    found = made_models()
    for seed in range(3):
        worse = found[f"proposed-{seed}"]["fillers"]["downsample"]["random"][4]
        worse["mAP"], worse["samples"] = worse["mAP"] + 20, [s + 20 for s in worse["samples"]]
    row = claims_curves.beats_random(Models(found))
    assert row["holds"] == "no" and row["ours"]["mean"] > 0
    assert "higher beyond noise at 32, lower at 1" in row["detail"]


def test_claims_of_theta():
    best = Models(made_models(grid={(0.0115, 1.0): 25.0, (0.1, 1.0): 23.0}))
    assert claims_theta.best_theta(best)["ours"]["mean"] == 2
    assert claims_theta.best_theta(best)["holds"] == "yes"
    assert "theta 0.1 and" in claims_theta.best_theta(best)["detail"]
    assert claims_theta.best_theta(Models(made_models(grid={(0.1, 1.0): 23.0})))["holds"] == "no"
    assert claims_theta.small_changes(best)["ours"]["mean"] == 5
    assert claims_theta.small_changes(best)["paper"] == {"coco_single": 4.4, "ilsvrc_single": 0.8}
    assert claims_theta.smaller_lambda(best)["paper"] == {"coco_single": -4.3, "ilsvrc_single": 3.0}


def test_noise_of_seeds_is_part_of_a_difference_in_theta():
    noisy = Models(made_models(per_seed=3.0, grid={(0.0115, 1.0): 25.0}))
    found = claims_theta.best_theta(noisy)
    half = 4.303 * 3 * math.sqrt(2)  # of the difference of two trainings
    assert found["ours"]["high"] - found["ours"]["mean"] == pytest.approx(half, abs=0.006)
    assert found["holds"] == "within noise"


def test_claims_of_exits(models):
    rows = {r["name"]: r for r in claims_exits.easy_and_hard(models)}
    assert rows["easy and hard: size"]["holds"] == "yes"  # negative, as it should be
    assert rows["easy and hard: difficulty"]["ours"] == {"mean": 0.5, "low": 0.4, "high": 0.6}
    shares = claims_exits.calibrated_shares(models)
    assert shares["ours"]["mean"] == 0 and shares["holds"] == "yes"
    assert shares["paper"]["largest"] == 3.65
    off = made_models()
    for row in off["proposed-0"]["fillers"]["downsample"]["sweep"][:20]:
        row["realised"] = [row["realised"][0] + 0.2, row["realised"][1] - 0.2, *row["realised"][2:]]
    assert claims_exits.calibrated_shares(Models(off))["holds"] == "no"


def costs():
    total = {1: 141.0, 2: 150.0, 3: 153.0, 4: 154.6}
    compute = [
        {"model": m, "filler": "downsample", "exit": e, "part": "total", "gmacs": g}
        for m in ("nano", "regnet_y_800mf")
        for e, g in total.items()
    ]
    late = {"model": "regnet_y_800mf", "batch_size": 1, "exit": 1, "time_saved": 12.0, "low": 11.0, "high": 13.0}
    return compute, [{**late, "gmacs_saved": 8.8, "device": "cpu"}]


def test_summary_has_every_claim_or_says_what_is_left_out(models):
    found = summarise(models, *costs())
    assert found["left_out"] == [] and found["passes_ratio"] is None
    assert {r["holds"] for r in found["claims"]} <= {"yes", "no", "within noise"}
    assert len({r["name"] for r in found["claims"]}) == len(found["claims"]) == 19
    few = {name: model for name, model in made_models().items() if model["group"] != "grid"}
    less = summarise(Models(few), *costs())
    assert less["left_out"] == ["best_theta", "small_changes", "smaller_lambda", "accuracy_and_map"]
    ceiling = next(r for r in found["claims"] if r["name"] == "ceiling")
    assert ceiling["ours"]["mean"] == pytest.approx(100 * (1 - 141 / 154.6), abs=0.005)
    assert ceiling["paper"] == {"ceiling": 8.78}


def test_summary_takes_the_ratios_of_the_benchmark(models, tmp_path):
    (tmp_path / "b.json").write_text('{"passes_ratio": 374.0, "time_ratio": 123.456}')
    found = summarise(models, *costs(), tmp_path / "b.json")
    assert (found["passes_ratio"], found["time_ratio"]) == (374, 123.5)


def test_table_comes_back_as_it_was(tmp_path):
    rows = [{"model": "a", "n": 3, "value": 0.25, "low": None}, {"model": "b", "n": -1, "value": 1e-6, "low": 2.0}]
    write_table(tmp_path / "t.csv", rows)
    assert read_table(tmp_path / "t.csv") == rows
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_sign_of_an_interval():
    assert [Estimate(1, low, 3, 1).sign() for low in (0.1, 0.0, -1)] == [1, 0, 0]
    assert Estimate(-1, -2, -0.1, 1).sign() == -1


def test_fillers_are_compared_at_the_same_compute():
    found = made_models(zero=0.0)
    for model in found.values():
        for row in model["fillers"].get("zero", {"sweep": []})["sweep"]:
            row["gmacs"] += 0.02
    rows = [r for r in fillers_table(Models(found)) if r["index"] == 20]
    slope = 0.5 / made_step(19, 20)  # half a point of mAP an index
    for row in rows:
        assert row["difference"] == pytest.approx(0.02 * slope, abs=0.011)
    assert claims_curves.downsampling_published(Models(found))["holds"] == "yes"


def made_step(first: int, second: int) -> float:
    sweep = made_models()["proposed-0"]["fillers"]["downsample"]["sweep"]
    return sweep[second - 1]["gmacs"] - sweep[first - 1]["gmacs"]
