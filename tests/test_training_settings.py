"""Presets: what they set, and that what is given by hand wins."""

import json
import shlex
from dataclasses import asdict, fields

import pytest
from squares import refused
from typer.testing import CliRunner

from earlyexit import cli
from earlyexit.training.settings import PRESETS, TrainSettings, preset


def output(*arguments):
    done = CliRunner().invoke(cli.app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def shown(*options):
    """The settings that these options of `train` mean."""
    return json.loads(output("train", "DATA", "--out", "RUN", *options, "--show"))


def as_json(settings):
    return json.loads(json.dumps(asdict(settings)))


def test_no_option_means_the_defaults():
    assert shown() == as_json(TrainSettings("DATA", "RUN"))


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_means(name):
    values = preset(name)
    assert set(values) <= {field.name for field in fields(TrainSettings)}
    assert shown("--preset", name) == as_json(TrainSettings("DATA", "RUN", **values))


@pytest.mark.parametrize("name", PRESETS)
def test_printed_options_mean_the_preset(name):
    printed = output("presets", name)
    assert printed.count("\n") == 1
    assert shown(*shlex.split(printed)) == shown("--preset", name)


def test_list_of_presets():
    lines = output("presets").splitlines()
    assert [line.split()[0] for line in lines] == list(PRESETS) == ["nano", "paper-coco", "paper-ilsvrc", "colab"]
    assert "the paper's recipe on COCO-Single" in lines[1]


@pytest.mark.parametrize("name", ["paper-coco", "paper-ilsvrc"])
def test_the_recipe_of_the_paper(name):
    """Section 4.1.2: 12 epochs, batch 16, SGD at 0.01, 1333x800; theta and lambda as in eq. 2."""
    values = shown("--preset", name)
    expected = {"model": "regnet_y_800mf", "init": "imagenet", "freeze": 1, "norm": "batch", "exits": [4]}
    expected |= {"epochs": 12, "batch_size": 16, "optimizer": "sgd", "lr": 0.01, "schedule": "steps"}
    expected |= {"min_size": 800, "max_size": 1333, "jitter": 0.0, "theta": 0.0115, "lambda_": 1.0}
    assert {key: values[key] for key in expected} == expected


def test_nano_is_what_the_command_does_anyway():
    assert shown("--preset", "nano") == shown()


def test_given_by_hand_wins_even_at_the_default():
    """Each of these is the command's own default, and not what the preset says."""
    plain, changed = shown("--preset", "paper-coco"), TrainSettings("", "")
    given = {"--lr": "lr", "--clip": "clip", "--optimizer": "optimizer", "--freeze": "freeze", "--workers": "workers"}
    options = [part for option, name in given.items() for part in (option, str(getattr(changed, name)))]
    found = shown("--preset", "paper-coco", *options, "--no-shape-groups", "--init", "none", "--lambda", "2")
    differ = {name: found[name] for name in found if found[name] != plain[name]}
    assert differ == {
        "lr": 1e-3,
        "clip": 1.0,
        "optimizer": "adamw",
        "freeze": 0,
        "workers": 0,
        "shape_groups": False,
        "init": None,
        "lambda_": 2.0,
    }


def test_presets_are_not_changed_by_their_users():
    preset("colab")["lr"] = 7
    assert preset("colab")["lr"] == 2e-4


@pytest.mark.parametrize("arguments", [["train", "DATA", "--out", "RUN", "--preset", "papr"], ["presets", "papr"]])
def test_unknown_preset(capsys, monkeypatch, arguments):
    line = refused(capsys, monkeypatch, *arguments)
    assert line == "earlyexit: preset must be one of ['colab', 'nano', 'paper-coco', 'paper-ilsvrc'], got 'papr'"
