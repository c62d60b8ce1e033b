"""The command line: what it prints and writes, and how it says no."""

import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from squares import refused
from typer.testing import CliRunner

from earlyexit import __version__, cli
from earlyexit.cli import onnx_command
from earlyexit.data.coco import coco_split
from earlyexit.model.factories import load_detector
from earlyexit.weights import read_about

TRAIN = ["--exit-target", "largest", "--epochs", "3", "--batch-size", "4"]


def run(*arguments):
    """The command in this process, with the way `main` ends in bad input."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def test_all_commands_have_the_same_default_weights():
    commands = (cli.evaluate, cli.calibrate, cli.detect, onnx_command)
    assert [inspect.signature(command).parameters["weights"].default for command in commands] == ["scenes-early"] * 4


@pytest.fixture(scope="session")
def weights(finished_run):
    return finished_run / "model.safetensors"


@pytest.fixture(scope="session")
def photos(folder, tmp_path_factory):
    """A JPEG, a grayscale PNG, a PNG with transparency, and a file that is none."""
    out = tmp_path_factory.mktemp("photos")
    with Image.open(folder / "test" / "000000000000.jpg") as scene:
        scene.save(out / "photo.jpg")
        scene.convert("L").resize((80, 50)).save(out / "gray.png")
        scene.convert("RGBA").save(out / "transparent.png")
    Image.new("RGB", (1, 300)).save(out / "thin.png")
    (out / "text.jpg").write_text("no picture")
    return out


def test_version():
    assert run("--version").stdout == f"earlyexit {__version__}\n"


@pytest.mark.parametrize("name", ["photo.jpg", "gray.png", "transparent.png"])
def test_detect_draws_any_picture(photos, weights, tmp_path, name):
    save = tmp_path / "found.png"
    done = run("detect", photos / name, "--weights", weights, "--exit", 2, "--min-score", 0.001, "--save", save)
    assert done.exit_code == 0, done.output
    first, second, third = done.stdout.splitlines()
    assert first.startswith("this model knows 20 classes: ")
    assert second.startswith(f"{photos / name}: exit 2 (confidence 0.")
    assert "of the compute saved" in second
    assert third == f"wrote {save}"
    with Image.open(save) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]


def test_detect_prints_what_the_model_finds(photos, weights):
    from earlyexit.evaluation.pictures import read_photo

    done = run("detect", photos / "photo.jpg", photos / "gray.png", "--weights", weights, "--min-score", 0.001)
    lines = done.stdout.splitlines()[1:]
    model, classes = load_detector(weights)
    for name, line in zip(("photo.jpg", "gray.png"), lines, strict=True):
        with torch.inference_mode():
            (found,) = model.eval()([read_photo(photos / name)])
        assert f"{name}: exit 4 (confidence {found['confidence']:.2f}), 0% of the compute saved" in line
        count = int((found["scores"] >= 0.001).sum())
        assert line.count(" at [") == count
        if count:
            assert f"{classes[found['labels'][0]]} {found['scores'][0]:.2f} at [" in line
    none = run("detect", photos / "photo.jpg", "--weights", weights, "--min-score", 1)
    assert "nothing with a score of 1 or more" in none.stdout


def test_detect_in_bfloat16_with_opinions(photos):
    done = run("detect", photos / "photo.jpg", "--weights", "scenes-early", "--exit", 1, "--bf16")
    assert done.exit_code == 0, done.output


def test_detect_in_bfloat16_and_with_thresholds(photos, weights):
    arguments = ["detect", photos / "photo.jpg", "--weights", weights, "--thresholds", "inf,0,0.5"]
    for more in ([], ["--bf16"]):
        done = run(*arguments, *more)
        assert done.exit_code == 0, done.output
        assert ": exit 2 (" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}/lost.jpg"], "no image '{photos}/lost.jpg'"),
        (["{photos}/photo.jpg", "{photos}/text.jpg"], "'{photos}/text.jpg' is not a readable image"),
        (["{photos}"], "is not a readable image"),
        (
            ["{photos}/photo.jpg", "--thresholds", "a,b"],
            "--thresholds takes numbers with commas between them, got 'a,b'",
        ),
        (["{photos}/photo.jpg", "--thresholds", ""], "--thresholds takes numbers with commas between them, got ''"),
        (["{photos}/photo.jpg", "--thresholds", "0.5,0.5"], "thresholds must be three"),
        (["{photos}/photo.jpg", "--thresholds", "0.5,nan,0.5"], "thresholds must be confidences"),
        (["{photos}/photo.jpg", "--exit", "5"], "exit must be 1, 2, 3 or 4, got 5"),
        (["{photos}/photo.jpg", "--exit", "1", "--thresholds", "0,0,0"], "not both"),
        (["{photos}/photo.jpg", "--weights", "lost"], "got 'lost'"),
        (["{photos}/photo.jpg", "--weights", "{photos}/text.jpg"], "text.jpg is not a safetensors file"),
        (["{photos}/photo.jpg", "--device", "tpu9"], "--device must be cpu, cuda or auto, got 'tpu9'"),
        (["{photos}/photo.jpg", "--device", "meta"], "--device must be cpu, cuda or auto, got 'meta'"),
        (["{photos}/photo.jpg", "--device", "mps"], "--device must be cpu, cuda or auto, got 'mps'"),
        (["{photos}/photo.jpg", "--device", "cuda:99"], "--device cuda:99: there are "),
        (["{photos}/thin.png"], "image 0 is too thin, 1 x 300: its longer side may be 256 times the shorter at most"),
        (["{photos}/photo.jpg", "--save", "{photos}/found.txt"], "--save must end in"),
    ],
)
def test_detect_refuses(photos, weights, capsys, monkeypatch, arguments, message):
    arguments = [argument.format(photos=photos) for argument in arguments]
    if "--weights" not in arguments:
        arguments += ["--weights", weights]
    assert message.format(photos=photos) in refused(capsys, monkeypatch, "detect", *arguments)


def test_evaluate_prints_and_writes_the_same(folder, weights, tmp_path):
    path = tmp_path / "result.json"
    done = run("evaluate", folder, "--weights", weights, "--exit", 1, "--batch-size", 4, "--json", path)
    assert done.exit_code == 0, done.output
    result = json.loads(path.read_text())
    assert json.dumps(json.loads(done.stdout.splitlines()[-1])) == json.dumps(result)
    assert result["exits"] == {"1": 7, "2": 0, "3": 0, "4": 0}
    assert 0 < result["gmacs"] < result["gmacs_full"]
    assert "accuracy" not in result  # images with several objects
    assert "1: 7, 2: 0, 3: 0, 4: 0" in done.stdout


def test_calibrate_is_realised_by_evaluate(folder, weights):
    """Index 17 of 24 images: floor(24 * (0.2125, 0.2625, 0.13125)) = 5, 6, 3 leave early."""
    done = run("calibrate", folder, "--weights", weights, "--split", "train", "--index", 17)
    assert done.exit_code == 0, done.output
    limits = done.stdout.strip()
    assert len(limits.split(",")) == 3
    found = run("evaluate", folder, "--weights", weights, "--split", "train", "--thresholds", limits)
    exits = json.loads(found.stdout.splitlines()[-1])["exits"]
    # A threshold is the confidence of an image, which another batch may round to the other side of it.
    assert [exits[k] for k in "1234"] == pytest.approx([5, 6, 3, 10], abs=1)
    assert sum(exits.values()) == 24
    never = run("calibrate", folder, "--weights", weights, "--split", "train", "--index", 34)
    assert never.stdout.strip() == "inf,inf,inf"


def test_export(folder, finished_run, weights, tmp_path):
    done = run("export", finished_run, "--name", tmp_path / "mine", "--data", folder)
    assert done.exit_code == 0, done.output
    card = json.loads((tmp_path / "mine.json").read_text())
    assert json.loads(done.stdout) == card
    assert card["command"] == "earlyexit train"
    assert set(card["metrics"]["forced_exit"]) == {"1", "2", "3", "4"}
    stored, full = load_file(tmp_path / "mine.safetensors"), load_file(weights)
    assert card["parameters"] == sum(p.numel() for p in load_detector(weights)[0].parameters())
    for name, value in full.items():
        assert stored[name].dtype == (torch.float16 if value.dtype == torch.float32 else value.dtype)
        torch.testing.assert_close(stored[name].to(value.dtype), value, rtol=1e-3, atol=1e-6)
    assert read_about(tmp_path / "mine.safetensors")["classes"] == coco_split(folder, "test").classes
    model, _ = load_detector(tmp_path / "mine.safetensors")
    assert all(p.dtype == torch.float32 for p in model.parameters())


def test_export_needs_a_run(tmp_path, capsys, monkeypatch):
    line = refused(capsys, monkeypatch, "export", tmp_path, "--name", tmp_path / "mine")
    assert "holds no finished epoch" in line
    assert list(tmp_path.iterdir()) == []


def test_export_takes_the_place_of_nothing_else(finished_run, tmp_path, capsys, monkeypatch):
    def content(folder):
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}

    before = content(finished_run)
    for name in ("model.safetensors", "settings"):
        line = refused(capsys, monkeypatch, "export", finished_run, "--name", finished_run / name)
        assert "--name must lie outside the run" in line
    assert content(finished_run) == before
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "package.json").write_text("mine")
    for name in ("folder", "package"):
        assert "which is no export" in refused(capsys, monkeypatch, "export", finished_run, "--name", tmp_path / name)
    line = refused(capsys, monkeypatch, "export", finished_run, "--name", tmp_path / "x.json")
    assert "--name must be a name or a .safetensors file" in line
    assert content(tmp_path) == {"package.json": b"mine"}


def test_export_keeps_the_whole_name_and_says_what_it_replaces(finished_run, tmp_path):
    first, second = (run("export", finished_run, "--name", tmp_path / name) for name in ("v1.5", "v1.5.safetensors"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v1.5.json", "v1.5.safetensors"]
    assert first.stderr == "" and second.exit_code == 0
    assert second.stderr == f"note: this replaced {tmp_path / 'v1.5.safetensors'} and {tmp_path / 'v1.5.json'}\n"


def test_export_looks_at_the_data_before_it_writes(folder, finished_run, tmp_path, capsys, monkeypatch):
    other = shutil.copytree(folder, tmp_path / "other")
    path = other / "annotations" / "instances_test.json"
    path.write_text(path.read_text().replace('"apple"', '"pear"'))
    out = tmp_path / "out"
    out.mkdir()
    arguments = ["export", finished_run, "--name", out / "mine", "--data"]
    assert "no image folder" in refused(capsys, monkeypatch, *arguments, tmp_path / "lost")
    assert "the data has the classes ['pear'" in refused(capsys, monkeypatch, *arguments, other)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON"), ("[]", "must be names with values, got []"), ("{}", "is not of `earlyexit train`")],
)
def test_export_of_a_run_with_a_damaged_story(finished_run, tmp_path, capsys, monkeypatch, text, message):
    damaged = shutil.copytree(finished_run, tmp_path / "run")
    (damaged / "settings.json").write_text(text)
    line = refused(capsys, monkeypatch, "export", damaged, "--name", tmp_path / "mine")
    assert "settings.json'" in line and message in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_train_refuses_to_mix_runs(folder, finished_run, capsys, monkeypatch):
    before = (finished_run / "checkpoint.pt").read_bytes()
    line = refused(capsys, monkeypatch, "train", folder, "--out", finished_run)
    assert "already holds a run: add --resume" in line
    line = refused(capsys, monkeypatch, "train", folder, "--out", finished_run, "--resume", "--theta", "0.5")
    assert "theta was 0.0115, is 0.5" in line
    assert (finished_run / "checkpoint.pt").read_bytes() == before


def test_train_overwrites_no_weights_whose_checkpoint_is_gone(folder, finished_run, tmp_path, capsys, monkeypatch):
    out = shutil.copytree(finished_run, tmp_path / "run")
    (out / "checkpoint.pt").unlink()
    before = (out / "model.safetensors").read_bytes()
    line = refused(capsys, monkeypatch, "train", folder, "--out", out, "--exit-target", "largest")
    assert "already holds a run, but no checkpoint.pt to go on from" in line
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exits", "1,x"], "--exits takes numbers with commas between them, got '1,x'"),
        (["--exits", "0,4"], "exits must name some of the exits 1-4, got (0, 4)"),
        (["--split", "lost"], "no image folder"),
        ([], "objects, but the exits learn one class per image"),
    ],
)
def test_train_refuses(folder, tmp_path, capsys, monkeypatch, arguments, message):
    assert message in refused(capsys, monkeypatch, "train", folder, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def rows(out):
    path = out / "log.csv"
    return len(path.read_text().splitlines()) - 1 if path.exists() else 0


def test_killed_run_resumes_to_the_same_weights(folder, tmp_path):
    """SIGKILL in the middle of epoch 3; after --resume all weights are those of a run that was left alone."""

    def arguments(out, *more):
        return [str(argument) for argument in ("train", folder, "--out", out, *TRAIN, *more)]

    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-m", "earlyexit.cli", *arguments(killed)]
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, "OMP_NUM_THREADS": "1"})
        try:
            deadline = time.monotonic() + 120
            # The checkpoint comes after the log: with both at epoch 2, epoch 3 has begun.
            while process.poll() is None and not (rows(killed) == 2 and done_epochs(killed) == 2):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            assert process.poll() is None, (tmp_path / "output").read_text()
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert rows(killed) == 2
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for more in (arguments(killed, "--resume"), arguments(whole)):
            done = run(*more)
            assert done.exit_code == 0, done.output
    finally:
        torch.set_num_threads(threads)
    assert rows(killed) == rows(whole) == 3
    first, second = (load_file(out / "model.safetensors") for out in (killed, whole))
    assert list(first) == list(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def done_epochs(out):
    path = out / "checkpoint.pt"
    return len(torch.load(path, weights_only=True)["rows"]) if path.exists() else 0
