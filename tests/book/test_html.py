"""The built book, page by page; and that each check can fail."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from html_checks import CHECKS, Site
from roots import ROOT
from stored_state import listed_in_toc

BUILT = ROOT / "_build" / "html"


@pytest.fixture(scope="module")
def book() -> Site:
    if not (BUILT / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    return Site(BUILT)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_built_book(book: Site, check: Callable[[Site], Iterator[str]]) -> None:
    found = list(check(book))
    assert not found, "\n" + "\n".join(found)


def test_every_page_is_built(book: Site) -> None:
    for page in listed_in_toc():
        assert BUILT / f"{page}.html" in book.pages


PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="description" content="A page to break." />
<meta property="og:type" content="article" />
<meta property="og:title" content="A page" />
<meta property="og:description" content="What breaks." />
<meta property="og:url" content="https://example.org/page.html" />
<meta property="og:image" content="https://example.org/preview.png" />
<link rel="canonical" href="https://example.org/page.html" />
<link rel="stylesheet" href="style.css" />
<title>A page</title>
</head>
<body>
<article>
<h1 id="top">A page</h1>
<p><a href="#top">up</a>, <a href="other.html#below">over</a>,
<a href="https://example.org/">away</a></p>
<figure><img src="figure.png" width="6" height="6"
alt="A grid of six rows and six columns" />
<figcaption>The rule is lower-triangular.</figcaption></figure>
</article>
</body>
</html>
"""
ALT = 'alt="A grid of six rows and six columns"'
CAPTION = "The rule is lower-triangular."

FAR = "https://example.org"

PLANTS = [
    ("#top", "#nowhere", "links_resolve"),
    ("#top", "#nowhere&s=a+b", "links_resolve"),
    ("other.html#below", "other.html#nowhere", "links_resolve"),
    ("other.html#below", "missing.html", "links_resolve"),
    ("other.html#below", "../outside.html", "links_resolve"),
    ('src="figure.png"', 'src="missing.png"', "links_resolve"),
    ("style.css", "missing.css", "links_resolve"),
    (ALT, "", "images_described"),
    (ALT, 'alt=""', "images_described"),
    (ALT, 'alt="fig-causal-mask"', "images_described"),
    (ALT, 'alt="../_images/3f2a.png"', "images_described"),
    (ALT, 'alt="the file is _images/causal mask.png"', "images_described"),
    (CAPTION, "", "images_described"),
    (f"<figcaption>{CAPTION}</figcaption>", "", "images_described"),
    ('href="style.css"', f'href="{FAR}/a.css"', "no_other_host"),
    ('href="style.css"', 'href="//cdn.example.org/a.css"', "no_other_host"),
    ("</head>", f'<script src="{FAR}/a.js"></script></head>', "no_other_host"),
    ("</head>", f'<link rel="preconnect" href="{FAR}" /></head>', "no_other_host"),
    ("</head>", f"<style>@import '{FAR}/a.css';</style></head>", "no_other_host"),
    ("<p>", f'<p style="background: url({FAR}/a.png)">', "no_other_host"),
    ("<p>", f'<iframe src="{FAR}/"></iframe><p>', "no_other_host"),
    ('src="figure.png"', f'src="{FAR}/figure.png"', "no_other_host"),
    ("<img ", f'<img srcset="{FAR}/figure.png 2x" ', "no_other_host"),
    ('lang="en"', "", "heads_complete"),
    ("<title>A page</title>", "", "heads_complete"),
    ("<title>A page</title>", "<title>Another page</title>", "heads_complete"),
    ("A page to break.", "", "heads_complete"),
    ('<meta name="description"', '<meta name="keywords"', "heads_complete"),
    ("What breaks.", "", "heads_complete"),
    ('property="og:title"', 'property="og:name"', "heads_complete"),
    ('property="og:title"', 'property="og:type"', "heads_complete"),
    ('property="og:image"', 'property="og:video"', "heads_complete"),
    ('rel="canonical" href="https:', 'rel="canonical" href="http:', "heads_complete"),
    ('width="6" ', "", "images_sized"),
    ('height="6"', 'height="auto"', "images_sized"),
    ("</article>", "word " * 80_000 + "</article>", "pages_light"),
    ("</article>", "<p>```{figure} x.png</p></article>", "nothing_raw"),
    ("</article>", "<p>See {ref}`fig-causal`.</p></article>", "nothing_raw"),
    ("</article>", "<p>Takes **options too.</p></article>", "nothing_raw"),
    (
        "</article>",
        r'<div class="math">\[\begin{split}a\\ b\tag{1}\end{split}\]</div></article>',
        "formulas_numbered",
    ),
]


def synthetic(root: Path, page: str) -> list[str]:
    """The names of the checks that find a fault in a small site."""
    other = PAGE.replace("A page", "Another page").replace('id="top"', 'id="below"')
    other = other.replace("#top", "page.html#top").replace("other.html#below", "#below")
    (root / "page.html").write_text(page, encoding="utf-8")
    (root / "other.html").write_text(other, encoding="utf-8")
    (root / "style.css").write_text("p { background: url(figure.png) }")
    (root / "figure.png").write_bytes(b"")
    return [check.__name__ for check in CHECKS if list(check(Site(root)))]


def test_sound_page_has_no_fault(tmp_path: Path) -> None:
    assert synthetic(tmp_path, PAGE) == []


@pytest.mark.parametrize(
    ("sound", "broken", "check"),
    [pytest.param(*plant, id=f"{i}-{plant[2]}") for i, plant in enumerate(PLANTS)],
)
def test_planted_fault_is_caught(
    tmp_path: Path, sound: str, broken: str, check: str
) -> None:
    assert sound in PAGE
    assert synthetic(tmp_path, PAGE.replace(sound, broken, 1)) == [check]


def test_request_in_a_style_sheet_is_caught(tmp_path: Path) -> None:
    assert synthetic(tmp_path, PAGE) == []
    (tmp_path / "extra.css").write_text("@import url('//fonts.example.org/a');")
    assert synthetic(tmp_path, PAGE) == ["no_other_host"]


def test_whole_addresses_of_the_book_lead_into_it(tmp_path: Path) -> None:
    book = f"{FAR}/book/"
    page = PAGE.replace('href="style.css"', f'href="{book}style.css"')
    assert synthetic(tmp_path, page) == ["no_other_host"]
    assert [fault for check in CHECKS for fault in check(Site(tmp_path, book))] == []
    (tmp_path / "style.css").unlink()
    faults = [fault for check in CHECKS for fault in check(Site(tmp_path, book))]
    assert f"page.html: {book}style.css does not exist" in faults
