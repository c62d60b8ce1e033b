"""COCO-layout folders as data sets."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from earlyexit.data.coco import CocoDataset, coco_split, collate, train_transforms


def annotation(number, image, category, box, **more):
    area = box[2] * box[3]
    return {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, "iscrowd": 0, **more}


CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "b.png", "width": 20, "height": 24},
        {"id": 5, "file_name": "empty.png", "width": 20, "height": 20},
    ],
    "annotations": [
        annotation(1, 7, 90, [4, 6, 10, 8]),
        annotation(2, 7, 2, [0.5, 1, 30, 20.25]),
        annotation(3, 7, 11, [0, 0, 40, 30], iscrowd=1),
        annotation(4, 3, 11, [2, 3, 0, 8]),
        annotation(5, 3, 2, [2, 3, 8, 0]),
        annotation(6, 3, 11, [5, 5, 5, 5]),
    ],
    "categories": [{"id": 90, "name": "kite"}, {"id": 2, "name": "cat"}, {"id": 11, "name": "dog"}],
}


@pytest.fixture
def folder(tmp_path):
    generator = np.random.default_rng(1)
    (tmp_path / "val").mkdir()
    (tmp_path / "annotations").mkdir()
    for image in CONTENT["images"]:
        pixels = generator.integers(0, 256, (image["height"], image["width"], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "val" / image["file_name"])
    write(tmp_path, CONTENT)
    return tmp_path


def write(folder, content):
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "annotations" / "instances_val.json").write_text(text)


def by_id(dataset):
    return {int(target["image_id"]): (image, target) for image, target in dataset}


def test_labels_and_boxes(folder, capfd):
    dataset = coco_split(folder, "val")
    assert capfd.readouterr().out == ""
    assert dataset.classes == ["cat", "dog", "kite"]
    assert dataset.category_ids == [2, 11, 90]
    items = by_id(dataset)
    assert sorted(items) == [3, 5, 7]
    target = items[7][1]
    assert target["labels"].tolist() == [2, 0]  # the crowd is left out
    assert target["boxes"].tolist() == [[4, 6, 14, 14], [0.5, 1, 30.5, 21.25]]
    assert (target["labels"].dtype, target["boxes"].dtype) == (torch.int64, torch.float32)
    assert type(target["boxes"]) is torch.Tensor
    assert items[3][1]["labels"].tolist() == [1]  # boxes without width or height are left out
    assert items[3][1]["boxes"].tolist() == [[5, 5, 10, 10]]


def test_images_are_floats(folder):
    image = by_id(coco_split(folder, "val"))[7][0]
    with Image.open(folder / "val" / "a.png") as stored:
        expected = torch.from_numpy(np.asarray(stored).copy()).permute(2, 0, 1) / 255
    torch.testing.assert_close(image, expected)
    assert type(image) is torch.Tensor


def test_image_without_annotation(folder):
    image, target = by_id(coco_split(folder, "val"))[5]
    assert image.shape == (3, 20, 20)
    assert target["boxes"].shape == (0, 4)
    assert target["labels"].shape == (0,)
    assert target["labels"].dtype == torch.int64


def test_grayscale_becomes_rgb(folder):
    gray = Image.open(folder / "val" / "b.png").convert("L")
    gray.save(folder / "val" / "b.png")
    image = by_id(coco_split(folder, "val"))[3][0]
    assert image.shape == (3, 24, 20)
    assert torch.equal(image[0], image[2])


def test_flip_turns_image_and_boxes(folder):
    plain = by_id(coco_split(folder, "val"))
    for flip in (0.0, 1.0):
        turned = by_id(coco_split(folder, "val", train_transforms(flip)))
        for number, (image, target) in turned.items():
            before, boxes = plain[number][0], plain[number][1]["boxes"]
            width = image.shape[2]
            if flip:
                before = before.flip(2)
                boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
            assert torch.equal(image, before)
            torch.testing.assert_close(target["boxes"], boxes)
            assert torch.equal(target["labels"], plain[number][1]["labels"])


def test_flip_happens_half_the_time(folder):
    dataset = coco_split(folder, "val", train_transforms())
    torch.manual_seed(0)
    corners = [dataset[i % 3][1] for i in range(300)]
    first = [float(target["boxes"][0, 0]) for target in corners if int(target["image_id"]) == 7]
    assert set(first) == {4.0, 26.0}
    assert 0.35 < first.count(26.0) / len(first) < 0.65


def test_collate_keeps_lists(folder):
    dataset = coco_split(folder, "val")
    images, targets = collate([dataset[0], dataset[1]])
    assert isinstance(images, list) and isinstance(targets, list)
    assert [tuple(image.shape[1:]) for image in images] == [tuple(dataset[i][0].shape[1:]) for i in range(2)]
    assert [int(target["image_id"]) for target in targets] == [int(dataset[i][1]["image_id"]) for i in range(2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{broken", "not readable JSON"),
        ("[1, 2]", r"no list 'images'"),
        ({"images": [], "annotations": []}, r"no list 'categories'"),
    ],
)
def test_bad_annotations(folder, content, message):
    write(folder, content)
    with pytest.raises(ValueError, match=f"instances_val.json.*{message}"):
        coco_split(folder, "val")


def test_missing_files(folder):
    with pytest.raises(ValueError, match="no image folder .*train"):
        coco_split(folder, "train")
    (folder / "train").mkdir()
    with pytest.raises(ValueError, match="no annotation file .*instances_train.json"):
        coco_split(folder, "train")
    with pytest.raises(ValueError, match="not readable JSON"):
        CocoDataset(folder / "val", folder / "annotations")
