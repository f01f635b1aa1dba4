"""Jugs: sums of a few pieces, each piece as tall as what it adds.

Chapter 4 merges partial results so.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mattn.plotting.given import check_some, row
from mattn.plotting.style import ALLOWED, CUT, finished

__all__ = ["show_jugs"]


def show_jugs(
    jugs: Mapping[str, Mapping[str, float]],
    *,
    lowered: tuple[str, ...] = (),
    ax: Axes | None = None,
) -> Figure:
    """Pieces one on the other for each jug, the sum on top.

    ``jugs`` is name → (piece → how much it adds). The pieces that ``lowered`` names
    are pale and dotted in every jug, so that one can follow them from jug to jug.

    Raises ``ValueError`` without jugs, for an empty one, and for a piece of NaN, ∞ or
    less than 0.
    """
    check_some(jugs, "show_jugs: expected at least one jug, name → pieces")
    if ax is None:
        _, ax = plt.subplots(figsize=(4.8, 3.0), layout="constrained")
    for x, (name, pieces) in enumerate(jugs.items()):
        check_some(pieces, f"show_jugs: expected at least one piece in {name!r}")
        _pour(ax, x, name, pieces, lowered)
    ax.set_xticks(range(len(jugs)), list(jugs))
    ax.tick_params(labelsize=11, length=0)
    ax.set(yticks=[], xlim=(-0.5, len(jugs) - 0.2))
    ax.margins(y=0.12)
    ax.spines[["top", "right", "left"]].set_visible(False)
    return finished(ax.figure)


def _pour(
    ax: Axes, x: int, name: str, pieces: Mapping[str, float], lowered: tuple[str, ...]
) -> None:
    """The pieces of one jug, from the bottom, and their sum."""
    heights = row("pieces", list(pieces.values()), len(pieces))
    if min(heights) < 0:
        raise ValueError(
            f"show_jugs: expected pieces of 0 or more in {name!r}; got "
            f"{min(heights):g}. A sum of exponentials has no others."
        )
    level = 0.0
    for piece, height in zip(pieces, heights, strict=True):
        pale = piece in lowered
        colour, hatch = (CUT, "..") if pale else (ALLOWED, "")
        ax.bar(x, height, 0.5, bottom=level, color=colour, ec="black", hatch=hatch)
        beside = (x + 0.29, level + height / 2)
        ax.text(*beside, piece, ha="left", va="center", fontsize=11)
        level += height
    ax.text(
        x, level, f"{level:g}", ha="center", va="bottom", fontsize=11, weight="bold"
    )
