"""The sliders of chapter 5: their numbers are the library's, and they are in the page."""

import copy
import json
import math

import nbformat
import pytest
import torch
from test_repository import load_tool
from torchvision.ops import box_convert, box_iou

from earlyexit import load_detector
from earlyexit.data import scene_dataset
from earlyexit.evaluation import collect_records, evaluate_records, threshold_exits

sliders = load_tool("sliders")
book_pages = load_tool("book_pages")


@pytest.fixture(scope="module")
def data():
    return json.loads(sliders.PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def records():
    return collect_records(load_detector("scenes")[0], scene_dataset("test", sliders.SCENES))


def thresholds(data, setting):
    values = [data["limits"][k][step] for k, step in enumerate(setting)]
    return tuple(math.inf if value is None else value for value in values)


@pytest.mark.parametrize("setting", [(9, 4, 7), (12, 5, 0), (12, 12, 12)])
def test_settings_reach_what_the_library_reaches(data, records, setting):
    shown, found = sliders.result(data, setting), evaluate_records(records, thresholds(data, setting), metrics=("mAP",))
    assert shown["mAP"] == pytest.approx(found["mAP"], abs=0.2)
    assert shown["compute"] == pytest.approx(found["gmacs"] / found["gmacs_full"], abs=1e-3)
    counts = [len(records) * share for share in shown["shares"]]
    assert counts == pytest.approx(list(found["exits"].values()), abs=1.01)


def test_pictures_say_whether_their_object_is_found(data, records):
    assert len(data["pictures"]) == 16
    for shown in data["pictures"]:
        image = shown["image"]
        assert shown["name"] == records.classes[records.labels[image]]
        box = box_convert(records.truth.boxes[records.truth.offsets[image]][None], "xywh", "xyxy")
        for exit, said in enumerate(shown["finds"], 1):
            found = records.detection(image, exit)  # the surest comes first
            right = found["labels"][:1] == records.labels[image]
            close = box_iou(found["boxes"][:1].double(), box)[:, 0] >= 0.5
            assert bool((right & close).any()) == bool(said)


def test_steps_are_shares_of_the_calibration_images():
    confidence = torch.rand(4, 200, generator=torch.Generator().manual_seed(0))
    found = sliders.limits(confidence)
    for at_exit, values in zip(confidence, found, strict=False):
        shares = [float((at_exit.double() >= value).double().mean()) for value in values]
        assert shares == pytest.approx(list(sliders.SHARES))
        assert values == sorted(values) and values[0] == 0 and values[-1] == math.inf


def test_the_browser_counts_as_the_library_does():
    confidence = torch.rand(4, 50, generator=torch.Generator().manual_seed(1))
    limits = sliders.limits(torch.rand(4, 80, generator=torch.Generator().manual_seed(2)))
    data = {"reached": sliders.reached(confidence, limits).tolist()}
    for setting in ((0, 0, 0), (6, 3, 9), (12, 7, 2), (12, 12, 12)):
        chosen = threshold_exits(confidence, [values[step] for values, step in zip(limits, setting, strict=True)])
        assert sliders.exits_at(data, setting) == chosen.tolist()
    assert len(set(sliders.exits_at(data, (6, 3, 9)))) == 4


def test_check_sees_other_weights_and_another_table(data, monkeypatch, tmp_path):
    assert sliders.problems() == []
    other = copy.deepcopy(data)
    other["about"]["weights"] = "0"
    other["maps"][-1] += 1
    monkeypatch.setattr(sliders, "PATH", tmp_path / "thresholds.json")
    assert sliders.problems() == ["there is no thresholds.json"]
    sliders.PATH.write_text(json.dumps(other))
    weights, table = sliders.problems()
    assert weights.endswith("other weights") and "another table" in table


def test_the_question_of_the_chapter_has_its_numbers(data):
    (cell,) = [cell for cell in nbformat.read(sliders.CHAPTER, as_version=4).cells if cell.id == "sliders"]
    answer = sliders.result(data, (12, 5, 0))
    (paper,) = [row for row in data["curve"] if f"{100 * row[0] / data['gmacs'][3]:.1f}" == "98.1"]
    assert f"98.1 % of the compute of full depth the paper's settings reach an mAP of {paper[1]}" in cell.source
    assert f"set exit 2 to {data['limits'][1][5]:.4f}" in cell.source
    assert f"an mAP of {answer['mAP']} with {100 * answer['compute']:.1f} %" in cell.source
    assert answer["mAP"] > paper[1] + 3 and answer["compute"] < paper[0] / data["gmacs"][3]


def test_data_are_in_the_page_with_the_sliders_and_no_other(data):
    assert sliders.PATH.stat().st_size < 200_000
    page = book_pages.with_data('<p>before</p><div id="threshold-sliders">table</div>')
    inside = page.split('id="threshold-data">')[1].split("</script>")[0]
    assert json.loads(inside) == data and page.endswith('<div id="threshold-sliders">table</div>')
    assert book_pages.with_data("<p>threshold-sliders</p>") == "<p>threshold-sliders</p>"
