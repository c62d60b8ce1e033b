"""Data that a model cannot be measured on, data sets that reach out of their folder, and photos of every kind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from squares import nano, write_folder
from torchvision.transforms.v2.functional import pil_to_tensor

from earlyexit.data.coco import coco_split, first_images
from earlyexit.evaluation.coco import evaluate
from earlyexit.evaluation.collect import collect_records
from earlyexit.evaluation.pictures import find_sources, shots
from prepare.boxes import ImageBoxes, fill_size
from prepare.cleaning import Report


def read_photo(path):
    """A photo as `detect` sees it, (3, H, W) in [0, 1]; what it says of one that it cannot read is raised."""
    (shot,) = shots(*find_sources([str(path)]))
    if shot.image is None:
        raise ValueError(f"{shot.name!r} {shot.note}")
    return pil_to_tensor(shot.image).float() / 255


@pytest.mark.parametrize("measure", [evaluate, collect_records])
def test_models_are_measured_on_images_of_their_own_classes(measure, tmp_path):
    folder = write_folder(tmp_path / "data", val=[(64, 64)], empty=[])
    with pytest.raises(ValueError, match="there are no images: the data set is empty"):
        measure(nano(), coco_split(folder, "empty"))
    path = folder / "annotations" / "instances_val.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "categories": content["categories"][:2]}))
    with pytest.raises(ValueError, match="the data has 2 classes, the model knows 4: they have to be the same"):
        measure(nano(), coco_split(folder, "val"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"file_name": "../../outside.png"}, "file name '../../outside.png' leaves the image folder"),
        ({"id": [1]}, r"instances_train.json': image number 1: id is neither a whole number nor a text: \[1\]"),
    ],
)
def test_first_images_stay_in_their_folder(tmp_path, changes, message):
    splits = ("train", "calibration", "test")
    folder = write_folder(tmp_path / "data" / "set", **{split: [(64, 64)] * 3 for split in splits})
    Image.new("RGB", (64, 64)).save(tmp_path / "data" / "outside.png")
    out = first_images(folder, tmp_path / "runs" / "first", 2)
    assert [len(coco_split(out, split)) for split in splits] == [2, 2, 2]
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"] = content["annotations"][1:]
    content["images"][0].update(changes)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        first_images(folder, tmp_path / "runs" / "other" / "first", 2)
    assert not list(tmp_path.rglob("runs/**/outside.png"))


def test_photos_of_16_bits_and_of_floats(tmp_path):
    grey = np.linspace(0, 65535, 480).astype(np.uint16).reshape(24, 20)
    whole = (grey / 257).astype(np.float32)
    Image.frombytes("I;16B", (20, 24), grey.astype(">u2").tobytes()).save(tmp_path / "big_endian.tif")
    for pixels, name in ((grey, "grey.png"), (grey / np.float32(65535), "share.tif"), (whole, "float.tif")):
        Image.fromarray(pixels).save(tmp_path / name)
    for path in sorted(tmp_path.iterdir()):
        seen = read_photo(path)
        assert seen.shape == (3, 24, 20)
        torch.testing.assert_close(seen[0], torch.from_numpy(grey / 65535).float(), atol=1.01 / 255, rtol=0)
    Image.fromarray(whole - 9).save(tmp_path / "float.tif")
    with pytest.raises(
        ValueError, match="float.tif' is not a readable image: its floats are from -9 to 246; they have"
    ):
        read_photo(tmp_path / "float.tif")


def test_any_error_of_pillow_names_the_photo(tmp_path, monkeypatch):
    path = tmp_path / "photo.png"
    Image.new("1", (400, 400)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"photo.png' is not a readable image: Image size \(160000 pixels\) exceeds"):
        read_photo(path)
    report = Report()
    assert not fill_size(ImageBoxes("boxes.csv line 2", "photo.png"), tmp_path, report)
    assert report.dropped[0][1].startswith("size unknown and image unreadable: Image size (160000 pixels) exceeds")
    for error in (ValueError("bad header"), RuntimeError("no decoder"), SyntaxError()):

        def refuse(*_, error=error):
            raise error

        monkeypatch.setattr(Image, "open", refuse)
        with pytest.raises(ValueError, match=f"photo.png' is not a readable image: {str(error) or 'SyntaxError'}"):
            read_photo(path)


def test_first_images_are_a_data_set_of_their_own(single, tmp_path):
    made = first_images(single, tmp_path / "few", 3)
    whole, few = coco_split(single, "test"), coco_split(made, "test")
    assert few.ids == whole.ids[:3] and few.classes == whole.classes
    assert (few[2][0] == whole[2][0]).all()
    with pytest.raises(ValueError, match="limit 0"):
        first_images(single, tmp_path / "none", 0)
