"""The model gives the numbers of the published one: every figure in `parity/` is compared."""

import json
import warnings

import numpy as np
import pytest
import torch
from published import PARITY, SHAPES, figures_of, make_state, published_detector

from earlyexit import (
    DynPerceiver,
    calibrate_thresholds,
    count_macs,
    exit_loss,
    exit_proportions,
    load_published_weights,
)

FIGURES = json.loads((PARITY / "figures.json").read_text())


@pytest.fixture(scope="session")
def published():
    return published_detector()


@pytest.fixture(scope="session")
def recorded():
    with np.load(PARITY / "figures.npz") as file:
        return dict(file)


@pytest.fixture(scope="session")
def computed(published):
    """All that `figures.npz` holds, from this package's model: a dict under the same keys."""
    with torch.inference_mode():
        return {key: value for tag in SHAPES for key, value in figures_of(published, tag)}


PLACES = [f"{tag}/{place}" for tag in SHAPES for place in ("logits", "exit1", "exit2", "exit3", "exit4")]


@pytest.mark.parametrize("place", PLACES)
def test_figures_agree(place, computed, recorded):
    keys = [key for key in recorded if key.startswith(f"{place}/")]
    assert keys
    for key in keys:
        ours, theirs = computed[key], recorded[key]
        assert ours.shape == theirs.shape, key
        assert np.abs(ours - theirs).max() <= 1e-4 * np.abs(theirs).max(), key


def test_every_figure_was_compared(computed, recorded):
    assert set(computed) == set(recorded)
    assert all(key.startswith(tuple(f"{place}/" for place in PLACES)) for key in recorded)


def test_figures_can_tell_the_variants_apart(recorded):
    """The figures themselves differ where the model must not mix things up."""
    for tag in SHAPES:
        for first, second in (("exit3/c5", "exit4/c5"), ("exit1/zero/p3", "exit1/downsample/p3")):
            theirs, others = recorded[f"{tag}/{first}"], recorded[f"{tag}/{second}"]
            assert np.abs(theirs - others).max() > 0.01 * np.abs(theirs).max()


def test_published_weights_fill_a_bare_backbone(published):
    from torchvision.models import regnet_y_800mf

    backbone = DynPerceiver(regnet_y_800mf(), 80)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_published_weights(backbone, backbone=make_state("backbone")) == []
    ours = published.backbone.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in backbone.state_dict().items())


def test_parameter_counts(published):
    def count(module):
        return sum(p.numel() for p in module.parameters())

    assert count(published.backbone) == FIGURES["parameters"]["backbone"] == 18_453_240
    assert count(published) == FIGURES["parameters"]["detector"] == 28_187_116


def test_gmacs(published):
    counted = count_macs(published, (800, 1088))
    totals = [counted[exit]["total"] for exit in (1, 2, 3, 4)]
    assert totals == pytest.approx(FIGURES["gmacs_fvcore"]["800x1088"], rel=0.005)


def test_exit_proportions():
    rows = exit_proportions()
    assert rows.shape == (34, 4)
    assert rows[:33].numpy() == pytest.approx(np.array(FIGURES["exit_proportions"]), abs=1e-6)
    assert rows[33].tolist() == [0, 0, 0, 1]


def test_thresholds():
    facts = FIGURES["thresholds"]
    generator = np.random.RandomState(facts["seed"])
    logits = generator.standard_normal((4, facts["n"], facts["classes"])).astype(np.float32)
    logits *= np.array([1.5, 2.0, 2.2, 2.5], dtype=np.float32)[:, None, None]
    confidences = torch.from_numpy(logits).softmax(2).amax(2)
    for index, expected in zip(facts["indices"], facts["values"], strict=True):
        found = calibrate_thresholds(confidences, exit_proportions()[index - 1])
        assert found == pytest.approx(expected, rel=1e-5), index


def test_exit_loss():
    facts = FIGURES["exit_loss"]
    generator = np.random.RandomState(facts["seed"])
    logits = [torch.from_numpy(generator.standard_normal((6, 80)).astype(np.float32) * 2) for _ in range(4)]
    labels = torch.from_numpy(generator.randint(0, 80, 6))
    assert exit_loss(logits, labels).item() == pytest.approx(facts["with_distillation"], rel=1e-5)
    assert exit_loss(logits, labels, distillation=0).item() == pytest.approx(facts["without_distillation"], rel=1e-5)
