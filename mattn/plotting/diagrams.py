"""Ways through a model: layers above one another, and the whole decoder.

Chapter 6 draws both.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mattn.inputs import whole_number
from mattn.plotting.given import boolean_matrix, check_labels, check_query, matrix
from mattn.plotting.style import ALLOWED, BLOCKED, HATCH, INK, QUERY, SIZE, finished

__all__ = ["show_decoder", "show_reach"]


def show_reach(
    allowed: Tensor | np.ndarray,
    n_layers: int,
    *,
    query: int,
    tokens: Sequence[str] | None = None,
) -> Figure:
    """Paths through ``n_layers`` of one mask, from inputs (below) to outputs.

    A link joins key position j of a layer's input to query position i of its
    output where the mask allows it. Links on a path to output ``query`` are
    blue and thick; inputs that reach it are blue, the output is orange.
    """
    n_layers = whole_number(n_layers, "n_layers", least=1)
    T = len(matrix(allowed))
    allowed = boolean_matrix(allowed, (T, T))
    check_query(query, T)
    if tokens is not None:
        check_labels("tokens", tokens, T)
    reached = np.zeros((n_layers + 1, T), dtype=bool)
    reached[n_layers, query] = True
    for level in range(n_layers, 0, -1):
        reached[level - 1] = allowed[reached[level]].any(axis=0)
    size = (4.8, 0.9 + 0.8 * n_layers)
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    for level in range(n_layers):
        for i, j in zip(*np.nonzero(allowed), strict=True):
            on = reached[level + 1, i]
            ax.plot(
                (j, i),
                (level, level + 1),
                color=ALLOWED if on else BLOCKED,
                lw=2 if on else 0.8,
                zorder=2 if on else 1,
            )
    for level, j in np.ndindex(reached.shape):
        asked = level == n_layers and j == query
        fill = QUERY if asked else ALLOWED if reached[level, j] else BLOCKED
        ax.plot(j, level, "s" if asked else "o", ms=9, mfc=fill, mec=INK, zorder=3)
    names = [f"after layer {level}" for level in range(1, n_layers + 1)]
    ax.set_yticks(range(n_layers + 1), ["input", *names])
    ax.set_xticks(range(T), [str(t) for t in (range(T) if tokens is None else tokens)])
    ax.tick_params(length=0, labelsize=SIZE["curve"])
    ax.spines[:].set_visible(False)
    ax.set_xlabel("position", fontsize=SIZE["curve"])
    return finished(figure)


# Long because: it is one picture, drawn from the bottom up, and every line of it is
# a part at its place.
def show_decoder(
    tokens: Sequence[str],
    allowed: Tensor | np.ndarray,
    *,
    n_layers: int,
) -> Figure:
    """The whole decoder: one column a position, read from the bottom up.

    Thick vertical lines are the residual stream. Only attention joins
    columns, along the blue links that ``allowed`` (T, T) permits; all other
    parts work on each position by itself.
    """
    n_layers = whole_number(n_layers, "n_layers", least=1)
    T = len(tokens)
    allowed = boolean_matrix(allowed, (T, T))
    figure, ax = plt.subplots(figsize=(1.5 * T, 4), layout="constrained")

    def box(x, y, width, height, text, edge=INK):
        frame = Rectangle((x, y), width, height, fill=False, ec=edge, lw=1, zorder=2)
        ax.add_patch(frame)
        at = x + width / 2, y + height / 2
        ax.text(*at, text, ha="center", va="center", fontsize=SIZE["grid"])

    def arrow(start, end, **style):
        style = {"arrowstyle": "-|>", "lw": 0.8, "color": INK} | style
        ax.annotate("", end, start, arrowprops=style, zorder=4)

    ax.add_patch(
        Rectangle((-0.62, 1.25), T + 0.1, 5.0, fill=False, ec=HATCH, ls="--", zorder=0)
    )
    ax.text(T - 0.45, 3.75, f"× {n_layers}", va="center", fontsize=12)
    box(-0.2, 1.95, T - 0.4, 1.15, "", edge=ALLOWED)
    said = ax.text(T - 0.45, 2.5, "norm,\nattention", va="center", color=ALLOWED)
    said.set_fontsize(SIZE["grid"])
    for x in range(T):
        stream = x - 0.4
        # Open where something is added: the ground of the page shows through.
        for low, high in ((0.45, 3.3), (3.7, 5.4), (5.8, 6.75)):
            ax.plot((stream, stream), (low, high), color=INK, lw=2.2, zorder=3)
        arrow((stream, 7.6), (stream, 8.2))
        ax.text(stream, -0.75, tokens[x], ha="center", fontsize=10)
        box(x - 0.65, -0.3, 0.5, 0.75, "embed")
        arrow((stream, 1.6), (x + 0.1, 1.95))
        arrow((x + 0.1, 3.1), (stream + 0.08, 3.45))
        arrow((stream, 4.0), (x + 0.1, 4.35))
        box(x - 0.14, 4.35, 0.48, 0.85, "norm\nMLP")
        arrow((x + 0.1, 5.2), (stream + 0.08, 5.55))
        for y in (3.5, 5.6):
            ax.plot(stream, y, "o", ms=10, mfc="none", mec=INK, mew=0.8, zorder=5)
            ax.plot(stream, y, "+", ms=6, color=INK, mew=0.8, zorder=6)
        box(x - 0.65, 6.75, 0.5, 0.85, "norm\nhead")
        ax.text(stream, 8.3, f"logits {x}", ha="center", fontsize=SIZE["grid"])
    for i, j in zip(*np.nonzero(allowed), strict=True):
        arrow((j + 0.1, 2.02), (i + 0.1, 3.03), color=ALLOWED, lw=1.2)
    ax.set(xlim=(-0.75, T + 0.2), ylim=(-0.95, 8.7))
    ax.axis("off")
    return finished(figure)
