"""Scale jitter: the sizes that it promises, resized once, and the same with any number of workers."""

import math
import pickle
from collections import Counter

import pytest
import torch
from squares import Tiny, same, settings, weights, write_folder

from earlyexit.data.coco import coco_split, train_transforms
from earlyexit.training import run as training
from earlyexit.training.batches import SeededItems
from earlyexit.training.loop import fit
from earlyexit.training.run import train


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
        for _ in range(90):
            image, target = jittered[index]
            sizes[max(image.shape[1:])] += 1
            grown = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
            torch.testing.assert_close(target["boxes"], before["boxes"] * grown)
            assert torch.equal(target["labels"], before["labels"])
        expected = [scale * max(height, width) * (0.75 + step / 16) for step in range(9)]
        assert sorted(sizes) == pytest.approx(expected, abs=1)
        assert min(sizes.values()) >= 3


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
        seen = [dataset[2] for _ in range(8)]
        for image, target in seen:
            model([image], [target])
        model.eval()([torch.rand(3, 100, 100)])
        padded = [tuple(32 * math.ceil(side / 32) for side in image.shape[1:]) for image, _ in seen]
        assert shapes.pop() == (64, 64)
        assert set(shapes) == {(32, 128)} if model is made[0][0] else shapes == padded and len(set(shapes)) > 1
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
