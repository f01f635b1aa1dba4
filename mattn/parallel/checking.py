"""Several processes held against one: what ``--check`` prints, and tests assert.

Chapter 12 shows what it finds.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from mattn.attention import attention
from mattn.checks import influence
from mattn.masks import Mask, causal, documents, padding, prefix, window
from mattn.parallel.heads import all_to_all_attention
from mattn.parallel.layouts import LAYOUTS, Layout, deal
from mattn.parallel.parts import join
from mattn.parallel.ring import ring_attention
from mattn.parallel.talk import Counts, ranks

__all__ = ["Difference", "differences", "inputs", "reached", "rules", "work"]

Function = Callable[..., Tensor]


class Difference(NamedTuple):
    """How far several processes are from one, at most, on any of them."""

    what: str
    forward: float
    gradients: float


def rules(n: int, B: int) -> dict[str, Mask]:
    """Five rules of different kinds, for ``n`` tokens in ``B`` rows."""
    ids = [3 * i // max(n, 1) for i in range(n)]
    return {
        "causal": causal,
        "window": causal & window(5),
        "documents": causal & documents(ids),
        "prefix": causal | prefix(4),
        "padding": causal & padding([max(0, n - 3 * i) for i in range(B)], width=n),
    }


def inputs(
    n: int, B: int, *, heads: tuple[int, int] = (4, 2), dtype: torch.dtype
) -> tuple[Tensor, ...]:
    """q, k, v and a gradient of the output, the same on every process."""
    g = torch.Generator().manual_seed(n)
    H, Hkv = heads
    sizes = (H, 6), (Hkv, 6), (Hkv, 5), (H, 5)
    return tuple(
        torch.randn(B, h, n, d, generator=g, dtype=torch.float64).to(dtype)
        for h, d in sizes
    )


def differences(
    lengths: Iterable[int],
    *,
    B: int = 2,
    dtype: torch.dtype = torch.float64,
    layouts: Iterable[Layout] = LAYOUTS,
    ring: Function = ring_attention,
) -> Iterator[Difference]:
    """Every length, rule and layout; by heads, too, where the processes divide them."""
    _, size = ranks()
    ways: list[tuple[str, Function]] = [("ring", ring)]
    if 2 % size == 0:
        ways.append(("heads", all_to_all_attention))
    for n in lengths:
        for name, rule in rules(n, B).items():
            for layout, (way, function) in itertools.product(layouts, ways):
                given = inputs(n, B, dtype=dtype)
                errors = _errors(function, given, rule, layout)
                yield Difference(f"{way}, {layout}, {name}, {n} tokens", *errors)


def _errors(
    function: Function, given: tuple[Tensor, ...], rule: Mask, layout: Layout
) -> tuple[float, float]:
    *qkv, grad = given
    rank, size = ranks()
    own = deal(grad.shape[2], size, layout)[rank]
    whole = [t.double().requires_grad_() for t in qkv]
    out, _ = attention(whole[0], whole[1], whole[2], rule)
    expected = [out, *torch.autograd.grad(out, whole, grad.double())]
    parts = [t[:, :, own].requires_grad_() for t in qkv]
    out = function(*parts, rule, slots=own)
    found = [out, *torch.autograd.grad(out, parts, grad[:, :, own])]
    off = [
        (a.detach().double() - b.detach()[:, :, own]).abs().amax()
        if a.numel()
        else torch.zeros((), dtype=torch.float64)
        for a, b in zip(found, expected, strict=True)
    ]
    worst = torch.stack([off[0], torch.stack(off[1:]).amax()])
    # A NaN is as far off as can be, and MAX does not promise to keep it.
    worst = worst.nan_to_num(nan=torch.inf)
    dist.all_reduce(worst, dist.ReduceOp.MAX)
    return worst[0].item(), worst[1].item()


def reached(rule: Mask, n: int, layout: Layout, ring: Function = ring_attention):
    """Which tokens reach which outputs, measured across processes: (n, n)."""
    rank, size = ranks()
    own = deal(n, size, layout)[rank]
    q, k, v, _ = (t[0] for t in inputs(n, 1, heads=(1, 1), dtype=torch.float64))
    queries = q[None, :, own]  # held fixed: what the keys and values do is asked

    def outputs(features: Tensor) -> Tensor:
        keys, values = features.split([k.shape[-1], v.shape[-1]], dim=-1)
        mine = keys[None, None, own], values[None, None, own]
        part = ring(queries, *mine, rule, slots=own)
        return join(part, layout=layout)[0, 0]

    return influence(outputs, torch.cat([k[0], v[0]], dim=-1), n_tries=1)


def work(rule: Mask, n: int, layout: Layout) -> list[Counts]:
    """What each process did in one forward pass, as it counted itself."""
    rank, size = ranks()
    own = deal(n, size, layout)[rank]
    q, k, v, _ = inputs(n, 1, heads=(1, 1), dtype=torch.float32)
    counts = Counts()
    with torch.no_grad():
        q, k, v = (t[:, :, own] for t in (q, k, v))
        ring_attention(q, k, v, rule, slots=own, counts=counts)
    heard: list[Any] = [None] * size
    dist.all_gather_object(heard, counts)
    return heard
