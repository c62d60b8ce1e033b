"""Bright squares on black as a data set, in memory and as a COCO-layout folder, with models and settings for them."""

import json
import sys

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from earlyexit import cli, dyn_retinanet_nano
from earlyexit.training.settings import TrainSettings

CLASSES = ["red", "green", "blue", "never seen"]


class Squares(torch.utils.data.Dataset):
    """Images of `sizes`, (height, width), each with one square whose colour is its class; "image_id" is 100 + index."""

    def __init__(self, sizes):
        self.sizes = list(sizes)

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        height, width = self.sizes[index]
        box = [width // 8, height // 4, width // 2 + index, height // 2 + 2 * index]
        image = torch.zeros(3, height, width)
        image[index % 3, box[1] : box[3], box[0] : box[2]] = 1
        target = {"boxes": torch.tensor([box], dtype=torch.float32), "labels": torch.tensor([index % 3])}
        return image, {**target, "image_id": torch.tensor(100 + index)}


def write_folder(out, **splits):
    """The squares as PNGs in COCO layout: `write_folder(out, train=[(64, 64), ...], val=[...])`."""
    (out / "annotations").mkdir(parents=True)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    for split, sizes in splits.items():
        (out / split).mkdir()
        images, annotations = [], []
        for i, (image, target) in enumerate(Squares(sizes)):
            pixels = (255 * image).byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(out / split / f"{i}.png")
            height, width = image.shape[1:]
            images.append({"id": 100 + i, "file_name": f"{i}.png", "width": width, "height": height})
            x0, y0, x1, y1 = target["boxes"][0].tolist()
            label = int(target["labels"]) + 1
            box = {"id": i + 1, "image_id": 100 + i, "category_id": label, "bbox": [x0, y0, x1 - x0, y1 - y0]}
            annotations.append(box)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (out / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return out


def nano(**detector):
    """The nano detector for these images, with fresh weights that are always the same."""
    torch.manual_seed(0)
    return dyn_retinanet_nano(len(CLASSES), min_size=64, **detector)


class Tiny(nn.Module):
    """Guesses the class from the mean of an image: a model that trains in milliseconds, with statistics."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.scale = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm1d(8)
        self.guess = nn.Linear(8, 3)

    def forward(self, images, targets):
        seen = torch.stack([self.scale(image[None]).relu().mean((0, 2, 3)) for image in images])
        labels = torch.stack([target["labels"][0] for target in targets])
        return {"guess": nn.functional.cross_entropy(self.guess(self.norm(seen)), labels)}


def state(model):
    """A copy of the weights and statistics."""
    return {name: value.clone() for name, value in model.state_dict().items()}


def settings(data, out, **changes):
    """Two epochs of two steps of two images."""
    small = {"min_size": 64, "epochs": 2, "batch_size": 2, "progress": False}
    return TrainSettings(str(data), str(out), **{**small, **changes})


def steps(out, **changes):
    """Settings of a training whose model and data are given."""
    return TrainSettings(out=str(out), progress=False, **changes)


def options(out, *more):
    """Those of `settings` on the command line."""
    return ["--out", out, "--min-size", 64, "--epochs", 2, "--batch-size", 2, *more]


def weights(out):
    """What a run has in its `model.safetensors`."""
    return load_file(out / "model.safetensors")


def same(first, second):
    """Whether two state dicts agree bit for bit."""
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


def equal(first, second, names):
    """Whether two state dicts agree bit for bit in these names."""
    return all(torch.equal(first[name], second[name]) for name in names)


def split_names(backbone):
    """Names of the weights of a backbone's classifiers, and of all others."""
    names = list(backbone.state_dict())
    classifiers = [name for name in names if name.startswith(("classifiers.", "carries."))]
    return classifiers, [name for name in names if name not in classifiers]


def command(*arguments):
    """Run the command in this process; gives typer's result, in which bad input is an exception."""
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def refused(capsys, monkeypatch, *arguments):
    """Run the command; give the one line, after a note of a training, with which it ends at exit code 2."""
    monkeypatch.setattr(sys, "argv", ["earlyexit", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    *notes, line = capsys.readouterr().err.splitlines()
    assert len(notes) <= (arguments[0] == "train") and all(note.startswith("note: ") for note in notes)
    assert line.startswith("earlyexit: ")
    return line
