"""The photos that annotations belong to, and the numbers of COCO that their objects get."""

import pytest
from PIL import Image

from earlyexit.data import list_files
from prepare.boxes import ImageBoxes, fill_size, find_images, fit_boxes, to_coco
from prepare.cleaning import Report


def test_images_are_found_by_the_name_of_the_xml_file_first(tmp_path):
    for name in (
        "a.jpg",
        "b.JPEG",
        "deep/c.png",
        "d.jpg",
        "d.png",
        "scan.01.jpg",
        "x/twice.jpg",
        "y/twice.jpg",
        "E.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cases = [
        ("a.xml", "wrong.jpg", "a.jpg"),  # <filename> is wrong
        ("b.xml", "b", "b.JPEG"),  # without ending
        ("c.xml", "", "deep/c.png"),  # images in folders of their own
        ("d.xml", "d.png", "d.png"),  # the ending decides
        ("other.xml", r"C:\data\scan.01", "scan.01.jpg"),  # <filename> alone; the dot is no ending
        ("y/twice.xml", "", "y/twice.jpg"),
        ("e.xml", "e.jpg", "E.jpg"),  # written on a system that does not tell them apart
    ]
    report = Report()
    records = find_images([ImageBoxes(source, named) for source, named, _ in cases], tmp_path, report)
    assert [record.file_name for record in records] == [image for _, _, image in cases]
    assert report.mended == [("a.xml", "wrong <filename>: 'wrong.jpg', the image is 'a.jpg'")]
    assert report.dropped == []
    assert list_files(tmp_path, (".png",)) == ["d.png", "deep/c.png"]


def test_a_csv_file_does_not_name_its_images(tmp_path):
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    (record,) = find_images([ImageBoxes("a.csv line 2", "b.jpg")], tmp_path, Report(), by_source=False)
    assert record.file_name == "b.jpg"


def test_images_that_are_missing_or_not_clear_are_dropped(tmp_path):
    for name in ("a.jpg", "x/twice.jpg", "y/twice.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    first = ImageBoxes("a.xml", "a.jpg", objects=[("dog", (0, 0, 1, 1))])
    again = ImageBoxes("b.xml", "a.jpg", objects=[("cat", (0, 0, 1, 1))])
    report = Report()
    found = find_images([first, again, ImageBoxes("twice.xml"), ImageBoxes("no.xml", "none.jpg")], tmp_path, report)
    assert found == [first]
    assert not first.is_single  # the other file saw an object, too
    assert report.dropped == [
        ("b.xml", "image described twice: 'a.jpg', first by 'a.xml'"),
        (
            "twice.xml",
            "no such image, or several: looked for 'twice'; there are several, such as 'x/twice.jpg' and 'y/twice.jpg'",
        ),
        ("no.xml", "no such image, or several: looked for 'no' and 'none.jpg'"),
    ]


def test_coco_numbers_follow_names_not_the_order_of_reading():
    records = [
        ImageBoxes("b.xml", "b.jpg", 10, 20, [("dog", (1, 2, 4, 6)), ("ant", (0, 0, 1.5, 2))]),
        ImageBoxes("a.xml", "a.jpg", 30, 40, [("bee", (5, 5, 6, 7))]),
    ]
    coco = to_coco(records)
    assert coco == to_coco(records[::-1])
    assert coco["categories"] == [{"id": 1, "name": "ant"}, {"id": 2, "name": "bee"}, {"id": 3, "name": "dog"}]
    assert [(i["id"], i["file_name"], i["width"], i["height"]) for i in coco["images"]] == [
        (1, "a.jpg", 30, 40),
        (2, "b.jpg", 10, 20),
    ]
    assert [(a["id"], a["image_id"], a["category_id"], a["bbox"], a["area"]) for a in coco["annotations"]] == [
        (1, 1, 2, [5, 5, 1, 2], 2),
        (2, 2, 3, [1, 2, 3, 4], 12),
        (3, 2, 1, [0, 0, 1.5, 2], 3),
    ]


def save_lying(path, orientation):
    """A photo that is 40 x 30 when it is upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 40) if orientation > 4 else (40, 30)).save(path, exif=exif)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sizes_are_those_of_the_upright_photo(tmp_path, orientation):
    save_lying(tmp_path / "a.jpg", orientation)
    report, box = Report(), ("dog", (20.0, 5.0, 38.0, 28.0))
    for size in ((0, 0), (40, 30)):
        record = ImageBoxes("a.xml", "a.jpg", *size, objects=[box])
        assert fill_size(record, tmp_path, report, compare=True)
        fit_boxes(record, report)
        assert (record.width, record.height, record.objects) == (40, 30, [box])
    assert report.mended == [("a.xml", "size filled in from the image: 40 x 30")]
    record = ImageBoxes("a.xml", "a.jpg", 30, 40, objects=[box])
    assert not fill_size(record, tmp_path, report, compare=True)  # before the box is clipped to the wrong size
    assert report.dropped[0][1].startswith("annotations for the other orientation: 30 x 40, the photo is 40 x 30")
    assert fill_size(record, tmp_path, report)  # nothing is opened where the size is known and not to be compared


def test_a_photo_that_cannot_be_read_is_left_to_those_who_need_it(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    report = Report()
    assert fill_size(ImageBoxes("a.xml", "a.jpg", 40, 30), tmp_path, report, compare=True)
    assert not fill_size(ImageBoxes("a.xml", "a.jpg"), tmp_path, report, compare=True)
    assert report.dropped[0][1].startswith("size unknown and image unreadable: cannot identify")
