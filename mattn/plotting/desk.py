"""Two sheets on a desk: one lies open, a card covers the rest of the other.

Chapter 8 reads from the left one and writes on the right one.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mattn.inputs import whole_number
from mattn.plotting.given import check_labels, check_query, check_some, matrix
from mattn.plotting.style import ALLOWED, BLOCKED, HATCH, INK, QUERY, SIZE, finished

__all__ = ["show_desk", "show_links"]

# All in inches, and in all no wider than a phone; on the right there is room for bows.
WORD, APART, STEP, HEIGHT = 1.0, 1.0, 0.26, 0.21
LEFT, RIGHT = 0.05, 0.5
LEAST = 0.2  # a smaller weight is no link


def show_desk(
    source: Sequence[str],
    target: Sequence[str],
    *,
    query: int,
    n_real: int | None = None,
) -> Figure:
    """What the word at ``query`` of the right sheet may read.

    On the left lies the source, open; what comes after its first ``n_real`` words
    is padding, hatched. On the right the target, and a hatched card over what comes
    after the query, which is outlined in orange. A line joins the query with every
    word that it may read, on either sheet, itself included.
    Raises ``ValueError`` without words, or for a query that is no word.
    """
    check_some(source, "show_desk: expected at least one word of the source")
    check_some(target, "show_desk: expected at least one word of the target")
    check_query(query, len(target))
    n_real = len(source) if n_real is None else whole_number(n_real, "n_real", least=1)
    ax = _desk("source: open", "target: covered", max(len(source), len(target)))
    for i, word in enumerate(source):
        _word(ax, 0, i, word, hidden=i >= n_real)
    for i, word in enumerate(target):
        _word(ax, 1, i, word, hidden=i > query, asks=i == query)
    for i in range(min(n_real, len(source))):
        _link(ax, i, query, 0.5)
    edge = LEFT + 2 * WORD + APART
    for i in range(query + 1):
        bend = 0.12 + 0.07 * (query - i)
        x = np.array([0, bend, bend, 0]) + edge
        back = _middle(query) + 0.06 * (i == query)  # its own turns back to it
        y = [_middle(i), _middle(i), back, back]
        (line,) = ax.plot(x, y, color=ALLOWED, lw=1.5, zorder=0)
        line.set_gid(f"own {query} {i}")
    return finished(ax.figure)


def show_links(
    source: Sequence[str], target: Sequence[str], weights: Tensor | np.ndarray
) -> Figure:
    """Each word of the target, right, joined with the words that it looked at, left.

    ``weights`` (T, S): a link is as thick as its weight, and a weight below 0.2 is
    no link. Raises ``ValueError`` for labels that do not fit the weights.
    """
    weights = matrix(weights)
    check_labels("words of the target", target, weights.shape[0])
    check_labels("words of the source", source, weights.shape[1])
    ax = _desk("source", "target", max(weights.shape))
    for side, words in enumerate((source, target)):
        for i, word in enumerate(words):
            _word(ax, side, i, word)
    for i, j in zip(*np.nonzero(weights >= LEAST), strict=True):
        _link(ax, int(j), int(i), float(weights[i, j]))
    return finished(ax.figure)


def _desk(left: str, right: str, n_rows: int) -> Axes:
    """An empty desk for two columns of so many words, their names above."""
    size = LEFT + 2 * WORD + APART + RIGHT, STEP * (n_rows + 1)
    figure = plt.figure(figsize=size)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, size[0]), ylim=(size[1], 0))
    ax.axis("off")
    for side, name in enumerate((left, right)):
        x = LEFT + side * (WORD + APART) + WORD / 2
        ax.text(x, STEP / 2, name, ha="center", va="center", fontsize=SIZE["curve"])
    return ax


def _middle(i: int) -> float:
    """The height of the middle of the i-th word of a column."""
    return STEP * (i + 1.5)


def _word(
    ax: Axes, side: int, i: int, word: str, *, hidden: bool = False, asks: bool = False
) -> None:
    """A word in its box; one that is hidden is hatched, and not written."""
    left = LEFT + side * (WORD + APART)
    box = Rectangle((left, _middle(i) - HEIGHT / 2), WORD, HEIGHT)
    box.set(fc=BLOCKED if hidden else "none", hatch="///" if hidden else None)
    box.set(ec=QUERY if asks else HATCH if hidden else INK, lw=2.5 if asks else 0.8)
    ax.add_patch(box)
    if not hidden:
        x, y = left + WORD / 2, _middle(i)
        ax.text(x, y, word, ha="center", va="center", fontsize=SIZE["grid"])


def _link(ax: Axes, source: int, target: int, weight: float) -> None:
    """A line over the bridge, as thick as its weight."""
    x, y = (LEFT + WORD, LEFT + WORD + APART), (_middle(source), _middle(target))
    (line,) = ax.plot(x, y, color=ALLOWED, lw=0.4 + 3 * weight, zorder=0)
    line.set_gid(f"link {target} {source}")
