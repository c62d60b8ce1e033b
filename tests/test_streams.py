"""Words of a command as images: files, folders, patterns and films give the photos that they mean, once each."""

import sys
import types

import numpy as np
import pytest
from PIL import Image

from earlyexit.evaluation import pictures
from earlyexit.evaluation.pictures import Source, film_writer, find_sources, shots

RED, BLUE = (200, 30, 30), (30, 30, 200)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    for name in ("a.jpg", "B.PNG", "img[1].jpg", "below/c.webp", "below/deep/d.jpg"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), RED).save(tmp_path / "photos" / name)
    (tmp_path / "photos" / "notes.txt").write_text("no photo")
    (tmp_path / "photos" / ".hidden.jpg").write_text("no photo")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["photos"], ["B.PNG", "a.jpg", "below/c.webp", "below/deep/d.jpg", "img[1].jpg"]),
        (["photos/*"], ["B.PNG", "a.jpg", "img[1].jpg"]),
        (["photos/*.jpg", "photos/a.jpg"], ["a.jpg", "img[1].jpg"]),
        (["photos/**/*.jpg"], ["a.jpg", "below/deep/d.jpg", "img[1].jpg"]),
        (["photos/img[1].jpg"], ["img[1].jpg"]),  # a file, though it looks like a pattern
        (["photos/[ab].jpg"], ["a.jpg"]),
        (["photos/notes.txt"], ["notes.txt"]),  # named by hand: said and skipped later
    ],
)
def test_words_mean_photos(photos, words, names):
    assert find_sources(words) == [Source(f"photos/{name}", "photo") for name in names]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("lost.jpg", "no image 'lost.jpg'"),
        ("photos/*.tif", "no image is called as 'photos/.*tif' says"),
        ("empty", "no photo and no film below the folder 'empty'"),
    ],
)
def test_words_that_mean_nothing(photos, word, message):
    with pytest.raises(ValueError, match=message):
        find_sources(["photos", word])


def test_a_photo_is_one_shot_and_a_bad_one_says_why(photos):
    (shot,) = shots(Source("photos/a.jpg", "photo"))
    assert (shot.name, shot.image.size, shot.note, shot.frame) == ("photos/a.jpg", (40, 30), "", 0)
    (bad,) = shots(Source("photos/notes.txt", "photo"))
    assert bad.image is None and bad.note.startswith("is not a readable image: cannot identify image file")


def test_values_taken_for_something_are_noted(tmp_path):
    Image.fromarray(np.full((8, 8), 4000, np.uint16)).save(tmp_path / "deep.png")
    (shot,) = shots(Source(str(tmp_path / "deep.png"), "photo"))
    assert shot.note == "12 bits in a file of 16: the largest value is 4000, so 4095 is taken for white"


def test_films_need_a_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "film.mp4").write_text("any")
    for word in (str(tmp_path), str(tmp_path / "film.mp4"), "0"):
        with pytest.raises(ValueError, match='the extra "video" .*pip install opencv-python-headless'):
            find_sources([word])


class Film:
    """OpenCV's reader as far as a stream needs it: it gives three frames of blue and rising green."""

    released = 0

    def __init__(self, place):
        self.place, self.left = place, 3

    def get(self, what):
        return {"fps": 0.0, "count": -1.0}[what]

    def read(self):
        self.left -= 1
        return (True, np.full((20, 30, 3), (200, self.left, 0), np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        Film.released += 1


@pytest.fixture
def camera(monkeypatch):
    module = types.SimpleNamespace(
        VideoCapture=Film,
        CAP_PROP_FPS="fps",
        CAP_PROP_FRAME_COUNT="count",
        COLOR_BGR2RGB="turn",
        cvtColor=lambda frame, code: np.ascontiguousarray(frame[..., ::-1]),
    )
    monkeypatch.setattr(Film, "released", 0)
    monkeypatch.setitem(sys.modules, "cv2", module)


def test_a_camera_is_a_number_and_its_frames_come_one_by_one(camera, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (source,) = find_sources(["0"])
    stream = shots(source)
    first = next(stream)
    assert (first.name, first.frame, first.rate, first.image.getpixel((0, 0))) == ("camera 0", 1, 25, (0, 2, 200))
    assert Film.released == 0
    assert [shot.frame for shot in stream] == [2, 3]
    assert Film.released == 1
    (tmp_path / "0").mkdir()  # a folder that is there comes first
    with pytest.raises(ValueError, match="below the folder '0'"):
        find_sources(["0"])


def test_a_stream_that_is_left_lets_the_camera_go(camera):
    stream = shots(Source("0", "camera"))
    next(stream)
    stream.close()
    assert Film.released == 1


def test_films_are_written_and_read_again(tmp_path):
    pytest.importorskip("cv2")
    path = tmp_path / "film.mp4"
    with film_writer(path, (64, 48), 10) as write:
        for colour in (RED, RED, BLUE):
            write(Image.new("RGB", (64, 48), colour))
    assert [entry.name for entry in tmp_path.iterdir()] == ["film.mp4"]
    found = list(shots(*find_sources([str(path)])))
    assert [(shot.frame, shot.rate, shot.image.size) for shot in found] == [(k, 10, (64, 48)) for k in (1, 2, 3)]
    for shot, colour in zip(found, (RED, RED, BLUE), strict=True):
        assert np.abs(np.asarray(shot.image).mean((0, 1)) - colour).max() < 12


def test_a_film_that_is_not_finished_leaves_nothing(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(RuntimeError), film_writer(tmp_path / "film.mp4", (64, 48), 10) as write:
        write(Image.new("RGB", (64, 48)))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_film_that_is_none(tmp_path):
    pytest.importorskip("cv2")
    (tmp_path / "film.mp4").write_text("no film")
    (shot,) = shots(*find_sources([str(tmp_path)]))
    assert (shot.image, shot.note) == (None, "is not a readable film")
    assert pictures.RATE == 25
