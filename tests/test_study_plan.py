"""What the study trains, and the paper's numbers that it is compared with."""

import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from earlyexit import cli, dyn_retinanet_nano
from earlyexit.neck import FILLERS
from earlyexit.settings import TrainSettings
from earlyexit.study.paper import (
    paper_baseline,
    paper_ceiling,
    paper_exit_counts,
    paper_figures,
    paper_pairs,
    paper_sweep,
)
from earlyexit.study.plan import FAIR_EXITS, plan, recipe
from earlyexit.study.results import deciding
from earlyexit.study.trainings import train_arguments
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
    model = dyn_retinanet_nano(3, exits=exits, filler=filler, min_size=64, max_size=64).train()
    images = list(torch.rand(2, 3, 64, 64))
    targets = [{"boxes": torch.tensor([[8.0, 8, 40, 48]]), "labels": torch.tensor([i])} for i in range(2)]
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    sum(model(images, targets).values()).backward()
    optimizer.step()
    return torch.cat([value.detach().flatten().double() for value in model.state_dict().values()])


def test_published_numbers_are_those_of_the_tables():
    best = paper_sweep()
    assert [row["index"] for row in best] == list(range(1, 35))
    assert (best[33]["mAP"], best[30]["mAP"], best[30]["gmacs"]) == (43.1, 39.7, 153.741)
    assert paper_sweep("ilsvrc_single")[33]["mAP"] == 40.3
    assert paper_sweep(theta=0.5, lambda_=0.5)[33]["mAP"] == 35.5
    assert paper_baseline()["map"] == 39.3 and paper_baseline("ilsvrc_single")["map"] == 39.9
    assert all(sum(row["exits"]) == 593 for row in paper_exit_counts())
    assert paper_exit_counts()[19]["exits"] == [98, 131, 97, 267]
    assert paper_ceiling() == pytest.approx(8.78, abs=0.005)


def test_published_compute_follows_from_the_exit_counts():
    """The compute by exit was fitted: with it the counts give the published GMACs of every setting."""
    by_exit = paper_figures()["gmacs by exit"]["gmacs"]
    for counts, row in zip(paper_exit_counts(), paper_sweep(), strict=True):
        mean = sum(n * g for n, g in zip(counts["exits"], by_exit, strict=True)) / 593
        assert mean == pytest.approx(row["gmacs"], abs=0.01)


def test_unknown_published_model_is_named():
    with pytest.raises(ValueError, match="'voc'"):
        paper_sweep("voc")
    with pytest.raises(ValueError, match=r"\(0.2, 1.0\)"):
        paper_sweep(theta=0.2)
