"""Photo files: found by what annotations call them, never by a guess, and opened as eight bits a colour."""

from pathlib import PurePosixPath

import numpy as np
import pytest
from PIL import Image

from earlyexit.data import PhotoFinder, list_files, open_image, stays_inside, to_rgb, without_ending


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "d.jpg", "d.png", "x/Twice.JPG", "y/twice.jpg", "deep/e.tiff", ".a.jpg", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_photos_are_listed_in_order_whatever_the_case_of_their_ending(folder):
    photos = ["a.jpg", "d.jpg", "d.png", "deep/e.tiff", "x/Twice.JPG", "y/twice.jpg"]
    assert list_files(folder) == photos
    assert list_files(folder, (".txt",)) == ["notes.txt"]
    assert list_files(folder / "nowhere") == []


@pytest.mark.parametrize(
    ("own", "named", "photo"),
    [
        ("a", "", "a.jpg"),
        ("labels/a", "other.jpg", "a.jpg"),  # the annotation's own name comes first
        ("", "A.png", "a.jpg"),  # neither case nor ending decides where there is one photo alone
        ("d", "", None),  # two, and nothing to choose by
        ("d", "d.png", "d.png"),
        ("", "E", "deep/e.tiff"),
        ("", "twice.jpg", "y/twice.jpg"),  # two of that name, but one is written so
        ("x/twice", "", "x/Twice.JPG"),
        ("", "x/twice", "x/Twice.JPG"),
        ("y/none", "twice", "y/twice.jpg"),  # beside the annotation
        ("none", "none.jpg", None),
        ("", "", None),
    ],
)
def test_a_photo_is_found_or_nothing(folder, own, named, photo):
    assert PhotoFinder(folder).find(PurePosixPath(own), PurePosixPath(named)) == photo


def test_only_the_ending_of_a_photo_is_an_ending():
    assert [without_ending(PurePosixPath(name)) for name in ("a/b.JPEG", "scan.0001", "b")] == ["b", "scan.0001", "b"]


def test_names_that_leave_the_folder():
    assert stays_inside("a.jpg") and stays_inside("deep/..a.jpg")
    assert not any(map(stays_inside, ("", ".", "/a.jpg", "../a.jpg", "deep/../../a.jpg")))


def test_grey_of_16_bits_and_floats_keep_their_range(tmp_path):
    grey = np.linspace(0, 65535, 480).astype(np.uint16).reshape(24, 20)
    for pixels in (grey, grey / np.float32(65535), (grey / 257).astype(np.float32)):
        Image.fromarray(pixels).save(tmp_path / "a.tif")
        with open_image(tmp_path / "a.tif") as opened:
            seen = np.asarray(to_rgb(opened), dtype=float)
        assert seen.shape == (24, 20, 3)
        assert np.abs(seen - grey[..., None] / 257).max() <= 1.01
    with pytest.raises(ValueError, match="its floats are from -3 to 252; they have to be in"):
        to_rgb(Image.fromarray((grey / 257 - 3).astype(np.float32)))


def test_what_stops_a_photo_from_being_used_is_a_value_error(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:900])
    with pytest.raises(ValueError, match="truncated"), open_image(tmp_path / "a.png") as image:
        assert image.size == (40, 40)  # the header is whole
        image.load()
    with pytest.raises(ValueError, match="No such file"), open_image(tmp_path / "none.png"):
        pass
