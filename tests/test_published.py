"""Loading published weights: all of them or nothing, and a clear word about which."""

import copy
import re

import pytest
import torch
from published import make_state
from safetensors.torch import save_file

from earlyexit import dyn_retinanet_regnet_y_800mf, load_published_weights

PARTS = ("backbone", "neck", "head")


@pytest.fixture(scope="module")
def states():
    return {part: make_state(part) for part in PARTS}


@pytest.fixture(scope="module")
def empty():
    """A detector for 80 classes whose weights are all zero; tests work on a copy."""
    model = dyn_retinanet_regnet_y_800mf(80)
    for value in model.state_dict().values():
        value.zero_()
    return model


@pytest.fixture(scope="module")
def filled(empty, states):
    """The state of the detector with all parts loaded."""
    model = copy.deepcopy(empty)
    assert load_published_weights(model, **states) == []
    return model.state_dict()


def untouched(model):
    return all(not value.any() for value in model.state_dict().values())


def agrees(model, filled):
    return all(torch.equal(value, filled[name]) for name, value in model.state_dict().items())


def test_every_value_arrives_once(filled, states):
    """Names may change, values not: sums over all weights agree, and so do single ones by hand."""
    assert len(filled) == sum(len(state) for state in states.values())
    ours = sorted(value.double().sum().item() for value in filled.values())
    theirs = sorted(value.double().sum().item() for state in states.values() for value in state.values())
    assert ours == pytest.approx(theirs, abs=1e-9)
    for ours, part, theirs in (
        ("backbone.latents", "backbone", "latent"),
        ("backbone.classifiers.1.weight", "backbone", "classifier_att.weight"),
        ("backbone.classifiers.3.1.bias", "backbone", "classifier_merge.1.bias"),
        ("neck.fpn.extra_blocks.p7.weight", "neck", "fpn_convs.4.conv.weight"),
        ("head.regression_head.bbox_reg.bias", "head", "retina_reg.bias"),
    ):
        assert torch.equal(filled[ours], states[part][theirs].reshape(filled[ours].shape))


@pytest.mark.parametrize("part", PARTS)
def test_one_part_leaves_the_others(empty, states, filled, part):
    model = copy.deepcopy(empty)
    assert load_published_weights(model, **{part: states[part]}) == []
    for name, value in model.state_dict().items():
        if name.startswith(f"{part}."):
            assert torch.equal(value, filled[name])
        else:
            assert not value.any()


@pytest.mark.parametrize("part", PARTS)
def test_all_that_does_not_fit_is_listed_and_nothing_is_loaded(empty, states, part):
    spoilt = dict(states[part])
    names = [name for name, value in spoilt.items() if value.ndim > 1]
    del spoilt[names[-1]]
    spoilt[names[1]] = spoilt[names[1]][:-1]
    spoilt["stranger.weight"] = torch.ones(2)
    model = copy.deepcopy(empty)
    with pytest.raises(ValueError) as caught:
        load_published_weights(model, **{**states, part: spoilt})
    found = re.search(
        r"do not fit the (\w+): missing \[(.*)\] \(1 .*; unexpected \[(.*)\] \(1 .*; of another shape \[(.*)\] \(1 ",
        str(caught.value),
    )
    assert found is not None
    assert found[1] == part
    assert found[2].count("'") == 2
    assert found[3] == "'stranger.weight'"
    shape = tuple(states[part][names[1]].shape)
    assert found[4].count("'") == 2
    assert f"{(shape[0] - 1, *shape[1:])}, not {shape}" in found[4]
    assert untouched(model)


@pytest.mark.parametrize("change", ["missing", "unexpected", "misshapen"])
def test_one_fault_is_enough(empty, states, change):
    spoilt = dict(states["backbone"])
    if change == "missing":
        del spoilt["latent"]
    elif change == "unexpected":
        spoilt["latent_2"] = spoilt["latent"]
    else:
        spoilt["latent"] = spoilt["latent"].T
    model = copy.deepcopy(empty)
    with pytest.raises(ValueError, match="latent"):
        load_published_weights(model, backbone=spoilt)
    assert untouched(model)


def test_files(empty, states, filled, tmp_path):
    torch.save(states["backbone"], tmp_path / "backbone.pth")
    save_file(states["neck"], tmp_path / "neck.safetensors")
    torch.save({"model": states["head"], "epoch": 3}, tmp_path / "head.pth")
    model = copy.deepcopy(empty)
    given = {"backbone": tmp_path / "backbone.pth", "neck": str(tmp_path / "neck.safetensors")}
    assert load_published_weights(model, **given, head=tmp_path / "head.pth") == []
    assert agrees(model, filled)


def test_one_file_of_a_whole_detector(empty, states, filled, tmp_path):
    prefixes = {"backbone": "backbone.", "neck": "neck.", "head": "bbox_head."}
    whole = {prefixes[part] + name: value for part in PARTS for name, value in states[part].items()}
    torch.save({"meta": {"epoch": 12}, "state_dict": whole}, tmp_path / "detector.pth")
    model = copy.deepcopy(empty)
    assert load_published_weights(model, **dict.fromkeys(PARTS, tmp_path / "detector.pth")) == []
    assert agrees(model, filled)
    parallel = {f"module.{name}": value for name, value in states["backbone"].items()}
    model = copy.deepcopy(empty)
    load_published_weights(model.backbone, backbone={"state_dict": parallel})
    assert torch.equal(model.backbone.latents, filled["backbone.latents"])


def test_another_number_of_classes(states, filled):
    torch.manual_seed(0)
    model = dyn_retinanet_regnet_y_800mf(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.warns(UserWarning, match="another number of classes than 3"):
        left = load_published_weights(model, backbone=states["backbone"], neck=states["neck"])
    assert left
    assert all(name.startswith(("backbone.classifiers.", "backbone.carries.")) for name in left)
    assert {"backbone.classifiers.0.weight", "backbone.classifiers.3.1.bias", "backbone.carries.1.0.weight"} <= set(
        left
    )
    for name, value in model.state_dict().items():
        kept = name in left or name.startswith("head.")
        assert torch.equal(value, before[name] if kept else filled[name]), name


def test_head_of_another_number_of_classes_does_not_fit(states):
    model = dyn_retinanet_regnet_y_800mf(3)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"cls_logits.weight \(720, 256, 3, 3\), not \(27, 256, 3, 3\)"):
        load_published_weights(model, **states)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["lost.pth", "lost.safetensors", "folder"])
def test_no_file(empty, tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=f"no such file '.*{name}'"):
        load_published_weights(empty, backbone=tmp_path / name)


@pytest.mark.parametrize("name", ["x.pth", "x.safetensors"])
def test_a_file_of_something_else(empty, tmp_path, name):
    (tmp_path / name).write_text("no tensors")
    with pytest.raises(ValueError, match=f"{name}' is no file of tensors"):
        load_published_weights(empty, backbone=tmp_path / name)


@pytest.mark.parametrize("state", [{1: torch.ones(1)}, {"latent": 2}])
def test_what_is_no_state_dict(empty, state):
    with pytest.raises(ValueError, match="the weights of the backbone must be tensors by name, got"):
        load_published_weights(empty, backbone=state)


def test_nothing_given(empty):
    with pytest.raises(ValueError, match="at least one of"):
        load_published_weights(empty)
