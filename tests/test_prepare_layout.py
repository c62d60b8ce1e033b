"""The COCO layout: images divided, put in place whatever was there before, annotations last."""

import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from earlyexit.data import annotation_file, coco_split
from prepare import layout
from prepare.layout import (
    check_writable,
    divide,
    parse_shares,
    place_image,
    take_calibration,
    write_images,
    write_splits,
)

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


def write_split(coco, images, out, split, link="hard"):
    write_images(coco, images, out / split, annotation_file(out, split), link)


def state(folder):
    """Every file with its content and kind; what a stopped and repeated run has to share with an undisturbed one."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir():
            kind = os.readlink(path) if path.is_symlink() else path.stat().st_nlink
            found[str(path.relative_to(folder))] = (kind, path.read_bytes())
    return found


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_split_is_placed_and_read(images, coco, tmp_path, link):
    out = tmp_path / "out"
    write_split(coco, images, out, "train", link)
    assert json.loads((out / "annotations" / "instances_train.json").read_text()) == coco
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
    monkeypatch.setattr(layout.os, "replace", lambda *paths: pytest.fail(f"{paths} was done again"))
    for name in NAMES:
        place_image(images / name, tmp_path / "out/train" / name, link)
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

    monkeypatch.setattr(layout.os, "link", refuse)
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


def test_splits_are_forgotten_before_their_images_are_placed(images, coco, tmp_path):
    for split in ("train", "other"):
        write_split(coco, images, tmp_path / "out", split)
    (images / "d.png").unlink()
    with pytest.raises(OSError, match="d.png"):
        write_splits({"train": (coco, images)}, tmp_path / "out")
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


# Dividing


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


def test_shares_of_the_splits():
    assert parse_shares("0.7, 0.1, 0.2") == (0.7, 0.1, 0.2)
    for text in ("0.5,0.5", "a,b,c", "0,0.5,0.5", "1.2,-0.1,-0.1", "0.7,0.1,0.1", "nan,0,1"):
        with pytest.raises(ValueError, match="add up to 1"):
            parse_shares(text)
    coco = {"images": [{"id": i} for i in range(100)], "annotations": [], "categories": []}
    parts = divide(coco, (0.7, 0.1, 0.2), seed=4)
    assert {split: len(part["images"]) for split, part in parts.items()} == {"train": 70, "calibration": 10, "test": 20}
    assert sorted(i["id"] for part in parts.values() for i in part["images"]) == list(range(100))
    assert list(divide(coco, (0.5, 0.5, 0.0))) == ["train", "calibration"]
    with pytest.raises(ValueError, match="3 splits need at least 3 images, 2 can be used"):
        divide({**coco, "images": coco["images"][:2]}, (0.7, 0.1, 0.2))
