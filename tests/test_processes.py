"""Two CPU processes (gloo) train and evaluate as one does; run as a script, this file is what they do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from squares import weights

from earlyexit import dyn_retinanet_nano, evaluate
from earlyexit.data.coco import coco_split, train_transforms
from earlyexit.evaluation.coco import coco_metrics, detect_all
from earlyexit.processes import process_state
from earlyexit.training import TrainSettings, fit, set_norms

EPOCHS, MOVED = 3, 1  # the run is copied as it is after its first


def work(folder, out):
    """Train, or go on, and evaluate; write each step's losses and the result; copy the run as it is after an epoch."""
    torch.manual_seed(0)
    model = set_norms(dyn_retinanet_nano(20, exit_target="largest", min_size=64, score_thresh=0.0), "frozen")
    data = coco_split(folder, "train", train_transforms(min_size=64, max_size=128, jitter=0.2))
    test, losses = coco_split(folder, "test"), []
    how = {"epochs": EPOCHS, "batch_size": 8, "optimizer": "sgd", "lr": 0.02, "warmup": 0, "ema": 0.5}

    def after_epoch(model, epoch):
        found = [d for row in detect_all(model, test, None, None, batch_size=4) for d in row.found]
        return {"found": len(found), "AP50": coco_metrics(test, found)["AP50"]}

    def on_epoch(row):
        if row["epoch"] == MOVED:
            shutil.copytree(out, f"{out}-moved")

    rows = fit(
        model,
        data,
        TrainSettings(out=str(out), resume=True, progress=False, **how),
        after_epoch=after_epoch,
        on_step=lambda step, values: losses.append([step, values]),
        on_epoch=on_epoch,
    )
    result = evaluate(model, test, thresholds=(0.06, 0.07, 0.08), batch_size=3)
    if process_state().is_main_process:
        story = {"losses": losses, "rows": rows, "result": result, "processes": process_state().num_processes}
        Path(out, "story.json").write_text(json.dumps(story))


if __name__ == "__main__":
    work(*sys.argv[1:])


@pytest.fixture(scope="module")
def stories(folder, tmp_path_factory):
    """The same training in two processes and in one, and in two until its first epoch and then in one."""
    out = tmp_path_factory.mktemp("runs")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, __file__, str(folder), str(out / "two")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    together = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work(folder, out / "one")
        output = together.communicate(timeout=300)[0]
        assert together.returncode == 0, output
        work(folder, shutil.copytree(out / "two-moved", out / "moved"))
    finally:
        together.kill()
        torch.set_num_threads(threads)
    found = {name: json.loads((out / name / "story.json").read_text()) for name in ("one", "two", "moved")}
    return found | {"out": out}


def test_two_processes_take_the_steps_of_one(stories):
    one, two = stories["one"], stories["two"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == len(two["losses"]) == 9
    for (step, alone), (same, together) in zip(one["losses"], two["losses"], strict=True):
        assert step == same
        assert together == pytest.approx(alone, rel=1e-4), step
    values = [losses["loss"] for _, losses in one["losses"]]
    assert len(set(values)) == 9
    assert sum(values[-3:]) < 0.98 * sum(values[:3])


def test_evaluation_gathers_to_the_same_result(stories):
    one, two = stories["one"], stories["two"]
    assert two["result"]["images"] == one["result"]["images"] == 7
    assert two["result"]["exits"] == one["result"]["exits"]
    for name in ("mAP", "AP50", "gmacs", "gmacs_full"):
        assert two["result"][name] == pytest.approx(one["result"][name], rel=1e-3, abs=1e-3)
    for name in ("found", "AP50"):
        assert [row[name] for row in two["rows"]] == pytest.approx([row[name] for row in one["rows"]], abs=1e-3)
    assert two["rows"][-1]["found"] > 7


def test_a_checkpoint_of_two_resumes_in_one(stories):
    """Epoch 1 in two processes, 2 and 3 in one."""
    one, moved = stories["one"], stories["moved"]
    assert moved["processes"] == 1
    assert [step for step, _ in moved["losses"]] == list(range(3, 9))
    assert [row["epoch"] for row in moved["rows"]] == [1, 2, 3]
    assert [row["loss"] for row in moved["rows"]] == pytest.approx([row["loss"] for row in one["rows"]], rel=1e-4)
    first, second = (weights(stories["out"] / name) for name in ("one", "moved"))
    for name, value in first.items():
        # Releases of Pillow draw slightly different scenes; the largest difference among those that were tried is 2e-4.
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=3e-4)
