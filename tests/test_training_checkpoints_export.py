"""A run's weights with their card: what `earlyexit export` writes, and what it does not touch."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from squares import command as run
from squares import refused

from earlyexit.data.coco import coco_split
from earlyexit.model.factories import load_detector
from earlyexit.weights import read_about


def test_export(folder, finished_run, tmp_path):
    weights = finished_run / "model.safetensors"
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
    following = f"next: earlyexit detect PHOTOS --weights {tmp_path / 'v1.5.safetensors'}\n"
    assert first.stderr == following and second.exit_code == 0
    replaced = f"note: this replaced {tmp_path / 'v1.5.safetensors'} and {tmp_path / 'v1.5.json'}\n"
    assert second.stderr == replaced + following


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
