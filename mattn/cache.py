"""Keys and values already seen, so that a step computes one query, not all.

Key and value of a token depend on that token and those before it, which no
later token changes: what was computed once can be kept. Derived in chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "AllOrNothing",
    "Cache",
    "KVCache",
    "check_positions",
    "check_rows",
    "is_integer",
]


class Cache:
    """What the caches of a model share: how many tokens were read, and where
    the next ones stand.
    """

    def __init__(self):
        self.length = 0
        """Tokens read so far, those that have been dropped included."""
        self._last: Tensor | None = None  # None: positions were counted 0, 1, 2, …
        self._before: tuple | None = None  # what undo brings back
        self._guards = 0  # blocks of code that may want to undo

    @property
    def counted(self) -> bool:
        """Whether the tokens read stand at 0, 1, 2, …: no positions were given."""
        return self._last is None

    def following(self, n: int, device: torch.device) -> Int[Tensor, "*rows n"]:
        """Positions of the next ``n`` tokens, if none are given: after those read."""
        after = torch.arange(n, device=device)
        if self._last is None:
            return self.length + after
        return self._last[..., None] + 1 + after

    def undo(self) -> None:
        """Be as before the last tokens were read."""
        raise NotImplementedError

    def _place(self, positions: Tensor | None, B: int, T: int, device) -> Tensor:
        """Where new tokens stand: where it is said, if that is after those read."""
        if positions is None:
            return self.following(T, device)
        check_positions(positions, B, T, after=self._latest(positions))
        return positions.long()

    def _latest(self, positions: Tensor) -> Tensor:
        if self._last is None:
            rows = positions.shape[:-1]
            return torch.full(rows, self.length - 1, device=positions.device)
        return self._last

    def _advance(self, positions: Tensor, given: bool) -> None:
        if given or not self.counted:
            ends = torch.cat([self._latest(positions)[..., None], positions], dim=-1)
            self._last = ends.amax(dim=-1)
        self.length += positions.shape[-1]


class KVCache(Cache):
    """Keys, values and positions of one attention layer.

    With ``ring=False`` the cache holds ``capacity`` tokens and refuses more.
    With ``ring=True`` it keeps the last ``capacity`` tokens in constant
    memory; that is enough for a mask ``causal & window(w)``, w ≤ capacity.
    Memory is taken at the first use, in the dtype of the first keys.

    A call that raises leaves the cache as it was. What is kept is cut off from
    the graph, so a backward pass that reaches it raises ``ValueError``: a
    model is trained without a cache.
    """

    def __init__(self, capacity: int, *, ring: bool = False):
        if not hasattr(capacity, "__index__") or capacity < 1:
            raise ValueError(
                f"KVCache: expected capacity >= 1 tokens; got {capacity!r}."
            )
        super().__init__()
        self.capacity = capacity
        self.ring = ring
        self._k: Tensor | None = None

    def extend(
        self,
        k: Float[Tensor, "B H T D"],
        v: Float[Tensor, "B H T Dv"],
        positions: Int[Tensor, "*rows T"] | None = None,
    ) -> tuple[
        Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"], Int[Tensor, "*rows S"]
    ]:
        """Add ``T`` tokens; return all keys, values and positions to attend to.

        ``positions``, by default the next ones, are negative where a row holds
        no token; the others grow from token to token, also from call to call.
        """
        self._check(k, v, positions)
        n, given = k.shape[2], positions is not None
        positions = self._place(positions, len(k), n, k.device)
        # The first query of a chunk may see a key that the chunk's last key pushes
        # out of a ring: attend to old and new, then write.
        old = self.contents() if self.ring and n > 1 and self.length else None
        seen = (k, v, positions)
        if old is not None:
            pairs = zip(old, seen, (2, 2, -1), strict=True)
            seen = tuple(torch.cat([a, b], dim=dim) for a, b, dim in pairs)
        self._write(k.detach(), v.detach(), positions)
        self._advance(positions, given)
        if not self.ring or n == 1:
            seen = self.contents()
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            return _Kept.apply(seen[0], k), _Kept.apply(seen[1], v), seen[2]
        return seen

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
        check_rows(rows, len(self._k))
        self._k, self._v = self._k[rows], self._v[rows]
        if self._positions.ndim == 2:
            self._positions = self._positions[rows]
            self._last = self._last[rows]
        self._before = None

    def undo(self) -> None:
        self.length, self._last, held, slots, old = self._before
        self._k, self._v, self._positions = held
        if old is not None:
            for part, was in zip((self._k, self._v), old[:2], strict=True):
                part[:, :, slots] = was
            self._positions[..., slots] = old[2]

    def _check(self, k: Tensor, v: Tensor, positions: Tensor | None) -> None:
        """All that is needed of new tokens, but for the order of their positions."""
        fits = k.ndim == v.ndim == 4 and v.shape[:3] == k.shape[:3]
        if positions is not None:
            fits = (
                fits and positions.ndim in (1, 2) and positions.shape[-1] == k.shape[2]
            )
        if not fits:
            got = "none" if positions is None else tuple(positions.shape)
            raise ValueError(
                "KVCache: expected keys (B, H, T, D), values (B, H, T, Dv) and "
                f"positions (T,) or (B, T); got {tuple(k.shape)}, {tuple(v.shape)} "
                f"and {got}. Each token has one of each."
            )
        if self._k is not None:
            n_axes = self._positions.ndim if positions is None else positions.ndim
            if k.shape[:2] != self._k.shape[:2] or n_axes != self._positions.ndim:
                raise ValueError(
                    f"KVCache: expected {tuple(self._k.shape[:2])} rows and heads and "
                    f"positions of {self._positions.ndim} axes, as before; got "
                    f"{tuple(k.shape[:2])} and {n_axes}. "
                    "A cache serves one layer and one batch."
                )
            for new, held in ((k, self._k), (v, self._v)):
                kind = (new.shape[-1], new.dtype, new.device)
                if kind != (held.shape[-1], held.dtype, held.device):
                    raise ValueError(
                        f"KVCache: expected {held.shape[-1]} features of {held.dtype} "
                        f"on {held.device}, as before; got {kind[0]} of {kind[1]} on "
                        f"{kind[2]}. A cache serves one layer as it is: make a new one."
                    )
        n = self.length + k.shape[2]
        if not self.ring and n > self.capacity:
            raise ValueError(
                f"KVCache: expected at most {self.capacity} tokens; got {n}. Make the "
                "cache larger, or a ring for a sliding window."
            )

    def _check_used(self) -> None:
        if self._k is None:
            raise ValueError(
                "KVCache: expected tokens; got none yet. Call extend first."
            )

    def _write(self, k: Tensor, v: Tensor, positions: Tensor) -> None:
        held = (None,) * 3
        if self._k is None:
            B, H, _, D = k.shape
            self._k = k.new_empty(B, H, self.capacity, D)
            self._v = k.new_empty(B, H, self.capacity, v.shape[-1])
            self._positions = positions.new_empty(*positions.shape[:-1], self.capacity)
        else:
            held = self._k, self._v, self._positions
        n = k.shape[2]
        kept = min(n, self.capacity)
        first = self.length + n - kept
        slots: slice | Tensor = slice(first, first + kept)
        if first + kept > self.capacity:
            slots = torch.arange(first, first + kept, device=k.device) % self.capacity
        old = None
        # A ring writes over tokens; they are kept only where an error could want them.
        if self._guards and self.length and self.length + n > self.capacity:
            old = (
                self._k[:, :, slots],
                self._v[:, :, slots],
                self._positions[..., slots],
            )
        if self._guards:
            self._before = self.length, self._last, held, slots, old
        self._k[:, :, slots] = k[:, :, n - kept :]
        self._v[:, :, slots] = v[:, :, n - kept :]
        self._positions[..., slots] = positions[..., n - kept :]


class _Kept(torch.autograd.Function):
    """What a cache holds, for a query that is differentiated: refuses gradients.

    They would belong to keys and values whose graph is gone; without this,
    training through a cache would leave the maps that made them as they are.
    """

    @staticmethod
    def forward(kept, new):
        return kept.clone()

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, grad):
        raise ValueError(
            "KVCache: expected no backward pass, as keys and values are kept without "
            "their graph; got one. Train without a cache, and decode under "
            "torch.no_grad()."
        )


class AllOrNothing:
    """A block of code; if it raises, ``caches`` (some may be ``None``) are as before.

    >>> cache = KVCache(3)
    >>> try:
    ...     with AllOrNothing([cache]):
    ...         _ = cache.extend(*torch.zeros(2, 1, 1, 2, 4))
    ...         raise ValueError
    ... except ValueError:
    ...     cache.length
    0
    """

    def __init__(self, caches: Iterable[Cache | None]):
        self._caches = [cache for cache in caches if cache is not None]

    def __enter__(self) -> None:
        self._before = [cache._before for cache in self._caches]
        for cache in self._caches:
            cache._guards += 1

    def __exit__(self, kind, *_) -> None:
        for cache, before in zip(self._caches, self._before, strict=True):
            cache._guards -= 1
            if kind is not None and cache._before is not before:
                cache.undo()
                cache._before = before
            if not cache._guards:
                cache._before = None


def check_positions(
    positions: Tensor, B: int, T: int, *, after: Tensor | None = None
) -> None:
    """Integers, one for each token, that grow along a row (``after`` those read).

    Negative ones mark slots without a token and may stand anywhere. A position
    that came before would mean two tokens: to a rule it is the key's place in
    the sequence, not only an angle.
    """
    if not is_integer(positions) or tuple(positions.shape) not in ((T,), (B, T)):
        raise ValueError(
            f"expected integer positions ({T},) or ({B}, {T}), one for each token; got "
            f"{str(positions.dtype).removeprefix('torch.')} {tuple(positions.shape)}."
        )
    if not T:
        return
    positions = positions.long()
    if after is None:
        after = positions.new_full(positions.shape[:-1], -1)
    reached = torch.cat([after[..., None], positions[..., :-1]], dim=-1)
    back = (positions >= 0) & (positions <= reached.cummax(dim=-1).values)
    if back.any():
        place = back.nonzero()[0].tolist()
        row = positions if positions.ndim == 1 else positions[place[0]]
        raise ValueError(
            "expected positions that grow from token to token, after those that a "
            f"cache holds; got {int(row[place[-1]])} for token {place[-1]} of "
            f"{row.tolist()}. Packed documents are counted through: documents(ids) "
            "keeps them apart, and rotary attention depends on distances alone."
        )


def check_rows(rows: Tensor, B: int) -> None:
    """Indices of rows of a batch, shape (N,)."""
    fits = isinstance(rows, Tensor) and rows.ndim == 1 and is_integer(rows)
    if not fits or ((rows < 0) | (rows >= B)).any():
        got = rows.tolist() if isinstance(rows, Tensor) else rows
        raise ValueError(
            f"reorder: expected indices from 0 to {B - 1} of the rows to keep, an "
            f"integer tensor (N,); got {got}."
        )


def is_integer(tensor: Tensor) -> bool:
    """Whether its dtype counts: neither floating, complex nor bool."""
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
