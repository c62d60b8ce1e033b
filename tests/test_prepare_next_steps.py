"""What comes after the data: the size to train at, and a command that `earlyexit train` takes as it is."""

import shlex
from dataclasses import fields
from pathlib import Path

import pytest

from earlyexit.training.settings import TrainSettings
from prepare.next_steps import choose_size, next_lines, share_of_small, train_step


def data(sides, size=(640, 480), per_image=1):
    """Square objects of these sides, some to an image."""
    images = [{"id": i, "width": size[0], "height": size[1]} for i in range(-(-len(sides) // per_image))]
    found = [{"image_id": i // per_image, "bbox": [0, 0, side, side]} for i, side in enumerate(sides)]
    return {"images": images, "annotations": found, "categories": []}


def test_share_of_small_objects_by_hand():
    coco = data([29, 30, 31, 100])  # at 128, 480 rows become 128: 30 pixels are exactly 8
    assert share_of_small(coco, 128) == 0.25
    assert share_of_small(coco, 256) == 0
    assert share_of_small(data([29, 30], (480, 640)), 128) == 0.5
    # Four times as wide as high: the longer side, at most twice 128, decides.
    assert share_of_small(data([14, 15.9, 16.1, 30], (512, 128)), 128) == 0.5
    assert share_of_small({**data([1]), "annotations": []}, 128) == 0
    assert share_of_small(data([1], (0, 0)), 128) == 0


@pytest.mark.parametrize(
    ("sides", "size", "line"),
    [
        ([40] * 9 + [4], 128, None),
        (
            [40] * 2 + [16],
            256,
            "33% of the objects are under 8 pixels at 128: use --min-size 256 --max-size 512 (then 0%",
        ),
        ([29] * 10, 192, "100% of the objects are under 8 pixels at 128: use --min-size 192 --max-size 384 (then 0%"),
        (
            [2] * 5 + [40] * 5,
            800,
            "50% of the objects are under 8 pixels at 128: use --min-size 800 --max-size 1600 (then 50%",
        ),
    ],
)
def test_the_least_size_at_which_few_objects_are_small(sides, size, line):
    chosen, lines = choose_size(data(sides))
    assert chosen == size
    assert [text[: len(line or "")] for text in lines] == ([line] if line else [])


def test_the_command_has_the_options_that_the_images_need(tmp_path):
    out = tmp_path / "my photos"
    assert next_lines(out, {"train": data([40])}) == [f"next: earlyexit train '{out}' --out 'runs/my photos'"]
    train = data([20] * 6, per_image=3)
    train["images"].append({"id": 9, "width": 640, "height": 480})
    said, line = next_lines(out, {"train": train, "calibration": data([40])})
    assert "--min-size 192 --max-size 384" in said
    words = shlex.split(line.removeprefix("next: earlyexit train "))
    assert words[0] == str(out)
    assert words[1:-2] == [
        *("--val-split", "calibration", "--allow-empty", "--exit-target", "largest"),
        *("--min-size", "192", "--max-size", "384"),
    ]
    known = {f"--{option.name.replace('_', '-')}" for option in fields(TrainSettings)}
    assert {word for word in words if word.startswith("--")} <= known


def test_another_split_to_train_on():
    assert next_lines(Path("a"), {"val": data([40])}, "val") == ["next: earlyexit train a --split val --out runs/a"]


def test_a_relative_folder_gives_the_run_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert train_step(Path("data/mine")) == "next: earlyexit train data/mine --out runs/mine"
    assert train_step(Path(".")) == f"next: earlyexit train . --out runs/{tmp_path.name}"
