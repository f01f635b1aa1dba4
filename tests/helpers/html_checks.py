"""What the built pages must be where Sphinx's own warnings are blind.

Each check takes the folder of a built book and yields one sentence a fault.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag
from stored_state import is_sentence

MAX_BYTES = 400_000
SOURCES = {"pre", "code", "script", "style"}
FORMAL = {"math", "sig", "sig-param"}
IMAGES = "article :is(img, svg.mattn-figure)"
# A link with one of these relations is told to a reader, not fetched.
NOT_FETCHED = {"alternate", "author", "canonical", "license", "next", "prev", "search"}
OTHER_HOST = re.compile(r"(?:https?:|wss?:|ftp:)?//", re.IGNORECASE)
CSS_REQUEST = re.compile(
    r"""(?:url\(\s*|@import\s+)["']?((?:https?:)?//[^"')\s;]+)""", re.IGNORECASE
)


class Site:
    """The pages of a built book, parsed once; ``address``: where it is published."""

    def __init__(self, root: Path, address: str = "") -> None:
        self.root = root.resolve()
        self.address = address

    @cached_property
    def pages(self) -> dict[Path, BeautifulSoup]:
        return {
            path: BeautifulSoup(path.read_bytes(), "lxml")
            for path in sorted(self.root.rglob("*.html"))
            if "_static" not in path.relative_to(self.root).parts
        }

    @cached_property
    def anchors(self) -> dict[Path, set[str]]:
        return {
            path: {
                str(value)
                for tag in page.find_all(True)
                for key in ("id", "name")
                if (value := tag.get(key))
            }
            for path, page in self.pages.items()
        }

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def has(self, address: str) -> bool:
        """Is this a whole address of the book itself?"""
        return bool(self.address) and address.startswith(self.address)


def addresses(page: BeautifulSoup) -> Iterator[tuple[Tag, str]]:
    """Every address in a page, with the tag that has it."""
    for tag in page.find_all(True):
        for key in ("href", "src", "poster", "action", "data", "xlink:href"):
            if (value := tag.get(key)) is not None:
                yield tag, str(value).strip()
        for candidate in str(tag.get("srcset", "")).split(","):
            if candidate.strip():
                yield tag, candidate.split()[0]
        if tag.name == "meta" and str(tag.get("http-equiv", "")).lower() == "refresh":
            _, _, target = str(tag.get("content", "")).partition("url=")
            yield tag, target.strip()


def links_resolve(site: Site) -> Iterator[str]:
    """Every internal link leads to a file of the book, and to its anchor; what
    stands after an & there is the state of a playground."""
    for path, page in site.pages.items():
        for _, address in addresses(page):
            folder, inside = path.parent, address
            if site.has(address):
                folder, inside = site.root, address.removeprefix(site.address) or "."
            parts = urlsplit(inside)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (folder / unquote(parts.path)).resolve()
            if target.is_dir():
                target /= "index.html"
            if not target.is_relative_to(site.root):
                yield f"{site.name(path)}: {address} leaves the book"
            elif not target.is_file():
                yield f"{site.name(path)}: {address} does not exist"
            elif (
                (anchor := unquote(parts.fragment).partition("&")[0])
                and target in site.anchors
                and anchor not in site.anchors[target]
            ):
                yield f"{site.name(path)}: {address}: no such anchor"


def images_described(site: Site) -> Iterator[str]:
    """Every image has a caption, and alt text that is not a slug or path."""
    for path, page in site.pages.items():
        for image in page.select(IMAGES):
            source = image.get("src", "a figure")
            alt = str(image.get("alt", image.get("aria-label", "")))
            if not is_sentence(alt):
                yield f"{site.name(path)}: {source}: alt text is {alt!r}"
            figure = image.find_parent("figure")
            caption = figure.find("figcaption") if figure else None
            if caption is None or not caption.get_text(strip=True).rstrip("#"):
                yield f"{site.name(path)}: {source}: no caption"


def no_other_host(site: Site) -> Iterator[str]:
    """Nothing that a browser fetches by itself comes from another host."""
    for path, page in site.pages.items():
        for tag, address in addresses(page):
            relations = {r.lower() for r in tag.get_attribute_list("rel") if r}
            told = tag.name in ("a", "area") or (
                tag.name == "link" and relations and relations <= NOT_FETCHED
            )
            if not told and OTHER_HOST.match(address) and not site.has(address):
                yield f"{site.name(path)}: <{tag.name}> asks for {address}"
        styles = [style.get_text() for style in page.find_all("style")]
        styles += [str(tag["style"]) for tag in page.find_all(style=True)]
        for match in CSS_REQUEST.findall("\n".join(styles)):
            yield f"{site.name(path)}: a style asks for {match}"
    for path in sorted(site.root.rglob("*.css")):
        for match in CSS_REQUEST.findall(path.read_text(encoding="utf-8")):
            yield f"{site.name(path)}: asks for {match}"


def heads_complete(site: Site) -> Iterator[str]:
    """Language, title and description are set; no two pages share a title."""
    titles: Counter[str] = Counter()
    for path, page in site.pages.items():
        name = site.name(path)
        if page.html is None or page.html.get("lang") != "en":
            yield f"{name}: the language is not set"
        title = page.title.get_text(strip=True) if page.title else ""
        if not title:
            yield f"{name}: no title"
        described = page.find_all("meta", attrs={"name": "description"})
        if len(described) != 1 or not str(described[0].get("content", "")).strip():
            yield f"{name}: {len(described)} descriptions, or an empty one"
        if not page.find("meta", attrs={"http-equiv": "refresh"}):
            titles[title] += 1
            yield from (f"{name}: {fault}" for fault in shared(page))
    for title, count in titles.items():
        if title and count > 1:
            yield f"{count} pages have the title {title!r}"


def shared(page: BeautifulSoup) -> Iterator[str]:
    """What a link to the page is shown with; addresses in it are whole."""
    given = [
        (str(tag["property"]), str(tag.get("content", "")).strip())
        for tag in page.find_all("meta", property=re.compile("^og:"))
    ]
    values = dict(given)
    if len(values) < len(given):
        yield "an Open Graph property is given twice"
    for name in ("og:title", "og:description", "og:type"):
        if not values.get(name):
            yield f"{name} is missing"
    canonical = page.find("link", rel="canonical")
    addressed = [values.get("og:url"), values.get("og:image"), canonical]
    if any(addressed) and not all(addressed):
        yield "only some of og:url, og:image and the canonical address are given"
    if canonical and canonical.get("href") != values.get("og:url"):
        yield "og:url is not the canonical address"


def images_sized(site: Site) -> Iterator[str]:
    """Every image has width and height: nothing moves when it arrives."""
    for path, page in site.pages.items():
        for image in page.select(IMAGES):
            if not all(
                str(image.get(key, "")).isdigit() for key in ("width", "height")
            ):
                source = image.get("src", "a figure")
                yield f"{site.name(path)}: {source}: no width or height"


def pages_light(site: Site) -> Iterator[str]:
    """No page has 400 kB of HTML or more."""
    for path in site.pages:
        if (size := path.stat().st_size) >= MAX_BYTES:
            yield f"{site.name(path)}: {size} bytes; under {MAX_BYTES} are allowed"


def prose(tag: Tag) -> Iterator[str]:
    """The strings below ``tag``, but for code, formulas and signatures."""
    for child in tag.children:
        if not isinstance(child, Tag):
            yield str(child)
        elif child.name not in SOURCES and not FORMAL & set(child.get("class", ())):
            yield from prose(child)


def nothing_raw(site: Site) -> Iterator[str]:
    """No source text where its result should stand."""
    for path, page in site.pages.items():
        for article in page.select("article"):
            text = "".join(prose(article))
            for raw in re.findall(r"```|:::|\{[a-z:-]+\}`|\$\$|\*\*\w|\]\(", text):
                yield f"{site.name(path)}: {raw!r} shows as text"


def formulas_numbered(site: Site) -> Iterator[str]:
    """No number within lines that Sphinx has split: MathJax prints an error there."""
    for path, page in site.pages.items():
        for formula in page.select("div.math"):
            text = formula.get_text()
            if r"\begin{split}" in text and r"\tag" in text:
                yield f"{site.name(path)}: a number in two lines, {text.strip()!r}"


CHECKS = (
    links_resolve,
    images_described,
    no_other_host,
    heads_complete,
    images_sized,
    pages_light,
    nothing_raw,
    formulas_numbered,
)
