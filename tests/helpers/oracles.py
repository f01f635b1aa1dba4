"""What mattn is held against: float64 NumPy, PyTorch, and inputs to compare on."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from mattn import Mask, causal, documents, full, padding, prefix, window
from mattn.checks import TOLERANCE


def numpy_attention(q, k, v, allowed=None) -> tuple[np.ndarray, np.ndarray]:
    """Attention and its weights in float64, by the definition: no softmax call."""
    q, k, v = (t.detach().double().numpy() for t in (q, k, v))
    scores = q @ np.swapaxes(k, -1, -2) / math.sqrt(q.shape[-1])
    visible = np.ones(scores.shape, bool)
    if allowed is not None:
        visible = np.broadcast_to(allowed.numpy(), scores.shape)
    top = np.where(visible, scores, -np.inf).max(axis=-1, keepdims=True, initial=-1e300)
    e = np.where(visible, np.exp(np.minimum(scores - top, 0.0)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    weights = e / np.where(total == 0, 1.0, total)
    return weights @ v, weights


def torch_attention(q, k, v, allowed=None) -> Tensor:
    """PyTorch's own attention, by its plain back end."""
    with sdpa_kernel(SDPBackend.MATH):
        return scaled_dot_product_attention(q, k, v, attn_mask=allowed)


def plain_attention(q, k, v, allowed) -> Tensor:
    """The formula in PyTorch's operations, all in the dtype of the inputs."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1) @ v


def error(a: Tensor, reference) -> float:
    """The largest difference from a float64 reference."""
    a, reference = a.detach().double(), torch.as_tensor(reference).detach()
    return float((a - reference).abs().max()) if a.numel() else 0.0


def close(a: Tensor, reference) -> None:
    """Within the tolerance that the project states for the dtype of ``a``."""
    assert tuple(a.shape) == tuple(reference.shape)
    assert error(a, reference) <= TOLERANCE[a.dtype]


def random_qkv(
    batch=(2, 3), Tq=5, Tk=7, D=4, Dv=6, *, dtype=torch.float64, grad=False
) -> list[Tensor]:
    """Standard normal q, k, v whose sizes all differ, so that no transpose hides."""
    shapes = (*batch, Tq, D), (*batch, Tk, D), (*batch, Tk, Dv)
    # Drawn in float64, so that every dtype gets the same numbers, rounded.
    return [
        torch.randn(s, dtype=torch.float64).to(dtype).requires_grad_(grad)
        for s in shapes
    ]


def kinds_of_mask(T: int, *, batch: int = 2) -> dict[str, Mask | None]:
    """Every kind of rule for ``T >= 1`` keys and ``batch`` rows."""
    ids = torch.arange(T) * 3 // max(T, 1)
    rows = torch.stack([ids.roll(r) for r in range(batch)])
    lengths = [max(T - 2 * r, 0) for r in range(batch)]
    return {
        "none": None,
        "full": full,
        "causal": causal,
        "window": causal & window(3),
        "prefix": causal | prefix(2),
        "documents": causal & documents(ids),
        "documents by row": causal & documents(rows),
        "padding": padding(lengths),
        "causal padding": causal & padding(lengths),
        "left padding": causal & padding(lengths, side="left", width=T),
        "future": ~causal,
        "nothing": ~full,
    }


KINDS = tuple(kinds_of_mask(3))


def rendered(mask: Mask | None, Tq: int, Tk: int, batch_dims: int) -> Tensor:
    """The boolean matrix of a rule, shaped to broadcast over heads."""
    allowed = (full if mask is None else mask).matrix(Tq, Tk)
    if allowed.ndim == 2:
        return allowed
    return allowed.reshape(len(allowed), *(1,) * (batch_dims - 1), Tq, Tk)


def compositions(n: int) -> list[tuple[int, ...]]:
    """Every way to cut a sequence of ``n`` into consecutive pieces."""
    if n == 0:
        return [()]
    return [(k, *rest) for k in range(1, n + 1) for rest in compositions(n - k)]
