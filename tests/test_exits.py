"""Rules of leaving: the object that decides while the model runs is the one that records are evaluated with."""

import math
from dataclasses import replace

import pytest
import torch
from made_records import made_records

from earlyexit import calibrate_thresholds, load_detector
from earlyexit.data.scenes import scene_dataset
from earlyexit.evaluation import (
    collect_records,
    evaluate,
    evaluate_records,
    fit_rule,
    fit_worth,
    rule_exits,
    rule_scores,
    threshold_exits,
)
from earlyexit.evaluation.scores import correct_classes
from earlyexit.model import RULES, Router, Rule, SkipEmpty, Worth, make_rule
from earlyexit.model.backbone import Exit
from earlyexit.model.exits import exit_confidence, rule_features
from earlyexit.weights import ModelConfig, read_about, save_weights

WORTH = ("worth", "worth of detections")


@pytest.fixture(scope="module")
def scenes():
    return scene_dataset("test", 40)


@pytest.fixture(scope="module")
def model():
    return load_detector("scenes-early")[0].eval()


@pytest.fixture(scope="module")
def records(model, scenes):
    return collect_records(model, scenes)


@pytest.fixture(scope="module")
def rules(records):
    """Every rule by its name; the router fitted to other images, worth to these."""
    made = {name: make_rule(name) for name in RULES}
    others = made_records(images=80, objects=(1,), crowds=0, seed=3)
    return {name: fitted(rule, records, others) if rule.fitted else rule for name, rule in made.items()}


def fitted(rule, records, others):
    return fit_worth(records, budget=0.6, looks=rule.looks)[0] if isinstance(rule, Worth) else fit_rule(rule, others)


@pytest.mark.parametrize("name", list(RULES))
def test_a_rule_decides_alive_as_on_records(name, rules, model, scenes, records):
    scores = rule_scores(records, rules[name])
    thresholds = [float(scores[k].double().quantile(q)) for k, q in enumerate((0.7, 0.6, 0.5))]
    expected = threshold_exits(scores, thresholds)
    assert len(expected.unique()) >= 3, "thresholds that send all images one way would prove little"
    with torch.inference_mode():
        found = model([scenes[i][0] for i in range(len(scenes))], rule=rules[name], thresholds=thresholds)
    for i, (detection, exit) in enumerate(zip(found, expected.tolist(), strict=True)):
        close = min(abs(float(scores[k, i]) - thresholds[k]) for k in range(3)) < 1e-5
        assert detection["exit"] == exit or close
        if detection["exit"] == exit:
            assert detection["confidence"] == pytest.approx(float(scores[exit - 1, i]), abs=1e-4)
            torch.testing.assert_close(detection["scores"], records.detection(i, exit)["scores"], rtol=1e-3, atol=1e-4)
    assert torch.equal(rule_exits(records, rules[name], thresholds), expected)
    reached = evaluate_records(records, thresholds, rule=rules[name], metrics=("mAP",))
    assert reached["exits"] == {k: int((expected == k).sum()) for k in (1, 2, 3, 4)}


def test_the_router_of_a_file_decides_as_the_fitted_one(rules, model, scenes, tmp_path):
    images = [scenes[i][0] for i in range(8)]
    config = ModelConfig.of({**read_about("scenes-early"), "rule": "router", "thresholds": [0.5, 0.5, None]})
    before = model.rule
    try:
        model.rule = rules["router"]
        save_weights(model, tmp_path / "own.safetensors", about=config.card())
        with torch.inference_mode():
            expected = model(images, thresholds=config.limits)
    finally:
        model.rule = before
    own = load_detector(tmp_path / "own.safetensors")[0].eval()
    assert isinstance(own.rule, Router) and config.limits == [0.5, 0.5, math.inf]
    with torch.inference_mode():
        found = own(images, thresholds=config.limits)
    assert [d["exit"] for d in found] == [d["exit"] for d in expected]
    assert [d["confidence"] for d in found] == pytest.approx([d["confidence"] for d in expected])
    assert len({d["exit"] for d in found}) > 1


@pytest.mark.parametrize("name", WORTH)
def test_worth_decides_alone_as_in_a_batch(name, rules, model, scenes):
    images = [scenes[i][0] for i in range(8)]
    limits = (0.497,) * 3  # at 0.5 lies the image that the price was set by, and rounding decides
    with torch.inference_mode():
        together = model(images, rule=rules[name], thresholds=limits)
        alone = [model([image], rule=rules[name], thresholds=limits)[0] for image in images]
    assert [d["exit"] for d in together] == [d["exit"] for d in alone]
    assert [d["confidence"] for d in together] == pytest.approx([d["confidence"] for d in alone], rel=1e-3, abs=1e-3)


def test_worth_in_a_file_and_its_size(rules, model, scenes, tmp_path):
    """The card names the rule, the weights hold it: a few thousand numbers, which half precision does not spoil."""
    images = [scenes[i][0] for i in range(8)]
    config = ModelConfig.of({**read_about("scenes-early"), "rule": "worth", "thresholds": [0.5, 0.5, 0.5]})
    before = model.rule
    try:
        model.rule = rules["worth"]
        save_weights(model, tmp_path / "own.safetensors", about=config.card(), half=True)
    finally:
        model.rule = before
    own = load_detector(tmp_path / "own.safetensors")[0].eval()
    assert 500 < sum(b.numel() for b in own.rule.buffers()) < 5000
    for k in (1, 2, 3):
        kept, exact = (getattr(rule, f"weight_{k}") for rule in (own.rule, rules["worth"]))
        torch.testing.assert_close(kept, exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    with torch.inference_mode():
        found = own(images, thresholds=config.limits)
    assert {d["exit"] for d in found} <= {1, 2, 3, 4} and len({d["exit"] for d in found}) > 1


class Half:
    """A rule of one's own: the first half of the batch leaves at exit 2, the last image without neck and head."""

    skips = (2,)

    def __call__(self, reached):
        scores = torch.zeros(len(reached.logits))
        if reached.index != 2:
            return scores
        scores[: len(scores) // 2] = 1
        skipped = torch.zeros(len(scores), dtype=torch.bool)
        skipped[-1] = True
        return scores, skipped


def test_a_rule_of_ones_own(model, scenes):
    images = [scenes[i][0] for i in range(6)]
    with torch.inference_mode():
        found = model(images, rule=Half(), thresholds=(math.inf, 0.5, math.inf))
        at_2, full = model(images, exit=2), model(images)
    assert [d["exit"] for d in found] == [2, 2, 2, 4, 4, 0]
    assert not len(found[5]["boxes"]) and not len(found[5]["labels"])
    torch.testing.assert_close(found[1]["scores"], at_2[1]["scores"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found[4]["scores"], full[4]["scores"], rtol=1e-4, atol=1e-5)


class Skip(Rule):
    """At exits 1 and 2 the images whose class score is low are skipped; with `looks` it asks for detections, too."""

    skips = (1, 2)

    def __init__(self, looks):
        super().__init__()
        self.needs = ("detections",) if looks else ()

    def forward(self, reached):
        scores = exit_confidence(reached.logits)
        assert bool(self.needs) == (reached.found is not None)
        return (scores, scores < (0, 0.4, 0.6)[reached.index]) if reached.index < 3 else scores


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("thresholds", [(0.9, 0.9, math.inf), (math.inf, math.inf, 0.97)])
def test_skipped_images_alive_and_on_records(model, scenes, records, looks, thresholds):
    """The same exits, detections and compute from a rule that skips images, and pays for what it looks at."""
    rule, before = Skip(looks), model.rule
    expected = rule_exits(records, rule, thresholds)
    assert len(expected.unique()) >= 3 and (expected == 0).any()
    reached = evaluate_records(records, thresholds, rule=rule)
    model.rule = rule
    try:
        found = evaluate(model, scenes, thresholds=thresholds, batch_size=8)
    finally:
        model.rule = before
    assert found["exits"] == reached["exits"] and reached["exits"][0] == int((expected == 0).sum())
    assert found["gmacs"] == pytest.approx(reached["gmacs"]) and found["gmacs_full"] == pytest.approx(
        reached["gmacs_full"]
    )
    assert found["mAP"] == pytest.approx(reached["mAP"], abs=0.05)
    backbone, total = (records.gmacs - records.looks).mean(1), records.gmacs.mean(1)
    passed = looks * torch.cat([torch.zeros(1), records.looks.mean(1).cumsum(0)[:2], torch.zeros(1)])
    passed[3] = passed[2] + looks * (thresholds[2] < 1) * float(records.looks[2].mean())
    by_hand = [backbone[1] + passed[2], *(total + passed)]
    assert found["gmacs"] == pytest.approx(sum(float(by_hand[k]) for k in expected.tolist()) / len(records))
    with pytest.raises(ValueError, match="Skip skips images.*rule_exits says"):
        rule_scores(records, rule)


@pytest.mark.parametrize("score", [math.nan, -0.5, 1.5])
def test_scores_that_are_none_are_refused_alive(model, scenes, score):
    rule = lambda reached: torch.full((len(reached.logits),), score)  # noqa: E731
    for how in ({"thresholds": (0.5, 0.5, 0.5)}, {"exit": 1}):
        with pytest.raises(ValueError, match=f"must be from 0 to 1.*got {score:g} of function"):
            model([scenes[0][0]], rule=rule, **how)


def test_a_forced_exit_asks_nobody_to_stay(model, scenes):
    """Whatever the scores: rounding puts some a hair below 0."""
    with torch.inference_mode():
        found = model([scenes[0][0], scenes[1][0]], rule=lambda reached: torch.full((2,), -1e-6), exit=2)
    assert [d["exit"] for d in found] == [2, 2]


def test_the_name_of_a_rule_is_no_rule(model, scenes, records):
    for use in (lambda: model([scenes[0][0]], rule="entropy"), lambda: rule_scores(records, "entropy")):
        with pytest.raises(ValueError, match=r"a function of an Exit, got 'entropy': make_rule\(NAME\) makes one"):
            use()


def test_certainty_stays_inside_its_bounds():
    logits = torch.cat([torch.zeros(200, 5), 100 * torch.eye(5)])
    scores = make_rule("entropy")(Exit(1, (logits + 1e-3 * torch.randn(205, 5),)))
    assert scores.min() >= 0 and scores.max() <= 1


@pytest.mark.parametrize("scores", [torch.zeros(1), torch.zeros(3), torch.zeros(2, 1)])
def test_a_rule_that_forgets_an_image_is_refused(model, scenes, scores):
    with pytest.raises(ValueError, match=r"one score an image, \(2,\), got \(" + ", ".join(map(str, scores.shape))):
        model([scenes[0][0], scenes[1][0]], rule=lambda reached: scores, thresholds=(0.5, 0.5, 0.5))


def test_scores_are_where_thresholds_are(records):
    """Logits would be calibrated, and their thresholds refused when an image comes."""
    with pytest.raises(ValueError, match=r"from 0 to 1, as thresholds are .*, got -?[0-9.]+ of function"):
        rule_scores(records, lambda reached: reached.logits.amax(1))
    with pytest.raises(ValueError, match="got nan of function"):
        rule_scores(records, lambda reached: reached.logits[:, 0] * math.nan)
    assert rule_scores(records, lambda reached: reached.logits.amax(1).sigmoid()).shape == (4, len(records))


@pytest.mark.parametrize("probability", [0, -1, 1.5, math.nan])
def test_empty_is_a_probability(probability):
    with pytest.raises(ValueError, match=f"empty must be a probability above 0, got {probability}"):
        SkipEmpty(make_rule("max softmax"), probability)


def test_rules_without_a_name(rules):
    with pytest.raises(ValueError, match="the rule must be one of .*'router'.*got 'oracle'"):
        make_rule("oracle")
    assert {name: type(rule) for name, rule in rules.items()} == {name: type(make_rule(name)) for name in RULES}


# One class: a softmax over one unit would be 1 for every image


ONE = torch.tensor([[-2.0], [-0.5], [0.0], [0.5], [2.0]])


def test_one_class_is_told_by_its_sigmoid():
    p = 1 / (1 + torch.exp(-ONE[:, 0]))
    torch.testing.assert_close(exit_confidence(ONE), p)
    torch.testing.assert_close(exit_confidence(ONE.expand(4, 5, 1), "largest"), p.expand(4, 5))
    torch.testing.assert_close(exit_confidence(ONE, "present"), torch.maximum(p, 1 - p))
    several = torch.tensor([[0.3, -1.0, 2.0]])
    torch.testing.assert_close(exit_confidence(several), several.softmax(1).amax(1))


def test_rules_tell_images_of_one_class_apart():
    p, before = torch.sigmoid(ONE[:, 0]), torch.sigmoid(ONE.flip(0)[:, 0])
    reached = Exit(2, (ONE.flip(0), ONE))
    entropy = -(p * p.log2() + (1 - p) * (1 - p).log2())
    torch.testing.assert_close(make_rule("entropy")(reached), 1 - entropy)
    agreement = torch.minimum(p, before) + torch.minimum(1 - p, 1 - before)
    torch.testing.assert_close(make_rule("agreement")(reached), agreement)
    torch.testing.assert_close(make_rule("max softmax")(reached), p)
    features = rule_features(reached)
    torch.testing.assert_close(features[:, 1], (2 * p - 1).abs())
    torch.testing.assert_close(features[:, 5], before)
    assert features.isfinite().all() and (features.std(0) > 1e-3).all()


@pytest.fixture
def one_class():
    """Made records of 60 images of the only class."""
    records = made_records(images=60, classes=2, objects=(1,), crowds=0)
    records = replace(records, logits=records.logits[..., :1])
    records.truth.labels[:] = 0
    return records


OF_CLASSIFIERS = [name for name in RULES if make_rule(name).only_logits]


@pytest.mark.parametrize("name", OF_CLASSIFIERS)
def test_every_rule_tells_images_of_one_class_apart(name, one_class):
    assert all(len(scores.unique()) > 30 for scores in rule_scores(one_class, make_rule(name)))


def test_one_class_on_records(one_class):
    """Scores differ from image to image, thresholds share them out, and accuracy is not 100 for nothing."""
    records = one_class
    assert len(records.confidence.unique()) > 200
    thresholds = calibrate_thresholds(records.confidence, (0.4, 0.3, 0.2, 0.1))
    taken = threshold_exits(records.confidence, thresholds).bincount(minlength=5)[1:]
    assert taken.tolist() == [24, 18, 12, 6]
    torch.testing.assert_close(correct_classes(records), records.logits[..., 0] > 0)
