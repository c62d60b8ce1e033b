"""Policies, what they reach from records, the oracle, bootstrap intervals and measured time."""

import itertools
import math
import re

import numpy as np
import pytest
import torch
from made_records import judged, made_records

from earlyexit import exit_proportions
from earlyexit.evaluation import cost as latency
from earlyexit.evaluation import scores as best_case
from earlyexit.evaluation.coco import METRICS
from earlyexit.evaluation.cost import measure_latency
from earlyexit.evaluation.matching import Matches, average_precision, match_records
from earlyexit.evaluation.policies import early_share, few_images, oracle_exits, random_exits, threshold_exits
from earlyexit.evaluation.scores import (
    _fit,
    bootstrap,
    bootstrap_difference,
    correct_classes,
    evaluate_exits,
    evaluate_records,
    marginal_precision,
    oracle,
    random_exit,
    rescale_records,
    sweep,
)


@pytest.fixture(scope="module")
def records():
    """One object in each image, no crowds."""
    return made_records(images=60, objects=(1,), crowds=0, seed=2)


def test_an_image_leaves_at_the_first_exit_that_is_sure_enough():
    confidence = torch.tensor([[0.9, 0.2, 0.2, 0.2], [0.9, 0.8, 0.2, 0.2], [0.1, 0.9, 0.7, 0.2], [0.1] * 4])
    assert threshold_exits(confidence, (0.85, 0.5, 0.3)).tolist() == [1, 2, 3, 4]
    assert threshold_exits(confidence, None).tolist() == [4, 4, 4, 4]
    assert threshold_exits(confidence, (math.inf, 0.0, 0.0)).tolist() == [2, 2, 2, 2]


def test_a_confidence_equal_to_its_threshold_leaves():
    confidence = torch.full((4, 1), 0.7)
    exact = float(confidence[0, 0])
    assert threshold_exits(confidence, (exact, 1, 1)).tolist() == [1]
    assert threshold_exits(confidence, (np.nextafter(exact, 1), 1, 1)).tolist() == [4]  # the same in float32


def test_evaluating_exits_equals_counting_by_hand(records):
    chosen = torch.arange(60) % 4 + 1
    result = evaluate_exits(records, chosen)
    assert {name: result[name] for name in METRICS} == judged(records, chosen)
    assert result["exits"] == {1: 15, 2: 15, 3: 15, 4: 15} and result["images"] == 60
    assert result["gmacs"] == pytest.approx(sum(float(records.gmacs[i % 4, i]) for i in range(60)) / 60, rel=1e-12)
    assert result["gmacs_full"] == pytest.approx(float(records.gmacs[3].mean()), rel=1e-12)
    right = sum(int(records.logits[i % 4, i].argmax()) == int(records.truth.labels[i]) for i in range(60))
    assert result["accuracy"] == pytest.approx(100 * right / 60) and 0 < right < 60


def test_accuracy_needs_single_objects():
    several = made_records()
    assert correct_classes(several) is None
    assert evaluate_exits(several, torch.ones(40, dtype=torch.int64))["accuracy"] is None


def test_sweep_calibrates_each_setting(records):
    other = made_records(images=80, objects=(1,), crowds=0, seed=7)
    rows = sweep(records, other, settings=(1, 20, 34))
    assert [row["index"] for row in rows] == [1, 20, 34]
    for row in rows:
        assert row["wanted"] == exit_proportions()[row["index"] - 1].tolist()
        again = evaluate_records(records, row["thresholds"])
        assert {key: row[key] for key in again} == again
        assert row["realised"] == [count / 60 for count in row["exits"].values()]
    assert rows[2]["exits"] == {1: 0, 2: 0, 3: 0, 4: 60}
    assert sweep(records, other.confidence, settings=[20]) == rows[1:2]
    assert [row["index"] for row in sweep(records, other, settings=3, metrics=("mAP",))] == [1, 2, 3]
    # On the images that they were calibrated on, thresholds let go exactly the wanted number.
    shares = sweep(records, records, settings=[20])[0]
    assert shares["realised"][:3] == [math.floor(60 * share) / 60 for share in shares["wanted"][:3]]


def test_sweep_refuses_what_does_not_belong_together(records):
    for settings in ([35], 35, 0, -3, []):
        with pytest.raises(ValueError, match=rf"1 to 34, at least one, got {re.escape(str(settings))}"):
            sweep(records, records, settings=settings)
    other = made_records(images=60)
    other.about["weights"] = "others"
    with pytest.raises(ValueError, match="same weights: calibrated on 'others', used on None"):
        sweep(records, other)


@pytest.mark.parametrize("metrics", [["foo"], "mAP", []])
def test_metrics_that_are_none(records, metrics):
    with pytest.raises(ValueError, match=rf"metrics must be a list of some of .* got {re.escape(repr(metrics))}"):
        evaluate_records(records, None, metrics=metrics)


@pytest.mark.parametrize(("image", "exit"), [(60, 1), (-1, 1), (0, 5)])
def test_detections_of_nothing(records, image, exit):
    with pytest.raises(ValueError, match="must be .* got"):
        records.detection(image, exit)


@pytest.mark.parametrize(
    ("budgets", "rounds", "said"), [(2, 0, "rounds .* got 0"), (0, 4, "budgets .* got 0"), (-1, 4, "budgets .* got -1")]
)
def test_an_oracle_of_nothing(records, budgets, rounds, said):
    with pytest.raises(ValueError, match=said):
        oracle(records, budgets, rounds=rounds)


@pytest.mark.parametrize("gain", [math.nan, -1.0])
def test_scales_that_are_none(records, gain):
    with pytest.raises(ValueError, match="score_scales must be a positive gain"):
        rescale_records(records, [(gain, 0.0)] * 4)


def test_a_fitted_gain_keeps_the_order():
    """Also where the better scores are the worse detections."""
    gain, _ = _fit(torch.tensor([-2.0, -1.0, 1.0, 2.0]).double(), torch.tensor([1.0, 0.5, 0.5, 0.0]).double())
    assert gain > 0


def test_random_exits_follow_their_shares():
    chosen = random_exits(20_000, (0.1, 0.2, 0.3, 0.4), torch.Generator().manual_seed(0))
    shares = torch.bincount(chosen, minlength=5)[1:] / 20_000
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015)
    again = random_exits(20_000, (0.1, 0.2, 0.3, 0.4), torch.Generator().manual_seed(0))
    assert torch.equal(chosen, again)
    with pytest.raises(ValueError, match=r"sum to 1, got \[0.5, 0.5, 0.5, 0.0\]"):
        random_exits(3, (0.5, 0.5, 0.5, 0), torch.Generator())


def test_random_exit_is_the_mean_and_spread_of_its_draws(records):
    shares = (0.25, 0.25, 0.25, 0.25)
    result = random_exit(records, shares, repeats=5, seed=3)
    generator = torch.Generator().manual_seed(3)
    draws = [evaluate_exits(records, random_exits(60, shares, generator)) for _ in range(5)]
    for name in ("mAP", "gmacs", "accuracy"):
        values = [draw[name] for draw in draws]
        assert result["mean"][name] == pytest.approx(np.mean(values), rel=1e-12)
        assert result["std"][name] == pytest.approx(np.std(values, ddof=1), rel=1e-9)
    assert len(set(draw["mAP"] for draw in draws)) == 5
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        random_exit(records, shares, repeats=0)


def test_no_choice_is_worth_more_than_the_oracle_at_its_compute():
    generator = torch.Generator().manual_seed(0)
    utility = torch.rand(4, 5, generator=generator, dtype=torch.float64).cumsum(0)
    gmacs = torch.rand(4, 5, generator=generator, dtype=torch.float64).cumsum(0)
    every = torch.tensor(list(itertools.product(range(4), repeat=5)))
    worth, cost = (values.T[torch.arange(5), every].mean(1) for values in (utility, gmacs))
    reached = set()
    for budget in np.linspace(float(gmacs[0].mean()), float(gmacs[3].mean()), 15):
        chosen = oracle_exits(utility, gmacs, budget)
        ours, spent = (float(v.gather(0, chosen[None] - 1).mean()) for v in (utility, gmacs))
        assert spent <= budget + 1e-12
        assert ours == pytest.approx(float(worth[cost <= spent + 1e-12].max()))
        reached.add(tuple(chosen.tolist()))
    assert len(reached) > 4
    with pytest.raises(ValueError, match="the budget is 0"):
        oracle_exits(utility, gmacs, 0)


def test_marginal_precision_by_hand():
    """Three images with one object each. Ranked at full depth: a hit of image 0, a false alarm of 1, a hit of 2."""
    exits, images = np.array([1, 2, 4, 4, 4, 3]), np.array([1, 1, 0, 1, 2, 1])  # best score first
    true = np.array([[[True, False, True, False, True, True]]])
    matches = Matches(
        images, exits, np.zeros(6, dtype=int), np.arange(6), true, ~true, np.array([[[1, 1, 1]]]), np.zeros(6)
    )
    worth = marginal_precision(matches, torch.tensor([4, 4, 4]))
    # A hit before all others: 1/1 of its own; the other hits gain 1/1 and 1/3 and lose 1/1^2 and 2/3^2.
    assert worth[0, 1] == pytest.approx((1 + (1 + 1 / 3) - (1 + 2 / 9)) / 3)
    assert worth[1, 1] == pytest.approx(-(1 + 2 / 9) / 3)  # a false alarm before all others
    assert worth[2, 1] == pytest.approx(2 / 3 / 3)  # a hit behind all others
    assert worth[3, 0] == pytest.approx((1 + 1 / 3 - 2 / 9) / 3)  # the hits and the false alarm that are there
    assert worth[3, 1] == pytest.approx(-2 / 9 / 3)
    assert worth[3, 2] == pytest.approx(2 / 3 / 3)
    assert not worth[:3, [0, 2]].any()  # no detection, no worth


def test_the_oracle_is_above_every_other_policy(records):
    rivals = sweep(records, records, settings=range(1, 35, 3), metrics=("mAP",))
    best = oracle(records, [row["gmacs"] for row in rivals], metrics=("mAP",))
    for ours, rival in zip(best, rivals, strict=True):
        assert ours["gmacs"] <= rival["gmacs"] + 1e-9
        assert ours["mAP"] > rival["mAP"]
    spread = oracle(records, 3, metrics=("mAP",))
    least, most = float(records.gmacs[0].mean()), float(records.gmacs[3].mean())
    assert [row["budget"] for row in spread] == pytest.approx([least, (least + most) / 2, most])


def test_the_oracle_keeps_its_best_round(records, monkeypatch):
    first, last = (oracle(records, [2.2], rounds=rounds)[0] for rounds in (1, 4))
    assert first["exits"] != last["exits"]
    falling = iter((9.0, 5.0, 3.0, 1.0))
    monkeypatch.setattr(best_case, "map_of", lambda *args: next(falling))
    best = oracle(records, [2.2])[0]
    assert torch.equal(best.pop("chosen"), first.pop("chosen")) and best == first


def test_bootstrap_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(5, 2, 400)
    interval = bootstrap(lambda counts: counts @ values / counts.sum(), 400, repeats=1000)
    assert interval.value == pytest.approx(values.mean())
    error = values.std() / 20
    assert interval.samples.std() == pytest.approx(error, rel=0.1)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=error / 4)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=error / 4)
    assert 0 < interval.low < 5 < interval.high


def test_paired_differences_cancel_what_both_share():
    values = np.random.default_rng(0).normal(5, 2, 400)
    shifted = bootstrap_difference(lambda c: c @ (values + 0.1) / 400, lambda c: c @ values / 400, 400)
    assert (shifted.low, shifted.high) == pytest.approx((0.1, 0.1))


def test_bootstrap_repeats_itself_and_draws_every_image_alike(records):
    matches, chosen = match_records(records), torch.full((60,), 4)
    seen = []

    def statistic(counts):
        seen.append(counts)
        return average_precision(matches, chosen, counts, metrics=("mAP",))["mAP"]

    first = bootstrap(statistic, 60, repeats=30, seed=4)
    assert {int(counts.sum()) for counts in seen} == {60}
    assert np.array_equal(first.samples, bootstrap(statistic, 60, repeats=30, seed=4).samples)
    assert not np.array_equal(first.samples, bootstrap(statistic, 60, repeats=30, seed=5).samples)
    assert first.low < first.value < first.high
    for wrong in ({"repeats": 0}, {"level": 1.0}):
        with pytest.raises(ValueError, match="got"):
            bootstrap(statistic, 60, **wrong)


def test_samples_without_a_value_are_left_out():
    interval = bootstrap(lambda counts: None if counts[0] == 0 else 1.0, 2, repeats=50)
    assert np.isnan(interval.samples).any() and (interval.low, interval.high) == (1.0, 1.0)


def test_latency_takes_turns_and_counts_per_image(nano, monkeypatch):
    now, calls = [0.0], []

    def run(images, exit):
        calls.append((len(images), exit))
        slow = 1.0 if len(calls) <= 4 else 0.0  # the first turn, which warms up
        now[0] += 0.010 * exit * len(images) + slow

    monkeypatch.setattr(nano, "forward", run)
    monkeypatch.setattr(latency.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(latency, "count_macs", lambda model, size: {k: {"total": sum(size) * k} for k in (1, 2, 3, 4)})
    rows = measure_latency(nano, [torch.rand(3, 128, 128)] * 3, batch_sizes=(1, 2), repeats=3, warmup=1)
    assert calls == [(1, k) for k in (1, 2, 3, 4)] * 4 + [(2, k) for k in (1, 2, 3, 4)] * 4
    assert [(row["batch_size"], row["exit"]) for row in rows] == [(b, k) for b in (1, 2) for k in (1, 2, 3, 4)]
    assert [row["median_ms"] for row in rows] == pytest.approx([10, 20, 30, 40] * 2)
    assert [row["p95_ms"] for row in rows] == pytest.approx([10, 20, 30, 40] * 2)
    assert [row["gmacs"] for row in rows] == [256, 512, 768, 1024] * 2
    assert {(row["height"], row["width"], row["threads"], row["device"]) for row in rows} == {
        (128, 128, torch.get_num_threads(), "cpu")
    }


def test_latency_wants_images_of_one_size(nano):
    with pytest.raises(ValueError, match=r"\(3, 64, 64\), \(3, 64, 96\)"):
        measure_latency(nano, [torch.rand(3, 64, 64), torch.rand(3, 64, 96)])


def test_a_call_is_timed_once(monkeypatch):
    ticks, calls = iter([2.0, 5.0]), []
    monkeypatch.setattr(latency.time, "perf_counter", lambda: next(ticks))
    assert latency.seconds(lambda: calls.append(1), torch.device("cpu")) == 3 and calls == [1]


@pytest.mark.parametrize("images", [30, 100, 400])
def test_the_share_that_leaves_is_known_as_well_as_order_statistics_say(images):
    """With one exit, the share of new images above the k-th largest of n is beta distributed: deviation as below."""
    scores = torch.rand(4, images, generator=torch.Generator().manual_seed(images))
    low, high = early_share(scores, torch.tensor([0.6, 0.0, 0.0, 0.4]), rounds=2000)
    deviation = (0.6 * 0.4 / (images + 2)) ** 0.5
    assert (high - low) / 2 == pytest.approx(1.645 * deviation, rel=0.12)
    assert (high + low) / 2 == pytest.approx(0.6, abs=0.6 * deviation)


def test_few_images_are_said_to_be_few():
    shares = exit_proportions()[16]
    draw = lambda images: torch.rand(4, images, generator=torch.Generator().manual_seed(0))  # noqa: E731
    (said,) = few_images(draw(40), shares)
    low, high = early_share(draw(40), shares)
    assert said.startswith(
        f"thresholds from 40 image(s) are rough: of new ones {low:.0%} to {high:.0%} will leave early"
    )
    assert "where 61% are meant" in said and low < 0.53 and high > 0.68
    assert few_images(draw(600), shares) == []
    assert "of new ones 0% to 0%" in few_images(draw(1), shares)[0]  # no image is left to take a threshold from
    assert few_images(draw(1), exit_proportions()[33]) == []  # nobody is meant to leave
    equal = torch.full((4, 600), 0.5)  # they can only leave together
    assert "of new ones 100% to 100%" in few_images(equal, shares)[0]
