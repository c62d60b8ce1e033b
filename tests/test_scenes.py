"""The embedded data set: same numbers for the same seed, honest boxes and causes, complete files."""

from __future__ import annotations

import json

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

import make_scenes
from earlyexit.data.scenes import CLASS_NAMES, FAMILIES, export_scenes, make_scene


@pytest.fixture(scope="module")
def scenes():
    return [make_scene("train", index) for index in range(250)]


def test_catalogue():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 20
    assert sum(len(members) for members in FAMILIES.values()) == 20


def test_same_arguments_give_the_same_scene():
    first, second = make_scene("test", 3, seed=5), make_scene("test", 3, seed=5)
    assert np.array_equal(first.image, second.image)
    assert first.objects == second.objects
    for split, index, seed in ("train", 3, 5), ("test", 4, 5), ("test", 3, 6):
        other = make_scene(split, index, seed=seed)
        assert not np.array_equal(first.image, other.image)


def test_boxes_and_labels(scenes):
    for scene in scenes:
        assert scene.image.shape == (128, 128, 3)
        assert scene.image.dtype == np.uint8
        for item in scene.objects:
            x0, y0, x1, y1 = item.box
            assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
            assert min(x1 - x0, y1 - y0) >= 8
            assert max(x1 - x0, y1 - y0) == pytest.approx(128 * item.causes["scale"], abs=0.1)
            assert item.name == CLASS_NAMES[item.label]


def test_boxes_hardly_overlap(scenes):
    for scene in scenes:
        for i, first in enumerate(scene.objects):
            for second in scene.objects[:i]:
                a, b = np.array(first.box), np.array(second.box)
                inter = np.prod(np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None))
                assert inter <= 0.25 * min(np.prod(a[2:] - a[:2]), np.prod(b[2:] - b[:2]))


def test_number_of_objects(scenes):
    counts = np.bincount([len(scene.objects) for scene in scenes], minlength=5) / len(scenes)
    assert counts[0] == pytest.approx(0.10, abs=0.06)
    assert counts[1] == pytest.approx(0.60, abs=0.10)
    assert len(counts) == 5


def test_causes_follow_the_difficulty(scenes):
    items = [(scene.difficulty, item.causes) for scene in scenes for item in scene.objects]
    difficulty = np.array([value for value, _ in items])
    assert difficulty.min() >= 0 and difficulty.max() <= 1
    signs = {"scale": -1, "contrast": -1, "clutter": 1, "occlusion": 1, "blur": 1, "noise": 1}
    for name, sign in signs.items():
        values = np.array([causes[name] for _, causes in items])
        assert sign * np.corrcoef(difficulty, values)[0, 1] > 0.4, name
    occlusion = np.array([causes["occlusion"] for _, causes in items])
    assert 0.2 < occlusion.max() <= 0.46


def test_all_categories_appear(scenes):
    assert {item.label for scene in scenes for item in scene.objects} == set(range(20))


@pytest.mark.parametrize("size", [64, 256])
def test_size_changes_the_resolution_only(size):
    for index in range(20):
        small, other = make_scene("train", index), make_scene("train", index, size=size)
        assert [item.label for item in small.objects] == [item.label for item in other.objects]
        for first, second in zip(small.objects, other.objects, strict=True):
            assert np.allclose(np.array(first.box) / 128, np.array(second.box) / size, atol=0.02)


def test_the_empty_background_is_not_the_object():
    """The pixels of a box differ from the rest of an easy scene: something is drawn there."""
    scene = next(
        scene
        for scene in (make_scene("train", index) for index in range(200))
        if scene.difficulty < 0.1 and len(scene.objects) == 1
    )
    x0, y0, x1, y1 = (round(value) for value in scene.objects[0].box)
    inside = scene.image[y0:y1, x0:x1].reshape(-1, 3).std(axis=0).mean()
    outside = scene.image.astype(float)
    outside[y0:y1, x0:x1] = np.nan
    assert inside > 1.5 * np.nanstd(outside.reshape(-1, 3), axis=0).mean()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("valid", 0), "valid"),
        (("train", -1), "-1"),
        (("train", 0, 32), "32"),
        (("train", 0, 4096), "4096"),
        (("train", 0, 128, -2), "-2"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scene(*arguments)


def test_export(tmp_path):
    paths = export_scenes(tmp_path, {"train": 6, "test": 3, "pretrain": 0}, seed=1, workers=1)
    assert set(paths) == {"train", "test"}
    data = json.loads((tmp_path / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in data["images"]] == [f"{index:012d}.jpg" for index in range(6)]
    assert [category["id"] for category in data["categories"]] == list(range(1, 21))
    assert data["info"]["seed"] == 1
    scenes = [make_scene("train", index, seed=1) for index in range(6)]
    assert len(data["annotations"]) == sum(len(scene.objects) for scene in scenes)
    for annotation in data["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 128.01 and y + height <= 128.01
        assert annotation["area"] == pytest.approx(width * height, abs=0.2)
        assert set(annotation["causes"]) == {"scale", "contrast", "clutter", "occlusion", "blur", "noise"}
    stored = np.asarray(Image.open(tmp_path / "train" / "000000000002.jpg"), dtype=float)
    assert np.abs(stored - scenes[2].image).mean() < 6
    assert not list(tmp_path.rglob(".*"))


def test_export_is_the_same_with_another_number_of_workers(tmp_path):
    files = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        export_scenes(out, {"calibration": 5}, workers=workers)
        files.append({path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert len(files[0]) == 6
    assert files[0] == files[1]


def test_export_goes_on_but_replaces_nothing_else(tmp_path):
    def export(count, **more):
        return export_scenes(tmp_path, {"train": count}, **{"size": 64, "workers": 1, **more})["train"]

    export(2)
    before = export(2).read_bytes()
    for arguments in ({"count": 1}, {"count": 2, "seed": 1}, {"count": 2, "size": 65}):
        with pytest.raises(ValueError, match="instances_train.json' is of .*: choose another folder, or delete"):
            export(**arguments)
        assert export(2).read_bytes() == before
    path = export(3)  # the two and one more
    assert len(list(tmp_path.rglob("*.jpg"))) == 3
    for other in ("{broken", "[]", json.dumps({"images": [], "annotations": [], "categories": []})):
        path.write_text(other)
        with pytest.raises(ValueError, match="choose another folder"):
            export(3)
        assert path.read_text() == other


def test_export_rejects_bad_counts(tmp_path):
    with pytest.raises(ValueError, match="-4"):
        export_scenes(tmp_path, {"train": -4})
    with pytest.raises(ValueError, match="valid"):
        export_scenes(tmp_path, {"valid": 4})
    with pytest.raises(ValueError, match="workers is 0"):
        export_scenes(tmp_path, {"train": 4}, workers=0)


@pytest.fixture(scope="module")
def command():
    """The command line of data_prep/make_scenes.py, called with a list of arguments."""
    app = typer.Typer()
    app.command()(make_scenes.main)
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_command_writes_one_split(command, tmp_path):
    done = command("--out", tmp_path, "--test", 2, "--split-only", "test", "--workers", 1)
    assert done.exit_code == 0
    assert len(list(tmp_path.rglob("*.jpg"))) == 2
    assert "test: 2 scenes" in done.output


def test_command_reports_bad_arguments(command, tmp_path):
    occupied = tmp_path / "file"
    occupied.write_text("")
    for message, arguments in (
        ("cannot write", ["--out", occupied]),
        ("-3", ["--out", tmp_path, "--train", -3]),
        ("'valid'", ["--out", tmp_path, "--split-only", "valid"]),
    ):
        done = command(*arguments)
        assert done.exit_code == 2
        assert message in done.output
