"""What is not trained stays as it is, bit for bit, statistics included; everything else changes."""

import pytest
import torch
from squares import Squares
from torch import nn

from earlyexit import dyn_retinanet_nano
from earlyexit.training import freeze_stages, set_norms, train_mode
from earlyexit.training import run as freezing
from earlyexit.training.loop import fit, make_optimizer

FIRST = ("stem.", "stages.0.", "reads.0.")  # frozen with one stage


def fresh():
    torch.manual_seed(0)
    return dyn_retinanet_nano(4, min_size=64)


def state(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def trained(model, out):
    """Train two steps; the names of the weights and statistics that changed, and of those that did not."""
    before = state(model)
    fit(model, Squares([(64, 64)] * 4), out, epochs=1, batch_size=2, warmup=0, lr=1e-2)
    after = model.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    return changed, set(before) - changed


@pytest.mark.parametrize("stages", [0, 1, 2, 4])
def test_which_parameters_train(nano, stages):
    model = fresh()
    freeze_stages(model.backbone, stages)
    stage = [f"{part}.{i}." for part in ("stages", "reads") for i in range(stages)]
    parts = ("stem.", *stage) if stages else ()
    frozen = {name for name, p in model.backbone.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.backbone.named_parameters() if name.startswith(parts)}
    assert all(p.requires_grad for part in (model.neck, model.head) for p in part.parameters())


@pytest.mark.parametrize("stages", [-1, 5, 1.5])
def test_impossible_stages(nano, stages):
    with pytest.raises(ValueError, match=f"frozen stages, 0 to 4, got {stages}"):
        freeze_stages(nano.backbone, stages)


def test_frozen_stages_keep_weights_and_statistics(tmp_path):
    model = fresh()
    freeze_stages(model.backbone, 1)
    changed, kept = trained(model, tmp_path)
    assert {name.removeprefix("backbone.") for name in kept} == {
        name for name in model.backbone.state_dict() if name.startswith(FIRST)
    }
    assert {name for name in kept if name.endswith("running_var")}
    assert {name for name in changed if name.endswith("running_mean") and ".stages.1." in name}


def test_frozen_norms_keep_weights_and_statistics(tmp_path):
    model = set_norms(fresh(), "frozen")
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    changed, kept = trained(model, tmp_path)
    assert kept == {name for name in model.state_dict() if name.rpartition(".")[0] in norms}
    assert len(norms) > 20 and any("classifiers" in name for name in norms)
    assert {name.rpartition(".")[2] for name in kept} >= {"weight", "bias", "running_mean", "running_var"}


def test_only_frozen_norms_are_in_eval_mode():
    model = fresh()
    freeze_stages(model.backbone, 1)
    model.eval()
    train_mode(model)
    norms = {n: m for n, m in model.backbone.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert {n for n, m in norms.items() if not m.training} == {n for n in norms if n.startswith(FIRST)}
    assert model.training and model.backbone.stem.training


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_optimiser_leaves_frozen_weights_alone(name):
    model = set_norms(fresh(), "frozen")
    freeze_stages(model.backbone, 2)
    held = {id(p) for group in make_optimizer(model, name).param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}
    assert len(held) < len(list(model.parameters()))


def test_unknown_norm(nano):
    with pytest.raises(ValueError, match="norm must be one of .*got 'group'"):
        set_norms(nano, "group")


def test_sync_needs_gpus(monkeypatch):
    model = fresh()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="norm 'sync' needs GPUs, there is none here: use 'batch'"):
        set_norms(model, "sync")


@pytest.mark.parametrize(("processes", "converted"), [(1, False), (2, True)])
def test_sync_replaces_the_norms_of_several_processes(monkeypatch, processes, converted):
    """And leaves what is frozen frozen, and the names of the weights as they are."""
    model = fresh()
    freeze_stages(model.backbone, 1)
    names, frozen = list(model.state_dict()), {n for n, p in model.named_parameters() if not p.requires_grad}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(freezing, "process_state", lambda: type("State", (), {"num_processes": processes}))
    model = set_norms(model, "sync")
    kinds = {isinstance(m, nn.SyncBatchNorm) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {converted}
    assert list(model.state_dict()) == names
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen
