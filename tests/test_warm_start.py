"""A trained detector goes on with other classes: what carries over, what is fresh, what is refused."""

import pytest
import torch
from safetensors.torch import load_file
from squares import CLASSES, command, options, refused, settings, weights, write_folder

from earlyexit import dyn_retinanet_nano
from earlyexit.model.factories import describe_fresh, load_warm_start
from earlyexit.training.run import train
from earlyexit.weights import save_weights

OF_CLASSES = ("backbone.classifiers.", "backbone.carries.", "head.classification_head.cls_logits.")
OWN = tuple(f"early_heads.{exit}.classification_head.cls_logits." for exit in (1, 2, 3))


def detector(classes, **kind):
    """A detector of which no value is that of fresh weights, opinions and statistics included."""
    made = dyn_retinanet_nano(classes, min_size=64, **kind)
    with torch.no_grad():
        for value in made.state_dict().values():
            value.add_(1) if value.dtype == torch.int64 else value.add_(torch.rand_like(value) + 0.1)
    return made


def stored(path, model, classes=None):
    save_weights(model, path, about={"classes": classes} if classes else {})
    return path


@pytest.mark.parametrize("now", [1, 3, 7])
@pytest.mark.parametrize("kind", [{}, {"filler": "learned", "opinions": (1, 2)}])
def test_all_but_the_class_layers_carries_over(tmp_path, kind, now):
    before = detector(5, **kind)
    model = dyn_retinanet_nano(now, min_size=64, **kind)
    first = {name: value.clone() for name, value in model.state_dict().items()}
    fresh = load_warm_start(model, stored(tmp_path / "before.safetensors", before))
    after, trained = model.state_dict(), before.state_dict()
    of_classes = (*OF_CLASSES, *OWN, "opinions.")
    assert set(fresh) == {name for name in after if name.startswith(of_classes)}
    assert len(fresh) > 20 and len(after) - len(fresh) > 300
    for name, value in after.items():
        expected = first[name] if name in fresh else trained[name]
        assert torch.equal(value, expected), name
        assert name in fresh or not torch.equal(value, first[name]), name
    said = "the exits' classifiers, the heads' class layers" + (", the opinions" if kind else "")
    assert describe_fresh(fresh) == said
    image, box = torch.rand(3, 64, 64), torch.tensor([[8.0, 8, 40, 40]])
    targets = [{"boxes": box, "labels": torch.tensor([i % now])} for i in range(2)]
    sum(model.train()([image, image], targets).values()).backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if name.startswith("head."))


def test_as_many_classes_of_other_names(tmp_path):
    path = stored(tmp_path / "before.safetensors", detector(2), ["cat", "dog"])
    for names, left in ((["cat", "dog"], False), (None, False), (["cat", "cow"], True), (["dog", "cat"], True)):
        fresh = load_warm_start(dyn_retinanet_nano(2), path, names)
        assert bool(fresh) == left and all(name.startswith(OF_CLASSES) for name in fresh)


def test_parts_of_early_exits_and_classes_may_both_be_missing(tmp_path):
    fresh = load_warm_start(dyn_retinanet_nano(3, filler="learned"), stored(tmp_path / "a.safetensors", detector(5)))
    said = "the exits' classifiers, the heads' class layers, the early exits' own necks and heads"
    assert describe_fresh(fresh) == said and describe_fresh([]) == ""


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        ({"head_convs": 4}, "head.classification_head.conv.2.0.weight"),
        ({"filler": "learned"}, "early_heads.1"),
        ({"opinions": (1,)}, "opinions.1.gain"),
    ],
)
def test_other_detectors_are_still_refused(tmp_path, kind, wrong):
    path = stored(tmp_path / "before.safetensors", detector(5, **kind))
    for classes in (5, 3):
        with pytest.raises(ValueError, match=f"cannot go on from .* of another detector: .*{wrong}"):
            load_warm_start(dyn_retinanet_nano(classes), path)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4)


def test_the_command_says_what_is_fresh(data, tmp_path):
    """A run of a step on each two images, from a detector of another number of classes."""
    path = stored(tmp_path / "before.safetensors", detector(len(CLASSES) + 3))
    out = tmp_path / "run"
    done = command("train", data, *options(out, "--warm-start", path, "--epochs", 1, "--lr", 1e-12))
    assert done.exit_code == 0, done.output
    said = f"note: of '{path}' all carries over; fresh are the exits' classifiers, the heads' class layers\n"
    assert said in done.stderr
    box, logits = (f"head.{name}.weight" for name in ("regression_head.bbox_reg", "classification_head.cls_logits"))
    after, before = weights(out), load_file(path)
    torch.testing.assert_close(after[box], before[box])
    assert after[logits].shape[0] * (len(CLASSES) + 3) == before[logits].shape[0] * len(CLASSES)
    torch.manual_seed(0)  # that of the run: fresh classifiers are not what a training with it began from
    began = dyn_retinanet_nano(len(CLASSES)).backbone.classifiers[0].weight
    assert not torch.allclose(after["backbone.classifiers.0.weight"], began)


def test_only_early_needs_the_same_classes(data, tmp_path, capsys, monkeypatch):
    path = stored(tmp_path / "before.safetensors", detector(9))
    early = ["--only-early", "--filler", "learned", "--theta", 0, "--exits", "1,2"]
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--warm-start", path, *early))
    assert "only_early trains the early exits of a detector of the same classes" in line
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_keeps_what_it_has(data, tmp_path):
    path = stored(tmp_path / "before.safetensors", detector(9))
    notes, how = [], {"warm_start": str(path), "epochs": 1}
    rows = train(settings(data, tmp_path / "run", **how))
    path.unlink()
    assert train(settings(data, tmp_path / "run", resume=True, **how), on_start=notes.extend) == rows
    assert not any("fresh" in note for note in notes)
