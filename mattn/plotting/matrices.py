"""Matrices: who may see whom, how much, and where a rule is broken."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mattn.inputs import whole_number
from mattn.plotting.given import (
    boolean_matrix,
    check_finite,
    check_labels,
    check_some,
    matrix,
)
from mattn.plotting.grid import PRINTED, axes_for, draw_cell, draw_grid, outline_row
from mattn.plotting.style import ALLOWED, LEAK, finished

__all__ = [
    "show_attention",
    "show_blocks",
    "show_leaks",
    "show_mask",
    "show_masks",
    "show_probes",
    "show_scores",
    "show_weights",
]


def show_mask(
    allowed: Tensor | np.ndarray,
    tokens: Sequence[str] | None = None,
    *,
    query: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A boolean matrix ``(Tq, Tk)``: allowed blue, blocked grey and hatched.

    ``query`` outlines one row in orange.
    """
    allowed = boolean_matrix(allowed)
    ax = axes_for(ax, allowed.shape)
    draw_grid(ax, allowed.shape, tokens, title)
    for i, j in np.ndindex(allowed.shape):
        draw_cell(ax, i, j, ALLOWED if allowed[i, j] else None)
        if max(allowed.shape) <= PRINTED and allowed[i, j]:
            ax.text(j, i, "✓", ha="center", va="center", color="white")
    outline_row(ax, query, allowed.shape)
    return finished(ax.figure)


def show_masks(
    masks: Mapping[str, Tensor | np.ndarray],
    tokens: Sequence[str] | None = None,
    *,
    n_columns: int = 3,
    query: int | Mapping[str, int] | None = None,
) -> Figure:
    """An atlas: several boolean matrices side by side, each under its name.

    ``query`` outlines a row in orange: the same in all, or that of its name.
    """
    n_columns = whole_number(n_columns, "n_columns", least=1)
    check_some(masks, "show_masks: expected at least one mask")
    n_rows = -(-len(masks) // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(6, 2.0 * n_rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(masks) :]:
        ax.axis("off")
    for ax, (name, allowed) in zip(axes.flat, masks.items(), strict=False):
        row = query.get(name) if isinstance(query, Mapping) else query
        show_mask(allowed, tokens, query=row, title=name, ax=ax)
    return finished(figure)


def show_leaks(
    measured: Tensor | np.ndarray,
    expected: Tensor | np.ndarray,
    tokens: Sequence[str] | None = None,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A measured influence matrix against the expected one.

    Leaks are vermillion with a cross; expected links that are missing are
    outlined blue on blocked grey.
    """
    measured = boolean_matrix(measured)
    expected = boolean_matrix(expected, measured.shape)
    ax = axes_for(ax, measured.shape)
    draw_grid(ax, measured.shape, tokens, title)
    for i, j in np.ndindex(measured.shape):
        leak = measured[i, j] and not expected[i, j]
        draw_cell(ax, i, j, LEAK if leak else ALLOWED if measured[i, j] else None)
        if leak:
            ax.text(j, i, "✕", ha="center", va="center", color="white")
        elif expected[i, j] and not measured[i, j]:
            ax.add_patch(
                Rectangle((j - 0.4, i - 0.4), 0.8, 0.8, fill=False, ec=ALLOWED, lw=1.5)
            )
    return finished(ax.figure)


def show_scores(
    scores: Tensor | np.ndarray,
    tokens: Sequence[str] | None = None,
    *,
    allowed: Tensor | np.ndarray | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Scores ``(Tq, Tk)``, orange to purple, symmetric about 0; −∞ is blocked.

    With ``allowed``, what it blocks is, whatever stands there. Raises ``ValueError``
    for NaN or ∞ in a cell that is not blocked.
    """
    scores = matrix(scores)
    blocked = scores == -np.inf
    visible = ~blocked if allowed is None else boolean_matrix(allowed, scores.shape)
    check_finite("scores", scores[visible])
    limit = np.abs(scores[visible]).max(initial=1e-9)
    colours = plt.get_cmap("PuOr")((scores / limit + 1) / 2)
    return _values(ax, scores, colours, visible, tokens, title)


def show_weights(
    weights: Tensor | np.ndarray,
    tokens: Sequence[str] | None = None,
    *,
    allowed: Tensor | np.ndarray | None = None,
    keys: Sequence[str] | None = None,
    query: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """Attention weights ``(Tq, Tk)`` from 0 (dark) to 1 (bright).

    Cells that ``allowed`` blocks are grey and hatched, so that "blocked"
    never looks like "small"; without it, exact zeros are. ``keys`` are the
    tokens of the keys where they are not those of the queries
    (cross-attention).
    """
    weights = matrix(weights)
    visible = (
        weights != 0 if allowed is None else boolean_matrix(allowed, weights.shape)
    )
    check_finite("weights", weights[visible])
    colours = plt.get_cmap("cividis")(weights.astype(float))
    own = tokens if keys is None else None
    figure = _values(ax, weights, colours, visible, own, title)
    if keys is not None:
        check_labels("keys", keys, weights.shape[1])
        if tokens is not None:
            check_labels("tokens", tokens, weights.shape[0])
        cross = figure.axes[-1] if ax is None else ax
        cross.set_xticks(range(len(keys)), keys, rotation=45, ha="left")
        if tokens is not None:
            cross.set_yticks(range(len(tokens)), tokens)
    outline_row(figure.axes[-1] if ax is None else ax, query, weights.shape)
    return figure


def show_attention(
    scores: Tensor | np.ndarray,
    allowed: Tensor | np.ndarray,
    weights: Tensor | np.ndarray,
    tokens: Sequence[str] | None = None,
) -> Figure:
    """Scores → rule → weights: the three matrices ``(Tq, Tk)`` side by side."""
    figure, axes = plt.subplots(1, 3, figsize=(6, 2.4))
    figure.subplots_adjust(left=0.07, right=0.99, top=0.8, bottom=0.01, wspace=0.13)
    show_scores(scores, tokens, title="scores", ax=axes[0])
    show_mask(allowed, tokens, title="rule", ax=axes[1])
    show_weights(weights, tokens, allowed=allowed, title="weights", ax=axes[2])
    for ax in axes:
        for text in ax.texts:
            text.set_fontsize(6.5)
    for ax in axes[1:]:
        ax.set_yticklabels([])
        ax.text(-0.065, 0.5, "→", transform=ax.transAxes, ha="center", va="center")
    return finished(figure)


def show_blocks(
    allowed: Tensor | np.ndarray,
    block: int,
    *,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A mask ``(Tq, Tk)`` cut into blocks, each as a block-wise kernel meets it.

    Blue with a tick: all of it is allowed. Pale with a line: the mask cuts it.
    Grey and hatched: nothing is allowed, so it is not read.
    """
    allowed = boolean_matrix(allowed)
    block = whole_number(block, "block", least=1)
    starts = [range(0, n, block) for n in allowed.shape]
    shape = tuple(len(s) for s in starts)
    ax = axes_for(ax, shape)
    draw_grid(ax, shape, None, title)
    ax.set(xlabel="block of keys", ylabel="block of queries")
    for i, j in np.ndindex(shape):
        rows, columns = (
            slice(s[n], s[n] + block) for s, n in zip(starts, (i, j), strict=True)
        )
        part = allowed[rows, columns]
        draw_cell(
            ax, i, j, ALLOWED if part.all() else "#9CCAE6" if part.any() else None
        )
        if part.all():
            ax.text(j, i, "✓", ha="center", va="center", color="white")
        elif part.any():
            ax.plot((j - 0.5, j + 0.5), (i - 0.5, i + 0.5), color=ALLOWED, lw=1)
    return finished(ax.figure)


def show_probes(
    seen: Mapping[str, Collection[str]],
    probes: Sequence[str],
    *,
    ax: Axes | None = None,
) -> Figure:
    """Symptom → probe: a row for each fault, a column for each probe.

    A cross on vermillion where the probe sees the fault; empty elsewhere.
    """
    check_some(seen, "show_probes: expected at least one fault, name → probes")
    check_some(probes, "show_probes: expected at least one probe")
    if ax is None:
        size = (6, min(4.0, 1.0 + 0.24 * len(seen)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for i, found in enumerate(seen.values()):
        unknown = set(found) - set(probes)
        if unknown:
            raise ValueError(
                f"show_probes: expected probes out of {list(probes)}; got "
                f"{sorted(unknown)}. Give each a column."
            )
        for j, probe in enumerate(probes):
            colour = LEAK if probe in found else "white"
            box = (j - 0.5, i - 0.5), 1, 1
            ax.add_patch(Rectangle(*box, facecolor=colour, edgecolor="0.75", lw=0.6))
            if probe in found:
                ax.text(j, i, "✕", ha="center", va="center", color="white", fontsize=8)
    ax.set(xlim=(-0.5, len(probes) - 0.5), ylim=(len(seen) - 0.5, -0.5))
    ax.set_yticks(range(len(seen)), list(seen))
    ax.set_xticks(range(len(probes)), list(probes), rotation=35, ha="left")
    ax.tick_params(length=0, labelsize=8, top=False, labeltop=True, labelbottom=False)
    ax.spines[:].set_visible(False)
    return finished(ax.figure)


def _values(ax, values, colours, visible, tokens, title) -> Figure:
    ax = axes_for(ax, values.shape)
    draw_grid(ax, values.shape, tokens, title)
    for i, j in np.ndindex(values.shape):
        draw_cell(ax, i, j, colours[i, j] if visible[i, j] else None)
        if visible[i, j] and max(values.shape) <= PRINTED:
            dark = colours[i, j, :3] @ (0.299, 0.587, 0.114) < 0.5
            text = f"{values[i, j]:.2f}".replace("-", "−")
            ink = "white" if dark else "black"
            ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=7.5)
    return finished(ax.figure)
