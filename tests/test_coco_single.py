"""COCO-Single from a COCO folder: the command on files, broken ones too."""

import csv
import json
import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import coco_single
from earlyexit.data import coco_split


def record(image_id):
    return {"id": image_id, "file_name": f"{image_id:012d}.jpg", "width": 32, "height": 24}


def box(number, image_id, **changes):
    outline = {"segmentation": [[2, 3, 12, 3, 12, 11]], "area": 70.5, "iscrowd": 0}
    return {"id": number, "image_id": image_id, "category_id": 17, "bbox": [2, 3, 10, 8.5], **outline, **changes}


CATEGORIES = [{"id": 44, "name": "bottle"}, {"id": 17, "name": "cat"}]


@pytest.fixture
def source(tmp_path):
    """A COCO folder: 6 training images, the first 5 with one object; 3 validation images, the first 2 with one."""
    folder = tmp_path / "coco"
    (folder / "annotations").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for part, ids, number in (("train2017", range(1, 7), 100), ("val2017", range(21, 24), 200)):
        (folder / part).mkdir()
        annotations = [box(number + i, i) for i in ids] + [box(number + 90, ids[-1])]
        coco = {"images": [record(i) for i in ids], "annotations": annotations, "categories": CATEGORIES}
        for image in coco["images"]:
            pixels = generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / image["file_name"])
        write(folder, part, coco)
    return folder


def write(folder, part, coco):
    (folder / "annotations" / f"instances_{part}.json").write_text(json.dumps(coco))


def read(folder, split):
    return json.loads((folder / "annotations" / f"instances_{split}.json").read_text())


def change(folder, part, edit):
    coco = read(folder, part)
    edit(coco)
    write(folder, part, coco)


def run(source, out, *options):
    return CliRunner().invoke(coco_single.app, ["--coco", str(source), "--out", str(out), *map(str, options)])


def ids(folder, split):
    return [image["id"] for image in read(folder, split)["images"]]


def state(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_splits_are_what_they_should_be(source, tmp_path):
    out = tmp_path / "single"
    result = run(source, out, "--share", 0.4, "--seed", 1)
    assert result.exit_code == 0, result.output
    assert ids(out, "test") == [21, 22]
    assert (len(ids(out, "train")), len(ids(out, "calibration"))) == (3, 2)
    assert sorted(ids(out, "train") + ids(out, "calibration")) == [1, 2, 3, 4, 5]
    dataset = coco_split(out, "calibration")
    assert dataset.classes == ["cat", "bottle"]
    for image, target in dataset:
        assert image.shape == (3, 24, 32)
        assert target["boxes"].tolist() == [[2, 3, 12, 11.5]]
        assert target["labels"].tolist() == [0]
    assert "segmentation" not in read(out, "train")["annotations"][0]
    assert result.stdout.splitlines() == [
        "train2017: 6 images",
        "  left out, several annotations: 1",
        "  with one object: 5",
        "val2017: 3 images",
        "  left out, several annotations: 1",
        "  with one object: 2",
        "train: 3 images",
        "calibration: 2 images",
        "test: 2 images",
        "calibration images are taken out of the training images: 40%, seed 1",
        f"wrote {out}",
        f"next: earlyexit train {out} --val-split calibration --out runs/{out.name}",
        "NOT the paper's COCO-Single: 2 validation images, 7 in all; the paper has 593 and 14,486 of "
        "118,287 + 5,000 images",
    ]


def test_protocol_of_the_paper(source, tmp_path):
    out = tmp_path / "single"
    result = run(source, out, "--protocol", "paper")
    assert "calibration images ARE the training images" in result.stdout
    assert ids(out, "train") == ids(out, "calibration") == [1, 2, 3, 4, 5]
    assert ids(out, "test") == [21, 22]
    assert read(out, "train")["coco_single"].startswith("protocol of the paper")


def test_counts_of_the_paper_are_recognised():
    train, test = ({"images": [{"id": i} for i in range(count)]} for count in (14486 - 593, 593))
    assert coco_single.compare_with_paper(train, test).endswith("593 validation images, 14,486 in all, as in the paper")
    train["images"].pop()
    assert coco_single.compare_with_paper(train, test).startswith("NOT the paper's")


@pytest.mark.parametrize("options", [("--share", 0.6), ("--protocol", "paper")])
def test_other_splits_are_not_replaced(source, tmp_path, options):
    assert run(source, tmp_path / "single").exit_code == 0
    before = state(tmp_path / "single")
    result = run(source, tmp_path / "single", *options)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "instances_train.json' is of other images or classes: choose another --out, or delete" in result.stderr
    assert state(tmp_path / "single") == before


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_links_and_repetition(source, tmp_path, link):
    out = tmp_path / "single"
    assert run(source, out, "--link", link).exit_code == 0
    before = state(out)
    assert len(before) == 3 + 7
    name = "test/000000000021.jpg"
    assert (out / name).is_symlink() == (link == "symlink")
    assert (out / name).samefile(source / "val2017/000000000021.jpg") == (link != "copy")
    assert run(source, out, "--link", link).exit_code == 0
    assert state(out) == before


def truncate(folder):
    path = folder / "train2017/000000000001.jpg"
    path.write_bytes(path.read_bytes()[:-200])


def lose(folder):
    (folder / "train2017/000000000001.jpg").unlink()


def edit_first(**changes):
    return lambda folder: change(folder, "train2017", lambda coco: coco["annotations"][0].update(changes))


def repeat_id(folder):
    change(folder, "train2017", lambda coco: coco["images"].append({**record(1), "file_name": "other.jpg"}))


BROKEN = [
    (truncate, "000000000001.jpg", "unreadable image"),
    (lose, "000000000001.jpg", "no such image"),
    (repeat_id, "instances_train2017.json: image 1", "id of several images"),
    (edit_first(category_id=3), "instances_train2017.json: annotation 101", "unknown category: 3"),
    (
        edit_first(bbox=[40, 3, 5, 5]),
        "instances_train2017.json: annotation 101",
        "bbox outside its image: [40, 3, 5, 5]",
    ),
]


@pytest.mark.parametrize(("spoil", "file", "reason"), BROKEN)
def test_broken_input_is_left_out_counted_and_reported(source, tmp_path, spoil, file, reason):
    spoil(source)
    out = tmp_path / "single"
    result = run(source, out, "--report", tmp_path / "report.csv")
    assert result.exit_code == 0, result.output
    assert sorted(ids(out, "train") + ids(out, "calibration")) == [2, 3, 4, 5]
    assert ids(out, "test") == [21, 22]
    assert f"dropped, {reason.partition(':')[0]}: " in result.stdout
    with open(tmp_path / "report.csv", newline="") as rows:
        first = next(csv.DictReader(rows))
    assert (first["file"], first["action"]) == (file, "dropped")
    assert first["reason"].startswith(reason)


@pytest.mark.parametrize(("spoil", "file", "reason"), BROKEN)
def test_strict_stops_with_the_list_and_writes_nothing(source, tmp_path, spoil, file, reason):
    spoil(source)
    result = run(source, tmp_path / "single", "--strict", "--report", tmp_path / "report.csv")
    assert result.exit_code == 2
    assert f"  {file}: {reason}" in result.stderr
    assert not (tmp_path / "single").exists()
    assert (tmp_path / "report.csv").exists()


def test_strict_accepts_clean_data(source, tmp_path):
    assert run(source, tmp_path / "single", "--strict").exit_code == 0


def test_images_need_not_be_opened(source, tmp_path):
    truncate(source)
    assert run(source, tmp_path / "single", "--no-check-images").exit_code == 0
    assert sum(len(ids(tmp_path / "single", split)) for split in ("train", "calibration")) == 5


def invalid(folder):
    (folder / "annotations/instances_val2017.json").write_text('{"images": [')


def no_annotations(folder):
    (folder / "annotations/instances_train2017.json").unlink()


def no_images(folder):
    (folder / "val2017").rename(folder / "val")


def no_records(folder):
    change(folder, "train2017", lambda coco: coco.update(images=[], annotations=[]))


def leak(folder):
    def edit(coco):
        coco["images"].append(record(1))
        coco["annotations"].append(box(300, 1))

    change(folder, "val2017", edit)
    (folder / "val2017" / record(1)["file_name"]).write_bytes(
        (folder / "train2017" / record(1)["file_name"]).read_bytes()
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (invalid, "instances_val2017.json' is not readable JSON"),
        (no_annotations, "no annotation file"),
        (no_images, "no image folder"),
        (leak, "1 images are in train2017 and in val2017, such as 1"),
        (no_records, "instances_train2017.json' has no image that can be used"),
    ],
)
def test_unusable_input_ends_in_one_line(source, tmp_path, spoil, message):
    spoil(source)
    result = run(source, tmp_path / "single")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr
    assert not (tmp_path / "single").exists()


@pytest.mark.parametrize(
    ("options", "message"), [(("--share", "1.5"), "got 1.5"), (("--report", "/no/folder/r.csv"), "/no/folder")]
)
def test_bad_options_end_in_one_line(source, tmp_path, options, message):
    result = run(source, tmp_path / "single", *options)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr


def test_folders_that_cannot_be_made_end_in_one_line(source, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    results = [run(source, tmp_path / "file" / "out"), run(tmp_path / "none", tmp_path / "out")]
    # Read-only, in a way that holds for root, too, as whom the tests may run.
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    results.append(run(source, tmp_path / "out"))
    for result, message in zip(results, ["cannot write to", "no image folder", "cannot write to"], strict=True):
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert message in result.stderr


def killed_run(source, out, steps):
    def kill_late(*paths, count=iter(range(1, 1_000)), replace=os.replace):  # noqa: B008
        if next(count) == steps:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)

    os.replace = kill_late
    run(source, out, "--link", "copy")


@pytest.mark.skipif(sys.platform == "win32", reason="no kill -9 there")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("steps", [1, 4, 6, 10])
def test_killed_and_repeated_gives_the_same_folder(source, tmp_path, steps):
    out = tmp_path / "single"
    run(source, out, "--link", "copy")  # its splits must not survive beside new ones
    for path in out.glob("*/*.jpg"):
        path.unlink()
    # Fork: a fresh interpreter takes seconds.
    process = multiprocessing.get_context("fork").Process(target=killed_run, args=(source, out, steps))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = {path.name for path in (out / "annotations").glob("instances_*.json")}
    assert len(left) < 3
    run(source, out, "--link", "copy")
    run(source, tmp_path / "undisturbed", "--link", "copy")
    assert state(out) == state(tmp_path / "undisturbed")
