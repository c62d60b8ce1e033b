"""Calibration images taken out of the training images; what the report says."""

import hashlib
import random

import pytest

from earlyexit.data.prepare.report import Report
from earlyexit.data.prepare.splits import take_calibration


def data(count=50, first=100):
    images = [{"id": first + 7 * i, "file_name": f"{i}.jpg"} for i in range(count)]
    annotations = [{"id": i + 1, "image_id": image["id"]} for i, image in enumerate(images) for _ in range(i % 3)]
    return {"images": images, "annotations": annotations, "categories": [{"id": 4, "name": "cat"}], "own": "key"}


def ids(coco):
    return [image["id"] for image in coco["images"]]


def test_nothing_is_lost_and_nothing_is_in_both():
    coco = data()
    train, calibration = take_calibration(coco, 0.3, seed=5)
    assert (len(ids(train)), len(ids(calibration))) == (35, 15)
    assert set(ids(train)).isdisjoint(ids(calibration))
    assert sorted(ids(train) + ids(calibration)) == ids(coco)
    for part in (train, calibration):
        assert part["annotations"] == [a for a in coco["annotations"] if a["image_id"] in ids(part)]
        assert (part["categories"], part["own"]) == (coco["categories"], "key")
    assert len(train["annotations"]) + len(calibration["annotations"]) == len(coco["annotations"])


def test_images_are_those_with_the_smallest_digests():
    coco = data(9)
    by_digest = sorted(ids(coco), key=lambda i: hashlib.sha256(f"3:{i}".encode()).hexdigest())
    assert set(ids(take_calibration(coco, 0.34, seed=3)[1])) == set(by_digest[:3])


def test_choice_is_the_same_in_every_version_and_on_every_machine():
    assert ids(take_calibration(data(20), 0.2, seed=0)[1]) == [142, 170, 205, 226]


def test_choice_depends_on_ids_and_seed_not_on_the_order():
    coco, shuffled = data(), data()
    random.Random(0).shuffle(shuffled["images"])
    chosen = set(ids(take_calibration(coco)[1]))
    assert set(ids(take_calibration(shuffled)[1])) == chosen
    assert set(ids(take_calibration(coco, seed=1)[1])) != chosen
    assert ids(take_calibration(shuffled)[0]) == [i for i in ids(shuffled) if i not in chosen]


@pytest.mark.parametrize(("share", "sizes"), [(0.001, (9, 1)), (0.999, (1, 9)), (0.26, (7, 3))])
def test_each_side_gets_an_image(share, sizes):
    assert tuple(len(ids(part)) for part in take_calibration(data(10), share)) == sizes


@pytest.mark.parametrize("share", [0, 1, -0.5, 20, float("nan")])
def test_share_out_of_range_is_shown(share):
    with pytest.raises(ValueError, match=f"between 0 and 1, such as 0.2, got {share}"):
        take_calibration(data(), share)


def test_one_image_cannot_be_divided():
    with pytest.raises(ValueError, match="at least two images, there is 1"):
        take_calibration(data(1))


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
