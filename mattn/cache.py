"""Keys and values already seen, so that a step computes one query, not all.

Key and value of a token depend on that token and those before it, which no
later token changes: what was computed once can be kept. Derived in chapter 5.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["KVCache"]


class KVCache:
    """Keys, values and positions of one attention layer.

    With ``ring=False`` the cache holds ``capacity`` tokens and refuses more.
    With ``ring=True`` it keeps the last ``capacity`` tokens in constant
    memory; that is enough for a mask ``causal & window(w)``, w ≤ capacity.
    Memory is taken at the first use, in the dtype of the first keys.
    No gradient flows through what is kept.
    """

    def __init__(self, capacity: int, *, ring: bool = False):
        if capacity < 1:
            raise ValueError(f"KVCache: expected capacity >= 1 tokens; got {capacity}.")
        self.capacity = capacity
        self.ring = ring
        self.length = 0
        """Tokens read so far, those that a ring has dropped included."""
        self._k: Tensor | None = None

    def extend(
        self,
        k: Float[Tensor, "B H T D"],
        v: Float[Tensor, "B H T Dv"],
        positions: Int[Tensor, "*rows T"],
    ) -> tuple[
        Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"], Int[Tensor, "*rows S"]
    ]:
        """Add ``T`` tokens; return all keys, values and positions to attend to."""
        n = k.shape[2]
        if v.shape[:3] != k.shape[:3] or positions.shape[-1] != n:
            raise ValueError(
                "KVCache: expected keys (B, H, T, D), values (B, H, T, Dv) and "
                f"positions (T,) or (B, T); got {tuple(k.shape)}, {tuple(v.shape)} "
                f"and {tuple(positions.shape)}. Each token has one of each."
            )
        if self._k is not None and (
            k.shape[:2] != self._k.shape[:2] or positions.ndim != self._positions.ndim
        ):
            raise ValueError(
                f"KVCache: expected {tuple(self._k.shape[:2])} rows and heads and "
                f"positions of {self._positions.ndim} axes, as before; got "
                f"{tuple(k.shape[:2])} and {positions.ndim}. "
                "A cache serves one layer and one batch."
            )
        if not self.ring and self.length + n > self.capacity:
            raise ValueError(
                f"KVCache: expected at most {self.capacity} tokens; got "
                f"{self.length + n}. Make the cache larger, or a ring for a "
                "sliding window."
            )
        if self._k is None:
            self._allocate(k, v, positions)
        if self.ring and n > 1:
            # The first query of a chunk may see a key that the chunk's last
            # key pushes out: attend to old and new, then write.
            old = self.contents()
            seen = tuple(
                torch.cat([a, b], dim=-1 if a is old[2] else 2)
                for a, b in zip(old, (k, v, positions), strict=True)
            )
            self._write(k, v, positions)
            return seen
        self._write(k, v, positions)
        return self.contents()

    def contents(
        self,
    ) -> tuple[
        Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"], Int[Tensor, "*rows S"]
    ]:
        """Keys, values and positions held now, in slot order."""
        self._check_used()
        n = min(self.length, self.capacity)
        return self._k[:, :, :n], self._v[:, :, :n], self._positions[..., :n]

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was.

        Beam search calls it whenever hypotheses change places; ``rows`` may
        be longer or shorter than the batch.
        """
        self._check_used()
        self._k, self._v = self._k[rows], self._v[rows]
        if self._positions.ndim == 2:
            self._positions = self._positions[rows]

    def _check_used(self) -> None:
        if self._k is None:
            raise ValueError(
                "KVCache: expected tokens; got none yet. Call extend first."
            )

    def _allocate(self, k: Tensor, v: Tensor, positions: Tensor) -> None:
        B, H, _, D = k.shape
        self._k = k.new_empty(B, H, self.capacity, D)
        self._v = v.new_empty(B, H, self.capacity, v.shape[-1])
        self._positions = positions.new_empty(*positions.shape[:-1], self.capacity)

    def _write(self, k: Tensor, v: Tensor, positions: Tensor) -> None:
        n = k.shape[2]
        kept = min(n, self.capacity)
        first = self.length + n - kept
        self.length += n
        if first + kept <= self.capacity:
            slots = slice(first, first + kept)
        else:
            slots = torch.arange(first, first + kept, device=k.device) % self.capacity
        self._k[:, :, slots] = k[:, :, n - kept :].detach()
        self._v[:, :, slots] = v[:, :, n - kept :].detach()
        self._positions[..., slots] = positions[..., n - kept :]
