"""A dot product as a picture: the shadow that a key casts on a query.

Chapter 3 draws it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from mattn.plotting.given import check_some, row
from mattn.plotting.style import ALLOWED, QUERY, finished

__all__ = ["show_shadow"]


def show_shadow(
    query: ArrayLike,
    keys: Mapping[str, ArrayLike],
    *,
    name: str = "query",
    x_label: str = "first feature",
    y_label: str = "second feature",
    ax: Axes | None = None,
) -> Figure:
    """Arrows in a plane: the query orange, keys blue, and what meets at right angles.

    A dotted line leads from the tip of each key to the foot of its shadow on the line
    of the query. The length of the shadow, times that of the query, is their dot
    product, which is written behind the key's name. Two numbers a vector.
    """
    check_some(keys, "show_shadow: expected at least one key, name → (x, y)")
    query = row("numbers of the query", query, 2)
    drawn = {n: row(f"numbers of the key {n!r}", key, 2) for n, key in keys.items()}
    if not query.any():
        raise ValueError(
            "show_shadow: expected a query that is not (0, 0); got (0, 0). It has no "
            "direction, and every dot product with it is 0."
        )
    if ax is None:
        _, ax = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    _arrow(ax, query, QUERY, 5, name)
    for label, key in drawn.items():
        product = float(query @ key)
        foot = query * product / (query @ query)
        ax.plot(*zip(key, foot, strict=True), ":", color="black", lw=1.5)
        ax.plot(*foot, "o", color="black", ms=4, zorder=4)
        _arrow(ax, key, ALLOWED, 2.5, f"{label}: {product:g}".replace("-", "−"))
    ax.plot(0, 0, "o", color="black", ms=4, zorder=4)
    ax.set_xlabel(x_label, fontsize=11)
    ax.set_ylabel(y_label, fontsize=11)
    ax.tick_params(labelsize=11)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    ax.set_aspect("equal")
    corners = np.array([[0, 0], query, *drawn.values()])
    low, high = corners.min(axis=0), corners.max(axis=0)
    ax.set(xlim=(low[0] - 0.5, high[0] + 1.8), ylim=(low[1] - 0.4, high[1] + 0.5))
    ax.spines[["top", "right"]].set_visible(False)
    return finished(ax.figure)


def _arrow(ax: Axes, tip: np.ndarray, colour: str, width: float, name: str) -> None:
    """From the origin to the tip, with the name to its right."""
    style: dict[str, Any] = {
        "arrowstyle": "-|>",
        "color": colour,
        "lw": width,
        "shrinkA": 0,
    }
    ax.annotate("", tuple(tip), (0, 0), arrowprops={**style, "shrinkB": 0})
    at: dict[str, Any] = {"textcoords": "offset points", "va": "center", "fontsize": 11}
    ax.annotate(name, tuple(tip), (8, 0), **at)
