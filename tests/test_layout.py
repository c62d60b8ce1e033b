"""Images are opened to their end and put in place, whatever was there before."""

import json
import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earlyexit.data.coco import coco_split
from earlyexit.data.prepare import placing
from earlyexit.data.prepare.dividing import write_splits
from earlyexit.data.prepare.layout import check_images, check_writable, forget_splits, write_split
from earlyexit.data.prepare.report import Report

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


def state(folder):
    """Every file with its content and kind; what a stopped and repeated run has to share with an undisturbed one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            kind = os.readlink(path) if path.is_symlink() else path.stat().st_nlink
            found[str(path.relative_to(folder))] = (kind, path.read_bytes())
    return found


def test_whole_images_are_left_as_they_are(images, coco):
    report = Report()
    assert check_images(coco, images, report) == coco
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
    checked = check_images(coco, images, report, workers=2)
    assert [image["file_name"] for image in checked["images"]] == ["d.png"]
    assert [found["id"] for found in checked["annotations"]] == [13]
    assert checked["own"] == 1
    assert report.counts() == {"unreadable image": 2, "file name leaves the image folder": 2, "no such image": 1}
    assert [file for file, _ in report.dropped[:3]] == ["a.jpg", "b.jpg", "deep/c.jpg"]
    assert "truncated" in report.dropped[0][1]
    assert len(coco["images"]) == 6


@pytest.mark.parametrize("share", [0.3, 0.6, 0.98])
@pytest.mark.parametrize("name", ["a.jpg", "d.png"])
def test_truncation_is_found_wherever_it_is(images, coco, name, share):
    cut(images / name, share)
    report = Report()
    assert len(check_images(coco, images, report)["images"]) == 3
    assert [file for file, _ in report.dropped] == [name]


def test_sizes_are_compared_and_filled_in(images, coco):
    coco["images"][0].update(width=24, height=32)
    coco["images"][1]["width"] = 0
    del coco["images"][2]["width"], coco["images"][2]["height"]
    report = Report()
    checked = check_images(coco, images, report)
    reason = "image of another size: 32 x 24, its annotations are for 24 x 32"
    assert report.dropped == [("a.jpg", reason)]
    assert report.mended == [(name, "size filled in from the image: 32 x 24") for name in ("b.jpg", "d.png")]
    assert [(i["id"], i["width"], i["height"]) for i in checked["images"]] == [(4, 32, 24), (3, 32, 24), (2, 32, 24)]


def test_missing_folder_is_named(tmp_path, coco):
    with pytest.raises(ValueError, match="no image folder .*absent"):
        check_images(coco, tmp_path / "absent", Report())


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_split_is_placed_and_read(images, coco, tmp_path, link):
    out = tmp_path / "out"
    path = write_split(coco, images, out, "train", link)
    assert path == out / "annotations" / "instances_train.json"
    assert json.loads(path.read_text()) == coco
    assert sorted(state(out)) == ["annotations/instances_train.json", *(f"train/{name}" for name in NAMES)]
    for name in NAMES:
        assert (out / "train" / name).read_bytes() == (images / name).read_bytes()
        assert (out / "train" / name).is_symlink() == (link == "symlink")
        assert (out / "train" / name).samefile(images / name) == (link != "copy")
    dataset = coco_split(out, "train")
    assert dataset.ids == [2, 3, 4, 5]
    assert dataset[0][1]["boxes"].tolist() == [[1, 2, 11, 22]]


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_what_is_in_place_is_not_done_again(images, coco, tmp_path, link, monkeypatch):
    write_split(coco, images, tmp_path / "out", "train", link)
    before = state(tmp_path / "out")
    monkeypatch.setattr(placing.os, "replace", lambda *paths: pytest.fail(f"{paths} was done again"))
    for name in NAMES:
        placing.place_image(images / name, tmp_path / "out/train" / name, link)
    monkeypatch.undo()
    write_split(coco, images, tmp_path / "out", "train", link)
    assert state(tmp_path / "out") == before


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
@pytest.mark.parametrize("before", ["hard", "symlink", "copy"])
def test_kind_of_link_can_be_changed(images, coco, tmp_path, before, link):
    write_split(coco, images, tmp_path / "out", "train", before)
    write_split(coco, images, tmp_path / "out", "train", link)
    write_split(coco, images, tmp_path / "fresh", "train", link)
    for name in NAMES:
        changed, fresh = (tmp_path / folder / "train" / name for folder in ("out", "fresh"))
        assert changed.is_symlink() == fresh.is_symlink()
        assert changed.samefile(images / name) == fresh.samefile(images / name)
    assert not list((tmp_path / "out").rglob(".*"))


def test_hard_links_become_copies_where_there_are_none(images, coco, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(placing.os, "link", refuse)
    for _ in range(2):
        write_split(coco, images, tmp_path / "out", "train")
        assert not (tmp_path / "out/train/a.jpg").samefile(images / "a.jpg")
        assert (tmp_path / "out/train/a.jpg").read_bytes() == (images / "a.jpg").read_bytes()
    assert not list((tmp_path / "out").rglob(".*"))


@pytest.mark.parametrize("link", ["symlink", "copy"])
def test_changed_image_is_placed_again(images, coco, tmp_path, link):
    write_split(coco, images, tmp_path / "out", "train", link)
    (images / "a.jpg").write_bytes((images / "d.png").read_bytes())
    write_split(coco, images, tmp_path / "out", "train", link)
    assert (tmp_path / "out/train/a.jpg").read_bytes() == (images / "d.png").read_bytes()


def test_half_written_files_are_removed_or_overwritten(images, coco, tmp_path):
    write_split(coco, images, tmp_path / "out", "train", "copy")
    before = state(tmp_path / "out")
    (tmp_path / "out/train/.b.jpg.part").write_bytes(b"half")
    (tmp_path / "out/train/b.jpg").unlink()
    (tmp_path / "out/train/deep/.gone.jpg.part").write_bytes(b"half")
    (tmp_path / "out/annotations/.instances_train.json.0123.tmp").write_text("{")
    write_split(coco, images, tmp_path / "out", "train", "copy")
    assert state(tmp_path / "out") == before


def run_until_killed(steps, function, *arguments):
    """Run a function in a process that is killed (kill -9) before its file number `steps` gets its name."""

    def kill_late(*paths, count=iter(range(1, 1_000)), replace=os.replace):  # noqa: B008
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    def run():
        os.replace = kill_late
        function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=run)  # fork: a fresh interpreter takes seconds
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_killed_and_repeated_gives_the_same_folder(images, coco, tmp_path, steps, link):
    out = tmp_path / "out"
    run_until_killed(steps, write_split, coco, images, out, "train", link)
    assert not (out / "annotations/instances_train.json").exists()
    assert len([path for path in (out / "train").rglob("*.*") if not path.name.startswith(".")]) == steps - 1
    write_split(coco, images, out, "train", link)
    after = state(out)
    shutil.rmtree(out)
    write_split(coco, images, out, "train", link)
    assert state(out) == after


def test_annotations_come_last(images, coco, tmp_path):
    (images / "d.png").unlink()
    with pytest.raises(OSError, match="d.png"):
        write_split(coco, images, tmp_path / "out", "train")
    assert not (tmp_path / "out/annotations/instances_train.json").exists()


def test_source_is_never_overwritten(images, coco, tmp_path):
    before = state(images)
    with pytest.raises(ValueError, match="would overwrite 'a.jpg'"):
        write_split(coco, images, images.parent, "images")
    (tmp_path / "alias").symlink_to(images.parent)
    with pytest.raises(ValueError, match="would overwrite"):
        write_split(coco, images, tmp_path / "alias", "images")
    with pytest.raises(ValueError, match="would overwrite 'c.jpg'"):  # its place is deep/c.jpg, another source
        write_split(
            {**coco, "images": [{"id": 1, "file_name": n} for n in ("c.jpg", "deep/c.jpg")]}, images, images, "deep"
        )
    assert state(images) == before


@pytest.mark.parametrize("name", ["../a.jpg", "/a.jpg", "", "deep/../../a.jpg"])
def test_names_stay_inside(images, coco, tmp_path, name):
    coco["images"][0]["file_name"] = name
    with pytest.raises(ValueError, match=f"file name {name!r} leaves the image folder"):
        write_split(coco, images, tmp_path / "out", "train")
    assert not (tmp_path / "out").exists()


def test_unknown_link_is_shown(images, coco, tmp_path):
    with pytest.raises(ValueError, match="link must be one of .*got 'soft'"):
        write_split(coco, images, tmp_path / "out", "train", "soft")


def test_forgotten_splits_lose_their_annotations_alone(images, coco, tmp_path):
    for split in ("train", "other"):
        write_split(coco, images, tmp_path / "out", split)
    forget_splits(tmp_path / "out")
    assert [path.name for path in (tmp_path / "out/annotations").iterdir()] == ["instances_other.json"]
    assert (tmp_path / "out/train/a.jpg").exists()


def test_all_splits_are_checked_before_one_is_forgotten(images, coco, tmp_path):
    out = tmp_path / "out"
    parts = {"train": (coco, images), "test": (coco, images)}
    write_splits(parts, out)
    before = state(out)
    for wrong, link, message in (
        ((coco, out / "test"), "hard", "would overwrite 'a.jpg'"),
        ((coco, images), "soft", "link must be one of"),
        (({**coco, "images": coco["images"][1:]}, images), "hard", "instances_test.json' is of other images"),
        (({**coco, "categories": [{"id": 3, "name": "dog"}]}, images), "hard", "of other images or classes"),
    ):
        with pytest.raises(ValueError, match=message):
            write_splits({**parts, "test": wrong}, out, link)
        assert state(out) == before
    (out / "annotations" / "instances_calibration.json").write_text("[]")
    with pytest.raises(ValueError, match="instances_calibration.json' is of other images"):
        write_splits(parts, out)


def test_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    check_writable(tmp_path / "not/there/yet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to .*file.*no folder"):
        check_writable(tmp_path / "file" / "out")
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match="cannot write to"):
        check_writable(tmp_path / "out")
