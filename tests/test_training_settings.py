"""Each option once: on the command line, in presets, with its limits, and in the check of what may be resumed."""

import json
import math
import re
import shlex
from dataclasses import asdict, dataclass, fields, replace

import pytest
import typer
from squares import options, refused, settings, write_folder
from typer.testing import CliRunner

from earlyexit import cli
from earlyexit.study.plan import training_of
from earlyexit.training.run import train
from earlyexit.training.settings import (
    FREE_TO_CHANGE,
    OPTIMISER,
    PRESETS,
    RUN,
    TrainSettings,
    _option,
    as_options,
    check_resumable,
    check_settings,
    option_name,
    preset,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4)


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


# One list of options


CHOSEN = {  # values other than the default, for settings whose values only the whole can judge
    "model": "regnet_y_800mf",
    "exit_target": "largest",
    "filler": "learned",
    "exits": (1, 2),
    "exit_weights": (0.25,),
    "opinions": (1, 3),
    "widths": (48, 0, 24),
}


def another(option):
    """A value that this setting may have and that is not its default."""
    if option.name in CHOSEN:
        return CHOSEN[option.name]
    about, default = option.metadata, option.default
    if about["words"]:
        return next(word for word in about["words"] if word != default)
    if isinstance(default, bool):
        return not default
    if isinstance(default, float):
        return default / 3 if default else 0.1 + 0.2  # which has seventeen digits
    if about["least"] > -math.inf:
        return int(default or about["least"]) + 1
    return "some text"


def options_in_help(text):
    """The options that `--help` lists, each with the help beside it; what kind of value it takes is between them."""
    kind = r"(?:<\w+>|TEXT|INTEGER|FLOAT)?"  # as new and old versions of Typer write it
    lines = [re.match(rf"[│ *]*(--\S+) +(--no-\S+)? *{kind} +(.*?)[ │]*$", line) for line in text.splitlines()]
    return [(found[1], found[3]) for found in lines if found]


def test_every_setting_is_an_option_exactly_once_with_its_help():
    listed = options_in_help(CliRunner().invoke(cli.app, ["train", "--help"], env={"COLUMNS": "400"}).stdout)
    names = [name for name, _ in listed]
    expected = [option for option in fields(TrainSettings) if option.name != "data"]
    assert sorted(names) == sorted([*map(option_name, (o.name for o in expected)), "--preset", "--show", "--help"])
    for option in expected:
        assert dict(listed)[option_name(option.name)].startswith(option.metadata["help"])
        assert len(option.metadata["help"]) > 10


@pytest.mark.parametrize("option", fields(TrainSettings), ids=lambda option: option.name)
def test_options_mean_the_setting_that_they_are_made_from(option, monkeypatch):
    """From a setting to a command line and back, and through JSON, as settings.json has it."""
    made = TrainSettings(**{"data": "DATA", "out": "RUN", option.name: another(option)})
    assert set(made.changed()) == {"data", "out", option.name}
    monkeypatch.setattr(cli, "check_settings", lambda settings: None)  # some make sense with others alone
    given = {name: value for name, value in made.changed().items() if name != "data"}
    assert json.loads(output("train", made.data, *as_options(given), "--show")) == as_json(made)


@pytest.mark.parametrize("option", fields(TrainSettings), ids=lambda option: option.name)
def test_only_free_settings_may_change_when_a_run_is_resumed(option, tmp_path):
    before, now = TrainSettings("DATA", "OLD"), {"data": "DATA", "out": "RUN", "resume": True}
    (tmp_path / "settings.json").write_text(json.dumps({"settings": asdict(before)}))
    changed = TrainSettings(**{**now, option.name: another(option)} | {"resume": True})
    if option.metadata["free"]:
        assert option.name in FREE_TO_CHANGE
        check_resumable(changed, tmp_path, 4)
    else:
        with pytest.raises(ValueError, match=f"trained with other settings: {option.name} was "):
            check_resumable(changed, tmp_path, 4)


@dataclass(frozen=True)
class More(TrainSettings):
    """The settings with one that a reader has added."""

    mixup: float = _option(0.0, "Share of mixed images.", OPTIMISER, least=0, below=1)
    drawn: tuple[int, ...] = _option((1, 2), "Stages to draw.", RUN, free=True)


def test_a_new_setting_needs_no_other_list(tmp_path):
    app = typer.Typer()
    cli.add_train(app, More)

    def run(*arguments):
        return CliRunner().invoke(app, ["DATA", "--out", "RUN", *arguments], env={"COLUMNS": "400"})

    listed = dict(options_in_help(run("--help").stdout))
    assert listed["--mixup"] == "Share of mixed images. [default: 0.0]"
    made = More("DATA", "RUN", mixup=0.5, drawn=(3,))
    assert made.changed() == {"data": "DATA", "out": "RUN", "mixup": 0.5, "drawn": (3,)}
    assert json.loads(run(*as_options({"mixup": 0.5, "drawn": (3,)}), "--show").stdout) == as_json(made)
    assert str(run("--mixup", "1", "--show").exception) == "mixup must be at least 0 and below 1, got 1.0"
    (tmp_path / "settings.json").write_text(json.dumps({"settings": asdict(TrainSettings("DATA", "RUN"))}))
    check_resumable(More("DATA", "RUN", resume=True, drawn=(3,)), tmp_path, 4)
    with pytest.raises(ValueError, match="other settings: mixup was 0.0, is 0.5"):
        check_resumable(More("DATA", "RUN", resume=True, mixup=0.5), tmp_path, 4)


# Limits


@pytest.mark.parametrize(
    ("option", "value", "shown"),
    [
        ("--lr", "nan", "lr must be a finite number above 0, got nan"),
        ("--lr", "0", "lr must be a finite number above 0, got 0.0"),
        ("--lr", "inf", "lr must be a finite number above 0, got inf"),
        ("--weight-decay", "-1", "weight_decay must be a finite number from 0 on, got -1.0"),
        ("--clip", "nan", "clip must be a finite number from 0 on, got nan"),
        ("--theta", "inf", "theta must be a finite number from 0 on, got inf"),
        ("--warmup", "-1", "warmup must be a finite number from 0 on, got -1"),
        ("--workers", "-1", "workers must be at least 0 and below 65, got -1"),
        ("--batch-size", "0", "batch_size must be a finite number from 1 on, got 0"),
        ("--epochs", "0", "epochs must be a finite number from 1 on, got 0"),
        ("--ema", "1", "ema must be at least 0 and below 1, got 1.0"),
        ("--jitter", "1", "jitter must be at least 0 and below 1, got 1.0"),
        ("--seed", "-1", "seed must be at least 0 and below 9223372036854775808, got -1"),
        ("--workers", "65", "workers must be at least 0 and below 65, got 65"),
        ("--out", "", "out must be a folder, got ''"),
        ("--warm-start", "", "warm_start must be a name or a file, got ''"),
        ("--opinions", "", "--opinions takes numbers with commas between them, got ''"),
        ("--exit-weights", "nan", "exit_weights must have a finite, positive weight for each of the exits (4,)"),
        ("--init", "", "init must be a name or a file, or none for random weights, got ''"),
        ("--init", "nope", "init must be 'imagenet', one of ['scenes'"),
        ("--exits", "5", "exits must name some of the exits 1-4, got (5,)"),
        ("--epochs", "abc", "Invalid value for '--epochs': "),
        ("--nonsense", "1", "No such option"),
        ("--accumulate", "3", "batch_size must be a multiple of processes x accumulate, got batch_size 2 for 3"),
    ],
)
def test_options_of_a_training(data, tmp_path, capsys, monkeypatch, option, value, shown):
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", option, value))
    assert line.startswith(f"earlyexit: {shown}")
    assert "abc" not in value or line.endswith("got 'abc' (see --help)")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("more", "shown"),
    [
        (["--model", "x"], "model must be one of ('nano', 'regnet_y_800mf'), got 'x'"),
        (["--norm", "x"], "norm must be one of ('batch', 'frozen', 'sync'), got 'x'"),
        (["--filler", "x"], "filler must be one of ('downsample', 'zero', 'learned'), got 'x'"),
        (["--freeze", 9], "freeze must be at least 0 and below 5, got 9"),
        (["--widths", "8,8"], "widths are those of filler 'learned', got widths=(8, 8) and filler='downsample'"),
        (["--max-size", 3], "max_size must be a finite number from 32 on, got 3"),
        (["--exits", "1,1,4", "--exit-weights", "1,1,1"], "exit_weights must be one number for each of the exits, all"),
        (["--task", "classify", "--filler", "zero"], "the task 'classify' trains no detector and has no use for"),
        (["--task", "classify", "--exits", "1,4", "--allow-empty"], "the task 'classify' trains no detector"),
    ],
)
def test_settings_are_not_shown_that_no_training_can_have(data, tmp_path, capsys, monkeypatch, more, shown):
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--show", *more))
    assert line.startswith(f"earlyexit: {shown}")


@pytest.mark.parametrize("wrong", [{"theta": 0.1}, {"exits": (1, 4)}, {"warm_start": None}, {"task": "classify"}])
def test_settings_that_only_early_cannot_have(wrong):
    right = {"only_early": True, "warm_start": "scenes", "theta": 0.0, "exits": (1, 2, 3), "filler": "learned"}
    check_settings(TrainSettings("data", "out", **right))
    with pytest.raises(ValueError, match="only_early trains the early exits of a trained detector|warm_start is for"):
        check_settings(TrainSettings("data", "out", **{**right, **wrong}))


# Resuming


@pytest.mark.parametrize("option", ["epochs", "save_every", "batch_size"])
def test_whole_numbers_are_whole(option):
    with pytest.raises(ValueError, match=f"{option} must be a whole number, got 1.5"):
        check_settings(TrainSettings("data", "run", **{option: 1.5}))


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished")
    train(settings(data, out, epochs=1))
    return out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resume": False}, "already holds a run: add --resume"),
        ({"norm": "frozen"}, "norm was 'batch', is 'frozen'"),
        ({"lr": 0.5}, "other settings: lr was 0.001, is 0.5"),
        ({"epochs": 4, "seed": 3}, "epochs was 1, is 4, seed was 0, is 3"),
    ],
)
def test_runs_are_not_mixed(data, finished, changes, message):
    with pytest.raises(ValueError, match=message):
        train(settings(data, finished, **{"epochs": 1, "resume": True, **changes}))


@pytest.mark.parametrize("text", [None, "{", "{}", "[1]"])
def test_a_run_without_its_story(data, tmp_path, text):
    if text:
        (tmp_path / "settings.json").write_text(text)
    with pytest.raises(ValueError, match="settings.json' is missing or damaged: put it back, or choose another --out"):
        check_resumable(settings(data, tmp_path, resume=True), tmp_path, 4)


@pytest.mark.parametrize(
    ("option", "nothing", "value"),
    [
        ("sandwich", False, True),
        ("early_gradient", 1.0, 0.5),
        ("head_distillation", 0, 1.0),
        ("filler", "downsample", "topdown"),
    ],
)
def test_a_run_made_with_an_option_that_no_longer_exists(data, tmp_path, option, nothing, value):
    now, path = settings(data, tmp_path, resume=True), tmp_path / "settings.json"
    path.write_text(json.dumps({"settings": {**asdict(now), option: nothing}}))
    check_resumable(now, tmp_path, 4)
    assert training_of(tmp_path, "ablation").settings == now
    path.write_text(json.dumps({"settings": {**asdict(now), option: value}}))
    for read in (lambda: check_resumable(now, tmp_path, 4), lambda: training_of(tmp_path, "ablation")):
        with pytest.raises(ValueError, match=f"was made with {option}={value!r}, which no longer exists.* 0d16035"):
            read()


def test_other_classes_are_not_gone_on_with(data, tmp_path):
    story = {"settings": {"data": str(data), "out": "", "min_size": 64, "epochs": 2, "batch_size": 2}}
    (tmp_path / "settings.json").write_text(json.dumps({**story, "images": 4, "classes": ["ant"]}))
    now = settings(data, tmp_path, resume=True)
    check_resumable(now, tmp_path, 4, ["ant"])
    with pytest.raises(ValueError, match=r"trained on the classes \['ant'\], the split now has \['bee'\]"):
        check_resumable(now, tmp_path, 4, ["bee"])


def test_a_run_knows_its_data_by_what_is_in_it(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    story = {"settings": asdict(TrainSettings("d", str(out))), "images": 4, "digest": "abc"}
    (out / "settings.json").write_text(json.dumps(story))
    now = TrainSettings("./elsewhere/../d", str(out), resume=True)
    check_resumable(now, out, 4, digest="abc")
    with pytest.raises(ValueError, match="data was 'd', is './elsewhere/../d'"):  # nobody looked into it
        check_resumable(now, out, 4)
    with pytest.raises(ValueError, match="was trained on other data than .* annotations or photos have changed since"):
        check_resumable(now, out, 4, digest="abd")
    with pytest.raises(ValueError, match="epochs was 6, is 9; to train on, begin another run from it: --warm-start"):
        check_resumable(replace(now, epochs=9), out, 4, digest="abc")
