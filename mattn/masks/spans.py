"""The stretch of keys that each query may see: two integers, not T.

Block-wise forms skip what lies outside a stretch, and the kernel of chapter 10
runs on stretches alone. Two things are asked of them. A *hull* never loses an
allowed pair. Spans that are *exact* allow all that is inside them, too, and if
they are also *sorted*, the queries that see one key are a stretch as well,
which the kernel's gradients need.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

__all__ = ["Spans"]


class Spans(NamedTuple):
    """For each query, its first key and the one after its last; equal: no key."""

    first: Int[Tensor, "rows Tq"]
    end: Int[Tensor, "rows Tq"]
    exact: bool
    """Whether every key of a stretch is allowed; ``False``: it may hold others."""

    @property
    def sorted(self) -> bool:
        """Whether neither end ever moves back from one query to the next."""
        return all(bool((t[:, 1:] >= t[:, :-1]).all()) for t in (self.first, self.end))

    @property
    def n_pairs(self) -> int:
        """Pairs of query and key inside the stretches, over all rows."""
        return int((self.end - self.first).sum())

    def __and__(self, other: Spans) -> Spans:
        first = torch.maximum(self.first, other.first)
        end = torch.minimum(self.end, other.end)
        return Spans(first, torch.maximum(first, end), self.exact and other.exact)

    def __or__(self, other: Spans) -> Spans:
        mine, theirs = self.end > self.first, other.end > other.first
        both = mine & theirs
        first = torch.where(both, torch.minimum(self.first, other.first), other.first)
        end = torch.where(both, torch.maximum(self.end, other.end), other.end)
        alone = mine & ~theirs
        touch = (self.first <= other.end) & (other.first <= self.end)
        return Spans(
            torch.where(alone, self.first, first),
            torch.where(alone, self.end, end),
            self.exact and other.exact and bool((touch | ~both).all()),
        )

    def complement(self, n_keys: int) -> Spans:
        """The keys outside: exact where that is one stretch in every row."""
        first, end = self.first, self.end
        if not self.exact:  # what is outside a hull says nothing about its inside
            return everything(first.shape, n_keys, first.device)
        none, low, high = first == end, first == 0, end == n_keys
        start = torch.where(low & ~none, end, torch.zeros_like(first))
        stop = torch.where(high & ~low & ~none, first, torch.full_like(end, n_keys))
        return Spans(start, stop, bool((none | low | high).all()))


def everything(shape: torch.Size, n_keys: int, device: torch.device) -> Spans:
    """A hull that excludes nothing."""
    first = torch.zeros(shape, dtype=torch.long, device=device)
    return Spans(first, torch.full_like(first, n_keys), exact=False)


def n_blocks(spans: Spans, n_keys: int, block: int) -> int:
    """Pairs of blocks that exact stretches reach into, over all rows."""
    rows, n_queries = spans.first.shape
    steps = torch.zeros(rows, -(-n_queries // block), -(-n_keys // block) + 1)
    here = torch.arange(n_queries).expand(rows, -1) // block
    batch = torch.arange(rows)[:, None].expand_as(here)
    some = spans.end > spans.first
    ends = ((spans.first // block, 1.0), (-(-spans.end // block), -1.0))
    for at, step in ends:
        where = (batch[some], here[some], at[some])
        steps.index_put_(where, torch.tensor(step), accumulate=True)
    return int((steps.cumsum(dim=-1) > 0).sum())


def looked(allowed: Bool[Tensor, "rows n width"], start: int) -> Spans:
    """The spans of some queries, from their cells in columns ``start`` onwards.

    A query that sees nothing has the stretch (start, start).
    """
    width = allowed.shape[-1]
    if not width:
        first = torch.full(allowed.shape[:-1], start, device=allowed.device)
        return Spans(first, first, exact=True)
    cells = allowed.view(torch.uint8)
    n = allowed.sum(dim=-1)
    first = cells.argmax(dim=-1)  # of equal values the first
    end = torch.where(n > 0, width - cells.flip(-1).argmax(dim=-1), first)
    exact = bool((end - first == n).all())
    return Spans(first + start, end + start, exact)
