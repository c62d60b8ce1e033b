"""The built site in a real browser: served from a sub-path, each page visited once at both widths.

`make site-test` installs what this needs. Playwright is imported where it is used, because `make test` collects this
folder without having it.
"""

import functools
import http.server
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from browsing import BASE, SHOTS, SITE, WIDTHS, Handler, Window, page_names, sent


def pytest_collection_modifyitems(items):
    """Everything in this folder is marked."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.site)


@pytest.fixture(scope="session")
def address():
    """Where the site is served."""
    if not (SITE / "index.html").exists():
        pytest.fail(f"there is no site at {SITE}: `make book` builds it")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=SITE))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}{BASE}"
    server.shutdown()


def chromium():
    """The system's Chromium, or None for Playwright's own, which is downloaded if it is missing."""
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if found is None:
        loaded = subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"])
        if loaded.returncode:
            pytest.fail("no browser: install the package chromium of your system (apt install chromium)")
    return found


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def open_window(browser, address):
    """Opens windows: open_window(width, theme)."""

    def opened(width, theme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, reduced_motion="reduce")
        context.set_default_timeout(120_000)
        both = "".join(f"localStorage.setItem('{key}', '{theme}');" for key in ("mode", "theme"))
        context.add_init_script(both)
        window = Window(context.new_page(), address)
        tab = window.tab
        tab.on("pageerror", lambda error: window.errors.append(str(error)))
        tab.on("console", lambda said: window.errors.append(said.text) if said.type == "error" else None)
        tab.on("request", lambda request: window.requests.append(request.url))
        tab.on("requestfailed", lambda request: window.errors.append(f"{request.url}: {request.failure}"))
        tab.on("response", lambda got: window.errors.append(f"{got.url}: {got.status}") if got.status >= 400 else None)
        return window

    return opened


@pytest.fixture(scope="session")
def visits(open_window, address):
    """What was seen of each page, axe's word on it included: {(name, width): facts}; a screenshot of each is kept."""
    from axe_playwright_python.sync_playwright import Axe

    SHOTS.mkdir(parents=True, exist_ok=True)
    script = (Path(__file__).parent / "facts.js").read_text()
    seen = {}
    for width, theme in WIDTHS.items():
        window = open_window(width, theme)
        for name in page_names():
            tab = window.visit(name)
            facts = tab.evaluate(script)
            facts["errors"] = list(window.errors)
            facts["requests"] = list(window.requests)
            facts["axe"] = Axe().run(tab, options={"resultTypes": ["violations"]}).response["violations"]
            facts["weight"] = sum(sent(url, address) for url in set(window.requests))
            seen[name, width] = facts
            tab.screenshot(path=SHOTS / f"{name.replace('/', '-')}-{width}-{theme}.png", full_page=True)
    return seen
