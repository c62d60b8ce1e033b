"""A training and its evaluation that tests run alone and, as a script under torchrun, in two processes.

    torchrun --nproc-per-node 2 two_processes.py FOLDER OUT

trains twice: OUT/two to its end, and OUT/moved until it stops after epoch 2.
"""

import contextlib
import json
import sys
from pathlib import Path

import torch

from earlyexit import dyn_retinanet_nano, evaluate
from earlyexit.data.coco import coco_split, train_transforms
from earlyexit.evaluation.coco import coco_metrics, detect_all
from earlyexit.processes import process_state
from earlyexit.training.loop import fit
from earlyexit.training.run import set_norms

EPOCHS, STOP = 5, 2


class StoppedError(Exception):
    """Stands for a kill."""


def train(folder, out, stop=EPOCHS):
    """Train and evaluate, or go on; write each step's losses and the result into OUT/story.json."""
    torch.manual_seed(0)
    model = set_norms(dyn_retinanet_nano(20, exit_target="largest", min_size=64, score_thresh=0.0), "frozen")
    data = coco_split(folder, "train", train_transforms(min_size=64, max_size=128, jitter=0.2))
    test = coco_split(folder, "test")
    losses = []

    def after_epoch(model, epoch):
        if epoch > stop:
            raise StoppedError
        found = [d for row in detect_all(model, test, None, None, batch_size=4) for d in row.found]
        return {"found": len(found), "AP50": coco_metrics(test, found)["AP50"]}

    rows = fit(
        model,
        data,
        out,
        epochs=EPOCHS,
        batch_size=8,
        optimizer="sgd",
        lr=0.02,
        warmup=0,
        ema=0.5,
        resume=True,
        after_epoch=after_epoch,
        on_step=lambda step, values: losses.append([step, values]),
    )
    result = evaluate(model, test, thresholds=(0.06, 0.07, 0.08), batch_size=3)
    if process_state().is_main_process:
        story = {"losses": losses, "rows": rows, "result": result, "processes": process_state().num_processes}
        (Path(out) / "story.json").write_text(json.dumps(story))


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder, runs = sys.argv[1], Path(sys.argv[2])
    train(folder, runs / "two")
    with contextlib.suppress(StoppedError):
        train(folder, runs / "moved", STOP)
