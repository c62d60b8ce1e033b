"""Batches: their order, their images, and what is looked at in annotations before the first step."""

import json
import pickle
from collections import Counter

import pytest
import torch
from squares import Tiny, same, settings, steps, weights, write_folder

from earlyexit.data.coco import SeededItems, coco_split, make_loader, train_transforms, without_traceback
from earlyexit.training.loop import StepSampler, check_dataset, fit
from earlyexit.training.run import train


def order(length=50, batch_size=8, parts=1, seed=0, epoch=0, groups=None):
    sampler = StepSampler(length, batch_size, parts, seed, groups)
    sampler.epoch = epoch
    return list(sampler)


def test_order_is_a_function_of_seed_and_epoch():
    assert order(seed=0, epoch=1) == order(seed=0, epoch=1)
    seen = [i for batch in order(48, epoch=1) for i in batch]
    assert sorted(seen) == list(range(48))
    orders = [order(seed=seed, epoch=epoch) for seed in range(3) for epoch in range(3)]
    assert all(orders[i] != orders[j] for i in range(9) for j in range(i))


@pytest.mark.parametrize("groups", [None, [i % 3 == 0 for i in range(50)]])
def test_parts_of_a_step_make_the_step(groups):
    """One process with 8 images, two with 4, four that accumulate two batches of 1 see the same steps."""
    whole = order(groups=groups)
    assert [len(batch) for batch in whole] == [8] * 6  # two of 50 images are left out
    for parts in (2, 4, 8):
        split = order(parts=parts, groups=groups)
        assert [sum(split[k : k + parts], []) for k in range(0, len(split), parts)] == whole


def test_steps_are_of_one_group():
    """17 and 33 images in two groups of 8: 2 + 4 pure steps, in mixed order; two are left, too few for a step."""
    groups = [int(i % 3 == 0) for i in range(50)]
    kinds = [{groups[i] for i in batch} for batch in order(groups=groups)]
    assert sorted(min(kind) for kind in kinds if len(kind) == 1) == [0, 0, 0, 0, 1, 1]
    assert any(
        [min(kind) for kind in [{groups[i] for i in batch} for batch in order(groups=groups, seed=seed)]]
        != [0, 0, 0, 0, 1, 1]
        for seed in range(5)
    )


@pytest.mark.parametrize(
    ("length", "batch_size", "parts", "sizes"), [(5, 16, 1, [5]), (5, 16, 2, [3, 3]), (1, 8, 1, [1])]
)
def test_fewer_images_than_a_step(length, batch_size, parts, sizes):
    batches = order(length, batch_size, parts)
    assert [len(batch) for batch in batches] == sizes
    assert set(sum(batches, [])) == set(range(length))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 8), "nothing to train on: 0"),
        ((9, 9, 2), "batch_size 9 for 2"),
        ((9, 3, 1, 0, [1]), "each of 9 images, got 1"),
    ],
)
def test_impossible_steps(arguments, message):
    with pytest.raises(ValueError, match=message):
        StepSampler(*arguments)


def test_more_parts_than_twice_the_images():
    assert list(StepSampler(1, 8, 4)) == [[0]] * 4
    seen = Counter(i for batch in StepSampler(3, 16, 8, groups=[0, 1, 1]) for i in batch)
    assert sorted(seen.values()) == [2, 3, 3]


# Augmented images


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    sizes = [(64, 96), (96, 64), (32, 160), (64, 64)]
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=sizes, val=[(64, 64)])


@pytest.mark.parametrize("seed", [0, 20261122, -1, 10**15])
def test_an_image_is_a_function_of_seed_epoch_and_index(squares, seed):
    dataset = coco_split(squares, "train", train_transforms(jitter=0.25, min_size=64, max_size=128))

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


def test_a_data_set_can_be_sent_to_a_worker(squares):
    """As Windows and macOS do it."""
    dataset = coco_split(squares, "train", train_transforms(0, jitter=0.25, min_size=64))
    items = pickle.loads(pickle.dumps(SeededItems(dataset, 3)))
    assert torch.equal(items[1][0], SeededItems(dataset, 3)[1][0])


def test_workers_change_nothing(squares, tmp_path):
    dataset = coco_split(squares, "train", train_transforms(jitter=0.25, min_size=64, max_size=128))
    how = {"epochs": 2, "batch_size": 2, "lr": 0.1}
    for workers in (0, 2):
        fit(Tiny(), dataset, steps(tmp_path / str(workers), workers=workers, **how))
    assert same(weights(tmp_path / "0"), weights(tmp_path / "2"))
    fit(Tiny(), coco_split(squares, "train"), steps(tmp_path / "plain", **how))
    assert not same(weights(tmp_path / "0"), weights(tmp_path / "plain"))


# Annotations


@pytest.fixture
def spoilt(tmp_path):
    """A function that makes the data set with its JSON changed."""

    def spoil(change):
        folder = write_folder(tmp_path / "data", train=[(64, 64)] * 4)
        path = folder / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return folder

    return spoil


def no_boxes(coco):
    coco["annotations"] = coco["annotations"][1:]


def two_boxes(coco):
    coco["annotations"][0]["image_id"] = 101


def outside(coco):
    coco["annotations"][2]["bbox"] = [64, 0, 10, 10]


def huge(coco):
    coco["annotations"][2]["bbox"] = [0, 0, 1e9, 1e9]


def same_id(coco):
    coco["images"][1]["id"] = 100


def no_id(coco):
    coco["images"][0]["id"] = coco["annotations"][0]["image_id"] = None


def no_categories(coco):
    coco["categories"], coco["annotations"] = [], []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_boxes, "image 100, '0.png', has no box; leave such images out, or use --allow-empty"),
        (two_boxes, "image 100, '0.png', has no box"),
        (outside, "annotation 3: bbox outside its image: [64, 0, 10, 10] in 64 x 64"),
        (huge, "image 102, '2.png', has the box [0, 0, 1000000000.0, 1000000000.0], most of which is outside"),
        (same_id, "have the same id"),
        (no_id, "image number 1: id is neither a whole number nor a text: None"),
        (no_categories, "its annotations have no categories"),
        (lambda coco: coco.update(images=[], annotations=[]), "there is nothing to train on: 0 images"),
    ],
)
def test_annotations_are_refused_before_the_first_step(spoilt, tmp_path, change, message):
    with pytest.raises(ValueError) as refusal:
        train(settings(spoilt(change), tmp_path / "run"))
    assert message in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_what_may_be_in_the_annotations(spoilt):
    dataset = coco_split(spoilt(two_boxes), "train")
    check_dataset(dataset, allow_empty=True, single=False)
    with pytest.raises(ValueError, match="image 101, '1.png', has 2 objects, but the exits learn one class"):
        check_dataset(dataset, allow_empty=True)


def test_a_box_may_stick_out_a_little(spoilt):
    def over_the_edge(coco):
        coco["annotations"][0]["bbox"] = [40, 40, 30, 30]

    check_dataset(coco_split(spoilt(over_the_edge), "train"))


def test_a_loading_process_speaks_in_one_line(tmp_path):
    folder = write_folder(tmp_path / "data", train=[(64, 64)] * 2)
    (folder / "train" / "1.png").write_bytes(b"")
    loader = make_loader(coco_split(folder, "train"), [[0], [1]], workers=1)
    batches = without_traceback(loader)
    assert next(batches)[1][0]["image_id"] == 100
    with pytest.raises(ValueError, match="^image 101, '1.png', cannot be read: cannot identify image file [^\n]*$"):
        next(batches)
