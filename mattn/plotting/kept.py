"""A cache that fills: one column of key and value more in every step.

Chapter 5 fills it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mattn.plotting.given import check_some
from mattn.plotting.style import ALLOWED, HATCH, INK, ON_MARK, QUERY, finished

__all__ = ["show_cache"]

# All in inches, so that a phone can show the words.
BOX, APART, GAP, HEIGHT, STEP = 0.48, 0.26, 0.05, 0.24, 0.68
SIZE = 9


def show_cache(tokens: Sequence[str]) -> Figure:
    """The steps of a model that reads ``tokens`` one by one with a cache.

    A row for each step: its query in an orange outline, and the columns of key and
    value that it meets. Those of earlier steps lie where they were; the newest, with a
    thick edge, slides in from the right. Earlier queries are not there any more.
    Raises ``ValueError`` without tokens.
    """
    check_some(tokens, "show_cache: expected at least one token")
    size = 2 * BOX + APART + BOX * len(tokens) + APART, STEP * len(tokens)
    figure = plt.figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0))
    ax.axis("off")
    for t, token in enumerate(tokens):
        top = STEP * t + 0.08
        ax.text(0, top + HEIGHT, f"step {t}", va="center", fontsize=SIZE)
        query = Rectangle((BOX, top + HEIGHT / 2), BOX - GAP, HEIGHT)
        query.set(fill=False, ec=QUERY, lw=2)
        ax.add_patch(query)
        _write(ax, BOX, top + HEIGHT, f"q {token}", INK)
        for j in range(t + 1):
            slides = APART / 2 if j == t else 0
            left = 2 * BOX + APART + BOX * j + slides
            for row, kind in enumerate("kv"):
                place = left, top + HEIGHT * row
                cell = Rectangle(place, BOX - GAP, HEIGHT, fc=ALLOWED)
                cell.set(ec=INK if j == t else ON_MARK, lw=2 if j == t else 0.8)
                ax.add_patch(cell)
                middle = top + HEIGHT * (row + 0.5)
                _write(ax, left, middle, f"{kind} {tokens[j]}", ON_MARK)
        _slide(ax, 2 * BOX + APART + BOX * (t + 1) + APART / 2, top + HEIGHT)
    return finished(figure)


def _write(ax: Axes, left: float, middle: float, text: str, colour: str) -> None:
    where = left + (BOX - GAP) / 2, middle
    ax.text(*where, text, ha="center", va="center", fontsize=SIZE, color=colour)


def _slide(ax: Axes, edge: float, middle: float) -> None:
    """An arrow to the left, behind the column that has just come."""
    style: dict[str, Any] = {"arrowstyle": "-|>", "color": HATCH, "lw": 1.2}
    start = edge + APART / 2, middle
    ax.annotate("", xy=(edge, middle), xytext=start, arrowprops=style)
