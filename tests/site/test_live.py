"""The live detector: the library's boxes, by mouse and keyboard, and what the page says where it cannot run."""

import json
import sys

import pytest
import torch
from browsing import ROOT, SITE
from PIL import Image

from earlyexit import load_detector

sys.path.insert(0, str(ROOT / "tools"))
import live_page  # noqa: E402

NAME = f"{live_page.PAGE}.html"
HEAVY = ("ort.mjs", ".bin", ".onnx", ".mjs")
PIXELS, SCORES = 2, 0.02
PATIENCE = 300_000  # of a machine that is busy


@pytest.fixture(scope="module")
def card():
    """What the page is told."""
    page = (SITE / NAME).read_text(encoding="utf-8")
    told = json.loads(page.split('id="live-card">')[1].split("</script>")[0])
    if "missing" in told:
        pytest.fail(f"the book was built without the live detector: {told['missing']}")
    return told


@pytest.fixture(scope="module")
def library():
    """The detector, its classes, and the scenes as the page has them."""
    model, classes = load_detector(live_page.WEIGHTS)
    sheet = SITE / "_static" / "live" / "scenes.jpg"
    return model.eval(), classes, live_page.read_sheet(sheet, sum(live_page.OBJECTS))


@pytest.fixture(scope="module")
def window(open_window, card):
    """The page with its detector, loaded by keyboard alone."""
    window = open_window(1280)
    tab = window.visit(NAME)
    tab.set_default_timeout(PATIENCE)
    tab.locator("#live-detector button.load").focus()
    tab.keyboard.press("Enter")
    answer(tab, None)
    assert tab.evaluate("document.activeElement.id") == "live-threshold"
    return window


def answer(tab, before):
    """What the page found, as soon as it is another answer than `before` and nothing more is asked."""
    tab.wait_for_function(
        """before => {
          const place = document.querySelector('#live-detector');
          return place.dataset.result && place.dataset.result !== before && !('busy' in place.dataset);
        }""",
        arg=before,
        timeout=PATIENCE,
    )
    return json.loads(tab.locator("#live-detector").get_attribute("data-result"))


def after(tab, act):
    """What the page finds after something was done."""
    before = tab.locator("#live-detector").get_attribute("data-result")
    act()
    return answer(tab, before)


def take(tab, scene):
    """Choose a scene, and the shipped threshold."""
    choice = tab.locator(f"#live-detector input[value='{scene}'][name=live-scene]")
    if choice.is_checked():
        return after(tab, tab.get_by_role("button", name="Clean").click)
    return after(tab, choice.check)


def same(found, expected, classes):
    """Whether the browser found what the library did, of all that is drawn."""
    sure = expected["scores"] >= 0.3
    mine = [one for one in found if one["score"] >= 0.3]
    assert [one["label"] for one in mine] == expected["labels"][sure].tolist()
    for one, box, score in zip(mine, expected["boxes"][sure], expected["scores"][sure], strict=True):
        assert one["box"] == pytest.approx(box.tolist(), abs=PIXELS), classes[one["label"]]
        assert one["score"] == pytest.approx(float(score), abs=SCORES)
    return len(mine)


@torch.inference_mode()
def test_boxes_and_exits_are_the_library_s(window, card, library):
    model, classes, images = library
    exits = [next((k for k, s in enumerate(scene["scores"], 1) if s >= 0.5), 4) for scene in card["scenes"]]
    drawn = 0
    for scene in [exits.index(exit) for exit in (1, 2, 3, 4)]:
        found = take(window.tab, scene)
        (early,) = model([images[scene]], thresholds=(0.5, 0.5, 0.5))
        (full,) = model([images[scene]], exit=4)
        assert found["exit"] == early["exit"] == exits[scene]
        assert found["stages"][found["exit"] - 1]["score"] == pytest.approx(early["confidence"], abs=2e-3)
        drawn += same(found["early"], early, classes) + same(found["full"], full, classes)
    assert drawn > 5
    assert window.errors == []


def test_the_answer_of_the_page_is_true_of_its_scenes(card):
    """Nothing: mostly exit 1 or 2; one object or two: nearly all 3; four: mostly 4."""

    def leave(*counts):
        scores = [scene["scores"] for scene in card["scenes"] if len(scene["objects"]) in counts]
        return [next((k for k, s in enumerate(row, 1) if s >= 0.5), 4) for row in scores]

    assert sum(exit in (1, 2) for exit in leave(0)) > 0.75 * len(leave(0)) and 1 in leave(0)
    assert leave(1, 2).count(3) > 0.8 * len(leave(1, 2))
    assert set(leave(3, 4)) <= {3, 4} and leave(4).count(4) > 0.6 * len(leave(4))


def test_everything_answers_to_the_keyboard(window, card):
    tab = window.tab
    busy = next(i for i, scene in enumerate(card["scenes"]) if len(scene["objects"]) == 4)
    first = take(tab, busy)
    slider = tab.get_by_label("Threshold", exact=True)
    slider.focus()
    everybody = after(tab, lambda: tab.keyboard.press("Home"))
    assert everybody["exit"] == 1 < first["exit"]
    assert "48 leave at exit 1" in tab.locator("#live-detector output").inner_text()
    assert tab.locator("#live-detector .result").inner_text().startswith("Leaves at exit 1 with ")
    nobody = after(tab, lambda: tab.keyboard.press("End"))
    assert nobody["exit"] == 4 and slider.get_attribute("aria-valuetext") == "1, nobody leaves early"
    assert len(nobody["stages"]) == 4 and "headMs" not in nobody["stages"][0]

    scene = tab.locator(f"#live-detector input[value='{busy}'][name=live-scene]")
    scene.focus()
    other = after(tab, lambda: tab.keyboard.press("ArrowLeft"))
    assert other["full"] != nobody["full"] and not scene.is_checked()

    added = after(tab, lambda: tab.get_by_role("button", name="Add clutter").press("Enter"))
    piece = tab.locator("#live-detector .piece")
    assert added["full"] != other["full"] and piece.evaluate("e => e === document.activeElement")
    left = piece.bounding_box()["x"]
    moved = after(tab, lambda: tab.keyboard.press("ArrowRight"))
    assert piece.bounding_box()["x"] > left and moved["full"] != added["full"]
    gone = after(tab, lambda: tab.keyboard.press("Delete"))
    assert piece.count() == 0 and gone["full"] == other["full"]

    canvas = tab.get_by_role("application")
    assert canvas.evaluate("e => e === document.activeElement")
    painted = after(tab, lambda: tab.keyboard.press("Space"))
    assert painted["full"] != gone["full"]
    longer = after(tab, lambda: tab.keyboard.press("ArrowDown"))
    assert longer["full"] != painted["full"]
    assert after(tab, lambda: tab.get_by_role("button", name="Clean").press("Enter"))["full"] == gone["full"]
    slider.focus()
    for _ in range(card["thresholds"][::-1].index(0.5)):
        tab.keyboard.press("ArrowLeft")
    assert slider.get_attribute("aria-valuetext") == "0.500"
    assert window.errors == []


def test_the_mouse_draws_and_drags(window):
    tab = window.tab
    plain = take(tab, 0)
    canvas = tab.get_by_role("application")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    def draw(*way):
        tab.mouse.move(*middle)
        tab.mouse.down()
        tab.mouse.move(*way, steps=3)
        tab.mouse.up()

    drawn = after(tab, lambda: draw(middle[0] + 60, middle[1] + 60))
    assert drawn["full"] != plain["full"]
    take(tab, 0)
    tab.get_by_role("button", name="Add clutter").click()
    piece = tab.locator("#live-detector .piece").bounding_box()
    tab.mouse.move(piece["x"] + piece["width"] / 2, piece["y"] + piece["height"] / 2)
    tab.mouse.down()
    tab.mouse.move(*middle, steps=3)
    tab.mouse.up()
    there = tab.locator("#live-detector .piece").bounding_box()
    assert there["x"] + there["width"] / 2 == pytest.approx(middle[0], abs=2)


def test_a_photo_is_labelled_honestly(window, tmp_path):
    tab = window.tab
    take(tab, 1)
    Image.new("RGB", (300, 200), "teal").save(tmp_path / "photo.png")
    found = after(tab, lambda: tab.get_by_label("A photo of your own").set_input_files(tmp_path / "photo.png"))
    assert [one for one in found["full"] if one["score"] > 0.5] == []
    honest = tab.locator("#live-detector .honest")
    assert "drawings of twenty things only" in honest.inner_text()
    assert int(honest.evaluate("e => getComputedStyle(e).fontWeight")) >= 600
    assert tab.locator("#live-detector input[name=live-scene]:checked").count() == 0


def test_axe_finds_nothing_serious_when_it_runs(window):
    from axe_playwright_python.sync_playwright import Axe

    take(window.tab, 2)
    found = Axe().run(window.tab, context="#live-detector", options={"resultTypes": ["violations"]}).response
    assert [rule["id"] for rule in found["violations"] if rule["impact"] in ("critical", "serious")] == []


def test_nothing_heavy_is_loaded_before_the_click(open_window, card):
    window = open_window(390, "dark")
    tab = window.visit(NAME)
    tab.wait_for_load_state("networkidle")
    assert [url for url in window.requests if url.split("?")[0].endswith(HEAVY)] == []
    megabytes = sum(path.stat().st_size for path in (SITE / "_static/live").iterdir() if path.suffix != ".jpg") / 1e6
    said = tab.locator("#live-detector button.load").inner_text()
    assert said == f"Load the detector, {card['megabytes']:g} MB" and abs(card["megabytes"] - megabytes) < 0.06
    slider = tab.get_by_label("Threshold", exact=True)
    slider.press("Home")
    assert tab.locator("#live-detector .scene.exit-1").count() == 48, "the marks need no detector"
    window.visit("book/references.html")
    assert [url for url in window.requests if "/live." in url] == []


def hindered(browser, address, script="", change=None):
    """What the page says without something that it needs."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    context.add_init_script(script)
    tab = context.new_page()
    if change:
        tab.route(
            f"**/{NAME}", lambda route: route.fulfill(body=change(route.fetch().text()), content_type="text/html")
        )
    tab.goto(address)
    assert tab.locator("#live-detector button.load").count() == 0
    return tab.locator("#live-detector").inner_text()


def test_the_page_says_what_to_do_where_it_cannot_run(browser, address):
    said = hindered(browser, address + NAME, "Object.defineProperty(window, 'WebAssembly', { value: undefined })")
    assert "needs WebAssembly" in said and "Try another browser, or run the same in Python" in said
    assert "make serve" in hindered(browser, (SITE / NAME).resolve().as_uri())

    def without(page):
        start = page.index('id="live-card">') + len('id="live-card">')
        return page[:start] + '{"missing": "npm was asleep"}' + page[page.index("</script>", start) :]

    said = hindered(browser, address + NAME, change=without)
    assert "has no detector: npm was asleep" in said and "make book" in said


def test_a_failed_load_is_told_and_can_be_tried_again(open_window, card):
    tab = open_window(1280).visit(NAME)
    tab.route("**/ort-wasm.bin*", lambda route: route.abort())
    button = tab.locator("#live-detector button.load")
    button.click()
    tab.get_by_text("It did not load").wait_for(timeout=PATIENCE)
    assert button.is_enabled()


def test_without_scripts_there_is_a_text(browser, address):
    tab = browser.new_context(java_script_enabled=False).new_page()
    tab.set_default_timeout(PATIENCE)
    tab.goto(address + NAME)
    assert "runs scripts" in tab.locator("#live-detector").inner_text()
