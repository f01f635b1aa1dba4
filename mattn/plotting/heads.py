"""Heads: several questions that one word asks of one sentence.

Chapter 3 asks two of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from mattn.plotting.given import check_some
from mattn.plotting.sentence import show_sentence
from mattn.plotting.style import finished

__all__ = ["show_heads"]


def show_heads(
    tokens: Sequence[str],
    weights: Mapping[str, Tensor | np.ndarray],
    *,
    query: int,
    card: int | None = None,
) -> Figure:
    """The sentence once for each head, one below the other, under the head's name.

    ``weights`` is name → the row (T,) of one query in that head. What each sentence
    shows, and what is refused, is as in :func:`show_sentence`.
    """
    check_some(weights, "show_heads: expected at least one head, name → weights")
    figure, axes = plt.subplots(
        len(weights),
        1,
        figsize=(0.8 * len(tokens), 2.0 * len(weights)),
        squeeze=False,
        layout="constrained",
    )
    for ax, (name, row) in zip(axes.flat, weights.items(), strict=True):
        show_sentence(tokens, row, query=query, card=card, ax=ax)
        ax.set_title(name, fontsize=11, pad=10)  # clear of the highest number
    return finished(figure)
