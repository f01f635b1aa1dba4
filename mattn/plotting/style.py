"""The palette, the lines and the end of every figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure, SubFigure

__all__ = [
    "ALLOWED",
    "BLOCKED",
    "CUT",
    "DARK",
    "HATCH",
    "INK",
    "LEAK",
    "LIGHT",
    "LINES",
    "MEANINGS",
    "ON_MARK",
    "QUERY",
    "SIZE",
    "STYLES",
    "WEIGHTS",
    "finished",
    "ink_on",
    "measured",
]

ALLOWED = "#0072B2"
BLOCKED = "#D9D9D9"
LEAK = "#D55E00"
QUERY = "#E69F00"
CUT = "#9CCAE6"  # a block that the mask cuts: part of it is allowed
HATCH = "#8C8C8C"  # the lines on blocked cells
INK = "#000000"  # text, axes and all other lines
ON_MARK = "#FFFFFF"  # signs on a cell that is allowed or leaks
# Numbers on a colour map, whose colours are those of no page: they stay.
DARK, LIGHT = "#010101", "#FEFEFE"
# Weights: one hue, from white to the blue of "allowed", so that none has the grey of
# what is blocked. Its ends are a shade off, as those colours are the page's to change.
WEIGHTS = LinearSegmentedColormap.from_list("weights", (LIGHT, "#0071B1"))
MEANINGS = {
    ALLOWED: "allowed",
    BLOCKED: "blocked",
    LEAK: "leak",
    QUERY: "query",
    CUT: "cut",
    HATCH: "hatch",
    ON_MARK: "on-mark",
}
"""Colour → the page's variable that may replace it: ``--mattn-allowed``."""

LINES = (ALLOWED, LEAK, "#009E73", "#CC79A7", "#56B4E9", INK)
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
SIZE = {"grid": 9.0, "curve": 11.0}
"""Points of the text: 11 px or more, also where a phone shrinks the figure."""


def finished(figure: Figure | SubFigure) -> Figure:
    """Close the figure, so that a notebook shows it once, as the cell's value."""
    whole = figure if isinstance(figure, Figure) else figure.figure
    plt.close(whole)
    return whole


def ink_on(colour: np.ndarray) -> str:
    """Dark or light, whichever is read better on a colour (red, green, blue).

    By the contrast of WCAG 2, which then is 4.5 or more on every colour.
    """
    linear = np.where(
        colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4
    )
    return LIGHT if linear @ (0.2126, 0.7152, 0.0722) < 0.179 else DARK


def measured(figure: Figure) -> Figure:
    """Mark a figure of what training or a machine decides.

    Redrawn, it may differ from the stored one: its cell asserts what must hold.
    """
    figure.set_gid("measured")
    return figure
