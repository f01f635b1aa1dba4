"""The mask as the kernels read it: two ends a query, and two ends a key.

Every question about the mask is asked of the rule itself, so whatever shows
each query one stretch of keys runs, a plain function too. Derived in chapter 10.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.masks import Mask, Spans, full

__all__ = ["Stretches", "stretches"]


class Stretches(NamedTuple):
    """A mask as the kernels read it, for one size.

    Under a band (``full``, ``causal``, a window) they work the ends out from
    slots and nothing is listed. Else ``by_query[b, :, i]`` are the first key
    that query ``i`` may see and the one after the last, ``by_key[b, :, j]``
    likewise the queries that see key ``j``; where there is none, the end is not
    after the first. There is one row, or one for each row of the batch.
    """

    Tq: int
    Tk: int
    causal: bool = False
    """Whether no query sees a later key. Lists say that too; blocks of the last
    queries, which then have most to read, are started first."""
    window: int = 0
    """Of a band, how many keys back a query sees, its own included; 0: all."""
    by_query: Int[Tensor, "rows 2 Tq"] | None = None
    by_key: Int[Tensor, "rows 2 Tk"] | None = None


def stretches(
    mask: Mask | None,
    n_queries: int,
    n_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Stretches:
    """The stretch of keys that each query may see, and of queries that see a key.

    Worth keeping for rules that are no band, when many layers share them.

    >>> from mattn import causal, documents
    >>> stretches(causal & documents([0, 0, 1]), 3).by_query[0]
    tensor([[0, 0, 2],
            [1, 2, 3]], dtype=torch.int32)

    Raises ``ValueError`` for a rule under which some query's keys are not one
    stretch, or the ends of the stretches move back.
    """
    if not isinstance(mask, Mask | None):
        raise ValueError(
            "flash_attention: expected a rule of mattn.masks, Stretches or None; got "
            f"{type(mask).__name__}. A boolean matrix runs in mattn.fused_attention."
        )
    mask = full if mask is None else mask
    n_keys = n_queries if n_keys is None else n_keys
    behind, ahead, _ = mask.bound
    if mask.band and ahead in (0, math.inf):
        window = 0 if behind == math.inf else int(behind)
        return Stretches(n_queries, n_keys, ahead == 0, window)
    by_query, by_key = _listed(mask, n_queries, n_keys)
    return Stretches(
        n_queries,
        n_keys,
        causal=ahead <= 0,
        by_query=by_query.to(device),
        by_key=by_key.to(device),
    )


def _listed(mask: Mask, n_queries: int, n_keys: int) -> tuple[Tensor, Tensor]:
    """Both ends for each query, and for each key: (rows, 2, T)."""
    found = mask.spans(n_queries, n_keys)
    if not (found.exact and found.sorted):
        raise ValueError(
            "flash_attention: expected a rule that shows each query one stretch of "
            "keys, whose ends never move back from query to query; got "
            f"{mask!r}: {_fault(found)}. It runs in PyTorch's FlexAttention, "
            "create_block_mask(rule.predicate(Tq, Tk), …), and in "
            "mattn.fused_attention."
        )
    # A query that sees nothing begins with the next one and ends with the last
    # one that sees something, so that a block of queries reads none for it.
    empty = found.first == found.end
    first = torch.where(empty, n_keys, found.first)
    first = first.flip(-1).cummin(dim=-1).values.flip(-1).contiguous()
    end = torch.where(empty, 0, found.end).cummax(dim=-1).values
    # A key is seen from the first query whose stretch ends after it to the
    # last whose stretch begins no later: both ends are sorted.
    keys = torch.arange(n_keys, device=first.device)
    keys = keys.expand(len(first), -1).contiguous()
    seen_from = torch.searchsorted(end, keys, right=True)
    seen_until = torch.searchsorted(first, keys, right=True)
    return (
        torch.stack([first, end], dim=1).int(),
        torch.stack([seen_from, seen_until], dim=1).int(),
    )


def _fault(found: Spans) -> str:
    """Why the kernels cannot take these."""
    if found.exact:
        row, query = _moved_back(found)
        return f"the stretch of query {query} moves back (row {row} of the batch)"
    if found.n_pairs > 2**26:  # Mask.spans gave its hull
        return f"{found.n_pairs} pairs are too many to look for gaps (2²⁶)"
    return "a query sees keys on both sides of one that it does not see"


def _moved_back(found: Spans) -> tuple[int, int]:
    back = (found.first.diff(dim=-1) < 0) | (found.end.diff(dim=-1) < 0)
    row, before = back.nonzero()[0].tolist()
    return row, before + 1
