"""Exits that say which classes are present, images taken for empty, opinions, and scores made comparable."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from made_records import made_records
from torchvision.ops import box_convert, box_iou

from earlyexit import dyn_retinanet_nano
from earlyexit.evaluation.scores import (
    evaluate_exits,
    fit_score_scales,
    rescale_records,
    skip_empty,
    without_detections,
)
from earlyexit.losses import EXIT_WEIGHTS, present_classes, present_loss
from earlyexit.model.detector import rescale_scores
from earlyexit.model.exits import emptiness, exit_confidence
from earlyexit.model.heads import FLOOR, ClassOpinion


@pytest.fixture(scope="module")
def present():
    torch.manual_seed(0)
    options = {"filler": "learned", "opinions": (1, 2), "exit_target": "present", "allow_empty": True}
    return dyn_retinanet_nano(5, score_thresh=0.0, **options).eval()


@pytest.fixture(scope="module")
def images():
    return [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]


def test_confidence_by_hand():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    assert exit_confidence(logits).item() == pytest.approx(logits.softmax(1).max().item())
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.5)]
    assert exit_confidence(logits, "present").item() == pytest.approx(p[0] * (1 - p[1]) * p[2])
    assert emptiness(logits).item() == pytest.approx((1 - p[0]) * (1 - p[1]) * (1 - p[2]))


def test_present_loss_by_hand():
    torch.manual_seed(0)
    logits, aim = [torch.randn(3, 4) for _ in range(4)], torch.tensor([[1.0, 0, 0, 1], [0, 0, 0, 0], [0, 1, 0, 0]])
    crossed = [-(aim * F.logsigmoid(x) + (1 - aim) * F.logsigmoid(-x)).sum() / 3 for x in logits]
    expected = sum(w * c for w, c in zip(EXIT_WEIGHTS, crossed, strict=True))
    torch.testing.assert_close(present_loss(logits, aim, distillation=0.0), expected)
    teacher = logits[-1].sigmoid()
    drawn = [-(teacher * F.logsigmoid(x) + (1 - teacher) * F.logsigmoid(-x)).sum() / 3 for x in logits[:-1]]
    torch.testing.assert_close(present_loss(logits, aim, distillation=2.0), expected + 2 * sum(drawn))


def test_present_classes():
    targets = [{"labels": torch.tensor(labels, dtype=torch.int64)} for labels in ([2, 0, 2], [])]
    assert present_classes(targets, 3).tolist() == [[1, 0, 1], [0, 0, 0]]


def test_images_without_and_with_several_objects_train_the_exits(present, images):
    two = {"boxes": torch.tensor([[5.0, 8, 50, 60], [1, 1, 20, 20]]), "labels": torch.tensor([0, 3])}
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    present.train()
    present.zero_grad()
    try:
        found = present(images[:2], [two, none])
        found["exit"].backward()
    finally:
        present.eval()
    assert found["exit"] > 0 and present.backbone.classifiers[0].weight.grad.abs().max() > 0


def test_empty_images_skip_neck_and_head(present, images):
    with torch.inference_mode():
        plain = present(images, thresholds=(0.0, 0.0, 0.0))
        batch, _ = present.transform(images)
        nothing = emptiness(next(present.backbone.exits(batch.tensors)).logits)
        limit = float(nothing.sort().values[2])  # the two emptiest are skipped
        seen = []
        hook = present.early_heads["1"].register_forward_hook(
            lambda module, inputs, out: seen.append(len(inputs[0][0]))
        )
        found = present(images, thresholds=(0.0, 0.0, 0.0), empty=limit)
        hook.remove()
    assert seen == [2]
    for p, before, after in zip(nothing.tolist(), plain, found, strict=True):
        if p >= limit:
            assert after["exit"] == 0 and len(after["boxes"]) == len(after["scores"]) == len(after["labels"]) == 0
        else:
            assert after["exit"] == 1
            torch.testing.assert_close(after["scores"], before["scores"], rtol=1e-4, atol=1e-5)


def test_empty_needs_exits_that_know_it(images):
    with pytest.raises(ValueError, match="empty=0.9 with exit_target='single'"):
        dyn_retinanet_nano(5).eval()(images, empty=0.9)


@pytest.mark.parametrize("exit_target", ["single", "present"])
def test_opinion_by_hand(exit_target):
    opinion = ClassOpinion(2, exit_target)
    opinion.bias.data.fill_(0.7)
    opinion.gain.data = torch.tensor([0.5, 0.1])
    cls, said = torch.zeros(1, 2, 3), torch.tensor([[4.0, 0.0, -30.0]], requires_grad=True)
    before = torch.tensor([[1.0, 2.0, 3.0]])
    own, other = (x.sigmoid() if exit_target == "present" else x.softmax(1) for x in (said, before))
    expected = 0.5 * own.clamp(min=FLOOR).log() + 0.1 * other.clamp(min=FLOOR).log() + 0.7
    moved = opinion(cls, said, before)
    torch.testing.assert_close(moved, expected[:, None].expand(1, 2, 3).detach(), rtol=1e-5, atol=1e-5)
    moved.sum().backward()
    assert said.grad is None and (opinion.gain.grad != 0).all()
    alone = ClassOpinion(1, exit_target)
    torch.testing.assert_close(alone(cls, said)[0, 0], 0.25 * own[0].clamp(min=FLOOR).log(), rtol=1e-5, atol=1e-5)
    one = torch.tensor([[-1.5]])  # a softmax over one class has no opinion
    torch.testing.assert_close(alone(torch.zeros(1, 1, 1), one)[0, 0], 0.25 * one[0].sigmoid().log())


def test_scales_make_scores_chances():
    records = made_records(60)
    noise = torch.rand(len(records.found.scores), generator=torch.Generator().manual_seed(0))
    scores = (0.1 + 0.8 * overlaps(records) * noise).float()  # better boxes mostly score higher
    records = replace(records, found=replace(records.found, scores=scores))
    scales = fit_score_scales(records)
    assert all(gain > 0 for gain, _ in scales)
    scaled = rescale_records(records, scales)
    for exit in (1, 4):
        chosen = torch.full((len(records),), exit)
        before, after = (evaluate_exits(r, chosen, metrics=("mAP",))["mAP"] for r in (records, scaled))
        assert before > 1 and after == pytest.approx(before, abs=1e-6)
    for gain, shift in fit_score_scales(scaled):  # what is calibrated needs no more
        assert gain == pytest.approx(1, abs=0.02) and shift == pytest.approx(0, abs=0.02)
    with pytest.raises(ValueError, match="for each of four exits"):
        rescale_records(records, scales[:2])


def overlaps(records):
    """Of each detection, its largest IoU with an object of its class in its image."""
    image = torch.arange(4 * len(records)).repeat_interleave(records.found.offsets.diff()) // 4
    whose = torch.arange(len(records)).repeat_interleave(records.truth.offsets.diff())
    boxes = box_convert(records.truth.boxes, "xywh", "xyxy").float()
    same = (image[:, None] == whose) & (records.found.labels[:, None] == records.truth.labels)
    return (box_iou(records.found.boxes, boxes) * same).amax(1)


def test_a_model_with_scales_gives_rescaled_detections(present, images):
    scales = [(2.0, -0.5), (1.5, 0.0), (1.0, 0.2), (0.5, 0.1)]
    with torch.inference_mode():
        plain = present(images, exit=1)
        present.score_scales = scales
        scaled = present(images, exit=1)
    present.score_scales = [(1.0, 0.0)] * 4
    for before, after in zip(plain, scaled, strict=True):
        torch.testing.assert_close(after["scores"], rescale_scores(before["scores"], 2.0, -0.5))
        assert torch.equal(before["boxes"], after["boxes"])
    with pytest.raises(ValueError, match="positive gain and a shift for each of four exits"):
        dyn_retinanet_nano(5, score_scales=[(1.0, 0.0)] * 3)


def test_skipping_images():
    records = made_records(60)
    chosen = torch.full((len(records),), 2)
    none, all_ = skip_empty(records, chosen, [1.1, 0.0], 0.001)
    full = evaluate_exits(records, chosen, metrics=("mAP",))
    assert none["skipped"] == 0 and none["mAP"] == full["mAP"] and none["gmacs"] == pytest.approx(full["gmacs"])
    assert all_["skipped"] == 1 and all_["mAP"] == 0 and all_["missed"] == 1 and all_["gmacs"] == pytest.approx(0.001)
    mask = torch.arange(len(records)) == 3
    less = without_detections(records, mask)
    assert len(less.detection(3, 1)["boxes"]) == 0
    assert torch.equal(less.detection(4, 2)["scores"], records.detection(4, 2)["scores"])


def test_records_know_the_confidence_of_the_exits():
    records = made_records(20)
    known = replace(records, about={**records.about, "settings": {"exit_target": "present"}})
    torch.testing.assert_close(records.confidence, exit_confidence(records.logits))
    torch.testing.assert_close(known.confidence, exit_confidence(records.logits, "present"))
