"""Which tokens were read, a slot for each; and as if they had not been.

The parts of a model's cache (:mod:`mattn.cache`, :mod:`mattn.embedding`) have
in common that they know which slots of each row they have read, and that a call
that fails leaves them as they were. Derived in chapter 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["AllOrNothing", "Part", "check_rows", "check_slots", "is_integer"]


class Part:
    """What the parts of a model's cache share: which tokens were read.

    A *slot* says which token of its row this is, counted from 0. Where rows are of
    different lengths, slots are given for each row.
    """

    def __init__(self):
        self._last: Tensor | None = None  # last slot of each row; None: all alike
        self._n_read = 0  # where all rows are alike, the slot that comes next
        self._before: Any = None  # what undo brings back: None, or a tuple
        self._guards = 0  # blocks of code that may want to undo

    @property
    def length(self) -> int:
        """Slots that were read in the longest row, those since dropped included."""
        if self._last is None or not len(self._last):
            return self._n_read
        return int(self._last.max()) + 1

    def following(self, n: int, device: torch.device) -> Int[Tensor, "*rows n"]:
        """Slots of the next ``n`` tokens, if none are given: after those read."""
        after = torch.arange(n, device=device)
        if self._last is None:
            return self._n_read + after
        return self._last[..., None] + 1 + after

    def arrivals(self, n: int, slots: Tensor | None) -> set[tuple[int, int]]:
        """For each row, how many slots were read, and will have been after ``n``
        tokens more.
        """
        if slots is None:
            if self._last is None:
                return {(self._n_read, self._n_read + n)}
            slots = self.following(n, self._last.device)
        if n == 0:
            return set()
        ends = slots.amax(dim=-1)
        pairs = torch.stack([self._latest(ends).expand_as(ends), ends], dim=-1) + 1
        return {(a, b) for a, b in pairs.reshape(-1, 2).tolist()}

    def undo(self) -> None:
        """Be as before the last tokens were read."""
        raise NotImplementedError

    def crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Forget the slots from ``n`` on, or from ``n[b]`` on in row ``b``."""
        raise NotImplementedError

    def check_crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Raise what :meth:`crop` would raise."""
        raise NotImplementedError

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was."""
        raise NotImplementedError

    def copy(self) -> Part:
        """A part that goes its own way from here."""
        raise NotImplementedError

    def place(
        self,
        slots: Tensor | None,
        B: int,
        T: int,
        device: torch.device,
        *,
        checked: bool = False,
    ) -> Int[Tensor, "*rows T"]:
        """Slots of new tokens: as is said, if they come after those read, else
        ``ValueError``; by default the next. ``checked``: this was asked before.
        """
        if self._last is not None and len(self._last) != B:
            raise ValueError(
                f"{type(self).__name__}: expected {len(self._last)} rows, as before; "
                f"got {B}. A cache serves one batch."
            )
        if slots is None:
            return self.following(T, device)
        if not checked:
            read = torch.tensor(self._n_read - 1) if self._last is None else self._last
            check_slots(slots, B, T, after=read.to(slots.device))
        return slots.long() if self._last is None else slots.long().expand(B, T)

    def _latest(self, like: Tensor) -> Tensor:
        """The last slot read of each row, or of all."""
        if self._last is None:
            return torch.full_like(like, self._n_read - 1, dtype=torch.long)
        return self._last

    def _advance(self, slots: Tensor) -> None:
        if slots.shape[-1] and slots.ndim == 2:
            ends = slots.amax(dim=-1)
            self._last = torch.maximum(self._latest(ends), ends)
        elif slots.shape[-1]:
            self._n_read = max(self._n_read, int(slots.max()) + 1)

    def _ends(self, n: Any, B: int) -> Tensor:
        """Where a row is to be cut, checked."""
        ends = torch.as_tensor(n)
        if ends.shape not in ((), (B,)) or not is_integer(ends) or (ends < 0).any():
            raise ValueError(
                "crop: expected a number of slots >= 0 to keep, or one for each of "
                f"{B} rows; got {n!r}."
            )
        return ends.cpu()

    def _cut(self, ends: Tensor) -> None:
        """Have read no slot from ``ends`` on: (B,) or ()."""
        if self._last is None and ends.ndim == 0:
            self._n_read = min(self._n_read, int(ends))
        else:
            self._last = torch.minimum(self._latest(ends), ends - 1)
        self._before = None


class AllOrNothing:
    """A block of code; if it raises, ``caches`` (some may be ``None``) are as before.

    >>> from mattn import KVCache
    >>> cache = KVCache(3)
    >>> try:
    ...     with AllOrNothing([cache]):
    ...         _ = cache.extend(*torch.zeros(2, 1, 1, 2, 4))
    ...         raise ValueError
    ... except ValueError:
    ...     cache.length
    0
    """

    def __init__(self, caches: Iterable[Part | None]):
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


def check_slots(slots: Tensor, B: int, T: int, *, after: Tensor | None = None) -> None:
    """Integers, one for each token, that grow along a row (``after`` those read).

    Negative ones mark places without a token and may stand anywhere. A slot that
    came before would mean two tokens.
    """
    if not is_integer(slots) or tuple(slots.shape) not in ((T,), (B, T)):
        raise ValueError(
            f"expected integer slots ({T},) or ({B}, {T}), one for each token; got "
            f"{str(slots.dtype).removeprefix('torch.')} {tuple(slots.shape)}."
        )
    if not T:
        return
    slots = slots.long()
    if after is None:
        after = slots.new_full(slots.shape[:-1], -1)
    rows = torch.broadcast_shapes(after.shape, slots.shape[:-1])
    after, slots = after.expand(rows), slots.expand(*rows, T)
    reached = torch.cat([after[..., None], slots[..., :-1]], dim=-1)
    back = (slots >= 0) & (slots <= reached.cummax(dim=-1).values)
    if back.any():
        place = back.nonzero()[0].tolist()
        row = slots if slots.ndim == 1 else slots[place[0]]
        raise ValueError(
            "expected slots that grow from token to token, after those that a "
            f"cache holds; got {int(row[place[-1]])} for token {place[-1]} of "
            f"{row.tolist()}. A slot says which token of its row this is; where it "
            "stands for its embedding is said by `positions`, which may restart."
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
