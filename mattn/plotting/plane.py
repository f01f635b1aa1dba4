"""A plane: values as points, and the weighted means between them.

Chapter 1 draws it first, chapter 4 finds the hull in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from mattn.plotting.given import check_finite, check_labels, matrix, weights_row
from mattn.plotting.style import ALLOWED, QUERY, finished

__all__ = ["show_plane"]


def show_plane(
    values: Tensor | np.ndarray,
    labels: Sequence[str],
    *,
    weights: Mapping[str, ArrayLike] | None = None,
    path: Tensor | np.ndarray | None = None,
    x_label: str = "first feature",
    y_label: str = "second feature",
    ax: Axes | None = None,
) -> Figure:
    """Values (T, 2) as blue points; orange, each weighted mean under its name.

    ``weights`` is name → a row of T weights. Lines join a mean to the values from
    which it was mixed, as thick as their weights. ``path`` (n, 2) is a dotted way, for
    example of a mean whose weights shift. Points on one spot share a label.
    """
    values = _points("values", values)
    check_labels("labels", labels, len(values))
    rows = {k: weights_row(w, len(values)) for k, w in (weights or {}).items()}
    if ax is None:
        _, ax = plt.subplots(figsize=(4.8, 3.4), layout="constrained")
    spots: dict[tuple, list[str]] = {}
    for value, label in zip(values, labels, strict=True):
        spots.setdefault(tuple(value), []).append(label)
    for name, row in rows.items():
        mean = row @ values
        for value, weight in zip(values, row, strict=True):
            if weight > 0:
                width = 0.4 + 4 * weight
                ax.plot(*zip(mean, value, strict=True), color=QUERY, lw=width, zorder=1)
        ax.plot(*mean, "D", ms=9, mfc=QUERY, mec="black", label=name, zorder=4)
        _name(ax, mean, name)
    if path is not None:
        ax.plot(*_points("path", path).T, ":", color="black", lw=1.5, zorder=2)
    for spot, names in spots.items():
        ax.plot(*spot, "o", ms=9, mfc=ALLOWED, mec="black", zorder=3)
        _name(ax, spot, ", ".join(names), below=True)
    ax.set_xlabel(x_label, fontsize=11)
    ax.set_ylabel(y_label, fontsize=11)
    ax.tick_params(labelsize=11)
    ax.margins(0.18)
    ax.spines[["top", "right"]].set_visible(False)
    return finished(ax.figure)


def _points(what: str, points: Tensor | np.ndarray) -> np.ndarray:
    points = matrix(points)
    if points.shape[1] != 2:
        raise ValueError(
            f"expected {what} of shape (n, 2), points in a plane; got {points.shape}. "
            "Choose two features: values[:, :2]."
        )
    check_finite(what, points)
    return points


def _name(ax: Axes, point, name: str, *, below: bool = False) -> None:
    """A mean is named above its mark, in bold; a value on the right, below."""
    ax.annotate(
        name,
        point,
        (7, -3) if below else (-4, 8),
        textcoords="offset points",
        ha="left" if below else "center",
        va="top" if below else "bottom",
        fontsize=11,
        fontweight="normal" if below else "bold",
        zorder=5,
    )
