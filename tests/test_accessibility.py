"""Every page, in light and in dark, judged by axe-core.

The theme's own faults are put right in book/pages.py, so none is excepted.
"""

from __future__ import annotations

import pytest
from stored_state import ROOT
from test_browser import NARROW, PAGES, TYPESET, WIDE, browser  # noqa: F401

BUILT = ROOT / "_build" / "html"
QUICK = {"chapters/index", "search"}
# Rule → reason. Empty: there is nothing to excuse.
EXCEPTED: dict[str, str] = {}
# What can differ between light and dark is what depends on colour.
COLOURS = ["color-contrast", "link-in-text-block"]


def marked(name: str):
    return name if name in QUICK else pytest.param(name, marks=pytest.mark.long)


def violations(page, rules: list[str] | None = None) -> list[str]:
    """One line for each element that breaks a rule."""
    options: dict = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{rule['id']}: {node['html'][:160]}: {node['failureSummary']}"
        for rule in found["violations"]
        if rule["id"] not in EXCEPTED
        for node in rule["nodes"]
    ]


def load_axe(page) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page.evaluate(Axe().axe_script)


@pytest.mark.parametrize("name", [marked(name) for name in PAGES if name != "index"])
def test_page_is_accessible(browser, name: str) -> None:  # noqa: F811
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    try:
        page = context.new_page()
        page.goto(f"{BUILT.as_uri()}/{name}.html")
        page.wait_for_function(TYPESET, timeout=30_000)
        load_axe(page)
        assert violations(page) == []
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(
            "() => document.documentElement.dataset.theme === 'dark'"
        )
        assert violations(page, COLOURS) == []
        page.set_viewport_size(NARROW)
        assert violations(page, ["scrollable-region-focusable", "target-size"]) == []
    finally:
        context.close()


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ("<img src='x.png'>", "image-alt"),
        ("<p style='color: #999; background: #fff'>pale</p>", "color-contrast"),
        ("<button></button>", "button-name"),
    ],
)
def test_planted_fault_is_found(browser, planted: str, rule: str) -> None:  # noqa: F811
    context = browser.new_context(viewport=WIDE)
    try:
        page = context.new_page()
        page.set_content(
            "<html lang='en'><head><title>A page</title></head><body><main>"
            f"<h1>A page</h1>{planted}</main></body></html>"
        )
        load_axe(page)
        (found,) = violations(page)
        assert found.startswith(rule)
    finally:
        context.close()
