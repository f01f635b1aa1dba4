"""How much a mask allows, and the smallest case in which two differ.

Chapter 2 counts pairs; exercises of chapters 2 and 3 compare masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.matrices import described, is_count

__all__ = ["Difference", "difference"]


@dataclass(frozen=True)
class Difference:
    """The smallest case in which another mask differs, and how many pairs do."""

    length: int
    """Tokens of the shortest sequence that shows it."""
    query: int
    key: int
    also: bool
    """Whether the other lets the query see this key; else it hides it."""
    row: int | None
    """The row of the batch, where the rows are told apart."""
    more: int
    """Pairs that the other allows and the mask does not, at the length asked."""
    fewer: int

    def __str__(self) -> str:
        behind = self.query - self.key
        place = "its own"
        if behind:
            place = f"{abs(behind)} {'behind' if behind > 0 else 'ahead'}"
        verb = "also sees" if self.also else "does not see"
        row = "" if self.row is None else f"in row {self.row}, "
        return f"{row}query {self.query} {verb} key {self.key}, {place}"


Other = Mask | Tensor | Callable[[int], Any]


def difference(mask: Mask, other: Other, T: int) -> Difference | None:
    """The smallest case in which ``other`` differs from ``mask``, up to ``T``
    tokens; ``None``: there is none.

    ``other`` is a rule, a boolean matrix (T, T) or (B, T, T), or a function that
    gives the matrix for n tokens, which is asked for every n up to ``T``. Of the
    pairs that differ the one comes back whose later slot is earliest, so that
    it stands in the shortest sequence.

    >>> from mattn import causal, window
    >>> found = difference(causal & window(4), causal & window(5), 12)
    >>> print(found)
    query 4 also sees key 0, 4 behind
    >>> found.length, found.more, found.fewer
    (5, 8, 0)

    Raises ``ValueError`` for a matrix that is not boolean or of another size.
    """
    if not is_count(T, least=1):
        raise ValueError(f"difference: expected T >= 1 tokens; got {T!r}.")
    if isinstance(other, Mask | Tensor):
        given = other.matrix(T) if isinstance(other, Mask) else other
        return _between(mask.matrix(T), _boolean(given, T))
    found = None
    for n in range(1, T + 1):
        at_n = _between(mask.matrix(n), _boolean(other(n), n))
        if found is None and at_n is not None:
            found = at_n
        if n == T and found is not None:
            # The smallest case, with the pairs of the longest.
            more, fewer = (at_n.more, at_n.fewer) if at_n else (0, 0)
            return replace(found, more=more, fewer=fewer)
    return None


def _boolean(given: Any, n: int) -> Bool[Tensor, "*rows n n"]:
    if not isinstance(given, Tensor) or given.dtype != torch.bool:
        got = described(given) if isinstance(given, Tensor) else type(given).__name__
        raise ValueError(
            f"difference: expected a boolean matrix, True = may attend; got {got}. An "
            "additive one becomes boolean by `matrix == 0`."
        )
    if given.ndim not in (2, 3) or given.shape[-2:] != (n, n):
        raise ValueError(
            f"difference: expected a matrix ({n}, {n}), or (B, {n}, {n}), one for each "
            f"row of a batch; got {described(given)}."
        )
    return given


def _between(mask: Tensor, other: Tensor) -> Difference | None:
    batched = mask.ndim == 3 or other.ndim == 3
    try:
        mask, other = torch.broadcast_tensors(mask, other.to(mask.device))
    except RuntimeError:
        raise ValueError(
            "difference: expected matrices of one batch; got "
            f"{described(mask)} and {described(other)}."
        ) from None
    differ = (mask != other).nonzero()  # (n, 2) or (n, 3)
    if not len(differ):
        return None
    pairs = differ[:, -2:]
    latest = pairs.max(dim=1).values
    first = latest == latest.min()
    cell = differ[first][0]
    query, key = cell[-2:].tolist()
    more, fewer = int((other & ~mask).sum()), int((mask & ~other).sum())
    row = int(cell[0]) if batched else None
    also = bool(other[tuple(cell)])
    return Difference(max(query, key) + 1, query, key, also, row, more, fewer)
