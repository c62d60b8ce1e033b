"""Copies of one photo: what is one and what only looks a little alike; dividing and reporting keep them together."""

import io

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from prepare.copies import Copies, find_copies
from prepare.layout import divide, photos_of, take_calibration


def scene(seed, size=(160, 120)):
    """A picture with large and small shapes, as photos have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    fine = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.blend(coarse, fine, 0.3)


def again(image, quality=40):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


@pytest.mark.parametrize(
    "change",
    [
        again,
        lambda image: image.resize((80, 60), Image.Resampling.LANCZOS),
        lambda image: again(image.resize((256, 256))),
        lambda image: ImageEnhance.Brightness(image).enhance(0.92),
        lambda image: image.convert("P", palette=Image.Palette.ADAPTIVE, colors=200),
    ],
)
def test_a_photo_saved_otherwise_is_a_copy(tmp_path, change):
    for seed in range(4):
        scene(seed).save(tmp_path / f"{seed}.png")
    change(scene(2)).save(tmp_path / "other.png")
    copies = find_copies(["0.png", "1.png", "2.png", "3.png", "other.png"], tmp_path)
    assert copies == Copies(
        [["2.png", "other.png"]], {"equal files": 0, "the same to look at": 1, "versions by name": 0}
    )


@pytest.mark.parametrize(
    "images",
    [
        [scene(seed) for seed in range(8)],
        [scene(0), scene(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT), scene(0).crop((40, 30, 160, 120))],
        # Small, they are of one colour: noise, grey of several shades.
        [Image.fromarray(np.random.default_rng(i).integers(0, 256, (400, 400, 3), dtype=np.uint8)) for i in range(5)],
        [Image.new("RGB", (64, 48), (grey, grey, grey)) for grey in range(100, 120, 4)],
        [Image.new("RGB", (64, 48), colour) for colour in ("red", "blue", "green", "white", "black")],
    ],
)
def test_different_pictures_are_none(tmp_path, images):
    names = [f"{number}.png" for number, image in enumerate(images) if not image.save(tmp_path / f"{number}.png")]
    assert find_copies(names, tmp_path).groups == []


def test_equal_files_and_versions_are_counted_by_what_shows_them(tmp_path):
    (tmp_path / "deep").mkdir()
    scene(0).save(tmp_path / "a.png")
    Image.new("RGB", (9, 9)).save(tmp_path / "plain.png")
    for source, copy in (("a.png", "b.png"), ("a.png", "deep/c.png"), ("plain.png", "also plain.png")):
        (tmp_path / copy).write_bytes((tmp_path / source).read_bytes())
    scene(1).save(tmp_path / "dog_jpg.rf.0123456789abcdef0123456789abcdef.png")
    scene(2).save(tmp_path / "dog_jpg.rf.fedcba98765432100123456789abcdef.png")  # turned, say
    scene(3).save(tmp_path / "dog.rf.png")
    names = [
        "plain.png",
        "a.png",
        "b.png",
        "deep/c.png",
        *sorted(p.name for p in tmp_path.glob("dog*")),
        "also plain.png",
    ]
    copies = find_copies(names, tmp_path)
    assert copies.groups == [
        ["plain.png", "also plain.png"],
        names[1:4],
        sorted(p.name for p in tmp_path.glob("dog_*")),
    ]
    assert copies.kinds == {"equal files": 3, "the same to look at": 0, "versions by name": 1}
    assert copies.lines() == [
        "copies: 7 images are of 3 photos (equal files 3, versions by name 1), such as plain.png and also plain.png"
    ]
    assert find_copies([], tmp_path).lines() == []


def test_pairs_are_found_in_every_block(tmp_path, monkeypatch):
    for seed in range(6):
        scene(seed).save(tmp_path / f"{seed}.png")
        again(scene(seed), 90).save(tmp_path / f"{seed}b.png")
    names = sorted(path.name for path in tmp_path.iterdir())
    from prepare import copies

    whole = copies._alike(np.stack([copies._small(tmp_path / name) for name in names]))
    assert whole == [(2 * seed, 2 * seed + 1) for seed in range(6)]
    assert copies._alike(np.stack([copies._small(tmp_path / name) for name in names]), block=5) == whole


def test_copies_in_two_splits_are_said():
    copies = Copies([["a", "b", "c"], ["d", "e"], ["f", "g"]], {})
    lines = copies.across({"train": ["a", "b", "d", "f"], "calibration": ["c", "g"], "test": ["e", "z"]})
    assert [line.split(":")[1].strip() for line in lines] == [
        "2 photos in train and in calibration, such as a and c",
        "1 photo in train and in test, such as d and e",
    ]
    assert copies.across({"train": list("abcdefg")}) == []


def data(count):
    return {"images": [{"id": i} for i in range(count)], "annotations": [], "categories": []}


def ids(coco):
    return {image["id"] for image in coco["images"]}


@pytest.mark.parametrize("seed", range(5))
def test_divided_data_keep_copies_together(seed):
    groups = [[1, 40, 3], [7, 8], [20, 21, 22, 23], [99, 98], [500, 6]]
    parts = divide(data(100), (0.7, 0.1, 0.2), seed, groups)
    assert [len(ids(part)) for part in parts.values()] == [70, 10, 20]
    for group in groups:
        assert sum(not ids(part).isdisjoint(group) for part in parts.values()) == 1
    assert set().union(*map(ids, parts.values())) == set(range(100))


def test_few_photos_of_many_copies_are_divided_all_the_same():
    parts = divide(data(12), (0.7, 0.1, 0.2), 0, [range(10)])
    assert sorted(len(ids(part)) for part in parts.values()) == [1, 1, 10]
    train, calibration = take_calibration(data(12), 0.2, 0, [range(6), range(6, 12)])
    assert (len(ids(train)), len(ids(calibration))) == (6, 6)
    with pytest.raises(ValueError, match="2 splits need at least 2 photos, and the images are of 1"):
        take_calibration(data(12), 0.2, 0, [range(12)])
    assert photos_of([5, 1, 2, 9], [[9, 1, 77], [78]]) == [[1, 9], [2], [5]]
