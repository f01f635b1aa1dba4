"""Clocks: a position as the hands of a clock, some fast and some slow.

Chapter 6 turns them.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike

from mattn.plotting.given import check_some, row
from mattn.plotting.style import ALLOWED, HATCH, QUERY, finished

__all__ = ["show_clocks"]


def show_clocks(
    tokens: Sequence[str],
    speeds: ArrayLike,
    *,
    query: int | None = None,
) -> Figure:
    """One clock for each word and hand: the hand at ``speed · position`` radians.

    A row of clocks for each of the ``speeds``; a hand starts to the right, as the
    point (1, 0), and turns against the clock, as angles do in mathematics. The
    hands of the word at ``query`` are orange.
    """
    check_some(tokens, "show_clocks: expected at least one word")
    speeds = row("speeds", speeds, np.size(np.asarray(speeds)))
    n, T = len(speeds), len(tokens)
    size = (0.5 * T + 0.7, 0.62 * n + 0.35)
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    for level, speed in enumerate(speeds):
        y = n - 1 - level
        ax.text(-0.6, y, f"{speed:.2g}", ha="right", va="center", fontsize=11)
        for p in range(T):
            ax.add_patch(Circle((p, y), 0.4, fill=False, ec=HATCH, lw=0.8))
            tip = p + 0.4 * np.cos(speed * p), y + 0.4 * np.sin(speed * p)
            colour = QUERY if p == query else ALLOWED
            (hand,) = ax.plot((p, tip[0]), (y, tip[1]), color=colour, lw=2.5)
            hand.set_gid(f"hand {level} {p}")
    for p, token in enumerate(tokens):
        ax.text(p, n - 0.4, token, ha="center", va="bottom", fontsize=11)
    ax.set(xlim=(-1.2, T - 0.5), ylim=(-0.5, n - 0.05), aspect="equal")
    ax.axis("off")
    return finished(figure)
