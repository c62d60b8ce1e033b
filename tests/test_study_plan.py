"""What is trained, in the paper's study and beyond it, and by which command."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from earlyexit import JointLoss, cli, dyn_retinanet_nano
from earlyexit.model.heads import FILLERS
from earlyexit.study.measure import deciding
from earlyexit.study.plan import (
    ABLATIONS,
    FAIR_EXITS,
    RECIPE,
    THETA,
    choosing_plan,
    is_trained,
    paper_pairs,
    plan,
    recipe,
    train_arguments,
)
from earlyexit.training.settings import TrainSettings, check_settings
from earlyexit.weights import weights_card


def test_plan_lists_every_model_of_the_study():
    found = plan("scenes", "data/scenes-single", "runs/study")
    assert [t.name for t in found[:6]] == [f"{g}-{s}" for s in (0, 1, 2) for g in ("baseline", "proposed")]
    assert [(t.settings.theta, t.settings.seed) for t in found[:4]] == [(0, 0), (0.0115, 0), (0, 1), (0.0115, 1)]
    fair = [t for t in found if t.group == "fair"]
    assert [(t.settings.filler, t.settings.exits) for t in fair] == [("downsample", (1, 2, 4)), ("zero", (1, 2, 4))]
    grid = [(t.settings.theta, t.settings.lambda_) for t in found if t.group == "grid"]
    assert grid == paper_pairs() and len(grid) == 10
    assert {t.group: t.settings.epochs for t in found} == {"baseline": 6, "proposed": 6, "fair": 3, "grid": 2}
    assert len({t.settings.out for t in found}) == len(found) == 18


def test_recipe_is_that_of_the_weights_in_the_package_with_the_first_stage_frozen():
    card = deciding(weights_card("scenes")["settings"])
    ours = deciding(recipe("scenes"))
    assert {k for k in card if card[k] != ours[k]} == {
        "init",
        "freeze",
    }  # the file has another name there, and nothing was frozen


@pytest.mark.parametrize(("data", "epochs"), [("coco_single", 12), ("ilsvrc_single", 12)])
def test_other_data_have_the_papers_recipe(data, epochs):
    found = plan(data, "photos", "runs", seeds=[5])
    assert {t.settings.model for t in found} == {"regnet_y_800mf"}
    assert found[0].settings.epochs == epochs and found[0].settings.optimizer == "sgd"
    assert {t.settings.seed for t in found} == {5}
    small = plan(data, "photos", "runs", model="nano", epochs_factor=0.01)
    assert {(t.settings.model, t.settings.epochs) for t in small} == {("nano", 1)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": "voc"}, "'voc'"),
        ({"model": "resnet"}, "'resnet'"),
        ({"model": "regnet_y_800mf"}, "regnet_y_800mf"),
        ({"seeds": [1, 1]}, r"\[1, 1\]"),
        ({"seeds": []}, r"\[\]"),
        ({"epochs_factor": 0}, "got 0"),
        ({"epochs_factor": float("inf")}, "got inf"),
    ],
)
def test_plan_says_what_is_wrong(changes, said):
    with pytest.raises(ValueError, match=said):
        plan(**{"data": "scenes", "folder": "d", "runs": "r", **changes})


def test_plan_beyond_the_paper_leaves_each_part_out_once():
    found = plan("scenes", "single", "runs", many="many", seeds=(0, 1))
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


def test_plan_of_choosing_trains_depth_first_and_opponents_as_long():
    ours, static = choosing_plan("many", "runs", seeds=(0, 3), epochs=10, min_size=256, max_size=512)
    ours, at_320 = ours[::2], ours[1::2]
    assert [(t.name, t.first.name) for t in ours] == [("early-0", "deep-0"), ("early-3", "deep-3")]
    assert [(t.name, t.first.name) for t in at_320] == [("early-320-0", "deep-320-0"), ("early-320-3", "deep-320-3")]
    assert {(t.settings.min_size, t.first.settings.max_size) for t in at_320} == {(320, 640)}
    assert [(t.first.settings.exits, t.settings.exits) for t in [*ours, *at_320]] == [((3, 4), (1, 2, 3))] * 4
    assert [(t.name, t.first.name, t.settings.exits) for t in static[:2]] == [
        ("static-1-0", "cut-1-0", (1,)),
        ("static-3-0", "cut-3-0", (3,)),
    ]
    sizes = ["static-3-320-0", "static-1-320-0", "static-3-192-0", "static-4-192-0"]
    assert [t.name for t in static[2:7]] == ["static-4-0", *sizes]
    assert [t.name for t in static[7:]] == ["static-1-3", "static-3-3", "static-4-3", "static-3-320-3"]
    for larger in (static[3], static[10]):
        assert {(t.settings.min_size, t.settings.max_size, t.settings.exits) for t in (larger, larger.first)} == {
            (320, 640, (3,))
        }
    assert static[6].settings.min_size == 192 and static[6].settings.exits == (4,) and static[10].settings.seed == 3
    same = [*static[:3], *static[7:10]]
    assert static[1].first.settings.exits == static[1].first.settings.opinions == (3,)
    assert static[2].first is None and static[2].settings.exits == (4,) and static[2].settings.theta == THETA
    assert ours[1].first.settings.seed == ours[1].settings.seed == 3
    assert ours[1].settings.warm_start == "runs/deep-3/model.safetensors" and ours[1].settings.only_early
    for training in [*static, *at_320]:
        check_settings(training.settings)
    for training in [*ours, ours[1].first, *same, static[0].first]:
        check_settings(training.settings)
        assert training.settings.min_size == 256 and training.settings.data == "many" and training.settings.allow_empty
        assert training.settings.epochs == 10


@pytest.mark.parametrize("data", ["scenes", "coco_single"])
def test_command_means_the_settings(data):
    for training in plan(data, "folder", "runs")[::3]:
        arguments = train_arguments(training.settings)
        shown = CliRunner().invoke(cli.app, [*arguments[2:], "--show"])
        found = json.loads(shown.output)
        found = {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
        assert TrainSettings(**found) == replace(training.settings, resume=True)


def test_filler_never_runs_in_the_papers_training():
    """Why the comparison of two trained fillers needs detection losses at early exits."""
    assert torch.equal(trained((4,), FILLERS[0]), trained((4,), FILLERS[1]))
    assert not torch.equal(trained(FAIR_EXITS, FILLERS[0]), trained(FAIR_EXITS, FILLERS[1]))


def trained(exits, filler):
    """All weights after a step of training."""
    torch.manual_seed(0)
    model = dyn_retinanet_nano(3, loss=JointLoss(exits=exits), filler=filler, min_size=64, max_size=64).train()
    images = list(torch.rand(2, 3, 64, 64))
    targets = [{"boxes": torch.tensor([[8.0, 8, 40, 48]]), "labels": torch.tensor([i])} for i in range(2)]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    sum(model(images, targets).values()).backward()
    optimizer.step()
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])


def test_finished_run_is_known_by_epochs_and_settings(finished_run):
    story = json.loads((finished_run / "settings.json").read_text())["settings"]
    settings = TrainSettings(**{**story, "exits": tuple(story["exits"])})
    assert is_trained(settings)
    assert not is_trained(replace(settings, epochs=2))
    assert not is_trained(replace(settings, theta=0.5))
    assert not is_trained(replace(settings, out=str(finished_run / "elsewhere")))
