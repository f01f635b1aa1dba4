"""A ruler: where each result stands between the floor and plain guessing.

Chapter 7 places its models so.
"""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mattn.plotting.given import check_some
from mattn.plotting.style import ALLOWED, INK, LEAK, SIZE, finished

__all__ = ["show_ruler"]

MARKERS = "os^vDPX*"


def show_ruler(
    marks: Mapping[str, float],
    *,
    floor: float | None = None,
    floor_label: str = "floor",
    x_label: str = "loss (nats per token)",
    ax: Axes | None = None,
) -> Figure:
    """A flag for each mark ``name → number``, its name and number beside it.

    The ``floor`` is a black line, and a mark below it is drawn as a leak.
    Raises ``ValueError`` without marks and for a number that is not finite.
    """
    check_some(marks, "show_ruler: expected at least one mark, name → number")
    given = list(marks.values()) + ([] if floor is None else [floor])
    if not np.isfinite(given).all():
        raise ValueError(
            f"show_ruler: expected finite numbers; got {given}. Leave out what was "
            "not measured."
        )
    low, high = min(given), max(given)
    room = (high - low) or 1.0
    if ax is None:
        size = (4.8, 0.7 + 0.3 * len(marks))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    # The leftmost flag flies highest, so that no pole stands in a name.
    for index, (name, x) in enumerate(sorted(marks.items(), key=lambda m: -m[1])):
        _flag(ax, index, name, x, leaks=floor is not None and x < floor)
    ax.set(ylim=(0, len(marks) + 0.6), yticks=[])
    ax.set_xlim(low - 0.12 * room, high + 0.6 * room)
    if floor is not None:
        ax.axvline(floor, color=INK, lw=1.5, zorder=0)
        ax.set_title(f"{floor_label} {floor:.2f}", fontsize=SIZE["curve"])
    ax.set_xlabel(x_label, fontsize=SIZE["curve"])
    ax.tick_params(labelsize=SIZE["curve"])
    ax.spines[["top", "right", "left"]].set_visible(False)
    return finished(ax.figure)


def _flag(ax: Axes, index: int, name: str, x: float, *, leaks: bool) -> None:
    """A pole at ``x``, and what stands there."""
    y, colour = index + 1.0, LEAK if leaks else ALLOWED
    ax.plot((x, x), (0, y), color=colour, lw=1)
    ax.plot(x, y, MARKERS[index % len(MARKERS)], color=colour, ms=6)
    ax.annotate(
        f"{name} " + f"{x:.2f}".replace("-", "−"),
        (x, y),
        xytext=(7, 0),
        textcoords="offset points",
        va="center",
        fontsize=SIZE["curve"],
    )
