"""Text as text: tables and samples, HTML in a notebook, plain elsewhere.

They can be selected, searched and read aloud. Chinese is marked as such, so that
a browser takes the right characters and a voice the right language.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Table", "show_table", "show_texts"]

CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
MEASURED = "As measured:"
LEFT = "text-align: left; vertical-align: top"


@dataclass(frozen=True)
class Table:
    """Rows of text under column names, or, without any, after row names.

    ``measured``: training or a machine decides the text, and a check that runs
    the notebook again does not compare it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    title: str | None = None
    measured: bool = False

    def __str__(self) -> str:
        above = [MEASURED] if self.measured else []
        above += [self.title] if self.title else []
        if self.columns:
            lines = [" | ".join(row) for row in (self.columns, *self.rows)]
        else:
            lines = [f"{name}:\n{text}\n" for name, text in self.rows]
        return "\n".join([*above, *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        title = f"<caption>{html.escape(self.title)}</caption>\n" if self.title else ""
        head = "".join(_cell("th", name, scope="col") for name in self.columns)
        head = f"<thead><tr>{head}</tr></thead>\n" if head else ""
        first = ("td", {}) if self.columns else ("th", {"scope": "row"})
        body = "\n".join(
            "<tr>"
            + _cell(first[0], row[0], **first[1])
            + "".join(_cell("td", text) for text in row[1:])
            + "</tr>"
            for row in self.rows
        )
        kind = "mattn-table" if self.columns else "mattn-texts"
        marked = " data-measured" if self.measured else ""
        body = f"<tbody>\n{body}\n</tbody>"
        return f'<table class="{kind}"{marked}>\n{title}{head}{body}\n</table>'


def show_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    measured: bool = False,
) -> Table:
    """A table of text, in any script that the reader's browser has.

    >>> show_table(["English", "Chinese"], [("cat", "猫")])
    English | Chinese
    cat | 猫

    Raises ``ValueError`` without columns and for a row of another length.
    """
    found = tuple(tuple(str(cell) for cell in row) for row in rows)
    if not columns:
        raise ValueError(
            "show_table: expected at least one column; got none. Name what stands "
            "in each."
        )
    wrong = [row for row in found if len(row) != len(columns)]
    if wrong:
        raise ValueError(
            f"show_table: expected {len(columns)} cells in every row; got {wrong[0]}."
        )
    return Table(tuple(columns), found, title, measured)


def show_texts(
    texts: Mapping[str, str], *, title: str | None = None, measured: bool = False
) -> Table:
    """Samples, each after its name, with their own line breaks.

    >>> show_texts({"greedy": "to be"}).rows
    (('greedy', 'to be'),)
    """
    if not texts:
        raise ValueError(
            "show_texts: expected at least one text, name → text; got none. There is "
            "nothing to show."
        )
    return Table((), tuple(texts.items()), title, measured)


def _cell(tag: str, text: str, **attributes: str) -> str:
    if CHINESE.search(text):
        attributes["lang"] = "zh-Hans"
    style = LEFT + ("; white-space: pre-wrap" if "\n" in text else "")
    attributes["style"] = style
    said = "".join(f' {name}="{value}"' for name, value in attributes.items())
    return f"<{tag}{said}>{html.escape(text)}</{tag}>"
