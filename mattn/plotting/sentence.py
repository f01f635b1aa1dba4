"""A sentence: who looks at whom, and what lies under the card.

Chapter 1 draws it first.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path
from torch import Tensor

from mattn.inputs import whole_number
from mattn.plotting.given import check_query, weights_row
from mattn.plotting.style import ALLOWED, BLOCKED, HATCH, LEAK, QUERY, finished

__all__ = ["show_sentence"]

WIDTH, HEIGHT = 0.86, 0.62  # of a word's box, in words
LEAST = 0.005  # a weight that is written 0.00 is no arrow


def show_sentence(
    tokens: Sequence[str],
    weights: Tensor | np.ndarray,
    *,
    query: int,
    card: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Arrows from the word at ``query`` to the words that it looks at.

    Each arrow is as thick as its weight, ``weights`` (T,); the largest weight is
    written, of equal ones the first. An arrow back is blue, one to a later word
    vermillion; the word that asks is outlined in orange. ``card`` is the first
    position that a hatched card covers: its word and those after it are not shown.
    Raises ``ValueError`` if a covered word has a weight: nobody can look under the
    card.
    """
    T = len(tokens)
    weights = weights_row(weights, T)
    check_query(query, T)
    card = T if card is None else whole_number(card, "card", least=query + 1)
    if (weights[card:] > 0).any():
        raise ValueError(
            f"expected weight 0 from position {card} on, which the card covers; got "
            f"{weights[card:].max():.3g}. Lift the card (card=None) or mask the row."
        )
    reach = max((abs(query - j) for j in range(T) if weights[j] >= LEAST), default=0)
    height = 0.45 + 0.32 * reach  # of the highest arrow, above the boxes
    if ax is None:
        tall = 0.8 * (HEIGHT + height + 0.25 * (title is not None) + 0.35)
        _, ax = plt.subplots(figsize=(min(0.8 * T, 4.8), tall), layout="constrained")
    for j, token in enumerate(tokens):
        _box(ax, j, token, asks=j == query, covered=j >= card)
    largest = weights.argmax()
    for j, weight in enumerate(weights):
        if weight >= LEAST:
            top = _arrow(ax, query, j, weight)
            if j == largest:
                x = (query + j) / 2
                text = f"{weight:.2f}"
                ax.text(x, top + 0.06, text, ha="center", va="bottom", fontsize=11)
    ax.set(xlim=(-0.5, T - 0.5), ylim=(-HEIGHT / 2 - 0.05, HEIGHT / 2 + height + 0.25))
    ax.axis("off")
    if title is not None:
        ax.set_title(title, fontsize=11)
    return finished(ax.figure)


def _box(ax: Axes, j: int, token: str, *, asks: bool, covered: bool) -> None:
    """A word in its box; under the card, the card alone."""
    box = Rectangle(
        (j - WIDTH / 2, -HEIGHT / 2),
        WIDTH,
        HEIGHT,
        facecolor=BLOCKED if covered else "none",
        edgecolor=QUERY if asks else HATCH if covered else "black",
        hatch="///" if covered else None,
        linewidth=2.5 if asks else 0.8,
    )
    ax.add_patch(box)
    if not covered:
        ax.text(j, 0, token, ha="center", va="center", fontsize=11)


def _arrow(ax: Axes, query: int, j: int, weight: float) -> float:
    """An arrow from the query to a key over the boxes; how high it rises."""
    foot, rise = HEIGHT / 2 + 0.03, (0.45 + 0.32 * abs(query - j)) * 4 / 3
    start, end = (query - 0.18, j + 0.18) if query == j else (query, j)
    points = [(start, foot), (start, foot + rise), (end, foot + rise), (end, foot)]
    arrow = FancyArrowPatch(
        path=Path(points, [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]),
        arrowstyle="-|>",
        mutation_scale=8 + 8 * weight,
        linewidth=0.6 + 5 * weight,
        color=LEAK if j > query else ALLOWED,
        shrinkA=0,
        shrinkB=0,
    )
    arrow.set_gid(f"arrow {query} {j}")
    ax.add_patch(arrow)
    return foot + 3 / 4 * rise  # where a cubic curve with these handles turns
