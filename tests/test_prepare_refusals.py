"""The scripts of data_prep refuse bad input in one line that says what would be right, and write nothing."""

import importlib.util
import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

SCRIPTS = Path(__file__).resolve().parent.parent / "data_prep"


def prepare(script, *arguments):
    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return CliRunner().invoke(module.app, [str(argument) for argument in arguments])


def said(result):
    """The one line on stderr."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (20, 10)).save(folder / f"{name}.jpg")
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('file,class,x,y,width,height\n"' + "a" * 200_000 + '",dog,1,2,3,4\n', "is not readable as CSV from line 2 on"),
        ("file,class,x,y,width,height\nä.jpg,dog,1,2,3,4\n".encode("latin-1"), "; save it as UTF-8"),
        ("file,class,x,y,width,height\na.jpg,,,,,\n", "leaves 1 images and no object"),
    ],
)
def test_csv_files(photos, tmp_path, text, message):
    source = tmp_path / "boxes.csv"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in said(prepare("own_data", "csv", source, "--images", photos, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def coco_file(path, names, objects):
    images = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(names)]
    found = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in objects]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": [{"id": 1, "name": "dog"}]}))
    return path


def test_a_file_name_that_no_disk_takes_is_left_out(photos, tmp_path):
    source = coco_file(tmp_path / "x.json", ["a.jpg", "b.jpg", "c.jpg", "y" * 5000], range(4))
    result = prepare("own_data", "coco", source, "--images", photos, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "dropped, no such image: 1" in result.output


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--sheet", "x.jpg", "--sheet must be a .png file, got"),
        ("--report", "photos", "--report must be a file, got"),
        ("--report", "no/x.csv", "there is no folder"),
    ],
)
def test_files_to_write_are_checked_first(photos, tmp_path, option, name, message):
    source = coco_file(tmp_path / "x.json", ["a.jpg", "b.jpg", "c.jpg"], range(3))
    arguments = ("coco", source, "--images", photos, "--out", tmp_path / "out", option, tmp_path / name)
    assert message in said(prepare("own_data", *arguments))
    assert not (tmp_path / "out").exists()


def test_coco_parts_that_do_not_fit(photos, tmp_path):
    """Every photo of one part unreadable: the reasons are told; other categories: no common classes."""
    for part, start in (("train2017", 0), ("val2017", 10)):
        path = coco_file(tmp_path / "annotations" / f"instances_{part}.json", ["a.jpg", "b.jpg", "c.jpg"], range(3))
        content = json.loads(path.read_text())
        for image, found in zip(content["images"], content["annotations"], strict=True):
            image["id"] = found["image_id"] = image["id"] + start
        path.write_text(json.dumps(content))
        (tmp_path / part).mkdir()
        for photo in photos.iterdir():
            (tmp_path / part / photo.name).write_bytes(photo.read_bytes() if start == 0 else b"")
    result = prepare("coco_single", "--coco", tmp_path, "--out", tmp_path / "out")
    assert said(result) == "no image with a single object that can be used is left of val2017"
    assert "dropped, unreadable image: 3" in result.stdout
    path.write_text(path.read_text().replace("dog", "cat"))
    for photo in photos.iterdir():
        (tmp_path / part / photo.name).write_bytes(photo.read_bytes())
    result = prepare("coco_single", "--coco", tmp_path, "--out", tmp_path / "out")
    assert said(result) == "train2017 and val2017 have other categories: only one of them has (1, 'cat')"
    assert not (tmp_path / "out").exists()


def test_nothing_is_made_of_no_single_object(photos, tmp_path):
    source = coco_file(tmp_path / "x.json", ["a.jpg"], [0, 0])
    arguments = ("--annotations", source, "--images", photos, "--out", tmp_path / "out")
    assert said(prepare("single_object", *arguments)).endswith("none of its 1 images has exactly one object")
    assert not (tmp_path / "out").exists()


def test_annotation_of_no_image_on_the_sheet(photos, tmp_path):
    coco_file(tmp_path / "annotations" / "instances_train.json", ["a.jpg"], [0, 7])
    line = said(prepare("contact_sheet", tmp_path, "--out", tmp_path / "sheet.png"))
    assert "annotation 8: annotation of an unknown image: 7" in line


@pytest.mark.parametrize("script", ["own_data", "coco_single", "ilsvrc_single", "single_object", "contact_sheet"])
def test_wrong_usage_of_a_script_is_one_line(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--zzz"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    # With some releases of typer: No such option '--zzz'.
    assert line.replace(": ", " ").replace("'", "").replace(". ", " ") == "No such option --zzz (see --help)"
