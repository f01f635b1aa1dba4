"""What rules are made of: a count, a list of one number a slot, a stretch of keys.

The rules of the atlas, an appendix of the book, share them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mattn.masks.matrices import described, is_count
from mattn.masks.spans import Spans
from mattn.slots import is_integer

__all__ = [
    "Ids",
    "count",
    "of_slots",
    "stretch",
    "table_of",
]

Ids = Tensor | Sequence


def stretch(first: Tensor, end: Tensor, n_keys: int) -> Spans:
    """One stretch of keys a query, cut to the keys that there are."""
    first, end = first.clamp(0, n_keys), end.clamp(0, n_keys)
    return Spans(first[None], torch.maximum(first, end)[None], exact=True)


def of_slots(table: Tensor, slots: Tensor, otherwise: int) -> Tensor:
    """The number of each slot; ``otherwise`` where the table has none."""
    if not len(table):
        return torch.full_like(slots, otherwise)
    found = table.to(slots.device)[slots.clamp(0, len(table) - 1)]
    inside = (slots >= 0) & (slots < len(table))
    return torch.where(inside, found, otherwise)


def table_of(name: str, ids: Ids) -> Tensor:
    """One integer a slot, as a tensor of its own."""
    try:
        table = torch.as_tensor(ids)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name}: expected one integer a slot; got {ids!r}."
        ) from error
    table = table if table.numel() else table.long()
    if not is_integer(table) or table.ndim != 1:
        raise ValueError(
            f"{name}: expected one integer a slot, shape (T,); got {described(table)}."
        )
    return table.long().clone().cpu()


def count(name: str, what: str, given: Any, *, least: int = 1) -> int:
    """An int of at least so much, or a ``ValueError`` that names it."""
    if not is_count(given, least=least):
        raise ValueError(f"{name}: expected an int {what} >= {least}; got {given!r}.")
    return int(given)
