"""What a run leaves on the disk: killed while it saves or validates, a full disk, files that are no checkpoints."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from squares import options, refused, same, settings, weights, write_folder

from earlyexit import cli
from earlyexit.training import run
from earlyexit.training.loop import load_checkpoint, remove_half_written
from earlyexit.training.run import train

# Trains, and waits to be killed in the middle of epoch 2's checkpoint or validation, once it has printed a line. An
# epoch has two checkpoints, before and after its validation.
SCRIPT = '''
import json
import sys
import time

import torch

from earlyexit.training import run
from earlyexit.training.settings import TrainSettings

where, values, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
calls = []


def save_half(state, path):
    """torch.save, whose third file is half written when the kill comes."""
    save(state, path)
    calls.append(path)
    if len(calls) == 3:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        wait()


def detect_slowly(*args, **kwargs):
    calls.append(args)
    if len(calls) == 2:
        wait()
    return detect_all(*args, **kwargs)


def wait():
    print("ready", flush=True)
    time.sleep(600)


save, detect_all = torch.save, run.detect_all
if where == "saving":
    torch.save = save_half
else:
    run.detect_all = detect_slowly
values = json.loads(values)
run.train(TrainSettings(**{**values, "exits": tuple(values["exits"])}))
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
    processes, threads = {}, str(torch.get_num_threads())
    for where in ("saving", "validating"):
        what = json.dumps(asdict(settings(data, out / where, val_split="val")))
        command = [sys.executable, str(out / "script.py"), where, what, threads]
        with open(out / f"{where}.txt", "wb") as log:
            processes[where] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        train(settings(data, out / "whole", val_split="val"))
        for where, process in processes.items():
            assert process.stdout.readline() == b"ready\n", (out / f"{where}.txt").read_text()
    finally:
        for process in processes.values():
            process.kill()
            process.wait()
            process.stdout.close()
    return {name: out / name for name in ("whole", *processes)}


def done(out):
    """Epochs in the checkpoint."""
    return len(torch.load(out / "checkpoint.pt", weights_only=True)["rows"])


def log(out):
    """The log without what depends on the clock."""
    lines = [line.split(",") for line in (out / "log.csv").read_text().splitlines()]
    keep = [i for i, name in enumerate(lines[0]) if name not in ("seconds", "images_per_second")]
    return [[line[i] for i in keep] for line in lines]


@pytest.mark.parametrize(("where", "stepped", "halves"), [("saving", False, 1), ("validating", True, 0)])
def test_killed_run_resumes_to_the_same_weights(runs, data, where, stepped, halves):
    """The steps of the epoch that was being validated are done."""
    out = runs[where]
    assert (done(out), len(log(out)) - 1, len(list(out.glob(".*.tmp")))) == (1, 1, halves)
    assert (torch.load(out / "checkpoint.pt", weights_only=True)["pending"] is not None) == stepped
    train(settings(data, out, val_split="val", resume=True))
    assert same(weights(out), weights(runs["whole"]))
    assert log(out) == log(runs["whole"])
    files = ["checkpoint.pt", "log.csv", "model.safetensors", "settings.json"]
    assert sorted(path.name for path in out.iterdir()) == files


def test_a_validation_that_fails_loses_nothing(runs, data, tmp_path, monkeypatch):
    """Of the first and of the second epoch; it goes on with what failed, and ends with the same numbers."""
    out, real, calls = tmp_path / "run", run.detect_all, []

    def fail(*args, **kwargs):
        calls.append(len(weights(out)))  # which are there already
        if len(calls) in (1, 3):
            raise OSError("the network drive is gone")
        return real(*args, **kwargs)

    monkeypatch.setattr(run, "detect_all", fail)
    for epoch in (1, 2):
        with pytest.raises(OSError, match="the network drive is gone"):
            train(settings(data, out, val_split="val", resume=epoch > 1))
        assert done(out) == epoch - 1
        assert torch.load(out / "checkpoint.pt", weights_only=True)["pending"]["epoch"] == epoch
        assert (out / "log.csv").exists() == (epoch > 1)
    rows = train(settings(data, out, val_split="val", resume=True))
    assert [row["epoch"] for row in rows] == [1, 2] and len(calls) == 4
    assert log(out) == log(runs["whole"])
    assert same(weights(out), weights(runs["whole"]))


def test_full_disk(runs, data, tmp_path, capsys, monkeypatch):
    """No file may grow beyond 8 MB once epoch 1 is saved: the checkpoint of epoch 2 fails."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    out, line = tmp_path / "run", cli._as_line

    def fill_the_disk(row):
        resource.setrlimit(resource.RLIMIT_FSIZE, (8_000_000, before[1]))
        return line(row)

    monkeypatch.setattr(cli, "_as_line", fill_the_disk)
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


def test_what_was_half_written_is_removed(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in (".checkpoint.pt.0123.tmp", "pictures/.epoch-001.png.4567.tmp", "kept.tmp"):
        (tmp_path / name).write_bytes(b"half")
    remove_half_written(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["kept.tmp", "pictures"]


def test_a_cut_off_checkpoint_is_named(runs, data, tmp_path):
    for name in ("settings.json", "checkpoint.pt"):
        content = (runs["whole"] / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2] if name == "checkpoint.pt" else content)
    with pytest.raises(ValueError, match=r"checkpoint.pt' is no checkpoint or only a part of one: remove it"):
        train(settings(data, tmp_path, val_split="val", resume=True))


def test_a_checkpoint_of_something_else(tmp_path):
    torch.save({"other": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint.pt' is not a checkpoint of this run \(KeyError: 'model'\)"):
        load_checkpoint(tmp_path / "checkpoint.pt", {"model": torch.nn.Linear(1, 1)})
    torch.save({"rows": 5}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint of this run \(TypeError: its rows must be a list, got 5\)"):
        load_checkpoint(tmp_path / "checkpoint.pt", {})
