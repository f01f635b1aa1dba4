"""Curves: what training, softmax and a machine do, as one number changes.

Chapters 1, 3 to 8 and 10 draw them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import ArrayLike

from mattn.plotting.given import check_some, curve_points
from mattn.plotting.style import HATCH, INK, LINES, SIZE, STYLES, finished

__all__ = ["show_curves", "show_roofline", "show_running", "show_scaling"]

WIDE = 4.8  # inches: a phone shrinks it to three quarters
LEGEND = {"frameon": False, "fontsize": SIZE["curve"]}
MARKERS = "os^vDPX*"


def show_curves(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    floor: float | None = None,
    floor_label: str = "entropy of the source",
    x_label: str = "step",
    y_label: str = "loss (nats per token)",
    ax: Axes | None = None,
) -> Figure:
    """Curves ``name → (x, y)``; ``floor`` is drawn as a horizontal line.

    Raises ``ValueError`` without curves, and for an x and a y of different lengths.
    """
    check_some(curves, "show_curves: expected at least one curve, name → (x, y)")
    drawn = {name: curve_points(name, *curve) for name, curve in curves.items()}
    if ax is None:
        _, ax = plt.subplots(figsize=(WIDE, 3.1), layout="constrained")
    for index, (name, (x, y)) in enumerate(drawn.items()):
        ax.plot(x, y, label=name, **_line(index))
    if floor is not None:
        ax.axhline(floor, color=INK, lw=0.8)
        ax.margins(y=0.1)  # room for the label
        ax.annotate(
            floor_label,
            (1, floor),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",  # below the line: honest curves come down to it from above
            fontsize=SIZE["curve"],
        )
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.legend(**LEGEND)
    return _quiet(ax)


def show_running(
    scores: ArrayLike,
    maximum: ArrayLike,
    total: ArrayLike,
) -> Figure:
    """What the online softmax holds while it reads one row of scores.

    Above: the scores and their running maximum. Below: the running sum of
    exp(score − maximum).
    """
    keys = range(len(np.asarray(scores)))
    _, scores = curve_points("scores", keys, scores)
    _, maximum = curve_points("maximum", keys, maximum)
    _, total = curve_points("total", keys, total)
    _, (above, below) = plt.subplots(
        2, 1, figsize=(WIDE, 3.6), sharex=True, layout="constrained"
    )
    above.plot(keys, scores, "o", color=HATCH, ms=4, label="score")
    above.step(keys, maximum, where="post", color=LINES[0], label="running maximum")
    above.set(ylabel="score")
    above.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 0.95), **LEGEND)
    below.step(keys, total, where="post", color=LINES[0])
    below.set(xlabel="key position", ylabel="running sum", ylim=(0, None))
    return _quiet(above, below)


def show_scaling(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str = "T, tokens",
    y_label: str,
    title: str | None = None,
    empty: str = "no record yet",
) -> Figure:
    """Curves ``name → (x, y)`` on logarithmic axes; without any, a panel saying so.

    Raises ``ValueError`` for what is not above 0: it has no place on such an axis.
    """
    drawn = {
        name: curve_points(name, *curve, positive=True)
        for name, curve in curves.items()
    }
    _, ax = plt.subplots(figsize=(WIDE, 3.1), layout="constrained")
    for index, (name, (x, y)) in enumerate(drawn.items()):
        marker = MARKERS[index % len(MARKERS)]
        ax.plot(x, y, marker=marker, ms=4, label=name, **_line(index))
    if curves:
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        _plain_numbers(ax)
        ax.legend(**LEGEND)
    else:
        said = ax.text(0.5, 0.5, empty, ha="center", va="center")
        said.set(fontsize=SIZE["curve"], transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
    ax.set(xlabel=x_label, ylabel=y_label)
    return _quiet(ax, title=title)


def show_roofline(
    operations: float,
    bandwidth: float,
    points: Mapping[str, float],
    *,
    title: str | None = None,
) -> Figure:
    """How fast a machine can be at an intensity, in operations a byte.

    ``operations`` a second at most, ``bandwidth`` in bytes a second;
    ``points`` are intensities, drawn where they meet the roof.
    """
    given = {"operations": operations, "bandwidth": bandwidth} | dict(points)
    wrong = [
        f"{name} {value}" for name, value in given.items() if not 0 < value < np.inf
    ]
    if wrong or not points:
        raise ValueError(
            "show_roofline: expected operations, bandwidth and at least one point, "
            f"all above 0 and finite; got {wrong[0] if wrong else 'no point'}. Leave "
            "out what was not measured."
        )
    ridge = operations / bandwidth
    intensity = np.geomspace(
        min(ridge / 20, *points.values()) / 2, max(ridge * 20, *points.values()) * 2
    )
    _, ax = plt.subplots(figsize=(WIDE, 3.1), layout="constrained")
    roof = np.minimum(operations, intensity * bandwidth) / 1e12
    ax.loglog(intensity, roof, color=INK)
    ax.axvline(ridge, color=HATCH, lw=1, ls=":")
    for index, (name, x) in enumerate(points.items()):
        y = min(operations, x * bandwidth) / 1e12
        colour = LINES[index % len(LINES)]
        marker = MARKERS[index % len(MARKERS)]
        ax.plot(x, y, marker, color=colour, label=name, ms=7)
    ax.set(xlabel="operations a byte", ylabel="TFLOP/s at most")
    _plain_numbers(ax)
    ax.legend(loc="lower right", **LEGEND)
    return _quiet(ax, title=title)


def _line(index: int) -> dict[str, Any]:
    """How the curve with this number is drawn: in colour and dashes."""
    return {
        "color": LINES[index % len(LINES)],
        "linestyle": STYLES[index % len(STYLES)],
    }


def _plain_numbers(ax: Axes) -> None:
    """1,024 and 0.1 along logarithmic axes, not powers; 2 and 5 where few fit."""
    low, high = ax.get_ylim()
    if high / low < 100:
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())


def _quiet(*axes: Axes, title: str | None = None) -> Figure:
    """The last touch: open axes, text that can be read on a phone."""
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=SIZE["curve"])
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set_fontsize(SIZE["curve"])
    if title is not None:
        axes[0].set_title(title, fontsize=SIZE["curve"])
    return finished(axes[0].figure)
