"""The command line: what it prints and writes, and how it says no."""

import csv
import inspect
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from safetensors.torch import load_file
from squares import command as run
from squares import options, refused, same, write_folder
from squares import weights as stored
from torchvision.transforms.v2.functional import pil_to_tensor

from earlyexit import __version__, cli
from earlyexit.data import open_photo
from earlyexit.evaluation import cost
from earlyexit.model.factories import load_detector
from earlyexit.training import loop
from earlyexit.weights import FOLDER, read_about


def test_all_commands_have_the_same_default_weights():
    commands = (cli.evaluate, cli.calibrate, cli.detect, cli.onnx)
    assert [inspect.signature(command).parameters["weights"].default for command in commands] == ["scenes-many"] * 4


APP = cli.app
OVER = "'{photos}/photo.jpg' is read, and would be written over"


@pytest.fixture(scope="session")
def weights(finished_run):
    return finished_run / "model.safetensors"


@pytest.fixture(scope="session")
def photos(folder, tmp_path_factory):
    """A JPEG, a grayscale PNG, a PNG with transparency, and a file that is none."""
    out = tmp_path_factory.mktemp("photos")
    with Image.open(folder / "test" / "000000000000.jpg") as scene:
        scene.save(out / "photo.jpg")
        scene.convert("L").resize((80, 50)).save(out / "gray.png")
        scene.convert("RGBA").save(out / "transparent.png")
    Image.new("RGB", (1, 300)).save(out / "thin.png")
    (out / "text.jpg").write_text("no picture")
    return out


@pytest.mark.parametrize(
    "name", sorted(command.name or command.callback.__name__ for command in APP.registered_commands)
)
def test_every_command_explains_itself(name):
    """Its first sentence, and a word on each of its options."""
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    command = typer.main.get_command(APP).commands[name]
    assert command.help and command.help.split(".")[0].split("\n")[0][:40] in " ".join(done.stdout.split())
    assert [
        option.name for option in command.params if not getattr(option, "help", None) and option.name != "help"
    ] == []


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "earlyexit.cli", "--version"], capture_output=True, text=True)
    assert done.stdout == f"earlyexit {__version__}\n"


def test_version():
    assert run("--version").stdout == f"earlyexit {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"], ["presets", "nano"], []])
def test_what_needs_no_pytorch_does_not_wait_for_it(arguments):
    """Nor for anything else that takes long to import."""
    script = """
import sys
from earlyexit import cli

try:
    cli.main()
except SystemExit:
    heavy = {"torch", "torchvision", "numpy", "scipy", "matplotlib", "accelerate"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ("--epochs" if "presets" in arguments else "earlyexit") in done.stdout + done.stderr


@pytest.mark.parametrize("name", ["photo.jpg", "gray.png", "transparent.png"])
def test_detect_draws_any_picture(photos, weights, tmp_path, name):
    save = tmp_path / "found.png"
    done = run("detect", photos / name, "--weights", weights, "--exit", 2, "--min-score", 0.001, "--save", save)
    assert done.exit_code == 0, done.output
    first, second, third = done.stdout.splitlines()
    assert first.startswith("this model knows 20 classes: ")
    assert second.startswith(f"{photos / name}: exit 2 (confidence 0.")
    assert "of the compute saved" in second
    assert third == f"wrote {save}"
    with Image.open(save) as picture:
        assert np.asarray(picture.convert("L")).std() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["found.png"]


def test_detect_prints_what_the_model_finds(photos, weights):
    done = run("detect", photos / "photo.jpg", photos / "gray.png", "--weights", weights, "--min-score", 0.001)
    lines = done.stdout.splitlines()[1:]
    model, classes = load_detector(weights)
    assert lines.pop().startswith("2 photos, ")
    for name, line in zip(("photo.jpg", "gray.png"), lines, strict=True):
        with torch.inference_mode():
            (found,) = model.eval()([pil_to_tensor(open_photo(photos / name).image) / 255])
        assert f"{name}: exit 4 (confidence {found['confidence']:.2f}), 0% of the compute saved" in line
        count = int((found["scores"] >= 0.001).sum())
        assert line.count(" at [") == count
        if count:
            assert f"{classes[found['labels'][0]]} {found['scores'][0]:.2f} at [" in line
    none = run("detect", photos / "photo.jpg", "--weights", weights, "--min-score", 1)
    assert "nothing with a score of 1 or more" in none.stdout


def test_detect_in_bfloat16_with_opinions(photos):
    done = run("detect", photos / "photo.jpg", "--weights", "scenes-early", "--exit", 1, "--bf16")
    assert done.exit_code == 0, done.output


def test_detect_in_bfloat16_and_with_thresholds(photos, weights):
    arguments = ["detect", photos / "photo.jpg", "--weights", weights, "--thresholds", "inf,0,0.5"]
    for more in ([], ["--bf16"]):
        done = run(*arguments, *more)
        assert done.exit_code == 0, done.output
        assert ": exit 2 (" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{photos}/lost.jpg"], "no image '{photos}/lost.jpg'"),
        (["{photos}/*.tif"], "no image is called as '{photos}/*.tif' says"),
        (["{photos}/photo.jpg", "{photos}/text.jpg"], "'{photos}/text.jpg' is not a readable image"),
        (["{photos}"], "2 of 5 photos: '{photos}/text.jpg' is not a readable image: cannot identify image file "),
        (
            ["{photos}/photo.jpg", "--thresholds", "a,b"],
            "--thresholds takes numbers with commas between them, got 'a,b'",
        ),
        (["{photos}/photo.jpg", "--thresholds", ""], "--thresholds takes numbers with commas between them, got ''"),
        (["{photos}/photo.jpg", "--thresholds", "0.5,0.5"], "thresholds must be three"),
        (["{photos}/photo.jpg", "--thresholds", "0.5,nan,0.5"], "thresholds must be confidences"),
        (["{photos}/photo.jpg", "--exit", "5"], "exit must be 1, 2, 3 or 4, got 5"),
        (["{photos}/photo.jpg", "--exit", "1", "--thresholds", "0,0,0"], "not both"),
        (["{photos}/photo.jpg", "--weights", "lost"], "got 'lost'"),
        (["{photos}/photo.jpg", "--weights", "{photos}/text.jpg"], "text.jpg is not a safetensors file"),
        (["{photos}/photo.jpg", "--device", "tpu9"], "--device must be cpu, cuda or auto, got 'tpu9'"),
        (["{photos}/photo.jpg", "--device", "meta"], "--device must be cpu, cuda or auto, got 'meta'"),
        (["{photos}/photo.jpg", "--device", "mps"], "--device must be cpu, cuda or auto, got 'mps'"),
        (["{photos}/photo.jpg", "--device", "cuda:99"], "--device cuda:99: there are "),
        (["{photos}/thin.png"], "'{photos}/thin.png' is too thin, 1 x 300: its longer side may be 256 times"),
        (["{photos}/photo.jpg", "--save", "{photos}/found.txt"], "--save must end in"),
        (
            ["{photos}/photo.jpg", "--save", "{photos}/text.jpg/found"],
            "text.jpg' is a file, so this cannot be a folder",
        ),
        (["{photos}/photo.jpg", "--save", "{photos}"], "holds '{photos}/photo.jpg', which is read"),
        (["{photos}", "--save", "{photos}/found"], "lies in a folder that is read"),
        (["{photos}/photo.jpg", "--sheet", "{photos}/sheet.txt"], "--sheet must end in .png"),
        (["{photos}/photo.jpg", "--json", "{photos}"], "--json must be a file, got '{photos}'"),
        (["{photos}/photo.jpg", "--csv", "{photos}/no/x.csv"], "there is no folder '{photos}/no'"),
        *((["{photos}", *to, "{photos}/photo.jpg"], OVER) for to in (["--save"], ["--sheet"])),
        *((["{photos}/photo.jpg", to, "{photos}/photo.jpg"], OVER) for to in ("--save", "--json", "--csv")),
    ],
)
def test_detect_refuses(photos, weights, capsys, monkeypatch, arguments, message):
    arguments = [argument.format(photos=photos) for argument in arguments]
    if "--weights" not in arguments:
        arguments += ["--weights", weights]
    assert message.format(photos=photos) in refused(capsys, monkeypatch, "detect", *arguments)


def test_evaluate_prints_and_writes_the_same(folder, weights, tmp_path):
    path = tmp_path / "result.json"
    done = run("evaluate", folder, "--weights", weights, "--exit", 1, "--batch-size", 4, "--json", path)
    assert done.exit_code == 0, done.output
    result = json.loads(path.read_text())
    assert json.dumps(json.loads(done.stdout.splitlines()[-1])) == json.dumps(result)
    assert result["exits"] == {"1": 7, "2": 0, "3": 0, "4": 0}
    assert 0 < result["gmacs"] < result["gmacs_full"]
    assert "accuracy" not in result  # images with several objects
    assert "1: 7, 2: 0, 3: 0, 4: 0" in done.stdout


def assert_as_meant(exits):
    """A threshold is the score of an image, which rounding in a batch of another size may hold back: one at each."""
    held_back = np.cumsum([5, 6, 3]) - np.cumsum(exits)[:3]
    assert sum(exits) == 24 and (held_back >= 0).all() and (held_back <= [1, 2, 3]).all(), exits


def test_calibrate_is_realised_by_evaluate(folder, weights, no_counting):
    """Index 17 of 24 images: floor(24 * (0.2125, 0.2625, 0.13125)) = 5, 6, 3 leave early."""
    done = run("calibrate", folder, "--weights", weights, "--split", "train", "--index", 17)
    assert done.exit_code == 0, done.output
    limits = done.stdout.strip()
    assert len(limits.split(",")) == 3
    found = run("evaluate", folder, "--weights", weights, "--split", "train", "--thresholds", limits)
    exits = json.loads(found.stdout.splitlines()[-1])["exits"]
    assert_as_meant([exits[k] for k in "1234"])
    never = run("calibrate", folder, "--weights", weights, "--split", "train", "--index", 34)
    assert never.stdout.strip() == "inf,inf,inf"


def exits_of(result):
    """How many images left at exits 1-4, says what `evaluate` printed."""
    assert result.exit_code == 0, result.output
    return [json.loads(result.stdout.splitlines()[-1])["exits"][k] for k in "1234"]


@pytest.mark.parametrize("rules", [[None], ["entropy"], ["router"], ["router", "agreement"]])
def test_calibrate_into_a_run_decides_what_evaluate_does(folder, finished_run, tmp_path, no_counting, rules):
    """Rule and thresholds of the last calibration; the weights stay, and thresholds by hand still win."""
    own = shutil.copytree(finished_run, tmp_path / "run")
    arguments = ["--split", "train", "--index", 17]
    for rule in rules:
        done = run("calibrate", folder, "--into", own, *arguments, *(["--rule", rule] if rule else []))
        assert done.exit_code == 0, done.output
        note, stored_in, following = done.stderr.splitlines()
        assert re.fullmatch(
            r"note: thresholds from 24 image\(s\) are rough: of new ones \d+% to \d+% will leave early, where 61% are "
            r"meant \(bootstrap, 90 %\)",
            note,
        )
        assert stored_in == f"stored in {own / 'model.safetensors'}"
        assert following == f"next: earlyexit evaluate {folder} --weights {own}"
    limits, about = done.stdout.strip(), read_about(own)
    assert about["thresholds"] == [float(t) for t in limits.split(",")]
    assert about["rule"] == (rule or "max softmax")
    before, after = (load_file(path / "model.safetensors") for path in (finished_run, own))
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert {name.partition(".")[0] for name in set(after) - set(before)} == ({"rule"} if rule == "router" else set())

    exits = exits_of(run("evaluate", folder, "--weights", own, "--split", "train"))
    assert_as_meant(exits)
    other_rule = exits_of(
        run("evaluate", folder, "--weights", finished_run, "--split", "train", "--thresholds", limits)
    )
    assert (other_rule == exits) == (rule is None)
    assert exits_of(run("evaluate", folder, "--weights", own, "--thresholds", "inf,inf,inf")) == [0, 0, 0, 7]
    assert exits_of(run("evaluate", folder, "--weights", own, "--exit", 2)) == [0, 7, 0, 0]


def test_photos_of_12_bits_are_said_wherever_they_are_measured(folder, weights, tmp_path, no_counting):
    data = shutil.copytree(folder, tmp_path / "data")
    for path in sorted((data / "train").iterdir())[:2]:
        Image.fromarray(np.linspace(0, 4000, 64 * 64).reshape(64, 64).astype(np.uint16)).save(path, format="PNG")
    for command in ("evaluate", "calibrate"):
        done = run(command, data, "--weights", weights, "--split", "train")
        assert done.exit_code == 0, done.output
        (note,) = (line for line in done.stderr.splitlines() if "bits" in line)
        assert note.startswith("note: 12 bits in a file of 16: 2 of 24 photos, such as '")
        assert note.endswith("', the largest value is 4000, so 4095 is taken for white")


def test_calibrate_worth_keeps_a_budget(folder, finished_run, tmp_path):
    """The rule and its price are in the run, and decide what `evaluate` does, without any option."""
    own = shutil.copytree(finished_run, tmp_path / "run")
    arguments = ["calibrate", folder, "--into", own, "--split", "train", "--rule", "worth"]
    refused = run(*arguments)
    assert refused.exit_code != 0 and "goes by a budget" in str(refused.exception)
    done = run(*arguments, "--budget", 0.95)
    assert done.exit_code == 0, done.output
    assert done.stdout == "0.5,0.5,0.5\n"
    about = read_about(own)
    assert about["rule"] == "worth"
    weights = load_file(own / "model.safetensors")
    assert {name for name in weights if name.startswith("rule.")} >= {"rule.weight_1", "rule.costs", "rule.price"}
    result = run("evaluate", folder, "--weights", own, "--split", "train")
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["gmacs"] <= 0.95 * found["gmacs_full"] + 1e-6


def test_calibrate_for_a_budget_of_time(folder, finished_run, tmp_path, monkeypatch):
    """Exits 1 to 3 take as long as half of full depth here: the cheapest of them has nothing left to save."""
    monkeypatch.setattr(cost, "time_exits", lambda model, dataset: [4.0, 4.2, 4.4, 8.0])
    own = shutil.copytree(finished_run, tmp_path / "run")
    arguments = ["calibrate", folder, "--into", own, "--split", "train", "--rule", "worth"]
    done = run(*arguments, "--budget", 0.75, "--clock")
    assert done.exit_code == 0 and "take 4.0, 4.2, 4.4, 8.0 ms here, and the budget is 6.0 ms an image" in done.stderr
    costs = load_file(own / "model.safetensors")["rule.costs"]
    assert costs[0].tolist() == pytest.approx([0, 0.2 / 8, 0.4 / 8, 0.5])
    assert "--clock says what a budget counts" in str(run(*arguments, "--clock").exception)


def test_nobody_leaves_is_stored_too(folder, finished_run, tmp_path, no_counting):
    own = shutil.copytree(finished_run, tmp_path / "run")
    assert run("calibrate", folder, "--into", own, "--split", "train", "--index", 34).exit_code == 0
    assert read_about(own)["thresholds"] == [None] * 3
    assert exits_of(run("evaluate", folder, "--weights", own)) == [0, 0, 0, 7]


@pytest.mark.parametrize("into", ["scenes", FOLDER / "scenes.safetensors"])
def test_calibrate_changes_no_weights_of_the_package(tmp_path, capsys, monkeypatch, into):
    """Said before anything is measured."""
    before = (FOLDER / "scenes.safetensors").read_bytes()
    line = refused(capsys, monkeypatch, "calibrate", tmp_path / "lost", "--into", into)
    assert line == f"earlyexit: the weights '{into}' belong to the package: export a run of your own first"
    assert (FOLDER / "scenes.safetensors").read_bytes() == before


def test_calibrate_with_an_unknown_rule(folder, finished_run, capsys, monkeypatch):
    weights = ["--weights", finished_run, "--split", "train"]
    line = refused(capsys, monkeypatch, "calibrate", folder, *weights, "--rule", "luck")
    assert line.startswith("earlyexit: the rule must be one of ['max softmax', 'entropy', ")
    assert line.endswith("got 'luck'")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--index", 5, "--budget", 0.6], "give --index or --budget, not both, got 5 and 0.6"),
        (["--weights", "scenes", "--into", "{run}"], "give --weights or --into, not both, got scenes and {run}"),
        (
            ["--budget", 60, "--split", "train"],
            "a budget must be a share of full depth, such as 0.6, got 60.0: percent?",
        ),
        (
            ["--budget", "nan", "--clock", "--split", "train"],
            "a budget must be a share of full depth, such as 0.6, got nan",
        ),
    ],
)
def test_calibrate_ignores_nothing(folder, finished_run, capsys, monkeypatch, arguments, said):
    arguments = [str(argument).format(run=finished_run) for argument in arguments]
    arguments += [] if "--weights" in arguments else ["--weights", finished_run]
    line = refused(capsys, monkeypatch, "calibrate", folder, *arguments)
    assert line.startswith(f"earlyexit: {said.format(run=finished_run)}")


def test_a_router_needs_a_place(tmp_path, capsys, monkeypatch):
    """Said before anything is measured: its thresholds are worth nothing without it."""
    line = refused(capsys, monkeypatch, "calibrate", tmp_path / "lost", "--rule", "router")
    assert line == "earlyexit: --rule router is fitted to these images, and lost with this command: add --into RUN"


@pytest.mark.parametrize(("rule", "noted"), [("entropy", True), ("max softmax", False), (None, False)])
def test_thresholds_of_a_rule_that_the_weights_lack(folder, weights, rule, noted):
    arguments = ["--weights", weights, "--split", "train", *(["--rule", rule] if rule else [])]
    done = run("calibrate", folder, *arguments)
    assert len(done.stdout.strip().split(",")) == 3
    assert ("note: these thresholds are for the rule 'entropy', which" in done.stderr) == noted


def test_thresholds_in_percent(tmp_path, capsys, monkeypatch):
    """Said before anything is read."""
    line = refused(capsys, monkeypatch, "evaluate", tmp_path / "lost", "--thresholds", "90,90,95")
    assert line.endswith("(infinity for 'never'), got (90.0, 90.0, 95.0): percent? divide by 100")


def test_no_place_for_the_result(folder, tmp_path, capsys, monkeypatch):
    """Said before anything is measured."""
    place = tmp_path / "no" / "x.json"
    line = refused(capsys, monkeypatch, "evaluate", folder, "--json", place)
    assert line == f"earlyexit: --json {place}: there is no folder '{place.parent}'"
    line = refused(capsys, monkeypatch, "export", tmp_path, "--name", place)
    assert line == f"earlyexit: --name {place}: there is no folder '{place.parent}'"


def test_no_images(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "data", test=[], calibration=[])
    for command, split in (("evaluate", "test"), ("calibrate", "calibration")):
        line = refused(capsys, monkeypatch, command, folder)
        assert line == f"earlyexit: there are no images in '{folder / split}': its annotation file lists none"


def test_train_refuses_to_mix_runs(folder, finished_run, capsys, monkeypatch):
    before = (finished_run / "checkpoint.pt").read_bytes()
    line = refused(capsys, monkeypatch, "train", folder, "--out", finished_run)
    assert "already holds a run: add --resume" in line
    line = refused(capsys, monkeypatch, "train", folder, "--out", finished_run, "--resume", "--theta", "0.5")
    assert "theta was 0.0115, is 0.5" in line
    assert (finished_run / "checkpoint.pt").read_bytes() == before


def test_train_overwrites_no_weights_whose_checkpoint_is_gone(folder, finished_run, tmp_path, capsys, monkeypatch):
    out = shutil.copytree(finished_run, tmp_path / "run")
    (out / "checkpoint.pt").unlink()
    before = (out / "model.safetensors").read_bytes()
    line = refused(capsys, monkeypatch, "train", folder, "--out", out, "--exit-target", "largest")
    assert "already holds a run, but no checkpoint.pt to go on from" in line
    assert (out / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exits", "1,x"], "--exits takes numbers with commas between them, got '1,x'"),
        (["--exits", "0,4"], "exits must name some of the exits 1-4, got (0, 4)"),
        (["--split", "lost"], "no image folder"),
        ([], "objects, but the exits learn one class per image"),
    ],
)
def test_train_refuses(folder, tmp_path, capsys, monkeypatch, arguments, message):
    assert message in refused(capsys, monkeypatch, "train", folder, "--out", tmp_path / "run", *arguments)
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL once two of three epochs are done; after --resume all weights are those of a run left alone."""
    data = write_folder(tmp_path / "data", train=[(64, 64)] * 16)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}

    def arguments(out, *more):
        return ["train", data, *options(out), "--epochs", 3, *more]

    command = [sys.executable, "-m", "earlyexit", *map(str, arguments(killed))]
    with open(tmp_path / "output", "wb") as output:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, env=environment)
    with process.stdout:
        for _ in range(2):  # an epoch's line comes once it is saved
            assert process.stdout.readline(), (tmp_path / "output").read_text()
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert rows(killed) in (2, 3)  # the third may just have been written
    assert run(*arguments(killed, "--resume")).exit_code == 0
    assert run(*arguments(whole)).exit_code == 0
    assert rows(killed) == rows(whole) == 3
    assert same(stored(killed), stored(whole))


def rows(out):
    return len((out / "log.csv").read_text().splitlines()) - 1


def test_a_finished_run_says_what_there_is(folder, finished_run):
    before = (finished_run / "checkpoint.pt").read_bytes()
    how = ["--exit-target", "largest", "--epochs", 1, "--batch-size", 8, "--lr", 1e-4, "--resume"]
    done = run("train", folder, "--out", finished_run, *how)
    assert done.exit_code == 0, done.output
    with open(finished_run / "log.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    said = f"'{finished_run}' is finished; its last epoch: epoch 1  classification {float(row['classification']):.4g}"
    assert done.stdout.startswith(said) and done.stdout.count("\n") == 1
    assert (finished_run / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_training_that_is_stopped_says_how_to_go_on(tmp_path, capsys, monkeypatch, epochs):
    """Ctrl-C in a step of the first or of the second epoch."""
    data, out, step = write_folder(tmp_path / "data", train=[(64, 64)] * 4), tmp_path / "run", loop._Run.batch
    calls = []

    def stop(*arguments, **more):
        calls.append(arguments)
        if len(calls) > epochs:
            raise KeyboardInterrupt
        return step(*arguments, **more)

    monkeypatch.setattr(loop._Run, "batch", stop)
    monkeypatch.setattr(sys, "argv", ["earlyexit", "train", str(data), *map(str, options(out, "--batch-size", 8))])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    *_, line = capsys.readouterr().err.splitlines()
    assert line == "earlyexit: stopped; " + (
        f"the last checkpoint is '{out / 'checkpoint.pt'}': the same command with --resume goes on from it"
        if epochs
        else "no epoch is saved yet: the same command with --resume begins again"
    )
    monkeypatch.undo()
    assert run("train", data, *options(out, "--batch-size", 8, "--resume")).exit_code == 0
    assert rows(out) == 2


def test_letters_that_the_output_lacks_stop_nothing(tmp_path, monkeypatch):
    photo = tmp_path / "고양이.jpg"
    Image.new("RGB", (64, 64), "gray").save(photo)
    output = io.TextIOWrapper(io.BytesIO(), "cp1252")
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.setattr(sys, "argv", ["earlyexit", "detect", str(photo)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output.flush()
    assert ended.value.code == 0
    assert b"???.jpg: exit " in output.buffer.getvalue()


def test_one_bad_photo_among_good_ones(tmp_path, capsys, monkeypatch):
    for name, size in (("a.jpg", (1200, 900)), ("b.jpg", (64, 64))):
        Image.new("RGB", size, "gray").save(tmp_path / name)
    (tmp_path / "broken.jpg").write_text("no image")
    photos = [str(tmp_path / name) for name in ("a.jpg", "broken.jpg", "b.jpg")]
    monkeypatch.setattr(sys, "argv", ["earlyexit", "detect", *photos, "--save", str(tmp_path / "all.png")])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code == 2 and "1 of 3 photos: " in said.err and "broken.jpg' is not a readable image" in said.err
    assert [line.split(": exit")[0] for line in said.out.splitlines()[1:3]] == [photos[0], photos[2]]
    assert Image.open(tmp_path / "all.png").width > 400
