"""Draws the image that a link to the book is shown with, 1200×630 pixels.

    python -m book.site.preview [FILE]

The image is stored; run this again when the words change.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.patches import Rectangle

from book import ROOT

OUT = ROOT / "book" / "static" / "preview.png"
SEEN, HIDDEN, INK, SOFT = "#0072B2", "#D9D9D9", "#1b2733", "#51606e"


def draw(path: Path, n: int = 6) -> None:
    figure = plt.figure(figsize=(12, 6.3), dpi=100, facecolor="#fbfcfd")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 1200), ylim=(630, 0))
    axes.set_axis_off()
    side, gap, left, top = 60, 8, 80, 115
    for i in range(n):
        for j in range(n):
            place = (left + j * (side + gap), top + i * (side + gap))
            seen = j <= i
            axes.add_patch(
                Rectangle(
                    place,
                    side,
                    side,
                    facecolor=SEEN if seen else HIDDEN,
                    edgecolor="#a6a6a6",
                    linewidth=0,
                    hatch=None if seen else "///",
                )
            )
    axes.text(560, 250, "mattn", size=72, weight="bold", color=INK, va="center")
    axes.text(562, 355, "Masked self-attention:", size=25, color=SOFT, va="center")
    axes.text(
        562, 405, "derived, executed and checked.", size=25, color=SOFT, va="center"
    )
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
