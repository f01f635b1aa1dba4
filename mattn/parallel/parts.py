"""The own part of what everybody has, and the whole of what everybody has a part of.

Chapter 12 deals its tokens with them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from mattn.parallel.layouts import Layout, collect, deal
from mattn.parallel.talk import ranks, told

__all__ = ["join", "split"]


def split(
    x: Shaped[Tensor, "..."],
    *,
    layout: Layout = "zigzag",
    dim: int = -2,
    group: Any = None,
) -> Shaped[Tensor, "..."]:
    """The part of ``x`` that this process holds; ``dim`` is the axis of tokens."""
    rank, size = ranks(group)
    own = deal(x.shape[dim], size, layout)[rank]
    return x.index_select(dim, own.to(x.device))


def join(
    part: Shaped[Tensor, "..."],
    *,
    layout: Layout = "zigzag",
    dim: int = -2,
    group: Any = None,
) -> Shaped[Tensor, "..."]:
    """The whole, on every process: the exact inverse of :func:`split`.

    Parts may be of different lengths. No gradient flows back through it.
    """
    _, size = ranks(group)
    part = part.detach()
    shapes = told(lambda: tuple(part.shape), group)
    longest = max(shape[dim] for shape in shapes)
    room = list(part.shape)
    room[dim] = longest
    padded = part.new_zeros(room)
    padded.narrow(dim, 0, part.shape[dim]).copy_(part)
    heard = [torch.empty_like(padded) for _ in range(size)]
    dist.all_gather(heard, padded, group=group)
    parts = [
        t.narrow(dim, 0, shape[dim]) for t, shape in zip(heard, shapes, strict=True)
    ]
    return collect(parts, layout, dim=dim)
