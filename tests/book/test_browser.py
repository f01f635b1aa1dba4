"""The built pages in a real browser: what no parser of HTML can see.

Every page, over http and from ``file://``: no request to another host, none
that fails, no error in the console, all formulas set; light and dark; and at
the width of a phone nothing hangs out of the page. What a page asks for at first is
not more than a slow connection brings in a few seconds.
"""

import pytest
from browsers import (
    BUILT,
    HANGS_OUT,
    NARROW,
    PAGES,
    PATIENCE,
    TYPESET,
    WIDE,
    packed,
    sent,
)
from figures_in_pages import FIGURES

MAX_LOAD = 1_200_000  # bytes of a page and all that it asks for, as sent with gzip
# What is loaded when a reader first needs it, and the pages that begin with it: the
# strip of the front page stands in the first screen.
FRONT = {"index", "chapters/index"}
LATER = {
    "minisearch": set(),
    "search-index": set(),
    "stories_": FRONT,
    "decoder.js": FRONT,
}
# Formulas whose beginning no scrolling can reach.
CUT_OFF = """() => [...document.querySelectorAll('article mjx-math')]
  .filter(m => m.getBoundingClientRect().left < -1)
  .map(m => m.closest('.math').outerHTML.slice(0, 120))"""


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
    page.on("response", lambda r: r.ok or failed.append(f"{r.status} {r.url}"))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda m: m.type == "error" and errors.append(m.text))
    try:
        page.goto(f"{base}/{page_name}.html")
        page.wait_for_url("**/*.html")
        page.wait_for_function(TYPESET)
        assert not page.query_selector("mjx-merror"), "a formula does not parse"
        first = [url for url in requests if url.startswith(base)]
        assert 50_000 < sent(first) <= MAX_LOAD
        for part, pages in LATER.items():
            assert page_name in pages or not [url for url in first if part in url]

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
        assert failed == []
        assert errors == []
    finally:
        context.close()


def test_what_is_sent_is_counted_once_and_packed(tmp_path) -> None:
    (tmp_path / "a.js").write_bytes(b"x" * MAX_LOAD)
    noise = bytes(i * i % 251 for i in range(50))
    (tmp_path / "b c.png").write_bytes(noise)
    url = tmp_path.as_uri()
    small = packed(tmp_path / "a.js")
    assert small < MAX_LOAD / 100
    asked = [f"{url}/a.js?v=1", f"{url}/b%20c.png", f"{url}/b%20c.png#d"]
    assert sent(asked, tmp_path) == small + len(noise)
    assert sent(["http://localhost:1/a.js"], tmp_path) == small
