"""Your own data: the command from COCO, VOC and CSV to boxes in the package."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import own_data
from earlyexit.data import coco_split

# Image, its objects: class and box (x1, y1, x2, y2); all images are 40 x 30.
TRUTH = {
    "a": [("dog", (0, 0, 40, 30))],
    "b": [("cat", (1, 2, 11, 12)), ("dog", (20, 10, 30, 30))],
    "c": [("cat", (5, 6, 7, 8))],
    "d": [],
    "e": [("dog", (3, 3, 13, 23))],
}


def voc_xml(objects, more=""):
    parts = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, (x1, y1, x2, y2) in objects
    )
    return f"<annotation><size><width>40</width><height>30</height></size>{parts}{more}</annotation>"


@pytest.fixture
def source(tmp_path):
    """The five images with the same boxes as VOC folder, CSV and COCO file."""
    folder = tmp_path / "source"
    for name in ("Annotations", "JPEGImages"):
        (folder / name).mkdir(parents=True)
    rows, annotations = ["label,ymax,xmax,ymin,xmin,file"], []
    for number, (stem, objects) in enumerate(TRUTH.items(), 1):
        Image.new("RGB", (40, 30), (number * 40, 0, 0)).save(folder / "JPEGImages" / f"{stem}.jpg")
        (folder / "Annotations" / f"{stem}.xml").write_text(voc_xml(objects))
        rows += [f"{name},{y2},{x2},{y1},{x1},{stem}.jpg" for name, (x1, y1, x2, y2) in objects] or [f",,,,,{stem}.jpg"]
        for name, (x1, y1, x2, y2) in objects:
            ids = {"id": len(annotations), "image_id": number, "category_id": {"cat": 1, "dog": 2}[name]}
            annotations.append({**ids, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    (folder / "boxes.csv").write_text("\n".join(rows))
    images = [{"id": n, "file_name": f"{stem}.jpg", "width": 40, "height": 30} for n, stem in enumerate(TRUTH, 1)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (folder / "coco.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    return folder


def run(kind, source, out, *options):
    path = {"coco": source / "coco.json", "voc": source, "csv": source / "boxes.csv"}[kind]
    arguments = [kind, str(path), "--out", str(out), *options]
    if kind != "voc":
        arguments += ["--images", str(source / "JPEGImages")]
    return CliRunner().invoke(own_data.app, arguments)


def boxes_of(out, *splits):
    """{image: [(class, box), ...]} as the package reads them."""
    found = {}
    for split in splits:
        dataset = coco_split(out, split)
        for image_id, (_, target) in zip(dataset.ids, dataset, strict=True):
            names = [dataset.classes[label] for label in target["labels"]]
            boxes = [tuple(box) for box in target["boxes"].tolist()]
            found[Path(dataset.coco.imgs[image_id]["file_name"]).stem] = list(zip(names, boxes, strict=True))
    return found


@pytest.mark.parametrize("kind", ["coco", "voc", "csv"])
def test_all_three_give_the_same_exact_boxes(kind, source, tmp_path):
    result = run(kind, source, tmp_path / "out", "--split-share", "0.6,0.2,0.2")
    assert result.exit_code == 0, result.output
    sizes = [len(coco_split(tmp_path / "out", split)) for split in ("train", "calibration", "test")]
    assert sizes == [3, 1, 1]
    # Five images are found in three splits: the splits are disjoint.
    assert boxes_of(tmp_path / "out", "train", "calibration", "test") == TRUTH
    assert coco_split(tmp_path / "out", "train").classes == ["cat", "dog"]
    lines = result.output.splitlines()
    assert "5 images, 5 objects of 2 classes" in lines
    assert "  images with one object: 3, without: 1" in lines
    assert "  boxes: small 4, medium 1, large 0 (by COCO's areas, 32 x 32 and 96 x 96 pixels)" in lines
    assert "  sides of boxes in pixels: 2 to 40, median 10" in lines
    assert "  dog      3" in lines


def test_single_keeps_images_with_one_object(source, tmp_path):
    result = run("voc", source, tmp_path / "out", "--single", "--split-share", "1,0,0")
    assert result.exit_code == 0, result.output
    assert boxes_of(tmp_path / "out", "train") == {stem: TRUTH[stem] for stem in "ace"}
    assert not (tmp_path / "out" / "annotations" / "instances_test.json").exists()


@pytest.mark.parametrize("kind", ["coco", "voc", "csv"])
def test_an_image_that_lost_an_object_is_not_single(kind, source, tmp_path):
    (source / "Annotations" / "c.xml").write_text(voc_xml(TRUTH["c"], "<object><name>cat</name></object>"))
    with open(source / "boxes.csv", "a") as file:
        file.write("\ncat,8,seven,6,5,c.jpg")
    coco = json.loads((source / "coco.json").read_text())
    coco["annotations"].append({"id": 9, "image_id": 3, "category_id": 1, "bbox": [5, 6, 2]})
    (source / "coco.json").write_text(json.dumps(coco))
    result = run(kind, source, tmp_path / "out", "--single", "--split-share", "1,0,0")
    assert result.exit_code == 0, result.output
    assert sorted(boxes_of(tmp_path / "out", "train")) == ["a", "e"]


def test_a_second_run_gives_the_same_and_another_seed_other_splits(source, tmp_path):
    def files():
        return {p.name: p.read_bytes() for p in (tmp_path / "out").rglob("*.json")}

    run("csv", source, tmp_path / "out", "--split-share", "0.6,0,0.4")
    first = files()
    run("csv", source, tmp_path / "out", "--split-share", "0.6,0,0.4")
    assert files() == first
    assert len(first) == 2
    result = run("csv", source, tmp_path / "out", "--split-share", "0.6,0,0.4", "--seed", "3", "--link", "copy")
    assert "is of other images or classes: choose another --out, or delete" in result.stderr
    assert (result.exit_code, files()) == (2, first)
    result = run("csv", source, tmp_path / "out", "--split-share", "1,0,0")
    assert (result.exit_code, files()) == (2, first)
    run("csv", source, tmp_path / "other", "--split-share", "0.6,0,0.4", "--seed", "3")
    train = (tmp_path / "other" / "annotations" / "instances_train.json").read_bytes()
    assert train != first["instances_train.json"]


def test_annotations_are_never_lost(source, tmp_path):
    """Of a data set in COCO's layout into its own folder: refused before anything is removed."""
    data = tmp_path / "data"
    run("coco", source, data, "--split-share", "1,0,0", "--link", "copy")
    path = data / "annotations" / "instances_train.json"
    before = path.read_bytes()
    for images in ("train", "elsewhere"):
        (data / images).is_dir() or (data / "train").rename(data / images)
        for out in (data, tmp_path / "alias"):
            out.exists() or out.symlink_to(data)
            options = ["coco", str(path), "--images", str(data / images), "--out", str(out), "--split-share", "1,0,0"]
            result = CliRunner().invoke(own_data.app, options)
            assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
            assert "would overwrite" in result.output
            assert path.read_bytes() == before


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_links(link, source, tmp_path):
    run("voc", source, tmp_path / "out", "--split-share", "1,0,0", "--link", link)
    image, original = tmp_path / "out" / "train" / "a.jpg", source / "JPEGImages" / "a.jpg"
    assert image.read_bytes() == original.read_bytes()
    assert (image.is_symlink(), image.samefile(original)) == (link == "symlink", link != "copy")


def test_strict_lists_files_and_reasons_and_writes_nothing_but_the_report(source, tmp_path):
    (source / "Annotations" / "bad.xml").write_text("<annotation>")
    (source / "JPEGImages" / "e.jpg").write_bytes((source / "JPEGImages" / "e.jpg").read_bytes()[:-300])
    result = run("voc", source, tmp_path / "out", "--strict", "--report", str(tmp_path / "report.csv"))
    assert result.exit_code == 2
    lines = result.output.splitlines()
    assert lines[0] == "2 cannot be used:"
    assert lines[1].startswith("  bad.xml: not readable as XML: ")
    assert lines[2].startswith("  e.jpg: unreadable image: ")
    assert not (tmp_path / "out").exists()
    assert len((tmp_path / "report.csv").read_text().splitlines()) == 3
    loose = run("voc", source, tmp_path / "out", "--split-share", "1,0,0")
    assert loose.exit_code == 0
    assert "images in " in loose.output and "not used: 1, such as e.jpg" in loose.output
    assert sorted(boxes_of(tmp_path / "out", "train")) == ["a", "b", "c", "d"]


def test_bad_input_is_one_line(source, tmp_path):
    for options, words in (
        (("--split-share", "0.7,0.7,0.2"), "add up to 1, such as 0.7,0.1,0.2, got '0.7,0.7,0.2'"),
        (("--sheet", str(tmp_path / "no" / "sheet.png")), "there is no folder"),
    ):
        result = run("csv", source, tmp_path / "out", *options)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
        assert words in result.output
    result = run("csv", source, source / "JPEGImages" / "out")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "lies in the folder of the images" in result.output and "--images" not in result.output
    result = CliRunner().invoke(own_data.app, ["coco", str(source / "coco.json"), "--out", str(source / "mine")])
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "say with --images where they are" in result.output
    result = CliRunner().invoke(own_data.app, ["coco", str(source / "nope"), "--out", str(source / "mine")])
    assert result.output.startswith(f"there is no '{source / 'nope'}'")
    (source / "boxes.csv").unlink()
    result = run("csv", source, tmp_path / "out")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("break_it", "why"),
    [
        (
            "photos",
            "leaves 0 images and no object; dropped, no such image, or several: 5, such as a.xml (looked for 'a'; ",
        ),
        (
            "boxes",
            "leaves 5 images and no object; dropped, object outside the image: 5, such as a.xml (object 1, 'dog', ",
        ),
        ("objects", "leaves 5 images and no object; its annotations hold none"),
        ("single", "leaves 0 images and no object; no image has exactly one (--single)"),
    ],
)
def test_where_nothing_is_left_it_says_why(break_it, why, source, tmp_path):
    for stem, objects in TRUTH.items():
        path = source / "Annotations" / f"{stem}.xml"
        if break_it == "photos":
            (source / "JPEGImages" / f"{stem}.jpg").rename(source / "JPEGImages" / f"{stem}{stem}.jpg")
        if break_it == "boxes":
            path.write_text(voc_xml([(name, tuple(v + 500 for v in box)) for name, box in objects]))
        if break_it == "objects":
            path.write_text(voc_xml([]))
        if break_it == "single":
            path.write_text(voc_xml(objects * 2))
    result = run("voc", source, tmp_path / "out", *(["--single"] if break_it == "single" else []))
    assert result.exit_code == 2
    assert f"nothing to learn from: {source}/Annotations {why}" in result.output.splitlines()[-1]
    assert not (tmp_path / "out").exists()
