"""Post-processing of a batch at once gives what torchvision's gives image by image."""

import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from earlyexit import dyn_retinanet_nano
from earlyexit.model.detector import POSTPROCESSING, _best_of_each, batch_detections
from earlyexit.model.inputs import same_size_batches


def head_outputs(model, images, spread):
    """Wide-spread random outputs on real anchors: many candidates of many sizes and classes."""
    _, batch = next(same_size_batches(model.transform, images))
    with torch.inference_mode():
        *_, reached = model.backbone.exits(batch.tensors)
        outputs, anchors, counts = model.outputs_at(reached, batch)
    draw = torch.Generator().manual_seed(1)
    shapes = {name: values.shape for name, values in outputs.items()}
    logits = torch.randn(shapes["cls_logits"], generator=draw) * spread - 4
    return (
        {
            "cls_logits": logits,
            "bbox_regression": torch.randn(shapes["bbox_regression"], generator=draw) * 0.3,
        },
        anchors,
        counts,
        batch,
    )


@pytest.mark.parametrize(
    ("spread", "limits"),
    [
        (1.0, {}),
        (2.0, {"detections_per_img": 7}),
        (3.0, {"topk_candidates": 40}),
        (0.01, {}),  # nothing is found
    ],
)
def test_equals_torchvision(spread, limits):
    torch.manual_seed(0)
    model = dyn_retinanet_nano(6, min_size=96, **limits).eval()
    images = [torch.rand(3, 70, 100) for _ in range(3)]
    outputs, anchors, counts, batch = head_outputs(model, images, spread)
    outside = [(70, 100)] * 3
    settings = {name: getattr(model, name) for name in POSTPROCESSING}
    ours = batch_detections(outputs, anchors, counts, batch.image_sizes, outside, model.box_coder, **settings)
    by_level = {name: list(values.split(counts, dim=1)) for name, values in outputs.items()}
    theirs = model.postprocess_detections(by_level, [list(anchors.split(counts))] * 3, batch.image_sizes)
    theirs = model.transform.postprocess(theirs, batch.image_sizes, outside)
    assert sum(len(t["scores"]) for t in theirs) > 20 or spread < 0.1
    for our, their in zip(ours, theirs, strict=True):
        assert torch.equal(our["labels"], their["labels"])
        torch.testing.assert_close(our["scores"], their["scores"], rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(our["boxes"], their["boxes"], rtol=1e-6, atol=1e-4)


def test_best_of_each_group():
    group = torch.tensor([2, 0, 2, 2, 0])
    score = torch.tensor([0.1, 0.9, 0.5, 0.3, 0.2])
    assert _best_of_each(group, score, 2).tolist() == [1, 2, 3, 4]
    assert _best_of_each(group, score, 1).tolist() == [1, 2]
    assert _best_of_each(group[:0], score[:0], 1).tolist() == []


def test_batches_are_those_of_torchvisions_transform():
    transform = dyn_retinanet_nano(6, min_size=64, max_size=128).transform.eval()
    draw = torch.Generator().manual_seed(2)
    images = [torch.rand(3, *size, generator=draw) for size in ((50, 70), (64, 64), (50, 70), (300, 64), (60, 60))]
    seen = []
    for group, batch in same_size_batches(transform, images):
        seen += group
        for i, tensor, size in zip(group, batch.tensors, batch.image_sizes, strict=True):
            alone: ImageList = transform([images[i]])[0]
            assert tuple(size) == tuple(alone.image_sizes[0])
            torch.testing.assert_close(tensor, alone.tensors[0], rtol=0, atol=1e-6)
            assert images[i].shape[-2:] != (64, 64) or torch.equal(tensor, alone.tensors[0])  # it is not interpolated
    assert sorted(seen) == [0, 1, 2, 3, 4]
