"""COCO-layout folders as data sets."""

import copy
import json
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from squares import write_folder

from earlyexit.data.coco import CocoDataset, coco_split, collate, train_transforms
from earlyexit.evaluation.coco import coco_metrics


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


def first(part, **changes):
    def spoil(content):
        content[part][0].update(changes)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (first("images", id="a"), "annotation 1: annotation of an unknown image: 7"),
        (first("images", id=[1]), r"image number 1: id is neither a whole number nor a text: \[1\]"),
        (first("images", id=3), "image 3: several images have the same id"),
        (first("images", file_name=None), "image 7: file name is not a text: None"),
        (first("images", width="x"), "image 7: width and height are not whole numbers above 0"),
        (first("images", width=-1), "image 7: width and height are not whole numbers above 0"),
        (first("annotations", image_id=8), "annotation 1: annotation of an unknown image: 8"),
        (first("annotations", image_id=[7]), "annotation 1: annotation of an unknown image"),
        (first("annotations", category_id=[2]), "annotation 1: unknown category"),
        (first("annotations", iscrowd=2), "annotation 1: iscrowd is not 0 or 1: 2"),
        (first("annotations", area=float("nan")), "annotation 1: area is not a number from 0 on"),
        (first("annotations", bbox=None), "annotation 1: bbox is not four numbers"),
        (first("annotations", bbox=[1, 1, 10**400, 1]), "annotation 1: bbox is not finite"),
        (first("annotations", bbox=[1, 1, float("inf"), 1]), "annotation 1: bbox is not finite"),
        (first("annotations", bbox=[5, 5, -1, 1]), "annotation 1: bbox with a negative width"),
        (first("annotations", bbox=[40, 5, 1, 1]), "annotation 1: bbox outside its image"),
        (first("categories", id=[1]), "a category is .*a whole number"),
        (first("categories", name=[5]), "a category is .*a word"),
        (first("categories", name="cat"), "each category needs its own name, but 'cat' occurs 2 times"),
    ],
)
def test_bad_records_are_named(folder, spoil, message):
    content = copy.deepcopy(CONTENT)
    spoil(content)
    write(folder, content)
    with pytest.raises(ValueError, match=f"instances_val.json': {message}"):
        coco_split(folder, "val")


def test_annotations_with_one_id_are_all_there(folder):
    """pycocotools would take the last of them for all."""
    metrics = []
    for ids in (range(1, 7), [5] * 6, range(6)):
        content = copy.deepcopy(CONTENT)
        for found, number in zip(content["annotations"], ids, strict=True):
            found["id"] = number
        write(folder, content)
        dataset = coco_split(folder, "val")
        known = [(i, a) for i in dataset.ids for a in dataset.objects(i)]
        shown = [{"image_id": i, "category_id": a["category_id"], "bbox": a["bbox"], "score": 1.0} for i, a in known]
        assert len(shown) == 3
        metrics.append(coco_metrics(dataset, shown))
    assert metrics[0]["mAP"] > 60
    assert metrics[0] == metrics[1] == metrics[2]


def test_grey_of_16_bits_and_floats(folder):
    grey = np.arange(480, dtype=np.uint16).reshape(24, 20) * 137  # up to 65,623 of 65,535: nearly all there is
    grey[-1, -1] = 65535
    for pixels, name in ((grey, "b.png"), ((grey / 65535).astype(np.float32), "b.tif")):
        Image.fromarray(pixels).save(folder / "val" / name)
        content = copy.deepcopy(CONTENT)
        content["images"][1]["file_name"] = name
        write(folder, content)
        image = by_id(coco_split(folder, "val"))[3][0]
        torch.testing.assert_close(image[1], torch.from_numpy(grey / 65535).float(), atol=1.01 / 255, rtol=0)
    Image.fromarray(grey.astype(np.float32)).save(folder / "val" / "b.tif")
    with pytest.raises(
        ValueError, match=r"image 3, 'b.tif', cannot be read: its floats are from 0 to 65535; they have"
    ):
        by_id(coco_split(folder, "val"))


def test_any_error_of_pillow_names_the_image(folder, monkeypatch):
    for error in (Image.DecompressionBombError("too many pixels"), SyntaxError("not a TIFF"), RuntimeError("no AVIF")):

        def refuse(path, error=error):
            raise error

        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(ValueError, match=f"image 3, 'b.png', cannot be read: {error}"):
            coco_split(folder, "val")[0]


def test_missing_files(folder):
    with pytest.raises(ValueError, match="no image folder .*train"):
        coco_split(folder, "train")
    (folder / "train").mkdir()
    with pytest.raises(ValueError, match="no annotation file .*instances_train.json"):
        coco_split(folder, "train")
    with pytest.raises(ValueError, match="not readable JSON"):
        CocoDataset(folder / "val", folder / "annotations")


def test_sizes_of_the_jitter(tmp_path):
    """Nine sizes of 0.75 to 1.25 times what the detector makes of the image, equally often; boxes grow with it."""
    shapes = [(64, 96), (96, 64), (32, 160), (64, 64)]
    plain = coco_split(write_folder(tmp_path / "data", train=shapes), "train")
    jittered = plain.with_transforms(train_transforms(0, jitter=0.25, min_size=64, max_size=128))
    torch.manual_seed(0)
    for index, (height, width) in enumerate(shapes):
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
