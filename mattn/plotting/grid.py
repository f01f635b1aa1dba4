"""The grid on which a matrix is drawn: rows are queries, columns are keys."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mattn.plotting.given import check_labels, check_query
from mattn.plotting.style import BLOCKED, QUERY

__all__ = ["PRINTED", "axes_for", "draw_cell", "draw_grid", "outline_row"]

PRINTED = 8  # grids up to this size print their values


def axes_for(ax: Axes | None, shape: tuple[int, int]) -> Axes:
    """The axes that are given, or new ones, as large as the matrix wants."""
    if ax is not None:
        return ax
    side = min(0.42 * max(shape) + 1.0, 4.0)
    return plt.subplots(figsize=(side, side), layout="constrained")[1]


def draw_grid(ax: Axes, shape, tokens: Sequence[str] | None, title: str | None) -> None:
    """Empty axes for a matrix, with the positions or the tokens as labels."""
    Tq, Tk = shape
    ax.set(xlim=(-0.5, Tk - 0.5), ylim=(Tq - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0, labelsize=8, top=False, labeltop=True, labelbottom=False)
    if tokens is None:
        step = max(1, max(shape) // 8)
        ax.set_xticks(range(0, Tk, step))
        ax.set_yticks(range(0, Tq, step))
    else:
        check_labels("tokens", tokens, max(shape))
        # Fewer queries than keys stand at the end (bottom-right alignment).
        ax.set_xticks(range(Tk), tokens[:Tk], rotation=45, ha="left")
        ax.set_yticks(range(Tq), tokens[Tk - Tq : Tk] if Tq <= Tk else tokens[:Tq])
    ax.spines[:].set_visible(False)
    ax.xaxis.set_label_position("top")
    if title is not None:
        ax.set_title(title, fontsize=9)


def draw_cell(ax: Axes, i: int, j: int, colour) -> None:
    """One cell in its colour; ``None``: blocked, grey and hatched."""
    blocked = colour is None
    ax.add_patch(
        Rectangle(
            (j - 0.5, i - 0.5),
            1,
            1,
            facecolor=BLOCKED if blocked else colour,
            edgecolor="#A6A6A6" if blocked else "white",
            hatch="///" if blocked else None,
            linewidth=0.6,
        )
    )


def outline_row(ax: Axes, query: int | None, shape: tuple[int, int]) -> None:
    """The row of a query, if one is asked for, in orange."""
    if query is not None:
        check_query(query, shape[0])
        ax.add_patch(
            Rectangle((-0.5, query - 0.5), shape[1], 1, fill=False, ec=QUERY, lw=2.5)
        )
