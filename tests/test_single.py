"""The single-object filter: numbers on hand-made data sets, and the command on files."""

import copy
import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import single_object
from earlyexit.data.coco import (
    CROWD,
    KEPT,
    NO_AREA,
    NO_OBJECT,
    SEVERAL,
    UNUSABLE,
    classify_images,
    keep_single_objects,
)


def box(number, image_id, **changes):
    entry = {
        "id": number,
        "image_id": image_id,
        "category_id": 7,
        "bbox": [2, 3, 10, 8],
        "area": 70,
        "iscrowd": 0,
    }
    return {**entry, **changes}


@pytest.fixture
def coco():
    """Seven images: 10 and 60 have one usable object, each other one a different fault."""
    names = {
        10: "a.jpg",
        20: "b.jpg",
        30: "c.jpg",
        40: "deep/d.jpg",
        50: "e.jpg",
        60: "deep/f.jpg",
        70: "g.jpg",
    }
    return {
        "info": {"year": 2017},
        "licenses": [{"id": 1}],
        "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "never used"}],
        "images": [
            {"id": number, "file_name": name, "width": 32, "height": 24, "difficulty": number / 100}
            for number, name in names.items()
        ],
        "annotations": [
            box(1, 10, occlusion=0.25),
            box(2, 30),
            box(3, 30, iscrowd=1),
            box(4, 40, iscrowd=1),
            box(5, 50, bbox=[2, 3, 0, 8], area=0),
            box(6, 60),
            box(7, 70),
            box(8, 70),
        ],
    }


def test_every_image_has_the_expected_verdict(coco):
    assert classify_images(coco) == {
        10: KEPT,
        20: NO_OBJECT,
        30: SEVERAL,
        40: CROWD,
        50: NO_AREA,
        60: KEPT,
        70: SEVERAL,
    }


def test_filter_keeps_single_objects_and_all_other_keys(coco):
    before = copy.deepcopy(coco)
    single = keep_single_objects(coco)
    assert coco == before
    assert [image["id"] for image in single["images"]] == [10, 60]
    assert [found["id"] for found in single["annotations"]] == [1, 6]
    assert single["images"][0]["difficulty"] == 0.1
    assert single["annotations"][0]["occlusion"] == 0.25
    for key in ("info", "licenses", "categories"):
        assert single[key] == before[key]
    assert keep_single_objects(single) == single


def test_the_box_decides_whether_there_is_an_area(coco):
    del coco["annotations"][0]["area"]
    coco["annotations"][4]["area"] = 5
    coco["annotations"][5]["area"] = 0
    assert [image["id"] for image in keep_single_objects(coco)["images"]] == [10, 60]


def missing_key(coco):
    del coco["annotations"]


def double_id(coco):
    coco["images"][1]["id"] = 10


def double_name(coco):
    coco["images"][1]["file_name"] = "a.jpg"


def unknown_image(coco):
    coco["annotations"][0]["image_id"] = 999


def no_box(coco):
    del coco["annotations"][0]["bbox"]


def outside(coco):
    coco["images"][0]["file_name"] = "../a.jpg"


def absent(coco):
    coco["images"][0]["file_name"] = "lost.jpg"


def first(part, **changes):
    return lambda coco: coco[part][0].update(changes)


BAD_LAYOUTS = [
    (missing_key, "no list 'annotations'"),
    (double_id, "image 10: several images have the same id, 10"),
    (double_name, "file_name 'a.jpg'"),
    (unknown_image, "annotation 1: annotation of an unknown image: 999"),
    (no_box, "annotation 1: no 'bbox'"),
    (lambda coco: coco.pop("categories"), "no list 'categories'"),
    (lambda coco: coco["categories"][0].update(id=[1]), "a category is {id: a whole number, name: a word}, got"),
    (first("images", id=[1]), "image number 1: id is neither a whole number nor a text: [1]"),
    (first("images", file_name=5), "image 10: file name is not a text: 5"),
    (first("annotations", category_id=8), "annotation 1: unknown category: 8"),
    (first("annotations", bbox=["a", 1, 1, 1]), "annotation 1: bbox is not four numbers"),
    (first("annotations", bbox=[90, 90, 5, 5]), "annotation 1: bbox outside its image: [90, 90, 5, 5] in 32 x 24"),
    (first("annotations", area=-1), "annotation 1: area is not a number"),
]


@pytest.mark.parametrize(("spoil", "message"), BAD_LAYOUTS)
def test_bad_layout_is_named(coco, spoil, message):
    spoil(coco)
    with pytest.raises(ValueError) as caught:
        keep_single_objects(coco)
    assert message in str(caught.value)


@pytest.fixture
def source(tmp_path, coco):
    generator = np.random.default_rng(0)
    for image in coco["images"]:
        path = tmp_path / "data" / "val" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
    (tmp_path / "data" / "instances.json").write_text(json.dumps(coco))
    return tmp_path / "data"


def paths(source, out):
    options = {"--annotations": source / "instances.json", "--images": source / "val", "--out": out}
    return [str(part) for option in options.items() for part in option]


def run(source, out, *options):
    return CliRunner().invoke(single_object.app, [*paths(source, out), *options])


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_command_makes_the_layout_and_may_run_again(source, tmp_path, coco, link):
    out = tmp_path / "single"
    for _ in range(2):
        result = run(source, out, "--link", link)
        assert result.exit_code == 0, result.stderr
        assert "images before: 7" in result.stdout
        assert "images after: 2" in result.stdout
        assert f"{SEVERAL}: 2" in result.stdout
        assert f"{CROWD}: 1" in result.stdout
        assert files(out) == ["annotations/instances_val.json", "val/a.jpg", "val/deep/f.jpg"]
        assert json.loads((out / "annotations/instances_val.json").read_text()) == keep_single_objects(coco)
    image = out / "val/a.jpg"
    assert image.read_bytes() == (source / "val/a.jpg").read_bytes()
    assert image.is_symlink() == (link == "symlink")
    assert image.samefile(source / "val/a.jpg") == (link != "copy")


@pytest.mark.parametrize(("spoil", "message"), [*BAD_LAYOUTS, (outside, "../a.jpg"), (absent, "lost.jpg")])
def test_command_reports_bad_data_and_writes_nothing(source, tmp_path, coco, spoil, message):
    spoil(coco)
    (source / "instances.json").write_text(json.dumps(coco))
    result = run(source, tmp_path / "single")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "single").exists()


@pytest.mark.parametrize(("content", "message"), [(None, "no annotation file"), ("{broken", "not readable JSON")])
def test_command_reports_a_bad_file(source, tmp_path, content, message):
    path = source / "instances.json"
    path.unlink()
    if content:
        path.write_text(content)
    result = run(source, tmp_path / "single")
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert message in result.stderr
    assert str(path) in result.stderr
    assert not (tmp_path / "single").exists()


def test_command_does_not_replace_another_data_set(source, tmp_path, coco):
    out = tmp_path / "single"
    assert run(source, out).exit_code == 0
    before = (out / "annotations/instances_val.json").read_bytes()
    coco["annotations"].append(box(9, 20))
    (source / "instances.json").write_text(json.dumps(coco))
    result = run(source, out)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "is of other images or classes: choose another --out, or delete" in result.stderr
    assert (out / "annotations/instances_val.json").read_bytes() == before
    assert files(out) == ["annotations/instances_val.json", "val/a.jpg", "val/deep/f.jpg"]


def test_command_does_not_overwrite_its_input(source):
    before = (source / "val/a.jpg").read_bytes()
    result = run(source, source)
    assert result.exit_code == 2
    assert "would overwrite" in result.stderr
    assert (source / "val/a.jpg").read_bytes() == before
    assert "annotations" not in [path.name for path in source.iterdir()]


def test_command_runs_as_a_script(source, tmp_path, monkeypatch, capsys):
    (source / "val/a.jpg").unlink()
    monkeypatch.setattr(sys, "argv", [single_object.__file__, *paths(source, tmp_path / "single")])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(
            single_object.__file__, run_name="__main__"
        )  # not a process of its own, which takes seconds to start
    message = "1 of 2 single-object images are missing, the first is 'a.jpg'"
    stderr = capsys.readouterr().err
    assert (caught.value.code, len(stderr.splitlines())) == (2, 1)
    assert stderr.startswith(f"--images {source / 'val'}: {message}")


def test_image_that_lost_an_annotation_is_not_single(coco):
    coco["images"][0]["unusable_annotations"] = 1
    coco["images"][1]["unusable_annotations"] = 1
    coco["images"][2]["unusable_annotations"] = 1
    verdicts = classify_images(coco)
    assert [verdicts[number] for number in (10, 20, 30, 60)] == [UNUSABLE, UNUSABLE, SEVERAL, KEPT]
    assert [image["id"] for image in keep_single_objects(coco)["images"]] == [60]
