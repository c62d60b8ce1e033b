"""The sliders of chapter 5 and 11 and the gallery of 9: their numbers are the library's, and they are in the page."""

import dataclasses
import json
import math
import statistics

import nbformat
import pytest
import torch
from interactive import BOOK
from test_repository import load_tool
from torchvision.ops import box_convert, box_iou

from earlyexit import load_detector
from earlyexit.data import scene_dataset
from earlyexit.evaluation import (
    collect_records,
    evaluate_exits,
    evaluate_records,
    fit_worth,
    rule_scores,
    threshold_exits,
)

sliders, budget, gallery, book_pages = map(load_tool, ("sliders", "budget", "gallery", "book_pages"))
PARTS = [tool.PART for tool in (sliders, budget, gallery)]


def data_of(part):
    return json.loads(part.path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data():
    return data_of(sliders.PART)


@pytest.fixture(scope="module")
def many():
    """Records of calibration and test scenes with none to four objects."""
    model = load_detector("scenes-many")[0]
    splits = (scene_dataset(split, gallery.SCENES, single=False) for split in ("calibration", "test"))
    return [collect_records(model, dataset) for dataset in splits]


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


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.place)
def test_check_sees_other_weights_and_another_table(part, monkeypatch, tmp_path):
    assert part.problems() == []
    other = data_of(part)
    other["about"]["weights"] = "0"
    monkeypatch.setattr(type(part), "path", tmp_path / f"{part.name}.json")
    assert part.problems() == [f"there is no {part.name}.json"]
    part.path.write_text(json.dumps(other))
    moved = dataclasses.replace(part, table=lambda data: "another")
    weights, table = moved.problems()
    assert weights.endswith("other weights") and "another table" in table


@pytest.mark.parametrize("budget_step", [2, 7])
def test_a_budget_reaches_what_the_library_reaches(many, budget_step):
    shown, (calibration, test) = data_of(budget.PART), many
    rule, thresholds = fit_worth(calibration, budget=budget.BUDGETS[budget_step])
    exits = threshold_exits(rule_scores(test, rule), thresholds)
    found = evaluate_exits(test, exits, metrics=("mAP",))
    map_, gmacs, shares, _ = shown["rules"]["worth"][budget_step]
    assert map_ == pytest.approx(found["mAP"], abs=0.3) and gmacs == pytest.approx(found["gmacs"], rel=0.01)
    assert shares == pytest.approx([100 * int((exits == k).sum()) / len(exits) for k in (1, 2, 3, 4)], abs=0.7)
    lots = shown["rules"]["lots"][budget_step]
    assert lots[0] < map_ - 0.2 and lots[1] == pytest.approx(budget.BUDGETS[budget_step] * shown["gmacs"][3], rel=0.02)


def test_lots_send_an_image_only_further_with_more_compute():
    points = [(0.25, 40.0), (0.3, 41.0), (0.5, 55.0), (1.0, 60.0)]  # exit 2 lies below the line of its neighbours
    drawn = [budget.lots(points, gmacs, 1000) for gmacs in (0.25, 0.375, 0.75, 1.0)]
    assert set(drawn[0][0].tolist()) == {1} and set(drawn[3][0].tolist()) == {4}
    assert float((drawn[1][0] == 3).float().mean()) == pytest.approx(0.5, abs=0.05) and 2 not in drawn[1][0]
    assert all((later[0] >= earlier[0]).all() for earlier, later in zip(drawn, drawn[1:], strict=False))
    assert (drawn[2][0] != drawn[2][1]).any()


def test_the_gallery_shows_what_the_exits_find(many):
    shown, (_, records) = data_of(gallery.PART), many
    chosen = gallery.spread(records.truth.offsets.diff(), gallery.successes(records)[[0, 3]].diff(dim=0)[0])
    assert len(shown["pictures"]) == len(set(chosen)) == 60
    numbers = [len(picture["objects"]) for picture in shown["pictures"]]
    assert tuple(numbers.count(number) for number in range(5)) == gallery.OF_EACH
    for picture, image in list(zip(shown["pictures"], chosen, strict=True))[::6]:
        boxes, labels = gallery.objects_of(records, image)
        for exit, (found, said) in enumerate(zip(picture["found"], picture["success"], strict=True), 1):
            known = records.detection(image, exit)
            drawn = known["labels"][known["scores"] >= gallery.SHOWN][: gallery.FEWEST]
            assert [row[0] for row in found] == drawn.tolist()
            success = 0.0
            for box, label in zip(boxes, labels, strict=True):
                products = (known["scores"] * box_iou(box[None], known["boxes"])[0])[known["labels"] == label]
                success += max(products.tolist(), default=0.0)
            assert said == pytest.approx(success, abs=0.01)


def test_the_answers_above_the_gallery_hold():
    """More objects, more gain; small ones seem to gain, but of two objects they gain no more than large ones."""
    shown = data_of(gallery.PART)
    gains = [row[5] - row[2] for row in shown["rows"]]
    assert gains == sorted(gains) and gains[4] > gains[1] + 0.5
    small, large, two_small, two_large = [], [], [], []
    for picture in shown["pictures"]:
        sides = [((x - a) * (y - b)) ** 0.5 / shown["side"] for _, a, b, x, y in picture["objects"]]
        gain = picture["success"][3] - picture["success"][0]
        if sides and min(sides) < 1 / 3:
            small.append(gain)
        if sides and 1 / 3 <= min(sides) < 1 / 2:
            large.append(gain)
        if len(sides) == 2:
            (two_small if min(sides) < 1 / 3 else two_large).append(gain)
    mean = statistics.mean
    assert mean(small) > mean(large) + 0.1 and mean(two_large) > mean(two_small)


def test_the_question_of_the_chapter_has_its_numbers(data):
    (cell,) = [cell for cell in nbformat.read(BOOK / sliders.PART.chapter, as_version=4).cells if cell.id == "sliders"]
    answer = sliders.result(data, (12, 5, 0))
    (paper,) = [row for row in data["curve"] if f"{100 * row[0] / data['gmacs'][3]:.1f}" == "98.1"]
    assert f"98.1 % of the compute of full depth the paper's settings reach an mAP of {paper[1]}" in cell.source
    assert f"set exit 2 to {data['limits'][1][5]:.4f}" in cell.source
    assert f"an mAP of {answer['mAP']} with {100 * answer['compute']:.1f} %" in cell.source
    assert answer["mAP"] > paper[1] + 3 and answer["compute"] < paper[0] / data["gmacs"][3]


def test_milliseconds_are_those_of_this_network(data):
    with pytest.raises(ValueError, match="timed a network of"):
        sliders.recorded((0.1, 0.2, 0.3, 0.4))
    assert sliders.recorded(tuple(data["gmacs"])) == (data["ms"], data["clock"])
    assert data["ms"] == sorted(data["ms"])


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.place)
def test_data_are_in_the_page_with_their_part_and_no_other(part):
    assert part.path.stat().st_size < 300_000
    page = book_pages.with_data(f'<p>before</p><div id="{part.place}">table</div>')
    inside = page.split(f'id="{part.place}-data">')[1].split("</script>")[0]
    assert json.loads(inside) == data_of(part) and page.endswith(f'<div id="{part.place}">table</div>')
    assert page.count("<script") == 1 and book_pages.with_data(f"<p>{part.place}</p>") == f"<p>{part.place}</p>"
