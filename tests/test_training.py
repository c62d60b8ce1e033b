"""Training at scale: accumulation, small and odd batches, moving average, scale jitter, workers, resumption."""

import json
import math
import pickle
from collections import Counter

import pytest
import torch
from PIL import Image
from squares import CLASSES, Squares, same, settings, weights, write_folder
from torch import nn

from earlyexit import dyn_retinanet_nano, training
from earlyexit.data.coco import coco_split, train_transforms
from earlyexit.fitting import fit
from earlyexit.freezing import set_norms
from earlyexit.loading import SeededItems, StepSampler
from earlyexit.training import advice, train


def nano(**detector):
    torch.manual_seed(0)
    return dyn_retinanet_nano(len(CLASSES), min_size=64, **detector)


class Tiny(nn.Module):
    """Guesses the class from the mean of an image: a model that trains in milliseconds, with statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.guess = nn.Linear(8, 3)

    def forward(self, images, targets):
        seen = torch.stack([self.scale(image[None]).relu().mean((0, 2, 3)) for image in images])
        labels = torch.stack([target["labels"][0] for target in targets])
        return {"guess": nn.functional.cross_entropy(self.guess(self.norm(seen)), labels)}


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# Accumulation and batches of every kind


def test_four_parts_take_the_step_of_the_whole(tmp_path):
    """A step of 8 images in one pass, or in 4 of 2: the same losses and weights, without batch statistics."""
    stories = []
    for accumulate in (1, 4):
        model, losses = set_norms(nano(), "frozen"), []
        start = state(model)
        how = {"epochs": 2, "batch_size": 8, "optimizer": "sgd", "lr": 0.02, "warmup": 0, "clip": 1.0}
        note = lambda step, values, losses=losses: losses.append(values)  # noqa: E731
        rows = fit(
            model, Squares([(64, 64)] * 8), tmp_path / str(accumulate), accumulate=accumulate, on_step=note, **how
        )
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
    (row,) = fit(model, data, out, epochs=1, warmup=0, **how)
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
    model = nano()
    shapes = []
    model.backbone.stem.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape)))
    _, changed = finite_step(model, Squares([(64, 64), (30, 500), (400, 20), (17, 23)]), tmp_path, batch_size=4)
    assert shapes == [(4, 3, 256, 256)]  # 64 pixels at the shorter side, 256 at most at the longer: 256x13, 16x256
    assert changed == set(model.state_dict())


@pytest.mark.parametrize(("images", "accumulate", "seen"), [(3, 1, [3]), (3, 2, [2, 2]), (1, 4, [1, 1, 1, 1])])
def test_fewer_images_than_a_step(tmp_path, images, accumulate, seen):
    """They make the step, each part gets one at least, and none is left out."""
    model, batches = nano(), []
    model.register_forward_pre_hook(lambda module, args: batches.append([int(t["image_id"]) for t in args[1]]))
    finite_step(model, Squares([(64, 64)] * images), tmp_path, batch_size=8, accumulate=accumulate)
    assert [len(batch) for batch in batches] == seen
    assert {i for batch in batches for i in batch} == {100 + i for i in range(images)}


def test_more_parts_than_twice_the_images():
    assert list(StepSampler(1, 8, 4)) == [[0]] * 4
    seen = Counter(i for batch in StepSampler(3, 16, 8, groups=[0, 1, 1]) for i in batch)
    assert sorted(seen.values()) == [2, 3, 3]


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


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({"batch_size": 8}, None),
        ({"batch_size": 7}, 7),
        ({"batch_size": 16, "accumulate": 4}, 4),
        ({"batch_size": 2, "norm": "frozen"}, None),
    ],
)
def test_advice_about_batch_statistics(changes, images):
    found = advice(settings("DATA", "RUN", **changes))
    assert found is None if images is None else f"batch normalisation sees {images} image(s) at a time" in found


# Moving average


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


# Scale jitter and workers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    sizes = [(64, 96), (96, 64), (32, 160), (64, 64)]
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=sizes, val=[(64, 64)])


def test_sizes_of_the_jitter(data):
    """Nine sizes of 0.75 to 1.25 times what the detector makes of the image, equally often; boxes grow with it."""
    plain = coco_split(data, "train")
    jittered = plain.with_transforms(train_transforms(0, jitter=0.25, min_size=64, max_size=128))
    torch.manual_seed(0)
    for index, (height, width) in enumerate([(64, 96), (96, 64), (32, 160), (64, 64)]):
        scale = min(64 / min(height, width), 128 / max(height, width))  # the detector's own
        before, sizes = plain[index][1], Counter()
        for _ in range(180):
            image, target = jittered[index]
            sizes[max(image.shape[1:])] += 1
            grown = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
            torch.testing.assert_close(target["boxes"], before["boxes"] * grown)
            assert torch.equal(target["labels"], before["labels"])
        expected = [scale * max(height, width) * (0.75 + step / 16) for step in range(9)]
        assert sorted(sizes) == pytest.approx(expected, abs=1)
        assert min(sizes.values()) >= 5


def test_the_model_does_not_resize_again(data, tmp_path, monkeypatch):
    """In training the network sees the size that the jitter made, in evaluation that of the settings."""
    made = []
    monkeypatch.setattr(training, "fit", lambda model, dataset, *_, **__: made.append((model, dataset)))
    for jitter in (0.0, 0.25):
        train(settings(data, tmp_path, jitter=jitter, max_size=128))
    shapes = []
    for model, dataset in made:
        model.backbone.stem.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[2:])))
        model.train()
        seen = [dataset[3] for _ in range(8)]
        for image, target in seen:
            model([image], [target])
        model.eval()([torch.rand(3, 100, 100)])
        padded = [tuple(32 * math.ceil(side / 32) for side in image.shape[1:]) for image, _ in seen]
        assert shapes.pop() == (64, 64)
        assert set(shapes) == {(64, 64)} if model is made[0][0] else shapes == padded and len(set(shapes)) > 1
        shapes.clear()


def test_bad_jitter(data, tmp_path):
    with pytest.raises(ValueError, match=r"jitter must be in \[0, 1\), got 1.0"):
        train(settings(data, tmp_path, jitter=1.0))


@pytest.mark.parametrize("seed", [0, 20261122, -1, 10**15])
def test_an_image_is_a_function_of_seed_epoch_and_index(data, seed):
    dataset = coco_split(data, "train", train_transforms(jitter=0.25, min_size=64, max_size=128))

    def seen(epoch, index, seed=seed):
        items = SeededItems(dataset, seed)
        items.epoch = epoch
        return items[index][0]

    torch.rand(3)
    before = torch.get_rng_state()
    first = seen(2, 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    assert torch.equal(seen(2, 1), first)
    assert any(seen(epoch, 1).shape != first.shape for epoch in range(3, 8))
    assert any(seen(2, 1, seed=seed + k).shape != first.shape for k in range(1, 6))


def test_a_data_set_can_be_sent_to_a_worker(data):
    """As Windows and macOS do it."""
    dataset = coco_split(data, "train", train_transforms(0, jitter=0.25, min_size=64))
    items = pickle.loads(pickle.dumps(SeededItems(dataset, 3)))
    assert torch.equal(items[1][0], SeededItems(dataset, 3)[1][0])


def test_workers_change_nothing(data, tmp_path):
    dataset = coco_split(data, "train", train_transforms(jitter=0.25, min_size=64, max_size=128))
    for workers in (0, 2):
        fit(Tiny(), dataset, tmp_path / str(workers), epochs=2, batch_size=2, lr=0.1, workers=workers)
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))
    fit(Tiny(), coco_split(data, "train"), tmp_path / "plain", epochs=2, batch_size=2, lr=0.1)
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "plain"))


# Settings and resumption


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
