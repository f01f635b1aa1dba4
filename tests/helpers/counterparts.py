"""What mattn has in place of what chapters derive by hand: masks and attention.

Each check takes the lifted function and a random generator.
"""

from __future__ import annotations

import numpy as np
import torch

from mattn import (
    Mask,
    MultiHeadAttention,
    attention,
    blockwise_attention,
    causal,
    documents,
    full,
    masked_softmax,
    softmax,
    to_additive,
    window,
)
from mattn.checks import same
from mattn.heads import merge_heads, split_heads
from mattn.masks import default_slots
from mattn.parallel import LAYOUTS, collect, deal


def sizes(rng, n: int) -> list[int]:
    """``n`` sizes from 1 to 9, all different."""
    return [int(s) for s in rng.permutation(np.arange(1, 10))[:n]]


def normal(rng, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def some_allowed(rng, *shape: int, empty: bool) -> torch.Tensor:
    """A random mask; its last row empty, or no row."""
    allowed = rng.random(shape) < 0.5
    allowed[..., 0] = True
    allowed[..., -1, :] &= not empty
    return torch.from_numpy(allowed)


def qkv(rng, *batch: int, Tq: int | None = None) -> list[torch.Tensor]:
    """With fewer queries than keys, or ``Tq`` of both."""
    few, many, D, Dv = (s + 2 for s in sizes(rng, 4))
    Tq, Tk = (Tq, Tq) if Tq else sorted((few, many))
    shapes = (Tq, D), (Tk, D), (Tk, Dv)
    return [normal(rng, *batch, *s) for s in shapes]


def arrays(tensors) -> list[np.ndarray]:
    return [t.numpy() for t in tensors]


def is_attention(f, rng, *, empty=False, heads=True):
    for batch in [(), (2, 3)] if heads else [()]:
        q, k, v = qkv(rng, *batch)
        shape = q.shape[-2], k.shape[-2]
        for allowed in (causal.matrix(*shape), some_allowed(rng, *shape, empty=empty)):
            expected = attention(q, k, v, allowed)
            got = f(*arrays([q, k, v, allowed]))
            for a, b in zip(got, expected, strict=True):
                same(a, b)


def is_masked_softmax(f, rng, *, empty=False):
    scores = 10 * normal(rng, *sizes(rng, 2))
    allowed = some_allowed(rng, *scores.shape, empty=empty)
    same(f(*arrays([scores, allowed])), masked_softmax(scores, allowed))


def is_softmax(f, rng, *, shift=0.0):
    scores = 10 * normal(rng, *sizes(rng, 3)) + shift
    same(f(scores.numpy()), masked_softmax(scores))


def is_running_mean(f, rng):
    T, C = sizes(rng, 2)
    zeros, v = torch.zeros(T, 3, dtype=torch.float64), normal(rng, T, C)
    same(f(v.numpy()), attention(zeros, zeros, v, causal)[0])


def is_slots(f, rng):
    for got, expected in zip(f(*(s := sizes(rng, 2))), default_slots(*s), strict=True):
        same(got, expected)


def is_rule(make, *, own=lambda rng: (), square=False):
    """``f(*own, Tq, Tk)`` is the matrix of ``make(*own)``."""

    def check(f, rng):
        arguments, (Tq, Tk) = own(rng), sizes(rng, 2)
        if square:
            same(f(*arguments, Tq), make(*arguments).matrix(Tq))
        else:
            same(f(*arguments, Tq, Tk), make(*arguments).matrix(Tq, Tk))

    return check


def a_number(rng):
    return (int(rng.integers(1, 8)),)


def is_documents(f, rng):
    ids = rng.integers(0, 3, size=sizes(rng, 1)[0]).tolist()
    same(f(ids), documents(ids).matrix(len(ids)))


def is_additive(f, rng):
    allowed = some_allowed(rng, *sizes(rng, 2), empty=True)
    same(f(allowed.numpy()), to_additive(allowed))
    for dtype in (np.float16, np.float32, np.float64):
        got = f(allowed.numpy(), dtype)
        assert got.dtype == dtype
        same(got, to_additive(allowed))


def is_split_heads(f, rng):
    B, T, H, D = sizes(rng, 4)
    x = normal(rng, B, T, H * D)
    same(f(x.numpy(), H), split_heads(x, H))


def is_merge_heads(f, rng):
    x = normal(rng, *sizes(rng, 4))
    same(f(x.numpy()), merge_heads(x))


def is_multi_head_attention(f, rng):
    B, T, H, D = sizes(rng, 4)
    layer = MultiHeadAttention(H * D, H).double()
    x = normal(rng, B, T, H * D)
    linear = layer.query, layer.key, layer.value, layer.output
    weights = arrays(m.weight.detach().T for m in linear)
    for allowed in (causal.matrix(T), some_allowed(rng, T, T, empty=False)):
        same(f(x.numpy(), *weights, H, allowed.numpy()), layer(x, allowed))


def is_softmax_backward(f, rng):
    scores = normal(rng, *sizes(rng, 2)).requires_grad_()
    allowed = some_allowed(rng, *scores.shape, empty=True)
    weights, up = masked_softmax(scores, allowed), normal(rng, *scores.shape)
    (expected,) = torch.autograd.grad(weights, scores, up)
    same(f(*arrays([weights.detach(), up])), expected)


def some_parts(rng, n: int) -> list[tuple[torch.Tensor, ...]]:
    """``n`` blocks of scores, values and what is allowed; the last row is empty."""
    Tq, Dv, *Tk = sizes(rng, 2 + n)
    return [
        (
            10 * normal(rng, Tq, m),
            normal(rng, m, Dv),
            some_allowed(rng, Tq, m, empty=True),
        )
        for m in Tk
    ]


def are_same_parts(a, b):
    for got, expected in zip(a, b, strict=True):
        same(got, expected)


def is_partial(f, rng):
    (part,) = some_parts(rng, 1)
    are_same_parts(f(*arrays(part)), softmax.partial(*part))


def is_merge(f, rng):
    a, b = (softmax.partial(*part) for part in some_parts(rng, 2))
    are_same_parts(f(arrays(a), arrays(b)), softmax.merge(a, b))


def is_ring(f, rng):
    T, size = (int(n) for n in rng.integers(1, 9, 2))
    q, k, v = qkv(rng, Tq=T)
    for rule in (causal, causal & window(2), full):
        for layout in LAYOUTS:
            slots = deal(T, size, layout)
            parts = f(q, k, v, rule, slots)
            same(collect(parts, layout), attention(q, k, v, rule)[0], atol=1e-12)


def is_finish(f, rng):
    (part,) = some_parts(rng, 1)
    part = softmax.partial(*part)
    same(f(arrays(part)), softmax.finish(part))


def is_blockwise_attention(f, rng):
    q, k, v = qkv(rng)
    for block in (1, 2, 3, 100):
        expected = blockwise_attention(q, k, v, causal, block=block)
        got, n_blocks = f(*arrays([q, k, v]), block)
        same(got, expected)
        same(got, attention(q, k, v, causal)[0])
        allowed = causal.matrix(len(q), len(k))
        visited = [
            allowed[i : i + block, j : j + block].any()
            for i in range(0, len(q), block)
            for j in range(0, len(k), block)
        ]
        assert n_blocks == sum(visited)


def with_options(check, **options):
    return lambda f, rng: check(f, rng, **options)


def some_spans(rng) -> tuple[dict, int, int, Mask]:
    """Options of spans_by_hand, Tq, Tk and the same rule."""
    (Tq, Tk), w = sizes(rng, 2), int(rng.integers(1, 12))
    options, rule = {}, causal
    if rng.random() < 0.5:
        options["w"], rule = w, rule & window(w)
    if rng.random() < 0.5:
        ids = torch.from_numpy(np.sort(rng.integers(0, 4, Tk)))
        options["ids"], rule = ids, rule & documents(ids)
    return options, Tq, Tk, rule


def is_spans(f, rng):
    options, Tq, Tk, rule = some_spans(rng)
    first, end = (t[:, None] for t in f(Tq, Tk, **options))
    j = torch.arange(Tk)
    same((first <= j) & (j < end), rule.matrix(Tq, Tk))


def is_flash_attention(f, rng):
    """Its keys are those of mattn's own spans."""
    _, Tq, Tk, rule = some_spans(rng)
    D, Dv = (s + 1 for s in sizes(rng, 2))
    q, k, v = normal(rng, Tq, D), normal(rng, Tk, D), normal(rng, Tk, Dv)
    allowed = rule.matrix(Tq, Tk)
    end = torch.where(allowed.any(-1), allowed.long().cumsum(-1).argmax(-1) + 1, 0)
    first = end - allowed.sum(-1)
    first, end = (t.cummax(0).values for t in (first, end))
    for block in (1, 3, 16):
        out, L = f(q, k, v, first, end, block)
        same(out, attention(q, k, v, rule)[0])
        scores = (q @ k.T / D**0.5).masked_fill(~allowed, -torch.inf)
        expected = scores.logsumexp(-1) / np.log(2)
        same(L, expected.masked_fill(~allowed.any(-1), torch.inf))


def is_flash_attention_backward(f, rng):
    _, Tq, Tk, rule = some_spans(rng)
    D, Dv = (s + 1 for s in sizes(rng, 2))
    q, k, v = normal(rng, Tq, D), normal(rng, Tk, D), normal(rng, Tk, Dv)
    tracked = [t.clone().requires_grad_() for t in (q, k, v)]
    out, g = attention(*tracked, rule)[0], normal(rng, Tq, Dv)
    allowed = rule.matrix(Tq, Tk)
    scores = (q @ k.T / D**0.5).masked_fill(~allowed, -torch.inf)
    L = (scores.logsumexp(-1) / np.log(2)).masked_fill(~allowed.any(-1), torch.inf)
    expected = torch.autograd.grad(out, tracked, g)
    for a, b in zip(f(q, k, v, out.detach(), L, g, allowed), expected, strict=True):
        same(a, b)
