"""What a page says about itself to other programs, and what the theme gets wrong.

Open Graph: title and description on every page; address and preview image
only when the book has a site address: ``html.baseurl`` in ``_config.yml``, or
the environment variable ``MATTN_SITE``, which comes first.
"""

from __future__ import annotations

import html
import itertools
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

from sphinx.application import Sphinx
from sphinx.config import Config

from book.site.lights import grids

PREVIEW = "preview.png"
PREVIEW_ALT = (
    "The cats on the mat, and a card over the next word: sleep or sleeps? From mat "
    "the thickest arrow, 0.83, runs back to cats."
)
TAGS = re.compile(r"<[^>]+>")
IMAGE = re.compile(r'<img\b(?![^>]*\bwidth=)[^>]*?\bsrc="([^":]+\.png)"[^>]*?/?>')
# A figure that mattn.plotting drew: no style sheet reaches into an image.
DRAWN = re.compile(r'<img\b[^>]*?\bsrc="([^":]+\.svg)"[^>]*?/?>')
ALT = re.compile(r'\balt="([^"]*)"')
FIGURE = '<svg xmlns="http://www.w3.org/2000/svg" class="mattn-figure"'
INSIDE = re.compile(r"<title>.*?</title>\n|<desc>.*?</desc>\n", re.S)
OWN_ID = re.compile(r"\bmattn-[0-9a-f]{8}-(?=\d)")
# All icons there are, drawn by a script of 1.5 MB; those in use come as a font too.
ICONS = re.compile(r'<script src="[^"]*/scripts/fontawesome\.js[^"]*"></script>\s*')
# The theme opens the source of a page in a tab, where a browser shows it raw.
SOURCE = re.compile(
    r'(<a href="[^"]*") target="_blank"(\s+class="[^"]*\bbtn-download-source-button\b)'
)
# The button shows more words than this name has; without it, they are its name.
SEARCH = re.compile(
    r'(<button class="[^"]*\bsearch-button-field\b[^>]*?) aria-label="[^"]*"'
)
SPY = 'data-bs-spy="scroll" data-bs-target="{}"'
RELATIVE = re.compile(
    r'\b(href|src|action|data-content_root)="(?![a-z]+:|//|#)([^"]*)"'
)
# An argument list of several lines: Sphinx writes <dl><dd>…</dd></dl> inside <dt>,
# a list of definitions of nothing.
ARGUMENTS = re.compile(
    r'<dl>\s*((?:<dd><em class="sig-param">.*?</dd>\s*)+)</dl>', re.S
)


def set_site(app: Sphinx, config: Config) -> None:
    """The site address, from the environment if it is there."""
    site = os.environ.get("MATTN_SITE", "") or config.html_baseurl
    config.html_baseurl = site.rstrip("/") + "/" if site else ""


def open_graph(
    title: str, description: str, *, front: bool, page: str, site: str
) -> str:
    """The tags by which other programs show a link to a page."""
    properties = {
        "og:type": "website" if front else "article",
        "og:site_name": "mattn",
        "og:title": title,
        "og:description": description,
    }
    if site:
        image = f"{site}_static/{PREVIEW}"
        properties |= {"og:url": site + page, "og:image": image}
        properties |= {"og:image:alt": PREVIEW_ALT}
    tags = [
        f'<meta property="{name}" content="{html.escape(text, quote=True)}" />'
        for name, text in properties.items()
    ]
    return "".join(tags)


def add_open_graph(
    app: Sphinx, page: str, template: str, context: dict[str, Any], description: str
) -> None:
    title = html.unescape(TAGS.sub("", context.get("title", ""))) or "mattn"
    context["metatags"] = context.get("metatags", "") + open_graph(
        title,
        description,
        front=page == app.config.root_doc,
        page=app.builder.get_target_uri(page),
        site=app.config.html_baseurl,
    )


def size_of(png: Path) -> tuple[int, int]:
    """Width and height of a PNG, from its head."""
    with png.open("rb") as file:
        head = file.read(24)
    return struct.unpack(">II", head[16:24])


def sized(page: Path) -> Callable[[re.Match[str]], str]:
    """Give an image its size, so that nothing moves when it arrives."""

    def with_size(match: re.Match[str]) -> str:
        png = page.parent / match[1]
        if not png.is_file():
            return match[0]
        width, height = size_of(png)
        return match[0].replace(
            "<img", f'<img width="{width}" height="{height}" decoding="async"', 1
        )

    return with_size


def drawn(page: Path) -> Callable[[re.Match[str]], str]:
    """Put a figure itself in place of its image, so that it has the page's colours.

    The alt text becomes its name. What a lone figure says about itself goes: the
    caption stands below. Its ids are those of no other figure of the book.
    """
    numbers = itertools.count()

    def with_figure(match: re.Match[str]) -> str:
        file, alt = page.parent / match[1], ALT.search(match[0])
        svg = file.read_text(encoding="utf-8") if file.is_file() else ""
        if not svg.startswith(FIGURE):
            return match[0]
        svg = INSIDE.sub("", svg).strip()
        own = f"{page.parent.name}-{page.stem}-{next(numbers)}-"
        svg = OWN_ID.sub(own, svg)
        name = f' aria-label="{alt[1]}"' if alt else ""
        # Where its cells lie: words of the page may speak of them.
        where = ";".join(map(str, grids(svg)))
        name += f' data-grids="{where}"' if where else ""
        svg = svg.replace(FIGURE, f'<svg class="mattn-figure"{name}', 1)
        return f'<div class="mattn-scroll">{svg}</div>'

    return with_figure


def arguments(match: re.Match[str]) -> str:
    inside = match[1].replace("<dd>", '<span class="sig-line">')
    return f'<span class="sig-lines">{inside.replace("</dd>", "</span>")}</span>'


def finished(text: str, page: Path) -> str:
    """The page with what assistive technology stumbles over put right."""
    # Arrows that unfold a part of the contents have no name.
    text = text.replace(
        '<summary><span class="toctree-toggle"',
        '<summary aria-label="Pages of this part"><span class="toctree-toggle"',
    )
    # A fold says what it shows; a name that says something else hides that.
    text = text.replace('<summary aria-label="Toggle hidden content">', "<summary>")
    # Roles of the bibliography: one is deprecated, and the list holds other things.
    text = text.replace(' role="doc-biblioentry"', "")
    text = text.replace('<div role="list" class="citation-list">', "<div>")
    # The empty corner of a table is no heading.
    text = text.replace('<th class="head"><p></p></th>', '<td class="head"></td>')
    # What follows the reader's place looks for contents under another name and, not
    # finding them, takes every link of the page for one, the playground's, too.
    spy = SPY.format("#pst-page-toc-nav") if 'id="pst-page-toc-nav"' in text else ""
    text = text.replace(SPY.format(".bd-toc-nav"), spy)
    text = ARGUMENTS.sub(arguments, text)
    text = ICONS.sub("", text)
    text = SOURCE.sub(r"\1 download\2", text)
    text = SEARCH.sub(r"\1", text)
    text = DRAWN.sub(drawn(page), text)
    return IMAGE.sub(sized(page), text)


def absolute(text: str, site: str) -> str:
    """The page with whole addresses: it is shown under any, in any folder."""
    return RELATIVE.sub(lambda match: f'{match[1]}="{urljoin(site, match[2])}"', text)


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Bring every page into its final form."""
    if exception is not None or app.builder.name != "html":
        return
    for page in sorted(Path(app.outdir).rglob("*.html")):
        if "_static" in page.relative_to(app.outdir).parts:
            continue
        text = page.read_text(encoding="utf-8")
        better = finished(text, page)
        if page == Path(app.outdir, "404.html"):
            better = absolute(better, app.config.html_baseurl)
        if better != text:
            page.write_text(better, encoding="utf-8")
