"""Matrices: who may see whom, how much, and where a rule is broken.

Chapters 1 to 6 and 8 to 10 draw them.
"""

from __future__ import annotations

import re
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
from mattn.plotting.grid import (
    PRINTED,
    axes_for,
    draw_blocked,
    draw_cells,
    draw_colours,
    draw_grid,
    outline_row,
)
from mattn.plotting.style import (
    ALLOWED,
    CUT,
    HATCH,
    INK,
    LEAK,
    ON_MARK,
    SIZE,
    WEIGHTS,
    finished,
    ink_on,
)

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
    draw_blocked(ax, ~allowed)
    draw_cells(ax, allowed, ALLOWED)
    if max(allowed.shape) <= PRINTED:
        _sign(ax, allowed, "✓")
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
        figsize=(min(6.0, 1.9 * n_columns + 0.1), 2.1 * n_rows),
        squeeze=False,
        layout="constrained",
    )
    for ax in axes.flat[len(masks) :]:
        ax.axis("off")
    for n, (name, allowed) in enumerate(masks.items()):
        ax = axes.flat[n]
        row = query.get(name) if isinstance(query, Mapping) else query
        show_mask(allowed, tokens, query=row, title=name, ax=ax)
        if n % n_columns:  # the first of a row says it for all
            ax.set_ylabel("")
        if n >= n_columns:
            ax.set_xlabel("")
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
    leaks = measured & ~expected
    draw_blocked(ax, ~measured)
    draw_cells(ax, measured & expected, ALLOWED)
    draw_cells(ax, leaks, LEAK)
    _sign(ax, leaks, "✕")
    for i, j in np.argwhere(expected & ~measured):
        box = Rectangle((j - 0.4, i - 0.4), 0.8, 0.8, fill=False, ec=ALLOWED, lw=1.5)
        ax.add_patch(box)
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
    """Attention weights ``(Tq, Tk)`` from 0 (white) to 1 (blue), one hue.

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
    colours = WEIGHTS(weights.astype(float))
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
    figure, axes = plt.subplots(1, 3, figsize=(6.2, 2.6))
    figure.subplots_adjust(left=0.08, right=0.99, top=0.78, bottom=0.01, wspace=0.11)
    show_scores(scores, tokens, title="scores", ax=axes[0])
    show_mask(allowed, tokens, title="rule", ax=axes[1])
    show_weights(weights, tokens, allowed=allowed, title="weights", ax=axes[2])
    for ax in axes:
        for text in ax.texts:  # 0.17 is .17 here: three grids are as wide as one
            short = re.sub(r"^(−?)0\.", r"\1.", text.get_text())
            text.set(text=short, fontsize=8.3)
    for ax in axes[1:]:
        ax.set(yticklabels=[], ylabel="")
        ax.text(-0.055, 0.5, "→", transform=ax.transAxes, ha="center", va="center")
    return finished(figure)


def show_blocks(
    allowed: Tensor | np.ndarray,
    block: int,
    *,
    order: bool = False,
    title: str | None = None,
    ax: Axes | None = None,
) -> Figure:
    """A mask ``(Tq, Tk)`` cut into blocks, each as a block-wise kernel meets it.

    Blue with a tick: all of it is allowed. Pale with a line: the mask cuts it.
    Grey and hatched: nothing is allowed, so it is not read. With ``order`` the
    blocks that are read carry the step in which their row comes to them.
    """
    allowed = boolean_matrix(allowed)
    block = whole_number(block, "block", least=1)
    shape = -(-allowed.shape[0] // block), -(-allowed.shape[1] // block)
    ax = axes_for(ax, shape)
    draw_grid(ax, shape, None, title)
    ax.set(xlabel="block of keys", ylabel="block of queries")
    parts = {
        (i, j): allowed[i * block : (i + 1) * block, j * block : (j + 1) * block]
        for i, j in np.ndindex(shape)
    }
    whole, some = (
        np.array([call(part) for part in parts.values()]).reshape(shape)
        for call in (np.all, np.any)
    )
    draw_blocked(ax, ~some)
    draw_cells(ax, some & ~whole, CUT)
    draw_cells(ax, whole, ALLOWED)
    steps = some.cumsum(axis=1)
    if not order:
        _sign(ax, whole, "✓")
    for i, j in np.argwhere(some & ~whole):
        ax.plot((j - 0.5, j + 0.5), (i - 0.5, i + 0.5), color=ALLOWED, lw=1)
    for i, j in np.argwhere(some & order):
        apart = 0.0 if whole[i, j] else 0.25  # beside the line
        said = ax.text(j - apart, i + apart, str(steps[i, j]), ha="center", va="center")
        said.set_color(ON_MARK if whole[i, j] else INK)
    return finished(ax.figure)


def show_probes(
    seen: Mapping[str, Collection[str]],
    probes: Sequence[str],
    *,
    ax: Axes | None = None,
) -> Figure:
    """Symptom → probe: a row for each fault, a column for each probe.

    A cross on vermillion where the probe sees the fault, as it says below the
    table; empty elsewhere.
    """
    check_some(seen, "show_probes: expected at least one fault, name → probes")
    check_some(probes, "show_probes: expected at least one probe")
    if ax is None:
        size = (6, min(4.2, 1.0 + 0.26 * len(seen)))
        _, ax = plt.subplots(figsize=size, layout="constrained")
    for found in seen.values():
        if unknown := set(found) - set(probes):
            raise ValueError(
                f"show_probes: expected probes out of {list(probes)}; got "
                f"{sorted(unknown)}. Give each a column."
            )
    ax.set(xlim=(-0.5, len(probes) - 0.5), ylim=(len(seen) - 0.5, -0.5))
    sees = np.array([[probe in found for probe in probes] for found in seen.values()])
    draw_cells(ax, sees, LEAK)
    _sign(ax, sees, "✕")
    ax.hlines(np.arange(len(seen) + 1) - 0.5, -0.5, len(probes) - 0.5, HATCH, lw=0.5)
    ax.set_yticks(range(len(seen)), list(seen))
    ax.set_xticks(range(len(probes)), list(probes), rotation=35, ha="left")
    ax.tick_params(length=0, labelsize=SIZE["grid"], top=False)
    ax.tick_params(labeltop=True, labelbottom=False)
    ax.set_xlabel("✕ the probe sees the fault")
    ax.spines[:].set_visible(False)
    return finished(ax.figure)


def _sign(ax: Axes, where: np.ndarray, sign: str) -> None:
    """One sign in each cell that is True: the colour is not alone."""
    for i, j in np.argwhere(where):
        ax.text(j, i, sign, ha="center", va="center", color=ON_MARK)


def _values(ax, values, colours, visible, tokens, title) -> Figure:
    ax = axes_for(ax, values.shape)
    draw_grid(ax, values.shape, tokens, title)
    draw_blocked(ax, ~visible)
    draw_colours(ax, colours, visible)
    for i, j in np.argwhere(visible & (max(values.shape) <= PRINTED)):
        text = f"{values[i, j]:.2f}".replace("-", "−")
        style = {"color": ink_on(colours[i, j, :3]), "fontsize": SIZE["grid"]}
        ax.text(j, i, text, ha="center", va="center", **style)
    return finished(ax.figure)
