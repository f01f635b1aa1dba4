"""Bars: one number for each label, in one group or several, and what bounds it.

Chapter 1 draws its five words so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mattn.plotting.given import check_some, row
from mattn.plotting.style import LINES, finished

__all__ = ["show_bars"]

HATCHES = ("", "..", "xx", "++")  # "///" says "blocked"


def show_bars(
    labels: Sequence[str],
    values: ArrayLike | Mapping[str, ArrayLike],
    *,
    floor: ArrayLike | None = None,
    floor_label: str = "floor",
    y_label: str = "",
    colours: Sequence[str] = LINES,
    digits: int = 1,
    ax: Axes | None = None,
) -> Figure:
    """A bar for each label, its number on top; negative ones hang.

    ``values`` is one row of numbers, or name → row, drawn side by side and told apart
    by colour, hatching and a legend. ``floor`` is one number for each label, drawn as
    a black line across its bars.
    """
    check_some(labels, "show_bars: expected at least one label")
    groups = values if isinstance(values, Mapping) else {"": values}
    check_some(groups, "show_bars: expected at least one group, name → values")
    rows = {name: row("values", v, len(labels)) for name, v in groups.items()}
    floor = None if floor is None else row("floors", floor, len(labels))
    if ax is None:
        _, ax = plt.subplots(figsize=(4.8, 3.1), layout="constrained")
    width = 0.84 / len(rows)
    for index, (name, heights) in enumerate(rows.items()):
        left = [x - 0.42 + index * width for x in range(len(labels))]
        style: dict[str, Any] = {"edgecolor": "black", "lw": 0}
        style["hatch"] = HATCHES[index % len(HATCHES)]
        colour = colours[index % len(colours)]
        bars = ax.bar(
            left, heights, width * 0.92, color=colour, align="edge", label=name, **style
        )
        written = [f"{h:.{digits}f}".replace("-", "−") for h in heights]
        ax.bar_label(bars, written, padding=2, fontsize=9 if len(rows) > 1 else 11)
    if floor is not None:
        for x, y in enumerate(floor):
            label = floor_label if x == 0 else None
            ax.plot((x - 0.46, x + 0.46), (y, y), color="black", lw=2, label=label)
    ax.set_xticks(range(len(labels)), labels)
    ax.set_ylabel(y_label, fontsize=11)
    _quiet(ax, legend=isinstance(values, Mapping) or floor is not None)
    return finished(ax.figure)


def _quiet(ax: Axes, *, legend: bool) -> None:
    """Bars that stand on a line and nothing else around them."""
    ax.tick_params(labelsize=11, length=0)
    ax.margins(y=0.12)
    ax.axhline(0, color="black", lw=0.8)
    ax.spines[["top", "right", "bottom"]].set_visible(False)
    if legend:
        above: dict[str, Any] = {
            "loc": "lower center",
            "bbox_to_anchor": (0.5, 1.0),
            "ncols": 2,
        }
        ax.legend(frameon=False, fontsize=11, **above)
