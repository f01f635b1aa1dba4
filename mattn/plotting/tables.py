"""Text: as a table in HTML, and as a picture."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from mattn.plotting.given import check_some
from mattn.plotting.style import ALLOWED, finished

__all__ = ["Table", "show_table", "show_texts"]


@dataclass(frozen=True)
class Table:
    """Rows of text under column names: HTML in a notebook, plain text elsewhere."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "\n".join(" | ".join(row) for row in (self.columns, *self.rows))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, row: Sequence[str]) -> str:
            cells = (f"<{tag}>{html.escape(cell)}</{tag.split()[0]}>" for cell in row)
            return f"<tr>{''.join(cells)}</tr>"

        head = line('th scope="col" style="text-align: left"', self.columns)
        body = "\n".join(line('td style="text-align: left"', row) for row in self.rows)
        return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of text, in any script that the reader's browser has.

    >>> show_table(["English", "Chinese"], [("cat", "猫")])
    English | Chinese
    cat | 猫
    """
    found = tuple(tuple(str(cell) for cell in row) for row in rows)
    wrong = [row for row in found if len(row) != len(columns)]
    if wrong:
        raise ValueError(
            f"show_table: expected {len(columns)} cells in every row; got {wrong[0]}."
        )
    return Table(tuple(columns), found)


def show_texts(texts: Mapping[str, str], *, title: str | None = None) -> Figure:
    """Blocks of text, each under its name; a slash is drawn for line breaks.

    For text that differs from machine to machine: a picture is not compared.
    """
    check_some(texts, "show_texts: expected at least one text, name → text")
    joined = (
        " / ".join(" ".join(line.split()) for line in text.splitlines())
        for text in texts.values()
    )
    blocks = [textwrap.wrap(re.sub(r"( /)+ ", " / ", text), 88) for text in joined]
    n_lines = sum(len(lines) + 1.7 for lines in blocks)
    figure, ax = plt.subplots(figsize=(6, 0.35 + 0.145 * n_lines))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.99)
    ax.set(xlim=(0, 1), ylim=(n_lines, -1.2 if title else 0))
    ax.axis("off")
    if title is not None:
        ax.text(0, -0.8, title, va="top", fontsize=9)
    y = 0.5
    for name, lines in zip(texts, blocks, strict=True):
        ax.text(0, y, name, va="top", fontsize=8.5, weight="bold", color=ALLOWED)
        for i, line in enumerate(lines, start=1):
            # A dollar would start a formula.
            plain = line.replace("$", r"\$")
            ax.text(0, y + i, plain, va="top", fontsize=7.2, family="monospace")
        y += len(lines) + 1.7
    return finished(figure)
