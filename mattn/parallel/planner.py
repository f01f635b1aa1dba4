"""What a rule costs, dealt out in each of the three ways: counted, not timed.

Chapter 12 draws the table.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.masks import Mask
from mattn.parallel.layouts import LAYOUTS, Layout, deal

__all__ = ["Cost", "plan"]


class Cost(NamedTuple):
    """One way to deal ``n`` tokens to some processes, under one rule."""

    layout: str
    pairs: Int[Tensor, "steps size"]
    """Allowed pairs that each process computes in each step of the round."""
    hops: int
    """Parts passed on to a neighbour, all steps together."""
    tiles: int
    """Blocks of queries and keys in which any pair is allowed, all together."""

    @property
    def waiting(self) -> float:
        """How many times as long as if the pairs were spread evenly: each step waits
        for its slowest. 1 is perfect.
        """
        slowest = int(self.pairs.amax(dim=1).sum())
        return slowest * self.pairs.shape[1] / max(1, int(self.pairs.sum()))


def plan(mask: Mask, n: int, size: int, *, block: int = 128) -> list[Cost]:
    """The cost of each layout, in the order of ``LAYOUTS``.

    Pairs are those the rule allows; ``tiles`` those blocks of ``block`` by ``block``
    that a kernel cannot skip. Each pair of parts is looked at: n² cells in all.
    """
    return [_cost(mask, deal(n, size, layout), layout, block) for layout in LAYOUTS]


def _cost(mask: Mask, slots: list[Tensor], layout: Layout, block: int) -> Cost:
    size = len(slots)
    pairs, tiles, far = torch.zeros(size, size, dtype=torch.long), 0, [0] * size
    for rank in range(size):
        for step in range(size):
            part = (rank - step) % size
            allowed = mask.at(slots[rank], slots[part])
            pairs[step, rank] = allowed.sum()
            if pairs[step, rank]:
                far[part] = max(far[part], step)
                tiles += _tiles(allowed, block)
    return Cost(layout, pairs, sum(far), tiles)


def _tiles(allowed: Tensor, block: int) -> int:
    """Blocks in which any pair is allowed, over all rows of the batch."""
    rows = [part.any(dim=-2) for part in allowed.split(block, dim=-2)]
    blocks = [part.any(dim=-1) for row in rows for part in row.split(block, dim=-1)]
    return sum(int(seen.sum()) for seen in blocks)
