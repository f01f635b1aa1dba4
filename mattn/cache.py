"""Keys and values already seen, so that a step computes one query, not all.

Key and value of a token depend on that token and those before it, which no
later token changes: what was computed once can be kept. How much has to be
kept is for the mask to say: a cache is told its *reach*, and knows no mask.
Derived in chapter 5.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mattn.reach import Reach
from mattn.slots import Part, check_rows, is_integer

__all__ = ["Cache", "KVCache"]


EVERYTHING = Reach()


class KVCache(Part):
    """Keys, values and slots of one attention layer.

    ``capacity`` is how many tokens of a row it holds. A rule of bounded ``reach``
    needs no more than ``reach.size``, the first ``sinks`` of a row and its last
    ``behind``: where that is less, what no later query can see is written over,
    and rows may be of any length. Memory is taken at the first use, in the dtype
    of the first keys.

    A call that raises leaves the cache as it was. What is kept is cut off from
    the graph, so a backward pass that reaches it raises ``ValueError``: a
    model is trained without a cache.

    >>> from mattn import causal, window
    >>> cache = KVCache(reach=(causal & window(2)).reach())
    >>> for step in torch.randn(9, 2, 1, 1, 1, 4):
    ...     keys, values, slots = cache.extend(*step)
    >>> slots
    tensor([8, 7])
    """

    wraps: bool
    """Whether tokens are written over that no later query can see."""
    # These are there as soon as _k is.
    _v: Tensor
    _slots: Tensor

    def __init__(self, capacity: int | None = None, *, reach: Reach = EVERYTHING):
        whole = capacity is None or (hasattr(capacity, "__index__") and capacity >= 1)
        if not whole or (capacity is None and reach.size == math.inf):
            raise ValueError(
                f"KVCache: expected capacity >= 1 tokens; got {capacity!r}. None is "
                "needed only where a rule's reach is bounded, and said: "
                "KVCache(reach=rule.reach())."
            )
        super().__init__()
        self.capacity = capacity
        if capacity is None or reach.size <= capacity:
            self.wraps = True
            self._sinks, self._behind = reach.sinks, int(max(reach.behind, 0))
        else:
            self.wraps = False
            self._sinks, self._behind = 0, capacity
        self._k: Tensor | None = None
        self._chosen = False  # whether keep() has left slots out

    @property
    def n_held(self) -> int:
        """Tokens of a row that it has room for."""
        return max(1, self._sinks + self._behind)

    @property
    def counted(self) -> bool:
        """Whether it holds the slots 0, 1, 2, … of every row, in this order."""
        alike = self._last is None and not self._chosen
        return alike and self._n_read <= self.n_held

    def extend(
        self,
        k: Float[Tensor, "B H T D"],
        v: Float[Tensor, "B H T Dv"],
        slots: Int[Tensor, "*rows T"] | None = None,
        *,
        checked: bool = False,
    ) -> tuple[
        Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"], Int[Tensor, "*rows S"]
    ]:
        """Add ``T`` tokens; return all keys, values and slots to attend to.

        ``slots``, by default the next ones, are negative where a row holds no
        token; the others grow from token to token, also from call to call. Who has
        asked ``place`` about them says that they are ``checked``.
        """
        self._check(k, v, slots)
        n, counted = k.shape[2], slots is None and self._last is None
        slots = self.place(slots, len(k), n, k.device, checked=checked)
        at = self._places(slots, counted)
        # The first query of a chunk may see a key that the chunk's last key writes
        # over: attend to old and new, then write.
        old = self.contents() if self.wraps and n > 1 and self._k is not None else None
        seen = (k, v, slots)
        if old is not None:
            held = old[2].expand(*slots.shape[:-1], -1)
            keys, values = (torch.cat(pair, 2) for pair in ((old[0], k), (old[1], v)))
            seen = (keys, values, torch.cat([held, slots], -1))
        self._write(k.detach(), v.detach(), slots, at)
        if not self.wraps or n == 1:
            seen = self.contents()
        if torch.is_grad_enabled() and (k.requires_grad or v.requires_grad):
            return _Kept.apply(seen[0], k), _Kept.apply(seen[1], v), seen[2]
        return seen

    def contents(
        self,
    ) -> tuple[
        Float[Tensor, "B H S D"], Float[Tensor, "B H S Dv"], Int[Tensor, "*rows S"]
    ]:
        """Keys, values and slots held now; slot −1 where a row holds no token."""
        keys = self._used()
        n = min(self.length, self.n_held)
        return keys[:, :, :n], self._v[:, :, :n], self._slots[..., :n]

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was.

        Beam search calls it whenever hypotheses change places; ``rows`` may
        be longer or shorter than the batch.
        """
        keys = self._used()
        check_rows(rows, len(keys))
        self._k, self._v = keys[rows], self._v[rows]
        if self._last is not None:
            self._slots, self._last = self._slots[rows], self._last[rows]
        self._before = None

    def crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Forget the slots from ``n`` on, or from ``n[b]`` on in row ``b``: a draft
        that was rejected.

        Where a query of slot ``n`` would miss a key that has been written over,
        that is an error, and nothing is cut.
        """
        self.check_crop(n)
        if self._k is None:
            return
        ends = torch.as_tensor(n, device=self._k.device)
        if ends.ndim:
            self._tell_rows_apart(len(self._k))
        self._slots = self._slots.masked_fill(self._slots >= ends[..., None], -1)
        self._cut(ends)

    def check_crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Raise what :meth:`crop` would raise."""
        ends = self._ends(n, 1 if self._k is None else len(self._k))
        if not self.wraps or self._k is None:
            return
        last = self._latest(ends).cpu()
        # A query sees the last `behind` slots up to its own, and the sinks.
        wanted = (ends - self._behind + 1).clamp(min=self._sinks)
        lost = (ends <= last) & (wanted < ends) & (wanted <= last - self._behind)
        if lost.any():
            raise ValueError(
                "crop: expected to keep slots of which the last "
                f"{self._behind - 1} are still held; got {n!r}, after {self.length} "
                "slots were read, and older ones written over. Copy the cache before "
                "it reads a draft, or read the sequence anew."
            )

    def keep(self, slots: Int[Tensor, "*rows N"]) -> None:
        """Forget all but these slots, ``(N,)`` or ``(B, N)``: no query sees the
        others any more.
        """
        B = len(self._used())
        if not is_integer(slots) or slots.shape[:-1] not in ((), (B,)):
            raise ValueError(
                f"keep: expected integer slots (N,) or ({B}, N); got "
                f"{slots.dtype} {tuple(slots.shape)}."
            )
        if slots.ndim == 2:
            self._tell_rows_apart(B)
        same = self._slots[..., :, None] == slots[..., None, :]  # (…, S, N)
        held = same.any(dim=-2)
        if not held.all():
            missing = slots.expand(held.shape)[~held].tolist()
            raise ValueError(
                f"keep: expected slots that are held; got {missing[:5]}, which are "
                "not. They were never read, or are out of the rule's reach."
            )
        self._slots = self._slots.masked_fill(~same.any(dim=-1), -1)
        self._chosen, self._before = True, None

    def copy(self) -> KVCache:
        """A cache that goes its own way from here."""
        twin = copy.copy(self)
        if self._k is not None:
            twin._k, twin._v = self._k.clone(), self._v.clone()
            twin._slots = self._slots.clone()
        twin._before, twin._guards = None, 0
        return twin

    def undo(self) -> None:
        self._last, self._n_read, slots, at, old = self._before
        if slots is None:
            self._k = None
            return
        self._slots = slots
        if old is not None:
            self._used()[at], self._v[at] = old

    def _check(self, k: Tensor, v: Tensor, slots: Tensor | None) -> None:
        """All that is needed of new tokens, but for the order of their slots."""
        fits = k.ndim == v.ndim == 4 and v.shape[:3] == k.shape[:3]
        if slots is not None:
            fits = fits and slots.ndim in (1, 2) and slots.shape[-1] == k.shape[2]
        if not fits:
            got = "none" if slots is None else tuple(slots.shape)
            raise ValueError(
                "KVCache: expected keys (B, H, T, D), values (B, H, T, Dv) and "
                f"slots (T,) or (B, T); got {tuple(k.shape)}, {tuple(v.shape)} "
                f"and {got}. Each token has one of each."
            )
        if self._k is None:
            return
        if k.shape[:2] != self._k.shape[:2]:
            raise ValueError(
                f"KVCache: expected {tuple(self._k.shape[:2])} rows and heads, as "
                f"before; got {tuple(k.shape[:2])}. A cache serves one layer and one "
                "batch."
            )
        for new, held in ((k, self._k), (v, self._v)):
            kind = (new.shape[-1], new.dtype, new.device)
            if kind != (held.shape[-1], held.dtype, held.device):
                raise ValueError(
                    f"KVCache: expected {held.shape[-1]} features of {held.dtype} "
                    f"on {held.device}, as before; got {kind[0]} of {kind[1]} on "
                    f"{kind[2]}. A cache serves one layer as it is: make a new one."
                )

    def _used(self) -> Tensor:
        """The keys, if any were read."""
        if self._k is None:
            raise ValueError(
                "KVCache: expected tokens; got none yet. Call extend first."
            )
        return self._k

    def _tell_rows_apart(self, B: int) -> None:
        if self._last is None:
            self._slots = self._slots.expand(B, -1).clone()
            self._last = torch.full((B,), self._n_read - 1, device=self._slots.device)

    def _places(self, slots: Tensor, counted: bool) -> tuple[tuple, tuple]:
        """Where in keys and values new tokens go, and which of them do.

        A slot has its place: a sink its own, the others one after the other, round
        and round. So rows of different lengths need no special case.
        """
        every, n, start = slice(None), slots.shape[-1], self._n_read
        if counted and (n == 1 or start + n <= self.n_held):  # usual, and quick
            if not self.wraps and start + n > self.n_held:
                self._refuse(start + n)
            column = int(self._place_of(start)) if self.wraps else start
            if n > 1 or not self.wraps or self._behind or start < self._sinks:
                run = slice(column, column + n)
                return (every, every, run), (every, every, every)
        place, stays = self._place_of(slots), slots >= 0
        if self.wraps and n:
            last = slots.amax(dim=-1, keepdim=True)
            stays = stays & ((last - slots < self._behind) | (slots < self._sinks))
        *rows, columns = stays.nonzero(as_tuple=True)
        at, which = (*rows, place[stays]), (*rows, columns)
        if not self.wraps:
            self._check_room(slots, at)
        if rows:
            return (at[0], every, at[1]), (which[0], every, which[1])
        return (every, every, at[0]), (every, every, which[0])

    def _place_of(self, slots: Any) -> Any:
        turning = self._sinks + (slots - self._sinks) % max(self._behind, 1)
        if isinstance(slots, int):
            return slots if slots < self._sinks else turning
        return torch.where(slots < self._sinks, slots, turning)

    def _check_room(self, slots: Tensor, at: tuple) -> None:
        """No token may take the place of another, old or new."""
        free = torch.ones(1, dtype=torch.bool)
        if self._k is not None:
            table = self._slots if len(at) == 1 else self._slots.expand(len(slots), -1)
            free = table[at] < 0
        real = slots[slots >= 0]
        width = int(real.max() - real.min()) + 1 if real.numel() else 0
        if slots.shape[-1] > self.n_held < width or not free.all():
            self._refuse(max(self.length, int(real.max()) + 1))

    def _refuse(self, n: int) -> None:
        raise ValueError(
            f"KVCache: expected at most {self.capacity} tokens; got {n}. Make the "
            "cache larger, or use a rule of bounded reach, such as causal & window(w)."
        )

    def _write(self, k: Tensor, v: Tensor, slots: Tensor, places: tuple) -> None:
        B, H, _, D = k.shape
        at, which = places
        before: tuple = self._last, self._n_read, None
        if self._k is None:
            # Zeros: a hidden value counts 0 times, and 0 · NaN would be NaN.
            self._k = k.new_zeros(B, H, self.n_held, D)
            self._v = k.new_zeros(B, H, self.n_held, v.shape[-1])
            self._slots = slots.new_full((self.n_held,), -1)
        else:
            before = self._last, self._n_read, self._slots
        if self._guards:
            # A key is kept only where an error could want it back.
            old = (self._k[at], self._v[at]) if self.wraps else None
            self._before = *before, at, old
            self._slots = self._slots.clone()
        if slots.ndim == 2:
            self._tell_rows_apart(B)
        self._k[at], self._v[at] = k[which], v[which]
        axes = slice(2, 3) if slots.ndim == 1 else slice(0, 3, 2)
        self._slots[at[axes]] = slots[which[axes]]
        self._advance(slots)


class Cache:
    """What a model has read, all parts together.

    ``own`` holds keys and values of each layer's tokens, ``cross`` those of the
    source in an encoder–decoder, ``recent`` the last tokens, for n-grams. Made
    by a model's ``new_cache``.
    """

    def __init__(
        self,
        own: Sequence[KVCache],
        cross: Sequence[KVCache] = (),
        recent: Part | None = None,
    ):
        self.own, self.cross, self.recent = list(own), list(cross), recent

    @property
    def parts(self) -> list[Part]:
        """All of them."""
        return [*self.own, *self.cross, *([self.recent] if self.recent else [])]

    @property
    def _growing(self) -> list[Part]:
        return [*self.own, *([self.recent] if self.recent else [])]

    @property
    def length(self) -> int:
        """Slots that were read in the longest row."""
        return self.own[0].length

    def crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Forget the slots from ``n`` on, or from ``n[b]`` on in row ``b``; see
        :meth:`KVCache.crop`. If one part cannot, none is cut.
        """
        for part in self._growing:
            part.check_crop(n)
        for part in self._growing:
            part.crop(n)

    def keep(self, slots: Int[Tensor, "*rows N"]) -> None:
        """Forget all keys but those of these slots; see :meth:`KVCache.keep`."""
        twins = [part.copy() for part in self.own]
        for part in twins:
            part.keep(slots)
        self.own = twins

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was."""
        for part in self.parts:
            part.reorder(rows)

    def copy(self) -> Cache:
        """A cache that goes its own way from here: what a draft is read with."""
        own, cross = ([p.copy() for p in parts] for parts in (self.own, self.cross))
        return Cache(own, cross, self.recent and self.recent.copy())


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
    def backward(ctx, *grads):
        raise ValueError(
            "KVCache: expected no backward pass, as keys and values are kept without "
            "their graph; got one. Train without a cache, and decode under "
            "torch.no_grad()."
        )
