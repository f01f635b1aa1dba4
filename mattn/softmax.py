"""Softmax over what may be seen, at once or in parts.

The masked softmax gives blocked positions a weight of exactly 0, and a row
in which nothing may be seen (an *empty row*) weights, output and gradients
of exactly 0. The online form holds a running maximum and sum, so a row can
be read in blocks and never stored whole. Derived in chapter 4.
"""

from __future__ import annotations

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
    scores, whatever those hold, NaN included. An empty row is all zeros.

    >>> masked_softmax(torch.zeros(1, 3), torch.tensor([True, True, False]))
    tensor([[0.5000, 0.5000, 0.0000]])
    """
    if allowed is None:
        return torch.softmax(scores, dim=-1)
    if allowed.dtype != torch.bool:
        raise ValueError(
            "masked_softmax: expected allowed to be bool (True = may attend); got "
            f"{str(allowed.dtype).removeprefix('torch.')} {tuple(allowed.shape)}. "
            "An additive mask becomes boolean by `mask == 0`."
        )
    empty = ~allowed.any(dim=-1, keepdim=True)
    scores = scores.masked_fill(~allowed, -torch.inf)
    # softmax of a row of −∞ is 0/0; an empty row is kept finite, then zeroed.
    scores = scores.masked_fill(empty, 0.0)
    return torch.softmax(scores, dim=-1).masked_fill(~allowed, 0.0)


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

    Half precision is summed in float32, as many parts are added up.
    """
    precise = torch.promote_types(scores.dtype, torch.float32)
    scores, v = scores.to(precise), v.to(precise)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -torch.inf)
    # Detached: the output does not change with the maximum subtracted, so no
    # gradient belongs to it.
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


def _finite(maximum: Tensor) -> Tensor:
    """The maximum to subtract: of an empty row 0, as −∞ − (−∞) is NaN."""
    return maximum.masked_fill(maximum == -torch.inf, 0.0)
