"""Bad input: one line that shows it and says what would be right, exit code 2, and nothing written."""

import importlib.util
import json
import runpy
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from squares import options, refused, settings, write_folder
from typer.testing import CliRunner

from earlyexit import cli
from earlyexit.study.measure import training_of
from earlyexit.training.batches import check_dataset, make_loader, without_traceback
from earlyexit.training.run import train
from earlyexit.training.settings import check_resumable

SCRIPTS = Path(__file__).resolve().parent.parent / "data_prep"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("squares") / "data", train=[(64, 64)] * 4)


@pytest.fixture
def spoilt(tmp_path):
    """A function that makes the data set with its JSON changed."""

    def spoil(change):
        folder = write_folder(tmp_path / "data", train=[(64, 64)] * 4)
        path = folder / "annotations" / "instances_train.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return folder

    return spoil


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
        ("--workers", "-1", "workers must be a finite number from 0 on, got -1"),
        ("--batch-size", "0", "batch_size must be a finite number from 1 on, got 0"),
        ("--epochs", "0", "epochs must be a finite number from 1 on, got 0"),
        ("--ema", "1", "ema must be in [0, 1), got 1.0"),
        ("--jitter", "2", "jitter must be in [0, 1), got 2.0"),
        ("--seed", "-1", "seed must be a whole number from 0 to 2**63 - 1, got -1"),
        ("--workers", "65", "workers must be at most 64, since each is a process, got 65"),
        ("--out", "", "out must be a folder, got ''"),
        ("--warm-start", "", "warm_start must be a name or a file, got ''"),
        ("--opinions", "", "--opinions takes numbers with commas between them, got ''"),
        ("--exit-weights", "nan", "exit_weights must have a finite, positive weight for each of the exits (4,)"),
        ("--init", "", "init must be a name or a file, or none for random weights, got ''"),
        ("--init", "nope", "init must be 'imagenet', one of ['scenes'"),
        ("--exits", "5", "exits must name some of the exits 1-4, got (5,)"),
        ("--epochs", "abc", "Invalid value for '--epochs': "),
        ("--nonsense", "1", "No such option: --nonsense"),
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
        (["--freeze", 9], "freeze must be the number of frozen stages, 0 to 4, got 9"),
        (["--max-size", 3], "min_size and max_size must be at least 32 pixels, got {'min_size': 64, 'max_size': 3}"),
        (["--exits", "1,1,4", "--exit-weights", "1,1,1"], "exit_weights must be one number for each of the exits, all"),
        (["--task", "classify", "--filler", "zero"], "the task 'classify' trains no detector and has no use for"),
        (["--task", "classify", "--exits", "1,4", "--allow-empty"], "the task 'classify' trains no detector"),
    ],
)
def test_settings_are_not_shown_that_no_training_can_have(data, tmp_path, capsys, monkeypatch, more, shown):
    line = refused(capsys, monkeypatch, "train", data, *options(tmp_path / "run", "--show", *more))
    assert line.startswith(f"earlyexit: {shown}")


def test_no_advice_before_a_refusal(data, tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(sys, "argv", ["earlyexit", "train", str(data), *map(str, options(tmp_path / "file"))])
    with pytest.raises(SystemExit):
        cli.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("earlyexit: --out must be a folder that can be written to")


def no_boxes(coco):
    coco["annotations"] = coco["annotations"][1:]


def two_boxes(coco):
    coco["annotations"][0]["image_id"] = 101


def outside(coco):
    coco["annotations"][2]["bbox"] = [64, 0, 10, 10]


def huge(coco):
    coco["annotations"][2]["bbox"] = [0, 0, 1e9, 1e9]


def same_id(coco):
    coco["images"][1]["id"] = 100


def no_id(coco):
    coco["images"][0]["id"] = coco["annotations"][0]["image_id"] = None


def no_categories(coco):
    coco["categories"], coco["annotations"] = [], []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_boxes, "image 100, '0.png', has no box; leave such images out, or use --allow-empty"),
        (two_boxes, "image 100, '0.png', has no box"),
        (outside, "annotation 3: bbox outside its image: [64, 0, 10, 10] in 64 x 64"),
        (huge, "image 102, '2.png', has the box [0, 0, 1000000000.0, 1000000000.0], most of which is outside"),
        (same_id, "have the same id"),
        (no_id, "image number 1: id is neither a whole number nor a text: None"),
        (no_categories, "its annotations have no categories"),
        (lambda coco: coco.update(images=[], annotations=[]), "there is nothing to train on: 0 images"),
    ],
)
def test_annotations_are_refused_before_the_first_step(spoilt, tmp_path, change, message):
    with pytest.raises(ValueError) as refusal:
        train(settings(spoilt(change), tmp_path / "run"))
    assert message in str(refusal.value)
    assert not (tmp_path / "run").exists()


def test_what_may_be_in_the_annotations(spoilt):
    from earlyexit.data.coco import coco_split

    dataset = coco_split(spoilt(two_boxes), "train")
    check_dataset(dataset, allow_empty=True, single=False)
    with pytest.raises(ValueError, match="image 101, '1.png', has 2 objects, but the exits learn one class"):
        check_dataset(dataset, allow_empty=True)


def test_a_box_may_stick_out_a_little(spoilt):
    from earlyexit.data.coco import coco_split

    def over_the_edge(coco):
        coco["annotations"][0]["bbox"] = [40, 40, 30, 30]

    check_dataset(coco_split(spoilt(over_the_edge), "train"))


def test_a_loading_process_speaks_in_one_line(data, tmp_path):
    from earlyexit.data.coco import coco_split

    folder = write_folder(tmp_path / "data", train=[(64, 64)] * 2)
    (folder / "train" / "1.png").write_bytes(b"")
    loader = make_loader(coco_split(folder, "train"), [[0], [1]], workers=1)
    batches = without_traceback(loader)
    assert next(batches)[1][0]["image_id"] == 100
    with pytest.raises(ValueError, match="^image 101, '1.png', cannot be read: cannot identify image file [^\n]*$"):
        next(batches)


# Resuming


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


def test_a_checkpoint_of_something_else(tmp_path):
    from earlyexit.training.checkpoints import load_checkpoint

    torch.save({"other": 1}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint.pt' is not a checkpoint of this run \(KeyError: 'model'\)"):
        load_checkpoint(tmp_path / "checkpoint.pt", {"model": torch.nn.Linear(1, 1)})
    torch.save({"rows": 5}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"not a checkpoint of this run \(TypeError: its rows must be a list, got 5\)"):
        load_checkpoint(tmp_path / "checkpoint.pt", {})


# Other commands


def test_no_place_for_the_result(data, tmp_path, capsys, monkeypatch):
    """Said before anything is measured."""
    place = tmp_path / "no" / "x.json"
    line = refused(capsys, monkeypatch, "evaluate", data, "--json", place)
    assert line == f"earlyexit: --json {place}: there is no folder '{place.parent}'"
    line = refused(capsys, monkeypatch, "export", tmp_path, "--name", place)
    assert line == f"earlyexit: --name {place}: there is no folder '{place.parent}'"


def test_no_images(tmp_path, capsys, monkeypatch):
    folder = write_folder(tmp_path / "data", test=[], calibration=[])
    for command, split in (("evaluate", "test"), ("calibrate", "calibration")):
        line = refused(capsys, monkeypatch, command, folder)
        assert line == f"earlyexit: there are no images in '{folder / split}': its annotation file lists none"


# Preparing data


def prepare(script, *arguments):
    spec = importlib.util.spec_from_file_location(script, SCRIPTS / f"{script}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return CliRunner().invoke(module.app, [str(argument) for argument in arguments])


def said(result):
    """The one line on stderr."""
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    return line


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b", "c"):
        Image.new("RGB", (20, 10)).save(folder / f"{name}.jpg")
    return folder


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('file,class,x,y,width,height\n"' + "a" * 200_000 + '",dog,1,2,3,4\n', "is not readable as CSV from line 2 on"),
        ("file,class,x,y,width,height\nä.jpg,dog,1,2,3,4\n".encode("latin-1"), "; save it as UTF-8"),
        ("file,class,x,y,width,height\na.jpg,,,,,\n", "leaves 1 images and no object"),
    ],
)
def test_csv_files(photos, tmp_path, text, message):
    source = tmp_path / "boxes.csv"
    source.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in said(prepare("own_data", "csv", source, "--images", photos, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def coco_file(path, names, objects):
    images = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(names)]
    found = [{"id": i + 1, "image_id": i, "category_id": 1, "bbox": [1, 1, 5, 5]} for i in objects]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"images": images, "annotations": found, "categories": [{"id": 1, "name": "dog"}]}))
    return path


def test_a_file_name_that_no_disk_takes_is_left_out(photos, tmp_path):
    source = coco_file(tmp_path / "x.json", ["a.jpg", "b.jpg", "c.jpg", "y" * 5000], range(4))
    result = prepare("own_data", "coco", source, "--images", photos, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "dropped, no such image: 1" in result.output


@pytest.mark.parametrize(
    ("option", "name", "message"),
    [
        ("--sheet", "x.jpg", "--sheet must be a .png file, got"),
        ("--report", "photos", "--report must be a file, got"),
        ("--report", "no/x.csv", "there is no folder"),
    ],
)
def test_files_to_write_are_checked_first(photos, tmp_path, option, name, message):
    source = coco_file(tmp_path / "x.json", ["a.jpg", "b.jpg", "c.jpg"], range(3))
    arguments = ("coco", source, "--images", photos, "--out", tmp_path / "out", option, tmp_path / name)
    assert message in said(prepare("own_data", *arguments))
    assert not (tmp_path / "out").exists()


def test_coco_parts_that_do_not_fit(photos, tmp_path):
    """Every photo of one part unreadable: the reasons are told; other categories: no common classes."""
    for part, start in (("train2017", 0), ("val2017", 10)):
        path = coco_file(tmp_path / "annotations" / f"instances_{part}.json", ["a.jpg", "b.jpg", "c.jpg"], range(3))
        content = json.loads(path.read_text())
        for image, found in zip(content["images"], content["annotations"], strict=True):
            image["id"] = found["image_id"] = image["id"] + start
        path.write_text(json.dumps(content))
        (tmp_path / part).mkdir()
        for photo in photos.iterdir():
            (tmp_path / part / photo.name).write_bytes(photo.read_bytes() if start == 0 else b"")
    result = prepare("coco_single", "--coco", tmp_path, "--out", tmp_path / "out")
    assert said(result) == "no image with a single object that can be used is left of val2017"
    assert "dropped, unreadable image: 3" in result.stdout
    path.write_text(path.read_text().replace("dog", "cat"))
    for photo in photos.iterdir():
        (tmp_path / part / photo.name).write_bytes(photo.read_bytes())
    result = prepare("coco_single", "--coco", tmp_path, "--out", tmp_path / "out")
    assert said(result) == "train2017 and val2017 have other categories: only one of them has (1, 'cat')"
    assert not (tmp_path / "out").exists()


def test_nothing_is_made_of_no_single_object(photos, tmp_path):
    source = coco_file(tmp_path / "x.json", ["a.jpg"], [0, 0])
    arguments = ("--annotations", source, "--images", photos, "--out", tmp_path / "out")
    assert said(prepare("single_object", *arguments)).endswith("none of its 1 images has exactly one object")
    assert not (tmp_path / "out").exists()


def test_annotation_of_no_image_on_the_sheet(photos, tmp_path):
    coco_file(tmp_path / "annotations" / "instances_train.json", ["a.jpg"], [0, 7])
    line = said(prepare("contact_sheet", tmp_path, "--out", tmp_path / "sheet.png"))
    assert "annotation 8: annotation of an unknown image: 7" in line


@pytest.mark.parametrize("script", ["own_data", "coco_single", "ilsvrc_single", "single_object", "contact_sheet"])
def test_wrong_usage_of_a_script_is_one_line(script, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [script, "--zzz"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    (line,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert line == "No such option: --zzz (see --help)"
