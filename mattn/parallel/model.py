"""The decoder of the book with its tokens spread over processes.

The weights are on every process, the tokens are not. Only attention ever looks at
another token, so it alone has to know. Derived in chapter 12.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn import softmax
from mattn.cache import KVCache
from mattn.heads import layers_of
from mattn.masks import Mask
from mattn.parallel.ring import as_rule, partial_of, ring_attention
from mattn.parallel.talk import Counts, agree_on_queries, ranks

__all__ = ["cached_attention", "over_processes", "sum_gradients"]


@contextmanager
def over_processes(
    model: nn.Module,
    *,
    attend: Callable[..., Tensor] = ring_attention,
    group: Any = None,
    counts: Counts | None = None,
) -> Iterator[nn.Module]:
    """Within it, self-attention of ``model`` looks beyond the own process.

    Every process calls the model with its own tokens and their ``slots``
    (:func:`deal`), and gets the logits of these. With a cache, all give the same new
    tokens and slots, and each keeps the keys of every ``size``-th
    (:func:`cached_attention`).

    Raises ``ValueError`` for a model whose embedding reads the tokens before.
    """
    layers = layers_of(model).values()
    if any(getattr(part, "n_grams", None) is not None for part in model.modules()):
        raise ValueError(
            "over_processes: expected an embedding of single tokens; got one of n-grams"
            ", which would need tokens of another process. Take Config(n_grams=1)."
        )
    before = [layer.attend for layer in layers]
    attend = functools.partial(attend, group=group, counts=counts)
    for layer in layers:
        layer.attend = functools.partial(_attend, attend, group, counts)
    try:
        yield model
    finally:
        for layer, was in zip(layers, before, strict=True):
            layer.attend = was


def _attend(attend, group, counts, q, k, v, mask, *, slots, cache):
    if cache is None:
        return attend(q, k, v, mask, slots=slots)
    return cached_attention(
        q, k, v, mask, slots=slots, cache=cache, group=group, counts=counts
    )


# Long because: half of it is signature and docstring.
def cached_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv T D"],
    v: Float[Tensor, "B Hkv T Dv"],
    mask: Mask | None = None,
    *,
    slots: Int[Tensor, " T"],
    cache: KVCache,
    group: Any = None,
    counts: Counts | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """Attention of new tokens, the same on all processes, to a cache of which each
    holds every ``size``-th token.

    A token is kept where slot mod size is the number of the process, so a cache needs
    room for one token in ``size``, rounded up. Each computes
    over what it holds, one exchange brings the partial results to all, and all merge
    them in one order. For decoding: nothing is learned through it.
    """
    rank, size = ranks(group)
    rule = as_rule(mask)
    agree_on_queries(q, slots, group)
    own = slots % size == rank
    keys, values = k[:, :, own], v[:, :, own]
    at = slots[own] // size  # a cache has room for the tokens of its process alone
    if own.any():
        keys, values, at = cache.extend(keys, values, at)
    elif cache.length:
        keys, values, at = cache.contents()
    at = torch.where(at < 0, -1, at * size + rank)
    with torch.no_grad():
        allowed = rule.at(slots, at)
        part = partial_of(q, keys, values, allowed)
        packed = torch.cat([part.weighted, part.total, part.maximum], dim=-1)
        heard = [torch.empty_like(packed) for _ in range(size)]
        dist.all_gather(heard, packed.contiguous(), group=group)
        if counts is not None:
            counts.pairs.append(int(allowed.sum()))
            counts.sent += packed.numel() * packed.element_size() * (size - 1)
            counts.messages += size - 1
        parts = [
            softmax.Partial(t[..., -1:], t[..., -2:-1], t[..., :-2]) for t in heard
        ]
        return softmax.finish(functools.reduce(softmax.merge, parts)).to(q.dtype)


def sum_gradients(model: nn.Module, group: Any = None) -> None:
    """Add up the gradients of all processes, in place, after ``backward``.

    Each process has those of its own tokens' share of the loss: the sum of its tokens'
    losses ÷ the number of *all* tokens.
    """
    ranks(group)
    for p in model.parameters():
        if p.requires_grad:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
            dist.all_reduce(p.grad, group=group)
