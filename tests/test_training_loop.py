"""The loop over steps and epochs: losses, schedules, averages, batches of every kind, the same again when resumed."""

import csv
import json
import math
import re
from dataclasses import replace

import pytest
import torch
from squares import CLASSES, Squares, Tiny, nano, options, refused, same, state, steps, weights, write_folder
from torch import nn

from earlyexit.data.coco import coco_split
from earlyexit.losses import JointLoss
from earlyexit.model import load_detector
from earlyexit.model.factories import check_card, make_model
from earlyexit.training import set_norms, train_mode
from earlyexit.training.loop import StepSampler, fit, make_optimizer, make_schedule
from earlyexit.training.run import freeze_stages, train
from earlyexit.training.settings import TrainSettings
from earlyexit.weights import ModelConfig


def settings(folder, out, **changes):
    """Three epochs of three steps each."""
    plain = TrainSettings(str(folder), str(out), exit_target="largest", epochs=3, batch_size=8, progress=False)
    return replace(plain, min_size=64, **changes)


@pytest.fixture(scope="module")
def whole_run(folder, tmp_path_factory):
    """Three epochs in one go, and their rows."""
    out = tmp_path_factory.mktemp("whole")
    return out, train(settings(folder, out))


def test_log_and_rows_agree(whole_run, folder):
    out, rows = whole_run
    with open(out / "log.csv", newline="") as file:
        stored = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    for row, line in zip(rows, stored, strict=True):
        assert {name: float(value) for name, value in line.items()} == row
        assert row["loss"] == pytest.approx(row["classification"] + row["bbox_regression"] + row["exit"], rel=1e-5)
    story = json.loads((out / "settings.json").read_text())
    assert story["settings"]["epochs"] == 3
    assert story["classes"] == coco_split(folder, "train").classes
    assert not list(out.glob(".*"))


def test_same_seed_same_weights(whole_run, folder, tmp_path):
    out, rows = whole_run
    again = train(settings(folder, tmp_path / "again"))
    assert same(weights(out), weights(tmp_path / "again"))
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    train(settings(folder, tmp_path / "other", epochs=1, seed=1))
    train(settings(folder, tmp_path / "one", epochs=1))
    assert not same(weights(tmp_path / "one"), weights(tmp_path / "other"))


def test_resumed_run_ends_with_the_same_weights(whole_run, folder, tmp_path, monkeypatch):
    """A write that fails in epoch 2 leaves epoch 1's checkpoint; resuming from it changes nothing."""
    out, real, calls = tmp_path / "run", torch.save, []

    def failing_save(state, path):
        calls.append(path)
        if len(calls) == 2:
            path.write_bytes(b"half of a checkpoint")
            raise OSError("no space left on device")
        real(state, path)

    monkeypatch.setattr(torch, "save", failing_save)
    with pytest.raises(OSError, match="no space left"):
        train(settings(folder, out))
    monkeypatch.undo()
    files = ["checkpoint.pt", "log.csv", "model.safetensors", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == files
    assert len(torch.load(out / "checkpoint.pt", weights_only=True)["rows"]) == 1
    rows = train(settings(folder, out, resume=True))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert same(weights(out), weights(whole_run[0]))


def test_finished_run_is_not_trained_on(whole_run, folder):
    before = weights(whole_run[0])
    rows = train(settings(folder, whole_run[0], resume=True))
    assert rows == whole_run[1]
    assert same(weights(whole_run[0]), before)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("how", [{}, {"ema": 0.5}, {"ema": 0.9, "save_every": 2, "accumulate": 2}])
def test_resumed_run_equals_the_whole(tmp_path, how):
    """Killed after the steps of epoch 4, which are saved, with all epochs or every other one saved."""
    how |= {"epochs": 5, "batch_size": 4, "lr": 0.05, "optimizer": "sgd"}
    data, first, second = Squares([(8, 8)] * 8), Tiny(), Tiny()

    def kill(model, epoch):
        if epoch == 4:
            raise KilledError
        return {"measured": 10.0 * epoch}

    with pytest.raises(KilledError):
        fit(second, data, steps(tmp_path / "killed", **how), after_epoch=kill)
    fresh, seen = Tiny(), []
    measure = lambda model, epoch: {"measured": 10.0 * epoch}  # noqa: E731
    count = lambda step, losses: seen.append(step)  # noqa: E731
    rows = fit(fresh, data, steps(tmp_path / "killed", resume=True, **how), after_epoch=measure, on_step=count)
    whole = fit(first, data, steps(tmp_path / "whole", **how), after_epoch=measure)
    assert seen == [8, 9]
    assert same(fresh.state_dict(), first.state_dict())
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    for ours, theirs in zip(rows, whole, strict=True):
        assert {k: ours[k] for k in ("epoch", "loss", "lr", "measured")} == {
            k: theirs[k] for k in ("epoch", "loss", "lr", "measured")
        }


def test_moving_average_by_hand(tmp_path):
    """Half of the old average and half of the new weights, step by step, from the first step on; statistics too."""
    model, average, seen = Tiny(), {}, []

    def note(step, losses):
        for name, value in state(model).items():
            if value.is_floating_point():
                average[name] = 0.5 * average[name] + 0.5 * value if step else value

    def look(result, epoch):
        seen.append({name: value.clone() for name, value in result.state_dict().items() if name in average})
        return {}

    how, data = {"epochs": 2, "batch_size": 2, "lr": 0.1, "warmup": 0}, Squares([(8, 8)] * 6)
    fit(model, data, steps(tmp_path, ema=0.5, **how), on_step=note, after_epoch=look)
    stored = weights(tmp_path)
    assert set(average) < set(stored)
    for name, value in average.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-6, atol=1e-6)
        assert torch.equal(seen[-1][name], stored[name])
        assert (model.state_dict()[name] - value).abs().max() > 1e-4  # the average lags behind
    plain = Tiny()
    fit(plain, data, steps(tmp_path / "plain", **how))
    assert same(plain.state_dict(), model.state_dict())  # and does not disturb the training


def test_loss_falls(tmp_path):
    model = nano(loss=JointLoss(theta=1.0))
    rows = fit(model, Squares([(64, 64)] * 8), steps(tmp_path, epochs=15, batch_size=8, warmup=0, lr=2e-3))
    first, last = rows[0], rows[-1]
    assert last["loss"] < 0.5 * first["loss"]
    for name in ("classification", "bbox_regression", "exit"):
        assert last[name] < 0.8 * first[name], name
    stored = weights(tmp_path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_every_epoch_has_an_order_of_its_own(tmp_path):
    seen = []

    class Noted(Squares):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    fit(Tiny(), Noted([(8, 8)] * 8), steps(tmp_path, epochs=2, batch_size=8))
    first, second = seen[:8], seen[8:]
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_what_a_killed_run_half_wrote_is_removed(tmp_path):
    (tmp_path / ".checkpoint.pt.0123.tmp").write_bytes(b"half")
    fit(Tiny(), Squares([(8, 8)] * 8), steps(tmp_path, epochs=1, batch_size=8))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.csv", "model.safetensors"]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"ema": 1.0}, "ema must be at least 0 and below 1, got 1.0"),
        ({"accumulate": 0}, "accumulate must be a finite number from 1 on, got 0"),
        ({"clip": -1.0}, "clip must be a finite number from 0 on, got -1.0"),
        ({"warmup": -5}, "warmup must be a finite number from 0 on, got -5"),
        ({"accumulate": 3}, "batch_size 16 for 3"),
    ],
)
def test_impossible_arguments(tmp_path, how, message):
    with pytest.raises(ValueError, match=message):
        fit(Tiny(), Squares([(8, 8)] * 2), steps(tmp_path, **how))


# Losses that are not finite


def test_infinite_loss_names_the_images(tmp_path):
    """Weights are NaN after step 0 of the epoch."""
    model, data = nano(), Squares([(64, 64)] * 8)
    spoil = lambda step, losses: model.head.classification_head.cls_logits.bias.data.fill_(math.nan)  # noqa: E731
    second = [100 + i for i in list(StepSampler(8, 2))[1]]
    message = re.escape(f"epoch 1, step 1: loss is nan, images {second}, learning rate 0.00")
    with pytest.raises(FloatingPointError, match=message):
        fit(model, data, steps(tmp_path, batch_size=2), on_step=spoil)


def test_loss_that_is_not_finite(tmp_path, capsys, monkeypatch):
    """One step at an absurd learning rate; the next one's loss ends the run."""
    data, out = write_folder(tmp_path / "data", train=[(64, 64)] * 4), tmp_path / "run"
    absurd = ["--lr", "1e30", "--optimizer", "sgd", "--clip", "0", "--schedule", "steps", "--batch-size", "4"]
    line = refused(capsys, monkeypatch, "train", data, *options(out), *absurd, "--accumulate", "2")
    assert line.startswith("earlyexit: epoch 2, step 0: loss is nan, images [10")
    assert line.endswith("], learning rate 1e+30")
    assert len(torch.load(out / "checkpoint.pt", weights_only=True)["rows"]) == 1  # what was saved before is kept


# Optimiser and schedule


def rates(steps, **how):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule, values = make_schedule(optimizer, steps, **how), []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*values, optimizer.param_groups[0]["lr"]]


def test_cosine_schedule():
    values = rates(100, warmup=5)
    assert values[:6] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0, 2.0])
    assert values[5 + 19] == pytest.approx(1 + math.cos(math.pi * 0.2))
    assert values[5 + 38] == pytest.approx(1 + math.cos(math.pi * 0.4))
    assert values[100] == pytest.approx(0)
    assert rates(100, warmup=500)[9:11] == pytest.approx([2.0, 2.0])  # a tenth of the training at most
    assert rates(100, warmup=500)[4] == pytest.approx(1.0)


def test_step_schedule():
    values = rates(120, warmup=0, schedule="steps")
    assert values[0] == values[79] == 2.0
    assert values[80] == values[109] == pytest.approx(0.2)
    assert values[110] == values[120] == pytest.approx(0.02)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_what_is_decayed(name):
    model = nano()
    decayed, free = make_optimizer(model, name, lr=0.3, weight_decay=0.7).param_groups
    assert (decayed["weight_decay"], free["weight_decay"], decayed["lr"]) == (0.7, 0.0, 0.3)
    ours = {id(p): n for n, p in model.named_parameters()}
    names = {ours[id(p)] for p in free["params"]}
    assert {n for n in ours.values() if n.endswith(".bias") or "norm" in n} <= names
    assert not {n for n in names if not n.endswith((".bias", ".weight"))}
    assert "backbone.latents" not in names
    assert {ours[id(p)] for p in decayed["params"]} == set(ours.values()) - names


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimiser_leaves_frozen_weights_alone(name):
    model = set_norms(nano(), "frozen")
    freeze_stages(model.backbone, 2)
    held = {id(p) for group in make_optimizer(model, name).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(held) < len(list(model.parameters()))


def test_only_frozen_norms_are_in_eval_mode():
    model = nano()
    freeze_stages(model.backbone, 1)
    model.eval()
    train_mode(model)
    norms = {n: m for n, m in model.backbone.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    frozen = {n for n in norms if n.startswith(("stem.", "stages.0.", "reads.0."))}
    assert {n for n, m in norms.items() if not m.training} == frozen
    assert model.training and model.backbone.stem.training


# Accumulation, and batches of one image, of odd sizes, without objects, not full


def test_four_parts_take_the_step_of_the_whole(tmp_path):
    """A step of 8 images in one pass, or in 4 of 2: the same losses and weights, without batch statistics."""
    stories, data = [], Squares([(64, 64)] * 16)
    for accumulate in (1, 4):
        model, losses = set_norms(nano(), "frozen"), []
        start = state(model)
        how = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 0.5, "warmup": 0, "clip": 0.1}
        note = lambda step, values, losses=losses: losses.append(values)  # noqa: E731
        rows = fit(model, data, steps(tmp_path / str(accumulate), accumulate=accumulate, **how), on_step=note)
        stories.append((losses, model.state_dict(), rows))
        assert max((value - start[name]).abs().max() for name, value in model.state_dict().items()) > 1e-3
    (whole, first, rows), (parts, second, others) = stories
    assert len(whole) == len(parts) == 2
    for one, four in zip(whole, parts, strict=True):
        assert four == pytest.approx(one, rel=1e-5)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=1e-5, atol=1e-5)
    assert [row["loss"] for row in others] == pytest.approx([row["loss"] for row in rows], rel=1e-5)


def finite_step(model, data, out, **how):
    """Train one epoch; its row, and the names of the weights that changed."""
    before = state(model)
    (row,) = fit(model, data, steps(out, epochs=1, warmup=0, **how))
    assert all(math.isfinite(value) for value in row.values())
    return row, {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


def test_batches_of_one_image(tmp_path):
    """The exits' BatchNorm1d then uses its running statistics, which stay; the others use and note the image's."""
    model = nano()
    _, changed = finite_step(model, Squares([(64, 64)] * 2), tmp_path, batch_size=1)
    kept = set(model.state_dict()) - changed
    exits = [n for n, m in model.backbone.named_modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(exits) == 3
    assert kept == {f"backbone.{n}.{s}" for n in exits for s in ("running_mean", "running_var", "num_batches_tracked")}


def test_images_of_very_different_sizes(tmp_path):
    model, shapes = nano(max_size=128), []
    model.backbone.stem.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    _, changed = finite_step(model, Squares([(64, 64), (30, 250), (200, 20), (17, 23)]), tmp_path, batch_size=4)
    assert shapes == [(4, 3, 128, 128)]  # the longer sides are limited to 128 pixels, and all are padded to them
    assert changed == set(model.state_dict())


@pytest.mark.parametrize(("images", "accumulate", "seen"), [(3, 1, [3]), (3, 2, [2, 2]), (1, 4, [1, 1, 1, 1])])
def test_fewer_images_than_a_step(tmp_path, images, accumulate, seen):
    """They make the step, each part gets one at least, and none is left out."""
    model, batches = nano(), []
    model.register_forward_pre_hook(lambda module, args: batches.append([int(t["image_id"]) for t in args[1]]))
    finite_step(model, Squares([(64, 64)] * images), tmp_path, batch_size=8, accumulate=accumulate)
    assert [len(batch) for batch in batches] == seen
    assert {i for batch in batches for i in batch} == {100 + i for i in range(images)}


class Empty(Squares):
    """Without any object from the image `first` on."""

    def __init__(self, sizes, first):
        super().__init__(sizes)
        self.first = first

    def __getitem__(self, index):
        image, target = super().__getitem__(index)
        if index >= self.first:
            target |= {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
        return image, target


def test_images_without_objects(tmp_path):
    """Background for the detector; the exits learn from the other images alone, and from none if there is none."""
    row, changed = finite_step(nano(allow_empty=True), Empty([(64, 64)] * 2, 1), tmp_path / "one", batch_size=2)
    assert min(row["classification"], row["bbox_regression"], row["exit"]) > 0
    assert "backbone.classifiers.0.weight" in changed
    row, _ = finite_step(nano(allow_empty=True), Empty([(64, 64)] * 2, 0), tmp_path / "none", batch_size=2)
    assert row["classification"] > 0 and row["bbox_regression"] == row["exit"] == 0
    with pytest.raises(ValueError, match=r"image_id 10[01]\): no box; leave such images out, or set allow_empty"):
        finite_step(nano(), Empty([(64, 64)] * 2, 0), tmp_path / "refused", batch_size=2)


# What a run is stored as


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    return coco_split(write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4), "train")


def about(**changes):
    return ModelConfig(**{"task": "detect", "model": "nano", "classes": CLASSES, "min_size": 64, **changes}).card()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_size": None}, "min_size is 64, the card says 128"),
        ({"filler": "zero"}, "filler is 'downsample', the card says 'zero'"),
        ({"exit_target": "present"}, "exit_target is 'single', the card says 'present'"),
        ({"max_size": 99}, "max_size is 256, the card says 99"),
        ({"rule": "router"}, "rule is 'MaxSoftmax', the card says 'Router'"),
        ({"task": "classify"}, "task is 'detect', the card says 'classify'"),
        ({"rule": "worth of detections"}, "rule is 'MaxSoftmax', the card says 'Worth detections'"),
        ({"classes": ["a", "b", "c", "d"]}, r"classes is \['red', .*\], the card says \['a', 'b', 'c', 'd'\]"),
    ],
)
def test_a_card_of_another_model_is_refused(squares, tmp_path, changes, said):
    """With it, the weights would be loaded, and mean something else."""
    with pytest.raises(ValueError, match=f"about is the card of another model: {said}"):
        fit(nano(), squares, steps(tmp_path / "run", epochs=1), about=about(**changes))
    assert not (tmp_path / "run").exists()


def test_a_card_whose_exits_share_the_neck():
    """Widths of 0 leave every exit the shared neck and head, whose filler is downsampling."""
    config = ModelConfig("detect", "nano", CLASSES, filler="learned", widths=(0, 0, 0), min_size=64)
    check_card(make_model(config), config.card(), CLASSES)
    with pytest.raises(ValueError, match="about: model must be one of .*got 'micro'"):
        check_card(make_model(config), {**config.card(), "model": "micro"})


def test_a_finished_run_is_not_written_over(squares, tmp_path):
    plain = steps(tmp_path / "run", epochs=1, batch_size=2)
    fit(nano(), squares, plain, about=about())
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="already holds a run: set resume to go on with it, or choose another out"):
        fit(nano(), squares, plain, about=about())
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    own, classes = load_detector(tmp_path / "run")
    assert classes == CLASSES and own.transform.min_size[-1] == 64
    fit(nano(), squares, replace(plain, out=str(tmp_path / "bare")))
    with pytest.raises(ValueError, match=r"bare' has no card that tells how to make its model.*about=ModelConfig"):
        load_detector(tmp_path / "bare")
