"""The exported graphs: the same detections as in PyTorch, by the graphs that are needed alone."""

import copy
import gc
import itertools
import json
import math
import re
import shutil
import sys

import onnx
import pytest
import torch
from squares import refused
from test_repository import load_tool
from torch import nn
from typer.testing import CliRunner

from earlyexit import cli, dyn_retinanet_nano
from earlyexit.evaluation.coco import check_data
from earlyexit.model import export as onnx_detector
from earlyexit.model import export as onnx_export
from earlyexit.model.exits import Worth, make_rule
from earlyexit.model.export import MatrixPool, OnnxDetector, export_onnx

live_page = load_tool("live_page")

SETTINGS = {"min_size": 64, "max_size": 96, "score_thresh": 0.0, "detections_per_img": 20}
CLASSES = ["cat", "dog", "cow", "hen", "pig"]
ALL = (1, 2, 3, 4)


def make_detector(**settings):
    """A nano detector with fewer blocks, which exports sooner, and with confidences that differ."""
    torch.manual_seed(1)
    model = dyn_retinanet_nano(5, **{**SETTINGS, **settings}).eval()
    for read, depth in zip(model.backbone.reads, (0, 0, 0, 1), strict=True):
        read.blocks = read.blocks[:depth]
    del model.backbone.stages[2][1:]
    for exit, head in {"4": model.head, **model.early_heads}.items():
        for tower in (head.classification_head, head.regression_head):
            tower.conv = tower.conv[: int(exit == "2")]
        nn.init.normal_(head.classification_head.cls_logits.weight, std=0.3)
    nn.init.normal_(model.backbone.latents)
    for classifier in model.backbone.classifiers[:3]:
        nn.init.normal_(classifier.weight, std=0.3)
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector with all kinds of exits, and the folder of its graphs: exporting is most of the time of these tests.

    Exit 2 has a neck and a head of its own and a class opinion, exit 3 an opinion alone, exit 1 neither.
    """
    model = make_detector(filler="learned", opinions=(2, 3))
    for exit in ("1", "3"):
        del model.early_necks[exit], model.early_heads[exit]
    folder = tmp_path_factory.mktemp("exported")
    gc.disable()  # it would look through all that the exporter holds again and again, for a seventh of the time
    try:
        paths = export_onnx(model, folder, classes=CLASSES)
    finally:
        gc.enable()
    assert sorted(paths) == sorted(folder.iterdir())
    return model, folder


@pytest.fixture(scope="module")
def pair(exported):
    """A detector in PyTorch, and the same one in onnxruntime."""
    model, folder = exported
    return model, OnnxDetector(folder, model)


class CocoLike(list):
    """A data set as far as is looked before anything runs."""

    def __init__(self):
        super().__init__([0])
        self.classes = CLASSES


class Untraced:
    """In place of a graph, and of what the exporter gives: the part of the detector itself, in PyTorch."""

    def __init__(self, part, example=None):
        self.part, self.inputs, self.outputs = part, part.inputs, part.outputs

    def save(self, path):
        path.touch()

    def __call__(self, known):
        return dict(zip(self.outputs, self.part(*(known[name] for name in self.inputs)), strict=True))


def untraced(monkeypatch, folder, model, exits, **more):
    """An `OnnxDetector` without onnxruntime: what is around the graphs, in no time."""
    made = []
    monkeypatch.setattr(onnx_export, "_program", lambda *given: made.append(Untraced(*given)) or made[-1])
    *paths, _ = export_onnx(model, folder, exits=exits, classes=CLASSES, **more)
    graphs = dict(zip(paths, made, strict=True))
    monkeypatch.setattr(onnx_detector, "_Graph", graphs.__getitem__)
    return OnnxDetector(folder, model)


def pictures(count=8):
    generator = torch.Generator().manual_seed(2)
    colours = torch.rand(count, 3, 4, 4, generator=generator)
    return list(nn.functional.interpolate(colours, (50, 50), mode="bilinear"))


def same(first, second):
    assert [found["exit"] for found in first] == [found["exit"] for found in second]
    for a, b in zip(first, second, strict=True):
        assert list(a) == list(b)
        assert a["confidence"] == pytest.approx(b["confidence"], abs=1e-4)
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(a["scores"], b["scores"], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(a["boxes"], b["boxes"], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def mixed(model, exits=ALL):
    """Thresholds with which two of the eight pictures leave at each of `exits` but the last."""
    limits, waiting = [math.inf] * 3, torch.ones(8, dtype=torch.bool)
    for exit in exits[:-1]:
        confidence = torch.tensor([found["confidence"] for found in model(pictures(), exit=exit)])
        limits[exit - 1] = float(confidence[waiting].sort(descending=True).values[1:3].mean())
        waiting &= confidence < limits[exit - 1]
    return limits


@torch.inference_mode()
def test_mixed_exits_are_those_of_pytorch(pair):
    model, detector = pair
    thresholds = mixed(model)
    expected = model(pictures(), thresholds=thresholds)
    assert sorted(found["exit"] for found in expected) == [1, 1, 2, 2, 3, 3, 4, 4]
    assert all(len(found["boxes"]) == 20 for found in expected)
    assert max((a["boxes"] - b["boxes"]).abs().max() for a in expected for b in expected) > 1
    same(detector(pictures(), thresholds=thresholds), expected)


@pytest.mark.parametrize("exit", ALL)
@pytest.mark.parametrize("count", [1, 3])
@torch.inference_mode()
def test_forced_exits_are_those_of_pytorch(pair, exit, count):
    model, detector = pair
    same(detector(pictures(count), exit=exit), model(pictures(count), exit=exit))


LEARNED = {"filler": "learned", "opinions": (1, 2, 3)}
SOME = [(*early, 4) for count in range(4) for early in itertools.combinations((1, 2, 3), count)]
OTHERS = [{}, {"filler": "zero", "opinions": (2, 3, 4)}, {**LEARNED, "exit_target": "present"}]


@pytest.mark.parametrize(("settings", "exits"), [(LEARNED, exits) for exits in SOME] + [(kind, ALL) for kind in OTHERS])
@torch.inference_mode()
def test_what_an_exit_reads_gets_there(settings, exits, tmp_path, monkeypatch):
    """Whatever the detector and the exits; without the exporter and onnxruntime, which only run what is cut here."""
    model = make_detector(**settings)
    detector, thresholds = untraced(monkeypatch, tmp_path, model, exits), mixed(model, exits)
    expected = model(pictures(), thresholds=thresholds)
    assert sorted(found["exit"] for found in expected) == sorted([*exits[:-1] * 2, *[4] * (10 - 2 * len(exits))])
    same(detector(pictures(), thresholds=thresholds), expected)


@pytest.mark.parametrize("exits", [ALL, (2, 4), (1, 3, 4)])
@torch.inference_mode()
def test_worth_gets_the_logits_and_latents_that_it_looks_at(exits, tmp_path, monkeypatch):
    model, draw = make_detector(**LEARNED), torch.Generator().manual_seed(0)
    model.rule = Worth()
    for k, latents in ((1, 64), (2, 128), (3, 128)):
        setattr(model.rule, f"weight_{k}", torch.randn(2 * 5 * k + latents, 4 - k, generator=draw) / 20)
    detector = untraced(monkeypatch, tmp_path, model, exits)
    thresholds = mixed(model, exits)
    expected = model(pictures(), thresholds=thresholds)
    assert len({found["exit"] for found in expected}) > 1
    same(detector(pictures(), thresholds=thresholds), expected)


@torch.inference_mode()
def test_what_nobody_needs_does_not_run(pair, monkeypatch):
    model, detector = pair
    ran, call = [], onnx_detector._Graph.__call__
    names = {graph: f"to {k}" for k, graph in detector.backbone.graphs.items()}
    names |= {graph: f"at {k}" for k, graph in detector.heads.items()}

    def note(graph, known):
        outputs = call(graph, known)
        ran.append((names[graph], len(outputs[graph.outputs[0]])))
        return outputs

    monkeypatch.setattr(onnx_detector._Graph, "__call__", note)
    detector(pictures(), exit=1)
    assert ran == [("to 1", 8), ("at 1", 8)]
    ran.clear()
    detector(pictures(), thresholds=mixed(model))
    steps = [
        (f"{where} {k}", n) for k, left in zip(ALL, (8, 6, 4, 2), strict=True) for where, n in (("to", left), ("at", 2))
    ]
    assert ran == steps


@torch.inference_mode()
def test_graphs_of_the_live_page_are_within_its_tolerance(exported, tmp_path):
    """Their weights are stored as float16 and computed with in float32."""
    model, folder = exported
    slim = shutil.copytree(folder, tmp_path / "slim")
    live_page.slim_folder(slim)
    graphs = OnnxDetector(slim, model)
    off = live_page.differences(model, graphs, pictures())
    assert all(0 < off[name] <= most for name, most in live_page.MOST.items()), off
    for exit in ALL:
        found, expected = (one(pictures(), exit=exit) for one in (graphs, model))
        best = [(a["scores"][0], b["scores"][0]) for a, b in zip(found, expected, strict=True)]
        torch.testing.assert_close(*map(torch.stack, zip(*best, strict=True)), rtol=0, atol=live_page.MOST["scores"])
    for path in folder.glob("*.onnx"):
        kinds = {value.data_type for value in onnx.load(slim / path.name).graph.initializer if len(value.dims) > 1}
        assert kinds & {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16} == {onnx.TensorProto.FLOAT16}
        assert (slim / path.name).stat().st_size < 0.6 * path.stat().st_size


def test_each_graph_holds_its_own_part(exported):
    model, folder = exported
    graphs = {path.stem: onnx.load(path).graph for path in folder.glob("*.onnx")}
    nodes = {stem: len(graph.node) for stem, graph in graphs.items()}
    assert nodes["backbone_to_exit_1"] < 0.75 * sum(n for stem, n in nodes.items() if stem.startswith("backbone"))
    assert nodes["backbone_to_exit_3"] < 20  # one stage and a classifier
    weights = {stem: sum(math.prod(value.dims) for value in graph.initializer) for stem, graph in graphs.items()}
    backbone = sum(p.numel() for p in model.backbone.parameters())
    # Running statistics and a few constants come on top.
    assert sum(n for stem, n in weights.items() if "backbone" in stem) == pytest.approx(backbone, rel=0.05)
    assert 0 < weights["backbone_to_exit_1"] < 0.5 * backbone


def test_card(exported):
    model, folder = exported
    card = json.loads((folder / "card.json").read_text())
    assert (card["classes"], card["image_size"], card["exits"]) == (CLASSES, [64, 64], [1, 2, 3, 4])
    coarse = [[4, 4], [2, 2], [1, 1], [1, 1]]
    full = [[8, 8], *coarse]
    assert card["levels"] == {"1": full, "2": coarse, "3": full, "4": full}
    inputs = {name.removesuffix(".onnx"): parts["inputs"] for name, parts in card["graphs"].items()}
    assert inputs == {
        "backbone_to_exit_1": ["images"],
        "detect_at_exit_1": ["c3"],
        "backbone_to_exit_2": ["c3", "latents_1", "logits_1"],
        "detect_at_exit_2": ["c3", "c4", "latents_2", "logits_2", "logits_1"],
        "backbone_to_exit_3": ["c4"],
        "detect_at_exit_3": ["c3", "c4", "c5_3", "logits_3", "logits_2"],
        "backbone_to_exit_4": ["c5_3", "latents_2", "logits_2"],
        "detect_at_exit_4": ["c3", "c4", "c5"],
    }
    assert card["graphs"]["backbone_to_exit_2.onnx"]["outputs"] == ["c4", "latents_2", "logits_2"]
    assert card["graphs"]["backbone_to_exit_4.onnx"]["outputs"] == ["c5", "logits_4"]
    for name, parts in card["graphs"].items():
        graph = onnx.load(folder / name).graph
        assert [value.name for value in graph.input] == parts["inputs"]
        assert [value.name for value in graph.output] == parts["outputs"]
        for value in (*graph.input, *graph.output):
            first, *others = value.type.tensor_type.shape.dim
            assert first.dim_param == "batch" and all(size.dim_value > 0 for size in others)


@pytest.mark.parametrize("size", [(7, 14), (16, 8), (5, 2), (25, 42)])
def test_pooling_by_matrices(size):
    x = torch.rand(2, 3, *size)
    torch.testing.assert_close(MatrixPool(7)(x), nn.AdaptiveAvgPool2d(7)(x))


def test_the_model_is_left_as_it_is():
    model = make_detector().train()
    with pytest.raises(RuntimeError, match="stop here"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_export, "_program", lambda *_: (_ for _ in ()).throw(RuntimeError("stop here")))
        export_onnx(model, "nowhere")
    assert all(module.training for module in model.modules())


@pytest.mark.parametrize("exits", [(), (1, 2), (4, 1), (2, 1, 4), (1, 1, 4), (0, 4), ("1", 4)])
def test_bad_exits(tmp_path, exits):
    with pytest.raises(ValueError, match=rf"exits must be some of 1-4 .*got {re.escape(str(exits))}"):
        export_onnx(make_detector(), tmp_path / "out", exits=exits)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(64,), (64, 50), (0, 64), (64.0, 64), (-32, 64), 64])
def test_bad_image_size(tmp_path, size):
    with pytest.raises(ValueError, match=rf"multiples of 32, got {re.escape(str(size))}"):
        export_onnx(make_detector(), tmp_path, size)


def test_bad_use_of_the_graphs(tmp_path, monkeypatch):
    model = make_detector()
    detector = untraced(monkeypatch, tmp_path / "plain", model, (1, 2, 4))
    with pytest.raises(ValueError, match=r"images of \(64, 64\) pixels.*got \(64, 96\)"):
        detector([torch.rand(3, 50, 75)])
    with pytest.raises(
        ValueError, match=r"exit 3 was not exported, only \(1, 2, 4\).*infinity, got \(inf, inf, 0.0, inf\)"
    ):
        detector(pictures(1), exit=3)
    with pytest.raises(ValueError, match=r"exit 3 was not exported.*got \(0.9, 0.9, 0.8, 0.0\)"):
        detector(pictures(1), thresholds=(0.9, 0.9, 0.8))
    with pytest.raises(ValueError, match="cannot be trained"):
        detector.train()
    with pytest.raises(ValueError, match=r"missing' holds no card.json"):
        OnnxDetector(tmp_path / "missing", model)
    with pytest.raises(ValueError, match="has 5 classes, the model has 20"):
        OnnxDetector(tmp_path / "plain", dyn_retinanet_nano())
    with pytest.raises(ValueError, match="multiply-adds of graphs are not counted: evaluate the detector"):
        check_data(detector, CocoLike())
    with pytest.raises(ValueError, match=r"exit 3 was not exported.*got \(inf, inf, 0.8, 0.0\)"):
        export_onnx(model, tmp_path / "none", exits=(1, 2, 4), thresholds=(math.inf, math.inf, 0.8))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"filler": "learned"}, r"its early is \[\], not \['1', '2', '3'\]"),
        ({"opinions": (1,)}, r"its opinions is \[\], not \['1'\]"),
        ({"exit_target": "present"}, "its exit_target is 'single', not 'present'"),
    ],
)
def test_graphs_of_another_detector(tmp_path, monkeypatch, other, said):
    untraced(monkeypatch, tmp_path, make_detector(), (1, 4))
    with pytest.raises(ValueError, match=f"is of another detector: {said}"):
        OnnxDetector(tmp_path, make_detector(**other))
    router = make_detector()
    router.rule = make_rule("router")
    with pytest.raises(ValueError, match="its rule is 'MaxSoftmax', not 'Router'"):
        OnnxDetector(tmp_path, router)


def test_thresholds_travel_with_the_graphs(tmp_path, monkeypatch):
    """They are used unless others, or an exit, are asked for."""
    model, images = make_detector(), pictures()
    scores = sorted(d["confidence"] for d in model(images, exit=1))
    limits = ((scores[3] + scores[4]) / 2, math.inf, 0.99)  # half of them
    detector = untraced(monkeypatch, tmp_path, model, (1, 3, 4), thresholds=limits)
    assert detector.thresholds == [*limits]
    with torch.inference_mode():
        expected, found = model(images, thresholds=limits), detector(images)
        assert [d["exit"] for d in found] == [d["exit"] for d in expected]
        assert len({d["exit"] for d in found}) > 1
        assert {d["exit"] for d in detector(images, exit=4)} == {4}
        entropy = make_rule("entropy")
        assert {d["exit"] for d in detector(images, rule=entropy)} == {4}, "another rule has other thresholds"
        assert {d["exit"] for d in detector(images, thresholds=(0.0, math.inf, math.inf))} == {1}


@pytest.mark.parametrize(
    "text", ["{bad", "{}", "[]", '{"classes": [], "image_size": [1, 1], "exits": [4], "levels": {}}']
)
def test_a_damaged_card_is_named(tmp_path, text):
    (tmp_path / "card.json").write_text(text)
    with pytest.raises(ValueError, match=r"card.json' is damaged \(.*\): write the graphs again"):
        OnnxDetector(tmp_path, make_detector())


def test_a_graph_that_is_none_is_named(tmp_path):
    levels = {"4": [[8, 8]]}
    (tmp_path / "card.json").write_text(
        json.dumps({"classes": CLASSES, "image_size": [64, 64], "exits": [4], "levels": levels})
    )
    for content in (None, b"no graph"):
        if content:
            (tmp_path / "detect_at_exit_4.onnx").write_bytes(content)
        with pytest.raises(ValueError, match="detect_at_exit_4.onnx' is no graph that onnxruntime can run"):
            OnnxDetector(tmp_path, make_detector())


def test_graphs_of_an_older_export_do_not_stay(tmp_path, monkeypatch):
    untraced(monkeypatch, tmp_path, make_detector(), ALL)
    (tmp_path / "mine.onnx").touch()
    untraced(monkeypatch, tmp_path, make_detector(), (4,))
    names = {"backbone_to_exit_4.onnx", "detect_at_exit_4.onnx", "card.json", "mine.onnx"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_compiled_method_of_the_model_is_not_taken_over(exported):
    model, folder = exported
    other = copy.deepcopy(model)
    other.predict = None
    assert OnnxDetector(folder, other).predict is not None


def test_help_names_what_to_install():
    text = " ".join(CliRunner().invoke(cli.app, ["onnx", "--help"]).output.split())
    assert 'Needs the extra "onnx" of this package.' in text


def test_command_refuses_in_one_line(tmp_path, capsys, monkeypatch):
    assert "got (1, 2)" in refused(capsys, monkeypatch, "onnx", "--out", tmp_path / "out", "--exits", "1,2")
    assert "numbers with commas" in refused(capsys, monkeypatch, "onnx", "--out", tmp_path / "out", "--image-size", "")
    assert "got (128, 100)" in refused(
        capsys, monkeypatch, "onnx", "--out", tmp_path / "out", "--image-size", "128,100"
    )
    (tmp_path / "file").touch()
    assert "--out must be a folder" in refused(capsys, monkeypatch, "onnx", "--out", tmp_path / "file")
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else object())
    line = refused(capsys, monkeypatch, "onnx", "--out", tmp_path / "out")
    assert line == "earlyexit: not installed: onnxscript; try: pip install onnxscript"
    assert not (tmp_path / "out").exists()


def test_command_writes_what_the_weights_say(tmp_path, capsys, monkeypatch):
    """Without the exporter itself, which the other tests run."""

    class Program:
        def save(self, path):
            path.write_bytes(b"graph" * 1000)

    monkeypatch.setattr(onnx_export, "_program", lambda *_: Program())
    arguments = ["--weights", "scenes", "--out", tmp_path / "out", "--image-size", "128,160", "--exits", "1,4"]
    monkeypatch.setattr(sys, "argv", ["earlyexit", "onnx", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    names = ["backbone_to_exit_1", "detect_at_exit_1", "backbone_to_exit_4", "detect_at_exit_4"]
    assert lines[:4] == [f"{tmp_path / 'out' / name}.onnx: 0.0 MB" for name in names]
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    assert (len(card["classes"]), card["image_size"], card["exits"]) == (20, [128, 160], [1, 4])
    assert card["thresholds"] is None and card["rule"] == "MaxSoftmax"
