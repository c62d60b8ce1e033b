"""The weights that come with the package, and how weights are stored."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from earlyexit import available_weights, dyn_retinanet_nano, evaluate, load_detector
from earlyexit.data import scene_dataset
from earlyexit.evaluation.coco import exit_accuracy
from earlyexit.model.factories import load_init, make_model, read_config
from earlyexit.weights import load_state, load_weights, read_about, save_weights, weights_card


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return scene_dataset("test", 80, cache=tmp_path_factory.mktemp("scenes"))


def test_what_is_there():
    assert {"scenes", "scenes-baseline", "scenes-early", "scenes-many", "scenes-pretrained"} <= set(available_weights())


@pytest.mark.parametrize("name", ["scenes", "scenes-baseline", "scenes-early", "scenes-many", "scenes-pretrained"])
def test_every_file_has_a_card(name):
    card = weights_card(name)
    assert card["command"].startswith("earlyexit train ")
    assert {"settings", "versions", "commit", "date", "metrics", "classes", "parameters"} <= set(card)
    assert card["classes"] == read_about(name)["classes"]
    assert card["metrics"]["images"] > 1000
    floats = [v for v in load_state(name).values() if v.is_floating_point()]
    assert {v.dtype for v in floats} == {torch.float16}


def test_scenes_are_recognised(scenes):
    """On 80 scenes of the test split the shipped detector does what its card says, within their noise."""
    model, _ = load_detector("scenes")
    metrics = weights_card("scenes")["metrics"]
    full = evaluate(model, scenes, batch_size=16)
    assert full["mAP"] == pytest.approx(metrics["forced_exit"]["4"]["mAP"], abs=15)
    assert exit_accuracy(model, scenes)[3] == pytest.approx(metrics["accuracy"][3], abs=15)
    assert evaluate(model, scenes, exit=1)["mAP"] == pytest.approx(metrics["forced_exit"]["1"]["mAP"], abs=15)


def test_weights_with_a_fitted_rule_under_another_rule():
    """The detector is the same; a rule of another kind starts fresh, and does not take what was fitted to others."""
    images = [torch.rand(3, 128, 128, generator=torch.Generator().manual_seed(0))]
    own, paper, looking = (
        load_detector("scenes-many", **more)[0].eval()
        for more in ({}, {"rule": "max softmax"}, {"rule": "worth of detections"})
    )
    assert len(own.rule.weight_1) and not len(looking.rule.weight_1) and not paper.rule.state_dict()
    config = read_config("scenes-many")
    by_hand = make_model(replace(config, rule="max softmax"))
    load_weights(by_hand, "scenes-many")
    with torch.inference_mode():
        found = [model(images)[0]["scores"] for model in (own, paper, looking, by_hand.eval())]
    assert len(found[0]) and all(torch.equal(found[0], scores) for scores in found[1:])
    with pytest.raises(ValueError, match="do not fit"):
        load_weights(make_model(replace(read_config("scenes-early"), rule="worth")), "scenes-early")


def test_depth_matters():
    accuracy = weights_card("scenes")["metrics"]["accuracy"]
    assert accuracy[3] - accuracy[0] >= 6


def test_the_baseline_guesses(scenes):
    """Nobody told its exits anything: chance among 20 classes is 5 %."""
    model, _ = load_detector("scenes-baseline")
    assert exit_accuracy(model, scenes)[3] < 30
    assert evaluate(model, scenes, batch_size=16)["mAP"] > 40


def test_pretrained_backbone_fits_the_detector():
    model = dyn_retinanet_nano()
    assert load_init(model.backbone, "scenes-pretrained") == []
    left = load_init(model.backbone, "scenes-pretrained", classifiers=False)
    assert left and all(name.startswith(("classifiers.", "carries.")) for name in left)


def test_unknown_and_unfit_weights():
    with pytest.raises(ValueError, match="scenes-pretrained.*got 'coco'"):
        dyn_retinanet_nano(weights="coco")
    with pytest.raises(ValueError, match=r"do not fit; earlyexit.load_detector\('scenes'\)") as refusal:
        dyn_retinanet_nano(7, weights="scenes")
    assert "'classes': 20" in str(refusal.value)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 600
    with pytest.raises(ValueError, match=r"load_detector\('scenes-early'\).*'filler': 'learned'"):
        dyn_retinanet_nano(weights="scenes-early")


CARD = {"task": "detect", "model": "nano", "classes": ["cat"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{not", "is damaged, it is no JSON"),
        ("[1, 2]", r"must be names with values, got \[1, 2\]"),
        ('{"task": "detect", "classes": ["cat"]}', "lacks model: it has"),
        ('{"task": "detect", "model": "nano"}', "lacks classes: it has"),
        *[
            (json.dumps({**CARD, name: value}), f"is damaged: {name} must be .*, got ")
            for name, values in {
                "model": [[1]],
                "classes": [20, None, [], [1, 2]],
                "min_size": [0, "big"],
                "opinions": [3],
                "score_scales": [5, [["a", 1]]],
                "thresholds": [[0.5, 0.5], ["a", 1, 1], "abc", [-1, 1, 1]],
            }.items()
            for value in values
        ],
    ],
)
def test_a_damaged_card_is_named(tmp_path, text, message):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {"about": text})
    with pytest.raises(ValueError, match=rf"the card in '.*x.safetensors' {message}"):
        load_detector(path)
    with pytest.raises(ValueError, match="x.safetensors'"):
        read_config(path)


@pytest.mark.parametrize(
    ("name", "value"), [("model", "huge"), ("filler", "x"), ("opinions", [7]), ("score_scales", [[1, 0]])]
)
def test_a_card_of_no_detector_is_named(tmp_path, name, value):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.zeros(1)}, path, {"about": json.dumps({**CARD, name: value})})
    with pytest.raises(ValueError, match=f"cannot make the detector of '.*x.safetensors': {name} must"):
        load_detector(path)


def test_a_card_names_options_that_no_longer_exist(tmp_path):
    path = tmp_path / "x.safetensors"
    settings = {"sandwich": False, "early_gradient": 1.0, "head_distillation": 0.0}
    save_weights(dyn_retinanet_nano(2), path, about={**CARD, "classes": ["cat", "dog"], **settings})
    assert load_detector(path)[1] == ["cat", "dog"]
    save_file({"weight": torch.zeros(1)}, path, {"about": json.dumps({**CARD, "filler": "topdown"})})
    with pytest.raises(ValueError, match="x.safetensors' was made with filler='topdown', which no longer .* 0d16035"):
        load_detector(path)


def test_what_half_precision_cannot_hold_is_refused(tmp_path):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 1e6)
    with pytest.raises(ValueError, match="half precision.*weight"):
        save_weights(model, tmp_path / "big.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []
    save_weights(model, tmp_path / "big.safetensors")
    assert load_state(tmp_path / "big.safetensors")["weight"].item() == 1e6


def test_early_exits_are_good_and_cheap(scenes):
    """What chapter 10 is about, on 80 scenes of the test split, within their noise."""
    model, _ = load_detector("scenes-early")
    card = weights_card("scenes-early")
    early, full = evaluate(model, scenes, exit=1, batch_size=16), evaluate(model, scenes, batch_size=16)
    assert early["gmacs"] < 0.35 * full["gmacs"]
    assert early["mAP"] == pytest.approx(card["metrics"]["forced_exit"]["1"]["mAP"], abs=15)
    assert early["mAP"] > 0.6 * full["mAP"]
    assert [list(scale) for scale in model.score_scales] == card["score_scales"]
    limits = read_config("scenes-early").limits
    some = evaluate(model, scenes, thresholds=limits, batch_size=16)
    assert 0.4 < some["gmacs"] / full["gmacs"] < 0.6 and some["mAP"] > 0.9 * full["mAP"]


def test_on_several_objects_its_own_rule_chooses(tmp_path):
    """What chapter 11 is about, on 120 scenes with any number of objects, within their noise."""
    scenes = scene_dataset("test", 120, single=False, cache=tmp_path)
    model, _ = load_detector("scenes-many")
    card = weights_card("scenes-many")
    full = evaluate(model, scenes, batch_size=16)
    assert full["mAP"] == pytest.approx(card["metrics"]["forced_exit"]["4"]["mAP"], abs=10)
    some = evaluate(model, scenes, thresholds=read_config("scenes-many").limits, batch_size=16)
    assert type(model.rule).__name__ == "Worth"
    assert 0.35 < some["gmacs"] / full["gmacs"] < 0.65 and some["mAP"] > 0.85 * full["mAP"]
    assert min(some["exits"].values()) > 0
