"""Every page, in light and in dark, judged by axe-core.

The theme's own faults are put right in book/site/pages.py, so none is excepted.
"""

from __future__ import annotations

import hashlib
import re

import pytest
from accessibility import AXE, COLOURS, load_axe, violations
from browsers import BUILT, NARROW, PAGES, PATIENCE, TYPESET, WIDE

QUICK = {"chapters/index", "search"}
# Their pieces are those of the chapters, page for page.
ALIKE = ("chapters/exercises/", "chapters/api")


def marked(name: str):
    if name in QUICK:
        return name
    mark = pytest.mark.weekly if name.startswith(ALIKE) else pytest.mark.long
    return pytest.param(name, marks=mark)


def test_the_checker_is_the_one_that_was_published() -> None:
    (stated,) = re.findall(r"SHA-256: (\w{64})", (AXE.parent / "README.md").read_text())
    assert hashlib.sha256(AXE.read_bytes()).hexdigest() == stated
    assert AXE.read_text(encoding="utf-8").startswith("/*! axe v4.14.1\n")
    assert "Mozilla Public License" in (AXE.parent / "LICENSE").read_text()


@pytest.mark.parametrize("name", [marked(name) for name in PAGES if name != "index"])
def test_page_is_accessible(browser, name: str) -> None:
    context = browser.new_context(
        viewport=WIDE, color_scheme="light", reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{BUILT.as_uri()}/{name}.html")
        page.wait_for_function(TYPESET)
        load_axe(page)
        assert violations(page, without=COLOURS) == []
        assert violations(page, only=COLOURS) == []
        darken(page)
        assert violations(page, only=COLOURS) == []
        page.set_viewport_size(NARROW)
        narrow = ["scrollable-region-focusable", "target-size"]
        assert violations(page, only=narrow) == []
    finally:
        context.close()


def darken(page) -> None:
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")


# One block of code with a piece of every kind in place of all code of the book.
SAMPLE = """classes => {
  const block = document.querySelector('.cell:not(.mattn-setup) .highlight pre');
  block.classList.add('sample');
  block.innerHTML = classes.map(c => `<span class="${c}">word</span>`).join(' ');
  for (const e of document.querySelectorAll('.highlight')) {
    if (!e.contains(block)) e.remove();
  }
}"""


def test_every_colour_of_code_is_legible(browser) -> None:
    """A piece of code has the colour of its kind: one of each kind is enough."""
    kinds: set[str] = set()
    for path in BUILT.glob("chapters/**/*.html"):
        for block in re.findall(
            r"<pre>(.*?)</pre>", path.read_text(encoding="utf-8"), re.DOTALL
        ):
            kinds |= set(re.findall(r'<span class="([a-z0-9]+)">', block))
    assert {"k", "kn", "n", "mi", "s2", "c1", "gp"} <= kinds
    context = browser.new_context(
        viewport=WIDE, color_scheme="light", reduced_motion="reduce"
    )
    try:
        page = context.new_page()
        page.goto(f"{BUILT.as_uri()}/chapters/01_concept.html")
        page.wait_for_function(TYPESET)
        page.evaluate(SAMPLE, sorted(kinds))
        load_axe(page)
        for _ in range(2):
            found = page.evaluate(
                "rule => axe.run('pre.sample', {runOnly: [rule]})", "color-contrast"
            )
            assert found["violations"] == []
            assert len(found["passes"][0]["nodes"]) == len(kinds)
            darken(page)
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
def test_planted_fault_is_found(browser, planted: str, rule: str) -> None:
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
