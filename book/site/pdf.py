"""The whole book as one PDF, printed by headless Chromium.

    python -m book.site.pdf [FILE]        default: _build/mattn.pdf

The built pages become one page: their links become links within it, folded
answers are opened, formulas and tables wider than the paper are made to fit.
It is printed until the page numbers in the contents are those of the print
before: Chromium does not know on which page a link ends.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bs4 import BeautifulSoup, Tag

from book import ROOT

HTML = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "mattn.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FRONT = "chapters/index.html"
STYLES = (
    "styles/theme.css",
    "styles/pydata-sphinx-theme.css",
    "pygments.css",
    "styles/sphinx-book-theme.css",
    "mattn.css",
    "pieces.css",
    "paper/paper.css",
)
# A4 with these margins leaves 174 mm, 658 CSS pixels, for the text.
MARGIN = {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"}
WIDTH = round((210 - 2 * 18) / 25.4 * 96)
MOST_PRINTS = 4
FOOTER = (
    '<div style="width: 100%; text-align: center; font: 8pt sans-serif; color: #444">'
    '<span class="pageNumber"></span></div>'
)
# Display formulas and tables that are too wide are set smaller, not cut off.
FIT = """() => {
  for (const math of document.querySelectorAll('mjx-container[display]')) {
    const room = math.closest('div.math, p, li, td').clientWidth;
    const number = math.closest('div.math')?.querySelector('.eqno')?.offsetWidth ?? 0;
    const needs = math.querySelector('mjx-math').getBoundingClientRect().width;
    const share = (room - number - 12) / needs;
    if (share < 1) math.style.fontSize = `${119.5 * share}%`;
  }
  const scale = (box, share) => { if (share < 1) box.style.zoom = share; };
  for (const table of document.querySelectorAll('article table')) {
    scale(table, table.parentElement.clientWidth / table.offsetWidth);
  }
}"""
# What still reaches beyond the paper.
HANGS_OUT = """() => [...document.querySelectorAll('article *, .paper-contents *')]
  .filter(e => e.checkVisibility() && !e.closest('mjx-assistive-mml'))
  .filter(e => e.getBoundingClientRect().right
    > document.documentElement.clientWidth + 1)
  .map(e => e.outerHTML.slice(0, 160))"""
TYPESET = """() => document.readyState === 'complete'
  && [...document.querySelectorAll('article .math')]
    .every(m => m.querySelector('mjx-container'))"""


@dataclass(frozen=True)
class Entry:
    """A line of the contents: a page of the book, or the name of a part."""

    title: str
    page: str = ""
    level: int = 0

    @property
    def slug(self) -> str:
        return self.page.removesuffix(".html").replace("/", "-")


def find_browser() -> str | None:
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def launch(playwright: Any, arguments: Sequence[str]) -> Any:
    """The browser of this machine, without a window."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return playwright.chromium.launch(
        executable_path=find_browser(), args=[*arguments, *["--no-sandbox"] * root]
    )


def contents(html: Path = HTML) -> Iterator[Entry]:
    """The contents as the front page lists them, in reading order."""
    page = BeautifulSoup((html / FRONT).read_bytes(), "lxml")
    for line in page.select("nav.bd-docs-nav a.reference, nav.bd-docs-nav p.caption"):
        title = " ".join(line.get_text().split())
        if line.name == "p":
            yield Entry(title)
            continue
        target = FRONT if line["href"] == "#" else f"chapters/{line['href']}"
        if urlsplit(target).scheme or urlsplit(str(line["href"])).scheme:
            continue
        depth = len(line.find_parents("ul"))
        yield Entry(title, posixpath.normpath(target), depth)


def the(page: Tag, css: str) -> Tag:
    """The first element that ``css`` selects; without one the page is another."""
    if (found := page.select_one(css)) is None:
        raise ValueError(f"expected a page with {css}; got one without.")
    return found


def chapter(entry: Entry, pages: dict[str, Entry], html: Path = HTML) -> Tag:
    """The text of a page, with anchors and links of its own in one document."""
    page = BeautifulSoup((html / entry.page).read_bytes(), "lxml")
    article = the(page, "article.bd-article")
    for gone in article.select("script, a.headerlink, button, .toctree-wrapper"):
        gone.decompose()
    for fold in article.select("details"):
        fold["open"] = ""
    # Those in a figure are unique in the whole book already: pages.py.
    for tag in article.select("[id]:not(svg *)"):
        tag["id"] = f"{entry.slug}--{tag['id']}"
    for link in article.find_all("a", href=True):
        inside = anchor(str(link["href"]), entry, pages)
        if inside:
            link["href"] = inside
        elif not urlsplit(str(link["href"])).scheme:
            link.unwrap()  # a file that is not in the print
    for image in article.find_all("img"):
        image["src"] = posixpath.normpath(
            posixpath.join("html", posixpath.dirname(entry.page), str(image["src"]))
        )
    article["id"] = entry.slug
    return article


def anchor(link: str, entry: Entry, pages: dict[str, Entry]) -> str | None:
    """Where in the one document a link of a page leads; ``None``: not there."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = entry.page
    if parts.path:
        folder = posixpath.dirname(entry.page)
        target = posixpath.normpath(posixpath.join(folder, parts.path))
    if target not in pages:
        return None
    slug = pages[target].slug
    return f"#{slug}--{parts.fragment}" if parts.fragment else f"#{slug}"


def in_contents(line: Entry) -> str:
    """A line of the contents: a part, or a page whose number is not known yet."""
    if not line.page:
        return f'<li class="part">{line.title}</li>'
    return (
        f'<li class="level-{line.level}"><a href="#{line.slug}">{line.title}'
        f'</a><span data-page-of="{line.slug}">000</span></li>'
    )


def one_page(html: Path = HTML) -> str:
    """The whole book as one HTML page; it belongs beside the folder of the others."""
    lines = list(contents(html))
    pages = {line.page: line for line in lines if line.page}
    listed = "".join(in_contents(line) for line in lines)
    styles = "\n".join(
        f'<link rel="stylesheet" href="html/_static/{style}" />' for style in STYLES
    )
    front = BeautifulSoup((html / FRONT).read_bytes(), "lxml")
    mark = front.select_one(".mattn-brand svg")
    config = next(
        script.get_text()
        for script in front.find_all("script")
        if "window.MathJax" in script.get_text()
    )
    body = "\n".join(str(chapter(page, pages, html)) for page in pages.values())
    return f"""<!DOCTYPE html>
<html lang="en" data-theme="light" data-mode="light">
<head>
<meta charset="utf-8" />
<title>mattn: masked self-attention</title>
{styles}
<script>{config}</script>
<script defer src="html/_static/mathjax/tex-chtml.js"></script>
</head>
<body>
<header class="cover">{mark}<h1>mattn</h1>
<p>Masked self-attention: derived, executed and checked.</p>
<p>{the(front, ".component-author").get_text(strip=True)}</p></header>
<nav class="paper-contents" aria-label="Contents"><h1 id="contents">Contents</h1>
<ol>{listed}</ol></nav>
<main class="bd-main"><div class="bd-content"><div class="bd-article-container">
{body}
</div></div></main>
</body>
</html>
"""


PRINT = {
    "format": "A4",
    "margin": MARGIN,
    "print_background": True,
    "display_header_footer": True,
    "header_template": "<span></span>",
    "footer_template": FOOTER,
    "tagged": True,
    "outline": True,
}
NUMBER = """numbers => {
  for (const place of document.querySelectorAll('[data-page-of]')) {
    place.textContent = numbers[place.dataset.pageOf];
  }
}"""


def page_numbers(pdf: Path) -> dict[str, int]:
    """Anchor → page, counted from 1, of every anchor that a link leads to."""
    from pypdf import PdfReader

    reader = PdfReader(pdf)
    return {
        name.removeprefix("/"): page + 1
        for name, place in reader.named_destinations.items()
        if (page := reader.get_destination_page_number(place)) is not None
    }


def write(out: Path = OUT, html: Path = HTML) -> int:
    """Print the book to ``out``; returns the number of prints it took."""
    from playwright.sync_api import sync_playwright

    source = html.parent / "one-page.html"
    source.write_text(one_page(html), encoding="utf-8")
    with sync_playwright() as playwright:
        browser = launch(playwright, ["--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(300_000)
        page.goto(source.as_uri())
        page.emulate_media(media="print", color_scheme="light")
        page.wait_for_function(TYPESET)
        page.evaluate("() => document.fonts.ready.then(() => true)")
        page.evaluate(FIT)
        if cut := page.evaluate(HANGS_OUT):
            raise SystemExit("wider than the paper:\n" + "\n".join(cut[:10]))
        numbers: dict[str, int] = {}
        prints, settled = 0, False
        while not settled:
            prints += 1
            page.pdf(path=str(out), **PRINT)
            found = page_numbers(out)
            settled, numbers = found == numbers, found
            if prints == MOST_PRINTS and not settled:
                raise SystemExit("the page numbers do not settle")
            page.evaluate(NUMBER, numbers)
        browser.close()
    source.unlink()
    return prints


def main() -> int:
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    if find_browser() is None:
        print("No PDF: it needs a browser. Install chromium.", file=sys.stderr)
        return 1
    out.parent.mkdir(parents=True, exist_ok=True)
    prints = write(out)
    size = out.stat().st_size / 1e6
    print(f"The book as a PDF, {size:.1f} MB, printed {prints} times: {out.as_uri()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
