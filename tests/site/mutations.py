"""Shows that these tests fail on their faults, after `make book`: python tests/site/mutations.py [NAME ...]

Each fault is put into a copy of the built site, of which the tests then look at few pages; without it they pass. A
quarter of an hour.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from browsing import SITE

DATA, FIRST = "book/01_data.html", "book/index.html"
SLIDERS, GALLERY, BUDGET = "book/05_thresholds.html", "book/09_easy_and_hard.html", "book/11_who_should_leave.html"
CSS, SLIDER_JS, GALLERY_JS = (f"_static/{name}" for name in ("course.css", "sliders.js", "gallery.js"))
END, BOX, BODY, STORY = "</article>", '<div class="bd-container">', "</body>", ".story {"
HEARD, DEAF = 'addEventListener("', 'addEventListener("no-'
NO_KEYS = '<script>addEventListener("keydown", (e) => e.preventDefault(), true)</script>'
# By name: the file, a place in it, what is put before that place (or, after "=", instead of it), the tests that fail.
FAULTS = {
    "menus dead": (DATA, BOX, '<i class="primary-toggle secondary-toggle"></i>', "menus or sidebar"),
    "second search": (DATA, END, '<input type="search" aria-label="x">', "one_search"),
    "search finds nothing": ("searchindex.js", "Search.setIndex", "=void ", "search_finds"),
    "print view pale": (CSS, "@media print", "=@media tv", "paper_is_white"),
    "pictures filtered": (CSS, "filter: none", "=filter: sepia(1)", "leave_pictures_alone"),
    "dead link": (DATA, END, '<a href="nowhere.html">a</a>', "links_lead"),
    "dead anchor": (DATA, END, '<a href="#nowhere">a</a>', "links_lead"),
    "foreign host": (DATA, END, '<img src="https://example.org/a.png" alt="a">', "foreign_host"),
    "outside the folder": (DATA, END, '<img src="/a.png" alt="a">', "foreign_host"),
    "missing picture": (DATA, END, '<img src="a.png" alt="a">', "fails_to_load"),
    "missing alt": (DATA, END, '<img src="../_static/favicon.svg">', "described"),
    "small figure": (CSS, STORY, ".bd-article img { width: 60px }", "large_enough"),
    "duplicate id": (DATA, END, '<i id="twice"></i><i id="twice"></i>', "unique"),
    "sideways scroll": (DATA, END, '<div style="width: 3000px">a</div>', "sideways"),
    "cut table": (DATA, END, '<div style="overflow: clip"><p style="width: 3000px">a</p></div>', "out_of_reach"),
    "small code": (CSS, "font-size: 0.875rem", "=font-size: 0.7rem", "as_large_as_text"),
    "raw fence": (DATA, END, "<p>```{admonition}</p>", "its_source"),
    "repr": (DATA, END, "<p>&lt;matplotlib.legend.Legend at 0x7fb39f4bce90></p>", "its_source"),
    "path of the builder": (DATA, END, "<p>/home/builder/course</p>", "its_source"),
    "console error": (DATA, END, '<script>console.error("a")</script>', "fails_to_load"),
    "exception": (DATA, END, "<script>nobody()</script>", "fails_to_load"),
    "heavy page": (DATA, END, '<img src="../_static/heavy.png" alt="a">', "are_light"),
    "button without a name": (DATA, END, "<button></button>", "axe"),
    "no description": (DATA, 'name="description"', '=name="a"', "introduce"),
    "solutions on the way": (DATA, "02_detection.html", "=solutions/01_data.html", "follow_each_other"),
    "Colab elsewhere": (DATA, "colab.research.google.com", "=example.org", "colab"),
    "no right answer": (SLIDERS, "guess right", "=guess wrong", "right_answer"),
    "quiz without keyboard": (DATA, BODY, NO_KEYS, "of_the_chapters_open"),
    "quiz without a mark": (CSS, "details.guess.right[open]", "=.nobody", "answered_by_keyboard"),
    "focus out of sight": (CSS, STORY, "a { visibility: hidden }", "keys_alone"),
    "Start without keyboard": (FIRST, BODY, NO_KEYS, "keys_alone"),
    "sliders without effect": (SLIDER_JS, f'{HEARD}input"', f'={DEAF}input"', "sliders_move or budget"),
    "choice without effect": (SLIDER_JS, f'{HEARD}change"', f'={DEAF}change"', "budget"),
    "filters without effect": (GALLERY_JS, f'{HEARD}change"', f'={DEAF}change"', "gallery_filters"),
    "pictures without effect": (GALLERY_JS, f'{HEARD}click"', f'={DEAF}click"', "gallery_filters"),
    "data from elsewhere": (GALLERY, 'id="gallery-data"', '=id="a"', "work_from_a_file"),
    "no table without scripts": (BUDGET, "<table", "=<table hidden", "stands_in"),
}


def copy(site: Path) -> Path:
    """A copy that shares the files, which are replaced and never changed."""
    shutil.copytree(SITE, site, copy_function=os.link)
    return site


def put(site: Path, name: str, old: str, new: str) -> None:
    """Put a fault into a file of the copy."""
    path = site / name
    text = path.read_text(encoding="utf-8")
    if old not in text:
        raise ValueError(f"{name} does not hold {old!r}")
    path.unlink()
    path.write_text(text.replace(old, new[1:] if new[0] == "=" else new + old), encoding="utf-8")


def passes(site: Path, pages: list[str], tests: str) -> bool:
    """Whether tests pass on a site, of which they visit some pages."""
    told = os.environ | {"SITE": str(site), "PAGES": " ".join(pages)}
    here = str(Path(__file__).parent)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "site", "--confcutdir", here, here, "-k", tests]
    done = subprocess.run(command, env=told, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-2000:])
    return done.returncode == 0


def main() -> int:
    """Try the faults; the exit status is 1 if a test does not notice its own, or fails without."""
    names = sys.argv[1:] or list(FAULTS)
    pages = sorted({file for file, *_ in FAULTS.values() if file.endswith(".html")} | {f"book/solutions/{DATA[5:]}"})
    if not passes(SITE, pages, " or ".join(dict.fromkeys(FAULTS[name][3] for name in names))):
        print("there are faults already: make site-test")
        return 1
    unnoticed = 0
    with tempfile.TemporaryDirectory(dir=SITE.parent) as folder:
        for number, name in enumerate(names):
            file, old, new, tests = FAULTS[name]
            site = copy(Path(folder) / f"{number}" / "html")
            put(site, file, old, new)
            if name == "heavy page":
                (site / "_static" / "heavy.png").write_bytes(os.urandom(4_000_000))
            found = passes(site, pages if "follow" in tests else [file if file in pages else DATA], tests)
            unnoticed += found
            print(f"{name:26} {tests:24} {'NOT NOTICED' if found else 'noticed'}", flush=True)
            shutil.rmtree(site)
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main())
