"""Words and symbols that light up the cells of which they speak.

A chapter says in its Markdown which cells a word means, in a figure of the same page::

    <span data-lights="fig-toy-weights: 1,0 1,1">row *cats*</span>
    <span data-lights="fig-mask-atlas/3: 4,*">the row of *mat*</span>

After the name of the figure (and the number of the grid in it, from 0) stand cells:
row and column, each a number, a range ``2-5``, or ``*`` for all. A notebook shows the
plain words. When the book is built they become links to the figure, and ``lights.js``
outlines the cells while a link is pointed at or has the focus, and the same symbol in
the formula above it. Tested in tests/book/test_lights.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

__all__ = ["FILES", "LIGHTS", "Grid", "cells", "grids", "link", "put_in"]

SCRIPT = Path(__file__).with_name("lights.js")
FILES = (SCRIPT,)
LIGHTS = re.compile(
    r'<span data-lights="([^"]*)">'
    r'((?:(?!</?span).|<span class="math.*?</span>)*)</span>',
    re.S,
)
FORMULA = re.compile(r'<span class="math.*?</span>', re.S)
SAID = re.compile(r"([\w-]+)(?:/(\d+))?: ((?:[\d*-]+,[\d*-]+ ?)+)")
# A cell, as mattn.plotting.grid draws it: a square with a gap around it.
CELL = re.compile(r"M(-?[\d.]+) (-?[\d.]+)H(-?[\d.]+)V(-?[\d.]+)H\1")
FILLED = 0.95


class Grid(NamedTuple):
    """Where a grid lies in its drawing: its corner, the side of a cell, its size."""

    x: float
    y: float
    side: float
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.x:.2f} {self.y:.2f} {self.side:.3f} {self.rows} {self.columns}"


def grids(svg: str) -> list[Grid]:
    """The grids of a figure whose cells are drawn one by one, in reading order."""
    boxes = [tuple(map(float, found)) for found in CELL.findall(svg)]
    squares = {
        (round(min(x, end) / 2, 1) * 2, round(min(y, low) / 2, 1) * 2): abs(end - x)
        for x, y, end, low in boxes
        if abs(abs(end - x) - abs(low - y)) < 0.1 < abs(end - x)
    }
    if not squares:
        return []
    widths = sorted(squares.values())
    width = widths[len(widths) // 2]
    left = {
        at for at, wide in squares.items() if abs(wide - width) < 0.02 * width + 0.02
    }
    side, found = width / FILLED, []
    while left:
        todo = {left.pop()}
        part = set(todo)
        while todo:
            x, y = todo.pop()
            near = {(a, b) for a, b in left if abs(a - x) + abs(b - y) < 1.2 * side}
            left -= near
            todo |= near
            part |= near
        xs, ys = sorted(x for x, _ in part), sorted(y for _, y in part)
        columns = round((xs[-1] - xs[0]) / side) + 1
        rows = round((ys[-1] - ys[0]) / side) + 1
        if len(part) == rows * columns > 1:
            gap = (side - width) / 2
            found.append(Grid(xs[0] - gap, ys[0] - gap, side, rows, columns))
    return sorted(found, key=lambda grid: (round(grid.y / grid.side), grid.x))


def cells(said: str, rows: int, columns: int) -> set[tuple[int, int]]:
    """The cells of a grid that are meant by ``4,* 1,0-2``."""

    def those(part: str, n: int) -> range:
        if part == "*":
            return range(n)
        first, _, last = part.partition("-")
        return range(int(first), int(last or first) + 1)

    return {
        (i, j)
        for pair in said.split()
        for i in those(pair.split(",")[0], rows)
        for j in those(pair.split(",")[1], columns)
    }


def link(match: re.Match[str]) -> str:
    """A word as a link to its figure, for ``lights.js``."""
    said = SAID.fullmatch(match[1])
    if said is None:
        raise ValueError(
            "data-lights: expected a figure and its cells, 'fig-name/0: 4,* 1,0-2'; "
            f"got {match[1]!r}."
        )
    figure, grid, where = said[1], said[2] or "0", said[3].strip()
    # A formula is drawn and not written, so a link of nothing else has no name.
    name = "" if FORMULA.sub("", match[2]).strip() else ' aria-label="its cells"'
    return (
        f'<a class="mattn-lights" href="#{figure}" data-grid="{grid}" '
        f'data-cells="{where}"{name}>{match[2]}</a>'
    )


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Make links of the words of a page, and bring the script along."""
    body = context.get("body", "")
    linked = LIGHTS.sub(link, body)
    if linked == body:
        return
    for figure in re.findall(r'class="mattn-lights" href="#([^"]*)"', linked):
        if f'id="{figure}"' not in body:
            raise ValueError(
                f"data-lights: expected a figure of the page {page}; got {figure!r}, "
                "which is not on it."
            )
    script = context["pathto"](f"_static/{SCRIPT.name}", 1)
    context["body"] = f'{linked}<script src="{script}"></script>\n'
