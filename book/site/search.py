"""What the search of the book looks through: every section of every page.

A section is what stands under one heading, without the sections in it; an entry of
the glossary and a function of the API are sections, too. ``search.js`` looks through
them with MiniSearch, in the browser. Both load what is written here only when a
reader begins to search, as a script: from a folder no page may read another file.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lxml import html
from lxml.html import HtmlElement
from sphinx.application import Sphinx
from sphinx.config import Config

__all__ = [
    "Section",
    "finish",
    "kind_of",
    "sections",
    "sentences",
    "set_shortcuts",
    "spoken",
]

INDEX = "search-index.js"
# Sphinx's own search, which no page asks for any more.
REPLACED = ("searchindex.js", "_static/searchtools.js", "_static/language_data.js")
# Kinds of pages, by the beginning of the name, the first that fits.
KINDS = {
    r"chapters/\d\d_": "chapter",
    "chapters/glossary": "glossary",
    "chapters/(exercises|solutions)/": "exercise",
    "chapters/api": "api",
    "chapters/bibliography": "source",
    "": "appendix",
}
HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}
# A piece of running text each; a row of a table is one.
BLOCKS = HEADINGS | {"p", "li", "tr", "dt", "dd", "figcaption", "caption", "summary"}
SILENT = {"script", "style", "button", "svg", "nav", "noscript"}
NO_TEXT = {"headerlink", "eqno", "toctree-wrapper", "cell_output", "mattn-strip"}
# What Python says of a field of a named tuple.
NOTHING = "Alias for field number"
# A sentence ends before a capital letter, a number, a bracket, a quotation; Chinese
# leaves no space. A lone letter or "al." before the dot ends none.
END = re.compile(
    r"(?:(?<=[.?!…])(?<!\b\w\.)(?<!\bal\.)(?<!\bcf\.)|(?<=[.?!…][”’\")]))"
    r"\s+(?=[“‘\"(\[]?[^\Wa-z])|(?<=[。？！])"
)
SIGNS = {
    **{"le": "≤", "ge": "≥", "ne": "≠", "cdot": "·", "times": "×", "infty": "∞"},
    **{"sqrt": "√", "sum": "∑", "prod": "∏", "to": "→", "in": "∈", "mid": "|"},
    **{
        "approx": "≈",
        "dots": "…",
        "ldots": "…",
        "top": "ᵀ",
        "log": "log",
        "exp": "exp",
    },
    **{"quad": " ", "partial": "∂", "max": "max", "min": "min", "pm": "±"},
}


@dataclass
class Section:
    """A place of the book: ``text`` has a sentence a line, ``code`` what is typed."""

    anchor: str
    heading: str = ""
    text: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def kind_of(page: str) -> str:
    """What a page is, by its name."""
    return next(kind for name, kind in KINDS.items() if re.match(name, page))


def spoken(formula: str) -> str:
    """A formula in a line of text without TeX's commands: d_k ≤ 4."""

    def sign(match: re.Match[str]) -> str:
        name = match[1]
        if name in SIGNS:
            return SIGNS[name]
        case = "CAPITAL" if name[0].isupper() else "SMALL"
        try:
            letter = name.upper().replace("LAMBDA", "LAMDA")  # as Unicode has it
            return unicodedata.lookup(f"GREEK {case} LETTER {letter}")
        except KeyError:
            return ""

    text = re.sub(r"\\[()\[\],;:! ]|\$", "", formula)
    text = re.sub(r"\\([A-Za-z]+)", sign, text)
    return " ".join(re.sub(r"[{}\\&]", "", text).split())


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph."""
    return [part for part in END.split(" ".join(text.split())) if part]


def text_of(element: HtmlElement) -> str:
    """What stands in a block itself: its lines, without the blocks and code in it."""
    parts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str) and not silent(child):
            if "math" in child.classes:
                parts.append(spoken(child.text_content()))
            elif child.tag not in BLOCKS | {"pre", "section", "table", "dl"}:
                parts.append(text_of(child))
        parts.append(child.tail or "")
    return "".join(parts)


def silent(element: HtmlElement) -> bool:
    """Is it no text of the page: a script, a drawing, an output?"""
    return element.tag in SILENT or bool(NO_TEXT & set(element.classes))


def sections(article: HtmlElement) -> Iterator[Section]:
    """The sections of a page, in the order in which they stand."""
    (top,) = article.xpath("./section[1]")
    yield from inside(top, Section(top.get("id", "")))


def inside(element: HtmlElement, at: Section) -> Iterator[Section]:
    """``at``, filled with what ``element`` holds, then the sections in it."""
    below: list[Section] = []
    read(element, at, below)
    yield at
    yield from below


def read(element: HtmlElement, at: Section, below: list[Section]) -> None:
    """Put the text of ``element`` into ``at``, and the sections in it ``below``."""
    for child in element:
        if not isinstance(child.tag, str) or silent(child):
            continue
        classes = set(child.classes)
        if child.tag == "section":
            below += inside(child, Section(child.get("id", "")))
        elif child.tag == "dl" and classes & {"glossary", "py"}:
            below += entries(child)
        elif child.tag in HEADINGS:
            at.heading = " ".join(text_of(child).split())
        elif child.tag == "pre":
            at.code += child.text_content().split("\n")
        elif child.tag == "tr":
            cells = [" ".join(cell.text_content().split()) for cell in child]
            at.text.append(" · ".join(filter(None, cells)))
        else:
            if child.tag in BLOCKS:
                at.text += sentences(text_of(child))
            read(child, at, below)


def entries(definitions: HtmlElement) -> Iterator[Section]:
    """Each term of a glossary, with its names in all languages; each function."""
    at = Section("")
    for child in definitions:
        if child.tag == "dd":
            yield from inside(child, at)
            at = Section("")
            continue
        at.anchor = at.anchor or child.get("id", "")
        signature = "sig" in child.classes  # its anchor is its whole name
        name = child.get("id", "") if signature else " ".join(text_of(child).split())
        at.heading = " · ".join(filter(None, [at.heading, name]))


def written(root: Path, pages: list[str]) -> str:
    """The index as a script: of each page name, kind and title, then the sections."""
    rows, titles = [], []
    for number, page in enumerate(pages):
        tree = html.parse(str(root / f"{page}.html")).getroot()
        (article,) = tree.find_class("bd-article")
        found = [s for s in sections(article) if NOTHING not in "".join(s.text)]
        titles.append([page, kind_of(page), found[0].heading])
        rows += [
            [number, s.anchor, s.heading, "\n".join(s.text), "\n".join(s.code)]
            for s in found
        ]
    index = json.dumps([titles, rows], ensure_ascii=False, separators=(",", ":"))
    return f"window.mattnIndex = {index};\n"


def set_shortcuts(app: Sphinx, config: Config) -> None:
    """None of Sphinx's: in a playground they take "/" away, in a dialog Escape."""
    config.html_theme_options["enable_search_shortcuts"] = False


def finish(app: Sphinx, exception: Exception | None) -> None:
    """Write the index of the built pages; take Sphinx's own away."""
    if exception is not None or app.builder.name != "html":
        return
    root = Path(app.outdir)
    for name in REPLACED:
        (root / name).unlink(missing_ok=True)
    script = written(root, sorted(app.env.all_docs))
    (root / "_static" / INDEX).write_text(script, encoding="utf-8")
