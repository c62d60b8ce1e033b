"""What cannot be used is left out, counted and said: records of a COCO file, photos; and the report of it."""

import copy
import json

import numpy as np
import pytest
from PIL import Image

from earlyexit.data import classify_images, coco_split, keep_single_objects, load_coco, read_coco
from earlyexit.data.coco import KEPT, UNUSABLE
from prepare.cleaning import Report, check_photos, clean_coco
from prepare.layout import write_splits


def record(image_id):
    return {"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": 32, "height": 24}


def box(number, image_id, **changes):
    outline = {"segmentation": [[2, 3, 12, 3, 12, 11]], "area": 70.5, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": 17, "bbox": [2, 3, 10, 8.5], **outline, **changes}


CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 17, "name": "cat"}]


def small():
    """Images 1 to 4: with one annotation, two, none, one."""
    annotations = [box(11, 1), box(12, 2), box(13, 2), box(14, 4)]
    return {"images": [record(i) for i in range(1, 5)], "annotations": annotations, "categories": CATEGORIES}


def cleaned(coco):
    report, before = Report(), copy.deepcopy(coco)
    result = clean_coco(coco, report, "x.json")
    assert coco == before
    return result, report


def test_clean_data_stays_as_it_is():
    assert cleaned(small()) == (small(), Report())


# What is wrong with annotation 11, the only one of image 1, and the reason in the report.
BAD_ANNOTATIONS = [
    ({"category_id": 5}, "unknown category: 5"),
    ({"category_id": [17]}, "unknown category: [17]"),
    ({"bbox": [2, 3, 10]}, "bbox is not four numbers [x, y, width, height]: [2, 3, 10]"),
    ({"bbox": [2, 3, "ten", 8]}, "bbox is not four numbers [x, y, width, height]: [2, 3, 'ten', 8]"),
    ({"bbox": [2, 3, True, 8]}, "bbox is not four numbers [x, y, width, height]: [2, 3, True, 8]"),
    ({"bbox": {"x": 2}}, "bbox is not four numbers [x, y, width, height]: {'x': 2}"),
    ({"bbox": [2, 3, float("nan"), 8]}, "bbox is not finite: [2, 3, nan, 8]"),
    ({"bbox": [2, 3, 10, -8]}, "bbox with a negative width or height: [2, 3, 10, -8]"),
    ({"bbox": [32, 3, 5, 5]}, "bbox outside its image: [32, 3, 5, 5] in 32 x 24"),
    ({"bbox": [2, -5, 5, 5]}, "bbox outside its image: [2, -5, 5, 5] in 32 x 24"),
    ({"bbox": [2, 3, 10**31, 8]}, "bbox is not finite: [2, 3, 10000000000000000000000000000000, 8]"),
    ({"iscrowd": "no"}, "iscrowd is not 0 or 1: 'no'"),
    ({"iscrowd": 2}, "iscrowd is not 0 or 1: 2"),
]


@pytest.mark.parametrize(("changes", "reason"), BAD_ANNOTATIONS)
def test_bad_annotation_is_left_out_and_its_image_not_single(changes, reason):
    coco = small()
    coco["annotations"][0].update(changes)
    result, report = cleaned(coco)
    assert [found["id"] for found in result["annotations"]] == [12, 13, 14]
    assert report.dropped == [("x.json: annotation 11", reason)]
    assert classify_images(result)[1] == UNUSABLE
    assert [image["id"] for image in keep_single_objects(result)["images"]] == [4]


@pytest.mark.parametrize(("changes", "reason"), BAD_ANNOTATIONS)
def test_image_does_not_become_single_by_losing_an_annotation(changes, reason):
    coco = small()
    coco["annotations"][1].update(changes)
    result, _ = cleaned(coco)
    assert [found["id"] for found in result["annotations"]] == [11, 13, 14]
    assert classify_images(result) == {1: KEPT, 2: UNUSABLE, 3: "no annotation", 4: KEPT}
    assert result["images"][1] == {**record(2), "unusable_annotations": 1}


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox"])
def test_missing_key_is_named(key):
    coco = small()
    del coco["annotations"][0][key], coco["annotations"][0]["segmentation"]
    result, report = cleaned(coco)
    assert len(result["annotations"]) == 3
    assert report.dropped == [("x.json: annotation 11", f"no {key!r}")]
    # Without an image id nobody can say which image it was.
    assert classify_images(result)[1] == ("no annotation" if key == "image_id" else UNUSABLE)


def test_records_that_are_no_records_and_unknown_images():
    coco = small()
    coco["annotations"][3:3] = ["text", box(20, 99), box(21, [4])]
    coco["images"].append(7)
    result, report = cleaned(coco)
    assert result["annotations"] == small()["annotations"]
    assert report.dropped == [
        ("x.json: image number 5", "not a record: 7"),
        ("x.json: annotation number 4", "not a record: 'text'"),
        ("x.json: annotation 20", "annotation of an unknown image: 99"),
        ("x.json: annotation 21", "annotation of an unknown image: [4]"),
    ]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"id": 2}, "id of several images"),
        ({"file_name": "000000000002.jpg"}, "file name of several images"),
    ],
)
def test_images_that_cannot_be_told_apart_are_left_out(changes, reason):
    coco = small()
    coco["images"][0].update(changes)
    result, report = cleaned(coco)
    assert [image["id"] for image in result["images"]] == [3, 4]
    assert [found["id"] for found in result["annotations"]] == [14]
    assert report.counts()[reason] == 2


def test_repetitions_are_left_out_alone():
    coco = small()
    coco["images"].append(record(1))
    coco["annotations"].append(box(11, 1))
    result, report = cleaned(coco)
    assert result == small()
    assert report.dropped == [("x.json: image 1", "repeated image"), ("x.json: annotation 11", "repeated annotation")]


def test_annotation_id_given_twice():
    coco = small()
    coco["annotations"][3]["id"] = 11
    result, report = cleaned(coco)
    assert [found["id"] for found in result["annotations"]] == [1, 2, 3, 4]
    assert report.mended == [("x.json", "ids of annotations counted anew from 1: missing, shared or no numbers, 11")]
    assert classify_images(result) == {1: KEPT, 2: "several annotations", 3: "no annotation", 4: KEPT}


@pytest.mark.parametrize("changes", [{"id": [1]}, {"id": True}, {"file_name": 5}, {"file_name": ""}, {"width": -32}])
def test_bad_image_goes_with_its_annotations(changes):
    coco = small()
    coco["images"][0].update(changes)
    result, report = cleaned(coco)
    assert [image["id"] for image in result["images"]] == [2, 3, 4]
    assert [found["id"] for found in result["annotations"]] == [12, 13, 14]
    assert str(next(iter(changes.values()))) in report.dropped[0][1]


@pytest.mark.parametrize(
    ("before", "after", "area"),
    [
        ([-4, 3, 10, 8], [0, 3, 6, 8], 48),
        ([28, 20, 10, 10.5], [28, 20, 4, 4], 16),
        ([-1, -1, 100, 100], [0, 0, 32, 24], 70.5),  # the outline may well be smaller
    ],
)
def test_boxes_are_clipped(before, after, area):
    coco = small()
    coco["annotations"][0]["bbox"] = before
    result, report = cleaned(coco)
    assert (result["annotations"][0]["bbox"], result["annotations"][0]["area"]) == (after, area)
    assert report.mended == [("x.json: annotation 11", f"bbox clipped to its image: {before} to {after}")]
    assert classify_images(result)[1] == KEPT
    assert cleaned(result) == (result, Report())


@pytest.mark.parametrize("bbox", [[22.01, 3, 10, 8], [-0.01, 0, 5, 24.01], [31, 23, 0, 9]])
def test_rounding_and_boxes_without_area_are_left_alone(bbox):
    coco = small()
    coco["annotations"][0]["bbox"] = bbox
    assert cleaned(coco) == (coco, Report())


def test_boxes_are_not_compared_with_an_unknown_size():
    coco = small()
    coco["annotations"][0]["bbox"] = [90, 3, 5, 5]
    report = Report()
    assert (clean_coco(coco, report, "x.json", fit=False), report) == (coco, Report())
    coco["images"][0]["width"] = 0
    result, report = cleaned(coco)
    assert (result["annotations"], report) == (coco["annotations"], Report())
    coco["images"][0]["width"] = 32
    assert classify_images(cleaned(coco)[0])[1] == UNUSABLE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": None}, "'x.json': no list 'images', so it is not a COCO instances file"),
        ({"categories": [{"id": 1}]}, "got {'id': 1}"),
        ({"categories": [{"id": 1, "name": [5]}]}, "got {'id': 1, 'name': [5]}"),
        ({"categories": [*CATEGORIES, {"id": 17, "name": "dog"}]}, "17 occurs 2 times"),
        ({"categories": [*CATEGORIES, {"id": 18, "name": "cat"}]}, "'cat' occurs 2 times"),
    ],
)
def test_files_that_cannot_be_used_at_all(changes, message):
    with pytest.raises(ValueError) as caught:
        clean_coco({**small(), **changes}, Report(), "x.json")
    assert message in str(caught.value)


def test_reading_without_outlines(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(small()))
    bare = small()
    for found in bare["annotations"]:
        del found["segmentation"]
    assert load_coco(tmp_path / "a.json", outlines=False) == bare
    assert load_coco(tmp_path / "a.json") == small()
    assert read_coco(tmp_path / "a.json", outlines=False) == bare


# Photos

NAMES = ["a.jpg", "b.jpg", "d.png", "deep/c.jpg"]


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    for name in NAMES:
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def coco():
    images = [{"id": 5 - i, "file_name": name, "width": 32, "height": 24} for i, name in enumerate(NAMES)]
    box = {"category_id": 3, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0}
    annotations = [{"id": 10 + image["id"], "image_id": image["id"], **box} for image in images]
    return {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}], "own": 1}


def test_whole_images_are_left_as_they_are(images, coco):
    report = Report()
    assert check_photos(coco, images, report) == coco
    assert report == Report()


def cut(path, share):
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])


def test_broken_images_are_dropped_with_their_annotations(images, coco):
    cut(images / "a.jpg", 0.9)
    (images / "b.jpg").unlink()
    (images / "deep/c.jpg").write_bytes(b"no image")
    coco["images"].append({"id": 9, "file_name": "../images/d.png", "width": 32, "height": 24})
    coco["images"].append({"id": 8, "file_name": str(images / "d.png"), "width": 32, "height": 24})
    report = Report()
    checked = check_photos(coco, images, report, workers=2)
    assert [image["file_name"] for image in checked["images"]] == ["d.png"]
    assert [found["id"] for found in checked["annotations"]] == [13]
    assert checked["own"] == 1
    assert report.counts() == {"no such image": 3, "unreadable image": 2}
    assert [file for file, _ in report.dropped[:3]] == ["a.jpg", "b.jpg", "deep/c.jpg"]
    assert "truncated" in report.dropped[0][1]
    assert report.dropped[3][1] == "no such image: the only one it could be, 'd.png', is that of another record"
    assert len(coco["images"]) == 6


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("name", ["a.jpg", "d.png"])
def test_truncation_is_found_wherever_it_is(images, coco, name, share):
    cut(images / name, share)
    report = Report()
    assert len(check_photos(coco, images, report)["images"]) == 3
    assert [file for file, _ in report.dropped] == [name]


def test_sizes_are_compared_and_filled_in(images, coco):
    coco["images"][0].update(width=24, height=31)
    coco["images"][1]["width"] = 0
    del coco["images"][2]["width"], coco["images"][2]["height"]
    report = Report()
    checked = check_photos(coco, images, report)
    reason = "image of another size: 32 x 24, its annotations are for 24 x 31"
    assert report.dropped == [("a.jpg", reason)]
    assert report.mended == [(name, "size filled in from the image: 32 x 24") for name in ("b.jpg", "d.png")]
    assert [(i["id"], i["width"], i["height"]) for i in checked["images"]] == [(4, 32, 24), (3, 32, 24), (2, 32, 24)]


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_sizes_are_those_of_the_upright_photo(images, coco, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = Image.new("RGB", (24, 32) if orientation > 4 else (32, 24))
    for name in NAMES:
        lying.save(images / name, exif=exif)
    coco["images"][1].update(width=24, height=32)
    coco["images"][2] = {"id": 3, "file_name": "d.png"}
    report = Report()
    checked = check_photos(coco, images, report)
    assert [(i["file_name"], i["width"], i["height"]) for i in checked["images"]] == [
        (name, 32, 24) for name in ("a.jpg", "d.png", "deep/c.jpg")
    ]
    ((name, reason),) = report.dropped
    assert (name, reason.partition(",")[0]) == ("b.jpg", "annotations for the other orientation: 24 x 32")


def test_photos_are_found_under_the_names_of_another_system(images, coco, tmp_path):
    for image, name in zip(coco["images"], ["A.JPG", r"C:\data\b.jpg", "d%2Epng", r"deep\c.jpeg"], strict=True):
        image["file_name"] = name
    report = Report()
    checked = check_photos(coco, images, report)
    assert [image["file_name"] for image in checked["images"]] == NAMES
    assert len(checked["annotations"]) == 4 and not report.dropped
    assert report.mended[0] == ("A.JPG", "file name that is written otherwise: 'a.jpg'")
    write_splits({"train": (checked, images)}, tmp_path / "out")
    assert [image.shape for image, _ in coco_split(tmp_path / "out", "train")] == [(3, 24, 32)] * 4


def test_the_nearest_name_is_said(images, coco):
    coco["images"][3]["file_name"] = "deep/\u0441.jpg"  # a Cyrillic letter that looks the same
    (images / "deep" / "c.jpg").rename(images / "deep" / "photo c.jpg")
    coco["images"][0]["file_name"], coco["images"][3]["file_name"] = "a.jpg", "deep/photo \u0441.jpg"
    report = Report()
    check_photos(coco, images, report)
    reason = r"no such image: the nearest is 'deep/photo c.jpg', with 'c' for '\u0441'"
    assert report.dropped == [("deep/photo \u0441.jpg", reason)]


def test_twelve_bits_in_a_file_of_sixteen_are_said(images, coco):
    Image.fromarray(np.linspace(0, 4095, 768).astype(np.uint16).reshape(24, 32)).save(images / "d.png")
    report = Report()
    assert len(check_photos(coco, images, report)["images"]) == 4
    assert report.lines() == [
        "mended, 12 bits in a file of 16: 1",
        "  d.png (the largest value is 4095, so 4095 is taken for white)",
    ]


def test_missing_folder_is_named(tmp_path, coco):
    with pytest.raises(ValueError, match="no image folder .*absent"):
        check_photos(coco, tmp_path / "absent", Report())


# The report


@pytest.fixture
def report():
    report = Report()
    report.drop("a.jpg", "unreadable image: truncated, 3 bytes: missing")
    report.mend("m.jpg", "size filled in from the image: 4 x 3")
    other = Report()
    for name in ("b.jpg", "c.jpg", "ü, d.jpg"):
        other.drop(name, "no such image")
    report.extend(other)
    return report


def test_report_counts_by_reason_without_details(report):
    assert report.counts() == {"no such image": 3, "unreadable image": 1}
    assert list(report.counts()) == ["no such image", "unreadable image"]


def test_report_lists_the_first_files(report):
    assert report.lines(limit=2) == [
        "dropped, no such image: 3",
        "  b.jpg",
        "  c.jpg",
        "  and 1 more",
        "dropped, unreadable image: 1",
        "  a.jpg (truncated, 3 bytes: missing)",
        "mended, size filled in from the image: 1",
        "  m.jpg (4 x 3)",
    ]
    assert Report().lines() == []


def test_strict_lists_what_was_dropped_and_forgives_what_was_mended(report):
    with pytest.raises(ValueError) as caught:
        report.check_strict(limit=2)
    assert str(caught.value).splitlines() == [
        "4 cannot be used:",
        "  a.jpg: unreadable image: truncated, 3 bytes: missing",
        "  b.jpg: no such image",
        "  and 2 more",
    ]
    Report(mended=report.mended).check_strict()


def test_report_is_written_as_csv(report, tmp_path):
    path = report.write(tmp_path / "report.csv")
    assert path.read_text(encoding="utf-8").splitlines() == [
        "file,action,reason",
        'a.jpg,dropped,"unreadable image: truncated, 3 bytes: missing"',
        "b.jpg,dropped,no such image",
        "c.jpg,dropped,no such image",
        '"ü, d.jpg",dropped,no such image',
        "m.jpg,mended,size filled in from the image: 4 x 3",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["report.csv"]
