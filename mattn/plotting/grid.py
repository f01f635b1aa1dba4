"""The grid on which a matrix is drawn: rows are queries, columns are keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path

from mattn.plotting.given import check_labels, check_query
from mattn.plotting.style import BLOCKED, HATCH, QUERY, SIZE

__all__ = [
    "PRINTED",
    "axes_for",
    "draw_blocked",
    "draw_cells",
    "draw_colours",
    "draw_grid",
    "outline_row",
]

PRINTED = 8  # grids up to this size print their values
APART = 16  # up to this size there is a gap between the cells
GAP = 0.025


def axes_for(ax: Axes | None, shape: tuple[int, int]) -> Axes:
    """The axes that are given, or new ones, as large as the matrix wants."""
    if ax is not None:
        return ax
    side = min(0.42 * max(shape) + 0.9, 3.6)
    return plt.subplots(figsize=(side, side), layout="constrained")[1]


def draw_grid(
    ax: Axes,
    shape: tuple[int, int],
    tokens: Sequence[str] | None,
    title: str | None,
) -> None:
    """Empty axes for a matrix, with the positions or the tokens as labels."""
    Tq, Tk = shape
    ax.set(xlim=(-0.5, Tk - 0.5), ylim=(Tq - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0, labelsize=SIZE["grid"], pad=2)
    ax.tick_params(top=False, labeltop=True, labelbottom=False)
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
    ax.set_xlabel("key", fontsize=SIZE["grid"])
    ax.set_ylabel("query", fontsize=SIZE["grid"])
    if title is not None:
        ax.set_title(title, fontsize=SIZE["grid"] + 1)


def draw_cells(ax: Axes, where: np.ndarray, colour) -> None:
    """The cells that are True, in one colour and as one path."""
    gap = GAP if max(where.shape) <= APART else 0.0
    boxes = []
    for i, row in enumerate(where):
        low, high = i + gap, i + 1 - gap
        for first, end in _runs(row, single=gap > 0):
            left, right = first + gap, end - gap
            boxes.append([(left, low), (right, low), (right, high), (left, high)])
    if boxes:
        corners = np.array([[*box, box[0]] for box in boxes]).reshape(-1, 2) - 0.5
        codes = [Path.MOVETO, *[Path.LINETO] * 3, Path.CLOSEPOLY] * len(boxes)
        _add(ax, Path(corners, codes), fc=colour, lw=0)


def draw_blocked(ax: Axes, where: np.ndarray) -> None:
    """The cells that are True, grey and hatched.

    In a large grid all of it: whoever draws the other cells covers them.
    """
    if max(where.shape) > APART and where.any():
        where = np.ones_like(where)
    draw_cells(ax, where, BLOCKED)
    # Lines from bottom left to top right: one through the corners of a cell and,
    # where there is room, one on either side of it.
    fine = 2 if max(where.shape) <= APART else 1
    lines = list(_diagonals(where.repeat(fine, 0).repeat(fine, 1)))
    if lines:
        ends = np.array(lines, dtype=float).reshape(-1, 2) / fine - 0.5
        codes = [Path.MOVETO, Path.LINETO] * len(lines)
        _add(ax, Path(ends, codes), fill=False, ec=HATCH, lw=0.7)


def draw_colours(ax: Axes, colours: np.ndarray, visible: np.ndarray) -> None:
    """Cells in colours of a map (Tq, Tk, 4); in a large grid as one picture."""
    if max(visible.shape) > APART:
        shown = np.where(visible[..., None], colours, 0)
        ax.imshow(shown, interpolation="none", zorder=1.5)  # above what is blocked
        return
    for i, j in np.argwhere(visible):
        corner, side = (j - 0.5 + GAP, i - 0.5 + GAP), 1 - 2 * GAP
        cell = Rectangle(corner, side, side, fc=tuple(colours[i, j]), lw=0)
        cell.set_clip_on(False)
        ax.add_patch(cell)


def outline_row(ax: Axes, query: int | None, shape: tuple[int, int]) -> None:
    """The row of a query, if one is asked for, in orange."""
    if query is not None:
        check_query(query, shape[0])
        box = Rectangle((-0.5, query - 0.5), shape[1], 1, fill=False, ec=QUERY, lw=2.5)
        box.set_clip_on(False)
        ax.add_patch(box)


def _add(ax: Axes, path: Path, **style) -> None:
    ax.add_patch(PathPatch(path, clip_on=False, **style))


def _runs(row: np.ndarray, *, single: bool) -> Iterator[tuple[int, int]]:
    """Where runs of True begin and end; ``single``: each cell is one."""
    if single:
        yield from ((j, j + 1) for j in np.flatnonzero(row).tolist())
        return
    edges = np.flatnonzero(np.diff(np.concatenate([[0], row, [0]])))
    yield from zip(edges[::2], edges[1::2], strict=True)


def _diagonals(where: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
    """Lines (x, y, x, y) through the True cells, from corner to corner."""
    Tq, Tk = where.shape
    for total in range(Tq + Tk - 1):  # the cells (i, total − i)
        rows = np.arange(max(0, total - Tk + 1), min(Tq, total + 1))
        for first, last in _runs(where[rows, total - rows], single=False):
            top, bottom = rows[0] + first, rows[0] + last
            yield total - bottom + 1, bottom, total - top + 1, top
