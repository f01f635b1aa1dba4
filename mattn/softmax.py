"""Softmax over what may be seen, at once or in parts.

The masked softmax gives blocked positions a weight of exactly 0, and a row
in which nothing may be seen (an *empty row*) weights, output and gradients
of exactly 0. So it is where all that may be seen has a score of −∞: to be
blocked and to score −∞ is the same. A visible NaN stays NaN. The online form
holds a running maximum and sum, so a row can be read in blocks and never
stored whole. Derived in chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["Partial", "finish", "masked_softmax", "merge", "partial"]


def masked_softmax(
    scores: Float[Tensor, "*batch Tq Tk"],
    allowed: Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
) -> Float[Tensor, "*batch Tq Tk"]:
    """Weights over the last axis: softmax of the scores that are ``allowed``.

    Blocked weights are exactly 0 and send exactly 0 gradient to their
    scores, whatever those hold, NaN included. An empty row is all zeros, and
    so is one whose visible scores are all −∞. A visible NaN makes the visible
    weights of its row NaN. ``allowed`` has up to two axes, or as many as the
    scores.

    >>> masked_softmax(torch.zeros(1, 3), torch.tensor([True, True, False]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    _check("masked_softmax", scores, allowed)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    # softmax of a row of −∞ is 0/0; an empty row is kept finite, then zeroed.
    empty = (scores == -torch.inf).all(dim=-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(empty, 0.0), dim=-1)
    return weights.masked_fill(empty if allowed is None else empty | ~allowed, 0.0)


class Partial(NamedTuple):
    """Attention over some of the keys, in a form that can be merged.

    With m the largest score seen, ``total`` is Σ exp(score − m) and
    ``weighted`` is Σ exp(score − m)·v. Before any key: m = −∞ and zeros.
    """

    maximum: Float[Tensor, "*batch Tq 1"]
    total: Float[Tensor, "*batch Tq 1"]
    weighted: Float[Tensor, "*batch Tq Dv"]


def partial(
    scores: Float[Tensor, "*batch Tq Tk"],
    v: Float[Tensor, "*#batch Tk Dv"],
    allowed: Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
) -> Partial:
    """Read one block of keys: its scores, its values, what of it is allowed.

    Half precision is summed in float32, as many parts are added up. A block of
    no keys is what stands before any key.
    """
    _check("partial", scores, allowed)
    if v.ndim < 2 or v.shape[-2] != scores.shape[-1]:
        raise ValueError(
            f"partial: expected values (…, {scores.shape[-1]}, Dv), one row for each "
            f"key of scores {tuple(scores.shape)}; got {tuple(v.shape)}."
        )
    precise = torch.promote_types(scores.dtype, torch.float32)
    scores, v = scores.to(precise), v.to(precise)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    # Detached: the output does not change with the maximum subtracted, so no
    # gradient belongs to it.
    maximum = scores.new_full((*scores.shape[:-1], 1), -torch.inf)
    if scores.shape[-1]:
        maximum = scores.detach().amax(dim=-1, keepdim=True)
    e = torch.exp(scores - _finite(maximum))
    return Partial(maximum, e.sum(dim=-1, keepdim=True), e @ v)


def merge(a: Partial, b: Partial) -> Partial:
    """Both blocks together; associative, and commutative in value.

    The part with the smaller maximum shrinks by exp(its maximum − the larger).
    """
    maximum = torch.maximum(a.maximum, b.maximum)
    shrink_a = torch.exp(a.maximum - _finite(maximum))
    shrink_b = torch.exp(b.maximum - _finite(maximum))
    return Partial(
        maximum,
        shrink_a * a.total + shrink_b * b.total,
        shrink_a * a.weighted + shrink_b * b.weighted,
    )


def finish(part: Partial) -> Float[Tensor, "*batch Tq Dv"]:
    """The attention output, weighted ÷ total; exactly 0 for an empty row."""
    empty = part.total == 0
    return part.weighted / part.total.masked_fill(empty, 1.0)


def _check(name: str, scores: Tensor, allowed: Tensor | None) -> None:
    if scores.ndim < 1 or not scores.dtype.is_floating_point:
        raise ValueError(
            f"{name}: expected scores of a floating-point dtype, (…, Tq, Tk); got "
            f"{_name(scores)}. Convert them with .to(torch.float32)."
        )
    if allowed is None:
        return
    if not isinstance(allowed, Tensor) or allowed.dtype != torch.bool:
        raise ValueError(
            f"{name}: expected allowed to be bool (True = may attend); got "
            f"{_name(allowed)}. An additive mask becomes boolean by `mask == 0`."
        )
    if not broadcasts(allowed, scores.shape):
        raise ValueError(
            f"{name}: expected allowed of two axes, or of all axes of the scores "
            f"{tuple(scores.shape)}, each of their size or 1; got {_name(allowed)}. "
            "One for each row of a batch with heads is allowed[:, None]."
        )


def broadcasts(allowed: Tensor, shape: Sequence[int]) -> bool:
    """Whether a mask fits scores of this ``shape``: with at most two axes, for all
    rows and heads, or with as many as the scores.

    Any other number would be read by coincidence: three axes with scores (B, H,
    Tq, Tk) as one mask for each *head*.
    """
    return (allowed.ndim == len(shape) or allowed.ndim <= min(2, len(shape))) and all(
        n in (1, m)
        for n, m in zip(reversed(allowed.shape), reversed(shape), strict=False)
    )


def _name(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__


def _finite(maximum: Tensor) -> Tensor:
    """The maximum to subtract: of an empty row 0, as −∞ − (−∞) is NaN."""
    return maximum.masked_fill(maximum == -torch.inf, 0.0)
