"""The site in use: menus, search, questions by keyboard, dark pages and paper."""

import pytest

# Chapter, reference, first page: the three kinds of page.
KINDS = ("book/01_data.html", "book/api/model.html", "book/index.html")

QUESTION = """
<p><strong>Guess first.</strong> Which one?</p>
<details class="guess wrong"><summary>This</summary><p>No.</p></details>
<details class="guess right"><summary>That</summary><p>Yes.</p></details>
"""


def on_screen(tab, selector):
    """Whether the first such element that is shown lies in the window, once nothing moves any more."""
    return tab.evaluate(
        """async (selector) => {
          await Promise.allSettled(document.getAnimations().map((a) => a.finished));
          return [...document.querySelectorAll(selector)].some((e) => {
            const box = e.getBoundingClientRect();
            return e.checkVisibility({ visibilityProperty: true, opacityProperty: true }) && box.width > 0
              && box.right > 0 && box.left < innerWidth;
          });
        }""",
        selector,
    )


@pytest.mark.parametrize("name", KINDS)
def test_menus_open_on_a_phone(open_window, name):
    tab = open_window(390).visit(name)
    for button, content in (
        ("button.primary-toggle:visible", "a[href$='genindex.html'], .bd-links__title, nav.bd-links"),
        ("button.secondary-toggle:visible", ".bd-toc, .page-toc"),
    ):
        assert not on_screen(tab, content)
        tab.locator(button).first.click()
        tab.wait_for_timeout(400)
        assert on_screen(tab, content)
        tab.keyboard.press("Escape")
        tab.wait_for_timeout(400)


@pytest.mark.parametrize("name", KINDS)
def test_sidebar_hides_and_returns_on_a_desktop(open_window, name):
    tab = open_window(1280).visit(name)
    sidebar = "#pst-primary-sidebar nav.bd-links"
    assert on_screen(tab, sidebar) and on_screen(tab, ".bd-sidebar-secondary")
    for shown in (False, True):
        tab.locator("button.primary-toggle:visible").first.click()
        tab.wait_for_timeout(600)
        assert on_screen(tab, sidebar) is shown


def test_search_finds(open_window):
    tab = open_window(1280).visit("search.html?q=filler")
    tab.wait_for_selector("#search-results ul.search li")
    assert tab.locator("#search-results ul.search li a", has_text="Fillers").count() >= 1
    tab = open_window(390).visit("search.html?q=xyzzyqq")
    tab.wait_for_function(
        "document.querySelector('#search-results .search-summary')?.textContent.includes('not match')"
    )
    assert tab.locator("#search-results ul.search li").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_question_is_answered_by_keyboard(open_window, theme):
    tab = open_window(390, theme).visit("book/references.html")
    tab.evaluate("html => document.querySelector('.bd-article').insertAdjacentHTML('afterbegin', html)", QUESTION)
    look = """n => {
      const e = document.querySelectorAll('details.guess')[n];
      return [e.open, getComputedStyle(e).borderLeftColor, getComputedStyle(e).backgroundColor];
    }"""
    closed = [tab.evaluate(look, n) for n in (0, 1)]
    assert closed[0] == closed[1] and not closed[0][0], "closed, right and wrong look the same"
    tab.evaluate("document.querySelector('.bd-article details').previousElementSibling.tabIndex = -1")
    tab.evaluate("document.querySelector('.bd-article details').previousElementSibling.focus()")
    seen = []
    for n in (0, 1):
        tab.keyboard.press("Tab")
        ring = tab.evaluate("[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineWidth]")
        assert ring == ["SUMMARY", "3px"]
        tab.keyboard.press("Enter")
        seen.append(tab.evaluate(look, n))
        assert seen[n][0] and seen[n][1:] != closed[n][1:]
        assert tab.locator("details.guess p").nth(n).is_visible()
    assert seen[0][1] != seen[1][1], "open, they differ"


def tab_to(tab, selector, at_most=400):
    """Press the tabulator until such an element has the focus; each stop on the way must be in sight."""
    for _ in range(at_most):
        tab.keyboard.press("Tab")
        stop, there, seen = tab.evaluate(
            """async (selector) => {
              await Promise.allSettled(document.getAnimations().map((a) => a.finished));
              const e = document.activeElement, box = e.getBoundingClientRect();
              const inside = box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth;
              return [e.outerHTML.slice(0, 200), e.matches(selector), inside && e.checkVisibility()];
            }""",
            selector,
        )
        assert seen, f"the focus is out of sight: {stop}"
        if there:
            return
    raise AssertionError(f"{at_most} presses do not lead to {selector}")


@pytest.mark.parametrize("width", [390, 1280])
def test_keys_alone_lead_from_the_first_page_to_the_end_of_a_question(open_window, width):
    window = open_window(width)
    tab = window.visit("book/index.html")
    tab_to(tab, ".sd-btn:has(span)", 300)
    assert tab.evaluate("document.activeElement.textContent.trim()") == "Start"
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/00_leaving_early.html")
    tab.wait_for_load_state("load")
    tab.keyboard.press("Tab")
    assert tab.evaluate("document.activeElement.textContent").startswith("Skip to")
    tab.keyboard.press("Enter")
    answers = tab.locator("details.guess")
    opened = 0
    while opened == 0 or answers.nth(opened).evaluate("e => e.previousElementSibling?.matches('details.guess')"):
        tab_to(tab, "details.guess > summary")
        tab.keyboard.press("Enter")
        assert answers.nth(opened).evaluate("e => e.open && e.querySelector('p').checkVisibility()")
        opened += 1
    assert opened >= 2 and tab.locator("details.guess.right[open]").count() == 1
    assert window.errors == []


def test_questions_of_the_chapters_open(open_window, visits):
    tab = open_window(1280)
    for name in sorted({name for (name, _), facts in visits.items() if facts["guesses"]}):
        answers = tab.visit(name).locator("details.guess")
        for n in range(answers.count()):
            answer = answers.nth(n)
            answer.locator("summary").press("Enter")
            assert answer.evaluate(
                "e => e.open && e.innerText.length > e.querySelector('summary').innerText.length + 10"
            )


def light(colour):
    """How light a CSS colour is, from 0 to 1."""
    red, green, blue = (int(part) for part in colour.strip("rgba()").split(",")[:3])
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255


def test_dark_pages_leave_pictures_alone(open_window):
    tab = open_window(1280, "dark").visit("book/01_data.html")
    assert light(tab.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.2
    looks = """[...document.querySelectorAll('.bd-article img')].map((e) => {
      const style = getComputedStyle(e);
      return [style.filter, style.backgroundColor, style.borderTopWidth];
    })"""
    assert {tuple(look) for look in tab.evaluate(looks)} == {("none", "rgb(255, 255, 255)", "0px")}


def test_paper_is_white_from_a_dark_page(open_window):
    tab = open_window(1280, "dark").visit("book/01_data.html")
    tab.emulate_media(media="print")
    look = """selector => [...document.querySelectorAll(selector)].map((e) => {
      let up = e;
      while (up.parentElement && getComputedStyle(up).backgroundColor === 'rgba(0, 0, 0, 0)') up = up.parentElement;
      return [getComputedStyle(e).color, getComputedStyle(up).backgroundColor];
    })"""
    for selector in (".bd-article h1", ".bd-article p", ".cell_input pre", ".cell_output pre", ".bd-article td"):
        for ink, paper in tab.evaluate(look, selector)[:20]:
            assert light(ink) < 0.4 and (light(paper) > 0.9 or paper == "rgba(0, 0, 0, 0)"), selector
