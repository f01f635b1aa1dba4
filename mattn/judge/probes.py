"""What a function is asked with, and whether its answer agrees.

All sizes of a probe differ, so that no transposed axis hides. A room of the
judge; the formula is chapter 1's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mattn.masks import Mask

__all__ = ["Probe", "agrees", "allowed_for", "probes"]


@dataclass(frozen=True)
class Probe:
    """Queries, keys and values; ``rank`` is how many axes they have."""

    name: str
    q: Tensor
    k: Tensor
    v: Tensor

    @property
    def rank(self) -> int:
        return self.q.ndim

    @property
    def said(self) -> str:
        """Shapes as a message says them."""
        shapes = [tuple(t.shape) for t in (self.q, self.k, self.v)]
        if len(set(shapes)) == 1:
            return f"q, k, v of shape {shapes[0]}"
        return "q {}, k {}, v {}".format(*shapes)


_BATCH = {2: (), 3: (2,), 4: (2, 3)}


def probes(rank: int, mask: Mask | None) -> list[Probe]:
    """Plain, long, scores of exactly 0, a cache, fewer heads of keys; the plain
    one first."""
    draws = torch.Generator().manual_seed(5)
    batch = _BATCH[rank]
    if batch and mask is not None and mask.batch is not None:
        batch = (mask.batch, *batch[1:])
    one = (1, *batch[1:]) if batch and (mask is None or mask.batch is None) else batch
    most = None if mask is None else mask.n_slots

    def drawn(batch: tuple[int, ...], n: int, heads: int | None = None) -> Tensor:
        n = n if most is None else min(n, most)
        batch = batch if heads is None else (*batch[:1], heads)
        return torch.randn((*batch, n, 5), generator=draws, dtype=torch.float64)

    found = [
        Probe("plain", *(drawn(batch, 4) for _ in range(3))),
        Probe("long", *(drawn(one, 7) for _ in range(3))),
    ]
    q, k, v = (drawn(batch, 4) for _ in range(3))
    q[..., 2, :], k[..., 1, :] = 0.0, 0.0
    found.append(Probe("scores of exactly 0", q, k, v))
    found.append(Probe("cache", drawn(batch, 3), drawn(batch, 6), drawn(batch, 6)))
    if rank == 4:
        q, k, v = (drawn(batch, 4, heads=h) for h in (6, 3, 3))
        found.append(Probe("fewer heads of keys", q, k, v))
    return found


def allowed_for(mask: Mask | None, q: Tensor, k: Tensor) -> Tensor:
    """The boolean matrix for these, with the batch first: (Tq, Tk) or (B, …)."""
    Tq, Tk = q.shape[-2], k.shape[-2]
    if mask is None:
        return torch.ones(Tq, Tk, dtype=torch.bool)
    matrix = mask.matrix(Tq, Tk)
    if matrix.ndim == 2 or q.ndim <= 3:
        return matrix if q.ndim > 2 or matrix.ndim == 2 else matrix[0]
    return matrix[:, None].expand(-1, q.shape[1], -1, -1)


def agrees(out: Tensor, right: Tensor, look: Tensor | None, tolerance: float) -> bool:
    """Equal in shape and, where ``look`` says so, in value; NaN and ∞ in place."""
    if out.shape != right.shape:
        return False
    size = 1 + float(out.nan_to_num(0.0, 0.0, 0.0).abs().max())
    equal = torch.isclose(out, right, rtol=0.0, atol=tolerance * size, equal_nan=True)
    if look is None:
        return bool(equal.all())
    return bool((equal | ~look).all()) and bool(look.any())
