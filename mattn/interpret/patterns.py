"""How much of a head's weight falls where a rule says, and what a change costs.

A score never stands alone: beside it is what equal weights under the same mask
would give, so that a window or a short row does not look like a discovery.
Derived in chapter 11.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mattn.attention import align_rows
from mattn.inputs import whole_number
from mattn.interpret.patching import Change, patched
from mattn.losses import token_losses
from mattn.masks import Mask, full, rule

__all__ = [
    "Effect",
    "Score",
    "diagonal",
    "effect",
    "first_token",
    "induction",
    "pattern_score",
    "previous_token",
    "same_token",
]


def diagonal(n: int) -> Mask:
    """The key ``n`` places before the query: an edge q → q − n."""
    n = whole_number(n, "diagonal: n", least=0)

    def function(b, q, k):
        return q - k == n

    return rule(function, behind=n + 1, ahead=0, name=f"q − {n}")


previous_token = diagonal(1)
first_token = rule(lambda b, q, k: (k == 0) & (q >= 0), name="first token")


def same_token(tokens: Int[Tensor, "B T"]) -> Mask:
    """Earlier keys that hold the query's own token."""

    def function(b, q, k):
        return (k < q) & (_at(tokens, b, k) == _at(tokens, b, q))

    return rule(function, batch=len(tokens), ahead=0, name="same token")


def induction(tokens: Int[Tensor, "B T"]) -> Mask:
    """Keys whose token came right after an earlier one equal to the query's.

    Source: Olsson et al. 2022, arXiv:2209.11895.
    """

    def function(b, q, k):
        after = _at(tokens, b, k - 1) == _at(tokens, b, q)
        return (k > 0) & (k <= q) & after

    return rule(function, batch=len(tokens), ahead=0, name="induction")


def _at(tokens: Tensor, b: Tensor, slots: Tensor) -> Tensor:
    """The tokens in these slots; slots outside give that of the nearest end."""
    tokens = tokens.to(slots.device)
    return tokens[b, slots.clamp(0, tokens.shape[1] - 1)]


class Score(NamedTuple):
    """Share of each head's weight on a rule's cells, and that of equal weights."""

    share: Float[Tensor, " H"]
    null: float


def pattern_score(
    weights: Float[Tensor, "B H Tq Tk"],
    cells: Mask,
    mask: Mask = full,
    *,
    queries: Bool[Tensor, "B Tq"] | None = None,
) -> Score:
    """How much weight each head puts on ``cells``, on average over queries.

    Only queries count that may see one of these cells under ``mask``, the rule the
    weights were made with, and of them those that ``queries`` marks. ``null`` is
    the score of a head with equal weights on all that it may see. ``ValueError`` if
    no query is left.
    """
    B, _, Tq, Tk = weights.shape
    seen = align_rows(mask.matrix(Tq, Tk, device=weights.device), 1).expand(B, Tq, Tk)
    chosen = align_rows(cells.matrix(Tq, Tk, device=weights.device), 1) & seen
    counted = chosen.any(dim=-1)  # (B, Tq)
    if queries is not None:
        counted = counted & queries
    if not counted.any():
        raise ValueError(
            f"pattern_score: expected a query that may see a cell of {cells!r}; got "
            "none under this mask. Choose another rule, or other queries."
        )
    on = (weights * chosen[:, None]).sum(dim=-1).transpose(1, 2)[counted]
    null = (chosen.sum(dim=-1) / seen.sum(dim=-1).clamp(min=1))[counted]
    return Score(on.mean(dim=0), null.mean().item())


class Effect(NamedTuple):
    """What a change costs, in nats a token: mean and 95 % interval over rows."""

    mean: float
    low: float
    high: float


@torch.no_grad()
def effect(
    model: nn.Module,
    tokens: Int[Tensor, "B T"],
    *changes: Change,
    where: Bool[Tensor, "B T-1"] | None = None,
) -> Effect:
    """Loss with the changes minus loss without, on the same rows.

    ``where`` marks the targets that count. The interval is mean ± 1.96 standard
    errors of the rows' differences: each row is one observation, since its tokens
    are not independent. ``ValueError`` for fewer than two rows with a target.
    """
    before = token_losses(model(tokens), tokens)
    with patched(model, *changes):
        after = token_losses(model(tokens), tokens)
    counted = torch.ones_like(before, dtype=torch.bool) if where is None else where
    rows = counted.any(dim=1)
    if rows.sum() < 2:
        raise ValueError(
            "effect: expected two or more rows with a target, for an interval; got "
            f"{int(rows.sum())}."
        )
    lost = ((after - before) * counted).sum(dim=1)[rows] / counted.sum(dim=1)[rows]
    mean = lost.mean().item()
    error = 1.96 * lost.std().item() / math.sqrt(len(lost))
    return Effect(mean, mean - error, mean + error)
