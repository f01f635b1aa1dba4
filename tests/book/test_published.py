"""The published pages as a reader has them: nothing cut, nothing out of reach.

Each page is opened once in a real browser, under its address, and looked at on
screens of four widths, in light and in dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import published
import pytest
from accessibility import load_axe, violations
from browsers import PATIENCE, TYPESET
from bs4 import BeautifulSoup
from figures_in_pages import FIGURES
from html_checks import CHECKS, Site
from published import CI, SITE
from roots import ROOT
from stored_state import listed_in_toc

from book.site import editions
from book.site.chinese_font import CHINESE

pytestmark = pytest.mark.long

CHAPTER = "chapters/03_scores"
PAGES = [*sorted(listed_in_toc()), "search", "genindex", "404"]
WIDTHS = [1280, 768, 390, 320]
SMALLEST = 0.7  # of a formula, as in mattn.js


@pytest.fixture(scope="module")
def site() -> Path:
    return published.build()


@pytest.fixture
def page(chrome, site: Path) -> Iterator[object]:
    context = chrome.new_context(
        viewport={"width": 1280, "height": 844},
        color_scheme="light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE)
    published.serve(context, site)
    yield context.new_page()
    context.close()


def test_it_has_its_buttons_and_its_edition(site: Path) -> None:
    """Built as on the host: every check of a page holds, every button leads."""
    pages = Site(site, SITE)
    assert [fault for check in CHECKS for fault in check(pages)] == []
    edition = editions.find_edition(CI, "", ROOT)
    for page in editions.pages():
        if page not in listed_in_toc():
            continue
        soup = pages.pages[site / f"{page}.html"]
        (button,) = soup.select("a[href^='https://colab.research']")
        assert button["href"] == edition.address(page)
        kept = site / edition.folder() / f"{page.removeprefix('chapters/')}.ipynb"
        assert kept.is_file()
        assert soup.select(f"a[href='{edition.repository.url}']")
        (canonical,) = soup.select("link[rel=canonical]")
        assert canonical["href"] == f"{SITE}{page}.html"
        (image,) = soup.select("meta[property='og:image']")
        path = image["content"].removeprefix(SITE)
        assert (site / path).is_file()


def settled(page, width: int) -> None:
    """Two frames after a new width: observers of sizes have run."""
    page.set_viewport_size({"width": width, "height": 844})
    page.evaluate(
        "() => new Promise(d => requestAnimationFrame(() => requestAnimationFrame(d)))"
    )


# Every control of the head that is drawn: in its box, in sight, and what a click
# in its middle would hit.
OUT_OF_REACH = """() => {
  const head = document.querySelector('.bd-header-article');
  const box = head.getBoundingClientRect();
  const controls = [...head.querySelectorAll(':is(a, button):not(.dropdown-item)')]
    .filter(e => e.checkVisibility({visibilityProperty: true}));
  const lost = controls.filter(e => {
    const b = e.getBoundingClientRect();
    const inside = b.left >= Math.max(0, box.left) - 1
      && b.right <= Math.min(innerWidth, box.right) + 1
      && b.top >= box.top - 1 && b.bottom <= box.bottom + 1;
    const [x, y] = [(b.left + b.right) / 2, (b.top + b.bottom) / 2];
    return !inside || !e.contains(document.elementFromPoint(x, y));
  });
  return [controls.length, lost.map(e => e.outerHTML.slice(0, 120))];
}"""
# A formula that is wider than its box is set smaller, then scrolls and shows it.
UNREADABLE = """smallest => [...document.querySelectorAll('article .math')]
  .filter(m => m.checkVisibility()).filter(m => {
    const box = m.querySelector('mjx-container');
    const formula = m.querySelector('mjx-math').getBoundingClientRect();
    const inline = m.tagName === 'SPAN';
    const outer = (inline ? m : box).getBoundingClientRect();
    const wide = inline ? formula.width > outer.width + 1
      : box.scrollWidth > box.clientWidth + 1;
    const frame = m.closest('.pst-scrollable-table-container') ?? document.body;
    const hangs = outer.right > frame.getBoundingClientRect().left
      + frame.scrollWidth + 1 || outer.left < -1;
    const scroller = inline ? m : box;
    const scrolls = ['auto', 'scroll'].includes(getComputedStyle(scroller).overflowX)
      && scroller.dataset.more && scroller.tabIndex === 0
      && getComputedStyle(scroller).maskImage !== 'none';
    const size = parseFloat(getComputedStyle(box).fontSize)
      / parseFloat(getComputedStyle(m).fontSize) / 1.195;
    return hangs || (wide && !scrolls) || size < smallest - 0.01
      || (wide && !inline && size > smallest + 0.01);
  }).map(m => m.textContent.slice(0, 80))"""
# Whatever else is wider than the room it has: in a box that scrolls and says so.
CUT = """() => {
  const width = document.documentElement.clientWidth;
  const cut = [...document.querySelectorAll(
      'article :is(pre, table, .output, figure, img, .mattn-playground)')]
    .filter(e => e.checkVisibility() && e.getBoundingClientRect().right > width + 1)
    .filter(e => !e.parentElement.closest('[data-more]'));
  const shown = e => e.matches('.mattn-scroll, .pst-scrollable-table-container')
    ? getComputedStyle(e, '::after').content.startsWith('"›"')
    : getComputedStyle(e).maskImage !== 'none';
  const silent = [...document.querySelectorAll('article *')]
    .filter(e => e.checkVisibility() && e.clientWidth > 0)
    .filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowX))
    .filter(e => e.scrollWidth > e.clientWidth + 1)
    .filter(e => !e.dataset.more || e.tabIndex !== 0 || !shown(e));
  return [...cut, ...silent].map(e => e.outerHTML.slice(0, 120))
    .concat(document.documentElement.scrollWidth > width ? ['the page itself'] : []);
}"""


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_cut_or_out_of_reach(page, name: str) -> None:
    errors, outside = [], []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda r: r.url.startswith(SITE) or outside.append(r.url))
    page.goto(f"{SITE}{name}.html")
    page.wait_for_function(TYPESET)
    for width in WIDTHS:
        settled(page, width)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            controls, lost = page.evaluate(OUT_OF_REACH)
            assert controls >= 4, (name, width)
            assert lost == [], (name, width, scheme)
        assert page.evaluate(UNREADABLE, SMALLEST) == [], (name, width)
        assert page.evaluate(CUT) == [], (name, width)
        assert page.evaluate(FIGURES) == [], (name, width)
    assert errors == []
    assert [url for url in outside if not url.startswith(("data:", "blob:"))] == []


@pytest.mark.parametrize(
    ("planted", "found"),
    [
        (".btn__icon-container img { height: 225px !important }", "reach"),
        (".bd-article div.math mjx-container { min-width: 40em !important }", "read"),
        (".bd-article [data-more] { mask-image: none !important }", "read"),
        (".mattn-scroll::after { content: none !important }", "cut"),
        (".bd-article mjx-container { overflow: hidden !important }", "read"),
        ("article :is(.output, pre) { overflow: visible !important }", "cut"),
    ],
)
def test_planted_fault_is_found(page, planted: str, found: str) -> None:
    page.goto(f"{SITE}chapters/01_concept.html")
    page.wait_for_function(TYPESET)
    page.add_style_tag(content=planted)
    settled(page, 390)
    seen = {
        "reach": page.evaluate(OUT_OF_REACH)[1],
        "read": page.evaluate(UNREADABLE, SMALLEST),
        "cut": page.evaluate(CUT),
    }
    assert seen[found]


def test_every_control_of_the_head_works_on_a_phone(page) -> None:
    page.goto(f"{SITE}{CHAPTER}.html")
    settled(page, 320)
    page.locator(".bd-header-article .search-button").click()
    assert page.locator("#pst-search-dialog").is_visible()
    page.keyboard.press("Escape")
    theme = page.evaluate("() => document.documentElement.dataset.mode")
    page.locator(".bd-header-article .theme-switch-button").click()
    assert page.evaluate("() => document.documentElement.dataset.mode") != theme


@pytest.mark.parametrize("name", ["primary", "secondary"])
def test_a_side_bar_that_closes_gives_the_focus_back(page, name: str) -> None:
    page.goto(f"{SITE}{CHAPTER}.html")
    settled(page, 390)
    toggle = page.locator(f".bd-header-article .{name}-toggle")
    toggle.focus()
    page.keyboard.press("Enter")
    bar = page.locator(f"#pst-{name}-sidebar-modal")
    bar.wait_for(state="visible")
    bar.locator("a").nth(2).focus()
    page.keyboard.press("Escape")
    bar.wait_for(state="hidden")
    page.wait_for_function(
        "e => document.activeElement === e", arg=toggle.element_handle()
    )


def test_tables_of_text_are_cards_on_a_phone(page) -> None:
    page.goto(f"{SITE}chapters/for_instructors.html")
    table = page.locator("article table.mattn-cards").first
    heads = [h.strip() for h in table.locator("thead th").all_inner_texts()]
    cell = table.locator("tbody tr").first.locator("td").nth(1)
    assert cell.evaluate("e => getComputedStyle(e).display") == "table-cell"
    settled(page, 390)
    assert cell.get_attribute("data-column") == heads[1]
    assert cell.bounding_box()["width"] > 300
    assert not table.locator("thead").is_visible()
    role = table.get_by_role("row").nth(1)
    assert role.get_by_role("cell").count() == len(heads)


def test_source_of_a_page_is_downloaded(page) -> None:
    page.goto(f"{SITE}{CHAPTER}.html")
    page.locator(".dropdown-download-buttons > button").click()
    with page.expect_download() as download:
        page.locator(".btn-download-source-button").click()
    assert download.value.suggested_filename == "03_scores.ipynb"


def test_what_is_not_there_says_so_and_leads_on(page) -> None:
    answer = page.goto(f"{SITE}chapters/old/renamed.html")
    assert answer.status == 404
    assert page.locator("article h1").inner_text() == "No such page"
    style = "() => getComputedStyle(document.querySelector('article h1')).fontWeight"
    assert page.evaluate(style) == "650"
    links = page.locator("article nav a")
    assert links.count() > 15
    box = page.locator("article input[type=search]")
    box.fill("window")
    box.press("Enter")
    page.wait_for_url(f"{SITE}search.html?q=window")
    page.wait_for_selector("#search-results li a")
    page.go_back()
    links.filter(has_text="Concept").click()
    page.wait_for_url(f"{SITE}chapters/01_concept.html")


def test_every_address_of_the_missing_page_is_whole(site: Path) -> None:
    soup = BeautifulSoup((site / "404.html").read_bytes(), "lxml")
    inside = 0
    for tag in soup.find_all(True):
        for key in ("href", "src", "action", "data-content_root"):
            address = str(tag.get(key, "#"))
            assert address.startswith(("https://", "#", "data:")), address
            if address.startswith(SITE):
                path = site / address.removeprefix(SITE).partition("?")[0]
                assert path.exists(), address
                inside += 1
    assert inside > 40


def test_what_is_typed_stands_beside_the_icon(page) -> None:
    page.goto(f"{SITE}search.html")
    form = page.locator(".bd-search-container form")
    icon = form.locator("i").bounding_box()
    field = form.locator("input")
    inset = field.evaluate("e => parseFloat(getComputedStyle(e).paddingLeft)")
    assert field.bounding_box()["x"] + inset > icon["x"] + icon["width"]


def test_a_print_has_one_title(page) -> None:
    page.goto(f"{SITE}{CHAPTER}.html")
    page.emulate_media(media="print")
    titles = page.locator(".bd-main h1:visible")
    assert titles.count() == 1
    assert "Contents" not in page.locator(".bd-main h2:visible").all_inner_texts()


@pytest.mark.parametrize("name", ["chapters/index", CHAPTER, "search", "404"])
def test_published_page_is_accessible(page, name: str) -> None:
    page.goto(f"{SITE}{name}.html")
    page.wait_for_function(TYPESET)
    load_axe(page)
    for width in (1280, 390):
        settled(page, width)
        assert violations(page) == []


def test_chinese_comes_from_the_font_of_the_book(page) -> None:
    """And a page without Chinese does not ask for it."""
    asked: list[str] = []
    page.on("request", lambda r: "sans-sc" in r.url and asked.append(r.url))
    page.goto(f"{SITE}{CHAPTER}.html")
    page.wait_for_function(TYPESET)
    assert asked == []
    page.goto(f"{SITE}chapters/glossary.html")
    page.wait_for_function("() => document.fonts.status === 'loaded'")
    assert len(asked) == 1
    assert CHINESE.search(page.locator("article").inner_text())


def test_outputs_have_colours_of_the_palette(page) -> None:
    page.goto(f"{SITE}{CHAPTER}.html")
    page.emulate_media(color_scheme="dark")
    used = page.evaluate("""() => [...new Set([...document.querySelectorAll(
        '.cell_input, .cell_output .highlight, .cell_input .highlight, .cell pre')]
      .map(e => getComputedStyle(e).backgroundColor))]""")
    assert set(used) == {"rgb(32, 39, 47)", "rgba(0, 0, 0, 0)"}
