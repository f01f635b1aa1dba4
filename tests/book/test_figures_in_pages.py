"""A figure stands in its page itself, and the page's theme is the figure's."""

import re
from pathlib import Path

import pytest
from browsers import NARROW, WIDE, chromium
from bs4 import BeautifulSoup
from figures_in_pages import FIGURES
from html_checks import Site, images_described, images_sized
from roots import ROOT

from book.site.pages import finished
from mattn import causal
from mattn.plotting import show_curves, show_mask, svg
from mattn.tables import show_texts

CSS = (ROOT / "book/static/mattn.css").read_text(encoding="utf-8")
ALT = "A grid of 6 by 6; position 3 may see 0 to 3 &amp; no more."
FIGURE = f'<figure><img alt="{ALT}" src="_images/a.svg" /><figcaption>C</figcaption>'
SHOWN = [
    show_mask(causal.matrix(6), list("abcdef"), query=2),
    show_curves({"loss": ([1, 2], [3.0, 4.0])}, floor=3.2),
]


TABLE = show_texts({"a": "b"}, title="c")._repr_html_()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    images = tmp_path / "_images"
    images.mkdir()
    images.joinpath("a.svg").write_text(svg(SHOWN[1]), encoding="utf-8")
    images.joinpath("b.svg").write_text("<svg><path d='M0 0'/></svg>", encoding="utf-8")
    return tmp_path / "page.html"


def test_the_figure_itself_stands_in_place_of_its_image(page):
    text = finished(f"<article>{FIGURE}</figure>{FIGURE}</figure></article>", page)
    tree = BeautifulSoup(text, "html.parser")
    assert not tree.select("img")
    figures = tree.select("figure > .mattn-scroll > svg.mattn-figure[role=img]")
    assert len(figures) == 2
    assert {f["aria-label"] for f in figures} == {ALT.replace("&amp;", "&")}
    assert not tree.select("title, desc, style")
    ids = [e["id"] for e in tree.select("[id]")]
    assert len(ids) == len(set(ids)) > 0
    for number, figure in enumerate(figures):
        used = re.findall(r'(?:url\(|href=")#([\w-]+)', str(figure))
        assert used
        assert all(f"-page-{number}-" in name for name in used)
        assert set(used) == {e["id"] for e in figure.select("[id]")}


def test_other_images_and_missing_ones_stay(page):
    for name in ("b.svg", "missing.svg"):
        image = f'<img alt="{ALT}" src="_images/{name}" />'
        assert finished(image, page) == image


def test_checks_of_pages_see_figures(page):
    page.write_text(finished(f"<article>{FIGURE}</figure></article>", page))
    for broken in ("", "aria-label", "width", "figcaption"):
        text = page.read_text(encoding="utf-8")
        other = page.parent / "other.html"
        other.write_text(text.replace(broken, "x", 1) if broken else text)
        site = Site(page.parent)
        found = [*images_described(site), *images_sized(site)]
        assert any("other" in fault for fault in found) is bool(broken)
        assert not any("page.html" in fault for fault in found)


def shown_in(browser, theme: str, view: dict[str, int], bodies: list[str]) -> list[str]:
    """The faults of a page in a theme; the theme's own ground and ink are given."""
    ground, ink = {"light": ("#fff", "#1f2a35"), "dark": ("#14181d", "#d7dee5")}[theme]
    page = browser.new_page(viewport=view)
    page.set_content(
        f'<!DOCTYPE html><html data-theme="{theme}"><style>{CSS}</style>'
        f'<body style="background:{ground}; color:{ink}">'
        f'<article class="bd-article">{"".join(bodies)}</article></body></html>'
    )
    found = page.evaluate(FIGURES)
    page.close()
    return found


@pytest.fixture(scope="module")
def some_browser():
    with chromium() as browser:
        yield browser


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_figure_is_at_home_in_every_theme(some_browser, theme, view):
    shown = [svg(f) for f in SHOWN] + [TABLE]
    assert shown_in(some_browser, theme, view, shown) == []


@pytest.mark.long
def test_a_table_on_a_plate_is_seen(some_browser):
    plate = f'<div style="background: white; color: #ccc">{TABLE}</div>'
    for fault in ("of a table has a ground", "b: "):
        found = shown_in(some_browser, "light", WIDE, [plate])
        assert any(fault in f for f in found)


@pytest.mark.long
@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("<svg ", '<svg style="background: white; --mattn-least: 300px" ', "a ground"),
        ("currentColor", "#000", "to 1"),
        ("var(--mattn-blocked, #D9D9D9)", "#fff", "brighter"),
        ('font-size="9"', 'font-size="4"', "px"),
        ("</svg>", '<rect width="999" height="999" fill="#fff"/></svg>', "as large"),
    ],
)
def test_a_figure_that_is_not_is_seen_in_the_dark(some_browser, old, new, fault):
    text = svg(SHOWN[0])
    if new.startswith("<svg"):
        text = re.sub(r' style="--mattn-least[^"]*"', "", text, count=1)
    if "blocked" in old:
        # The style is how the check finds what is blocked: only the colour changes.
        new = "var(--mattn-blocked, #fff); fill: #fff"
    broken = text.replace(old, new)
    assert broken != text
    assert any(fault in f for f in shown_in(some_browser, "dark", NARROW, [broken]))
