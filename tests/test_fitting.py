"""Rules fitted to records: a planted relation is found, a budget is kept, and a file keeps what was fitted."""

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from made_records import made_records

from earlyexit.evaluation import (
    evaluate_records,
    fit_score_scales,
    fit_worth,
    fitting,
    rescale_records,
    rule_scores,
    threshold_exits,
    thresholds_for_budget,
)
from earlyexit.evaluation.fitting import STRENGTHS, ridge
from earlyexit.evaluation.records import Detections, offsets_of
from earlyexit.model import Rule, Worth, worth_features
from earlyexit.model.detector import check_scales


def with_latents(records, seed=0):
    """Records whose images have latents and whose heads cost a tenth of all."""
    draw = torch.Generator().manual_seed(seed)
    means = [torch.randn(len(records), width, generator=draw) for width in (5, 7)]
    gmacs = torch.tensor([1.0, 1.3, 2.0, 4.0], dtype=torch.float64)[:, None].expand(4, len(records))
    return replace(records, gmacs=gmacs, looks=0.1 * gmacs, latents_1=means[0], latents_2=means[1])


def planted(seed=0):
    """Records in which a latent tells which images find their objects at exit 4 alone, and nothing else does."""
    records = with_latents(made_records(images=300, objects=(1,), crowds=0, many=0, found=(0, 1), seed=seed), seed)
    deep = records.latents_1[:, 2] > 0
    slots = torch.arange(4 * len(records))
    finds = ~deep[slots // 4] | (slots % 4 == 3)  # an object's own box, found where it is found
    boxes = records.truth.boxes[slots // 4][finds].float()
    boxes[:, 2:] += boxes[:, :2]
    labels = records.truth.labels[slots // 4][finds]
    found = Detections(boxes, torch.full((len(boxes),), 0.9), labels, offsets_of(finds))
    return replace(records, found=found, latents_2=records.latents_1), deep


@pytest.fixture(scope="module")
def records():
    return with_latents(made_records(images=200, crowds=0))


def test_ridge_finds_a_planted_relation():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(400, 12, generator=draw, dtype=torch.float64) * torch.logspace(-2, 2, 12) + 3
    planted = torch.randn(12, 2, generator=draw, dtype=torch.float64) / torch.logspace(-2, 2, 12)[:, None]
    y = x @ planted + torch.tensor([5.0, -2.0]) + 0.01 * torch.randn(400, 2, generator=draw)
    weight, bias = ridge(x, y)
    torch.testing.assert_close(x @ weight + bias, y, rtol=0.02, atol=0.1)


def test_ridge_holds_noise_back():
    """Of noise alone next to nothing is left, where least squares would explain 100 of 120 parts of it."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(120, 100, generator=draw), torch.randn(120, 1, generator=draw)
    weight, bias = ridge(x, y)
    assert float((x.double() @ weight + bias).var()) < 0.2 * float(y.var())


def test_ridge_leaves_images_out_one_by_one():
    """The strength that is chosen has the least error of fits without the image that is predicted."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(30, 20, generator=draw, dtype=torch.float64)
    y = x[:, :1] + torch.randn(30, 1, generator=draw, dtype=torch.float64)

    def error(strength):
        z = (x - x.mean(0)) / x.std(0)
        hat = torch.full((30, 30), 1 / 30, dtype=x.dtype)
        hat += z @ torch.linalg.solve(z.T @ z + strength * 30 * torch.eye(20, dtype=x.dtype), z.T)
        return float((((y - hat @ y)[:, 0] / (1 - hat.diagonal())) ** 2).mean())

    best = min(STRENGTHS.tolist(), key=error)
    z = (x - x.mean(0)) / x.std(0)
    expected = torch.linalg.solve(z.T @ z + best * 30 * torch.eye(20, dtype=x.dtype), z.T @ (y - y.mean()))
    torch.testing.assert_close(ridge(x, y)[0] * x.std(0)[:, None], expected)


def test_what_a_latent_tells_is_found():
    """On other images, too, those go on that gain by it, and no further than they need."""
    rule, thresholds = fit_worth(planted()[0], budget=0.5)
    others, deep = planted(1)
    exits = threshold_exits(rule_scores(others, rule), thresholds)
    assert deep[exits == 4].double().mean() > 0.95 and 0.45 < deep.double().mean() < 0.55
    assert ((exits == 2) | (exits == 3)).double().mean() < 0.03, "exits 2 and 3 find no more than exit 1"
    reached = evaluate_records(others, thresholds, rule=rule, metrics=("mAP",))
    assert reached["gmacs"] == pytest.approx(0.5 * 4, abs=0.15)
    assert reached["mAP"] > 75, "lots reach 67"


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("budget", [0.35, 0.6, 0.9])
def test_the_budget_is_kept_where_the_rule_was_fitted(records, budget, looks):
    """What looking costs at the exits that are passed is counted."""
    rule, thresholds = fit_worth(records, budget=budget, looks=looks)
    exits = threshold_exits(rule_scores(records, rule), thresholds)
    costs = torch.tensor([1.0, 1.3, 2.0, 4.0]) + looks * torch.tensor([0.0, 0.1, 0.23, 0.43])
    share = float(costs[exits - 1].mean()) / 4
    assert share <= budget
    assert share > budget - 0.03 or float(rule.price) == 0, "nearly used up, or nobody gains by more of it"
    assert float(records.spent(exits, rule, thresholds).mean()) == pytest.approx(4 * share)
    if looks:  # a rule that is asked at exit 3 alone looks at nothing that others pay for
        late = records.spent(exits, rule, (math.inf, math.inf, 0.5)) - records.spent(exits)
        torch.testing.assert_close(late, 0.2 * (exits == 4).double())


def test_a_budget_that_cannot_be_kept(records):
    with pytest.raises(ValueError, match="at least 0.2500, got 0.2"):
        fit_worth(records, budget=0.2)


def test_images_go_on_where_it_pays(records):
    """By hand: what the rule says at exit 2 is the best later exit's gain minus the price of its compute."""
    rule, _ = fit_worth(records, budget=0.6)
    reached = records.exit(2)
    gains = worth_features(reached).double() @ rule.weight_2.double() + rule.bias_2.double()
    price = float(rule.price)
    best = torch.maximum(gains[:, 0] - price * (2.0 - 1.3) / 4, gains[:, 1] - price * (4.0 - 1.3) / 4)
    torch.testing.assert_close(rule(reached).double().logit(), -best, rtol=1e-3, atol=1e-4)


def test_features_see_the_detections_of_their_exit(records):
    reached = records.exit(3, found=True)
    free, looking = worth_features(reached), worth_features(reached, True)
    assert free.shape[1] == 2 * 3 * 6 + 7 and torch.equal(looking[:, : free.shape[1]], free)
    for image in (0, 17, 150):
        scores = reached.found[image]["scores"]
        assert float(looking[image, free.shape[1]].expm1()) == pytest.approx(len(scores), abs=1e-3)  # all above 0.05
        if len(scores):
            assert float(looking[image, free.shape[1] + 6]) == float(scores.max())
    torch.testing.assert_close(free[:, :6], records.logits[0].sort(1, descending=True).values)


def test_a_rule_that_was_not_fitted(records):
    with pytest.raises(ValueError, match="not fitted yet"):
        Worth()(records.exit(1))
    with pytest.raises(ValueError, match="do not hold: collect them again"):
        fit_worth(replace(records, latents_1=None), budget=0.6)


def test_a_fitted_rule_is_loaded_from_its_weights(records):
    rule, _ = fit_worth(records, budget=0.6, looks=True)
    again = Worth(looks=True)
    again.load_state_dict(rule.state_dict())
    assert torch.equal(rule_scores(records, again), rule_scores(records, rule))


def test_calibrating_worth_makes_scores_comparable_first(records, monkeypatch):
    """The model gets the scales and a rule that was fitted to scores on them; scales that it has already stay."""
    monkeypatch.setattr(fitting, "collect_records", lambda model, dataset, progress: records)
    scales = check_scales(fit_score_scales(records))
    for before, expected in ((check_scales(None), rescale_records(records, scales)), (scales, records)):
        parameters = [torch.zeros(1)]
        model = SimpleNamespace(exit_target="single", score_scales=before, parameters=lambda p=parameters: iter(p))
        assert fitting.calibrate_rule(model, None, 0.6, "worth") == (0.5, 0.5, 0.5)
        assert model.score_scales == scales
        fitted, _ = fit_worth(expected, budget=0.6)
        assert all(torch.equal(a, b) for a, b in zip(fitted.buffers(), model.rule.buffers(), strict=True))
    with pytest.raises(ValueError, match="'worth' goes by a budget.*got none"):
        fitting.scores_of_rule(model, None, "worth")
    before = model.rule
    with pytest.raises(ValueError, match="at least 0.25"):
        fitting.calibrate_rule(model, None, 0.1, "worth")
    assert model.rule is before and model.score_scales == scales, "what failed changes nothing"


@pytest.mark.parametrize("budget", [0, -1, 60, math.nan, math.inf])
def test_a_budget_that_is_none(records, budget):
    with pytest.raises(ValueError, match=f"a budget must be a share of full depth.*got {budget}"):
        fit_worth(records, budget=budget)
    with pytest.raises(ValueError, match="percent\\? divide by 100"):
        fitting.calibrate_rule(None, None, budget)


def test_a_budget_of_time(records):
    """Times in proportion to the compute change nothing; others are kept instead, as closely."""
    times = [3.0, 3.2, 6.0, 8.0]
    timed, same = records.priced(times), records.priced(records.gmacs.mean(1).tolist())
    assert timed.gmacs.mean(1).tolist() == pytest.approx(times) and timed.looks.shape == records.looks.shape
    assert torch.equal(timed.gmacs[0] / 3, records.gmacs[0] / records.gmacs[0].mean()), "larger images take longer"
    rules = [fit_worth(of, budget=share)[0] for of, share in ((records, 0.3), (same, 0.3), (timed, 0.42))]
    compute, as_much, time = (threshold_exits(rule_scores(records, rule), (0.5, 0.5, 0.5)) for rule in rules)
    assert torch.equal(compute, as_much)
    assert 0.41 * 8 < timed.mean_gmacs(time) <= 0.42 * 8 and records.mean_gmacs(compute) <= 0.3 * 4
    for costs in ([1.0, 2.0, 3.0], [0.0, 1, 2, 3], [1, 2, 3, math.inf]):
        with pytest.raises(ValueError, match="four finite numbers above 0"):
            records.priced(costs)


def test_a_budget_for_any_rule(records, monkeypatch):
    monkeypatch.setattr(fitting, "collect_records", lambda model, dataset, progress: records)
    parameters = [torch.zeros(1)]
    model = SimpleNamespace(exit_target="single", score_scales=check_scales(None), parameters=lambda: iter(parameters))
    thresholds = fitting.calibrate_rule(model, None, 0.6, "entropy")
    scores = rule_scores(records, model.rule)
    assert thresholds == thresholds_for_budget(records, gmacs=0.6 * 4, scores=scores, repeats=2).thresholds
    assert records.mean_gmacs(threshold_exits(scores, thresholds)) <= 0.6 * 4
    looking = fitting.calibrate_rule(model, None, 0.6, "detection score")
    exits = threshold_exits(rule_scores(records, model.rule), looking)
    spent = float(records.spent(exits, model.rule, looking).mean())
    assert records.mean_gmacs(exits) < spent <= 0.6 * 4, "what it looks at is counted"
    assert evaluate_records(records, looking, rule=model.rule, metrics=("mAP",))["gmacs"] == pytest.approx(spent)


def test_a_fitted_rule_of_a_new_kind_is_not_taken_as_it_is(records):
    class Mine(Rule):
        fitted = True

    with pytest.raises(ValueError, match="fit_rule does not know yet how to fit Mine"):
        fitting.fit_rule(Mine(), records)
