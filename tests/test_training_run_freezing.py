"""What is not trained stays as it is, bit for bit, statistics included; everything else changes."""

import copy

import pytest
import torch
from squares import Squares, state, steps
from squares import nano as fresh
from torch import nn

from earlyexit import JointLoss, dyn_retinanet_nano
from earlyexit.training import run, set_norms, train_mode
from earlyexit.training.loop import fit
from earlyexit.training.run import freeze_all_but_early, freeze_stages

FIRST = ("stem.", "stages.0.", "reads.0.")  # frozen with one stage


def trained(model, out):
    """Train two steps; the names of the weights and statistics that changed, and of those that did not."""
    before = state(model)
    fit(model, Squares([(64, 64)] * 4), steps(out, epochs=1, batch_size=2, warmup=0, lr=1e-2))
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
    monkeypatch.setattr(run, "process_state", lambda: type("State", (), {"num_processes": processes}))
    model = set_norms(model, "sync")
    kinds = {isinstance(m, nn.SyncBatchNorm) for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
    assert kinds == {converted}
    assert list(model.state_dict()) == names
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen


# Early exits alone

IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(i)) for i in range(4)]
TARGETS = [{"boxes": torch.tensor([[5.0, 8.0, 50.0, 60.0]]), "labels": torch.tensor([i])} for i in range(4)]


@pytest.fixture(scope="module")
def early():
    torch.manual_seed(0)
    made = dyn_retinanet_nano(5, filler="learned", opinions=(1, 2, 3), score_thresh=0.0)
    for module in made.modules():  # as after a training: no normalisation is the identity
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return made.eval()


def test_only_early_parts_are_trained(early):
    trained = copy.deepcopy(early)
    freeze_all_but_early(trained)
    trained.loss = JointLoss(theta=0.0, exits=(1, 2, 3))
    before = {name: p.clone() for name, p in trained.state_dict().items()}
    train_mode(trained)
    optimizer = torch.optim.SGD([p for p in trained.parameters() if p.requires_grad], lr=0.1)
    sum(trained(IMAGES, TARGETS).values()).backward()
    optimizer.step()
    trained.eval()
    changed = {name for name, p in trained.state_dict().items() if not torch.equal(p, before[name])}
    parts = {name for name, _ in early.named_parameters() if name.startswith(("early_", "opinions."))}
    assert changed == parts
    for exit in (1, 2, 3, 4):
        with torch.inference_mode():
            ours, theirs = trained(IMAGES, exit=exit)[0]["scores"], early(IMAGES, exit=exit)[0]["scores"]
        assert torch.equal(ours, theirs) == (exit == 4)


def test_without_early_parts_there_is_nothing_to_train():
    with pytest.raises(ValueError, match='use filler="learned"'):
        freeze_all_but_early(dyn_retinanet_nano(5))
