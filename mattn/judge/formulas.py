"""What attention would give, had it been written in another way.

The formula is taken apart into axes: how scores are scaled, which keys are
kept, *how* the others are hidden, over which axis softmax runs, and so on.
Each axis has one right choice and the slips that people make there. What a
combination gives is computed, so a name is never guessed. A room of the judge,
whose parts chapters 1 to 4 derive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["RIGHT", "Case", "Hidden", "Option", "added", "combined", "filled", "slips"]


@dataclass(frozen=True)
class Option:
    """One choice on an axis; the right one has no name."""

    name: str
    what: Any


@dataclass(frozen=True)
class Case:
    """Queries, keys and values in float64, and which pairs are allowed."""

    q: Tensor
    k: Tensor
    v: Tensor
    allowed: Tensor
    """(…, Tk, Tk): of fewer queries the last rows, or the first."""
    top_left: bool = False
    """Whether query i of fewer queries than keys stands in slot i."""
    heads: int | None = None
    """Heads to split (B, T, C) into; ``None``: q, k, v are what is attended with."""
    merged: bool = False
    """Whether the heads (B, H, T, D) come back side by side, (B, T, H·D)."""
    finish: Callable[[Tensor], Tensor] | None = None
    """What comes after merging the heads: a module's map out."""

    @property
    def rows(self) -> slice:
        """Which rows of ``allowed`` the queries have."""
        Tq, Tk = self.q.shape[-2], self.k.shape[-2]
        return slice(0, Tq) if self.top_left else slice(Tk - Tq, Tk)


@dataclass(frozen=True)
class Hidden:
    """How a hidden key is hidden: before softmax, and after it."""

    before: Callable[[Tensor, Tensor, float], Tensor]
    after: Callable[[Tensor, Tensor], Tensor] = field(default=lambda w, allowed: w)


def filled(value: float, *, scaled: bool = False) -> Hidden:
    """A score replaced by a number, which may be scaled with the others."""
    return Hidden(lambda s, a, f: s.masked_fill(~a, value * f if scaled else value))


def added(value: float) -> Hidden:
    """A number added to the score of what is hidden."""
    return Hidden(lambda s, a, f: s + value * (~a).to(s.dtype))


def _or_zero(scores: Tensor) -> Tensor:
    return scores.masked_fill(scores == -torch.inf, 0.0)


def _over(dim: int) -> Callable[[Tensor], Tensor]:
    return lambda s: s.softmax(dim) if -s.ndim <= dim < s.ndim else s * torch.nan


def _share(e: Tensor, *, plus: float = 0.0) -> Tensor:
    return e / (e.sum(-1, keepdim=True) + plus)


def _no_keepdims(s: Tensor) -> Tensor:
    e = s.exp()
    return e / e.sum(-1) if e.ndim == 2 else e * torch.nan


# Factors on the scores, before softmax and after it.
SCALES = [
    Option("", lambda c, q, k: (q.shape[-1] ** -0.5, 1.0)),
    Option("no scale", lambda c, q, k: (1.0, 1.0)),
    Option("divided by d", lambda c, q, k: (1.0 / q.shape[-1], 1.0)),
    Option("multiplied by √d", lambda c, q, k: (q.shape[-1] ** 0.5, 1.0)),
    Option(
        "divided by the root of the length", lambda c, q, k: (k.shape[-2] ** -0.5, 1.0)
    ),
    Option(
        "divided by the root of the width", lambda c, q, k: (_width(q) ** -0.5, 1.0)
    ),
    Option(
        "divided by the root of the heads", lambda c, q, k: (_heads(q) ** -0.5, 1.0)
    ),
    Option(
        "divided by the fourth root of d", lambda c, q, k: (q.shape[-1] ** -0.25, 1.0)
    ),
    Option("scaled after softmax", lambda c, q, k: (1.0, q.shape[-1] ** -0.5)),
    Option(
        "scaled before and after softmax", lambda c, q, k: (q.shape[-1] ** -0.5,) * 2
    ),
]

SCORES = [
    Option("", lambda q, k, v: q @ k.mT),
    Option("k·q", lambda q, k, v: k @ q.mT),
    Option("q·q", lambda q, k, v: q @ q.mT),
    Option("k·k", lambda q, k, v: k @ k.mT),
    Option("q·v", lambda q, k, v: q @ v.mT),
    Option(
        "cosine", lambda q, k, v: F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT
    ),
]

HIDDEN = [
    Option("", filled(-math.inf)),
    Option("tiny fill", filled(1e-9)),
    Option("tiny fill", filled(-1e-9)),
    Option("tiny fill", filled(1e-20)),
    Option("fill of 0", filled(0.0)),
    Option("large positive fill", filled(1e9)),
    Option("large positive fill", added(1e9)),
    Option("0 and 1 added", added(-1.0)),
    Option("0 and 1 added the wrong way round", added(1.0)),
    Option("mask after softmax", Hidden(lambda s, a, f: s, lambda w, a: w * a)),
    Option(
        "−∞ after softmax",
        Hidden(lambda s, a, f: s, lambda w, a: w.masked_fill(~a, -math.inf)),
    ),
    Option(
        "tiny fill after softmax",
        Hidden(lambda s, a, f: s, lambda w, a: w.masked_fill(~a, 1e-9)),
    ),
    Option(
        "a score of 0 is hidden",
        Hidden(lambda s, a, f: s.masked_fill(~a | (s == 0), -math.inf)),
    ),
]
for _fill in (-1.0, -10.0, -100.0):
    HIDDEN += [
        Option("weak fill", filled(_fill)),
        Option("weak fill", filled(_fill, scaled=True)),
    ]
HIDDEN += [Option("weak fill", added(_fill)) for _fill in (-10.0, -100.0)]

SOFTMAX = [
    Option("", lambda s: s.softmax(-1)),
    Option("softmax over queries", _over(-2)),
    Option("softmax over axis 0", _over(0)),
    Option("softmax over axis 1", _over(1)),
    Option("softmax over heads", _over(-3)),
    Option("softmax over everything", lambda s: s.flatten(-2).softmax(-1).view_as(s)),
    Option("softmax over everything", lambda s: s.flatten().softmax(-1).view_as(s)),
    Option("no softmax", _or_zero),
    Option("divided by the sum", lambda s: _share(_or_zero(s))),
    Option("exp without a sum", torch.exp),
    Option("softmax twice", lambda s: s.softmax(-1).softmax(-1)),
    Option("plus one in the sum", lambda s: _share(s.exp(), plus=1.0)),
    Option("log of the softmax", lambda s: _or_zero(s.log_softmax(-1))),
    Option("sigmoid for softmax", torch.sigmoid),
    Option("sum without keepdims", _no_keepdims),
]

MIX = [
    Option("", lambda w, q, k, v: w @ v),
    Option("weights transposed", lambda w, q, k, v: w.mT @ v),
    Option("weights·k", lambda w, q, k, v: w @ k),
    Option("weights·q", lambda w, q, k, v: w @ q),
    Option("query added", lambda w, q, k, v: w @ v + q),
]


def _ones(a: Tensor) -> Tensor:
    return torch.ones_like(a)


def _self(a: Tensor) -> Tensor:
    """The query's own key."""
    return torch.eye(a.shape[-1], dtype=torch.bool)


def _ahead(a: Tensor, n: int) -> Tensor:
    """Each key is seen from ``n`` queries earlier, too."""
    later = a
    for _ in range(n):
        later = later | F.pad(later[..., 1:, :], (0, 0, 0, 1), value=True)
    return later


def _farther(a: Tensor) -> Tensor:
    return a | F.pad(a[..., 1:], (0, 1))


def _rows_hidden(a: Tensor) -> Tensor:
    """Queries that nobody sees as a key are hidden, in place of the keys."""
    seen = a.any(dim=-2)
    order = torch.ones_like(a).tril() if not a.triu(1).any() else _ones(a)
    return order & seen[..., :, None]


def _first_row(a: Tensor) -> Tensor:
    return a[:1].expand_as(a) if a.ndim > 2 else a


def _repeated(a: Tensor) -> Tensor:
    """Row b, head h has the mask of row (b·H + h) mod B."""
    if a.ndim < 4:
        return a
    B, H = a.shape[:2]
    return a[(torch.arange(B * H) % B).view(B, H), torch.arange(H)]


KEPT = [
    Option("", lambda a: a),
    Option("mask forgotten", _ones),
    Option("hides self", lambda a: a & ~_self(a)),
    Option("inverted", lambda a: ~a),
    Option("upper triangle", lambda a: ~a | _self(a)),
    Option("mask transposed", lambda a: a.mT),
    Option("sees one ahead", lambda a: _ahead(a, 1)),
    Option("sees two ahead", lambda a: _ahead(a, 2)),
    Option("one key too many", _farther),
    Option("query 0's row for all", lambda a: a[..., :1, :].expand_as(a)),
    Option("sees itself alone", lambda a: _self(a).expand_as(a)),
    Option("hides rows, not columns", _rows_hidden),
    Option("one row of the batch", _first_row),
    Option("repeat for interleave", _repeated),
]

SPLIT = [Option("", True), Option("heads split by view", False)]
MERGE = [Option("", True), Option("merged without transpose", False)]
SHARED = [Option("", True), Option("repeat for interleave", False)]

AXES: dict[str, list[Option]] = {
    "scale": SCALES,
    "score": SCORES,
    "kept": KEPT,
    "hidden": HIDDEN,
    "softmax": SOFTMAX,
    "mix": MIX,
    "split": SPLIT,
    "merge": MERGE,
    "shared": SHARED,
}

#: Of two slips at once both are among these: the search stays short.
COMMON = {
    "no scale",
    "divided by d",
    "divided by the root of the width",
    "mask forgotten",
    "hides self",
    "inverted",
    "upper triangle",
    "sees one ahead",
    "tiny fill",
    "fill of 0",
    "mask after softmax",
    "weak fill",
    "softmax over queries",
    "softmax over axis 1",
    "softmax over everything",
    "no softmax",
    "weights transposed",
    "weights·k",
    "heads split by view",
    "merged without transpose",
    "k·q",
    "repeat for interleave",
}

_RIGHT = {axis: options[0].what for axis, options in AXES.items()}

Slips = tuple[tuple[str, Option], ...]
"""What is not right: pairs of axis and choice."""

RIGHT: Slips = ()


def _width(q: Tensor) -> int:
    return q.shape[-1] * _heads(q)


def _heads(q: Tensor) -> int:
    return q.shape[1] if q.ndim == 4 else 1


def slips(n: int, case: Case, more: Mapping[str, list[Option]]) -> Iterator[Slips]:
    """Every combination of ``n`` slips, each on an axis of its own.

    ``more`` are choices that measuring suggests, by axis.
    """
    axes = {axis: [*options[1:], *more.get(axis, [])] for axis, options in AXES.items()}
    if case.heads in (None, 1):
        axes["split"] = []
    if not (case.merged or (case.heads or 1) > 1):
        axes["merge"] = []
    if case.q.ndim != 4 or case.q.shape[1] == case.k.shape[1]:
        axes["shared"] = []
    if n > 1:
        axes = {
            axis: [option for option in options if option.name in COMMON]
            for axis, options in axes.items()
        }
    for chosen in combinations(axes, n):
        for options in product(*(axes[axis] for axis in chosen)):
            yield tuple(zip(chosen, options, strict=True))


def _split(t: Tensor, heads: int, *, right: bool) -> Tensor:
    B, T, C = t.shape
    if right:
        return t.view(B, T, heads, C // heads).transpose(1, 2)
    return t.reshape(B, heads, T, C // heads)


# Long because: it is the formula, one axis after the other.
def combined(case: Case, which: Slips = RIGHT) -> tuple[Tensor, Tensor] | None:
    """The output under these slips, and which of its queries see any key.

    ``None`` where such code would not run: shapes that do not fit.
    """
    choice = {**_RIGHT, **{axis: option.what for axis, option in which}}
    q, k, v = case.q, case.k, case.v
    if case.heads:
        q, k, v = (_split(t, case.heads, right=choice["split"]) for t in (q, k, v))
    if q.ndim == 4 and k.shape[1] != q.shape[1]:
        n = q.shape[1] // k.shape[1]
        if choice["shared"]:
            k, v = (t.repeat_interleave(n, 1) for t in (k, v))
        else:
            k, v = (t.repeat(1, n, 1, 1) for t in (k, v))
    try:
        before, after = choice["scale"](case, q, k)
        scores = choice["score"](q, k, v) * before
        allowed = case.allowed
        if allowed.ndim == 3 and scores.ndim == 4:  # each row of the batch its own
            allowed = allowed[:, None]
        allowed = allowed.expand(*scores.shape[:-2], *allowed.shape[-2:])
        kept = choice["kept"](allowed)[..., case.rows, :]
        if kept.shape != scores.shape:
            return None
        hidden = choice["hidden"]
        weights = choice["softmax"](hidden.before(scores, kept, before))
        weights = hidden.after(weights, kept) * after
        out = choice["mix"](weights, q, k, v)
    except (RuntimeError, IndexError):
        return None
    seen = kept.any(dim=-1, keepdim=True)
    if case.heads or case.merged:
        in_place = choice["merge"]
        out = _merged(out, right=in_place)
        seen = seen.all(dim=1) if in_place else torch.ones_like(out, dtype=torch.bool)
    return (case.finish(out) if case.finish else out), seen


def _merged(t: Tensor, *, right: bool) -> Tensor:
    B, H, T, D = t.shape
    return (t.transpose(1, 2) if right else t).reshape(B, T, H * D)
