"""Rules of leaving, the router, and thresholds for a budget."""

import math

import pytest
import torch
from made_records import made_records

from earlyexit.evaluation.fitting import (
    EARLY_SHARES,
    all_choices,
    cross_fitted,
    fit_router,
    of_images,
    thresholds_for_budget,
)
from earlyexit.evaluation.matching import average_precision, match_records
from earlyexit.evaluation.policies import rule_scores, threshold_exits
from earlyexit.evaluation.scores import evaluate_records
from earlyexit.model.exits import Agreement, Certainty, DetectionScore, make_rule, rule_features


@pytest.fixture(scope="module")
def records():
    return made_records(images=120, objects=(1,), crowds=0, seed=3)


def test_scores_by_hand(records):
    p = records.logits.double().softmax(2)
    entropy = -(p * p.log()).sum(2)
    torch.testing.assert_close(
        rule_scores(records, Certainty()).double(), 1 - entropy / math.log(p.shape[2]), rtol=1e-4, atol=1e-5
    )
    overlap = rule_scores(records, Agreement())
    assert torch.equal(overlap[0], records.confidence[0])
    torch.testing.assert_close(overlap[2].double(), torch.minimum(p[2], p[1]).sum(1), rtol=1e-5, atol=1e-6)
    best = rule_scores(records, DetectionScore())
    for exit, image in ((1, 0), (2, 5), (4, 17), (3, 119)):
        scores = records.detection(image, exit)["scores"]
        assert best[exit - 1, image] == (scores.max() if len(scores) else 0)


def test_certain_logits_are_certain_and_level_ones_are_not(records):
    sure, unsure = torch.zeros_like(records.logits), torch.zeros_like(records.logits)
    sure[..., 2] = 50
    made = {name: records.__class__(**{**vars_of(records), "logits": x}) for name, x in (("s", sure), ("u", unsure))}
    for rule in ("max softmax", "entropy", "agreement"):
        sure, unsure = (rule_scores(made[name], make_rule(rule)) for name in ("s", "u"))
        assert sure[1:].min() > 0.999
        assert sure[2].min() > unsure[2].max() or rule == "agreement"
    assert rule_scores(made["u"], Certainty()).abs().max() < 1e-5


def vars_of(records):
    return {name: getattr(records, name) for name in ("image_ids", "logits", "gmacs", "found", "truth", "about")}


def test_a_router_sees_nothing_of_later_exits(records):
    other = records.logits.clone()
    other[2:] = torch.randn(other[2:].shape)
    changed = records.__class__(**{**vars_of(records), "logits": other})
    for exit in (1, 2):
        assert torch.equal(rule_features(records.exit(exit)), rule_features(changed.exit(exit)))
    assert not torch.equal(rule_features(records.exit(3)), rule_features(changed.exit(3)))


def test_router_finds_a_gain_that_the_confidence_tells(records):
    """Where low confidence at exit 1 means gain, the fitted scores have the order of the confidence."""
    router = fit_router(records, steps=5)
    assert sum(p.numel() for p in router.parameters()) < 500
    assert rule_scores(records, router).shape == (4, len(records)) and (rule_scores(records, router)[3] == 1).all()
    again = fit_router(records, steps=5)
    assert torch.equal(rule_scores(records, router), rule_scores(records, again))
    features = rule_features(records.exit(1))
    aim = -features[:, 0]
    net, mean, std = router.nets[0], features.mean(0), features.std(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.huber_loss(net((features - mean) / std)[:, 0], aim).backward()
        optimizer.step()
    order = torch.corrcoef(torch.stack([rule_scores(records, router)[0].logit(), records.confidence[0]]))[0, 1]
    assert order > 0.95


def test_thresholds_keep_the_budget_and_beat_all_that_could_be_tried(records):
    full = float(records.gmacs[-1].mean())
    for share in (0.6, 0.75, 0.9):
        found = thresholds_for_budget(records, gmacs=share * full, repeats=10)
        result = evaluate_records(records, found.thresholds, metrics=("mAP",))
        assert result["gmacs"] == pytest.approx(found.gmacs) and found.gmacs <= share * full + 1e-9
        assert result["mAP"] == pytest.approx(found.mAP) and found.share == pytest.approx(found.gmacs / full)
        assert found.loss_at_most >= found.loss
        one = [float(records.confidence[0].quantile(1 - s)) for s in EARLY_SHARES[1:-1]]
        singles = [evaluate_records(records, (t, math.inf, math.inf), metrics=("mAP",)) for t in one]
        allowed = [r["mAP"] for r in singles if r["gmacs"] <= share * full]
        assert found.mAP >= max(allowed, default=0) - 1.5  # a first-order search on a coarse grid


def test_the_loss_is_against_full_depth(records):
    found = thresholds_for_budget(records, gmacs=0.8 * float(records.gmacs[-1].mean()), repeats=10)
    full = average_precision(match_records(records), torch.full((len(records),), 4), metrics=("mAP",))["mAP"]
    assert found.loss == pytest.approx(full - found.mAP)


def test_least_compute_for_a_precision(records):
    best = thresholds_for_budget(records, gmacs=float(records.gmacs[-1].mean()), repeats=2)
    found = thresholds_for_budget(records, min_map=0.9 * best.mAP, repeats=2)
    assert found.mAP >= 0.9 * best.mAP and found.gmacs <= best.gmacs


def test_more_compute_is_never_worse(records):
    full = float(records.gmacs[-1].mean())
    front = [thresholds_for_budget(records, gmacs=share * full, repeats=2) for share in (0.6, 0.7, 0.8, 0.9, 1.0)]
    assert [b.gmacs for b in front] == sorted(b.gmacs for b in front)
    assert all(later.mAP >= earlier.mAP - 0.5 for earlier, later in zip(front, front[1:], strict=False))


def test_other_scores_choose_other_images(records):
    budget = 0.6 * float(records.gmacs[-1].mean())
    scores = torch.rand(4, len(records), generator=torch.Generator().manual_seed(0))
    found = thresholds_for_budget(records, gmacs=budget, scores=scores, repeats=2)
    chosen = threshold_exits(scores, found.thresholds)
    assert float(records.gmacs.gather(0, chosen[None] - 1).mean()) == pytest.approx(found.gmacs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "give either gmacs or min_map"),
        ({"gmacs": 1.0, "min_map": 3.0}, "give either gmacs or min_map"),
        ({"gmacs": 0.01}, "0.0100 GMACs cannot be reached"),
        ({"min_map": 99.9}, "no thresholds reach a mAP of 99.9"),
        ({"min_map": math.nan}, "gmacs=None, min_map=nan"),
        ({"gmacs": 9.0, "confidence": 95}, "confidence must lie between 0.5 and 1, got 95"),
        ({"gmacs": 9.0, "scores": torch.zeros(3, 120)}, r"scores must be \(4, 120\)"),
    ],
)
def test_refused(records, options, said):
    with pytest.raises(ValueError, match=said):
        thresholds_for_budget(records, **options)


def test_matches_of_some_images_are_those_images_counted_alone(records):
    matches, chosen = match_records(records), torch.tensor([1, 2, 3, 4] * 30)
    which = torch.arange(120) % 3 == 0
    alone = average_precision(of_images(matches, which.numpy()), chosen, metrics=("mAP", "AP50"))
    assert alone == average_precision(matches, chosen, which.long().numpy(), metrics=("mAP", "AP50"))


def test_the_bound_looks_at_images_that_had_no_part_in_the_choice(records):
    """With scores that say nothing, choosing looks better than it is, and the bound does not believe it."""
    scores = torch.rand(4, len(records), generator=torch.Generator().manual_seed(5))
    matches, choices = match_records(records), all_choices(records, scores)
    crossed = cross_fitted(records, matches, choices, 0.7)
    share = float(records.gmacs.gather(0, crossed[None] - 1).mean() / records.gmacs[-1].mean())
    assert 0.5 < share < 0.75
    found = thresholds_for_budget(records, gmacs=0.7 * float(records.gmacs[-1].mean()), scores=scores, repeats=20)
    there = average_precision(matches, crossed, metrics=("mAP",))["mAP"]
    assert there < found.mAP and found.loss_at_most > found.loss + (found.mAP - there)
