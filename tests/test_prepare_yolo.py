"""YOLO's text files: boxes and outlines to pixels, every way to describe a set, faults by line; written and back."""

import builtins
import json
import os

import pytest
from PIL import Image
from typer.testing import CliRunner

import own_data
import to_yolo
from earlyexit.data import coco_split
from prepare.cleaning import Report
from prepare.yolo import read_yolo


def photo(path, size=(200, 100)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (hash(path.name) % 200, 90, 30)).save(path)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def objects(records):
    return {record.file_name: record.objects for record in records}


def read(source, images=None):
    report = Report()
    records, classes, root = read_yolo(source, images, report)
    return records, list(classes), root, report


@pytest.fixture
def folder(tmp_path):
    """One image, a.jpg of 200 x 100, with its list of classes; the labels are the test's."""
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "classes.txt", "cat\ndog\n")
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("1 0.5 0.5 0.2 0.4", ("dog", (80, 30, 120, 70))),
        ("0\t0.25  0.5 0.5 1", ("cat", (0, 0, 100, 100))),
        ("1.0 5e-1 0.5 0.2 0.4", ("dog", (80, 30, 120, 70))),
        ("1 0.1 0.2 0.3 0.2 0.2 0.6", ("dog", (20, 20, 60, 60))),
        ("0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5", ("cat", (20, 10, 180, 90))),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.15 0.3 0.1 0.2", ("cat", (20, 10, 40, 30))),
    ],
)
def test_a_line_is_a_box_or_an_outline(folder, line, expected):
    write(folder / "labels" / "a.txt", f"\ufeff\n{line}\n\n")
    records, classes, root, report = read(folder)
    ((name, box),) = objects(records)["images/a.jpg"]
    assert (name, classes) == (expected[0], [expected[0]])
    assert box == pytest.approx(expected[1])
    assert (report.dropped, report.mended) == ([], [])


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_files_as_powershell_writes_them(folder, encoding):
    for name, text in (("labels/a.txt", "1 0.5 0.5 0.2 0.4\n"), ("classes.txt", "cat\nhünd\n")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding=encoding)
    records, classes, _, report = read(folder)
    assert classes == ["hünd"] and records[0].objects == [("hünd", pytest.approx((80, 30, 120, 70)))]
    assert not report.dropped


def test_what_is_no_such_line_is_dropped_and_counted(folder):
    lines = [
        *("0 0.5 0.5 0.2 0.4", "0 0.5 0.5 0.2 0.4", "2 0.5 0.5 0.2 0.4", "dog 0.5 0.5 0.2 0.4", "1 0,5 0,5 0,2 0,4"),
        *("1 0.5 0.5 0.2", "1 0.1 0.2 0.3 0.4 0.5 0.6 0.7", "1 0.5 0.5 -0.2 0.4", "0.5 0.5 0.5 0.2 0.4", "1 nan 0 1 1"),
        "1 0.5 0.5 0.2 0.4 0.87",
    ]
    write(folder / "labels" / "a.txt", "\n".join(lines))
    records, _, _, report = read(folder)
    assert [(name, box) for name, box in records[0].objects] == [
        ("cat", pytest.approx((80, 30, 120, 70))),
        ("dog", pytest.approx((80, 30, 120, 70))),
    ]
    assert records[0].lost == 8
    assert [(file.rpartition(" ")[2], reason.partition(":")[0]) for file, reason in report.dropped] == [
        ("2", "repeated line"),
        ("3", "unknown class"),
        ("4", "line that is not of numbers with a decimal point"),
        ("5", "line that is not of numbers with a decimal point"),
        ("6", "line that is neither a box nor an outline"),
        ("7", "line that is neither a box nor an outline"),
        ("8", "line that is neither a box nor an outline"),
        ("9", "unknown class"),
        ("10", "line that is not of numbers with a decimal point"),
    ]
    assert report.mended == [("labels/a.txt line 11", "sixth number, a confidence, not used")]


def test_rounded_shares_stay_inside_and_others_do_not(folder):
    write(folder / "labels" / "a.txt", "0 0.0995 0.5 0.2 0.9999\n1 0.5 0.5 1.2 0.5\n")
    records, _, _, _ = read(folder)
    (_, rounded), (_, outside) = records[0].objects
    assert rounded[0] == 0
    assert rounded[1:] == pytest.approx((0.005, 39.9, 99.995))
    assert outside == pytest.approx((-20, 25, 220, 75))  # for `fit_boxes`, which says so


def test_shares_are_of_the_upright_photo(folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    Image.new("RGB", (200, 100)).save(folder / "images" / "a.jpg", exif=exif)
    write(folder / "labels" / "a.txt", "0 0.5 0.25 0.2 0.5\n")
    records, _, _, _ = read(folder)
    assert (records[0].width, records[0].height) == (100, 200)
    assert records[0].objects == [("cat", pytest.approx((40, 0, 60, 100)))]


def test_pixels_are_refused(folder):
    write(folder / "labels" / "a.txt", "0 100 50 40 40\n1 20 20 10 10\n0 0.5 0.5 0.1 0.1\n")
    with pytest.raises(ValueError, match="2 of 3 boxes are in pixels.*divide x and width by its width"):
        read(folder)


def test_poses_are_boxes_where_the_description_says_so(tmp_path):
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.4 0.1 0.1 0.9 0.9\n")
    description = write(tmp_path / "data.yaml", "train: images\nnames: [man]\n")
    assert objects(read(description)[0])["a.jpg"][0][1] == pytest.approx((20, 10, 180, 90))  # a turned box
    write(description, "train: images\nnames: [man]\nkpt_shape: [2, 2]\n")
    assert objects(read(description)[0])["a.jpg"][0][1] == pytest.approx((80, 30, 120, 70))


def three_splits(root, images="{split}/images", labels="{split}/labels", names=("train", "valid", "test")):
    for number, split in enumerate(names):
        for stem in ("a", "b"):  # the same names in each split
            photo(root / images.format(split=split) / f"{stem}.jpg", (100 + 10 * number, 100))
            write(root / labels.format(split=split) / f"{stem}.txt", f"{number} 0.5 0.5 0.1 0.1\n")


@pytest.mark.parametrize(
    ("images", "labels", "description"),
    [
        ("{split}/images", "{split}/labels", "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"),
        ("images/{split}", "labels/{split}", "path: .\ntrain: images/train\nval: images/valid\ntest: images/test\n"),
        (
            "images/{split}",
            "labels/{split}",
            "path: /elsewhere\ntrain: images\\train\nval: [images/valid]\ntest: images/test",
        ),
        ("{split}", "{split}", "train: train\nvalidation: valid\ntest: test\n"),
        ("{split}", "{split}/labels", "train: ./train/\nval: valid\ntest: test\n"),
    ],
)
def test_splits_of_a_description(tmp_path, images, labels, description):
    three_splits(tmp_path / "set", images, labels)
    write(tmp_path / "set" / "data.yaml", description + "\nnames: [no, 'yes', 3]\nnc: 3\n")
    for source in (tmp_path / "set" / "data.yaml", tmp_path / "set"):
        records, classes, _, report = read(source)
        assert classes == ["no", "yes", "3"]
        found = sorted((r.split, os.path.basename(r.file_name), r.width, r.objects[0][0]) for r in records)
        assert found == [
            *[("calibration", f"{stem}.jpg", 110, "yes") for stem in "ab"],
            *[("test", f"{stem}.jpg", 120, "3") for stem in "ab"],
            *[("train", f"{stem}.jpg", 100, "no") for stem in "ab"],
        ]
        assert report.dropped == []


def test_lists_of_images_and_names_by_number(tmp_path):
    for stem in "abcd":
        photo(tmp_path / "data" / f"{stem}.png")
        write(tmp_path / "data" / f"{stem}.txt", "7 0.5 0.5 0.2 0.4\n")
    write(tmp_path / "train.txt", "./data/a.png\ndata\\b.png\n")
    write(tmp_path / "val.txt", f"{tmp_path}/data/c.png\n")
    source = write(tmp_path / "set.yml", "train: train.txt\nval: val.txt\nnames:\n  7: bin\n  2: bag\n")
    records, classes, _, report = read(source)
    assert {r.file_name: r.split for r in records} == {"a.png": "train", "b.png": "train", "c.png": "calibration"}
    assert classes == ["bin"]
    assert "classes without an object, left out: bag" in report.notes
    # As Darknet has it: names in a list, and the splits beside it.
    write(tmp_path / "obj.names", "\n".join("abcdefgh"))
    write(tmp_path / "obj.data", "classes = 8\ntrain = data/train.txt\nnames = data/obj.names\n")
    records, classes, _, _ = read(tmp_path / "obj.data")
    assert objects(read(tmp_path / "obj.names")[0]) == objects(records)
    assert {r.file_name: (r.split, r.objects[0][0]) for r in records} == {
        "data/a.png": ("train", "h"),
        "data/b.png": ("train", "h"),
        "data/c.png": ("calibration", "h"),
        "data/d.png": ("", "h"),
    }


def test_labels_beside_the_images_with_other_texts_among_them(tmp_path):
    photo(tmp_path / "a.jpg")
    photo(tmp_path / "empty.jpg")
    photo(tmp_path / "none.jpg")
    write(tmp_path / "A.TXT", "0 0.5 0.5 0.2 0.4\n")  # case does not matter
    write(tmp_path / "empty.txt", "")
    write(tmp_path / "gone.txt", "0 0.5 0.5 0.2 0.4\n")
    write(tmp_path / "classes.txt", "dog\n")
    write(tmp_path / "README.roboflow.txt", "hello\n")
    records, _, _, report = read(tmp_path)
    assert {name: len(found) for name, found in objects(records).items()} == {"a.jpg": 1, "empty.jpg": 0, "none.jpg": 0}
    assert [reason.partition(":")[0] for _, reason in report.dropped] == ["no such image, or several"]
    assert "images without a label file, taken as images without an object: 1" in report.notes


def test_images_elsewhere(tmp_path):
    photo(tmp_path / "photos" / "a.jpg")
    write(tmp_path / "texts" / "a.txt", "0 0.5 0.5 0.2 0.4\n")
    write(tmp_path / "texts" / "classes.txt", "dog\n")
    records, _, root, _ = read(tmp_path / "texts", tmp_path / "photos")
    assert (objects(records), root) == ({"a.jpg": [("dog", pytest.approx((80, 30, 120, 70)))]}, tmp_path / "photos")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: images\n", "needs `names`"),
        ("train: images\nnames: {a: dog}\n", "needs `names`"),
        ("names: [dog]\n", "names no folder of images that is there; no train"),
        ("train: nowhere\nnames: [dog]\n", "no images for train, looked for 'nowhere'"),
        ("- 1\n", "holds no keys and values"),
        ("a: [\n", "is not readable YAML"),
    ],
)
def test_descriptions_that_do_not_do(tmp_path, text, words):
    photo(tmp_path / "images" / "a.jpg")
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.4\n")
    with pytest.raises(ValueError, match=words):
        read(write(tmp_path / "data.yaml", text))


def test_without_classes_labels_or_yaml_a_remedy_is_named(tmp_path, monkeypatch):
    photo(tmp_path / "images" / "a.jpg")
    with pytest.raises(ValueError, match="data.yaml with `names` there, or a classes.txt"):
        read(tmp_path)
    write(tmp_path / "classes.txt", "dog\n")
    with pytest.raises(ValueError, match="'.*a.json' does not name its classes"):
        read(write(tmp_path / "a.json", "{}"))
    with pytest.raises(ValueError, match=r"no label files \(\*.txt\) in `labels` or beside the images"):
        read(tmp_path)
    real = builtins.__import__

    def without_yaml(name, *more):
        if name == "yaml":
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without_yaml)
    with pytest.raises(ValueError, match="needs the package pyyaml: pip install pyyaml"):
        read(write(tmp_path / "data.yaml", "names: [dog]\n"))


# Written


@pytest.fixture
def made(tmp_path):
    """A folder in COCO's layout with all that a box may be: crowds, no area, out of order, names that need quotes."""
    names = {3: "no", 8: "a: b # c", 5: "고양이"}
    categories = [{"id": number, "name": name} for number, name in names.items()]
    boxes = [(8, [10, 20, 30, 40], 0), (3, [0, 0, 200, 100], 0), (5, [1.25, 2.5, 3, 4], 0)]
    boxes += [(5, [5, 5, 0, 9], 0), (3, [0, 0, 9, 9], 1)]
    for split in ("train", "calibration", "test"):
        photo(tmp_path / "data" / split / "deep" / f"{split}.jpg")
        photo(tmp_path / "data" / split / "empty.png")
        images = [{"id": 4, "file_name": f"deep/{split}.jpg"}, {"id": 9, "file_name": "empty.png"}]
        images = [{**image, "width": 200, "height": 100} for image in images]
        annotations = [
            {"id": place, "image_id": 4, "category_id": category, "bbox": box, "iscrowd": crowd}
            for place, (category, box, crowd) in enumerate(boxes, 1)
        ]
        coco = {"images": images, "annotations": annotations, "categories": categories}
        write(tmp_path / "data" / "annotations" / f"instances_{split}.json", json.dumps(coco))
    return tmp_path / "data"


def run(app, *arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_written_files_are_what_the_tools_read(made, tmp_path):
    result = run(to_yolo.app, made, "--out", tmp_path / "yolo")
    assert result.exit_code == 0, result.output
    assert "val: 2 images, 3 boxes, 2 crowds or boxes without area left out" in result.output
    labels = {str(path.relative_to(tmp_path / "yolo")) for path in (tmp_path / "yolo" / "labels").rglob("*.txt")}
    assert labels == {
        *("labels/train/deep/train.txt", "labels/val/deep/calibration.txt", "labels/test/deep/test.txt"),
        *("labels/train/empty.txt", "labels/val/empty.txt", "labels/test/empty.txt"),
    }
    text = (tmp_path / "yolo/labels/train/deep/train.txt").read_text()
    assert text.splitlines() == ["2 0.125 0.4 0.15 0.4", "0 0.5 0.5 1 1", "1 0.01375 0.045 0.015 0.04"]
    assert (tmp_path / "yolo/labels/train/empty.txt").read_text() == ""
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load((tmp_path / "yolo" / "data.yaml").read_text(encoding="utf-8")) == {
        **{"train": "images/train", "val": "images/val", "test": "images/test"},
        "names": {0: "no", 1: "고양이", 2: "a: b # c"},
    }


def test_there_and_back_again(made, tmp_path):
    run(to_yolo.app, made, "--out", tmp_path / "yolo")
    result = run(own_data.app, "yolo", tmp_path / "yolo", "--out", tmp_path / "back")
    assert result.exit_code == 0, result.output
    for split in ("train", "calibration", "test"):
        before, after = coco_split(made, split), coco_split(tmp_path / "back", split)
        assert after.classes == before.classes == ["no", "고양이", "a: b # c"]
        for (_, one), (_, other) in zip(before, after, strict=True):
            assert one["labels"].tolist() == other["labels"].tolist()
            assert other["boxes"].flatten().tolist() == pytest.approx(one["boxes"].flatten().tolist(), abs=1e-4)


def test_written_again_but_never_over_others(made, tmp_path):
    run(to_yolo.app, made, "--out", tmp_path / "yolo")
    before = {path: path.read_bytes() for path in (tmp_path / "yolo").rglob("*.*")}
    (tmp_path / "yolo" / "data.yaml").unlink()  # as if it had been stopped
    assert run(to_yolo.app, made, "--out", tmp_path / "yolo").exit_code == 0
    assert {path: path.read_bytes() for path in (tmp_path / "yolo").rglob("*.*")} == before
    write(tmp_path / "yolo" / "labels" / "train" / "old.txt", "0 0.5 0.5 0.1 0.1")
    result = run(to_yolo.app, made, "--out", tmp_path / "yolo")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "holds files of other data, such as 'labels/train/old.txt'" in result.output


def test_images_that_would_share_a_label_file_are_refused(made, tmp_path):
    path = made / "annotations" / "instances_test.json"
    coco = json.loads(path.read_text())
    coco["images"].append({"id": 11, "file_name": "empty.jpg", "width": 200, "height": 100})
    path.write_text(json.dumps(coco))
    result = run(to_yolo.app, made, "--out", tmp_path / "yolo")
    assert result.exit_code == 2
    assert "'empty.png' and 'empty.jpg' would share 'labels/test/empty.txt'" in result.output
    assert not (tmp_path / "yolo").exists()
    result = run(to_yolo.app, tmp_path, "--out", tmp_path / "yolo")
    assert (result.exit_code, "holds no annotations/instances_SPLIT.json" in result.output) == (2, True)
