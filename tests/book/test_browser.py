"""The built pages in a real browser: what no parser of HTML can see.

Every page, over http and from ``file://``: no request to another host, none
that fails, no error in the console, all formulas set; light and dark; and at
the width of a phone nothing hangs out of the page.
"""

import pytest
from browsers import BUILT, HANGS_OUT, NARROW, PAGES, PATIENCE, TYPESET, WIDE
from figures_in_pages import FIGURES

MAX_LOAD = 4_000_000  # bytes of a page and all that it asks for
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
