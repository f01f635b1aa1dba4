"""A real browser, the built pages in it, and what is asked of every page."""

from __future__ import annotations

import contextlib
import functools
import gzip
import threading
from collections.abc import Iterable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from roots import ROOT
from stored_state import listed_in_toc

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


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        """Say nothing: a test has its own report."""


@contextlib.contextmanager
def served() -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(BUILT))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


@functools.cache
def packed(file: Path) -> int:
    """Bytes of a file as a host sends it: packed with gzip where that is less."""
    data = file.read_bytes()
    return min(len(data), len(gzip.compress(data, 6)))


def sent(addresses: Iterable[str], root: Path = BUILT) -> int:
    """Bytes that a host sends for these addresses of files under ``root``."""
    paths = {unquote(urlsplit(address).path) for address in addresses}
    inside = {path.removeprefix(root.as_posix()).lstrip("/") for path in paths}
    return sum(packed(root / path) for path in inside)


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
