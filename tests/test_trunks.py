"""Other people's networks as trunks: the same maps as there, in a detector that trains, is stored and exported."""

import builtins
import json
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from squares import nano, options, refused, settings, state, write_folder
from torch import nn
from torchvision.models import regnet_y_400mf

from earlyexit import cli, count_macs, dyn_retinanet_nano, dyn_retinanet_regnet_y_800mf, load_detector
from earlyexit.evaluation.cost import _count
from earlyexit.model import Chain, DynPerceiver, OnnxDetector, as_trunk, export_onnx, for_inference
from earlyexit.model.backbone import heads_of
from earlyexit.model.trunks import IMAGENET_MEAN, measured_widths, sync_norms, timm_trunk
from earlyexit.training.loop import train_mode
from earlyexit.training.run import freeze_stages, train
from earlyexit.weights import ModelConfig, read_about, save_weights

timm = pytest.importorskip("timm")
BLOCKS, LIST, LITE = "timm/mobilenetv3_small_050", "timm/regnetx_002", "timm/tf_efficientnet_lite0"
WIDTHS = {BLOCKS: (16, 8, 16, 24, 288), LIST: (32, 24, 56, 152, 368), LITE: (16, 24, 40, 112, 320)}


def images(count=2, height=64, width=96):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(1))


def convolutions(*widths):
    """A trunk of five convolutions, with statistics of its own."""
    stem, *stages = (nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise((3, *widths)))
    return Chain(stem, tuple(stages), widths, [0.1] * 3, [0.2] * 3)


def random_statistics(model):
    """Normalisations that do something, so that one that is skipped or folded wrongly is seen."""
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


@pytest.fixture(scope="module", params=[BLOCKS, LIST])
def named(request):
    """The name of a trunk, and a detector on it for four classes with random weights, in eval mode."""
    return request.param, random_statistics(nano(trunk=request.param, score_thresh=0.0))


@torch.inference_mode()
@pytest.mark.parametrize("name", WIDTHS)
def test_the_maps_are_those_of_timm(name):
    torch.manual_seed(0)
    whole = timm.create_model(name.removeprefix("timm/"), features_only=name not in (BLOCKS, LITE), num_classes=0)
    random_statistics(whole)
    theirs = whole(images()) if name not in (BLOCKS, LITE) else [whole.blocks(whole.bn1(whole.conv_stem(images())))]
    trunk, x = as_trunk(whole), images()
    maps = [x := part(x) for part in (trunk.stem, *trunk.stages)]
    assert [tuple(m.shape[1:]) for m in maps] == [(c, 64 >> i, 96 >> i) for i, c in enumerate(WIDTHS[name], 1)]
    assert trunk.widths == WIDTHS[name]
    for ours, expected in zip(maps[-len(theirs) :], theirs, strict=True):
        assert torch.equal(ours, expected)


def test_a_regnet_is_taken_as_it_is():
    regnet = regnet_y_400mf().train()
    trunk = as_trunk(regnet)
    assert trunk.stem is regnet.stem and list(trunk.stages) == list(regnet.trunk_output.children())
    assert trunk.widths == (32, 48, 104, 208, 440) and trunk.mean == IMAGENET_MEAN
    assert all(module.training for module in regnet.modules())
    assert not any(value.any() for key, value in regnet.state_dict().items() if key.endswith("running_mean"))


def test_a_trunk_of_your_own():
    own = convolutions(16, 24, 32, 48, 64)
    model = nano(trunk=own).eval()
    assert model.transform.image_mean == [0.1] * 3 and model.backbone.out_channels["c5"] == 64
    assert len(model(list(images()))) == 2
    wrong = Chain(own.stem, own.stages, (16, 24, 32, 48, 65), own.mean, own.std)
    with pytest.raises(ValueError, match=r"must be \(16, 24, 32, 48, 64\), got \(16, 24, 32, 48, 65\)"):
        dyn_retinanet_nano(trunk=wrong)
    with pytest.raises(ValueError, match="has the weights that you gave it, got trunk_weights='DEFAULT'"):
        dyn_retinanet_nano(trunk=own, trunk_weights="DEFAULT")


@pytest.mark.parametrize("values", [[123.7, 116.3, 103.5], [0.5], 0.5, [0.5, 0.5, -0.1], [0.5, 0.5, float("nan")]])
@pytest.mark.parametrize("what", ["mean", "std"])
def test_colours_of_a_trunk_of_your_own(what, values):
    """Images come as numbers from 0 to 1: with a mean of bytes the network would see three flat colours."""
    own = replace(convolutions(16, 24, 32, 48, 64), **{what: values})
    with pytest.raises(ValueError, match=f"the {what} of the trunk 'Chain' must be three numbers from 0 to 1, got"):
        dyn_retinanet_nano(trunk=own)


def test_a_file_of_a_trunk_of_your_own(tmp_path):
    """Its card cannot name the trunk, which goes with it; whoever forgets that is told."""
    widths, path = (16, 24, 32, 48, 64), tmp_path / "x.safetensors"
    model = nano(trunk=convolutions(*widths)).eval()
    save_weights(model, path, about={"task": "detect", "model": "nano", "classes": ["a", "b", "c", "d"]})
    again, _ = load_detector(path, trunk=convolutions(*widths))
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ValueError, match="load_detector.*with trunk=... if it is yours"):
        load_detector(path)


@torch.inference_mode()
def test_all_exits(named):
    name, model = named
    assert model.backbone.out_channels == {f"c{i}": c for i, c in enumerate(WIDTHS[name][1:], 2)}
    together, alone = (list(model.backbone.exits(batch)) for batch in (images(), images()[1:]))
    for exit, (both, one) in enumerate(zip(together, alone, strict=True), 1):
        torch.testing.assert_close(both.logits[1:], one.logits, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.features["c3"][1:], one.features["c3"], rtol=1e-4, atol=1e-5)
        found = model(list(images()), exit=exit)
        assert [(image["exit"], len(image["boxes"]) > 0) for image in found] == [(exit, True)] * 2


def test_a_training_step_reaches_every_part(named):
    model = nano(trunk=named[0]).train()
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([k])} for k in (0, 1)]
    losses = model(list(images()), targets)
    sum(losses.values()).backward()
    backbone = model.backbone
    for part in (backbone.stem, *backbone.stages):
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in part.parameters())
        assert any(p.grad.abs().max() > 0 for p in part.parameters())


def test_the_paper_s_sizes_stay():
    backbone = dyn_retinanet_regnet_y_800mf(3, trunk=BLOCKS).backbone
    assert backbone.latents.shape == (128, 16)
    assert [len(read.blocks) for read in backbone.reads] == [3, 3, 9, 6]


@pytest.mark.parametrize(
    ("width", "heads"), [(32, 1), (64, 2), (144, 4), (320, 8), (24, 1), (40, 1), (56, 2), (112, 4), (368, 8), (150, 2)]
)
def test_heads_follow_from_the_width(width, heads):
    assert heads_of(width) == heads


def test_a_width_that_cannot_be_divided():
    with pytest.raises(ValueError, match="heads must divide qkv_dim, got heads=3 and qkv_dim=16"):
        DynPerceiver(timm_trunk(BLOCKS), 3, heads=(3, 1, 1, 1))
    with pytest.raises(ValueError, match=r"all must be 8 at least, got \(16, 24, 6, 48, 64\)"):
        DynPerceiver(convolutions(16, 24, 6, 48, 64), 3)


def test_normalisation_is_the_trunk_s_own(tmp_path):
    model = nano(trunk=LITE)
    assert model.transform.image_mean == model.transform.image_std == [0.5, 0.5, 0.5]
    card = {"task": "detect", "model": "nano", "classes": ["a", "b", "c", "d"], "trunk": LITE, "min_size": 64}
    assert ModelConfig.of(card).card()["trunk"] == LITE
    save_weights(model, tmp_path / "x.safetensors", about=card)
    again, _ = load_detector(tmp_path / "x.safetensors")
    assert again.transform.image_mean == again.transform.image_std == [0.5, 0.5, 0.5]
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    assert nano().transform.image_mean == IMAGENET_MEAN
    with pytest.raises(ValueError, match=f"'trunk': '{LITE}'"):
        dyn_retinanet_nano(4, weights=tmp_path / "x.safetensors")


@pytest.mark.parametrize("stages", [1, 2])
def test_frozen_stages(named, stages):
    model = nano(trunk=named[0])
    freeze_stages(model.backbone, stages)
    frozen = {name for name, p in model.backbone.named_parameters() if not p.requires_grad}
    first = ("stem.", *(f"{part}.{i}." for part in ("stages", "reads") for i in range(stages)))
    assert frozen and frozen == {name for name, _ in model.backbone.named_parameters() if name.startswith(first)}
    train_mode(model)
    before = state(model.backbone)
    model.backbone(images())
    changed = {name for name, value in model.backbone.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and not any(name.startswith(first) for name in changed)


def test_macs_grow_with_the_exits(named):
    """And those of a stem of one convolution are what they are by hand."""
    macs = [parts["backbone"] for parts in count_macs(named[1], (64, 96)).values()]
    assert macs == sorted(set(macs))
    stem = _count(named[1].backbone.stem[0], images(1))
    assert stem >= 32 * 48 * 27 * WIDTHS[named[0]][0]
    assert named[0] == LIST or stem == 32 * 48 * 27 * 16


def test_for_inference_keeps_the_activations(named):
    name, model = named
    fast = for_inference(model)
    assert name == LIST or isinstance(fast.backbone.stem.bn1[1], nn.Hardswish)
    for ours, folded in zip(model.backbone(images()), fast.backbone(images()), strict=True):
        torch.testing.assert_close(folded, ours, rtol=1e-4, atol=1e-4)


def test_onnx(tmp_path):
    pytest.importorskip("onnxruntime")
    model = nano(trunk=BLOCKS, score_thresh=0.0, detections_per_img=5)
    for read in model.backbone.reads:
        read.blocks = read.blocks[:0]
    for part in (part for stage in model.backbone.stages for part in stage):
        del part[1:]  # blocks without which the exporter is sooner done
    for tower in (model.head.classification_head, model.head.regression_head):
        tower.conv = tower.conv[:0]
    random_statistics(model)
    export_onnx(model, tmp_path, (64, 96), (4,))
    ours, theirs = model(list(images())), OnnxDetector(tmp_path, model)(list(images()))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one["scores"], other["scores"], rtol=1e-3, atol=1e-5)


def test_sync_keeps_the_activations():
    model = timm_trunk(BLOCKS).stem
    act = model.bn1.act
    assert sync_norms(model).bn1.act is act and isinstance(model.bn1, nn.SyncBatchNorm)
    assert isinstance(sync_norms(nn.Sequential(nn.BatchNorm2d(3)))[0], nn.SyncBatchNorm)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("vit_tiny_patch16_224", "a FeatureGetterNet does not run stage by stage"),
        ("levit_128s", "a FeatureGetterNet does not run stage by stage"),
        ("hrnet_w18_small", "a HighResolutionNetFeatures does not run stage by stage"),
        ("swin_tiny_patch4_window7_224", "its maps are NHWC"),
        ("convnext_atto", "it has no map at stride 2"),
        ("pvt_v2_b0", "its stem makes .* not stride 2"),
        ("selecsls42b", "its part 'features_0' cannot run an image"),
    ],
)
def test_networks_that_are_no_trunks(name, why):
    with pytest.raises(ValueError, match=rf"'timm/{name}' cannot be a trunk, {why}.*e.g. 'timm/tf_efficientnet_lite0'"):
        timm_trunk(f"timm/{name}")


def test_modules_that_are_no_trunks():
    with pytest.raises(ValueError, match="a Linear is neither a Trunk nor a RegNet nor a network of timm"):
        DynPerceiver(nn.Linear(1, 1), 3)
    with pytest.raises(ValueError, match="a ResNet does not run stage by stage"):
        as_trunk(timm.create_model("resnet10t"))
    stages = [nn.MaxPool2d(2), nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2)), nn.MaxPool2d(2), nn.MaxPool2d(2)]
    with pytest.raises(ValueError, match="its stage 2 changes the map in place"):
        measured_widths(nn.MaxPool2d(2), stages, "mine")
    with pytest.raises(ValueError, match=r"its stage 3 makes \(1, 3, 8, 12\) .*not stride 16"):
        measured_widths(nn.MaxPool2d(2), [nn.MaxPool2d(2), nn.MaxPool2d(2), nn.Identity()], "mine")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnet18", "trunk must be 'timm/' and a name of timm.*got 'resnet18'"),
        ("", "trunk must be .*got ''"),
        ("timm/tf_efficientnet_light0", "timm .* has no 'timm/tf_efficientnet_light0', but .*'tf_efficientnet_lite0'"),
    ],
)
def test_unknown_names(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        dyn_retinanet_nano(trunk=name)
    with pytest.raises(ValueError, match=message):
        train(settings(tmp_path / "none", tmp_path, trunk=name))


def test_without_timm(monkeypatch):
    plain = builtins.__import__

    def lacks_timm(name, *more):
        if name == "timm":
            raise ImportError(name)
        return plain(name, *more)

    monkeypatch.setattr(builtins, "__import__", lacks_timm)
    with pytest.raises(ValueError, match=f"the trunk '{LITE}' needs the package timm: pip install timm"):
        dyn_retinanet_nano(trunk=LITE)


# Weights


@pytest.fixture(scope="module", params=[BLOCKS, LIST])
def file_of(request, tmp_path_factory):
    """The name of a trunk, the state of the whole network there with its classifier, and a file of it."""
    torch.manual_seed(3)
    whole = random_statistics(timm.create_model(request.param.removeprefix("timm/"))).state_dict()
    path = tmp_path_factory.mktemp("timm") / "whole.pth"
    torch.save({"state_dict": {f"module.{name}": value for name, value in whole.items()}}, path)
    return request.param, whole, path


def values(trunk):
    """What a trunk's state dict holds, in order: the names are not those of timm."""
    return [value for part in (trunk.stem, *trunk.stages) for value in part.state_dict().values()]


def holds(trunk, whole):
    """Whether a trunk has the first tensors of a state dict: what comes after them is timm's last layers."""
    ours = values(trunk)
    return len(ours) > 100 and all(map(torch.equal, ours, list(whole.values())[: len(ours)]))


def test_a_file_of_timm_s(file_of):
    name, whole, path = file_of
    assert not holds(timm_trunk(name), whole)
    assert holds(timm_trunk(name, path), whole)


def test_a_file_that_lacks_a_tensor_or_has_another(file_of, tmp_path):
    name, whole, _ = file_of
    names = list(whole)
    damaged = {key: value for key, value in whole.items() if key != names[7]}
    damaged |= {names[0]: whole[names[0]][:1], "more": torch.zeros(1)}
    torch.save(damaged, tmp_path / "x.pt")
    with pytest.raises(ValueError) as refusal:
        timm_trunk(name, tmp_path / "x.pt")
    text = str(refusal.value)
    assert f"is no state dict of '{name}'" in text and "in-order" not in text
    for what in (f"missing ['{names[7]}'] (1", "unexpected ['more'] (1", f"another shape ['{names[0]} ("):
        assert what in text
    with pytest.raises(ValueError, match="do not fit the .* one by one"):
        timm_trunk(name, f"in-order:{tmp_path / 'x.pt'}")
    with pytest.raises(ValueError, match="no such file"):
        timm_trunk(name, "nowhere.pth")


def test_other_names_fit_in_order_only_if_asked(file_of, tmp_path):
    name, whole, _ = file_of
    path = tmp_path / "x.pth"
    renamed = {f"their_{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(whole.items())}
    torch.save(renamed, path)
    with pytest.raises(ValueError, match=f"All {len(whole)} fit in order, though: in-order:.*x.pth takes them so"):
        timm_trunk(name, path)
    with pytest.warns(UserWarning, match=f"the {len(whole)} tensors .* in order: all shapes fit, but no name"):
        assert holds(timm_trunk(name, f"in-order:{path}"), whole)
    swapped = list(renamed.items())
    at = next(i for i, (key, _) in enumerate(swapped) if key.endswith("running_mean"))
    swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]  # the variance has the same shape
    torch.save(dict(swapped), path)
    with pytest.raises(ValueError, match="do not fit the .* one by one"):
        timm_trunk(name, f"in-order:{path}")


def test_timm_s_own_weights(file_of, monkeypatch):
    """From a file in the place of the download, by the way that timm itself goes."""
    name, whole, path = file_of
    plain = timm.create_model

    def offline(*arguments, pretrained=False, **more):
        overlay = {"pretrained_cfg_overlay": {"file": str(path)}} if pretrained else {}
        return plain(*arguments, pretrained=pretrained, **overlay, **more)

    monkeypatch.setattr(timm, "create_model", offline)
    assert holds(timm_trunk(name, "DEFAULT"), whole)
    model = dyn_retinanet_nano(4, trunk=name, trunk_weights="DEFAULT")
    assert torch.equal(next(iter(model.backbone.stem.state_dict().values())), next(iter(whole.values())))


def test_without_a_network(file_of, monkeypatch):
    plain = timm.create_model

    def no_network(*arguments, pretrained=False, **more):
        if pretrained:
            raise FileNotFoundError("no connection")
        return plain(*arguments, **more)

    monkeypatch.setattr(timm, "create_model", no_network)
    source = timm.models.get_pretrained_cfg(file_of[0].removeprefix("timm/")).hf_hub_id
    with pytest.raises(ValueError, match=f"no connection.*get the file of '{source}'.*--init FILE"):
        timm_trunk(file_of[0], "DEFAULT")


def test_a_network_without_weights():
    assert not timm.models.get_pretrained_cfg("regnetz_005").has_weights
    with pytest.raises(ValueError, match="timm has no weights of 'timm/regnetz_005'"):
        timm_trunk("timm/regnetz_005", "DEFAULT")


# Training


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4)


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["earlyexit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return ended.value.code


def test_a_run_from_the_command_line(data, file_of, tmp_path, monkeypatch, capsys):
    name, whole, path = file_of
    out = tmp_path / "run"
    how = [*options(out), "--epochs", 1, "--trunk", name, "--init", path, "--freeze", 1, "--norm", "frozen"]
    assert command(monkeypatch, "train", data, *how) == 0
    assert read_about(out)["trunk"] == json.loads((out / "settings.json").read_text())["settings"]["trunk"] == name
    model, classes = load_detector(out)
    assert len(classes) == 4
    stem = model.backbone.stem.state_dict().values()
    assert all(map(torch.equal, stem, whole.values()))  # frozen, as the file had it
    assert not holds(Chain(model.backbone.stem, model.backbone.stages, (), (), ()), whole)
    assert "trunk was" in refused(capsys, monkeypatch, "train", data, *options(out), "--epochs", 1, "--resume")
    again = tmp_path / "again"  # our own file, which has a whole backbone
    how = [*options(again), "--epochs", 1, "--trunk", name, "--init", out / "model.safetensors", "--freeze", 4]
    assert command(monkeypatch, "train", data, *how) == 0
    ours, first = load_detector(again)[0].backbone, model.backbone
    assert torch.equal(next(ours.stages[3].parameters()), next(first.stages[3].parameters()))


def test_a_classifier(data, tmp_path):
    train(settings(data, tmp_path / "run", trunk=BLOCKS, task="classify", epochs=1))
    assert read_about(tmp_path / "run")["trunk"] == BLOCKS


def test_published_checkpoints_are_for_regnets(data, tmp_path, capsys, monkeypatch):
    path = tmp_path / "published.pth"
    torch.save({"model": {"latent": torch.zeros(1)}}, path)
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--trunk", BLOCKS, "--init", path))
    assert f"is no state dict of '{BLOCKS}': missing ['conv_stem.weight'" in line
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--trunk", BLOCKS, "--init", "huh"))
    assert "init must be 'imagenet', one of" in line
    assert not (tmp_path / "run").exists()
