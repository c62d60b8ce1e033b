"""Weights from elsewhere in a model: a published checkpoint, our own files of classifiers and of other classes."""

import pytest
import torch
from published import make_state
from squares import equal, options, refused, split_names, state, write_folder

from earlyexit import dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf
from earlyexit.model.factories import ExitClassifier, load_init, make_model, nano_backbone
from earlyexit.weights import ModelConfig, save_weights


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
    source = make_model(ModelConfig("classify", "nano", [f"class {i}" for i in range(20)]))
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
    assert load_init(model.backbone, str(tmp_path / "own.safetensors"), classifiers=False) == classifiers


def test_sizes_of_a_classifier():
    """As the detector's, but for the limit unless that is given."""
    for sizes, expected in (({}, 256), ({"min_size": 96}, 192), ({"min_size": 96, "max_size": 100}, 100)):
        model = make_model(ModelConfig("classify", "nano", ["a", "b"], **sizes))
        assert model.transform.min_size[-1] == sizes.get("min_size", 128) and model.transform.max_size == expected
    assert max(model.eval().transform([torch.rand(3, 50, 200)])[0].image_sizes[0]) == 100


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
    with pytest.raises(ValueError, match="of another backbone: unexpected .*of another shape"):
        load_init(nano, str(published))
    other = nano_backbone(80)
    del other.stages[3]
    save_weights(ExitClassifier(other), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="of another backbone: .*stages.3"):
        load_init(nano, str(tmp_path / "other.safetensors"))
    assert equal(nano.state_dict(), before, before)
