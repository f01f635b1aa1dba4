"""The palette, the lines and the end of every figure."""

from __future__ import annotations

import matplotlib.pyplot as plt
from matplotlib.figure import Figure, SubFigure

__all__ = ["ALLOWED", "BLOCKED", "LEAK", "LINES", "QUERY", "STYLES", "finished"]

ALLOWED = "#0072B2"
BLOCKED = "#D9D9D9"
LEAK = "#D55E00"
QUERY = "#E69F00"
LINES = (ALLOWED, LEAK, "#009E73", "#CC79A7", "#56B4E9", "#000000")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))


def finished(figure: Figure | SubFigure) -> Figure:
    """Close the figure, so that a notebook shows it once, as the cell's value."""
    whole = figure if isinstance(figure, Figure) else figure.figure
    plt.close(whole)
    return whole
