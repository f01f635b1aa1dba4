"""What a page does for its reader: found, copied, printed, read without a mouse.

The quick part of the tests in a browser; every page is looked at in
test_browser.py and test_accessibility.py, which take longer.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from browsers import BUILT, NARROW, TYPESET, WIDE
from roots import ROOT

from book.site.pages import PREVIEW, absolute, finished, open_graph, set_site, size_of

CHAPTER = "chapters/02_mask_matrix"


@pytest.fixture
def page(browser) -> Iterator[object]:
    context = browser.new_context(viewport=WIDE)
    yield context.new_page()
    context.close()


def address(name: str) -> str:
    return f"{BUILT.as_uri()}/{name}"


def test_copy_button_leaves_prompts_behind(browser, server: str) -> None:
    context = browser.new_context(viewport=WIDE)
    try:
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.goto(f"{server}/chapters/api.html")
        block = page.locator("div.highlight", has_text=">>> causal.matrix(2, 3)").first
        block.scroll_into_view_if_needed()
        block.hover()
        block.locator("button.copybtn").click()
        page.wait_for_selector("button.copybtn.success")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        assert copied == "from mattn import causal\ncausal.matrix(2, 3)"
    finally:
        context.close()


def test_mark_and_name_lead_to_the_front_page(page) -> None:
    page.goto(address(f"{CHAPTER}.html"))
    mark = page.locator(".mattn-brand svg")
    box = mark.bounding_box()
    assert (box["width"], box["height"]) == (28, 28)
    page.locator(".mattn-brand a").click()
    page.wait_for_url("**/chapters/index.html")


def test_next_previous_and_permalinks(page) -> None:
    page.goto(address(f"{CHAPTER}.html"))
    assert page.locator(".prev-next-area a.left-prev").is_visible()
    assert page.locator(".prev-next-area a.right-next").is_visible()
    for heading in page.locator("article :is(h1, h2, h3)").all():
        link = heading.locator("a.headerlink")
        anchor = link.get_attribute("href")
        assert page.locator(f'[id="{anchor[1:]}"]').count() == 1
    heading = page.locator("article h2").first
    heading.hover()
    page.wait_for_function(
        "h => getComputedStyle(h.querySelector('.headerlink')).opacity > 0",
        arg=heading.element_handle(),
    )


TABBED = """() => {
  const e = document.activeElement;
  const box = e.getBoundingClientRect(), style = getComputedStyle(e);
  return {at: [...document.querySelectorAll('*')].indexOf(e), name: e.tagName,
    seen: box.width > 0 && box.height > 0 && style.visibility === 'visible',
    ring: style.outlineStyle !== 'none' || style.boxShadow !== 'none'
      || e.matches('input')};
}"""
TO_REACH = """() => [...document.querySelectorAll(
    'a[href], button, summary, input, select, textarea')]
  .filter(e => e.checkVisibility({visibilityProperty: true})
    && e.tabIndex >= 0 && !e.disabled && !e.closest('dialog:not([open])'))
  .map(e => [[...document.querySelectorAll('*')].indexOf(e), e.outerHTML])"""


def test_keyboard_reaches_everything_and_shows_where(page) -> None:
    page.goto(address("chapters/index.html"))
    page.wait_for_function(TYPESET)
    page.wait_for_selector("button.copybtn", state="attached")
    wanted = dict(page.evaluate(TO_REACH))
    assert len(wanted) > 40
    first, reached = None, []
    for _ in range(len(wanted) + 40):
        page.keyboard.press("Tab")
        tabbed = page.evaluate(TABBED)
        if tabbed["name"] == "BODY" or tabbed["at"] in reached:
            break
        assert tabbed["seen"], wanted.get(tabbed["at"])
        assert tabbed["ring"], wanted.get(tabbed["at"])
        first = first or wanted[tabbed["at"]]
        reached.append(tabbed["at"])
    assert 'href="#main-content"' in first
    missed = [wanted[at][:120] for at in wanted.keys() - set(reached)]
    assert not missed


def test_answers_open_by_keyboard(page) -> None:
    page.goto(address(f"{CHAPTER}.html"))
    answer = page.locator("article details").first
    answer.locator("summary").focus()
    assert not answer.evaluate("d => d.open")
    page.keyboard.press("Enter")
    assert answer.evaluate("d => d.open")


MOVES = """() => [...document.querySelectorAll('*')].filter(e => {
  const s = getComputedStyle(e);
  return e.checkVisibility() && (s.animationName !== 'none'
    || s.transitionDuration.split(',').some(t => parseFloat(t) > 0
      && s.transitionProperty !== 'none')
    || s.scrollBehavior === 'smooth');
}).length"""


def test_nothing_moves_where_no_motion_is_wished(page) -> None:
    page.goto(address(f"{CHAPTER}.html"))
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(MOVES) > 0
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(MOVES) == 0


def test_print_has_the_text_and_the_answers_only(page) -> None:
    page.goto(address(f"{CHAPTER}.html"))
    page.wait_for_function(TYPESET)
    page.emulate_media(media="print", color_scheme="light")
    for gone in (
        ".bd-sidebar-primary",
        ".bd-sidebar-secondary",
        ".bd-header-article",
        ".prev-next-footer",
        "button.copybtn",
        "a.headerlink",
    ):
        assert not page.locator(gone).first.is_visible(), gone
    assert page.locator("article h1").is_visible()
    answer = page.locator("article details > p").first
    assert answer.bounding_box()["height"] > 10


SHIFT = """() => new Promise(done => {
  let sum = 0;
  new PerformanceObserver(list => {
    for (const e of list.getEntries()) if (!e.hadRecentInput) sum += e.value;
  }).observe({type: 'layout-shift', buffered: true});
  setTimeout(() => done(sum), 500);
})"""


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["1280", "390"])
def test_layout_does_not_jump(browser, server: str, size) -> None:
    """Below 0.1 counts as good; nothing here needs the half of that."""
    context = browser.new_context(viewport=size)
    try:
        page = context.new_page()
        page.goto(f"{server}/{CHAPTER}.html")
        page.wait_for_function(TYPESET)
        assert page.evaluate(SHIFT) < 0.05
    finally:
        context.close()


def test_our_scripts_do_not_hold_up_a_page() -> None:
    """In the head nothing is ours, and MathJax is deferred."""
    for path in sorted((BUILT / "chapters").glob("*.html")):
        head = path.read_text(encoding="utf-8").partition("</head>")[0]
        scripts = re.findall(r"<script[^>]*\bsrc=[^>]*>", head)
        assert not [s for s in scripts if "playground" in s]
        assert all("defer" in s for s in scripts if "mathjax" in s)
        assert not [s for s in scripts if "fontawesome" in s]


def test_icons_come_from_a_font_of_the_book(page) -> None:
    page.goto(address("chapters/index.html"))
    page.evaluate("() => document.fonts.ready.then(() => true)")
    icons = page.locator("button:visible i[class*=fa-]")
    assert icons.count() >= 4
    for icon in icons.all():
        if icon.is_visible():
            assert icon.bounding_box()["width"] > 5
    assert page.evaluate(
        "() => document.fonts.check('900 16px \"Font Awesome 6 Free\"')"
    )


def test_address_and_preview_image_only_with_a_site() -> None:
    bare = open_graph("A & B", "Text.", front=False, page="a.html", site="")
    assert 'content="A &amp; B"' in bare
    assert "og:url" not in bare
    assert "og:image" not in bare
    full = open_graph(
        "A", "Text.", front=True, page="a.html", site="https://a.example/"
    )
    assert '"og:url" content="https://a.example/a.html"' in full
    assert f'"og:image" content="https://a.example/_static/{PREVIEW}"' in full
    assert size_of(ROOT / "book" / "static" / PREVIEW) == (1200, 630)


def test_site_address_from_the_environment_comes_first(monkeypatch) -> None:
    config = SimpleNamespace(html_baseurl="https://a.example/book")
    monkeypatch.delenv("MATTN_SITE", raising=False)
    set_site(None, config)
    assert config.html_baseurl == "https://a.example/book/"
    monkeypatch.setenv("MATTN_SITE", "https://b.example")
    set_site(None, config)
    assert config.html_baseurl == "https://b.example/"


@pytest.mark.parametrize("name", ["numpy.typing.ArrayLike", "ArrayLike"])
def test_an_alias_of_numpy_is_no_broken_reference(name: str) -> None:
    """Python 3.11 shows where it comes from, a newer one its own name."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    ignored = config["sphinx"]["config"]["nitpick_ignore_regex"]
    assert any(re.fullmatch(pattern, name) for _, pattern in ignored)


def test_a_button_has_the_name_that_it_shows() -> None:
    """What is drawn without words keeps the name it was given."""
    button = '<button class="btn {} search-button__button"{} data-x="y">'
    named = ' aria-label="Search"'
    field = finished(button.format("search-button-field", named), Path("p.html"))
    assert field == button.format("search-button-field", "")
    icon = button.format("search-button", named)
    assert finished(icon, Path("p.html")) == icon


def test_the_source_of_a_page_is_downloaded() -> None:
    link = '<a href="a.ipynb"{}\n   class="btn btn-download-source-button x">'
    text = finished(link.format(' target="_blank"'), Path("p.html"))
    assert text == link.format(" download")
    other = (
        '<a href="https://a.example" target="_blank"\n   class="btn btn-colab-button">'
    )
    assert finished(other, Path("p.html")) == other


def test_addresses_are_made_whole_under_the_site() -> None:
    site = "https://a.example/book/"
    text = (
        '<html data-content_root="./"><a href="chapters/b.html#c">, <a href="#d">, '
        '<a href="https://e.example/">, <a href="//f.example/">, <img src="_i/g.png">, '
        '<a href="mailto:h@i.example">, <form action="j.html?k&amp;l">'
    )
    assert absolute(text, site) == (
        f'<html data-content_root="{site}"><a href="{site}chapters/b.html#c">, '
        '<a href="#d">, <a href="https://e.example/">, <a href="//f.example/">, '
        f'<img src="{site}_i/g.png">, <a href="mailto:h@i.example">, '
        f'<form action="{site}j.html?k&amp;l">'
    )


def test_images_are_given_their_size(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "book" / "static" / PREVIEW, tmp_path / "a.png")
    width, height = size_of(tmp_path / "a.png")
    assert (width, height) == (1200, 630)
    text = finished('<img alt="x" src="a.png"/><img src="b.png"/>', tmp_path / "p.html")
    assert f'<img width="{width}" height="{height}" decoding="async" alt="x"' in text
    assert '<img src="b.png"/>' in text
