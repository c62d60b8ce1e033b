"""Two CPU processes (gloo) train and evaluate as one does."""

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = '''
"""Train and evaluate; write each step's losses and the result. ARGS: folder, out, epochs done before stopping."""
import json
import sys
from pathlib import Path

import torch
from earlyexit.processes import process_state

from earlyexit import dyn_retinanet_nano, evaluate
from earlyexit.data.coco import coco_split, train_transforms
from earlyexit.evaluation import coco_metrics, detect_all
from earlyexit.fitting import fit
from earlyexit.freezing import set_norms

folder, out, stop = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
torch.set_num_threads(1)
torch.manual_seed(0)
model = set_norms(dyn_retinanet_nano(20, exit_target="largest", min_size=64, score_thresh=0.0), "frozen")
data = coco_split(folder, "train", train_transforms(min_size=64, max_size=128, jitter=0.2))
test = coco_split(folder, "test")
losses = []


def after_epoch(model, epoch):
    if epoch > stop:
        sys.exit(7)
    found = [d for row in detect_all(model, test, None, None, batch_size=4) for d in row.found]
    return {"found": len(found), "AP50": coco_metrics(test, found)["AP50"]}


rows = fit(
    model, data, out, epochs=7, batch_size=8, optimizer="sgd", lr=0.01, warmup=0, ema=0.5, resume=True,
    after_epoch=after_epoch, on_step=lambda step, values: losses.append([step, values]),
)
result = evaluate(model, test, thresholds=(0.06, 0.07, 0.08), batch_size=3)
if process_state().is_main_process:
    story = {"losses": losses, "rows": rows, "result": result, "processes": process_state().num_processes}
    (out / "story.json").write_text(json.dumps(story))
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "run.py"
    path.write_text(SCRIPT)
    return path


def start(script, folder, out, processes, stop=99):
    """A process that runs the script, under torchrun where there are several."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)] * (processes > 1)
    command = [sys.executable, *launcher, str(script), str(folder), str(out), str(stop)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, text=True)


def finish(process, code=0):
    output = process.communicate(timeout=120)[0]
    assert (process.returncode == 0) == (code == 0), output
    return output


@pytest.fixture(scope="module")
def stories(script, folder, tmp_path_factory):
    """The same training in one process and in two, and in two that stop after epoch 3 and go on as one."""
    out = tmp_path_factory.mktemp("runs")
    one, moved = start(script, folder, out / "one", 1), start(script, folder, out / "moved", 2, stop=3)
    finish(one)
    finish(moved, code=7)
    two, moved = start(script, folder, out / "two", 2), start(script, folder, out / "moved", 1)
    finish(two)
    finish(moved)
    return {name: json.loads((out / name / "story.json").read_text()) for name in ("one", "two", "moved")} | {
        "out": out
    }


def test_two_processes_take_the_steps_of_one(stories):
    one, two = stories["one"], stories["two"]
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == len(two["losses"]) == 21
    for (step, alone), (same, together) in zip(one["losses"], two["losses"], strict=True):
        assert step == same
        assert together == pytest.approx(alone, rel=1e-4), step
    values = [losses["loss"] for _, losses in one["losses"]]
    assert len(set(values)) == 21
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
    """Epochs 1 to 3 in two processes, 4 to 7 in one."""
    one, moved = stories["one"], stories["moved"]
    assert moved["processes"] == 1
    assert [step for step, _ in moved["losses"]] == list(range(9, 21))
    assert [row["epoch"] for row in moved["rows"]] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["loss"] for row in moved["rows"]] == pytest.approx([row["loss"] for row in one["rows"]], rel=1e-4)
    first, second = (load_file(stories["out"] / name / "model.safetensors") for name in ("one", "moved"))
    for name, value in first.items():
        # Releases of Pillow draw slightly different scenes; the largest difference among those that were tried is 2e-4.
        torch.testing.assert_close(second[name], value, rtol=1e-3, atol=3e-4)
