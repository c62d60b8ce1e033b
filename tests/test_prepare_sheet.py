"""Contact sheet and summary: which images are shown, where boxes are drawn, and the counts."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import contact_sheet as command
from prepare.sheet import choose_images, contact_sheet, missing_classes, sum_up, summary_lines


def make(images, categories, annotations):
    """COCO from ids, names and (image, category, box) triples."""
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 80} for i in images],
        "categories": [{"id": n, "name": name} for n, name in categories.items()],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box} for n, (i, c, box) in enumerate(annotations, 1)
        ],
    }


@pytest.fixture
def coco():
    """Ten images of class 2, two of class 5, one of class 9, which all three show, and one without an object."""
    box = [10, 10, 20, 20]
    found = [(i, 2, box) for i in range(1, 11)] + [(i, 5, box) for i in (9, 11)] + [(i, 9, box) for i in (11,)]
    return make(range(1, 13), {9: "zebra", 2: "ant", 5: "bee", 7: "never"}, found)


def test_a_few_different_images_of_every_class_in_order(coco):
    chosen = choose_images(coco, per_class=3)
    names = [name for name, _ in chosen]
    assert names == sorted(names)
    assert names.count("ant") == 3
    ids = [image for _, image in chosen]
    assert len(set(ids)) == len(ids)
    classes = {i: {a["category_id"] for a in coco["annotations"] if a["image_id"] == i} for i in ids}
    number = {"ant": 2, "bee": 5, "zebra": 9}
    assert all(number[name] in classes[image] for name, image in chosen)
    assert 12 not in ids


def test_the_seed_decides_and_the_limit_holds(coco):
    assert choose_images(coco, seed=1) == choose_images(coco, seed=1)
    assert len({tuple(choose_images(coco, seed=seed)) for seed in range(8)}) > 1
    assert len(choose_images(coco, per_class=9, most=4)) == 4
    assert len(choose_images(coco, most=2)) == 2  # fewer than classes
    assert {name for name, _ in choose_images(coco, per_class=9, most=4, seed=0)} >= {"ant", "bee"}


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_box_is_drawn_where_it_is(tmp_path, orientation):
    coco = make([1], {1: "thing"}, [(1, 1, [25, 20, 50, 40])])
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = (80, 100) if orientation == 6 else (100, 80)
    Image.new("RGB", lying, (128, 128, 128)).save(tmp_path / "1.png", exif=exif)
    assert contact_sheet(coco, tmp_path, tmp_path / "sheet.png") == 1
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB")).astype(int)
    grey = (abs(pixels - 128) <= 1).all(axis=-1)
    rows, columns = np.flatnonzero(grey.any(axis=1)), np.flatnonzero(grey.any(axis=0))
    scale = (columns[-1] + 1 - columns[0]) / 100
    blue = (abs(pixels - (0x0B, 0x6F, 0xB8)) <= 3).all(axis=-1)
    middle = (rows[0] + rows[-1]) // 2
    across = (np.flatnonzero(blue[middle]) - columns[0]) / scale
    assert across.min() == pytest.approx(25, abs=1.5)
    assert across.max() == pytest.approx(75, abs=1.5)
    lower = (np.flatnonzero(blue[:, columns[0] + round(60 * scale)]) - rows[0]) / scale
    assert lower.max() == pytest.approx(60, abs=1.5)


def test_nothing_to_show_and_a_missing_image_leave_no_sheet(coco, tmp_path):
    with pytest.raises(ValueError, match="no image has an object"):
        contact_sheet({**coco, "annotations": []}, tmp_path, tmp_path / "sheet.png")
    with pytest.raises(ValueError, match=r"\.png' cannot be read"):
        contact_sheet(coco, tmp_path, tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("error")
def test_names_may_hold_any_letter(tmp_path):
    coco = make([1], {1: "$a^{$", 2: "日本"}, [(1, 1, [5, 5, 9, 9]), (1, 2, [50, 5, 9, 9])])
    Image.new("RGB", (100, 80)).save(tmp_path / "1.png")
    assert contact_sheet(coco, tmp_path, tmp_path / "sheet.png") == 1


def test_records_are_checked(coco, tmp_path):
    coco["annotations"][0]["image_id"] = 77
    with pytest.raises(ValueError, match="annotation 1: annotation of an unknown image: 77"):
        contact_sheet(coco, tmp_path, tmp_path / "sheet.png")


def test_summary_counts_by_hand():
    found = [
        (1, 2, [0, 0, 31, 33]),  # 1,023: small
        (1, 2, [0, 0, 32, 32]),  # 1,024: medium
        (2, 1, [0, 0, 96, 96]),  # 9,216: large
        (3, 2, [0, 0, 95, 97]),  # 9,215: medium
    ]
    summary = sum_up(make([1, 2, 3, 4], {2: "dog", 1: "cat", 3: "cow"}, found))
    assert summary == {
        "images": 4,
        "objects": 4,
        "empty": 1,
        "single": 2,
        "classes": {"cat": 1, "dog": 3, "cow": 0},
        "sizes": {"small": 1, "medium": 2, "large": 1},
        "side": (31, 64, 97),
    }
    lines = summary_lines(summary, most=2)
    assert lines[0] == "4 images, 4 objects of 3 classes"
    assert lines[-3:] == ["  dog      3", "  cat      1", "  classes without an object: 1, cow"]
    assert summary_lines(summary, most=1)[-2] == "  and 1 more, down to 'cat' with 1"
    assert sum_up(make([1], {}, []))["side"] is None
    coco = make([1, 2], {1: "cat"}, [(1, 1, [0, 0, 9, 9]), (2, 1, [0, 0, 9, 9])])
    coco["images"][1]["unusable_annotations"] = 1
    assert sum_up(coco)["single"] == 1


def test_the_area_of_the_annotation_decides_as_in_coco():
    coco = make([1], {1: "thin"}, [(1, 1, [0, 0, 100, 80])])
    coco["annotations"][0]["area"] = 500
    assert sum_up(coco)["sizes"] == {"small": 1, "medium": 0, "large": 0}


def test_classes_that_a_split_does_not_show(coco):
    train = make([1], {1: "ant", 2: "bee", 3: "cat"}, [(1, 1, [0, 0, 1, 1]), (1, 2, [0, 0, 1, 1])])
    test = make([1], {1: "ant", 2: "bee", 3: "cat"}, [(1, 1, [0, 0, 1, 1])])
    assert missing_classes({"train": train, "test": test}) == ["no object in test of: bee"]


def test_command_on_scenes(folder, tmp_path):
    out = tmp_path / "sheet.png"
    result = CliRunner().invoke(command.app, [str(folder), "--split", "test", "--out", str(out), "--most", "6"])
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[-2:] == [
        f"wrote {out}, 6 images: look at it before you train",
        f"next: earlyexit train {folder} --split test --exit-target largest --out runs/{folder.name}",
    ]
    assert Image.open(out).format == "PNG"
    wrong = CliRunner().invoke(command.app, [str(folder), "--split", "none", "--out", str(out)])
    assert (wrong.exit_code, len(wrong.output.splitlines())) == (2, 1)
