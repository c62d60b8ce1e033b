"""Gradient accumulation, and batches of every kind: of one image, of odd sizes, without objects, not full."""

import math
from collections import Counter

import pytest
import torch
from squares import Squares, nano, settings, state
from torch import nn

from earlyexit.training.batches import StepSampler
from earlyexit.training.loop import fit
from earlyexit.training.run import advice, set_norms


def test_four_parts_take_the_step_of_the_whole(tmp_path):
    """A step of 8 images in one pass, or in 4 of 2: the same losses and weights, without batch statistics."""
    stories, data = [], Squares([(64, 64)] * 16)
    for accumulate in (1, 4):
        model, losses = set_norms(nano(), "frozen"), []
        start = state(model)
        how = {"epochs": 1, "batch_size": 8, "optimizer": "sgd", "lr": 0.5, "warmup": 0, "clip": 0.1}
        note = lambda step, values, losses=losses: losses.append(values)  # noqa: E731
        rows = fit(model, data, tmp_path / str(accumulate), accumulate=accumulate, on_step=note, **how)
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
        ({"batch_size": 2, "norm": "frozen", "init": "scenes"}, None),
    ],
)
def test_advice_about_batch_statistics(changes, images):
    found = advice(settings("DATA", "RUN", **changes))
    assert found is None if images is None else f"batch normalisation sees {images} image(s) at a time" in found


@pytest.mark.parametrize("changes", [{"freeze": 1}, {"norm": "frozen", "batch_size": 8}])
def test_advice_about_frozen_random_weights(changes):
    assert "keep random weights here" in advice(settings("DATA", "RUN", **changes))
    assert "keep random weights" not in str(advice(settings("DATA", "RUN", init="scenes", **changes)))
