"""Masks by distance, chunk and place: what sizes alone decide.

The atlas of masks, an appendix of the book, names who uses each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.numbers import count, stretch
from mattn.masks.rules import Rule
from mattn.masks.spans import Spans
from mattn.reach import Reach

__all__ = [
    "block_causal",
    "block_diffusion",
    "chunks",
    "dilated",
    "draft",
    "near",
    "neighbourhood",
    "random_blocks",
    "tiles",
    "wait",
]


def near(w: int) -> Mask:
    """Keys at most ``w`` slots away on either side: ``|q − k| <= w``.

    >>> near(1).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True,  True],
            [False,  True,  True]])
    """
    w = count("near", "w", w, least=0)

    def shape(q: Tensor, n_keys: int) -> Spans:
        return stretch(q - w, q + w + 1, n_keys)

    bound = Reach(behind=w + 1, ahead=w)
    return Rule(
        lambda b, q, k: (k >= q - w) & (k <= q + w),
        f"near({w})",
        bound=bound,
        shape=shape,
        band=True,
    )


def dilated(step: int) -> Mask:
    """Every ``step``-th key, counted from the query's own in both directions.

    >>> dilated(2).matrix(1, 5)
    tensor([[ True, False,  True, False,  True]])
    """
    step = count("dilated", "step", step)
    return Rule(lambda b, q, k: (q - k) % step == 0, f"dilated({step})")


def wait(n: int) -> Mask:
    """The first ``n`` keys, and one more with every query: ``k < q + n``, between
    two sequences whose slots both count from 0.

    >>> wait(2).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True,  True],
            [ True,  True,  True]])
    """
    n = count("wait", "n", n)

    def shape(q: Tensor, n_keys: int) -> Spans:
        return stretch(torch.zeros_like(q), q + n, n_keys)

    return Rule(
        lambda b, q, k: k < q + n,
        f"wait({n})",
        bound=Reach(ahead=n - 1),
        shape=shape,
        band=True,
    )


def chunks(size: int, *, left: float = 0, start: int = 0) -> Mask:
    """Keys of the query's own chunk of ``size`` slots, and of ``left`` chunks before.

    Chunks are counted from slot ``start``. A query also sees what comes later in
    its chunk; ``causal & chunks(size)`` does not.

    >>> chunks(2, left=1).matrix(1, 6)
    tensor([[False, False,  True,  True,  True,  True]])
    """
    size = count("chunks", "size", size)
    if left != math.inf:
        count("chunks", "left", left, least=0)
    start = count("chunks", "start", start, least=-(2**62))

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        apart = (q - start) // size - (k - start) // size
        return (apart >= 0) if left == math.inf else (apart >= 0) & (apart <= left)

    def shape(q: Tensor, n_keys: int) -> Spans:
        begin = (q - start) // size * size + start
        far = torch.zeros_like(q) if left == math.inf else begin - int(left) * size
        return stretch(far, begin + size, n_keys)

    more = "" if left == 0 else f", left={left}"
    more += f", start={start}" if start else ""
    bound = Reach(behind=(left + 1) * size, ahead=size - 1)
    return Rule(function, f"chunks({size}{more})", bound=bound, shape=shape)


def block_causal(size: int) -> Mask:
    """Causal from block to block, open within: ``k // size <= q // size``.

    >>> block_causal(2).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [ True,  True,  True]])
    """
    return chunks(size, left=math.inf)


def draft(n_prefix: int, size: int) -> Mask:
    """Blocks of ``size`` drafted slots after a prefix of ``n_prefix``: a query sees
    what is not later of the prefix and of its own block.

    >>> draft(1, 2).matrix(1, 5)
    tensor([[ True, False, False,  True,  True]])
    """
    n = count("draft", "n_prefix", n_prefix, least=0)
    size = count("draft", "size", size)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        return (k <= q) & ((k < n) | ((q - n) // size == (k - n) // size))

    bound = Reach(behind=size, ahead=0, sinks=n)
    return Rule(function, f"draft({n}, {size})", bound=bound)


def block_diffusion(n: int, size: int) -> Mask:
    """Training of block diffusion: slots 0 to n − 1 hold the noised text, n to
    2n − 1 the clean one.

    Noised blocks see themselves and the clean blocks before them; clean blocks see
    themselves and the clean blocks before.

    >>> block_diffusion(2, 1).matrix(4).int()
    tensor([[1, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 0, 1, 0],
            [0, 0, 1, 1]], dtype=torch.int32)
    """
    n = count("block_diffusion", "n", n)
    size = count("block_diffusion", "size", size)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        noised = (q < n) & (k < n) & (q // size == k // size)
        block, key = q % n // size, k % n // size
        clean = (k >= n) & ((key < block) | ((q >= n) & (key == block)))
        return (noised | clean) & (q >= 0) & (q < 2 * n) & (k < 2 * n)

    bound = Reach(ahead=max(n, size) - 1)
    name = f"block_diffusion({n}, {size})"
    return Rule(function, name, n_slots=2 * n, bound=bound)


def random_blocks(n_slots: int, size: int, n: int, seed: int = 0) -> Mask:
    """For each block of ``size`` queries ``n`` blocks of keys, drawn once.

    >>> random_blocks(4, 2, 1).pairs(4)
    8
    """
    n_slots = count("random_blocks", "n_slots", n_slots)
    size = count("random_blocks", "size", size)
    n_blocks = -(-n_slots // size)
    n = count("random_blocks", "n", n)
    if n > n_blocks:
        raise ValueError(
            f"random_blocks: expected n <= {n_blocks}, the number of blocks; got {n}."
        )
    drawn = torch.rand(
        n_blocks, n_blocks, generator=torch.Generator().manual_seed(seed)
    )
    chosen = torch.zeros(n_blocks, n_blocks, dtype=torch.bool)
    chosen.scatter_(1, drawn.argsort(dim=1)[:, :n], True)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        at, key = ((t // size).clamp(0, n_blocks - 1) for t in (q, k))
        return chosen.to(k.device)[at, key] & (q >= 0)

    name = f"random_blocks({n_slots}, {size}, {n}, seed={seed})"
    return Rule(function, name, n_slots=n_slots)


def neighbourhood(height: int, width: int, kernel: int) -> Mask:
    """In a picture of ``height`` × ``width`` places, row after row, the box of
    ``kernel`` × ``kernel`` places around the query, pushed inside at the border.

    >>> neighbourhood(1, 4, 3).matrix(4).int()
    tensor([[1, 1, 1, 0],
            [1, 1, 1, 0],
            [0, 1, 1, 1],
            [0, 1, 1, 1]], dtype=torch.int32)
    """
    sides = [count("neighbourhood", "side", side) for side in (height, width)]
    kernel = count("neighbourhood", "kernel", kernel)

    def near_in(q: Tensor, k: Tensor, side: int) -> Tensor:
        most = max(0, side - kernel)
        first = (q - kernel // 2).clamp(0, most)
        return (k >= first) & (k < first + kernel)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        rows = near_in(q // width, k // width, height)
        return rows & near_in(q % width, k % width, width) & (q >= 0)

    name = f"neighbourhood({height}, {width}, {kernel})"
    reach = min(kernel, sides[0]) * width
    bound = Reach(behind=reach, ahead=reach - 1)
    return Rule(function, name, n_slots=sides[0] * sides[1], bound=bound)


def tiles(height: int, width: int, tile: int, around: int = 0) -> Mask:
    """In a picture of ``height`` × ``width`` places, row after row, the query's own
    tile of ``tile`` × ``tile`` places and those at most ``around`` tiles away.

    >>> tiles(1, 4, 2).matrix(1, 4)
    tensor([[False, False,  True,  True]])
    """
    sides = [count("tiles", "side", side) for side in (height, width)]
    tile = count("tiles", "tile", tile)
    around = count("tiles", "around", around, least=0)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        down = q // width // tile - k // width // tile
        across = q % width // tile - k % width // tile
        return (down.abs() <= around) & (across.abs() <= around) & (q >= 0)

    more = f", around={around}" if around else ""
    reach = min((around + 1) * tile, sides[0]) * width
    bound = Reach(behind=reach, ahead=reach - 1)
    name = f"tiles({height}, {width}, {tile}{more})"
    return Rule(function, name, n_slots=sides[0] * sides[1], bound=bound)
