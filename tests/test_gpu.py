"""The same on a GPU: figures, batches, exits, records, training, compiled parts, streams, and what it waits for."""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from published import PARITY, SHAPES, figures_of, published_detector
from squares import Squares, nano, settings
from torchvision.ops import box_iou

from earlyexit import dyn_retinanet_nano, load_detector
from earlyexit.data import collate, make_loader, scene_dataset
from earlyexit.evaluation import collect_records
from earlyexit.model import for_inference
from earlyexit.training.loop import fit, make_accelerator, make_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
]
# Of the largest value of each figure. Through some sixty layers, bfloat16 with its 8 bits loses up to 4 % on a CPU.
TOLERANCES = {None: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.08}
FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@pytest.fixture(autouse=True)
def float32_is_float32():
    """No TF32, whose products keep 10 bits."""
    kinds = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [kind.allow_tf32 for kind in kinds]
    for kind in kinds:
        kind.allow_tf32 = False
    yield
    for kind, value in zip(kinds, before, strict=True):
        kind.allow_tf32 = value


@pytest.fixture(scope="module")
def scenes():
    return scene_dataset("test", 100)


@pytest.fixture(scope="module")
def images(scenes):
    """32 scenes on the GPU, some of which are cut to another shape."""
    cut = {0: (128, 128), 1: (128, 96), 2: (96, 128)}
    return [scenes[i][0][:, : cut[i % 3][0], : cut[i % 3][1]].cuda() for i in range(32)]


@pytest.fixture(scope="module")
def model():
    return load_detector("scenes-early")[0].eval().cuda()


@pytest.fixture(scope="module")
def published():
    return published_detector().cuda()


def detect(model, images, **how):
    with torch.inference_mode():
        return model(images, **how)


def assert_same(found, expected, least=0.06, near=1e-3):
    """The same exits and, above the scores where rounding may decide, the same detections in any order."""
    assert [d["exit"] for d in found] == [d["exit"] for d in expected]
    compared = 0
    for one, other in zip(found, expected, strict=True):
        one, other = ({k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in d.items()} for d in (one, other))
        assert one["confidence"] == pytest.approx(other["confidence"], abs=near)
        for these, those in ((one, other), (other, one)):
            sure = these["scores"] > least
            same = (these["labels"][sure, None] == those["labels"]) & (
                (these["scores"][sure, None] - those["scores"]).abs() < near
            )
            fits = same & (box_iou(these["boxes"][sure], those["boxes"]) > 0.99)
            assert fits.any(1).all()
            compared += int(sure.sum())
    return compared


@pytest.mark.parametrize("memory", FORMATS)
@pytest.mark.parametrize("dtype", TOLERANCES, ids=["float32", "fp16", "bf16"])
def test_figures_agree(published, dtype, memory):
    published.to(memory_format=FORMATS[memory])
    with np.load(PARITY / "figures.npz") as file:
        recorded = dict(file)
    with torch.inference_mode(), torch.autocast("cuda", dtype, enabled=dtype is not None):
        computed = {key: value for tag in SHAPES for key, value in figures_of(published, tag)}
    assert set(computed) == set(recorded)
    errors = {key: np.abs(computed[key] - value).max() / np.abs(value).max() for key, value in recorded.items()}
    worst = max(errors, key=errors.get)
    print(f"largest error {errors[worst]:.2g} of the largest value, {worst}")
    assert errors[worst] <= TOLERANCES[dtype], worst
    assert dtype is None or errors[worst] > TOLERANCES[None], "half precision that is none"


def test_a_batch_is_its_images_one_by_one(model, images):
    for exit in (1, 2, 3, 4):
        alone = [detect(model, [image], exit=exit)[0] for image in images]
        assert assert_same(detect(model, images, exit=exit), alone) > 40


def thresholds_between(model, images):
    """Thresholds in the middle between two images, so that rounding moves no image across."""
    waiting, thresholds = images, []
    for exit in (1, 2, 3):
        sure = torch.tensor([d["confidence"] for d in detect(model, waiting, exit=exit)], dtype=torch.float64)
        order = sure.argsort(descending=True).tolist()
        count = max(1, len(order) // 3)
        thresholds.append(float(sure[order[count - 1]] + sure[order[count]]) / 2)
        waiting = [waiting[i] for i in sorted(order[count:])]
    return thresholds


def test_images_of_a_mixed_batch_leave_as_alone(model, images):
    limits = thresholds_between(model, images)
    found = detect(model, images, thresholds=limits)
    exits = [d["exit"] for d in found]
    assert min(exits.count(k) for k in (1, 2, 3, 4)) >= 4
    alone = [detect(model, [image], thresholds=limits)[0] for image in images]
    assert assert_same(found, alone) > 40


@pytest.mark.parametrize("precision", ["no", "bf16", "fp16"])
def test_twenty_steps_of_training(tmp_path, precision):
    data, losses, trained = Squares([(64, 64), (64, 96)] * 16), [], nano()
    rows = fit(
        trained,
        data,
        settings("", tmp_path, precision=precision, epochs=5, batch_size=8, lr=2e-3, warmup=0),
        on_step=lambda step, values: losses.append(values["loss"]),
    )
    assert len(losses) == 20 and len(rows) == 5
    assert next(trained.parameters()).is_cuda
    first, last = (sum(part) / 4 for part in (losses[:4], losses[-4:]))
    print(f"{precision}: loss {first:.3f} of the first four steps, {last:.3f} of the last four")
    assert last < 0.8 * first
    assert all(torch.isfinite(value).all() for value in trained.state_dict().values())


@pytest.mark.parametrize("workers", [1, 2])
def test_records_are_those_of_the_cpu(model, scenes, workers):
    gpu = collect_records(model, scenes, workers=workers)
    cpu = collect_records(load_detector("scenes-early")[0], scenes)
    assert torch.equal(gpu.image_ids, cpu.image_ids) and torch.equal(gpu.truth.boxes, cpu.truth.boxes)
    torch.testing.assert_close(gpu.gmacs, cpu.gmacs)
    torch.testing.assert_close(gpu.confidence, cpu.confidence, rtol=0, atol=1e-4)
    torch.testing.assert_close(gpu.logits, cpu.logits, rtol=1e-4, atol=1e-3)
    places = [(i, exit) for i in range(len(gpu)) for exit in (1, 2, 3, 4)]
    found, expected = ([records.detection(*place) for place in places] for records in (gpu, cpu))
    assert assert_same(found, expected, least=0.01, near=1e-4) > 500


def test_two_streams_do_not_mix(model, images):
    """Two threads with a stream each, one model, images of other sizes: what each gets alone."""
    parts = [images[::3], images[1::3]]
    expected = [detect(model, part, exit=2) for part in parts]
    torch.cuda.synchronize()

    def run(part):
        with torch.cuda.stream(torch.cuda.Stream()):
            found = [detect(model, part, exit=2) for _ in range(10)]
            torch.cuda.current_stream().synchronize()
        return found

    with ThreadPoolExecutor(2) as pool:
        for found, alone in zip(pool.map(run, parts), expected, strict=True):
            assert sum(assert_same(again, alone) for again in found) > 100


def waits_of(run):
    """The files from which the CPU waited for the GPU while `run` ran, once for each time."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return [warning.filename for warning in caught if "synchroniz" in str(warning.message)]


@pytest.mark.parametrize("exit_target", ["single", "largest", "present"])
def test_a_training_step_waits_for_no_image(exit_target):
    """In this package; torchvision's transform and loss look at images one by one, and are counted apart."""
    torch.manual_seed(0)
    model = dyn_retinanet_nano(4, min_size=64, exit_target=exit_target, allow_empty=True).cuda().train()
    optimizer = make_optimizer(model)
    counts = {}
    for size in (2, 8):
        images, targets = collate([Squares([(64, 64)] * size)[i] for i in range(size)])
        images = [image.cuda() for image in images]
        targets = [{key: value.cuda() for key, value in target.items()} for target in targets]

        def step(images=images, targets=targets):
            sum(model(images, targets).values()).backward()
            optimizer.step()
            optimizer.zero_grad()

        step()  # what is made once
        waits = waits_of(step)
        counts[size] = {whose: sum(f"/{whose}/" in name for name in waits) for whose in ("earlyexit", "torchvision")}
    print(f"{exit_target}: waits by batch size and package {counts}")
    assert counts[2]["earlyexit"] == counts[8]["earlyexit"] == 1  # are the targets right?


def test_batches_reach_the_gpu_without_waiting():
    loader = make_loader(Squares([(64, 64)] * 12), 4)
    batches = iter(make_accelerator("no", 1).prepare(loader))
    images, targets = next(batches)
    assert images[0].is_cuda and targets[0]["boxes"].is_cuda
    assert [name for name in waits_of(lambda: next(batches)) if "pin_memory" not in name] == []


def test_an_exit_is_one_decision(model, images):
    """What is waited for does not depend on how many images decide."""
    limits = (math.inf, math.inf, 2.0)
    some = [image for image in images if image.shape == images[0].shape]
    one, many = ([], [])
    for part, waits in ((some[:1], one), (some, many)):
        detect(model, part, thresholds=limits)
        waits += [name for name in waits_of(lambda p=part: detect(model, p, thresholds=limits)) if "exits.py" in name]
    assert len(one) == len(many) == 2  # exit 3, where nobody is sure enough, and exit 4


@torch.inference_mode()
def test_compiled_parts_give_the_same():
    """What `torch.compile` builds to exit 1, at it, and from there to exit 2; few layers, since it takes a minute."""
    torch.manual_seed(0)
    model = dyn_retinanet_nano(5, min_size=64, filler="learned", opinions=(1,)).eval().cuda()
    for read in model.backbone.reads:
        read.blocks = read.blocks[:0]
    fast, images = for_inference(model, compiled=True), torch.randn(4, 3, 64, 64).cuda()
    compiled, eager = (each.backbone.exits(images) for each in (fast, model))
    ours, theirs = next(compiled), next(eager)
    outputs, expected = fast.predict(ours)[0], model.predict(theirs)[0]
    for name in ("cls_logits", "bbox_regression"):
        torch.testing.assert_close(outputs[name], expected[name], rtol=1e-4, atol=1e-4)
    some = torch.tensor([3, 1]).cuda()  # another number of images runs on
    for one, other in ((ours, theirs), (compiled.send(some), eager.send(some))):
        torch.testing.assert_close(one.logits, other.logits, rtol=1e-4, atol=1e-4)
    assert len(one.logits) == 2
