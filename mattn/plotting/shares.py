"""Rows of weights side by side: who gets how much, and how evenly.

Chapter 3 turns its temperature so, chapter 4 cuts its bars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from mattn.inputs import whole_number
from mattn.plotting.given import check_some, weights_row
from mattn.plotting.style import ALLOWED, finished

__all__ = ["show_shares"]


def show_shares(
    rows: Mapping[str, ArrayLike],
    labels: Sequence[str],
    *,
    n_columns: int = 4,
) -> Figure:
    """A small chart for each row of weights, a bar for each label, all from 0 to 1.

    ``rows`` is name → weights (T,); the name stands over the chart and the largest
    weight over its bar. Raises ``ValueError`` for what is not a row of weights.
    """
    n_columns = whole_number(n_columns, "n_columns", least=1)
    check_some(rows, "show_shares: expected at least one row, name → weights")
    shares = {name: weights_row(row, len(labels)) for name, row in rows.items()}
    n_rows = -(-len(shares) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(1.15 * n_columns, 1.5 * n_rows),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(shares) :]:
        ax.axis("off")
    for ax, (name, row) in zip(axes.flat, shares.items(), strict=False):
        ax.bar(range(len(labels)), row, 0.8, color=ALLOWED)
        first = int(row.argmax())
        style: dict[str, Any] = {"ha": "center", "va": "bottom", "fontsize": 11}
        # Near the edge a number needs room on the inner side.
        at = min(max(first, 0.6), len(labels) - 1.6)
        ax.text(at, row[first] + 0.02, f"{row[first]:.2f}", **style)
        ax.set_xticks(range(len(labels)), labels)
        ax.set(ylim=(0, 1.22), yticks=[])
        ax.set_title(name, fontsize=11)
        ax.tick_params(labelsize=11, length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
    return finished(figure)
