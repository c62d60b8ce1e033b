"""Training and evaluation: reproducible, resumable, and right on cases known by hand."""

import csv
import json
import math
import random
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from safetensors.torch import load_file

from earlyexit import count_macs, dyn_retinanet_nano
from earlyexit.data.coco import coco_split, collate
from earlyexit.evaluation import coco as evaluation
from earlyexit.evaluation.coco import coco_metrics, evaluate
from earlyexit.files import write_whole
from earlyexit.model.inputs import network_size
from earlyexit.training import loop as engine
from earlyexit.training import loop as fitting
from earlyexit.training.batches import StepSampler
from earlyexit.training.loop import make_optimizer, make_schedule
from earlyexit.training.run import train
from earlyexit.training.settings import TrainSettings


def settings(folder, out, **changes):
    """Three epochs of three steps each."""
    plain = TrainSettings(str(folder), str(out), exit_target="largest", epochs=3, batch_size=8, progress=False)
    return replace(plain, **changes)


def weights(out):
    return load_file(out / "model.safetensors")


def same_weights(first, second):
    first, second = weights(first), weights(second)
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


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
    assert same_weights(out, tmp_path / "again")
    assert [row["loss"] for row in again] == [row["loss"] for row in rows]
    train(settings(folder, tmp_path / "other", epochs=1, seed=1))
    train(settings(folder, tmp_path / "one", epochs=1))
    assert not same_weights(tmp_path / "one", tmp_path / "other")


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
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoint.pt",
        "log.csv",
        "model.safetensors",
        "settings.json",
    ]
    assert len(torch.load(out / "checkpoint.pt", weights_only=True)["rows"]) == 1
    rows = train(settings(folder, out, resume=True))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert same_weights(out, whole_run[0])


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda temporary: temporary.write_text("old"))

    def fail(temporary):
        temporary.write_text("ne")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_finished_run_is_not_trained_on(whole_run, folder):
    before = weights(whole_run[0])
    rows = train(settings(folder, whole_run[0], resume=True))
    assert rows == whole_run[1]
    assert all(torch.equal(value, before[name]) for name, value in weights(whole_run[0]).items())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": False}, "already holds a run: add --resume"),
        ({"norm": "frozen"}, "norm was 'batch', is 'frozen'"),
        ({"lr": 0.5}, "other settings: lr was 0.001, is 0.5"),
        ({"epochs": 4, "seed": 3}, "epochs was 3, is 4, seed was 0, is 3"),
    ],
)
def test_runs_are_not_mixed(whole_run, folder, changes, message):
    with pytest.raises(ValueError, match=message):
        train(settings(folder, whole_run[0], **{"resume": True, **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segment"}, "task must be one of .*'segment'"),
        ({"model": "huge"}, "model must be one of .*'huge'"),
        ({"precision": "int8"}, "precision must be one of .*'int8'"),
        ({"optimizer": "adam"}, "optimizer must be one of .*'adam'"),
        ({"schedule": "linear"}, "schedule must be one of .*'linear'"),
        ({"split": "val"}, "no image folder"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"exit_target": "single"}, "objects, but the exits learn one class per image"),
    ],
)
def test_bad_settings(folder, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        train(settings(folder, tmp_path, **changes))


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


class Simple(torch.utils.data.Dataset):
    """Bright squares on black: the class is the colour."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        image = torch.zeros(3, 64, 64)
        image[index % 3, 16:48, 8:40] = 1
        target = {"boxes": torch.tensor([[8.0, 16.0, 40.0, 48.0]]), "labels": torch.tensor([index % 3])}
        return image, {**target, "image_id": torch.tensor(100 + index)}


def test_loss_falls(tmp_path):
    torch.manual_seed(0)
    model = dyn_retinanet_nano(3, min_size=64, theta=1.0)
    rows = fitting.fit(model, Simple(), tmp_path, epochs=15, batch_size=8, warmup=0, lr=2e-3)
    first, last = rows[0], rows[-1]
    assert last["loss"] < 0.5 * first["loss"]
    for name in ("classification", "bbox_regression", "exit"):
        assert last[name] < 0.8 * first[name], name
    stored = weights(tmp_path)
    assert all(torch.equal(value, stored[name]) for name, value in model.state_dict().items())


def test_every_epoch_has_an_order_of_its_own(tmp_path):
    seen = []

    class Noted(Simple):
        def __getitem__(self, index):
            seen.append(index)
            return super().__getitem__(index)

    torch.manual_seed(0)
    fitting.fit(dyn_retinanet_nano(3, min_size=64), Noted(), tmp_path, epochs=2, batch_size=8)
    first, second = seen[:8], seen[8:]
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_infinite_loss_names_the_images(tmp_path):
    """Step 1 of the epoch meets an image of NaNs."""
    torch.manual_seed(0)
    model, data = dyn_retinanet_nano(3, min_size=64), Simple()
    batches = [collate([data[0], data[1]]), collate([data[2], data[5]])]
    batches[1][0][1].fill_(math.nan)
    optimizer = make_optimizer(model)
    scheduler = make_schedule(optimizer, 10, warmup=0)
    with pytest.raises(FloatingPointError, match=r"loss is nan at step 1, images \[102, 105\], learning rate 0.0009"):
        engine.train_one_epoch(Accelerator(), model, batches, optimizer, scheduler)


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
def test_what_is_decayed(nano, name):
    decayed, free = make_optimizer(nano, name, lr=0.3, weight_decay=0.7).param_groups
    assert (decayed["weight_decay"], free["weight_decay"], decayed["lr"]) == (0.7, 0.0, 0.3)
    ours = {id(p): n for n, p in nano.named_parameters()}
    names = {ours[id(p)] for p in free["params"]}
    assert {n for n in ours.values() if n.endswith(".bias") or "norm" in n} <= names
    assert not {n for n in names if not n.endswith((".bias", ".weight"))}
    assert "backbone.latents" not in names
    assert {ours[id(p)] for p in decayed["params"]} == set(ours.values()) - names


# Evaluation


def perfect(dataset):
    """The annotations as if a model had found them."""
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in dataset.coco.anns.values()
    ]


def test_perfect_detections_have_full_marks(folder):
    dataset = coco_split(folder, "test")
    metrics = coco_metrics(dataset, perfect(dataset))
    assert list(metrics) == list(evaluation.METRICS)
    assert metrics["mAP"] == metrics["AP50"] == metrics["AP75"] == pytest.approx(100)
    assert metrics["AP large"] is None  # no object of 96 pixels in images of 64


def test_no_detection_has_none(folder):
    dataset = coco_split(folder, "test")
    metrics = coco_metrics(dataset, [])
    assert metrics["mAP"] == metrics["AP50"] == metrics["AP75"] == 0


def test_boxes_that_are_off_lose_the_strict_metrics(folder):
    """Boxes of 0.6 of the width have an overlap of 0.6: right for AP50, wrong for AP75."""
    dataset = coco_split(folder, "test")
    found = perfect(dataset)
    for entry in found:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, 0.61 * width, height]
    metrics = coco_metrics(dataset, found)
    assert metrics["AP50"] == pytest.approx(100)
    assert metrics["AP75"] == 0
    assert metrics["mAP"] == pytest.approx(30)  # the thresholds 0.5, 0.55 and 0.6 of ten


class Oracle(torch.nn.Module):
    """Finds exactly what is there, and says that image after image left at exits 1, 2, 3, 4, 1, ..."""

    def __init__(self, dataset, like):
        super().__init__()
        self.backbone, self.neck, self.head, self.transform = like.backbone, like.neck, like.head, like.transform
        self.targets = [target for _, target in dataset]
        self.seen = 0

    def head_at(self, exit):
        return self.head

    def pyramid_at(self, reached):
        return self.neck({name: x for name, x in reached.features.items() if name in self.neck.names})

    def forward(self, images, thresholds=None, exit=None):
        found = []
        for _ in images:
            target = self.targets[self.seen]
            scores = torch.ones(len(target["labels"]))
            found.append({"boxes": target["boxes"], "labels": target["labels"], "scores": scores})
            found[-1]["exit"] = self.seen % 4 + 1
            self.seen += 1
        return found


@pytest.mark.parametrize("batch_size", [1, 3])
def test_evaluate_with_an_oracle(folder, nano, batch_size):
    dataset = coco_split(folder, "test")
    result = evaluate(Oracle(dataset, nano), dataset, batch_size=batch_size)
    assert result["mAP"] == pytest.approx(100)
    exits = [i % 4 + 1 for i in range(len(dataset))]
    assert result["exits"] == {k: exits.count(k) for k in (1, 2, 3, 4)}
    assert result["images"] == len(dataset)
    macs = count_macs(nano, (128, 128))
    assert result["gmacs"] == pytest.approx(sum(macs[k]["total"] for k in exits) / len(exits))
    assert result["gmacs_full"] == pytest.approx(macs[4]["total"])


def test_network_size_is_that_of_the_transform(nano):
    generator = random.Random(0)
    for _ in range(200):
        image = torch.zeros(3, generator.randint(20, 500), generator.randint(20, 500))
        expected = tuple(nano.transform([image])[0].tensors.shape[-2:])
        assert network_size(nano, image) == expected, image.shape


def test_confidences_and_accuracy(nano, folder, tmp_path):
    """On images made of their class alone, against the backbone called image by image."""
    content = json.loads((folder / "annotations" / "instances_train.json").read_text())
    (tmp_path / "annotations").mkdir()
    (tmp_path / "one").mkdir()
    images, annotations = [], []
    for i, label in enumerate((1, 5, 5, 20, 7)):
        Image.new("RGB", (64, 64), (50 * i, 200 - 30 * i, 90)).save(tmp_path / "one" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 64})
        box = {"bbox": [8, 8, 40, 40], "area": 1600, "iscrowd": 0}
        annotations.append({"id": i + 1, "image_id": i, "category_id": label, **box})
    whole = {"images": images, "annotations": annotations, "categories": content["categories"]}
    (tmp_path / "annotations" / "instances_one.json").write_text(json.dumps(whole))
    dataset = coco_split(tmp_path, "one")
    with torch.inference_mode():
        logits = torch.stack([torch.stack(nano.backbone(nano.transform([image])[0].tensors)) for image, _ in dataset])
    shares = logits.squeeze(2).softmax(2)  # (images, exits, classes)
    torch.testing.assert_close(evaluation.exit_confidences(nano, dataset), shares.amax(2).T)
    labels = torch.tensor([0, 4, 4, 19, 6])
    expected = [100 * sum(shares[i, k].argmax() == labels[i] for i in range(5)).item() / 5 for k in range(4)]
    assert evaluation.exit_accuracy(nano, dataset, batch_size=2) == pytest.approx(expected)
    assert evaluation.is_single_object(dataset)


def test_accuracy_needs_single_objects(nano, folder):
    dataset = coco_split(folder, "train")
    assert not evaluation.is_single_object(dataset)
    with pytest.raises(ValueError, match="exactly one object in each image, image"):
        evaluation.exit_accuracy(nano, dataset)


def test_what_a_killed_run_half_wrote_is_removed(tmp_path):
    (tmp_path / ".checkpoint.pt.0123.tmp").write_bytes(b"half")
    fitting.fit(dyn_retinanet_nano(3, min_size=64), Simple(), tmp_path, epochs=1, batch_size=8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "log.csv", "model.safetensors"]
