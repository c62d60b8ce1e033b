"""What is said, drawn and written of photos and films: the same boxes everywhere, good photos in spite of bad ones."""

import csv
import json
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from earlyexit.evaluation import detecting, pictures
from earlyexit.evaluation.detecting import Places, detect
from earlyexit.evaluation.pictures import EXIT_COLOURS, Shot, Source, paint_detection, small_copy

FOUND = {"boxes": torch.tensor([[40.0, 30, 120, 90]]), "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
MACS = {1: 2.0, 2: 4.0, 3: 6.0, 4: 8.0}


SUMMARY = (
    "3 photos, 4.0000 GMACs each on average (50.0% of full depth), photos per exit 1: 2, 2: 0, 3: 0, 4: 1; found b 2"
)


class Detector(torch.nn.Module):
    """Finds "b" in the same place of every photo, at exit 1 if it is dark and at exit 4 if it is bright."""

    rule = None

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images, thresholds=None, exit=None):
        (image,) = images
        if min(image.shape[1:]) < 2:
            raise ValueError("image 0 is too thin")
        dark = bool(image.mean() < 0.5)
        return [
            {**FOUND, "scores": FOUND["scores"] * (1 if dark else 0.1), "exit": 1 if dark else 4, "confidence": 0.75}
        ]


@pytest.fixture(autouse=True)
def detector(monkeypatch):
    monkeypatch.setattr(detecting, "load_detector", lambda weights: (Detector(), ["a", "b"]))
    monkeypatch.setattr(detecting, "network_size", lambda model, photo: tuple(photo.shape[1:]))
    monkeypatch.setattr(detecting, "count_macs", lambda model, size: {k: {"total": v} for k, v in MACS.items()})


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, colour in (("dark.png", 20), ("bright.jpg", 240), ("more/dark.jpg", 20)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (160, 120), (colour,) * 3).save(tmp_path / "in" / name)
    return tmp_path


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_all_that_is_written_says_the_same(photos):
    places = Places(*(photos / name for name in ("out", "sheet.png", "found.json", "found.csv")))
    lines = list(detect(["in"], "any", places=places))
    assert lines == [
        "this model knows 2 classes: a, b",
        "in/bright.jpg: exit 4 (confidence 0.75), 0% of the compute saved: nothing with a score of 0.5 or more",
        "in/dark.png: exit 1 (confidence 0.75), 75% of the compute saved: b 0.90 at [40, 30, 120, 90]",
        "in/more/dark.jpg: exit 1 (confidence 0.75), 75% of the compute saved: b 0.90 at [40, 30, 120, 90]",
        SUMMARY,
        f"wrote 3 to {photos / 'out'}, such as bright.jpg",
        f"wrote {photos / 'sheet.png'}",
        f"wrote {photos / 'found.json'}",
        f"wrote {photos / 'found.csv'}",
    ]
    bright, dark, more = json.loads((photos / "found.json").read_text())
    assert bright == {
        **{"file": "in/bright.jpg", "boxes": [], "scores": [], "classes": []},
        **{"exit": 4, "confidence": 0.75, "gmacs": 8.0},
    }
    assert dark["boxes"] == [[40, 30, 120, 90]] and dark["classes"] == ["b"] and dark["gmacs"] == 2
    assert dark["scores"] == pytest.approx([0.9]) and {**more, "file": dark["file"]} == dark
    table = rows(photos / "found.csv")
    assert [row["file"] for row in table] == ["in/bright.jpg", "in/dark.png", "in/more/dark.jpg"]
    assert [table[0][name] for name in ("x1", "class", "score", "exit", "gmacs")] == ["", "", "", "4", "8.0"]
    assert [float(table[1][name]) for name in ("x1", "y1", "x2", "y2")] == [40, 30, 120, 90]
    # Two photos are called dark: neither picture takes the place of the other.
    assert sorted(path.name for path in (photos / "out").iterdir()) == ["bright.jpg", "dark-2.jpg", "dark.jpg"]
    assert Image.open(photos / "sheet.png").width > 1000


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are texts")
def test_file_names_that_are_no_text(photos):
    os.rename(photos / "in" / "dark.png", os.fsencode(photos / "in") + b"/dark\xff.png")
    places = Places(*(photos / name for name in ("out", "sheet.png", "found.json", "found.csv")))
    lines = list(detect(["in"], "any", places=places))
    assert sum("b 0.90 at [40, 30, 120, 90]" in line for line in lines) == 2
    assert [row["file"] for row in rows(photos / "found.csv")][1] == "in/dark\\udcff.png"
    name = json.loads((photos / "found.json").read_text())[1]["file"]
    assert Image.open(name).size == (160, 120)  # JSON keeps what it is called
    assert (photos / "sheet.png").exists() and len(os.listdir(photos / "out")) == 3


def test_bad_photos_are_said_and_skipped(photos):
    assert list(detect(["in"], "any"))[-1] == SUMMARY
    assert not list(detect(["in/dark.png"], "any"))[-1].startswith("1 photos")
    (photos / "in" / "broken.jpg").write_text("no image")
    Image.new("RGB", (1, 300)).save(photos / "in" / "thin.png")
    lines = []
    with pytest.raises(ValueError) as said:
        lines.extend(line for line in detect(["in"], "any", places=Places(json=photos / "found.json")))
    assert str(said.value).startswith("2 of 5 photos: 'in/broken.jpg' is not a readable image: ")
    assert str(said.value).endswith("; 'in/thin.png' is too thin")
    assert len(json.loads((photos / "found.json").read_text())) == 3


def test_where_every_photo_is_bad_nothing_is_written(photos):
    for k in range(12):
        (photos / "in" / f"broken{k:02}.jpg").write_text("no image")
    with pytest.raises(ValueError, match="12 of 12 photos: .*broken09.jpg' is .*; and 2 more$"):
        list(detect(["in/broken*.jpg"], "any", places=Places(photos / "out", csv=photos / "found.csv")))
    assert not (photos / "out").exists() and not (photos / "found.csv").exists()


def test_what_stops_it_leaves_no_half_table(photos, monkeypatch):
    def stopped(source):
        yield Shot("a", Image.new("RGB", (160, 120)))
        raise KeyboardInterrupt

    monkeypatch.setattr(detecting, "shots", stopped)
    with pytest.raises(KeyboardInterrupt):
        list(detect(["in"], "any", places=Places(json=photos / "found.json")))
    assert not (photos / "found.json").exists()


def film(kind):
    """Two dark frames, a bright one, and then somebody presses Ctrl-C."""

    def frames(source):
        for number, colour in enumerate((0, 0, 255), 1):
            yield Shot("the film.mp4", Image.new("RGB", (160, 120), (colour,) * 3), "", number, 10.0)
        if kind == "camera":
            raise KeyboardInterrupt

    return frames


@pytest.mark.parametrize("kind", ["film", "camera"])
def test_a_film_is_summed_up(photos, monkeypatch, kind):
    written = []

    class Writer:
        def __init__(self, path, size, rate):
            assert (path, size, rate) == (photos / "out" / "the film.mp4", (480, 360), 10.0)

        def __enter__(self):
            return written.append

        def __exit__(self, *error):
            assert error == (None, None, None)
            written.append("closed")

    monkeypatch.setattr(detecting, "find_sources", lambda words: [Source("0", kind)])
    monkeypatch.setattr(detecting, "shots", film(kind))
    monkeypatch.setattr(detecting, "film_writer", Writer)
    places = Places(photos / "out", json=photos / "found.json", csv=photos / "found.csv")
    _, line, *_ = detect(["0"], "any", places=places)
    before, after = line.split(" frames per second, ")
    assert before.startswith("the film.mp4: 3 frames, ")
    assert after == (
        "4.0000 GMACs each on average (50.0% of full depth), frames per exit 1: 2, 2: 0, 3: 0, 4: 1; found b 2"
    )
    assert [frame.size for frame in written[:-1]] == [(480, 360)] * 3 and written[-1] == "closed"
    green = np.array([int(EXIT_COLOURS[1][k : k + 2], 16) for k in (1, 3, 5)])
    assert (np.asarray(written[0])[0, 0] == green).all()  # the exit is written there
    assert [row["frame"] for row in json.loads((photos / "found.json").read_text())] == [1, 2, 3]
    assert [row["frame"] for row in rows(photos / "found.csv")] == ["1", "2", "3"]


def test_a_real_film_goes_in_and_comes_out(photos):
    pytest.importorskip("cv2")
    with pictures.film_writer(photos / "film.mp4", (160, 120), 10) as write:
        for colour in (20, 20, 240):
            write(Image.new("RGB", (160, 120), (colour,) * 3))
    lines = list(detect(["film.mp4"], "any", places=Places(photos / "out")))
    assert "frames per exit 1: 2, 2: 0, 3: 0, 4: 1" in lines[1]
    painted = [shot.image.size for shot in pictures.shots(Source(str(photos / "out" / "film.mp4"), "film"))]
    assert painted == [(480, 360)] * 3


def test_a_sheet_shows_the_first_of_many(photos, monkeypatch):
    monkeypatch.setattr(detecting, "ON_SHEET", 2)
    *_, line = detect(["in"], "any", places=Places(sheet=photos / "sheet.png"))
    assert line == f"wrote {photos / 'sheet.png'}, the first 2 of 3"


def test_boxes_are_painted_where_they_are():
    photo = Image.new("RGB", (1000, 800), "white")
    found = {**FOUND, "boxes": torch.tensor([[400.0, 500, 700, 700]]), "exit": 2, "confidence": 0.5}
    painted = np.asarray(paint_detection(photo, found, ["a", "b"], note="half"))
    blue = (painted == [0x00, 0x72, 0xB2]).all(2)
    assert painted.shape == (800, 1000, 3) and np.asarray(photo).min() == 255
    assert blue[500, 550] and blue[700, 550] and blue[600, 400] and blue[600, 700]
    assert blue[0, 0] and blue[480:500, 400:450].mean() > 0.5  # the title, and the name above the box
    assert not blue[510:690, 410:690].any() and not blue[720:].any()
    weak = np.asarray(paint_detection(photo, found, ["a", "b"], min_score=0.95))
    assert (weak[400:] == 255).all()


def test_a_large_photo_is_shown_small_with_its_boxes():
    photo = Image.new("RGB", (1800, 900))
    photo.paste("white", (600, 300, 1200, 600))
    found = {"boxes": torch.tensor([[600.0, 300, 1200, 600]]), "scores": torch.ones(1)}
    small, moved = small_copy(photo, found)
    assert small.shape == (240, 480, 3)
    torch.testing.assert_close(moved["boxes"], torch.tensor([[160.0, 80, 320, 160]]))
    inside = small[80:160, 160:320] / 255
    assert inside.mean() > 0.99 and small.sum() / 255 == pytest.approx(inside.size, rel=0.02)
