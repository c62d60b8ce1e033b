"""From photos and a table of boxes to detections, through the commands that a user types, on a handful of JPEGs."""

import csv
import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from earlyexit import cli

ROOT = Path(__file__).resolve().parent.parent
COLOURS = {"ball": (220, 40, 40), "box": (40, 60, 220)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six JPEGs of 96 x 80 with one object each, on noise, and boxes.csv."""
    out = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    lines = []
    for i in range(6):
        image = Image.fromarray(generator.integers(90, 160, (80, 96, 3), dtype=np.uint8))
        name, (x, y), size = ("ball", "box")[i % 2], generator.integers(4, 30, 2), 40
        draw = ImageDraw.Draw(image)
        corners = [int(x), int(y), int(x) + size, int(y) + size]
        (draw.ellipse if name == "ball" else draw.rectangle)(corners, fill=COLOURS[name])
        image.save(out / f"{i}.jpg", quality=95)
        lines.append([f"{i}.jpg", name, *corners])
    with open(out / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", "class", "xmin", "ymin", "xmax", "ymax"], *lines])
    return out


def run(*arguments, app=cli.app):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_handful_of_photos_is_learned_by_heart(photos, tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    prepare = runpy.run_path(str(ROOT / "data_prep" / "own_data.py"))["app"]
    how = ["--images", photos, "--out", data, "--single", "--split-share", "1,0,0"]
    assert "6 images, 6 objects of 2 classes" in run("csv", photos / "boxes.csv", *how, app=prepare)

    how = ["--min-size", 64, "--max-size", 96, "--theta", 0.1, "--lr", 2e-3, "--clip", 10, "--batch-size", 6]
    begin = ["--init", "scenes-pretrained", "--freeze", 2]
    run("train", data, *how, *begin, "--epochs", 36, "--warmup", 5, "--save-every", 18, "--out", out)
    weights = ["--split", "train", "--weights", out]
    limits = run("calibrate", data, *weights, "--index", 20).strip()
    found = json.loads(run("evaluate", data, *weights, "--json", tmp_path / "full.json").splitlines()[-1])
    assert found["mAP"] > 80
    assert found["accuracy"][3] == 100
    early = json.loads(run("evaluate", data, *weights, "--thresholds", limits).splitlines()[-1])
    assert early["exits"]["4"] < 6
    assert early["gmacs"] < found["gmacs"] == found["gmacs_full"]

    lines = run("detect", *sorted(photos.glob("*.jpg")), "--weights", out / "model.safetensors").splitlines()
    assert lines[0] == "this model knows 2 classes: ball, box"
    assert lines.pop().startswith("6 photos, ")
    for i, line in enumerate(lines[1:]):
        assert f"{i}.jpg: exit 4" in line
        assert ("ball" if i % 2 == 0 else "box") in line.split(": ")[-1]
