"""Records of every tool in one form: ids are links, numbers are numbers, and nothing is lost for what nobody needs."""

import copy
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask

from earlyexit.data import coco_split, read_coco, tidy
from earlyexit.data.annotations import link, outline_box
from prepare.cleaning import Report, clean_coco

BOXES = [[1, 2, 10, 12], [3, 4, 20, 8], [5, 6, 7.5, 9.25], [0, 0, 40, 30]]  # two of image 7, two of image 9


def content():
    images = [{"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (7, 9)]
    found = [
        {"id": n + 1, "image_id": 7 if n < 2 else 9, "category_id": n % 2 + 1, "bbox": box, "area": 50, "iscrowd": 0}
        for n, box in enumerate(BOXES)
    ]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}]}


def changed(part, change):
    """The data set after `change(record, its place)` for every record of a part."""
    coco = content()
    for place, record in enumerate(coco[part]):
        change(record, place)
    return coco


@pytest.fixture
def read(tmp_path):
    """A function that gives {image name: [(class, box), ...]} of a data set as the package reads it."""
    (tmp_path / "train").mkdir()
    (tmp_path / "annotations").mkdir()
    for image in (7, 9):
        Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "train" / f"{image}.png")

    def boxes(coco):
        (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(coco))
        data = coco_split(tmp_path, "train")
        numbers = [found["id"] for found in data.coco.dataset["annotations"]]
        assert len(set(numbers)) == len(numbers) and min(numbers) > 0
        seen = {}
        for image_id, (image, target) in zip(data.ids, data, strict=True):
            assert int(target["image_id"]) == image_id and image.shape == (3, 30, 40)
            names = [data.classes[label] for label in target["labels"]]
            seen[data.coco.imgs[image_id]["file_name"]] = list(zip(names, target["boxes"].tolist(), strict=True))
        return seen

    return boxes


def xyxy(x, y, w, h):
    return [x, y, x + w, y + h]


TRUTH = {
    "7.png": [("ant", xyxy(*BOXES[0])), ("bee", xyxy(*BOXES[1]))],
    "9.png": [("ant", xyxy(*BOXES[2])), ("bee", xyxy(*BOXES[3]))],
}


def of_all(part, **values):
    return changed(part, lambda record, place: record.update(values))


def without(part, *keys):
    return changed(part, lambda record, place: [record.pop(key) for key in keys])


def linked(write):
    """All ids written otherwise."""
    coco = content()
    for part, keys in (("images", ["id"]), ("categories", ["id"]), ("annotations", ["id", "image_id", "category_id"])):
        for record in coco[part]:
            record.update({key: write(record[key]) for key in keys})
    return coco


def mixed():
    """Ids of the annotations as numbers, of images and categories as texts, and the other way round."""
    coco = content()
    coco["images"][0]["id"], coco["categories"][1]["id"] = "7", "2.0"
    coco["annotations"][0].update(image_id=7.0, category_id="1")
    coco["annotations"][1]["image_id"] = " 7 "
    return coco


SAME = {
    "as it is": content(),
    "ids all 0": of_all("annotations", id=0),
    "ids counted per image": changed("annotations", lambda record, place: record.update(id=place % 2)),
    "no ids": without("annotations", "id"),
    "ids null": of_all("annotations", id=None),
    "ids that are no ids": of_all("annotations", id=[1]),
    "ids that are true": of_all("annotations", id=True),
    "one id missing": changed("annotations", lambda record, place: place or record.pop("id")),
    "two ids equal": changed("annotations", lambda record, place: record.update(id=max(place, 1))),
    "ids of annotations as texts": changed("annotations", lambda record, place: record.update(id=f"a{place}")),
    "floats": linked(float),
    "texts of numbers": linked(str),
    "texts of floats": linked(lambda value: f"{value}.0"),
    "words": linked(lambda value: f"id-{value}"),
    "file names": linked(lambda value: f"{value}.png"),
    "with zeros before": linked(lambda value: f"{value:012}"),
    "of many digits": linked(lambda value: f"{value}" * 5000),
    "of 128 bits": linked(lambda value: 2**100 + value),
    "negative": linked(lambda value: value - 8),
    "mixed": mixed(),
    "area null": of_all("annotations", area=None),
    "area 0": of_all("annotations", area=0),
    "area empty": of_all("annotations", area=""),
    "area a text": of_all("annotations", area="50.5"),
    "iscrowd null": of_all("annotations", iscrowd=None),
    "iscrowd false": of_all("annotations", iscrowd=False),
    "iscrowd 0.0": of_all("annotations", iscrowd=0.0),
    "iscrowd a text": of_all("annotations", iscrowd="0"),
    "iscrowd a word": of_all("annotations", iscrowd="False"),
    "nothing but links": without("annotations", "id", "area", "iscrowd"),
    "sizes as floats": of_all("images", width=40.0, height="30"),
    "sizes missing": without("images", "width", "height"),
    "one side missing": without("images", "height"),
    "sizes null": of_all("images", width=None, height=None),
    "sizes 0": of_all("images", width=0, height=0.0),
    "sizes empty": of_all("images", width="", height=" "),
    "boxes of texts": changed("annotations", lambda r, place: r.update(bbox=[str(side) for side in r["bbox"]])),
    "more keys": of_all("annotations", score=1, segmentation=[], attributes={"occluded": False}),
}


@pytest.mark.parametrize("name", SAME)
def test_all_boxes_are_read(name, read):
    assert read(SAME[name]) == TRUTH


@pytest.mark.parametrize("name", SAME)
def test_all_boxes_are_kept_in_preparing(name):
    report, before = Report(), copy.deepcopy(SAME[name])
    cleaned = clean_coco(SAME[name], report, "x.json")
    assert SAME[name] == before and not report.dropped
    images = {image["id"]: image["file_name"] for image in cleaned["images"]}
    classes = {category["id"]: category["name"] for category in cleaned["categories"]}
    seen = {"7.png": [], "9.png": []}
    for found in cleaned["annotations"]:
        seen[images[found["image_id"]]].append((classes[found["category_id"]], xyxy(*found["bbox"])))
        assert found.get("area", 1) > 0 and found.get("iscrowd", 0) == 0
    assert seen == TRUTH
    assert len({found["id"] for found in cleaned["annotations"]}) == 4
    assert all(type(i) is int for i in [*images, *classes, *(found["id"] for found in cleaned["annotations"])])
    assert clean_coco(cleaned, Report(), "x.json") == cleaned


def test_numbers_of_texts_do_not_depend_on_the_order_of_the_file():
    coco = linked(lambda value: f"id-{value}")
    turned = {**coco, "images": coco["images"][::-1], "categories": coco["categories"][::-1]}
    first, second = tidy(coco)[0], tidy(turned)[0]
    assert [i["id"] for i in first["images"]] == [i["id"] for i in second["images"][::-1]] == [1, 2]
    assert first["annotations"] == second["annotations"]
    coco["images"][0]["id"] = 1  # numbers that are there are not given again
    assert [i["id"] for i in tidy(coco)[0]["images"]] == [1, 2]


def test_what_is_tidy_is_not_copied():
    coco = content()
    result, notes = tidy(coco)
    assert (result, notes) == (coco, [])
    assert all(new is old for new, old in zip(result["annotations"], coco["annotations"], strict=True))


def test_new_ids_of_annotations_are_said():
    assert tidy(of_all("annotations", id=0))[1] == [
        "ids of annotations counted anew from 1: missing, shared or no numbers, 0"
    ]


@pytest.mark.parametrize("value", [None, True, [1], {}, "", "  ", 1.5, float("nan"), float("inf")])
def test_what_is_no_id(value):
    assert link(value) is None


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c["images"][0].update(id=None), "id is neither a whole number nor a text: None"),
        (lambda c: c["images"][0].update(id=1.5), "id is neither a whole number nor a text: 1.5"),
        (lambda c: c["images"][0].pop("id"), "image number 1: no 'id'"),
        (lambda c: c["images"][0].update(id="9"), "image 9: several images have the same id"),
        (lambda c: c["images"][0].update(width=-40), "width and height are not whole numbers above 0: (-40, 30)"),
        (lambda c: c["images"][0].update(width="wide"), "width and height are not whole numbers above 0: ('wide', 30)"),
        (lambda c: c["annotations"][0].update(image_id="8"), "annotation 1: annotation of an unknown image: '8'"),
        (lambda c: c["annotations"][0].update(image_id=True), "annotation 1: annotation of an unknown image: True"),
        (lambda c: c["annotations"][0].update(category_id="ant"), "annotation 1: unknown category: 'ant'"),
        (lambda c: c["annotations"][0].update(iscrowd="no"), "annotation 1: iscrowd is not 0 or 1: 'no'"),
        (lambda c: c["annotations"][0].update(area=-3), "annotation 1: area is not a number from 0 on: -3"),
        (lambda c: c["annotations"][0].update(area="big"), "annotation 1: area is not a number from 0 on: 'big'"),
        (lambda c: c["annotations"][0].update(bbox=["1", "x", 2, 3]), "bbox is not four numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, True, 3]), "bbox is not four numbers"),
        (lambda c: c["annotations"][0].update(bbox=5), "bbox is not four numbers [x, y, width, height]: 5"),
        (lambda c: c["annotations"][0].update(bbox="1,2,3,4"), "bbox is not four numbers"),
        (lambda c: c["annotations"][0].update(bbox={"x": 1}), "bbox is not four numbers"),
        (lambda c: c["annotations"][0].update(image_id={"$oid": 1}), "annotation of an unknown image"),
        (lambda c: c["categories"][0].update(id="2"), "each category needs its own id, but 2 occurs 2 times"),
    ],
)
def test_what_has_no_meaning_is_still_refused(tmp_path, spoil, message):
    coco = content()
    spoil(coco)
    (tmp_path / "x.json").write_text(json.dumps(coco))
    with pytest.raises(ValueError) as refusal:
        read_coco(tmp_path / "x.json")
    assert message in str(refusal.value)


def test_what_is_recommended_does_not_drop_what_was_refused():
    """An area that is none is computed by own_data.py, which the refusal names."""
    for area in (-3, "big", float("nan"), [5]):
        report = Report()
        cleaned = clean_coco(of_all("annotations", area=area), report, "x.json")
        assert len(cleaned["annotations"]) == 4 and not report.dropped
        assert [what.partition(":")[0] for _, what in report.mended] == ["area computed"] * 4
        assert not any("area" in found for found in cleaned["annotations"])


# Outlines


def run_lengths(box, size):
    """A mask in run lengths, as COCO's crowds have it."""
    (x, y, w, h), (width, height) = box, size
    pixels = np.zeros((height, width), np.uint8, order="F")
    pixels[y : y + h, x : x + w] = 1
    return mask.encode(pixels)


@pytest.mark.parametrize(
    "outline",
    [
        [[3, 4, 23, 4, 23, 12, 3, 12]],
        [[3, 4, 10, 4, 10, 9], [12, 8, 23, 12]],
        [3, 4, 23, 12],
        [[[3, 4], [23, 4], [23, 12]]],
        {"size": [30, 40], "counts": run_lengths((3, 4, 20, 8), (40, 30))["counts"].decode()},
        {"size": [10, 4], "counts": [14, 2, 8, 2, 14]},
    ],
)
def test_a_box_that_is_missing_is_that_of_the_outline(tmp_path, outline):
    expected = [1, 4, 2, 2] if isinstance(outline, dict) and isinstance(outline["counts"], list) else [3, 4, 20, 8]
    assert outline_box(outline) == expected
    for box in ("missing", None, []):
        coco = content()
        coco["annotations"][1].update(segmentation=outline, bbox=box)
        if box == "missing":
            del coco["annotations"][1]["bbox"]
        (tmp_path / "x.json").write_text(json.dumps(coco))
        for outlines in (True, False):
            found = read_coco(tmp_path / "x.json", outlines=outlines)["annotations"]
            assert [a["bbox"] for a in found] == [BOXES[0], expected, *BOXES[2:]]
            assert ("segmentation" in found[1]) == outlines


@pytest.mark.parametrize("outline", [[], [[1, 2, 3]], [["a", "b"]], {}, {"size": [3, 3]}, "text", 5, [None, 2]])
def test_an_outline_that_is_none_gives_no_box(outline):
    assert outline_box(outline) is None


# Categories that only group others


def grouped(*categories, used=(1, 2)):
    """The data set with these (id, name, supercategory) and annotations of two of them."""
    coco = content()
    coco["categories"] = [{"id": i, "name": name, "supercategory": above} for i, name, above in categories]
    for place, found in enumerate(coco["annotations"]):
        found["category_id"] = used[place % 2]
    return coco


@pytest.mark.parametrize(
    ("categories", "left_out"),
    [
        ([(0, "insects", "none"), (1, "ant", "insects"), (2, "bee", "insects")], ["insects"]),
        ([(0, "ant", "none"), (1, "ant", "ant"), (2, "bee", "ant")], ["ant"]),  # called as a class is
        ([(9, "insects", None), (1, "ant", "insects"), (2, "bee", "insects")], ["insects"]),
        ([(0, "insects", ""), (1, "ant", "insects"), (2, "bee", "insects"), (3, "fly", "insects")], ["insects"]),
        ([(5, "six", "none"), (1, "ant", "six"), (7, "two", "none"), (2, "bee", "two")], ["six", "two"]),
        ([(0, "insects", "insects"), (1, "ant", "insects"), (2, "bee", "insects")], ["insects"]),
        ([("0", "insects", "none"), (1.0, "ant", "insects"), ("2", "bee", "insects")], ["insects"]),
    ],
)
def test_a_category_that_groups_others_is_named_and_left_out(read, categories, left_out):
    coco = grouped(*categories)
    kept, notes = tidy(coco)
    assert [c["name"] for c in kept["categories"] if c["id"] in (1, 2)] == ["ant", "bee"]
    assert len(kept["categories"]) == len(categories) - len(left_out)
    assert [note.partition("'")[2].partition("'")[0] for note in notes] == left_out
    assert all(note.startswith("category that only groups others left out: ") for note in notes)
    assert read(coco) == TRUTH
    report = Report()
    assert [c["name"] for c in clean_coco(coco, report, "x.json")["categories"]] == [
        c["name"] for c in kept["categories"]
    ]
    assert len(report.mended) == len(left_out)


@pytest.mark.parametrize(
    "categories",
    [
        [(1, "ant", "none"), (2, "bee", "none"), (3, "never", "none")],  # a class without an object
        [(1, "ant", "insect"), (2, "bee", "insect"), (3, "person", "person")],  # as COCO has it
        [(1, "ant", "none"), (2, "bee", "ant")],  # it has objects of its own
        [(1, "ant", "insects"), (2, "bee", "animals"), (0, "insects", "animals")],  # not all are below
    ],
)
def test_classes_stay_classes(categories):
    kept, notes = tidy(grouped(*categories))
    assert len(kept["categories"]) == len(categories) and notes == []


def test_digits_are_classes_and_files_of_powershell_are_read(read, tmp_path):
    coco = content()
    coco["categories"] = [{"id": 1, "name": 7}, {"id": 2, "name": 8.0}]
    assert [name for name, _ in read(coco)["7.png"]] == ["7", "8"]
    path = tmp_path / "annotations" / "instances_train.json"
    path.write_text(path.read_text(), encoding="utf-16")
    assert coco_split(tmp_path, "train").classes == ["7", "8"]


def test_the_notes_of_a_data_set_are_kept(read, tmp_path):
    read(grouped((0, "insects", "none"), (1, "ant", "insects"), (2, "bee", "insects")))
    assert coco_split(tmp_path, "train").notes == [
        "category that only groups others left out: 'insects' (id 0), no object"
    ]
