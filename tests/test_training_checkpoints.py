"""Killed while it saves or validates, a full disk, a folder that cannot be written to, a loss that is not finite."""

import json
import subprocess
import sys
import time
from dataclasses import asdict

import pytest
import torch
from squares import options, refused, same, settings, weights, write_folder

from earlyexit import cli as commands
from earlyexit.training import run as training
from earlyexit.training.checkpoints import remove_half_written
from earlyexit.training.run import train

# Trains, and waits to be killed in the middle of epoch 2's checkpoint or validation, once it has made the file READY.
SCRIPT = '''
import json
import sys
import time
from pathlib import Path

import torch

from earlyexit import tracking
from earlyexit.settings import TrainSettings
from earlyexit.training import train

where, ready, values, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
calls = []


def save_half(state, path):
    """torch.save, whose second file is half written when the kill comes."""
    save(state, path)
    calls.append(path)
    if len(calls) == 2:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        wait()


def detect_slowly(*args, **kwargs):
    calls.append(args)
    if len(calls) == 2:
        wait()
    return detect_all(*args, **kwargs)


def wait():
    Path(ready).touch()
    time.sleep(600)


save, detect_all = torch.save, tracking.detect_all
if where == "saving":
    torch.save = save_half
else:
    tracking.detect_all = detect_slowly
values = json.loads(values)
train(TrainSettings(**{**values, "exits": tuple(values["exits"])}))
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    sizes = {"train": [(64, 64)] * 4, "val": [(64, 64)] * 2}
    return write_folder(tmp_path_factory.mktemp("squares") / "data", **sizes)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The folders of a run that was left alone ("whole"), and of two that were killed in epoch 2."""
    out = tmp_path_factory.mktemp("runs")
    (out / "script.py").write_text(SCRIPT)
    processes = {}
    for where in ("saving", "validating"):
        what = json.dumps(asdict(settings(data, out / where, val_split="val")))
        command = [sys.executable, str(out / "script.py"), where, str(out / f"{where}.ready"), what]
        with open(out / f"{where}.txt", "wb") as log:
            threads = str(torch.get_num_threads())
            processes[where] = subprocess.Popen([*command, threads], stdout=log, stderr=log)
    try:
        train(settings(data, out / "whole", val_split="val"))
        deadline = time.monotonic() + 300
        for where, process in processes.items():
            while not (out / f"{where}.ready").exists():
                assert process.poll() is None and time.monotonic() < deadline, (out / f"{where}.txt").read_text()
                time.sleep(0.05)
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
    return {name: out / name for name in ("whole", *processes)}


def done(out):
    """Epochs in the checkpoint."""
    return len(torch.load(out / "checkpoint.pt", weights_only=True)["rows"])


def log(out):
    """The log without what depends on the clock."""
    lines = [line.split(",") for line in (out / "log.csv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in ("seconds", "images_per_second")]
    return [[line[i] for i in keep] for line in lines]


@pytest.mark.parametrize(("where", "logged", "halves"), [("saving", 2, 1), ("validating", 1, 0)])
def test_killed_run_resumes_to_the_same_weights(runs, data, where, logged, halves):
    out = runs[where]
    assert (done(out), len(log(out)) - 1, len(list(out.glob(".*.tmp")))) == (1, logged, halves)
    train(settings(data, out, val_split="val", resume=True))
    assert same(weights(out), weights(runs["whole"]))
    assert log(out) == log(runs["whole"])
    files = ["checkpoint.pt", "log.csv", "model.safetensors", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == files


def test_full_disk(runs, data, tmp_path, capsys, monkeypatch):
    """No file may grow beyond 8 MB once epoch 1 is saved: the checkpoint of epoch 2 fails."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out, line = tmp_path / "run", commands.as_line

    def fill_the_disk(row):
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, before[1]))
        return line(row)

    monkeypatch.setattr(commands, "as_line", fill_the_disk)
    try:
        message = refused(capsys, monkeypatch, "train", data, *options(out, "--val-split", "val"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"epoch 2 cannot be written to '{out}'" in message
    assert message.endswith("what was there before is whole: make room and go on with --resume")
    assert done(out) == 1
    assert not list(out.glob(".*"))
    train(settings(data, out, val_split="val", resume=True))
    assert same(weights(out), weights(runs["whole"]))


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_out_that_cannot_be_made(data, tmp_path, capsys, monkeypatch, name):
    (tmp_path / "file").write_text("not a folder")
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / name))
    assert f"--out must be a folder that can be written to, got '{tmp_path / name}': " in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_out_that_may_not_be_written_to(data, tmp_path, capsys, monkeypatch):
    """Root may write anywhere, so the refusal is played."""

    def deny(path, write):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(training, "write_whole", deny)
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run"))
    assert line.endswith(f"can be written to, got '{tmp_path / 'run'}': Permission denied")


def test_loss_that_is_not_finite(data, tmp_path, capsys, monkeypatch):
    """One step at an absurd learning rate; the next one's loss ends the run."""
    absurd = ["--lr", "1e30", "--optimizer", "sgd", "--clip", "0", "--schedule", "steps", "--batch-size", "4"]
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run"), *absurd, "--accumulate", "2")
    assert line.startswith("earlyexit: epoch 2: loss is nan at step 0, images [10")
    assert line.endswith("], learning rate 1e+30")
    assert done(tmp_path / "run") == 1  # what was saved before is kept


def test_what_was_half_written_is_removed(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in (".checkpoint.pt.0123.tmp", "pictures/.epoch-001.png.4567.tmp", "kept.tmp"):
        (tmp_path / name).write_bytes(b"half")
    remove_half_written(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept.tmp", "pictures"]
