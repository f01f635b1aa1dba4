"""Which tokens each process holds: the three known ways to deal a sequence.

A way of dealing is a permutation of the tokens and changes no rule, as long as each
token carries its slot along. Derived in chapter 12.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.inputs import whole_number

__all__ = ["LAYOUTS", "Layout", "collect", "deal"]

Layout = Literal["contiguous", "zigzag", "striped"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


def deal(n: int, size: int, layout: Layout = "zigzag") -> list[Int[Tensor, " T"]]:
    """For each of ``size`` processes, the slots of ``n`` tokens that it holds.

    ``contiguous``: one stretch each. ``zigzag``: of twice as many stretches, one from
    the front and its mirror image from the back (Grattafiori et al. 2024,
    arXiv:2407.21783). ``striped``: every ``size``-th token (Brandon et al. 2023,
    arXiv:2311.09431). Any length will do; stretches then differ by one token.

    >>> [slots.tolist() for slots in deal(8, 2, "zigzag")]
    [[0, 1, 6, 7], [2, 3, 4, 5]]

    Raises ``ValueError`` for another layout, a negative ``n``, no process.
    """
    n = whole_number(n, "deal: n", least=0)
    size = whole_number(size, "deal: size", least=1)
    slots = torch.arange(n)
    if layout == "contiguous":
        return _stretches(slots, size)
    if layout == "zigzag":
        cut = _stretches(slots, 2 * size)
        return [torch.cat([cut[r], cut[-1 - r]]) for r in range(size)]
    if layout == "striped":
        return [slots[r::size] for r in range(size)]
    raise ValueError(
        f"deal: expected a layout among {', '.join(LAYOUTS)}; got {layout!r}."
    )


def _stretches(slots: Tensor, n: int) -> list[Tensor]:
    ends = [i * len(slots) // n for i in range(n + 1)]
    return [slots[a:b] for a, b in itertools.pairwise(ends)]


def collect(parts: list[Tensor], layout: Layout = "zigzag", *, dim: int = -2) -> Tensor:
    """The whole of parts that were dealt out: the exact inverse of indexing by
    :func:`deal`. ``dim`` is the axis of tokens.

    Raises ``ValueError`` for parts that such a deal does not give.
    """
    lengths = [part.shape[dim] for part in parts]
    slots = deal(sum(lengths), len(parts), layout)
    if lengths != [len(own) for own in slots]:
        raise ValueError(
            f"collect: expected parts of {[len(own) for own in slots]} tokens, as "
            f"{layout} deals them; got {lengths}."
        )
    order = torch.cat(slots).to(parts[0].device)
    return torch.cat(parts, dim=dim).index_select(dim, order.argsort())
