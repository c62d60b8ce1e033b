"""ILSVRC-Single: which images are in it, how classes are numbered and named, and the command."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import ilsvrc_single as ilsvrc
from earlyexit.data import coco_split
from prepare.boxes import ImageBoxes
from prepare.cleaning import Report

ANT, BEE, CAT = "n00000011", "n00000022", "n00000003"


def write(root, split, stem, *objects, size=(40, 30), image=True):
    """One image and its XML file in ImageNet's layout; an object is (WordNet id, xmin, ymin, xmax, ymax)."""
    xml = root / "ILSVRC" / "Annotations" / "DET" / split / f"{stem}.xml"
    jpeg = root / "ILSVRC" / "Data" / "DET" / split / f"{stem}.JPEG"
    for path in (xml, jpeg):
        path.parent.mkdir(parents=True, exist_ok=True)
    tags = ("xmin", "ymin", "xmax", "ymax")
    parts = "".join(
        f"<object><bndbox>{''.join(f'<{t}>{v}</{t}>' for t, v in zip(tags, box, strict=True))}</bndbox>"
        f"<name>{name}</name></object>"
        for name, *box in objects
    )
    shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    xml.write_text(f"<annotation><filename>%s</filename>{shape}{parts}</annotation>")
    if image:
        Image.new("RGB", (40, 30), (len(stem), 0, 0)).save(jpeg, "JPEG")


@pytest.fixture
def root(tmp_path):
    """ImageNet's folder with 6 training and 2 validation images of one object, and one of every other kind."""
    root = tmp_path / "imagenet"
    for number in range(4):
        write(root, "train", f"ILSVRC2014_train_0000/one_{number}", (BEE, number, 2, 20, 30))
    write(root, "train", "ILSVRC2013_train/n1/old_0", (ANT, 0, 0, 40, 30))
    write(root, "train", "ILSVRC2013_train/n1/old_1", (ANT, 30, 5, 10, 35), size=(0, 0))
    write(root, "train", "ILSVRC2014_train_0000/two", (BEE, 0, 0, 5, 5), (CAT, 0, 0, 5, 5))
    write(root, "train", "ILSVRC2014_train_0000/none")
    write(root, "train", "ILSVRC2014_train_0000/lost", (BEE, 0, 0, 5, 5), (BEE, 90, 0, "?", 5))
    write(root, "train", "ILSVRC2014_train_0000/outside", (BEE, 50, 0, 60, 5))
    write(root, "val", "val_1", (ANT, 1, 2, 11, 12))
    write(root, "val", "val_2", (BEE, 3, 4, 13, 14))
    return root


def run(root, out, *options):
    return CliRunner().invoke(ilsvrc.app, ["--root", str(root), "--out", str(out), *options])


def content(out, split):
    return json.loads((out / "annotations" / f"instances_{split}.json").read_text())


def test_single_objects_of_any_class_count_and_others_are_told_apart():
    box = (1, 2, 5, 6)
    records = [
        ImageBoxes("1", "1.JPEG", 9, 9, [(BEE, box)]),
        ImageBoxes("2", "2.JPEG", 9, 9, [(CAT, box)]),
        ImageBoxes("3", "3.JPEG", 9, 9, [(BEE, box), (CAT, box)]),
        ImageBoxes("4", "4.JPEG", 9, 9, []),
        ImageBoxes("5", "5.JPEG", 9, 9, [(BEE, box)], lost=1),
        ImageBoxes("6", "6.JPEG", 9, 9, [(BEE, (9, 0, 12, 5))]),
    ]
    coco, verdicts = ilsvrc.single_objects(records, {ANT: "ant", BEE: "bee"}, Path("nowhere"), Report())
    assert verdicts == {"single": 1, "another class": 1, "several objects": 1, "no object": 1, "unusable": 2}
    assert coco["categories"] == [{"id": 1, "name": "ant", "wnid": ANT}, {"id": 2, "name": "bee", "wnid": BEE}]
    assert [i["file_name"] for i in coco["images"]] == ["1.JPEG"]
    assert [(a["category_id"], a["bbox"]) for a in coco["annotations"]] == [(2, [1, 2, 4, 4])]


def test_lists_of_classes_as_imagenet_has_them(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text(f"{BEE} 3 honey bee\n\n{ANT} ant, emmet, pismire\nn00000005 crane\nn00000004 crane\n{CAT}\n")
    assert list(ilsvrc.read_classes(path).items()) == [
        (CAT, CAT),
        ("n00000004", "crane (n00000004)"),
        ("n00000005", "crane (n00000005)"),
        (ANT, "ant"),
        (BEE, "honey bee"),
    ]
    path.write_text("accordion n02672831\n")
    with pytest.raises(ValueError, match="not 'accordion n02672831'"):
        ilsvrc.read_classes(path)


def test_counts_as_in_the_paper_are_said_to_be_so(monkeypatch):
    monkeypatch.setattr(ilsvrc, "PAPER_IMAGES", 3)
    monkeypatch.setattr(ilsvrc, "PAPER_CLASSES", 2)
    train = {"images": [1, 2], "annotations": [{"category_id": 4}, {"category_id": 7}]}
    test = {"images": [3], "annotations": [{"category_id": 7}]}
    assert ilsvrc.compare_with_paper([train, test]) == ["ILSVRC-Single: 3 images of 2 classes, as in the paper"]
    assert ilsvrc.compare_with_paper([train])[0].startswith("NOT the paper's")


def test_an_image_that_is_missing_and_whose_size_is_unknown_is_not_single(tmp_path):
    report, record = Report(), ImageBoxes("1", "1.JPEG", 0, 0, [(BEE, (1, 2, 5, 6))])
    coco, verdicts = ilsvrc.single_objects([record], {BEE: "bee"}, tmp_path, report)
    assert (coco["images"], verdicts, len(report.dropped)) == ([], {"unusable": 1}, 1)


def test_the_names_lie_in_the_folder_or_beside_it(root):
    assert ilsvrc.find_names(root, "DET") == {}
    (root / "map_det.txt").write_text(f"{ANT} 1 ant\n")
    assert ilsvrc.find_names(root, "DET") == ilsvrc.find_names(root / "ILSVRC", "DET") == {ANT: "ant"}
    assert ilsvrc.find_names(root, "CLS-LOC") == {}


def test_the_folder_is_found_or_said_to_be_missing(root):
    assert ilsvrc.find_task(root) == ilsvrc.find_task(root / "ILSVRC") == (root / "ILSVRC", "DET")
    with pytest.raises(ValueError, match="no Annotations/CLS-LOC"):
        ilsvrc.find_task(root, "CLS-LOC")
    with pytest.raises(ValueError, match="got 'VID'"):
        ilsvrc.find_task(root, "VID")


def test_command_gives_exact_boxes_to_the_package(root, tmp_path):
    result = run(root, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "train: 10 files; no object: 1, several objects: 1, single: 6, unusable: 2" in result.output
    said = "NOT the paper's ILSVRC-Single: 8 images that show 2 classes; the paper has 20,192 and 200"
    assert said in result.output.splitlines()
    train, calibration, test = (coco_split(tmp_path / "out", split) for split in ("train", "calibration", "test"))
    assert (len(train), len(calibration), len(test)) == (5, 1, 2)
    # CAT is seen in an image of two objects only, and is a class all the same.
    assert test.classes == train.classes == [CAT, ANT, BEE]
    assert [(t["boxes"].tolist(), t["labels"].tolist()) for _, t in test] == [
        ([[1, 2, 11, 12]], [1]),
        ([[3, 4, 13, 14]], [2]),
    ]
    boxes = {}
    for split in (train, calibration):
        for i in range(len(split)):
            boxes[split.coco.imgs[split.ids[i]]["file_name"]] = split[i][1]["boxes"].tolist()[0]
    assert boxes == {
        "ILSVRC2013_train/n1/old_0.JPEG": [0, 0, 40, 30],
        "ILSVRC2013_train/n1/old_1.JPEG": [10, 5, 30, 30],  # swapped, clipped, size from the image
        **{f"ILSVRC2014_train_0000/one_{n}.JPEG": [n, 2, 20, 30] for n in range(4)},
    }


def test_calibration_is_apart_unless_the_paper_is_followed(root, tmp_path):
    run(root, tmp_path / "own", "--share", "0.5")
    names = [{i["file_name"] for i in content(tmp_path / "own", s)["images"]} for s in ("train", "calibration")]
    assert (len(names[0]), len(names[1]), names[0] & names[1]) == (3, 3, set())
    assert run(root, tmp_path / "paper", "--protocol", "paper").exit_code == 0
    assert content(tmp_path / "paper", "calibration") == content(tmp_path / "paper", "train")
    assert "ARE the training images" in content(tmp_path / "paper", "calibration")["ilsvrc_single"]
    assert len(content(tmp_path / "paper", "train")["images"]) == 6


def test_classes_of_a_list_keep_their_numbers_and_only_picks_folders(root, tmp_path):
    (tmp_path / "classes.txt").write_text(f"{BEE} bee\nn00000099 zebra\n")
    options = ("--classes", str(tmp_path / "classes.txt"), "--only", "ILSVRC2014_train_*")
    result = run(root, tmp_path / "out", *options)
    assert "train: 8 files; no object: 1, several objects: 1, single: 4, unusable: 2" in result.output
    assert "val: 2 files; another class: 1, single: 1" in result.output
    assert content(tmp_path / "out", "test")["categories"] == [
        {"id": 1, "name": "bee", "wnid": BEE},
        {"id": 2, "name": "zebra", "wnid": "n00000099"},
    ]


def test_a_second_run_gives_the_same(root, tmp_path):
    run(root, tmp_path / "out")
    first = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
    run(root, tmp_path / "out")
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()} == first
    assert len(first) == 3 + 8


def test_strict_stops_before_writing_and_lists_file_and_reason(root, tmp_path):
    write(root, "val", "val_3", (ANT, 1, 2, 11, 12), image=False)
    result = run(root, tmp_path / "out", "--strict", "--report", str(tmp_path / "report.csv"))
    assert result.exit_code == 2
    assert "3 cannot be used:" in result.output
    assert "ILSVRC2014_train_0000/lost.xml: object without a box of four numbers: object 2" in result.output
    assert "ILSVRC2014_train_0000/outside.xml: object outside the image: object 1" in result.output
    assert "val_3.JPEG: no such image" in result.output
    assert not (tmp_path / "out").exists()
    rows = (tmp_path / "report.csv").read_text().splitlines()
    assert rows[0] == "file,action,reason"
    assert sum(",mended," in row for row in rows) == 3  # old_1: corners swapped, size filled in, box clipped


def test_bad_input_is_one_line(tmp_path):
    result = run(tmp_path, tmp_path / "out")
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        f"{str(tmp_path)!r} is not ImageNet's folder: it has no Annotations/DET (or CLS-LOC) and Data/DET (or CLS-LOC)"
    ]
