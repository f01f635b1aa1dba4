"""What a rule is, how rules combine, and what machines ask of them.

Chapter 2 builds such rules and joins them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mattn.masks import spans as _spans
from mattn.masks.matrices import described, is_count, to_additive
from mattn.masks.spans import Spans
from mattn.reach import Reach
from mattn.slots import is_integer

__all__ = ["UNTOLD", "Mask", "default_slots"]

# Cells that are looked at in one piece, and at most in all: memory, and time.
_AT_ONCE, _AT_MOST = 2**22, 2**26
_ALL = slice(None)


class Mask:
    """A rule: may the query in slot ``q`` see the key in slot ``k``?

    Slots count the tokens of a sequence from 0. Query ``i`` of a shorter block
    of ``Tq`` queries is in slot ``Tk − Tq + i``: its last query is as late as
    the last key (*bottom-right alignment*). Caches and left-padded batches
    carry explicit slots (:meth:`at`); there a negative key slot holds no
    token, and no rule ever lets it be seen.

    Make one of any function with :func:`rule`; combine with ``&``, ``|``, ``~``.
    """

    batch: int | None = None
    """Rows of the batch that the rule tells apart; ``None``: it tells none."""
    n_slots: int | None = None
    """Slots that the rule speaks of; ``None``: of any number."""
    bound: Reach = Reach()
    """How far it looks at most, promised for sequences of every length."""
    band: bool = False
    """Whether it allows *all* that its bound allows, as ``causal`` does."""

    def allowed(self, b: Any, q: Tensor, k: Tensor) -> Tensor:
        """The rule itself, on broadcastable index tensors.

        ``b`` is the row of the batch, ``q`` and ``k`` are slots; the result is
        boolean, ``True`` = may attend.
        """
        raise NotImplementedError

    def at(
        self, q_slots: Int[Tensor, "*#batch Tq"], k_slots: Int[Tensor, "*#batch Tk"]
    ) -> Bool[Tensor, "*rows Tq Tk"]:
        """The boolean matrix for explicit slots, ``(Tq,)`` or ``(B, Tq)``.

        >>> from mattn import causal
        >>> causal.at(torch.tensor([2]), torch.tensor([4, 1, 2, -1]))
        tensor([[False,  True,  True, False]])
        """
        q, k = self._checked(q_slots, k_slots)
        return self._render(q, k)

    def __getitem__(self, pair: Any) -> Any:
        """``mask[q, k]``: may the query in slot q see the key in slot k?

        A bool for two numbers; for slots, slot by slot, a boolean tensor, of
        which a rule that tells the rows of a batch apart gives one for each.

        >>> from mattn import causal
        >>> causal[2, 1], causal[1, 2]
        (True, False)
        >>> causal[torch.tensor([2, 2, 2]), torch.tensor([4, 1, -1])]
        tensor([False,  True, False])
        """
        if not isinstance(pair, tuple) or len(pair) != 2:
            raise ValueError(
                f"{self!r}: expected a query and a key, mask[q, k]; got {pair!r}."
            )
        numbers = [is_count(slot, least=-(2**62)) for slot in pair]
        given = [
            torch.tensor([int(slot)]) if number else slot
            for slot, number in zip(pair, numbers, strict=True)
        ]
        seen = self._render(*self._checked(*given), grid=False)
        if not all(numbers):
            return seen
        return bool(seen) if self.batch is None else seen[:, 0]

    __iter__ = None  # without it Python would ask for mask[0], mask[1], …

    def pairs(
        self, n_queries: int, n_keys: int | None = None, *, block: int = 1
    ) -> int:
        """Pairs of query and key that are allowed, exactly; with ``block``, pairs
        of blocks of so many queries and keys in which any is.

        Arithmetic where the rule knows its shape; else every cell of its hull is
        looked at. Rows of a batch that are told apart are added up.

        >>> from mattn import causal, window
        >>> causal.pairs(4096), causal.pairs(4096, block=128)
        (8390656, 528)
        >>> (causal & window(512)).pairs(4096, block=128)
        150
        """
        if not is_count(block, least=1):
            raise ValueError(f"{self!r}: expected blocks of >= 1; got {block!r}.")
        hull = self.hull(n_queries, n_keys)
        q, k = default_slots(n_queries, n_keys)
        if hull.exact:
            return hull.n_pairs if block == 1 else _spans.n_blocks(hull, len(k), block)
        looked = self._look(q, len(k), hull)
        if block == 1:
            return sum(int(cells.sum()) for _, cells, _ in looked)
        seen = torch.zeros(len(hull.first), -(-len(q) // block), -(-len(k) // block))
        for _, cells, (rows, start) in looked:
            keys = (start + torch.arange(cells.shape[-1])) // block
            some = cells.new_zeros(*cells.shape[:-1], seen.shape[-1]).float()
            some.index_add_(-1, keys, cells.float())
            seen.index_add_(1, torch.arange(len(q))[rows] // block, some)
        return int((seen > 0).sum())

    def matrix(
        self,
        n_queries: int,
        n_keys: int | None = None,
        *,
        queries: slice = _ALL,
        keys: slice = _ALL,
        device: torch.device | str | None = None,
    ) -> Bool[Tensor, "*rows Tq Tk"]:
        """The boolean matrix, ``True`` = may attend: ``(Tq, Tk)``, or
        ``(B, Tq, Tk)`` for a rule that tells the rows of a batch apart.

        Of a large matrix some ``queries`` and ``keys`` alone can be asked for.

        >>> from mattn import causal
        >>> causal.matrix(2, 3)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
        """
        q, k = default_slots(n_queries, n_keys, device=device)
        self._check_length(len(k))
        return self._render(q[queries], k[keys], gaps=False)

    def additive(
        self,
        n_queries: int,
        n_keys: int | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str | None = None,
    ) -> Float[Tensor, "*rows Tq Tk"]:
        """The additive matrix: 0 where attention is allowed, −∞ elsewhere."""
        return to_additive(self.matrix(n_queries, n_keys, device=device), dtype=dtype)

    def predicate(
        self, n_queries: int, n_keys: int | None = None
    ) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """The rule as FlexAttention's ``mask_mod(b, h, q_idx, kv_idx)``.

        FlexAttention counts queries from 0; the predicate shifts them to
        their slots.
        """
        n_keys = n_queries if n_keys is None else n_keys
        self._check_length(n_keys)
        offset = n_keys - n_queries

        def mask_mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
            return self.allowed(b, q_idx + offset, kv_idx)

        return mask_mod

    def hull(
        self,
        n_queries: int,
        n_keys: int | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> Spans:
        """Stretches of keys outside which no query sees anything: arithmetic, at
        any length; exact where the rule knows its own shape.

        >>> from mattn import causal, window
        >>> (causal & window(2)).hull(3).first
        tensor([[0, 0, 1]])
        """
        q, k = default_slots(n_queries, n_keys, device=device)
        self._check_length(len(k))
        return self._hull(q, len(k))

    def spans(
        self,
        n_queries: int,
        n_keys: int | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> Spans:
        """The stretch of keys that each query sees, from its first key to its last.

        Where the :meth:`hull` is exact, these are its stretches. Elsewhere the
        cells inside it are looked at, some rows at a time; where that would be
        more than 2²⁶ cells, the hull itself is the answer. Queries that see
        nothing have an empty stretch that keeps the order, if one can.
        """
        found = self.hull(n_queries, n_keys, device=device)
        if not found.exact and found.n_pairs <= _AT_MOST:
            q, k = default_slots(n_queries, n_keys, device=device)
            parts = [s for s, _, _ in self._look(q, len(k), found)]
            found = Spans(
                torch.cat([found.first[:, :0], *(s.first for s in parts)], dim=1),
                torch.cat([found.end[:, :0], *(s.end for s in parts)], dim=1),
                all(s.exact for s in parts),
            )
        return _in_order(found)

    def reach(self, n: int | None = None) -> Reach:
        """How far the rule looks: what is promised for every length, or, with
        ``n``, what is found by looking, which is true for up to ``n`` slots.

        >>> from mattn import causal, prefix, window
        >>> (causal & (window(64) | prefix(4))).reach()
        Reach(behind=64, ahead=0, sinks=4)
        """
        if n is None or self.bound.size < n or not n:
            return self.bound
        q, k = default_slots(n)
        last = torch.full((n,), -1)  # the last query that sees each key
        ahead = -math.inf
        for part, allowed, (rows, start) in self._look(q, n, self._hull(q, n)):
            seen = part.end > part.first
            furthest = (part.end - 1 - q[rows])[seen]
            ahead = max(ahead, furthest.max().item() if len(furthest) else ahead)
            by_key = allowed.any(dim=0)  # (n rows, width)
            late = q[rows][-1] - by_key.flip(0).view(torch.uint8).argmax(dim=0)
            keys = slice(start, start + by_key.shape[-1])
            last[keys] = torch.where(by_key.any(dim=0), late, last[keys])
        # Keeping the first s slots as sinks, how far behind are the other keys?
        behind = (last - k + 1).float().masked_fill(last < 0, -torch.inf)
        furthest = torch.cat([behind.flip(0).cummax(0).values.flip(0), _NOTHING])
        kept = furthest.clamp(min=0) + torch.arange(n + 1)
        sinks = int(kept.argmin())
        return Reach(_number(furthest[sinks]), _number(ahead), sinks)

    def waits(self, n_read: int, n_total: int) -> tuple[int, int] | None:
        """A query below slot ``n_read`` and a key from ``n_read`` to ``n_total − 1``
        that it may see, or ``None``: had a cache read so far, that query would
        have been answered too early.

        >>> from mattn import causal, prefix
        >>> (causal | prefix(4)).waits(3, 10), (causal | prefix(4)).waits(4, 10)
        ((0, 3), None)
        """
        ahead = self.bound.ahead
        if ahead <= 0 or n_read >= n_total:
            return None
        first = max(0, n_read - ahead) if ahead < math.inf else 0
        end = min(n_total, n_read + ahead) if ahead < math.inf else n_total
        later = torch.arange(n_read, int(end))
        rows = max(1, _AT_ONCE // max(1, len(later) * (self.batch or 1)))
        for read in torch.arange(int(first), n_read).split(rows):
            seen = self.at(read, later)
            if seen.any():
                q, k = seen.nonzero()[0, -2:].tolist()
                return int(read[q]), int(later[k])
        return None

    def _hull(self, q: Tensor, n_keys: int) -> Spans:
        """For a rule that knows nothing of its shape: what its bound says."""
        behind, ahead, sinks = self.bound
        first, end = torch.zeros_like(q), torch.full_like(q, n_keys)
        if -math.inf < ahead < math.inf:
            end = (q + int(ahead) + 1).clamp(0, n_keys)
        if -math.inf < behind < math.inf and not sinks:
            first = (q - int(behind) + 1).clamp(0, n_keys)
        if behind == -math.inf:
            end = end.clamp(max=sinks)
        rows = 1 if self.batch is None else self.batch
        first = torch.minimum(first, end).expand(rows, -1)
        return Spans(first, end.expand(rows, -1), exact=False)

    def _look(
        self, q: Tensor, n_keys: int, hull: Spans
    ) -> Iterator[tuple[Spans, Tensor, tuple[slice, int]]]:
        """Cells inside the hull, some rows of queries at a time.

        Yields their spans, the cells (rows of the batch, n, width), and where
        these are: which queries, and the first key.
        """
        rows = max(1, len(hull.first))
        step = max(1, _AT_ONCE // max(1, rows * n_keys))
        for i in range(0, len(q), step):
            queries = slice(i, i + step)
            start, end = 0, 0
            if hull.first.numel():
                start = int(hull.first[:, queries].min())
                end = max(start, int(hull.end[:, queries].max()))
            keys = torch.arange(start, end, device=q.device)
            allowed = self._render(q[queries], keys, gaps=False)
            allowed = allowed[None] if allowed.ndim == 2 else allowed
            yield _spans.looked(allowed, start), allowed, (queries, start)

    def _check_length(self, n_keys: int) -> None:
        if self.n_slots is not None and self.n_slots < n_keys:
            raise ValueError(
                f"{self!r}: expected an id for each of {n_keys} slots; got "
                f"{self.n_slots} ids. Give an id for every token, cached and later "
                "ones included."
            )

    def _checked(self, *given: Tensor) -> list[Tensor]:
        """Slots that the rule speaks of, as integers of 64 bits."""
        for slots in given:
            if not is_integer(slots):
                raise ValueError(
                    f"{self!r}: expected slots of an integer dtype; got "
                    f"{described(slots)}. Slots count tokens: torch.arange(T)."
                )
        if self.n_slots is not None:
            self._check_length(
                max((int(s.max()) for s in given if s.numel()), default=-1) + 1
            )
        return [slots.long() for slots in given]  # unsigned, −1 is large

    def _render(
        self, q: Tensor, k: Tensor, *, grid: bool = True, gaps: bool = True
    ) -> Tensor:
        """The rule on slots; with ``gaps``, keys below 0 hold no token."""
        got, n_axes = (tuple(q.shape), tuple(k.shape)), 1
        if grid:
            q, k, n_axes = q[..., :, None], k[..., None, :], 2  # (…, Tq, 1), (…, 1, Tk)
        b: Tensor = UNTOLD
        slots = [q, k]
        if self.batch is not None:
            b = torch.arange(self.batch, device=q.device).view(-1, *(1,) * n_axes)
            slots.append(b)
        try:
            shape = torch.broadcast_tensors(*slots)[0].shape
        except RuntimeError:
            expected = "one batch" if self.batch is None else f"{self.batch} rows"
            raise ValueError(
                f"{self!r}: expected slots (T,) or (B, T) for {expected}; got query "
                f"slots {got[0]} and key slots {got[1]}. Build rule and slots from the "
                "same batch."
            ) from None
        allowed = self.allowed(b, q, k)
        return (allowed & (k >= 0) if gaps else allowed).expand(shape)

    def _know(self, **said: Any) -> None:
        """Say what is known of the rule; rules are frozen once they are made."""
        for name, value in said.items():
            object.__setattr__(self, name, value)

    def __and__(self, other: Mask) -> Mask:
        return _Pair(self, _member(other), "&")

    def __or__(self, other: Mask) -> Mask:
        return _Pair(self, _member(other), "|")

    def __invert__(self) -> Mask:
        return _Not(self)


_JOIN: dict[str, Callable[[Any, Any], Any]] = {"&": operator.and_, "|": operator.or_}


@dataclass(frozen=True, eq=False, repr=False)
class _Pair(Mask):
    """Allowed by both rules, or by either: what they say is joined by the sign."""

    left: Mask
    right: Mask
    sign: str

    def __post_init__(self):
        left, right = self.left.batch, self.right.batch
        if None not in (left, right) and left != right:
            raise ValueError(
                f"{self!r}: expected rules for the same rows of a batch; got {left} "
                f"and {right}. Build both from the same batch."
            )
        for name in ("batch", "n_slots"):
            sizes = (getattr(of, name) for of in (self.left, self.right))
            least = min((n for n in sizes if n is not None), default=None)
            self._know(**{name: least})
        bounds = self.left.bound, self.right.bound
        # Of two bands with sinks, the bound is a bound alone.
        both = self.sign == "&" and self.left.band and self.right.band
        band = both and not any(bound.sinks for bound in bounds)
        self._know(bound=_JOIN[self.sign](*bounds), band=band)

    def allowed(self, b: Any, q: Tensor, k: Tensor) -> Tensor:
        left, right = self.left.allowed(b, q, k), self.right.allowed(b, q, k)
        return _JOIN[self.sign](left, right)

    def _hull(self, q: Tensor, n_keys: int) -> Spans:
        left, right = self.left._hull(q, n_keys), self.right._hull(q, n_keys)
        return _JOIN[self.sign](left, right)

    def __repr__(self) -> str:
        return f"({self.left!r} {self.sign} {self.right!r})"


@dataclass(frozen=True, eq=False, repr=False)
class _Not(Mask):
    """Allowed where the rule forbids; an empty slot stays forbidden."""

    of: Mask
    bound = Reach()  # how far a rule looks says nothing about the rest

    def __post_init__(self):
        self._know(batch=self.of.batch, n_slots=self.of.n_slots)

    def allowed(self, b: Any, q: Tensor, k: Tensor) -> Tensor:
        return ~self.of.allowed(b, q, k)

    def _hull(self, q: Tensor, n_keys: int) -> Spans:
        return self.of._hull(q, n_keys).complement(n_keys)

    def __repr__(self) -> str:
        return f"~{self.of!r}"


def default_slots(
    n_queries: int,
    n_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, " Tq"], Int[Tensor, " Tk"]]:
    """Bottom-right aligned: queries ``Tk − Tq … Tk − 1``, keys ``0 … Tk − 1``."""
    n_keys = n_queries if n_keys is None else n_keys
    if not (is_count(n_queries, least=0) and is_count(n_keys, least=0)):
        raise ValueError(
            f"expected sizes >= 0; got {n_queries!r} queries and {n_keys!r} keys."
        )
    slots = torch.arange(min(0, n_keys - n_queries), n_keys, device=device)
    return slots[len(slots) - n_queries :], slots[len(slots) - n_keys :]


class _Untold(Tensor):
    """An argument that a rule may not read: whatever is done with it raises.

    Row 0 would do for every row of a batch, silently.
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise ValueError(
            "expected a rule of the slots q and k alone; got a function that looks at "
            "its row of the batch or at its head. If it is the row, say how many there "
            "are: rule(…, batch=B). A rule is the same for all heads; a mask for each "
            "head is a boolean tensor (B, H, Tq, Tk)."
        )


UNTOLD = torch.zeros(1, dtype=torch.long).as_subclass(_Untold)


def _in_order(found: Spans) -> Spans:
    """Empty stretches moved to where the stretches before them end."""
    empty = found.first == found.end
    if not bool(empty.any()):
        return found
    ends = torch.where(empty, 0, found.end).cummax(dim=-1).values
    first = torch.where(empty, ends, found.first)
    return Spans(first, torch.where(empty, ends, found.end), found.exact)


def _member(other: object) -> Mask:
    if not isinstance(other, Mask):
        raise ValueError(
            f"expected a mask rule to combine with; got {type(other).__name__}. "
            "Make one of a function with rule(…); render a rule with .matrix(Tq, Tk) "
            "to combine it with a tensor."
        )
    return other


_NOTHING = torch.tensor([-torch.inf])


def _number(value: Any) -> float:
    value = float(value)
    return int(value) if math.isfinite(value) else value
