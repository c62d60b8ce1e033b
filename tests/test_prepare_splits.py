"""The splits that a data set has already: kept under our names in every layout that exports have, or divided anew."""

import json
import zlib

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import own_data
from earlyexit.data import coco_split
from prepare.sources import find_sources, images_of, merge
from prepare.splits import read_lists, split_of_name, split_of_path, splits_of

# Split in the source, our name, its images and the x of the box of each: the names are the same in all splits.
TRUTH = {"train": ("train", 3), "valid": ("calibration", 2), "test": ("test", 1)}
SIZE = (64, 48)


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize(SIZE, Image.Resampling.NEAREST).save(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def box(split, number):
    return [10 * list(TRUTH).index(split) + number, 5, 20, 10]


def coco(split, names, class_ids=(1, 2)):
    images = [{"id": n, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for n, name in enumerate(names)]
    annotations = [
        {"id": n, "image_id": n, "category_id": class_ids[n % 2], "bbox": box(split, n)} for n in range(len(names))
    ]
    categories = [{"id": i, "name": name} for i, name in zip(class_ids, ("cat", "dog"), strict=True)]
    return {"images": images, "annotations": annotations, "categories": categories}


def xml(split, number):
    x, y, w, h = box(split, number)
    corners = f"<xmin>{x + 1}</xmin><ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax>"
    name = ("cat", "dog")[number % 2]
    return f"<annotation><object><name>{name}</name><bndbox>{corners}</bndbox></object></annotation>"


def row(split, number, name):
    x, y, w, h = box(split, number)
    return f"{name},{SIZE[0]},{SIZE[1]},{('cat', 'dog')[number % 2]},{x},{y},{x + w},{y + h}"


HEADER = "filename,width,height,class,xmin,ymin,xmax,ymax"


def roboflow_coco(root):
    for split, (_, count) in TRUTH.items():
        names = [f"{n}.png" for n in range(count)]
        for name in names:
            photo(root / split / name)
        write(root / split / "_annotations.coco.json", coco(split, names, (1, 2) if split == "train" else (7, 4)))
    write(root / "README.dataset.txt", "hello")


def coco_2017(root):
    for split, (_, count) in TRUTH.items():
        name = split.replace("valid", "val")
        for number in range(count):
            photo(root / f"{name}2017" / f"{number}.png")
        names = [f"{n}.png" for n in range(count)]
        write(root / "annotations" / f"instances_{name}2017.json", coco(split, names))
        write(root / "annotations" / f"captions_{name}2017.json", {"images": [], "annotations": []})


def one_folder_of_images(root):
    for split, (_, count) in TRUTH.items():
        names = [f"{split}{n}.png" for n in range(count)]
        for name in names:
            photo(root / "images" / name)
        write(root / f"{split}.json", coco(split, names))


def names_with_folders(root):
    parts = []
    for split, (_, count) in TRUTH.items():
        parts.append(coco(split, [f"{split}/{n}.png" for n in range(count)]))
        for number in range(count):
            photo(root / split / f"{number}.png")
    write(root / "all.json", merge(parts))


def said_by_the_images(root):
    parts = []
    for split, (_, count) in TRUTH.items():
        part = coco(split, [f"{split[:2]}{n}.png" for n in range(count)])
        for image in part["images"]:
            image["split"] = split.upper()
            photo(root / image["file_name"])
        parts.append(part)
    write(root / "all.json", merge(parts))


def voc_with_lists(root):
    for split, (_, count) in TRUTH.items():
        for number in range(count):
            photo(root / "JPEGImages" / f"{split}.{number}.png")
            write(root / "Annotations" / f"{split}.{number}.xml", xml(split, number))
        lines = [f"{split}.{number}\n" for number in range(count)]
        write(root / "ImageSets" / "Main" / f"{split.replace('valid', 'val')}.txt", "".join(lines))
    write(root / "ImageSets" / "Main" / "dog_train.txt", "train.0 -1\nvalid.0  1\n")


def voc_in_folders(root):
    for split, (_, count) in TRUTH.items():
        for number in range(count):
            photo(root / split / f"{number}.png")
            write(root / split / f"{number}.xml", xml(split, number))


def csv_files(root):
    for split, (_, count) in TRUTH.items():
        for number in range(count):
            photo(root / split / f"{number}.png")
        rows = [row(split, n, f"{n}.png") for n in range(count)]
        write(root / split / "_annotations.csv", "\n".join([HEADER, *rows]))


def csv_column(root):
    rows = []
    for split, (_, count) in TRUTH.items():
        for number in range(count):
            photo(root / f"{split}{number}.png")
            rows.append(f"{row(split, number, f'{split}{number}.png')},{split.title()}")
    write(root / "boxes.csv", "\n".join([f"{HEADER},subset", *rows]))


def yolo(root):
    for split, (_, count) in TRUTH.items():
        for number in range(count):
            photo(root / split / "images" / f"{number}.png")
            x, y, w, h = box(split, number)
            shares = (x + w / 2) / SIZE[0], (y + h / 2) / SIZE[1], w / SIZE[0], h / SIZE[1]
            write(root / split / "labels" / f"{number}.txt", f"{number % 2} " + " ".join(map(str, shares)))
    write(root / "data.yaml", "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnames: [cat, dog]")


LAYOUTS = {
    **{"coco": [roboflow_coco, coco_2017, one_folder_of_images, names_with_folders, said_by_the_images]},
    **{"voc": [voc_with_lists, voc_in_folders], "csv": [csv_files, csv_column], "yolo": [yolo]},
}


def run(kind, source, out, *options):
    return CliRunner().invoke(own_data.app, [kind, str(source), "--out", str(out), *map(str, options)])


def boxes_of(out, split):
    dataset = coco_split(out, split)
    found = [(dataset.classes[t["labels"][0]], [round(v, 3) for v in t["boxes"][0].tolist()]) for _, t in dataset]
    return sorted(found, key=lambda item: item[1])


@pytest.mark.parametrize(("kind", "layout"), [(kind, made) for kind, all_made in LAYOUTS.items() for made in all_made])
def test_splits_are_kept_as_they_are_under_our_names(kind, layout, tmp_path):
    layout(tmp_path / "source")
    result = run(kind, tmp_path / "source", tmp_path / "out")
    assert result.exit_code == 0, result.output
    for split, (ours, count) in TRUTH.items():
        expected = [(("cat", "dog")[n % 2], box(split, n)) for n in range(count)]
        expected = [(name, [x, y, x + w, y + h]) for name, (x, y, w, h) in expected]
        assert boxes_of(tmp_path / "out", ours) == expected
        assert len(list((tmp_path / "out" / ours).glob("*.png"))) == count  # no folders within
    assert "the splits that are there are kept; val or valid is called calibration here" in result.output
    assert "images in" in result.output and "that are not used: 0" in result.output
    # What was written can be read in its turn, and is the same.
    again = run("coco", tmp_path / "out", tmp_path / "again")
    assert again.exit_code == 0, again.output
    for ours, _ in TRUTH.values():
        assert boxes_of(tmp_path / "again", ours) == boxes_of(tmp_path / "out", ours)


@pytest.mark.parametrize(("kind", "layout"), [("coco", roboflow_coco), ("voc", voc_with_lists), ("yolo", yolo)])
def test_shares_divide_anew(kind, layout, tmp_path):
    layout(tmp_path / "source")
    result = run(kind, tmp_path / "source", tmp_path / "out", "--split-share", "0.5,0,0.5")
    assert result.exit_code == 0, result.output
    assert "are kept" not in result.output
    found = boxes_of(tmp_path / "out", "train"), boxes_of(tmp_path / "out", "test")
    assert [len(part) for part in found] == [3, 3]
    lefts = {box(split, n)[0] for split, (_, count) in TRUTH.items() for n in range(count)}
    assert {corners[0] for part in found for _, corners in part} == lefts
    assert "split" not in json.loads((tmp_path / "out/annotations/instances_train.json").read_text())["images"][0]


def test_what_is_in_no_split_is_left_out_and_counted(tmp_path):
    voc_with_lists(tmp_path / "source")
    (tmp_path / "source" / "ImageSets" / "Main" / "test.txt").write_text("")
    result = run("voc", tmp_path / "source", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "dropped, image in no split: 1" in result.output
    assert "no images for test" in result.output
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotations", "calibration", "train"]
    strict = run("voc", tmp_path / "source", tmp_path / "other", "--strict")
    assert (strict.exit_code, (tmp_path / "other").exists()) == (2, False)


def test_an_image_in_two_splits_is_refused(tmp_path):
    voc_with_lists(tmp_path / "source")
    (tmp_path / "source" / "ImageSets" / "Main" / "val.txt").write_text("train.1.png\n")
    result = run("voc", tmp_path / "source", tmp_path / "out")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "'train.1.png' is in train and calibration, so one of them would say nothing" in result.output
    anew = run("voc", tmp_path / "source", tmp_path / "out", "--split-share", "0.5,0,0.5")
    assert anew.exit_code == 0, anew.output
    assert len(coco_split(tmp_path / "out", "train")) + len(coco_split(tmp_path / "out", "test")) == 6


def test_one_folder_for_two_splits_is_refused_and_can_be_divided(tmp_path):
    yolo(tmp_path / "source")
    write(tmp_path / "source" / "data.yaml", "train: train/images\nval: train/images\nnames: [cat, dog]")
    result = run("yolo", tmp_path / "source", tmp_path / "out")
    assert (result.exit_code, len(result.output.splitlines())) == (2, 1)
    assert "'0.png' is in train and calibration" in result.output and "--split-share" in result.output
    anew = run("yolo", tmp_path / "source", tmp_path / "out", "--split-share", "0.5,0,0.5")
    assert anew.exit_code == 0, anew.output
    assert sorted(len(coco_split(tmp_path / "out", split)) for split in ("train", "test")) == [1, 2]


def test_one_split_alone_is_divided(tmp_path):
    for number in range(6):
        photo(tmp_path / "source" / "train" / f"{number}.png")
    write(tmp_path / "source" / "train" / "_annotations.coco.json", coco("train", [f"{n}.png" for n in range(6)]))
    result = run("coco", tmp_path / "source", tmp_path / "out", "--split-share", "0.5,0.2,0.3")
    assert result.exit_code == 0, result.output
    assert [len(coco_split(tmp_path / "out", s)) for s in ("train", "calibration", "test")] == [3, 1, 2]
    result = run("coco", tmp_path / "source", tmp_path / "default")
    assert [len(coco_split(tmp_path / "default", s)) for s in ("train", "calibration", "test")] == [4, 1, 1]


def test_copies_stay_together_and_those_across_kept_splits_are_named(tmp_path):
    csv_files(tmp_path / "source")
    data = (tmp_path / "source" / "train" / "0.png").read_bytes()
    for split in ("train", "test"):
        (tmp_path / "source" / split / "copy.png").write_bytes(data)
        with open(tmp_path / "source" / split / "_annotations.csv", "a") as file:
            file.write(f"\n{row(split, 0, 'copy.png')}")
    kept = run("csv", tmp_path / "source", tmp_path / "kept")
    assert kept.exit_code == 0, kept.output
    assert "copies: 3 images are of 1 photo (equal files 2), such as test/copy.png and train/0.png" in kept.output
    assert "WARNING: 1 photo in train and in test, such as train/0.png and test/copy.png" in kept.output
    assert len(coco_split(tmp_path / "kept", "train")) == 4
    for seed in range(4):
        out = tmp_path / f"anew{seed}"
        anew = run("csv", tmp_path / "source", out, "--split-share", "0.5,0,0.5", "--seed", seed)
        assert anew.exit_code == 0, anew.output
        holders = {path.parent.parent.name for path in out.rglob("*.png") if path.read_bytes() == data}
        assert len(holders) == 1
    unasked = run("csv", tmp_path / "source", tmp_path / "unasked", "--no-copies")
    assert (unasked.exit_code, "copies:" in unasked.output) == (0, False)


def test_fewer_photos_than_splits_are_divided_with_a_warning(tmp_path):
    for number in range(6):
        path = tmp_path / "source" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", SIZE, "green").save(path)
    write(tmp_path / "source" / "a.json", coco("train", [f"{n}.png" for n in range(6)]))
    result = run("coco", tmp_path / "source" / "a.json", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "WARNING: there are fewer different photos than splits" in result.output
    assert [len(coco_split(tmp_path / "out", s)) for s in ("train", "calibration", "test")] == [4, 1, 1]


def test_sources_that_are_not_clear_are_listed(tmp_path):
    for name in ("a.json", "b.json"):
        write(tmp_path / name, {})
    with pytest.raises(ValueError, match="several files, a.json, b.json: give the one that is meant"):
        find_sources(tmp_path, ".json")
    with pytest.raises(ValueError, match=r"holds no \*.csv file"):
        find_sources(tmp_path, ".csv")
    write(tmp_path / "train" / "labels.json", {})
    write(tmp_path / "val" / "labels.json", {})
    assert find_sources(tmp_path, ".json") == {
        tmp_path / "train" / "labels.json": "train",
        tmp_path / "val" / "labels.json": "calibration",
    }
    photo(tmp_path / "val" / "data" / "x.png")
    assert images_of(tmp_path / "val" / "labels.json", "calibration", tmp_path, ["x.png", "y.png"]) == "val/data"
    assert images_of(tmp_path / "val" / "labels.json", "calibration", tmp_path, ["y.png"]) == ""


def test_output_does_not_overwrite_a_folder_that_is_read(tmp_path):
    coco_2017(tmp_path / "source")
    for name in ("train", "val", "test"):
        path = tmp_path / "source" / "annotations" / f"instances_{name}2017.json"
        path.rename(path.with_name(f"instances_{name}.json"))
    photo(tmp_path / "photos" / "0.png")
    result = run("coco", tmp_path / "source", tmp_path / "source", "--images", tmp_path / "photos")
    assert (result.exit_code, "would overwrite" in result.output) == (2, True)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *[
            (name, "train")
            for name in ("train", "Training", "TRAIN", "train2017", "train_images", "instances_train2014")
        ],
        *[(name, "calibration") for name in ("valid", "val", "Validation", "dev", "calibration", "annotations-val")],
        *[(name, "test") for name in ("test", "testing", "test2017", "my test photos")],
        *[(name, None) for name in ("trainval", "photos", "trains", "contest", "train-test", "", "2017", "evaluate")],
    ],
)
def test_words_that_mean_a_split(name, split):
    assert split_of_name(name) == split


def test_folders_lists_and_records_say_splits(tmp_path):
    assert split_of_path("train/images/test.jpg") == "train"
    assert split_of_path("Val/a.jpg") == "calibration"
    assert split_of_path("train.jpg") is None
    images = [{"id": n, "file_name": name} for n, name in enumerate(["train/a", "photos/train/b", "test/c", "d"])]
    assert splits_of({"images": images}) == {0: "train", 1: "train", 2: "test"}
    assert splits_of({"images": images[:2] + images[3:]}) == {}  # a folder called so, and nothing else
    assert splits_of({"images": images[2:]}) == {}
    write(tmp_path / "Train.txt", "a.jpg\n\nfolder/b.0.png\n")
    write(tmp_path / "val.txt", "folder\\c\n")
    write(tmp_path / "trainval.txt", "a\nc\n")
    assert read_lists(tmp_path) == {"a": "train", "b.0": "train", "c": "calibration"}


def test_merged_parts_keep_what_belongs_together():
    one, other = coco("train", ["a", "b"], (1, 2)), coco("test", ["c", "d"], (8, 3))
    other["categories"].append({"id": 5, "name": "ant"})
    merged = merge([one, other])
    names = {category["id"]: category["name"] for category in merged["categories"]}
    assert sorted(names.values()) == ["ant", "cat", "dog"]
    files = {image["id"]: image["file_name"] for image in merged["images"]}
    found = [(files[a["image_id"]], names[a["category_id"]], a["bbox"][0]) for a in merged["annotations"]]
    assert found == [("a", "cat", 0), ("b", "dog", 1), ("c", "cat", 20), ("d", "dog", 21)]
    assert [a["id"] for a in merged["annotations"]] == [1, 2, 3, 4]
    assert merge([one]) is one
    assert merge([one, coco("test", ["c"])])["categories"] == one["categories"]
