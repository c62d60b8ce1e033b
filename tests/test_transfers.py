"""How often the CPU asks a device for a value, for which a GPU would have to finish first: counted without one."""

import math

import pytest
import torch
from squares import Squares
from torch.utils._python_dispatch import TorchDispatchMode

from earlyexit import dyn_retinanet_nano
from earlyexit.data import coco_split, collate, make_loader
from earlyexit.evaluation import collect_records, evaluate
from earlyexit.evaluation.coco import exit_logits
from earlyexit.losses import JointLoss, exit_labels, exit_loss, present_classes
from earlyexit.model.inputs import check_images, check_targets


class Questions(TorchDispatchMode):
    """Counts the single values that Python asks for: `item`, `bool`, a 0-dim index."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def targets_of(count, device="cpu", objects=(1,)):
    """Targets of `count` images with so many objects in turn; the largest box of an image is its second."""
    made = []
    for i in range(count):
        n = objects[i % len(objects)]
        sides = torch.tensor([10.0, 30, 20, 5])[:n, None]
        boxes = torch.cat([torch.full((n, 2), float(i)), sides.expand(n, 2) + i], dim=1)
        made.append({"boxes": boxes.to(device), "labels": torch.arange(i, i + n).remainder(5).to(device)})
    return made


@pytest.mark.parametrize("count", [1, 8])
def test_images_and_targets_of_a_batch_are_one_question(count, nano):
    images = [torch.zeros(3, 64, 64)] * count
    with Questions() as questions:
        check_images(images, nano, values=False)
        check_targets(images, targets_of(count, objects=(2, 0, 1)), 5, allow_empty=True)
    assert questions.count == 1
    with Questions() as questions:
        check_images(images, nano)
    assert questions.count == 1


def test_a_step_asks_for_its_batch_once(monkeypatch):
    """Resizing and losses are torchvision's and ask on their own; what is checked before them is one question."""
    model, batch = dyn_retinanet_nano(5, min_size=64), ([torch.rand(3, 64, 64)] * 4, targets_of(4))
    monkeypatch.setattr(JointLoss, "__call__", lambda *_: {})
    with Questions() as of_the_transform:
        model.transform(*batch)
    with Questions() as of_a_step:
        model(*batch)
    assert of_a_step.count == 1 + of_the_transform.count


def test_the_form_of_targets_is_no_question():
    """A tensor of the device "meta" has no values: whoever looks at one fails."""
    targets = targets_of(2, "meta")
    targets[1]["labels"] = targets[1]["labels"].int()
    with pytest.raises(ValueError, match="image 1: labels must be int64, got torch.int32"):
        check_targets([torch.zeros(3, 64, 64, device="meta")] * 2, targets, 5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"boxes": torch.tensor([[2.0, 2, 5, 5], [9.0, 1, 3, 4]])},
            r": boxes must .* finite, got \[9.0, 1.0, 3.0, 4.0\]",
        ),
        (
            {"boxes": torch.tensor([[2.0, 2, 5, 5], [1.0, 1, math.inf, 4]])},
            r": boxes must .* got \[1.0, 1.0, inf, 4.0\]",
        ),
        ({"labels": torch.tensor([0, 7])}, ": labels must be in 0-4, got 7"),
        ({"labels": torch.tensor([0, 7]), "image_id": torch.tensor(42)}, r" \(image_id 42\): labels must be in 0-4"),
        ({"labels": torch.tensor([0, 7]), "image_id": "mine"}, r" \(image_id mine\): labels must be in 0-4, got 7"),
    ],
)
def test_the_image_of_a_bad_value_is_found(change, said):
    targets = targets_of(4, objects=(2,))
    targets[2] |= change
    with pytest.raises(ValueError, match=f"^image 2{said}"):
        check_targets([torch.zeros(3, 64, 64)] * 4, targets, 5)


@pytest.mark.parametrize(
    ("objects", "exit_target", "labels", "which"),
    [
        ((1,), "single", [0, 1, 2], None),
        ((3, 1, 2), "largest", [1, 1, 3], None),
        ((0, 4, 0), "largest", [2], [1]),
        ((0,), "single", [], []),
    ],
)
def test_labels_of_exits_without_a_question(objects, exit_target, labels, which):
    found, some = exit_labels(targets_of(3, objects=objects), exit_target)
    assert found.tolist() == labels and found.dtype == torch.int64
    assert which is None and some is None or some.tolist() == which
    without_values, _ = exit_labels(targets_of(3, "meta", objects), exit_target)
    assert without_values.shape == found.shape


def test_present_classes_without_a_question():
    targets = targets_of(3, objects=(2, 0, 1))
    assert present_classes(targets, 5).tolist() == [[1, 1, 0, 0, 0], [0] * 5, [0, 0, 1, 0, 0]]
    assert present_classes(targets_of(3, "meta", (2, 0, 1)), 5).shape == (3, 5)


@pytest.mark.parametrize("exit_target", ["single", "largest", "present"])
def test_the_loss_of_exits_is_no_question(exit_target):
    loss, generator = JointLoss(distillation=0.7), torch.Generator().manual_seed(0)
    logits = [torch.randn(4, 5, generator=generator) for _ in range(4)]
    objects = (1,) if exit_target == "single" else (3, 1)
    with Questions() as questions:
        found = loss.of_classes(logits, targets_of(4, objects=objects), exit_target)
    assert questions.count == 0
    if exit_target != "present":
        expected = exit_loss(logits, exit_labels(targets_of(4, objects=objects), exit_target)[0], distillation=0.7)
        assert torch.equal(found, expected)


@pytest.mark.parametrize(("thresholds", "passed"), [(None, 1), ((0.0, 0.0, 0.0), 1), ((2.0, 2.0, 2.0), 4)])
def test_one_transfer_an_exit_that_somebody_may_leave_at(thresholds, passed, monkeypatch):
    torch.manual_seed(0)
    model, asked, real = dyn_retinanet_nano(5, min_size=64).eval(), [], torch.Tensor.tolist
    monkeypatch.setattr(model, "detect_from", lambda reached, group, batch, sizes: [{}] * len(group))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda values: asked.append(len(values)) or real(values))
    with torch.no_grad(), Questions() as questions:  # inference mode would not tell
        model([torch.rand(3, 64, 64)] * 6, thresholds=thresholds)
    assert asked == [6] * passed and questions.count == 1  # the one is about the pixels of all images


def test_a_batch_that_thins_out_is_asked_for_who_is_left(monkeypatch):
    torch.manual_seed(0)
    model, asked, real = dyn_retinanet_nano(5, min_size=64).eval(), [], torch.Tensor.tolist
    monkeypatch.setattr(model, "detect_from", lambda reached, group, batch, sizes: [{}] * len(group))
    monkeypatch.setattr(torch.Tensor, "tolist", lambda values: asked.append(len(values)) or real(values))
    images, thresholds = [torch.rand(3, 64, 64) for _ in range(6)], (0.5, 0.5, 0.5)
    half = lambda reached: torch.arange(len(reached.logits)) / len(reached.logits)  # noqa: E731
    with torch.no_grad(), Questions() as questions:  # inference mode would not tell
        found = model(images, rule=half, thresholds=thresholds)
    assert [d["exit"] for d in found] == [4, 3, 2, 1, 1, 1]
    assert asked == [6, 3, 2, 1] and questions.count == 1


def test_loader_gives_the_batches_that_it_is_told():
    data = Squares([(64, 64)] * 5)
    by_size = [[int(t["image_id"]) for t in targets] for _, targets in make_loader(data, 2)]
    by_position = [[int(t["image_id"]) for t in targets] for _, targets in make_loader(data, [[4, 0], [2]], workers=1)]
    assert by_size == [[100, 101], [102, 103], [104]] and by_position == [[104, 100], [102]]
    images, targets = next(iter(make_loader(data, 5)))
    expected, _ = collate([data[i] for i in range(5)])
    assert all(torch.equal(a, b) for a, b in zip(images, expected, strict=True)) and len(targets) == 5
    assert make_loader(data, 2).pin_memory == torch.cuda.is_available()


def test_results_do_not_depend_on_who_loads(single):
    data = coco_split(single, "test")
    torch.manual_seed(0)
    limits = {"min_size": 64, "score_thresh": 0.001, "detections_per_img": 5}
    model = dyn_retinanet_nano(len(data.classes), **limits).eval()
    (alone, targets), (loaded, others) = (exit_logits(model, data, batch_size=4, workers=w) for w in (0, 2))
    assert torch.equal(alone, loaded) and [t["image_id"] for t in targets] == [t["image_id"] for t in others]
    one, two = (evaluate(model, data, exit=1, batch_size=4, workers=workers) for workers in (0, 1))
    assert one == two and one["images"] == len(data)
    torch.testing.assert_close(collect_records(model, data).logits, alone, rtol=1e-4, atol=1e-5)
