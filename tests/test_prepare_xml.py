"""XML annotations: exact boxes, every fault that is mended or dropped, a file and a folder."""

import pickle
from multiprocessing.pool import ThreadPool
from types import SimpleNamespace

import pytest
from PIL import Image

from prepare.boxes import ImageBoxes, clip_box, fill_size, fit_boxes, to_coco
from prepare.cleaning import Report
from prepare.xml_boxes import read_xml, read_xml_folder


class PicklingPool(ThreadPool):
    """As a pool of processes, which would take seconds to import torch, but in threads."""

    def imap(self, function, chunks):
        copied = pickle.loads(pickle.dumps(function))
        return super().imap(lambda chunk: pickle.loads(pickle.dumps(copied(chunk))), chunks)


SIZE = "<size><width>100</width><height>80</height><depth>3</depth></size>"
DOG = "<object><name>dog</name>{}</object>"


def corners(xmin, ymin, xmax, ymax):
    return f"<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>"


def annotation(*objects, filename="a.jpg", size=SIZE):
    return f"<annotation><filename>{filename}</filename>{size}{''.join(objects)}</annotation>"


@pytest.fixture
def read(tmp_path):
    """Write text or bytes into a.xml and read it: (record, report)."""

    def write_and_read(content, **options):
        path = tmp_path / "a.xml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        report = Report()
        return read_xml(path, report, name="a.xml", **options), report

    return write_and_read


def test_voc_counts_pixels_from_one_and_includes_both_corners(read):
    record, report = read(annotation(DOG.format(corners(1, 1, 100, 80)), DOG.format(corners(11, 21, 11, 30))))
    assert record == ImageBoxes("a.xml", "a.jpg", 100, 80, [("dog", (0, 0, 100, 80)), ("dog", (10, 20, 11, 30))])
    assert report == Report()


def test_imagenet_corners_are_taken_as_they_stand(read):
    record, _ = read(annotation(DOG.format(corners(0, 0, 100, 80))), origin=0)
    assert record.objects == [("dog", (0, 0, 100, 80))]


def test_tags_count_by_name_not_by_place(read):
    text = """<annotation>
      <object><bndbox><ymax>40</ymax><xmax>30</xmax><ymin>20</ymin><xmin>10</xmin></bndbox>
        <truncated>1</truncated><name> cat </name></object>
      <size><depth>3</depth><height>80</height><width>100</width></size>
      <owner><name>someone</name></owner><filename>b</filename></annotation>"""
    record, _ = read(text, origin=0)
    assert (record.file_name, record.width, record.height) == ("b", 100, 80)
    assert record.objects == [("cat", (10, 20, 30, 40))]


def test_parts_do_not_lend_their_name_or_box_to_the_object(read):
    part = f"<part><name>head</name>{corners(1, 1, 2, 2)}</part>"
    whole = f"<object>{part}<name>person</name>{corners(10, 20, 30, 40)}{part}</object>"
    nameless = f"<object>{part}{corners(10, 20, 30, 40)}</object>"
    boxless = f"<object><name>person</name>{part}</object>"
    record, report = read(annotation(whole, nameless, boxless), origin=0)
    assert record.objects == [("person", (10, 20, 30, 40))]
    assert record.lost == 2
    assert not record.is_single
    assert report.dropped == [
        ("a.xml", "object without <name>: object 2"),
        ("a.xml", "object without a box of four numbers: object 3, 'person'"),
    ]


def test_the_first_of_two_names_counts(read):
    record, _ = read(annotation(f"<object><name>dog</name>{corners(1, 1, 2, 2)}<name>cat</name></object>"))
    assert [name for name, _ in record.objects] == ["dog"]


def test_swapped_corners_are_mended_before_the_first_pixel_is_moved(read):
    record, report = read(annotation(DOG.format(corners(30, 20, 11, 40))))
    assert record.objects == [("dog", (10, 19, 30, 40))]
    assert report.mended == [("a.xml", "corners swapped: object 1, 'dog', (30, 20, 11, 40)")]


@pytest.mark.parametrize("value", ["", "abc", "nan", "inf", "1,5"])
def test_a_corner_that_is_no_number_drops_the_object_alone(read, value):
    record, report = read(annotation(DOG.format(corners(value, 1, 2, 3)), DOG.format(corners(1, 1, 2, 3))))
    assert record.objects == [("dog", (0, 0, 2, 3))]
    assert record.lost == 1
    assert report.dropped == [("a.xml", "object without a box of four numbers: object 1, 'dog'")]


def test_float_corners_are_kept(read):
    record, _ = read(annotation(DOG.format(corners(10.5, "2e1", 30.25, "40.0"))), origin=0)
    assert record.objects == [("dog", (10.5, 20, 30.25, 40))]


@pytest.mark.parametrize(
    "size", ["", "<size/>", "<size><width>0</width><height>80</height></size>", "<size><width>x</width></size>"]
)
def test_unknown_size_is_read_from_the_image(read, tmp_path, size):
    record, report = read(annotation(DOG.format(corners(1, 1, 50, 90)), size=size))
    assert 0 in (record.width, record.height)
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg")
    assert fill_size(record, tmp_path, report)
    assert (record.width, record.height) == (60, 40)
    assert report.mended == [("a.xml", "size filled in from the image: 60 x 40")]
    fit_boxes(record, report)
    assert record.objects == [("dog", (0, 0, 50, 40))]


def test_unknown_size_and_no_image_is_dropped(read, tmp_path):
    record, report = read(annotation(size=""))
    assert not fill_size(record, tmp_path, report)
    assert report.dropped[0][0] == "a.xml"
    assert report.dropped[0][1].startswith("size unknown and image unreadable: ")


def test_boxes_are_clipped_or_lost_at_the_border(read):
    found = [corners(-5, 10, 30, 200), corners(150, 10, 180, 20), corners(5, 5, 5, 9), corners(100, 0, 120, 9)]
    record, report = read(annotation(*map(DOG.format, found)), origin=0)
    fit_boxes(record, report)
    assert record.objects == [("dog", (0, 10, 30, 80))]
    assert record.lost == 3
    assert report.mended == [
        ("a.xml", "object clipped to the image: object 1, 'dog', (-5, 10, 30, 200), image 100 x 80")
    ]
    assert [reason for _, reason in report.dropped] == [
        "object outside the image: object 2, 'dog', (150, 10, 180, 20), image 100 x 80",
        "object without area: object 3, 'dog', (5, 5, 5, 9), image 100 x 80",
        "object outside the image: object 4, 'dog', (100, 0, 120, 9), image 100 x 80",
    ]
    assert clip_box((0, 0, 100, 80), 100, 80) == (0, 0, 100, 80)


def test_an_object_lost_does_not_make_its_image_single(read):
    record, report = read(annotation(DOG.format(corners(1, 1, 9, 9)), DOG.format(corners(500, 1, 600, 9))))
    fit_boxes(record, report)
    assert len(record.objects) == 1
    assert not record.is_single
    assert to_coco([record])["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80, "unusable_annotations": 1}
    ]


def test_namespaces_comments_and_byte_order_marks(read):
    text = annotation("<!-- by hand -->", DOG.format(corners(11, 21, 30, 40)))
    spaced = text.replace("<annotation>", '<annotation xmlns="http://example.org/voc">', 1)
    for content in (text, spaced, b"\xef\xbb\xbf" + spaced.encode(), spaced.encode("utf-16")):
        record, report = read(content)
        assert (record.objects, record.width, report.dropped) == ([("dog", (10, 20, 30, 40))], 100, [])


@pytest.mark.parametrize("encoding", ["utf-8", "iso-8859-1", "windows-1252", "gb2312", "shift_jis"])
def test_declared_encodings(read, encoding):
    name = {"gb2312": "狗", "shift_jis": "犬"}.get(encoding, "chien-é")
    text = annotation(DOG.format(corners(1, 2, 3, 4))).replace("dog", name)
    record, _ = read(f'<?xml version="1.0" encoding="{encoding}"?>\n{text}'.encode(encoding))
    assert record.objects == [(name, (0, 1, 3, 4))]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (annotation(DOG.format(corners(1, 1, 2, 2)))[:-20], "not readable as XML"),
        ("", "not readable as XML"),
        (annotation().replace("a.jpg", "a&b.jpg"), "not readable as XML"),
        ('<?xml version="1.0" encoding="klingon"?><annotation/>', "not readable as XML"),
        ("<svg><size/></svg>", "no annotation"),
    ],
)
def test_broken_files_are_dropped_with_their_name(read, content, reason):
    record, report = read(content)
    assert record is None
    assert [file for file, _ in report.dropped] == ["a.xml"]
    assert report.dropped[0][1].startswith(reason + ": ")


def test_a_folder_is_read_in_order_by_any_number_of_processes(tmp_path, monkeypatch):
    for number in range(7):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        box = corners(number + 1, 1, number + 10, 9) if number != 3 else ""
        (tmp_path / f"{number % 2}" / f"{number}.XML").write_text(annotation(DOG.format(box)))
    (tmp_path / "1" / "bad.xml").write_text("<annotation>")
    monkeypatch.setattr("prepare.xml_boxes.CHUNK", 3)
    report = Report()
    records = read_xml_folder(tmp_path, report)
    assert [r.source for r in records] == ["0/0.XML", "0/2.XML", "0/4.XML", "0/6.XML", "1/1.XML", "1/3.XML", "1/5.XML"]
    assert [box[0] for r in records for _, box in r.objects] == [0, 2, 4, 6, 1, 5]
    assert [file for file, _ in report.dropped] == ["1/3.XML", "1/bad.xml"]
    again = Report()
    monkeypatch.setattr("multiprocessing.get_context", lambda kind: SimpleNamespace(Pool=PicklingPool))
    assert read_xml_folder(tmp_path, again, workers=2) == records
    assert again == report
    assert [r.source for r in read_xml_folder(tmp_path, Report(), only="1/*5*")] == ["1/5.XML"]


def test_a_folder_without_xml_says_what_is_wanted(tmp_path):
    with pytest.raises(ValueError, match=r"holds no XML file.*\*\.xml"):
        read_xml_folder(tmp_path, Report())
    with pytest.raises(ValueError, match="nowhere' is no folder"):
        read_xml_folder(tmp_path / "nowhere", Report())


@pytest.mark.parametrize(
    "outline",
    [
        "<polygon><username>me</username>"
        "<pt><x>12</x><y>20</y></pt><pt><x>40.5</x><y>25</y></pt><pt><x>10</x><y>60</y></pt></polygon>",
        "<polygon><x1>10</x1><y1>20</y1><x2>40.5</x2><y2>60</y2><x3>10</x3><y3>60</y3></polygon>",
    ],
)
def test_an_outline_alone_gives_the_box_around_it(tmp_path, outline):
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation><object><name>dog</name>{outline}</object></annotation>")
    report = Report()
    record = read_xml(path, report)
    assert (record.objects, record.lost, report) == ([("dog", (10, 20, 40.5, 60))], 0, Report())
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    path.write_text(f"<annotation><object><name>dog</name>{outline}{box}</object></annotation>")
    assert read_xml(path, report).objects == [("dog", (1, 2, 9, 9))]  # a box, where there is one


@pytest.mark.parametrize(
    "points", ["", "<pt><x>1</x><y>2</y></pt>", "<x1>1</x1><y1>2</y1><x2>3</x2><y2>a</y2><x3>4</x3>"]
)
def test_what_is_no_outline_is_no_box(tmp_path, points):
    path = tmp_path / "a.xml"
    path.write_text(f"<annotation><object><name>dog</name><polygon>{points}</polygon></object></annotation>")
    report = Report()
    record = read_xml(path, report)
    assert (record.objects, record.lost) == ([], 1)
    assert report.dropped[0][1].startswith("object without a box of four numbers")
