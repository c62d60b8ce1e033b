"""Trainings: moving average, resumption bit for bit, what settings may be."""

import json

import pytest
import torch
from PIL import Image
from squares import CLASSES, Squares, Tiny, same, settings, state, weights, write_folder

from earlyexit.training.loop import fit
from earlyexit.training.run import train


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

    how = {"epochs": 2, "batch_size": 2, "lr": 0.1, "warmup": 0}
    fit(model, Squares([(8, 8)] * 6), tmp_path, ema=0.5, on_step=note, after_epoch=look, **how)
    stored = weights(tmp_path)
    assert set(average) < set(stored)
    for name, value in average.items():
        torch.testing.assert_close(stored[name], value, rtol=1e-6, atol=1e-6)
        assert torch.equal(seen[-1][name], stored[name])
        assert (model.state_dict()[name] - value).abs().max() > 1e-4  # the average lags behind
    plain = Tiny()
    fit(plain, Squares([(8, 8)] * 6), tmp_path / "plain", **how)
    assert same(plain.state_dict(), model.state_dict())  # and does not disturb the training


class KilledError(Exception):
    pass


@pytest.mark.parametrize("how", [{}, {"ema": 0.5}, {"ema": 0.9, "save_every": 2, "accumulate": 2}])
def test_resumed_run_equals_the_whole(tmp_path, how):
    """Killed after the steps of epoch 4, with all epochs or every other one saved."""
    how |= {"epochs": 5, "batch_size": 4, "lr": 0.05, "optimizer": "sgd"}
    data, first, second = Squares([(8, 8)] * 8), Tiny(), Tiny()

    def kill(model, epoch):
        if epoch == 4:
            raise KilledError
        return {"measured": 10.0 * epoch}

    with pytest.raises(KilledError):
        fit(second, data, tmp_path / "killed", after_epoch=kill, **how)
    fresh, steps = Tiny(), []
    measure = lambda model, epoch: {"measured": 10.0 * epoch}  # noqa: E731
    count = lambda step, losses: steps.append(step)  # noqa: E731
    rows = fit(fresh, data, tmp_path / "killed", resume=True, after_epoch=measure, on_step=count, **how)
    whole = fit(first, data, tmp_path / "whole", after_epoch=measure, **how)
    assert steps == list(range(4 if "save_every" in how else 6, 10))
    assert same(fresh.state_dict(), first.state_dict())
    assert same(weights(tmp_path / "killed"), weights(tmp_path / "whole"))
    for ours, theirs in zip(rows, whole, strict=True):
        assert {k: ours[k] for k in ("epoch", "loss", "lr", "measured")} == {
            k: theirs[k] for k in ("epoch", "loss", "lr", "measured")
        }


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"ema": 1.0}, r"ema in \[0, 1\), got 6, 1, 1, 1.0"),
        ({"accumulate": 0}, "at least 1 .*got 6, 0"),
        ({"clip": -1.0}, "warmup and clip must be at least 0, got 100, -1.0"),
        ({"warmup": -5}, "warmup and clip must be at least 0, got -5"),
        ({"accumulate": 3}, "batch_size 16 for 3"),
    ],
)
def test_impossible_arguments(tmp_path, how, message):
    with pytest.raises(ValueError, match=message):
        fit(Tiny(), Squares([(8, 8)] * 2), tmp_path, **how)


# Settings


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4, val=[(64, 64)])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return out, train(settings(data, out, epochs=1))


def test_sizes_and_classes_are_stored(finished):
    story = json.loads((finished[0] / "settings.json").read_text())
    assert (story["min_size"], story["max_size"], story["images"], story["processes"]) == (64, 256, 4, 1)
    assert story["classes"] == CLASSES


def test_another_number_of_images_is_refused(data, finished, tmp_path):
    other = write_folder(tmp_path / "other", train=[(64, 64)] * 3)
    with pytest.raises(ValueError, match="data was"):
        train(settings(other, finished[0], epochs=1, resume=True))
    moved = tmp_path / "data"
    data.rename(moved)
    try:
        other.rename(data)
        with pytest.raises(ValueError, match="was trained on 4 images, the split now has 3"):
            train(settings(data, finished[0], epochs=1, resume=True))
        data.rename(other)
    finally:
        moved.rename(data)


def test_a_run_older_than_a_setting_can_be_resumed(data, finished):
    """The default of what its settings.json does not name is what it did."""
    out, rows = finished
    path = out / "settings.json"
    story = json.loads(path.read_text())
    for name in ("ema", "jitter", "freeze", "norm", "save_every", "pictures"):
        del story["settings"][name]
    path.write_text(json.dumps({k: v for k, v in story.items() if k != "images"}))
    assert train(settings(data, out, epochs=1, resume=True)) == rows
    with pytest.raises(ValueError, match="ema was 0.0, is 0.5"):
        train(settings(data, out, epochs=1, resume=True, ema=0.5))


def test_a_cut_off_checkpoint_is_named(data, finished, tmp_path):
    for name in ("settings.json", "checkpoint.pt"):
        content = (finished[0] / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name == "checkpoint.pt" else content)
    with pytest.raises(ValueError, match=r"checkpoint.pt' is no checkpoint or only a part of one: remove it"):
        train(settings(data, tmp_path, epochs=1, resume=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_size": 300}, "min_size 300 is above max_size 256"),
        ({"min_size": 16}, "must be at least 32 pixels, got {'min_size': 16}"),
        ({"norm": "sync"}, "norm 'sync' needs GPUs"),
        ({"freeze": 5}, "frozen stages, 0 to 4, got 5"),
        ({"val_split": "lost"}, "no image folder"),
        ({"task": "classify", "pictures": True}, "--val-split and --pictures are for --task detect, got 'classify'"),
    ],
)
def test_bad_settings_leave_nothing(data, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        train(settings(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named(tmp_path):
    folder = write_folder(tmp_path / "data", train=[(64, 64)] * 2)
    Image.new("RGB", (64, 64)).save(folder / "train" / "1.png")
    content = (folder / "train" / "1.png").read_bytes()
    (folder / "train" / "1.png").write_bytes(content[:60])
    with pytest.raises(ValueError, match="image 101, '1.png', cannot be read"):
        train(settings(folder, tmp_path / "run"))


# One class


def write_one_class(out, empty):
    """Squares of one class, of which the first `empty` images have no box."""
    folder = write_folder(out, train=[(64, 64)] * 6)
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"] = content["categories"][:1]
    content["annotations"] = [{**found, "category_id": 1} for found in content["annotations"][empty:]]
    path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        (0, "all images show it, so they learn little: add images without it, with --allow-empty"),
        (2, "for a softmax over one class is always 1"),
    ],
)
def test_one_class_is_said_and_learned(tmp_path, empty, said):
    folder, notes = write_one_class(tmp_path / "data", empty), []
    now = settings(folder, tmp_path / "run", epochs=6, allow_empty=empty > 0, theta=1.0)
    rows = train(now, on_start=notes.extend)
    (note,) = notes
    assert note.startswith("one class: the exits say by a sigmoid how surely it is there") and note.endswith(said)
    assert rows[0]["exit"] > 0.1 and rows[-1]["exit"] < rows[0]["exit"]  # a softmax would have nothing to learn


def test_one_class_is_nothing_to_classify(tmp_path):
    folder = write_one_class(tmp_path / "data", 0)
    with pytest.raises(ValueError, match="one class, 'red', leaves --task classify nothing to tell apart"):
        train(settings(folder, tmp_path / "run", task="classify"))
    assert not (tmp_path / "run").exists()
