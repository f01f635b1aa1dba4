"""The book's figures: one visual language for masks, scores and weights.

Rows are queries, downwards; columns are keys, their labels on top. A colour
has one meaning everywhere and never stands alone: blocked cells are hatched,
small grids print their values. Every ``show_…`` function returns the figure;
``show_table`` returns a table, ``playground`` a widget.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import ArrayLike
from torch import Tensor

from mattn.inputs import whole_number
from mattn.playground import playground

__all__ = [
    "ALLOWED",
    "BLOCKED",
    "LEAK",
    "QUERY",
    "playground",
    "show_attention",
    "show_blocks",
    "show_curves",
    "show_decoder",
    "show_leaks",
    "show_mask",
    "show_masks",
    "show_probes",
    "show_reach",
    "show_roofline",
    "show_running",
    "show_scaling",
    "show_scores",
    "show_table",
    "show_texts",
    "show_weights",
]

ALLOWED = "#0072B2"
BLOCKED = "#D9D9D9"
LEAK = "#D55E00"
QUERY = "#E69F00"
_LINES = (ALLOWED, LEAK, "#009E73", "#CC79A7", "#56B4E9", "#000000")
_STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
_PRINTED = 8  # grids up to this size print their values


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
    allowed = _rule(allowed)
    ax = _axes(ax, allowed.shape)
    _grid(ax, allowed.shape, tokens, title)
    for i, j in np.ndindex(allowed.shape):
        _cell(ax, i, j, ALLOWED if allowed[i, j] else None)
        if max(allowed.shape) <= _PRINTED and allowed[i, j]:
            ax.text(j, i, "✓", ha="center", va="center", color="white")
    _outline(ax, query, allowed.shape)
    return _finished(ax.figure)


def show_masks(
    masks: Mapping[str, Tensor | np.ndarray],
    tokens: Sequence[str] | None = None,
    *,
    n_columns: int = 3,
) -> Figure:
    """An atlas: several boolean matrices side by side, each under its name."""
    n_columns = whole_number(n_columns, "n_columns", least=1)
    _some(masks, "show_masks: expected at least one mask")
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
        show_mask(allowed, tokens, title=name, ax=ax)
    return _finished(figure)


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
    measured = _rule(measured)
    expected = _rule(expected, measured.shape)
    ax = _axes(ax, measured.shape)
    _grid(ax, measured.shape, tokens, title)
    for i, j in np.ndindex(measured.shape):
        leak = measured[i, j] and not expected[i, j]
        _cell(ax, i, j, LEAK if leak else ALLOWED if measured[i, j] else None)
        if leak:
            ax.text(j, i, "✕", ha="center", va="center", color="white")
        elif expected[i, j] and not measured[i, j]:
            ax.add_patch(
                Rectangle((j - 0.4, i - 0.4), 0.8, 0.8, fill=False, ec=ALLOWED, lw=1.5)
            )
    return _finished(ax.figure)


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
    scores = _array(scores)
    blocked = scores == -np.inf
    visible = ~blocked if allowed is None else _rule(allowed, scores.shape)
    _finite("scores", scores[visible])
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
    weights = _array(weights)
    visible = weights != 0 if allowed is None else _rule(allowed, weights.shape)
    _finite("weights", weights[visible])
    colours = plt.get_cmap("cividis")(weights.astype(float))
    own = tokens if keys is None else None
    figure = _values(ax, weights, colours, visible, own, title)
    if keys is not None:
        _labels("keys", keys, weights.shape[1])
        if tokens is not None:
            _labels("tokens", tokens, weights.shape[0])
        cross = figure.axes[-1] if ax is None else ax
        cross.set_xticks(range(len(keys)), keys, rotation=45, ha="left")
        if tokens is not None:
            cross.set_yticks(range(len(tokens)), tokens)
    _outline(figure.axes[-1] if ax is None else ax, query, weights.shape)
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
    return _finished(figure)


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
    _some(curves, "show_curves: expected at least one curve, name → (x, y)")
    drawn = {name: _points(name, *curve) for name, curve in curves.items()}
    if ax is None:
        _, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for index, (name, (x, y)) in enumerate(drawn.items()):
        ax.plot(
            x,
            y,
            label=name,
            color=_LINES[index % len(_LINES)],
            linestyle=_STYLES[index % len(_STYLES)],
        )
    if floor is not None:
        ax.axhline(floor, color="0.35", lw=1)
        ax.margins(y=0.1)  # room for the label
        ax.annotate(
            floor_label,
            (1, floor),
            xycoords=("axes fraction", "data"),
            xytext=(-4, -4),
            textcoords="offset points",
            ha="right",
            va="top",  # below the line: honest curves come down to it from above
            color="0.25",
        )
    ax.set(xlabel=x_label, ylabel=y_label)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return _finished(ax.figure)


def show_running(
    scores: ArrayLike,
    maximum: ArrayLike,
    total: ArrayLike,
) -> Figure:
    """What the online softmax holds while it reads one row of scores.

    Above: the scores and their running maximum. Below: the running sum of
    exp(score − maximum).
    """
    keys = range(len(scores))
    _, scores = _points("scores", keys, scores)
    _, maximum = _points("maximum", keys, maximum)
    _, total = _points("total", keys, total)
    figure, (above, below) = plt.subplots(
        2, 1, figsize=(6, 3.6), sharex=True, layout="constrained"
    )
    above.plot(keys, scores, "o", color="0.45", ms=4, label="score")
    above.step(keys, maximum, where="post", color=_LINES[0], label="running maximum")
    above.set(ylabel="score")
    above.legend(frameon=False, ncols=2, loc="lower left", bbox_to_anchor=(0, 0.95))
    below.step(keys, total, where="post", color=_LINES[0])
    below.set(xlabel="key position", ylabel="running sum", ylim=(0, None))
    for ax in (above, below):
        ax.spines[["top", "right"]].set_visible(False)
    return _finished(figure)


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
    blue and thick; inputs that reach it are filled, the output is orange.
    """
    n_layers = whole_number(n_layers, "n_layers", least=1)
    T = len(_array(allowed))
    allowed = _rule(allowed, (T, T))
    _query(query, T)
    if tokens is not None:
        _labels("tokens", tokens, T)
    reached = np.zeros((n_layers + 1, T), dtype=bool)
    reached[n_layers, query] = True
    for level in range(n_layers, 0, -1):
        reached[level - 1] = allowed[reached[level]].any(axis=0)
    figure, ax = plt.subplots(figsize=(6, 0.9 + 0.8 * n_layers), layout="constrained")
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
        fill = QUERY if asked else ALLOWED if reached[level, j] else "white"
        ax.plot(j, level, "s" if asked else "o", ms=9, mfc=fill, mec="0.3", zorder=3)
    names = [f"after layer {level}" for level in range(1, n_layers + 1)]
    ax.set_yticks(range(n_layers + 1), ["input", *names])
    ax.set_xticks(range(T), range(T) if tokens is None else tokens)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("position")
    return _finished(figure)


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
    allowed = _rule(allowed, (T, T))
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")

    def box(x, y, width, height, text, edge="0.35"):
        ax.add_patch(
            Rectangle((x, y), width, height, fc="white", ec=edge, lw=1.2, zorder=2)
        )
        ax.text(
            x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=7
        )

    def arrow(start, end, **style):
        style = {"arrowstyle": "-|>", "lw": 0.8, "color": "0.35"} | style
        ax.annotate("", end, start, arrowprops=style, zorder=4)

    ax.add_patch(
        Rectangle((-0.62, 1.25), T + 0.1, 5.0, fc="0.96", ec="0.6", ls="--", zorder=0)
    )
    ax.text(T - 0.45, 3.75, f"× {n_layers}", va="center", fontsize=10)
    box(-0.2, 1.95, T - 0.4, 1.15, "", edge=ALLOWED)
    ax.text(T - 0.45, 2.5, "norm,\nattention", va="center", fontsize=7, color=ALLOWED)
    for x in range(T):
        stream = x - 0.4
        ax.plot((stream, stream), (0.45, 6.75), color="0.1", lw=2.2, zorder=3)
        arrow((stream, 7.6), (stream, 8.2))
        ax.text(stream, -0.75, tokens[x], ha="center", fontsize=9)
        box(x - 0.62, -0.3, 0.44, 0.75, "embed")
        arrow((stream, 1.6), (x + 0.1, 1.95))
        arrow((x + 0.1, 3.1), (stream, 3.5))
        arrow((stream, 4.0), (x + 0.1, 4.35))
        box(x - 0.14, 4.35, 0.48, 0.85, "norm\nMLP")
        arrow((x + 0.1, 5.2), (stream, 5.6))
        for y in (3.5, 5.6):
            ax.plot(stream, y, "o", ms=9, mfc="white", mec="0.1", zorder=5)
            ax.text(stream, y - 0.02, "+", ha="center", va="center", zorder=6)
        box(x - 0.62, 6.75, 0.44, 0.85, "norm\nhead")
        ax.text(stream, 8.3, f"logits {x}", ha="center", fontsize=8)
    for i, j in zip(*np.nonzero(allowed), strict=True):
        arrow((j + 0.1, 2.02), (i + 0.1, 3.03), color=ALLOWED, lw=1.2)
    ax.set(xlim=(-0.75, T + 0.1), ylim=(-0.95, 8.7))
    ax.axis("off")
    return _finished(figure)


@dataclass(frozen=True)
class Table:
    """Rows of text under column names: HTML in a notebook, plain text elsewhere."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        return "\n".join(" | ".join(row) for row in (self.columns, *self.rows))

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(tag: str, row: Sequence[str]) -> str:
            cells = (f"<{tag}>{html.escape(cell)}</{tag.split()[0]}>" for cell in row)
            return f"<tr>{''.join(cells)}</tr>"

        head = line('th scope="col" style="text-align: left"', self.columns)
        body = [line('td style="text-align: left"', row) for row in self.rows]
        body = "\n".join(body)
        return f"<table>\n<thead>{head}</thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """A table of text, in any script that the reader's browser has.

    >>> show_table(["English", "Chinese"], [("cat", "猫")])
    English | Chinese
    cat | 猫
    """
    found = tuple(tuple(str(cell) for cell in row) for row in rows)
    wrong = [row for row in found if len(row) != len(columns)]
    if wrong:
        raise ValueError(
            f"show_table: expected {len(columns)} cells in every row; got {wrong[0]}."
        )
    return Table(tuple(columns), found)


def show_texts(texts: Mapping[str, str], *, title: str | None = None) -> Figure:
    """Blocks of text, each under its name; a slash is drawn for line breaks.

    For text that differs from machine to machine: a picture is not compared.
    """
    _some(texts, "show_texts: expected at least one text, name → text")
    joined = (
        " / ".join(" ".join(line.split()) for line in text.splitlines())
        for text in texts.values()
    )
    blocks = [textwrap.wrap(re.sub(r"( /)+ ", " / ", text), 88) for text in joined]
    n_lines = sum(len(lines) + 1.7 for lines in blocks)
    figure, ax = plt.subplots(figsize=(6, 0.35 + 0.145 * n_lines))
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.01, top=0.99)
    ax.set(xlim=(0, 1), ylim=(n_lines, -1.2 if title else 0))
    ax.axis("off")
    if title is not None:
        ax.text(0, -0.8, title, va="top", fontsize=9)
    y = 0.5
    for name, lines in zip(texts, blocks, strict=True):
        ax.text(0, y, name, va="top", fontsize=8.5, weight="bold", color=ALLOWED)
        for i, line in enumerate(lines, start=1):
            # A dollar would start a formula.
            plain = line.replace("$", r"\$")
            ax.text(0, y + i, plain, va="top", fontsize=7.2, family="monospace")
        y += len(lines) + 1.7
    return _finished(figure)


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
    allowed = _rule(allowed)
    block = whole_number(block, "block", least=1)
    starts = [range(0, n, block) for n in allowed.shape]
    shape = tuple(len(s) for s in starts)
    ax = _axes(ax, shape)
    _grid(ax, shape, None, title)
    ax.set(xlabel="block of keys", ylabel="block of queries")
    for i, j in np.ndindex(shape):
        rows, columns = (
            slice(s[n], s[n] + block) for s, n in zip(starts, (i, j), strict=True)
        )
        part = allowed[rows, columns]
        _cell(ax, i, j, ALLOWED if part.all() else "#9CCAE6" if part.any() else None)
        if part.all():
            ax.text(j, i, "✓", ha="center", va="center", color="white")
        elif part.any():
            ax.plot((j - 0.5, j + 0.5), (i - 0.5, i + 0.5), color=ALLOWED, lw=1)
    return _finished(ax.figure)


def show_scaling(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    x_label: str = "T, positions",
    y_label: str,
    title: str | None = None,
    empty: str = "no record yet",
) -> Figure:
    """Curves ``name → (x, y)`` on logarithmic axes; without any, a panel saying so.

    Raises ``ValueError`` for what is not above 0: it has no place on such an axis.
    """
    drawn = {
        name: _points(name, *curve, positive=True) for name, curve in curves.items()
    }
    figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
    for index, (name, (x, y)) in enumerate(drawn.items()):
        style = {"color": _LINES[index % len(_LINES)], "ms": 4}
        style["linestyle"] = _STYLES[index % len(_STYLES)]
        ax.plot(x, y, marker="os^vDPX*"[index % 8], label=name, **style)
    if curves:
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.legend(frameon=False, fontsize=8)
    else:
        ax.text(0.5, 0.5, empty, ha="center", va="center", transform=ax.transAxes)
        ax.set(xticks=[], yticks=[])
    ax.set(xlabel=x_label, ylabel=y_label)
    if title is not None:
        ax.set_title(title, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return _finished(figure)


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
    figure, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
    roof = np.minimum(operations, intensity * bandwidth) / 1e12
    ax.loglog(intensity, roof, color="0.25")
    ax.axvline(ridge, color="0.7", lw=1, ls=":")
    for index, (name, x) in enumerate(points.items()):
        y = min(operations, x * bandwidth) / 1e12
        colour = _LINES[index % len(_LINES)]
        ax.plot(x, y, "os^vDPX*"[index % 8], color=colour, label=name, ms=7)
    ax.set(xlabel="operations a byte", ylabel="TFLOP/s at most")
    ax.legend(frameon=False, fontsize=8, loc="lower right")
    if title is not None:
        ax.set_title(title, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
    return _finished(figure)


def show_probes(
    seen: Mapping[str, Collection[str]],
    probes: Sequence[str],
    *,
    ax: Axes | None = None,
) -> Figure:
    """Symptom → probe: a row for each fault, a column for each probe.

    A cross on vermillion where the probe sees the fault; empty elsewhere.
    """
    _some(seen, "show_probes: expected at least one fault, name → probes")
    _some(probes, "show_probes: expected at least one probe")
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
    return _finished(ax.figure)


def _values(ax, values, colours, visible, tokens, title) -> Figure:
    ax = _axes(ax, values.shape)
    _grid(ax, values.shape, tokens, title)
    for i, j in np.ndindex(values.shape):
        _cell(ax, i, j, colours[i, j] if visible[i, j] else None)
        if visible[i, j] and max(values.shape) <= _PRINTED:
            dark = colours[i, j, :3] @ (0.299, 0.587, 0.114) < 0.5
            text = f"{values[i, j]:.2f}".replace("-", "−")
            ink = "white" if dark else "black"
            ax.text(j, i, text, ha="center", va="center", color=ink, fontsize=7.5)
    return _finished(ax.figure)


def _numpy(values: Tensor | ArrayLike) -> np.ndarray:
    if isinstance(values, Tensor):
        # NumPy has no bfloat16.
        half = values.dtype == torch.bfloat16
        values = values.detach().cpu().to(torch.float32 if half else values.dtype)
    return np.asarray(values)


def _array(values: Tensor | np.ndarray) -> np.ndarray:
    values = _numpy(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"expected one matrix (Tq, Tk) to draw; got shape {values.shape}. "
            "Pick a batch row and a head first: x[0, 0]."
        )
    return values


def _rule(allowed: Tensor | np.ndarray, shape: tuple | None = None) -> np.ndarray:
    """A boolean matrix, of this shape; nobody knows what a 0.0 would mean."""
    allowed = _array(allowed)
    shape = allowed.shape if shape is None else shape
    if allowed.dtype != bool or allowed.shape != shape:
        raise ValueError(
            f"expected a matrix of bool (True = may attend) and of shape {shape}; got "
            f"{allowed.dtype} {allowed.shape}. Of an additive mask, draw mask == 0."
        )
    return allowed


def _finite(what: str, shown: np.ndarray) -> None:
    if len(wrong := shown[~np.isfinite(shown)]):
        raise ValueError(
            f"expected finite {what} in every cell that is not blocked; got {wrong[0]}."
            " Look for what made it before you draw it."
        )


def _points(
    name: str, x: ArrayLike, y: ArrayLike, *, positive: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A curve: one number y for each number x, and at least one."""
    x, y = _numpy(x), _numpy(y)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(
            f"{name!r}: expected x and y of one length, at least 1; got shapes "
            f"{x.shape} and {y.shape}. Leave out what was not measured."
        )
    if positive and len(wrong := (both := np.concatenate([x, y]))[~(both > 0)]):
        raise ValueError(
            f"{name!r}: expected x and y above 0 on logarithmic axes; got "
            f"{wrong[0]}. Leave out what was not measured."
        )
    return x, y


def _some(things: Collection, expected: str) -> None:
    if not things:
        raise ValueError(f"{expected}; got none. There is nothing to draw.")


def _query(query: int, T: int) -> None:
    if whole_number(query, "query", least=0) >= T:
        raise ValueError(
            f"expected a query position from 0 to {T - 1}; got {query}. Rows are "
            "counted from the top, from 0 on."
        )


def _labels(what: str, labels: Sequence[str], n: int) -> None:
    if len(labels) != n:
        raise ValueError(
            f"expected {n} {what}, one for each position; got {len(labels)}. Cut the "
            "text to what is drawn."
        )


def _axes(ax: Axes | None, shape: tuple[int, int]) -> Axes:
    if ax is not None:
        return ax
    side = min(0.42 * max(shape) + 1.0, 4.0)
    return plt.subplots(figsize=(side, side), layout="constrained")[1]


def _grid(ax: Axes, shape, tokens: Sequence[str] | None, title: str | None) -> None:
    Tq, Tk = shape
    ax.set(xlim=(-0.5, Tk - 0.5), ylim=(Tq - 0.5, -0.5), aspect="equal")
    ax.tick_params(length=0, labelsize=8, top=False, labeltop=True, labelbottom=False)
    if tokens is None:
        step = max(1, max(shape) // 8)
        ax.set_xticks(range(0, Tk, step))
        ax.set_yticks(range(0, Tq, step))
    else:
        _labels("tokens", tokens, max(shape))
        # Fewer queries than keys stand at the end (bottom-right alignment).
        ax.set_xticks(range(Tk), tokens[:Tk], rotation=45, ha="left")
        ax.set_yticks(range(Tq), tokens[Tk - Tq : Tk] if Tq <= Tk else tokens[:Tq])
    ax.spines[:].set_visible(False)
    ax.xaxis.set_label_position("top")
    if title is not None:
        ax.set_title(title, fontsize=9)


def _cell(ax: Axes, i: int, j: int, colour) -> None:
    blocked = colour is None
    ax.add_patch(
        Rectangle(
            (j - 0.5, i - 0.5),
            1,
            1,
            facecolor=BLOCKED if blocked else colour,
            edgecolor="#A6A6A6" if blocked else "white",
            hatch="///" if blocked else None,
            linewidth=0.6,
        )
    )


def _outline(ax: Axes, query: int | None, shape: tuple[int, int]) -> None:
    if query is not None:
        _query(query, shape[0])
        ax.add_patch(
            Rectangle((-0.5, query - 0.5), shape[1], 1, fill=False, ec=QUERY, lw=2.5)
        )


def _finished(figure: Figure) -> Figure:
    """Close the figure, so that a notebook shows it once, as the cell's value."""
    plt.close(figure)
    return figure
