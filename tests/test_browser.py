"""The built pages in a real browser: what no parser of HTML can see.

Every page, over http and from ``file://``: no request to another host, none
that fails, no error in the console, all formulas set; light and dark; and at
the width of a phone nothing hangs out of the page.
"""

import contextlib
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from figures_in_pages import FIGURES
from stored_state import ROOT, listed_in_toc

from book.site import pdf

BUILT = ROOT / "_build" / "html"
PAGES = ["index", *sorted(listed_in_toc()), "search", "genindex"]
WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
QUIET = [
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE = 120_000  # ms: for what never comes, not for what is slow
MAX_LOAD = 4_000_000  # bytes of a page and all that it asks for
TYPESET = """() => {
  const todo = [...document.querySelectorAll('article .math')]
    .filter(m => !m.querySelector('mjx-container'));
  return document.readyState === 'complete' && todo.length === 0;
}"""
# What reaches beyond the page and stands in no box that scrolls by itself.
HANGS_OUT = """() => {
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth <= width) return [];
  const scrolls = e => e && (
    getComputedStyle(e).overflowX !== 'visible' || scrolls(e.parentElement));
  return [...document.querySelectorAll('article *')]
    .filter(e => e.getBoundingClientRect().right > width + 1)
    .filter(e => !scrolls(e.parentElement))
    .map(e => e.outerHTML.slice(0, 120)).slice(0, 3).concat('the page is too wide');
}"""
# Formulas whose beginning no scrolling can reach.
CUT_OFF = """() => [...document.querySelectorAll('article mjx-math')]
  .filter(m => m.getBoundingClientRect().left < -1)
  .map(m => m.closest('.math').outerHTML.slice(0, 120))"""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing: a test has its own report."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(BUILT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@contextlib.contextmanager
def chromium() -> Iterator[object]:
    """The browser of this machine; without one, the test says so and is skipped."""
    from playwright.sync_api import sync_playwright

    if pdf.find_browser() is None:
        pytest.skip("no browser: the pages were not looked at in one; install chromium")
    with sync_playwright() as playwright:
        browser = pdf.launch(playwright, QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    if not (BUILT / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    with chromium() as browser:
        yield browser


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["http", "file"])
@pytest.mark.parametrize("page_name", PAGES)
def test_page(browser, server: str, page_name: str, scheme: str) -> None:
    base = server if scheme == "http" else BUILT.as_uri()
    requests, failed, errors = [], [], []
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    loaded: list[int] = []
    page.on("requestfinished", lambda r: loaded.append(r.sizes()["responseBodySize"]))
    page.on("response", lambda r: r.ok or failed.append(f"{r.status} {r.url}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    try:
        page.goto(f"{base}/{page_name}.html")
        page.wait_for_url("**/*.html")
        page.wait_for_function(TYPESET)
        assert not page.query_selector("mjx-merror"), "a formula does not parse"

        page.set_viewport_size(NARROW)
        assert page.evaluate(HANGS_OUT) == []
        assert page.evaluate(CUT_OFF) == []

        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "() => document.documentElement.dataset.theme === 'dark'"
        )
        assert page.evaluate(FIGURES) == []

        outside = [
            url for url in requests if not url.startswith((base, "data:", "blob:"))
        ]
        assert outside == []
        assert scheme == "file" or 50_000 < sum(loaded) < MAX_LOAD
        assert failed == []
        assert errors == []
    finally:
        context.close()
