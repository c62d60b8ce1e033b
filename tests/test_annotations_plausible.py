"""Boxes in other units than pixels are refused by every reader; what looks wrong as a whole is said."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import own_data
from earlyexit.data import check_plausible, coco_split, read_coco

WIDTH, HEIGHT = 400, 300


def make(boxes, width=WIDTH, height=HEIGHT):
    images = [{"id": i, "file_name": f"{i}.png", "width": width, "height": height} for i in range(len(boxes))]
    found = [{"id": i, "image_id": i, "category_id": 1, "bbox": list(box)} for i, box in enumerate(boxes)]
    return {"images": images, "annotations": found, "categories": [{"id": 1, "name": "ant"}]}


def random_boxes(count=40, seed=0):
    """(x, y, width, height) in pixels, well inside."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 150, (count, 2))
    return np.concatenate([corners, random.uniform(5, 140, (count, 2))], 1)


def as_shares(boxes):
    return boxes / [WIDTH, HEIGHT] * 2 if boxes.shape[1] == 2 else boxes / [WIDTH, HEIGHT, WIDTH, HEIGHT]


def corners(boxes):
    """x1, y1, x2, y2 of x, y, width, height."""
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def centred(boxes):
    return np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], 1)


def mixed(share):
    """A share of the boxes as shares, all others in pixels."""
    boxes = random_boxes()
    return np.concatenate([as_shares(boxes[: round(share * 40)]), boxes[round(share * 40) :]])


def with_one(box):
    return np.concatenate([as_shares(random_boxes()), [box]])


SHARES = {
    "x, y, width, height": as_shares(random_boxes()),
    "corners": as_shares(corners(random_boxes())),
    "centres": as_shares(centred(random_boxes())),
    "one is 1.0004": with_one([0.1, 0.2, 1.0004, 0.9]),
    "one is in pixels": with_one([10, 20, 30, 40]),
    "one is the whole image": with_one([0, 0, 1, 1]),
    "whole images": np.array([[0, 0, 1, 1]] * 6),
    "half are in pixels": mixed(0.5),
    "a fifth": mixed(0.2),
    "a single box": as_shares(random_boxes(1)),
    "a little outside": np.array([[-0.1, -0.05, 0.6, 0.7]] * 6),
}


@pytest.mark.parametrize("name", SHARES)
def test_shares_of_the_image_are_refused(name, tmp_path):
    coco = make(SHARES[name].tolist())
    with pytest.raises(
        ValueError, match=r"boxes, such as \[.*\] of '\d+.png', lie in the first pixel: shares of the image"
    ):
        check_plausible(coco)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "train").mkdir()
    path = tmp_path / "annotations" / "instances_train.json"
    path.write_text(json.dumps(coco))
    for read in (lambda: read_coco(path), lambda: coco_split(tmp_path, "train")):
        with pytest.raises(ValueError, match="instances_train.json': .*shares of the image"):
            read()


def write_csv(path, boxes):
    rows = [f"{i}.png,ant," + ",".join(map(str, box)) for i, box in enumerate(corners(boxes).tolist())]
    path.write_text("\n".join(["file,label,xmin,ymin,xmax,ymax", *rows]))


def write_voc(path, boxes):
    path.mkdir()
    for i, box in enumerate(corners(boxes).tolist()):
        parts = "".join(f"<{t}>{v}</{t}>" for t, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        found = f"<object><name>ant</name><bndbox>{parts}</bndbox></object>"
        (path / f"{i}.xml").write_text(f"<annotation>{found}</annotation>")


def write_coco(path, boxes):
    path.write_text(json.dumps(make(boxes.tolist())))


@pytest.mark.parametrize(
    ("kind", "write", "options"),
    [("coco", write_coco, []), ("csv", write_csv, []), ("voc", write_voc, []), ("voc", write_voc, ["--origin", "0"])],
)
@pytest.mark.parametrize("boxes", ["x, y, width, height", "half are in pixels"])
def test_no_reader_prepares_shares(kind, write, options, boxes, tmp_path):
    (tmp_path / "photos").mkdir()
    for i in range(40):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "photos" / f"{i}.png")
    source = tmp_path / ("boxes" if kind == "voc" else f"boxes.{'json' if kind == 'coco' else 'csv'}")
    write(source, SHARES[boxes])
    arguments = [kind, source, "--images", tmp_path / "photos", "--out", tmp_path / "out", *options]
    result = CliRunner().invoke(own_data.app, list(map(str, arguments)))
    assert result.exit_code == 2, result.output
    assert "shares of the image" in result.stderr
    assert not (tmp_path / "out").exists()


def test_boxes_under_a_pixel_anywhere_are_refused_or_said():
    boxes = random_boxes()
    boxes[:30, 2:] /= 400
    with pytest.raises(ValueError, match="30 of 40 boxes, such as .* are under a pixel: in other units"):
        check_plausible(make(boxes.tolist()))
    boxes = random_boxes()
    boxes[3, 2:] = 0.5
    (note,) = check_plausible(make(boxes.tolist()))
    assert note.startswith("1 of 40 boxes, such as [") and "of '3.png', are under a pixel" in note


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (np.array([[0, 0, WIDTH, HEIGHT]] * 8), "8 of 8 boxes, such as [0, 0, 400, 300] of '0.png', cover their whole"),
        (np.array([[0.5, 0, WIDTH - 1, HEIGHT - 0.5]] * 8), "cover their whole image"),
        (
            corners(random_boxes() + [60, 60, 60, 60]) * [1.6, 1.6, 1, 1],
            "(x1, y1, x2, y2) taken for (x, y, width, height)",
        ),
        (random_boxes() / [WIDTH, HEIGHT, WIDTH, HEIGHT] * 100, "are they percent of the image?"),
    ],
)
def test_what_looks_wrong_as_a_whole_is_said(boxes, said):
    (note,) = check_plausible(make(boxes.tolist()))
    assert said in note


@pytest.mark.parametrize(
    "boxes",
    [
        random_boxes(),
        random_boxes(4),
        np.array([[0, 0, 400, 300]] * 3),  # too few to say
        np.array([[0, 0, 0, 0], [5, 5, 0, 9], [10, 20, 30, 40]]),  # boxes without area are no boxes
        np.zeros((0, 4)),
        np.concatenate([random_boxes(), [[0, 0, 400, 300]] * 20]),
    ],
)
def test_nothing_is_said_of_what_is_well(boxes):
    assert check_plausible(make(boxes.tolist())) == []


@pytest.mark.parametrize(("width", "height", "suspicious"), [(4000, 3000, True), (1600, 1200, False)])
def test_thousandths_of_large_photos_are_said(width, height, suspicious):
    """Language models that see give boxes so, whatever the photo's size."""
    boxes = random_boxes() / [WIDTH, HEIGHT, WIDTH, HEIGHT] * 1000
    notes = check_plausible(make(boxes.tolist(), width, height))
    assert [note.partition(", end ")[2] for note in notes] == [
        "within 1000 pixels of large images: are they thousandths of the image?"
    ] * suspicious
    assert check_plausible(make([*boxes.tolist(), [2500, 100, 30, 40]], 4000, 3000)) == []


def test_small_images_are_no_percent():
    assert check_plausible(make(random_boxes(20).tolist(), 64, 64)) != []  # they end outside
    assert check_plausible(make((random_boxes(20) / 8).tolist(), 64, 64)) == []
