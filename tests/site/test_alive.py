"""The sliders of chapter 5 by keyboard, from a file, and the table in their place."""

import json

import pytest
from browsing import ROOT, SITE

NAME = "book/05_thresholds.html"
STATE = """() => ({
  said: document.querySelector("#threshold-sliders .result").textContent,
  shares: [...document.querySelectorAll("#threshold-sliders .share")].map((e) => e.textContent.replace("\\u00a0", " ")),
  pictures: [...document.querySelectorAll("#threshold-sliders ul")].map((e) => e.children.length),
  point: ["cx", "cy"].map((name) => document.querySelector("#threshold-sliders .point").getAttribute(name)),
})"""


@pytest.fixture(scope="module")
def data():
    return json.loads((ROOT / "book" / "interactive" / "thresholds.json").read_text(encoding="utf-8"))


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


def test_sliders_work_from_a_file(browser):
    tab = browser.new_page()
    tab.set_default_timeout(120_000)
    tab.goto((SITE / NAME).resolve().as_uri())
    tab.get_by_label("Threshold of exit 2").press("Home")
    assert tab.evaluate(STATE)["pictures"] == [0, 16, 0, 0]


def test_a_table_stands_in_without_scripts(browser, address):
    tab = browser.new_context(java_script_enabled=False).new_page()
    tab.set_default_timeout(120_000)
    tab.goto(address + NAME)
    table = tab.locator("#threshold-sliders table")
    assert table.is_visible() and table.locator("tr").count() == 9
    assert tab.locator("#threshold-sliders input").count() == 0
