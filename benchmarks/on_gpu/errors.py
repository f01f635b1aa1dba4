"""What is right, in float64, and how far a result is from it."""

from __future__ import annotations

import math

import torch
from measure import digits
from torch import Tensor

from mattn import Mask
from on_gpu.forms import BOTH


def reference(q, k, v, grad, rule: Mask, *, backward: bool) -> list[Tensor]:
    """Float64, one head at a time, a block of queries at a time."""
    T, D = q.shape
    q, k, v, grad = (t.detach().double() for t in (q, k, v, grad))
    positions = torch.arange(T, device=q.device)
    out, dq = torch.empty_like(q), torch.empty_like(q)
    dk, dv = torch.zeros_like(k), torch.zeros_like(v)
    for start in range(0, T, 1024):
        rows = slice(start, start + 1024)
        allowed = rule.at(positions[rows], positions)
        scores = (q[rows] @ k.mT / math.sqrt(D)).masked_fill(~allowed, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        out[rows] = weights @ v
        if backward:
            d_weights = grad[rows] @ v.mT
            delta = (weights * d_weights).sum(-1, keepdim=True)
            d_scores = weights * (d_weights - delta) / math.sqrt(D)
            dv += weights.mT @ grad[rows]
            dq[rows] = d_scores @ k
            dk += d_scores.mT @ q[rows]
    return [out, dq, dk, dv] if backward else [out]


def relative(found: list[Tensor], right: list[Tensor]) -> list[float]:
    """‖found − right‖ ÷ ‖right‖ of each."""
    return [
        digits((a.double() - b).norm() / b.norm(), 3)
        for a, b in zip(found, right, strict=True)
    ]


def errors_of(
    found: list[Tensor], inputs: tuple[Tensor, ...], rule: Mask, which: str
) -> list[float]:
    """Of the output and of dq, dk, dv: the larger of the first and the last head."""
    worst = [0.0] * len(found)
    for b, h in {(0, 0), tuple(n - 1 for n in inputs[0].shape[:2])}:
        own = [t[b, h] for t in inputs]
        right = reference(*own, rule, backward=which == BOTH)
        each = relative([t[b, h] for t in found], right)
        worst = [max(a, b) for a, b in zip(worst, each, strict=True)]
    return worst
