"""A machine: where numbers lie, how fast they come, and what two fences let in.

Chapter 10 draws both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from numpy.typing import ArrayLike

from mattn.inputs import whole_number
from mattn.plotting.given import check_labels, check_some, row
from mattn.plotting.grid import axes_for, draw_blocked, draw_cells, draw_grid
from mattn.plotting.style import ALLOWED, INK, SIZE, finished

__all__ = ["show_fences", "show_memory"]

APART = 1.7  # from one place to the next, in widths of the first


def show_memory(levels: Mapping[str, str], links: Sequence[str]) -> Figure:
    """Places where numbers lie, from the large and slow to the small and fast.

    ``levels``: name → how much it holds, each drawn smaller than the one before;
    ``links``: what the arrow from each to the next says. Raises ``ValueError`` if
    there is not one link fewer than levels.
    """
    check_some(levels, "show_memory: expected at least one level, name → its size")
    check_labels("links", links, len(levels) - 1)
    _, ax = plt.subplots(figsize=(4.8, 1.9), layout="constrained")
    edges = []
    for n, (name, size) in enumerate(levels.items()):
        side = 1.0 - 0.5 * n / len(levels)
        corner = APART * n + (1 - side) / 2, (1 - side) / 2
        style: dict[str, Any] = {"boxstyle": "round,pad=0,rounding_size=0.05"}
        frame = FancyBboxPatch(corner, side, side, fill=False, ec=INK, **style)
        ax.add_patch(frame)
        ax.text(APART * n + 0.5, 0.5, size, **_middle(va="center"))
        ax.text(APART * n + 0.5, -0.06, name, **_middle(va="top"))
        edges.append((corner[0], corner[0] + side))
    for (_, left), (right, _), said in zip(edges, edges[1:], links, strict=False):
        arrow = {"arrowstyle": "<|-|>", "color": ALLOWED, "lw": 1.5}
        ax.annotate("", (right - 0.02, 0.5), (left + 0.02, 0.5), arrowprops=arrow)
        ax.text((left + right) / 2, 0.58, said, **_middle(va="bottom"))
    ax.set(xlim=(-0.05, APART * (len(levels) - 1) + 1.05), ylim=(-0.3, 1.05))
    ax.axis("off")
    return finished(ax.figure)


def show_fences(
    first: ArrayLike,
    end: ArrayLike,
    n_keys: int,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """The keys ``first ≤ j < end`` of each query, between two fences.

    The fence on the left is solid, that on the right dashed: neither moves back
    from one query to the next, and what lies outside is blocked.
    """
    n_keys = whole_number(n_keys, "n_keys", least=1)
    n_queries = len(np.asarray(first))
    fences = [row(name, t, n_queries) for name, t in (("first", first), ("end", end))]
    j = np.arange(n_keys)
    seen = (fences[0][:, None] <= j) & (j < fences[1][:, None])
    ax = axes_for(ax, seen.shape)
    draw_grid(ax, seen.shape, None, title)
    draw_blocked(ax, ~seen)
    draw_cells(ax, seen, ALLOWED)
    edges = np.arange(n_queries + 1) - 0.5
    y = np.stack([edges[:-1], edges[1:]], axis=1).ravel()  # down along each query
    for name, t, line in zip(("first", "end"), fences, ("-", (0, (2, 1))), strict=True):
        style: dict[str, Any] = {"color": INK, "lw": 2.5, "ls": line, "label": name}
        ax.plot(t.repeat(2) - 0.5, y, clip_on=False, zorder=3, **style)
    below: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0)}
    ax.legend(frameon=False, ncols=2, fontsize=SIZE["grid"], **below)
    return finished(ax.figure)


def _middle(**style: str) -> dict[str, Any]:
    return {"ha": "center", "fontsize": SIZE["curve"], **style}
