"""Filters of logits: what may be drawn as the next token, and how sharply.

A filter is called as ``filter(logits, tokens)`` with the logits (B, V) of the
next token and the tokens so far, (B, T). Prompts are aligned at their ends:
where a row has no token yet, before its prompt, stands −1, which is no token
of any vocabulary. Filters compose by being called in turn; none removes the
most probable token. They take logits of any floating-point dtype and return
float32, or float64 for float64; a row that is NaN, holds +∞, or is −∞
throughout is a ``ValueError``. Derived in chapter 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from mattn.inputs import whole_number

__all__ = [
    "Filter",
    "at_least_float32",
    "min_p",
    "no_distribution",
    "real_number",
    "repetition_penalty",
    "temperature",
    "top_k",
    "top_p",
]

Filter = Callable[[Tensor, Tensor], Tensor]
"""From logits and the tokens so far to logits, as above."""


def temperature(t: float) -> Filter:
    """Divide the logits by ``t``: below 1 sharper, above 1 flatter; 0 is greedy.

    Below 1, the row's maximum is subtracted first, so that nothing overflows.
    """
    t = real_number(t, "temperature: expected t >= 0", 0, math.inf)

    def change(logits: Tensor, tokens: Tensor) -> Tensor:
        if t == 0:
            return top_k(1)(logits, tokens)
        if t < 1:  # t may be less than the least number of the logits' dtype
            below = (logits - logits.amax(dim=-1, keepdim=True)).to(_widest(logits))
            return (below / t).to(logits.dtype)
        return torch.where(logits.isneginf(), logits, logits / t)  # −∞/∞ is NaN

    return _checked(change)


def top_k(k: int) -> Filter:
    """Keep the ``k`` most probable tokens; all, when there are not more than ``k``."""
    k = whole_number(k, "top_k: expected k", least=1)

    def change(logits: Tensor, tokens: Tensor) -> Tensor:
        best = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
        return _keep(
            logits, torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True)
        )

    return _checked(change)


def top_p(p: float) -> Filter:
    """Keep the smallest set of most probable tokens whose probability reaches ``p``.

    ``p = 0`` keeps the most probable one, ``p = 1`` keeps all.
    Source: Holtzman et al. 2020, arXiv:1904.09751 (nucleus sampling).
    """
    p = real_number(p, "top_p: expected 0 <= p <= 1", 0, 1)

    def change(logits: Tensor, tokens: Tensor) -> Tensor:
        if p == 1:  # rounding must not cut off the tail
            return logits
        probabilities = logits.to(_widest(logits)).softmax(dim=-1)
        ordered, order = probabilities.sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # probability of those ahead
        keep = before < p
        keep[..., 0] = True
        return _keep(logits, torch.zeros_like(keep).scatter(-1, order, keep))

    return _checked(change)


def min_p(p: float) -> Filter:
    """Keep tokens at least ``p`` times as probable as the most probable one.

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    p = real_number(p, "min_p: expected 0 <= p <= 1", 0, 1)

    def change(logits: Tensor, tokens: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        return _keep(
            logits, probabilities >= p * probabilities.amax(dim=-1, keepdim=True)
        )

    return _checked(change)


def repetition_penalty(penalty: float) -> Filter:
    """Make tokens that occurred already less probable; 1 changes nothing.

    Positive logits are divided by ``penalty``, negative ones multiplied.
    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1.
    """
    penalty = real_number(
        penalty,
        "repetition_penalty: expected a finite penalty >= 1, as one below 1 would "
        "reward repetition",
        1,
        torch.finfo(torch.float32).max,
    )

    def change(logits: Tensor, tokens: Tensor) -> Tensor:
        V = logits.shape[-1]
        _expect(
            tokens.ndim == 2
            and len(tokens) == len(logits)
            and not ((tokens < -1) | (tokens >= V)).any(),
            f"repetition_penalty: expected tokens ({len(logits)}, T) of 0 to {V - 1}, "
            f"and −1 where a row has none; got {tokens.tolist()}.",
        )
        # One column more than there are symbols takes the places without a token.
        seen = logits.new_zeros(len(logits), V + 1, dtype=torch.bool)
        seen = seen.scatter(-1, torch.where(tokens < 0, V, tokens.long()), True)
        lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(seen[:, :-1], lowered, logits)

    return _checked(change)


def _checked(change: Filter) -> Filter:
    """``change`` on logits that are a distribution, in float32 or wider."""

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        _expect(
            logits.is_floating_point() and logits.ndim == 2 and logits.shape[1] > 0,
            "expected logits (B, V) of a floating-point dtype, V >= 1; got "
            f"{str(logits.dtype).removeprefix('torch.')} {tuple(logits.shape)}.",
        )
        logits = at_least_float32(logits)
        wrong = no_distribution(logits)
        _expect(
            wrong is None,
            f"expected logits of which each row has a finite maximum; got {wrong}. A "
            "filter before this one, or the model, made them so.",
        )
        return change(logits, tokens)

    return apply


def no_distribution(logits: Float[Tensor, "B V"]) -> str | None:
    """What keeps a row from being a distribution, if anything does."""
    top = logits.amax(dim=-1)  # NaN, if there is one in the row
    wrong = ~top.isfinite()
    if not wrong.any():
        return None
    row = int(wrong.nonzero()[0])
    value = float(top[row])
    what = {math.inf: "+∞", -math.inf: "−∞ throughout"}.get(value, "NaN")
    return f"{what} for row {row}"


def at_least_float32(logits: Tensor) -> Tensor:
    """Half precision in float32; float64 stays."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def real_number(value: Any, expected: str, least: float, most: float) -> float:
    """A number within bounds, as a ``float``; NaN is in none."""
    try:
        number = math.nan if isinstance(value, str | bool) else float(value)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    _expect(least <= number <= most, f"{expected}; got {value!r}.")
    return number


def _keep(logits: Tensor, keep: Tensor) -> Tensor:
    return logits.masked_fill(~keep, -torch.inf)


def _widest(logits: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if logits.device.type == "mps" else torch.float64


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
