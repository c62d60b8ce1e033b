"""What a training is made of: its model and where it starts, its data, its folder and the story in it."""

import json
import math
import socket
import sys
from dataclasses import replace
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from PIL import Image
from squares import CLASSES, equal, options, refused, settings, split_names, write_folder
from torchvision.models import RegNet_Y_800MF_Weights, regnet_y_800mf

from earlyexit import cli, dyn_retinanet_nano
from earlyexit.training import run
from earlyexit.training.run import advice, train
from earlyexit.weights import REMOVED, save_weights

URL = RegNet_Y_800MF_Weights.DEFAULT.url


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4, val=[(64, 64)])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    return out, train(settings(data, out, epochs=1))


def test_sizes_and_classes_are_stored(finished):
    story = json.loads((finished[0] / "settings.json").read_text())
    assert (story["min_size"], story["max_size"], story["images"], story["processes"]) == (64, 256, 4, 1)
    assert story["classes"] == CLASSES


def test_another_number_of_images_is_refused(data, finished, tmp_path):
    other = write_folder(tmp_path / "other", train=[(64, 64)] * 3)
    with pytest.raises(ValueError, match="was trained on 4 images, the split now has 3"):
        train(settings(other, finished[0], epochs=1, resume=True))
    moved = tmp_path / "data"
    data.rename(moved)
    try:
        other.rename(data)
        with pytest.raises(ValueError, match="was trained on 4 images, the split now has 3"):
            train(settings(data, finished[0], epochs=1, resume=True))
        data.rename(other)
    finally:
        moved.rename(data)


def test_a_run_older_than_a_setting_can_be_resumed(data, finished):
    """The default of what its settings.json does not name is what it did; experiments that are gone did nothing."""
    (out, rows), now = finished, settings(data, finished[0], epochs=1)
    story = json.loads((out / "settings.json").read_text())
    del story["images"]
    story["settings"] = {**now.changed(), **REMOVED}
    (out / "settings.json").write_text(json.dumps(story))
    assert train(replace(now, resume=True)) == rows
    with pytest.raises(ValueError, match="ema was 0.0, is 0.5"):
        train(replace(now, resume=True, ema=0.5))


# What is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "segment"}, "task must be one of .*'segment'"),
        ({"model": "huge"}, "model must be one of .*'huge'"),
        ({"precision": "int8"}, "precision must be one of .*'int8'"),
        ({"optimizer": "adam"}, "optimizer must be one of .*'adam'"),
        ({"schedule": "linear"}, "schedule must be one of .*'linear'"),
        ({"split": "lost"}, "no image folder"),
        ({"init": "nowhere.safetensors"}, "nowhere.safetensors"),
        ({"min_size": 300}, "min_size 300 is above max_size 256"),
        ({"min_size": 16}, "min_size must be a finite number from 32 on, got 16"),
        ({"norm": "sync"}, "norm 'sync' needs GPUs"),
        ({"freeze": 5}, "freeze must be at least 0 and below 5, got 5"),
        ({"val_split": "lost"}, "no image folder"),
        ({"task": "classify", "pictures": True}, "--val-split and --pictures are for --task detect, got 'classify'"),
    ],
)
def test_bad_settings_leave_nothing(data, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        train(settings(data, tmp_path / "run", **changes))
    assert not (tmp_path / "run").exists()


def test_an_unreadable_image_is_named(tmp_path):
    folder = write_folder(tmp_path / "data", train=[(64, 64)] * 2)
    Image.new("RGB", (64, 64)).save(folder / "train" / "1.png")
    content = (folder / "train" / "1.png").read_bytes()
    (folder / "train" / "1.png").write_bytes(content[:60])
    with pytest.raises(ValueError, match="image 101, '1.png', cannot be read"):
        train(settings(folder, tmp_path / "run"))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("how", ["gone", "another size", "no picture"])
def test_every_photo_of_every_split_is_looked_at_first(tmp_path, monkeypatch, split, how):
    """The last one, too; nothing is made."""
    folder = write_folder(tmp_path / "data", train=[(64, 64)] * 4, val=[(64, 64)] * 4)
    photo = folder / split / "3.png"
    if how == "gone":
        photo.unlink()
    elif how == "another size":
        Image.new("RGB", (64, 96)).save(photo)
    else:
        photo.write_text("no picture")
    monkeypatch.setattr(run, "fit", lambda *_, **__: pytest.fail("it has begun"))
    with pytest.raises(ValueError, match="image 103, '3.png'"):
        train(settings(folder, tmp_path / "run", val_split="val"))
    assert not (tmp_path / "run").exists()


def test_several_objects_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="objects, but the exits learn one class per image"):
        train(settings(folder, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["file", "file/run"])
def test_out_that_cannot_be_made(data, tmp_path, capsys, monkeypatch, name):
    (tmp_path / "file").write_text("not a folder")
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / name))
    assert f"--out must be a folder that can be written to, got '{tmp_path / name}': " in line
    assert (tmp_path / "file").read_text() == "not a folder"


def test_out_that_may_not_be_written_to(data, tmp_path, capsys, monkeypatch):
    """Root may write anywhere, so the refusal is played."""

    def deny(path, value):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(run, "write_json", deny)
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run"))
    assert line.endswith(f"can be written to, got '{tmp_path / 'run'}': Permission denied")


def test_no_advice_before_a_refusal(data, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["earlyexit", "train", str(data), *map(str, options(tmp_path / "file"))])
    with pytest.raises(SystemExit):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("earlyexit: --out must be a folder that can be written to")


@pytest.mark.parametrize(
    ("changes", "images"),
    [
        ({"batch_size": 8}, None),
        ({"batch_size": 7}, 7),
        ({"batch_size": 16, "accumulate": 4}, 4),
        ({"batch_size": 2, "norm": "frozen", "init": "scenes"}, None),
    ],
)
def test_advice_about_batch_statistics(changes, images):
    found = advice(settings("DATA", "RUN", **changes))
    assert found is None if images is None else f"batch normalisation sees {images} image(s) at a time" in found


@pytest.mark.parametrize("changes", [{"freeze": 1}, {"norm": "frozen", "batch_size": 8}])
def test_advice_about_frozen_random_weights(changes):
    assert "keep random weights here" in advice(settings("DATA", "RUN", **changes))
    for start in ("init", "warm_start"):
        assert "keep random weights" not in str(advice(settings("DATA", "RUN", **{start: "scenes"}, **changes)))


# The model of a training


@pytest.fixture
def started(monkeypatch):
    """`started(settings)`: the model as `train` hands it to the loop."""

    def start(what):
        models = []
        monkeypatch.setattr(run, "fit", lambda model, *_, **__: models.append(model))
        train(what)
        return models[0]

    return start


def test_the_model_does_not_resize_again(tmp_path, monkeypatch):
    """In training the network sees the size that the jitter made, in evaluation that of the settings."""
    made, data = [], write_folder(tmp_path / "data", train=[(32, 160)])
    monkeypatch.setattr(run, "fit", lambda model, dataset, *_, **__: made.append((model, dataset)))
    for jitter in (0.0, 0.25):
        train(settings(data, tmp_path / "run", jitter=jitter, max_size=128))
    shapes = []
    for model, dataset in made:
        model.backbone.stem.register_forward_pre_hook(lambda module, args: shapes.append(tuple(args[0].shape[2:])))
        model.train()
        seen = [dataset[0] for _ in range(8)]
        for image, target in seen:
            model([image], [target])
        model.eval()([torch.rand(3, 100, 100)])
        padded = [tuple(32 * math.ceil(side / 32) for side in image.shape[1:]) for image, _ in seen]
        assert shapes.pop() == (64, 64)
        assert set(shapes) == {(32, 128)} if model is made[0][0] else shapes == padded and len(set(shapes)) > 1
        shapes.clear()


def test_imagenet_weights_become_the_trunk(data, tmp_path, monkeypatch, started):
    """From where torch.hub would have put the download."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    trunk = regnet_y_800mf()
    for name, value in trunk.state_dict().items():
        if "running" in name:
            value += torch.rand_like(value)
    path = tmp_path / "hub" / "checkpoints" / Path(URL).name
    path.parent.mkdir(parents=True)
    torch.save(trunk.state_dict(), path)
    kind = {"model": "regnet_y_800mf", "init": "imagenet", "freeze": 1}
    backbone = started(settings(data, tmp_path / "run", **kind)).backbone
    ours = backbone.stem.state_dict() | {
        f"{i}.{name}": value for i, stage in enumerate(backbone.stages) for name, value in stage.state_dict().items()
    }
    theirs = trunk.stem.state_dict() | {
        f"{i}.{name}": value
        for i, stage in enumerate(trunk.trunk_output.children())
        for name, value in stage.state_dict().items()
    }
    assert list(ours) == list(theirs)
    assert equal(ours, theirs, theirs)
    assert not backbone.stem[0].weight.requires_grad


def test_imagenet_without_a_network(data, tmp_path, monkeypatch, capsys):
    """One line says what to fetch and where to put it; nothing is made."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))

    def no_network(*_, **__):
        raise URLError(socket.gaierror(-3, "Temporary failure in name resolution"))

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    kind = ["--model", "regnet_y_800mf", "--init", "imagenet"]
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", *kind))
    assert f"put {URL} into '{tmp_path / 'cache' / 'hub' / 'checkpoints'}'" in line
    assert "name resolution" in line
    assert not (tmp_path / "run").exists()


def test_imagenet_is_for_the_large_model(data, tmp_path):
    with pytest.raises(ValueError, match="ImageNet weights are for the model 'regnet_y_800mf', not for 'nano'"):
        train(settings(data, tmp_path, init="imagenet"))


def test_fresh_classifiers_are_drawn_from_a_stream_of_their_own(data, tmp_path, started):
    """The pretraining's seed would give the very classifiers that it began with."""
    torch.manual_seed(0)
    began = dyn_retinanet_nano(4)
    init = tmp_path / "own.safetensors"
    save_weights(began, init)
    kept = started(settings(data, tmp_path / "kept", init=str(init))).backbone.state_dict()
    redrawn = started(settings(data, tmp_path / "new", init=str(init), keep_classifiers=False)).backbone.state_dict()
    classifiers, others = split_names(began.backbone)
    theirs = began.backbone.state_dict()
    assert equal(kept, theirs, [*classifiers, *others])
    assert equal(redrawn, theirs, others)
    drawn = [name for name in classifiers if "weight" in name and theirs[name].ndim == 2]
    assert len(drawn) == 6
    assert not any(torch.equal(redrawn[name], theirs[name]) for name in drawn)


def test_a_resumed_run_does_not_need_its_beginning(data, tmp_path, started):
    """The file of --init is gone, its name still has to be the same."""
    init = tmp_path / "own.safetensors"
    save_weights(dyn_retinanet_nano(4), init)
    what = settings(data, tmp_path / "run", init=str(init))
    started(what)
    torch.save({}, tmp_path / "run" / "checkpoint.pt")
    init.unlink()
    started(settings(data, tmp_path / "run", init=str(init), resume=True))
    with pytest.raises(ValueError, match="init was '.*own.safetensors', is None"):
        started(settings(data, tmp_path / "run", resume=True))


# One class


def write_12_bits(folder, split):
    """Make the first photo of a split one of 12 bits, and its box smaller than a pixel."""
    Image.fromarray(np.linspace(0, 4095, 64 * 64).reshape(64, 64).astype(np.uint16)).save(folder / split / "0.png")
    path = folder / "annotations" / f"instances_{split}.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [9, 9, 0.5, 0.5]
    path.write_text(json.dumps(content))


def test_notes_of_both_splits_are_said_once(tmp_path):
    folder, notes = write_folder(tmp_path / "data", train=[(64, 64)] * 4, val=[(64, 64)] * 3), []
    write_12_bits(folder, "train")
    write_12_bits(folder, "val")
    train(settings(folder, tmp_path / "run", epochs=1, val_split="val"), on_start=notes.extend)
    bits = "photos, such as '0.png', the largest value is 4095, so 4095 is taken for white"
    assert [note for note in notes if "bits" in note] == [
        f"12 bits in a file of 16: 1 of 4 {bits}",
        f"val: 12 bits in a file of 16: 1 of 3 {bits}",
    ]
    tiny = "boxes, such as [9, 9, 0.5, 0.5] of '0.png', are under a pixel"
    assert [note for note in notes if "under a" in note] == [f"1 of 4 {tiny}", f"val: 1 of 3 {tiny}"]
    assert len(notes) == len(set(notes))


def write_one_class(out, empty):
    """Squares of one class, of which the first `empty` images have no box."""
    folder = write_folder(out, train=[(64, 64)] * 6)
    path = folder / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    content["categories"] = content["categories"][:1]
    content["annotations"] = [{**found, "category_id": 1} for found in content["annotations"][empty:]]
    path.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("empty", "said"),
    [
        (0, "all images show it, so they learn little: add images without it, with --allow-empty"),
        (2, "for a softmax over one class is always 1"),
    ],
)
def test_one_class_is_said_and_learned(tmp_path, empty, said):
    folder, notes = write_one_class(tmp_path / "data", empty), []
    now = settings(folder, tmp_path / "run", epochs=6, allow_empty=empty > 0, theta=1.0)
    rows = train(now, on_start=notes.extend)
    (note,) = notes
    assert note.startswith("one class: the exits say by a sigmoid how surely it is there") and note.endswith(said)
    assert rows[0]["exit"] > 0.1 and rows[-1]["exit"] < rows[0]["exit"]  # a softmax would have nothing to learn


def test_one_class_is_nothing_to_classify(tmp_path):
    folder = write_one_class(tmp_path / "data", 0)
    with pytest.raises(ValueError, match="one class, 'red', leaves --task classify nothing to tell apart"):
        train(settings(folder, tmp_path / "run", task="classify"))
    assert not (tmp_path / "run").exists()
