"""What a detector reaches on a data set, on cases known by hand."""

import json

import pytest
import torch
from PIL import Image
from squares import CLASSES, write_folder

from earlyexit import count_macs
from earlyexit.data.coco import coco_split
from earlyexit.evaluation.coco import (
    METRICS,
    checked,
    coco_metrics,
    evaluate,
    exit_accuracy,
    exit_confidences,
    is_single_object,
)


def perfect(dataset):
    """The annotations as if a model had found them."""
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
        for a in dataset.coco.anns.values()
    ]


def test_perfect_detections_have_full_marks(folder):
    dataset = coco_split(folder, "test")
    metrics = coco_metrics(dataset, perfect(dataset))
    assert list(metrics) == list(METRICS)
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

    rule = None

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


@pytest.fixture(scope="module")
def macs(nano):
    return count_macs(nano, (128, 128))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_evaluate_with_an_oracle(folder, nano, macs, batch_size):
    dataset = coco_split(folder, "test")
    result = evaluate(Oracle(dataset, nano), dataset, batch_size=batch_size)
    assert result["mAP"] == pytest.approx(100)
    exits = [i % 4 + 1 for i in range(len(dataset))]
    assert result["exits"] == {k: exits.count(k) for k in (1, 2, 3, 4)}
    assert result["images"] == len(dataset)
    assert result["gmacs"] == pytest.approx(sum(macs[k]["total"] for k in exits) / len(exits))
    assert result["gmacs_full"] == pytest.approx(macs[4]["total"])


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
    torch.testing.assert_close(exit_confidences(nano, dataset), shares.amax(2).T)
    labels = torch.tensor([0, 4, 4, 19, 6])
    expected = [100 * sum(shares[i, k].argmax() == labels[i] for i in range(5)).item() / 5 for k in range(4)]
    assert exit_accuracy(nano, dataset, batch_size=2) == pytest.approx(expected)
    assert is_single_object(dataset)


def test_accuracy_needs_single_objects(nano, folder):
    dataset = coco_split(folder, "train")
    assert not is_single_object(dataset)
    with pytest.raises(ValueError, match="exactly one object in each image, image"):
        exit_accuracy(nano, dataset)


def test_every_photo_is_looked_at_before_the_first_is_run(tmp_path):
    folder = write_folder(tmp_path / "data", test=[(64, 64)] * 5)
    data = coco_split(folder, "test")
    assert checked(data, CLASSES) is data
    (folder / "test" / "4.png").unlink()
    with pytest.raises(ValueError, match="image 104, '4.png', cannot be read"):
        checked(data, CLASSES)
