"""Every page at 390 and at 1280 pixels: nothing is cut, broken, foreign, heavy or raw."""

import re
import sys
from pathlib import Path
from urllib.parse import unquote, urldefrag

import nbformat
import yaml
from browsing import BASE, ROOT, SITE, WIDTHS

sys.path.insert(0, str(ROOT / "tools"))
from check_notebooks import FAILED_COMMAND, MACHINE_PATH  # noqa: E402

HEAVIEST = 3_000_000
SERIOUS = ("critical", "serious")
# What the theme itself brings, by axe's rule and selector.
OF_THE_THEME: set[tuple[str, str]] = set()
# Marks of a source that the page should not show: fences, options, roles, reprs.
RAW = re.compile(r"```|:::|(?m:^:\w+:)|\{(?:doc|cite:[pt]|ref|numref|py:\w+)\}|(?<!Pure)PosixPath|WindowsPath| at 0x")


def found(visits, what):
    """{page at width: what is wrong there}, of those pages where `what(facts)` finds something."""
    wrong = {f"{name} at {width}": what(facts) for (name, width), facts in visits.items()}
    return {page: list(said)[:5] for page, said in wrong.items() if said}


def test_no_page_scrolls_sideways(visits):
    assert found(visits, lambda facts: [facts["width"]] if facts["width"] > facts["window"] else []) == {}


def test_nothing_is_out_of_reach(visits):
    """Tables, figures, names: in the window, or in a box that scrolls."""
    assert found(visits, lambda facts: facts["cut"]) == {}


def test_there_is_one_search(visits):
    assert found(visits, lambda facts: [] if facts["searches"] == 1 else [facts["searches"]]) == {}


def test_nothing_fails_to_load_or_run(visits):
    assert found(visits, lambda facts: facts["errors"]) == {}


def test_no_foreign_host_is_asked(visits, address):
    """Nor anything beside the site's own folder, which need not be the root of its server."""
    own = (address, "data:", "blob:")
    assert found(visits, lambda facts: [url for url in facts["requests"] if not url.startswith(own)]) == {}


def test_links_lead_somewhere(visits, address):
    ids = {name: set(facts["ids"]) for (name, width), facts in visits.items() if width == 1280}

    def dead(facts):
        for link in facts["links"]:
            url, anchor = urldefrag(link)
            if not url.startswith(address.split(BASE)[0]):
                continue
            name = unquote(url.removeprefix(address).split("?")[0]) or "index.html"
            if not (SITE / name).is_file() or (anchor and name in ids and unquote(anchor) not in ids[name]):
                yield link

    assert found(visits, lambda facts: list(dead(facts))) == {}


def test_pictures_are_there_and_described(visits):
    assert found(visits, lambda facts: facts["broken"] + facts["noAlt"]) == {}


def test_ids_are_unique(visits):
    assert found(visits, lambda facts: facts["twice"]) == {}


def test_figures_are_large_enough_to_read(visits):
    assert found(visits, lambda facts: [scale for scale in facts["scales"] if scale[1] < 0.75]) == {}


def test_code_is_as_large_as_text_and_fits_a_desktop(visits):
    assert found(visits, lambda facts: [size for size in facts["code"] if not 14 <= size <= 15]) == {}
    assert found(visits, lambda facts: facts["cutCode"] if facts["window"] > 1000 else []) == {}


def test_pages_are_light(visits):
    assert found(visits, lambda facts: [facts["weight"]] if facts["weight"] > HEAVIEST else []) == {}


def test_no_page_shows_its_source_or_its_builder(visits):
    patterns = (RAW, MACHINE_PATH, FAILED_COMMAND)
    text = {key: facts for key, facts in visits.items() if key[1] == 1280}
    assert found(text, lambda facts: [hit[0] for p in patterns for hit in p.finditer(facts["text"])]) == {}


def test_axe_finds_nothing_serious(visits):
    def problems(facts):
        for rule in facts["axe"]:
            for node in rule["nodes"] if rule["impact"] in SERIOUS else ():
                if (rule["id"], node["target"][0]) not in OF_THE_THEME:
                    yield f"{rule['id']} {node['target']} {node['failureSummary'][:200]}"

    assert found(visits, lambda facts: list(problems(facts))) == {}


def test_pages_introduce_themselves(visits):
    """To search engines, to whoever gets the address, and on the browser's tab."""
    book = {key: facts for key, facts in visits.items() if key[0].startswith("book/")}
    for what in ("description", "picture", "icon"):
        assert found(book, lambda facts, what=what: [] if facts[what] else [what]) == {}
    assert book


def test_chapters_follow_each_other(visits, address):
    """The links at the foot of a page pass over the pages of solutions."""
    ways = {name: [link.removeprefix(address) for link in facts["onward"]] for (name, _), facts in visits.items()}
    assert ways["book/01_data.html"] == ["book/00_leaving_early.html", "book/02_detection.html"]
    assert ways["book/solutions/01_data.html"] == ["book/01_data.html", "book/02_detection.html"]


def test_each_question_has_a_right_answer_and_wrong_ones(visits):
    kinds = {"guess right", "guess wrong"}
    assert found(visits, lambda facts: [kind for kind in facts["guesses"] if kind not in kinds]) == {}
    asked = {key: set(facts["guesses"]) for key, facts in visits.items() if facts["guesses"]}
    assert {key for key, said in asked.items() if said != kinds} == set()


def test_chapters_open_in_colab_and_download(visits):
    slug = yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"].removeprefix("https://github.com/")
    chapters = [name for name, width in visits if width == 1280 and (ROOT / name).with_suffix(".ipynb").exists()]
    for name in chapters:
        path = Path(name).with_suffix(".ipynb")
        links = visits[name, 1280]["links"]
        assert f"https://colab.research.google.com/github/{slug}/blob/main/{path}" in links
        (download,) = [link for link in links if link.endswith(f"_sources/{path}")]
        stored = nbformat.read(SITE / download.split(BASE)[1], as_version=4)
        assert [c.source for c in stored.cells] == [c.source for c in nbformat.read(ROOT / path, as_version=4).cells]
    assert chapters


def test_every_page_was_seen_at_both_widths(visits):
    assert {width for _, width in visits} == set(WIDTHS)
    built = [p for p in SITE.rglob("*.html") if "_static" not in p.parts and p != SITE / "index.html"]
    assert len(visits) == 2 * len(built) > 40
