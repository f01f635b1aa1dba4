"""The other way: for the time of attention, every process has some of the heads.

Before, each process holds all heads of some tokens; one exchange later, all tokens of
some heads, and attention is the ordinary one. Derived in chapter 12.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from mattn.attention import align_rows, fused_attention
from mattn.masks import Mask
from mattn.parallel.ring import as_rule
from mattn.parallel.talk import Counts, agree, ranks, told

__all__ = ["all_to_all_attention"]


# Long because: half of it is signature and docstring.
def all_to_all_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv T D"],
    v: Float[Tensor, "B Hkv T Dv"],
    mask: Mask | None = None,
    *,
    slots: Int[Tensor, "*rows T"],
    group: Any = None,
    counts: Counts | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """The same as :func:`ring_attention`, with heads dealt out in place of tokens.

    Raises ``ValueError`` on every process where their number does not divide the
    heads of queries or of keys, and for all that the ring refuses.

    Source: Jacobs et al. 2023, arXiv:2309.14509. Derived in chapter 12.
    """
    _, size = ranks(group)
    told(lambda: _check_heads(q.shape[1], k.shape[1], size), group)
    held = agree(q, k, v, slots, group)
    rule = as_rule(mask)
    lengths = [part.q[2] for part in held]
    q, k, v = (_Exchange.apply(t, lengths, True, group, counts) for t in (q, k, v))
    at = torch.cat([part.slots for part in held], dim=-1).to(q.device)
    allowed = rule.at(at, at)
    if counts is not None:
        counts.pairs.append(int(allowed.sum()) * q.shape[1])
    out = fused_attention(q, k, v, align_rows(allowed, 2))
    return _Exchange.apply(out, lengths, False, group, counts)


def _check_heads(H: int, Hkv: int, size: int) -> None:
    if H % size or Hkv % size:
        raise ValueError(
            "expected heads that the processes divide among themselves; got "
            f"{H} of queries and {Hkv} of keys for {size} processes. "
            "ring_attention takes any number."
        )


class _Exchange(torch.autograd.Function):
    """All heads of the own tokens for all tokens of the own heads, or back."""

    @staticmethod
    def forward(ctx, t, lengths, to_heads, group, counts):
        ctx.asked = lengths, to_heads, group, counts
        return _exchanged(t, *ctx.asked)

    @staticmethod
    def backward(ctx, *grads):
        lengths, to_heads, group, counts = ctx.asked
        return (
            _exchanged(grads[0], lengths, not to_heads, group, counts),
            *(None,) * 4,
        )


def _exchanged(t: Tensor, lengths: list[int], to_heads: bool, group, counts) -> Tensor:
    rank, size = ranks(group)
    parts = t.chunk(size, dim=1) if to_heads else t.split(lengths, dim=2)
    B, D = t.shape[0], t.shape[3]
    heads = t.shape[1] // size if to_heads else t.shape[1]
    shapes = [(B, heads, n if to_heads else lengths[rank], D) for n in lengths]
    sizes = [math.prod(shape) for shape in shapes]
    into = t.new_empty(sum(sizes))
    packed = torch.cat([part.reshape(-1) for part in parts])
    given = [part.numel() for part in parts]
    dist.all_to_all_single(into, packed, sizes, given, group=group)
    if counts is not None:
        counts.sent += (sum(given) - given[rank]) * t.element_size()
        counts.messages += size - 1
    found = [
        part.view(shape) for part, shape in zip(into.split(sizes), shapes, strict=True)
    ]
    return torch.cat(found, dim=2 if to_heads else 1)
