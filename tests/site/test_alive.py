"""Sliders and gallery by keyboard, from a file, and the tables in their place."""

import json

import pytest
from browsing import ROOT, SITE

NAME = "book/05_thresholds.html"
PLACES = {
    NAME: "#threshold-sliders",
    "book/09_easy_and_hard.html": "#gallery",
    "book/11_who_should_leave.html": "#budget-slider",
}
STATE = """() => ({
  said: document.querySelector("#threshold-sliders .result").textContent,
  shares: [...document.querySelectorAll("#threshold-sliders .share")].map((e) => e.textContent.replace("\\u00a0", " ")),
  pictures: [...document.querySelectorAll("#threshold-sliders ul")].map((e) => e.children.length),
  point: ["cx", "cy"].map((name) => document.querySelector("#threshold-sliders .point").getAttribute(name)),
})"""


def stored(name):
    return json.loads((ROOT / "book" / "interactive" / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def data():
    return stored("thresholds")


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_sliders_move_by_keyboard(open_window, data, width, theme):
    window = open_window(width, theme)
    tab = window.visit(NAME)
    full = tab.evaluate(STATE)
    assert f"mAP {data['maps'][-1]:.1f} " in full["said"] and full["pictures"] == [0, 0, 0, 16]
    assert full["shares"] == ["0 %", "0 %", "0 %", "100 %"]
    first = tab.get_by_label("Threshold of exit 1")
    first.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowLeft")
    moved = tab.evaluate(STATE)
    assert first.get_attribute("aria-valuetext") == f"{data['limits'][0][8]:.4f}"
    assert f"mAP {data['maps'][8 * 13 * 13 + 12 * 13 + 12]:.1f} " in moved["said"]
    left = sum(passed > 8 for passed in data["reached"][0])
    assert moved["shares"][0] == f"{100 * left / len(data['reached'][0]):.0f} %" != "0 %"
    assert 0 < moved["pictures"][0] < 16 and sum(moved["pictures"]) == 16
    assert moved["point"] != full["point"]
    tab.keyboard.press("Home")
    everybody = tab.evaluate(STATE)
    assert everybody["pictures"] == [16, 0, 0, 0] and f"mAP {data['maps'][0]:.1f} " in everybody["said"]
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.id") == "threshold-2"
    assert window.errors == []


def test_what_changes_is_said_aloud(open_window):
    tab = open_window(1280).visit(NAME)
    assert tab.locator("#threshold-sliders .result").get_attribute("aria-live") == "polite"
    names = tab.locator("#threshold-sliders li img").evaluate_all("all => all.map((e) => e.alt)")
    assert len(names) == 16 and all("found at exit 4" in name for name in names)


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1280, "dark")])
def test_a_budget_is_set_by_keyboard(open_window, width, theme):
    rules, window = stored("budget")["rules"], open_window(width, theme)
    tab = window.visit("book/11_who_should_leave.html")
    state = STATE.replace("threshold-sliders", "budget-slider")
    half = tab.evaluate(state)
    assert half["said"].startswith(f"mAP {rules['worth'][5][0]:.1f} ") and sum(half["pictures"]) == 16
    slider = tab.get_by_label("Budget", exact=True).and_(tab.locator("input"))
    slider.focus()
    for _ in range(4):
        tab.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext").replace("\u00a0", " ") == "30 % of the GMACs"
    small = tab.evaluate(state)
    assert (
        small["shares"] == [f"{int(share + 0.5)} %" for share in rules["worth"][1][2]]
        and small["point"] != half["point"]
    )
    exits = rules["worth"][1][3]
    assert small["pictures"] == [exits.count(k) for k in range(4)]
    tab.keyboard.press("Tab")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate("document.activeElement.value") == "lots"
    drawn = tab.evaluate(state)
    assert drawn["said"].startswith(f"mAP {rules['lots'][1][0]:.1f} ") and drawn["pictures"] != small["pictures"]
    assert window.errors == []


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1280, "light")])
def test_the_gallery_filters_and_opens_by_keyboard(open_window, width, theme):
    pictures, window = stored("gallery")["pictures"], open_window(width, theme)
    tab = window.visit("book/09_easy_and_hard.html")
    tiles, said = tab.locator("#gallery .tiles button"), tab.locator("#gallery .result")
    assert tiles.count() == len(pictures) == 60 and tab.locator("#gallery .detail").count() == 0
    tab.get_by_label("Objects", exact=True).focus()
    tab.keyboard.press("ArrowDown")
    empty = [picture for picture in pictures if not picture["objects"]]
    assert tiles.count() == len(empty) == 6 and "mean gain +0.00" in said.inner_text()
    tab.keyboard.press("End")
    four = [picture for picture in pictures if len(picture["objects"]) == 4]
    left = ", ".join(str(sum(picture["exit"] == k for picture in four)) for k in (1, 2, 3, 4))
    assert said.inner_text().startswith(f"{len(four)} of 60 scenes") and f"leave {left}." in said.inner_text()
    for _ in range(4):
        tab.keyboard.press("Tab")
    most = max(four, key=lambda picture: picture["success"][3] - picture["success"][0])
    assert tiles.first.evaluate("e => e === document.activeElement") and tiles.first.locator("img").is_visible()
    tab.keyboard.press("Enter")
    views = tab.locator("#gallery .detail .view")
    assert tiles.first.get_attribute("aria-expanded") == "true" and views.count() == 4
    for k, found in enumerate(most["found"]):
        assert views.nth(k).locator("rect.detection").count() == len(found)
        assert (views.nth(k).locator(".leaves").count() == 1) == (most["exit"] == k + 1)
    sides = [views.nth(k).bounding_box()["x"] for k in range(4)]
    assert sides == sorted(sides) if width == 1280 else sides[0] == sides[2] < sides[1] == sides[3]
    tab.keyboard.press("Enter")
    assert views.count() == 0 and window.errors == []


@pytest.mark.parametrize("name", PLACES)
def test_parts_work_from_a_file(browser, name):
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.goto((SITE / name).resolve().as_uri())
    place = tab.locator(PLACES[name])
    assert place.locator("input, select").count() >= 3 and place.locator("table").count() == 0
    image = place.locator("li img").first
    assert image.evaluate("e => e.decode().then(() => e.naturalWidth)") >= 64


@pytest.mark.parametrize("name", PLACES)
def test_a_table_stands_in_without_scripts(browser, address, name):
    tab = browser.new_context(java_script_enabled=False).new_page()
    tab.set_default_timeout(120_000)
    tab.goto(address + name)
    table = tab.locator(f"{PLACES[name]} table")
    assert table.is_visible() and table.locator("tr").count() >= 6
    assert tab.locator(f"{PLACES[name]} input").count() == 0
