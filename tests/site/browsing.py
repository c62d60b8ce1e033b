"""The built site, as the tests of this folder see it: where it is, which pages it has, what a visit notes."""

import gzip
import http.server
import os
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = Path(os.environ.get("SITE", ROOT / "_build" / "html"))
SHOTS = SITE.parent / "site-shots"
# GitHub Pages serves a project beneath its name, so the tests do, too.
BASE = "/course/"
WIDTHS = {390: "dark", 1280: "light"}
TEXT = (".html", ".js", ".css", ".svg", ".json")


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the site beneath BASE, and nothing else."""

    def translate_path(self, path):
        if not path.startswith(BASE):
            return str(SITE / "no such file")
        return super().translate_path(path[len(BASE) - 1 :])

    def log_message(self, *words):
        pass


@dataclass
class Window:
    """A page of the browser with a width and a theme, and what went wrong in it since the last visit."""

    tab: object
    address: str
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def visit(self, name):
        """Open a page of the site and wait until its formulas are set."""
        self.errors.clear()
        self.requests.clear()
        self.tab.goto(self.address + name)
        self.tab.evaluate("async () => { if (window.MathJax?.startup) await MathJax.startup.promise }")
        return self.tab


def page_names():
    """Every page of the site but the redirect at its root; those of PAGES, if that is set."""
    names = sorted(str(path.relative_to(SITE)) for path in SITE.rglob("*.html") if "_static" not in path.parts)
    only = os.environ.get("PAGES", "").split() or names
    return [name for name in names if name != "index.html" and name in only]


def sent(url, address):
    """Bytes of a file as a web server sends it: text is compressed."""
    path = SITE / url.split("?")[0].split("#")[0].removeprefix(address)
    if not path.is_file():
        return 0
    content = path.read_bytes()
    return len(gzip.compress(content, 6)) if path.suffix in TEXT else len(content)
