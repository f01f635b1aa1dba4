"""Stencils: one row of a mask laid over the sentence, once for each rule.

Chapter 2 draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mattn.plotting.given import check_labels, check_query, check_some, row
from mattn.plotting.style import ALLOWED, BLOCKED, HATCH, QUERY, finished

__all__ = ["show_stencils"]

# All in inches, so that the words have room and a phone can show them.
NAMES, BOX, NOTES = 0.7, 0.46, 0.56
HEIGHT, APART, GAP = 0.4, 0.5, 0.04
SIZE = 9


def show_stencils(
    tokens: Sequence[str],
    weights: Mapping[str, Tensor | np.ndarray],
    *,
    query: int | Mapping[str, int],
    notes: Sequence[str] | None = None,
) -> Figure:
    """The weights ``(T,)`` of one query under several masks, a strip for each.

    Words that a mask hides from the query lie under a hatched card: those with a
    weight of exactly 0. The others show their weight, and a bar as long; a row of
    booleans shows the words alone. The query's own word is outlined in orange, in all
    strips or in those that ``query`` names; ``notes`` stand at the ends. Raises
    ``ValueError`` for weights that do not fit the tokens.
    """
    check_some(weights, "show_stencils: expected at least one row, name → weights")
    asks = query if isinstance(query, Mapping) else dict.fromkeys(weights, query)
    for place in asks.values():
        check_query(place, len(tokens))
    notes = [""] * len(weights) if notes is None else notes
    check_labels("notes", notes, len(weights))
    T = len(tokens)
    size = NAMES + BOX * T + NOTES, APART * len(weights)
    figure = plt.figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0))
    ax.axis("off")
    for i, (name, given) in enumerate(weights.items()):
        top = APART * i + (APART - HEIGHT) / 2
        middle: dict[str, Any] = {"va": "center", "fontsize": SIZE, "linespacing": 1.1}
        ax.text(0.02, top + HEIGHT / 2, name, **middle)
        cells = row("weights", given, T)
        for j, weight in enumerate(cells):
            left = NAMES + BOX * j
            if not weight:
                _card(ax, left, top)
            else:
                shown = None if cells.dtype == bool else weight
                _open(ax, left, top, tokens[j], shown)
        if name in asks:
            own = Rectangle((NAMES + BOX * asks[name], top), BOX - GAP, HEIGHT)
            own.set(fill=False, ec=QUERY, lw=2)
            ax.add_patch(own)
        ax.text(NAMES + BOX * T + 0.04, top + HEIGHT / 2, notes[i], **middle)
    return finished(figure)


def _open(ax: Axes, left: float, top: float, token: str, weight: float | None) -> None:
    """A word in sight: its weight below it, if there is one, and a bar as long."""
    width = BOX - GAP
    frame: dict[str, Any] = {"fill": False, "ec": "black", "lw": 0.6}
    ax.add_patch(Rectangle((left, top), width, HEIGHT, **frame))
    middle: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": SIZE}
    if weight is None:
        ax.text(left + width / 2, top + HEIGHT / 2, token, **middle)
        return
    bar = (left, top + HEIGHT - 0.06), width * weight, 0.06
    ax.add_patch(Rectangle(*bar, fc=ALLOWED, lw=0))
    ax.text(left + width / 2, top + 0.1, token, **middle)
    ax.text(left + width / 2, top + 0.245, f"{weight:.2f}", **middle)


def _card(ax: Axes, left: float, top: float) -> None:
    """What covers a word: grey, and hatched by lines from below left."""
    width = BOX - GAP
    ax.add_patch(Rectangle((left, top), width, HEIGHT, fc=BLOCKED, lw=0))
    for start in np.arange(0.12, width + HEIGHT, 0.12):
        # On the line x + y = start, from the left or the lower edge to the other two.
        x = max(0.0, start - HEIGHT), min(width, start)
        y = start - x[0], start - x[1]
        ends = [left + x[0], left + x[1]], [top + y[0], top + y[1]]
        ax.plot(*ends, color=HATCH, lw=0.7, solid_capstyle="butt")
