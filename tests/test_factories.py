"""What a training starts from: torchvision's ImageNet weights, a published checkpoint, our own files."""

import socket
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from published import make_state
from squares import options, refused, settings, write_folder
from torchvision.models import RegNet_Y_800MF_Weights, regnet_y_800mf

from earlyexit import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from earlyexit.model.factories import ExitClassifier, load_backbone, load_init, make_classifier, nano_backbone
from earlyexit.training import run as training
from earlyexit.weights import save_weights

URL = RegNet_Y_800MF_Weights.DEFAULT.url
CLASSIFIERS = ("classifiers.", "carries.")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 2)


@pytest.fixture(scope="module")
def theirs():
    """The weights of a published Dyn-Perceiver for 80 classes, under the published names."""
    return make_state("backbone")


@pytest.fixture(scope="module")
def published(theirs, tmp_path_factory):
    """A file of them as its authors write it."""
    path = tmp_path_factory.mktemp("published") / "regnety800mf.pth"
    torch.save({"model": theirs}, path)
    return path


@pytest.fixture(scope="module")
def whole(published):
    """The backbone for 80 classes that was loaded from it, and what was left out."""
    backbone = dyn_retinanet_regnet_y_800mf(80).backbone
    return backbone, load_init(backbone, str(published))


@pytest.fixture
def started(monkeypatch):
    """`started(settings)`: the model as `train` hands it to the loop."""

    def start(what):
        models = []
        monkeypatch.setattr(training, "fit", lambda model, *_, **__: models.append(model))
        training.train(what)
        return models[0]

    return start


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def equal(first, second, names):
    return all(torch.equal(first[name], second[name]) for name in names)


def split_names(backbone):
    names = list(backbone.state_dict())
    classifiers = [name for name in names if name.startswith(CLASSIFIERS)]
    return classifiers, [name for name in names if name not in classifiers]


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
        training.train(settings(data, tmp_path, init="imagenet"))


def test_published_checkpoint_for_the_same_classes(whole, theirs, published):
    backbone, left = whole
    assert left == []
    ours = backbone.state_dict()
    assert len(ours) == len(theirs)
    assert torch.equal(ours["classifiers.3.1.weight"], theirs["classifier_merge.1.weight"])
    assert torch.equal(ours["latents"], theirs["latent"].reshape(ours["latents"].shape))
    assert load_init(backbone, str(published), classifiers=False) == split_names(backbone)[0]


def test_published_checkpoint_for_other_classes(whole, published, tmp_path):
    """All but the classifiers is loaded; those stay as they were, and are named."""
    model = dyn_retinanet_regnet_y_800mf(4)
    before = state(model.backbone)
    left = load_init(model.backbone, str(published))
    classifiers, others = split_names(model.backbone)
    assert sorted(left) == sorted(classifiers)
    after = model.backbone.state_dict()
    assert equal(after, whole[0].state_dict(), others)
    assert equal(after, before, classifiers)


@pytest.mark.parametrize(("classes", "loaded"), [(20, True), (4, False)])
def test_own_weights(classes, loaded, tmp_path):
    """A classifier's file in a detector's backbone; with another number of classes without its classifiers."""
    torch.manual_seed(1)
    source = make_classifier("nano", 20)
    save_weights(source, tmp_path / "own.safetensors")
    model = dyn_retinanet_nano(classes)
    before, theirs = state(model.backbone), source.backbone.state_dict()
    classifiers, others = split_names(model.backbone)
    assert sorted(load_init(model.backbone, str(tmp_path / "own.safetensors"))) == (
        [] if loaded else sorted(classifiers)
    )
    after = model.backbone.state_dict()
    assert equal(after, theirs, others)
    assert equal(after, theirs if loaded else before, classifiers)
    assert load_backbone(model.backbone, tmp_path / "own.safetensors", classifiers=False) == classifiers


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


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut off"])
def test_files_that_are_none(data, tmp_path, capsys, monkeypatch, content):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--init", path))
    assert f"init: '{path}' is no file of tensors" in line
    path.unlink()
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--init", path))
    assert line == f"earlyexit: init: no such file '{path}'"


def test_weights_of_another_model(published, tmp_path):
    nano = dyn_retinanet_nano(80).backbone
    before = state(nano)
    with pytest.raises(ValueError, match="the weights do not fit the backbone"):
        load_init(nano, str(published))
    other = nano_backbone(80)
    del other.stages[3]
    save_weights(ExitClassifier(other), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="of another backbone: .*stages.3"):
        load_init(nano, str(tmp_path / "other.safetensors"))
    assert equal(nano.state_dict(), before, before)
