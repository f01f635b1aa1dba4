"""Masks as rules.

A mask answers one question: *may the query at position i see the key at
position j?*  This module holds the answers as rules, which combine with
``&`` (and), ``|`` (or) and ``~`` (not), and renders them as

* a boolean matrix, ``True`` = may attend       — :meth:`Mask.matrix`,
* an additive matrix, 0 = may attend, −∞ = not  — :meth:`Mask.additive`,
* the predicate that FlexAttention takes        — :meth:`Mask.predicate`.

All three come from one function of positions, so they cannot disagree.
Derived in chapter 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = [
    "And",
    "Causal",
    "Documents",
    "Full",
    "Mask",
    "Not",
    "Or",
    "Padding",
    "Prefix",
    "Window",
    "boolean_power",
    "causal",
    "default_positions",
    "documents",
    "full",
    "padding",
    "prefix",
    "to_additive",
    "window",
]


class Mask:
    """A rule: may the query at position ``q`` see the key at position ``k``?

    Positions count tokens from 0. Query ``i`` of a shorter block of ``Tq``
    queries stands at position ``Tk − Tq + i``: its last query is as late as
    the last key (*bottom-right alignment*). Caches and left-padded batches
    carry explicit positions (:meth:`at`); there a negative key position
    marks a slot that holds no token, and no rule ever lets it be seen.
    """

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        """The rule itself, on broadcastable index tensors.

        ``b`` is the row of the batch, ``q`` and ``k`` are positions; the
        result is boolean, ``True`` = may attend. Only a rule that declares
        :attr:`batch` may look at ``b``.
        """
        raise NotImplementedError

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        """Key positions ``start ≤ k < stop`` outside which no query at positions
        ``first`` to ``last`` sees anything: what a block-wise form need not read.

        A bound, not the exact hull, and not cut to ``0 … n_keys``.

        >>> (causal & window(4)).key_range(8, 9, n_keys=16)
        (5, 10)
        """
        return 0, n_keys

    @property
    def batch(self) -> int | None:
        """Rows of the batch that the rule tells apart; ``None``: it tells none,
        and is not told them.
        """
        return None

    @property
    def n_positions(self) -> int | None:
        """Positions 0 … n − 1 that the rule speaks of; ``None``: of any number."""
        return None

    def at(
        self,
        q_positions: Int[Tensor, "*#batch Tq"],
        k_positions: Int[Tensor, "*#batch Tk"],
    ) -> Bool[Tensor, "*rows Tq Tk"]:
        """The boolean matrix for explicit positions, ``(Tq,)`` or ``(B, Tq)``.

        >>> causal.at(torch.tensor([2]), torch.tensor([4, 1, 2, -1]))
        tensor([[False,  True,  True, False]])
        """
        q, k = self._checked(q_positions, k_positions)
        return self._render(q, k) & (k >= 0)[..., None, :]

    def pairs(
        self,
        q_positions: Int[Tensor, "*#batch T"],
        k_positions: Int[Tensor, "*#batch T"],
    ) -> Bool[Tensor, "*rows T"]:
        """Of each query whether it may see *its* key: the two, position by position.

        >>> causal.pairs(torch.tensor([2, 2, 2]), torch.tensor([4, 1, -1]))
        tensor([False,  True, False])
        """
        q, k = self._checked(q_positions, k_positions)
        return self._render(q, k, grid=False) & (k >= 0)

    def matrix(
        self,
        n_queries: int,
        n_keys: int | None = None,
        *,
        device: torch.device | str | None = None,
    ) -> Bool[Tensor, "*rows Tq Tk"]:
        """The boolean matrix, ``True`` = may attend: ``(Tq, Tk)``, or
        ``(B, Tq, Tk)`` for a rule that tells the rows of a batch apart.

        Attention takes the matrix in place of the rule: as it is for q
        ``(B, Tq, D)``; for q ``(B, H, Tq, D)`` one by row has to say that it is
        for all heads, ``rule.matrix(Tq, Tk)[:, None]``.

        >>> causal.matrix(2, 3)
        tensor([[ True,  True, False],
                [ True,  True,  True]])
        """
        q, k = default_positions(n_queries, n_keys, device=device)
        self._check_length(len(k))
        return self._render(q, k)

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
        their positions.
        """
        n_keys = n_queries if n_keys is None else n_keys
        self._check_length(n_keys)
        offset = n_keys - n_queries

        def mask_mod(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
            return self.allowed(b, q_idx + offset, kv_idx)

        return mask_mod

    def _check_length(self, n_keys: int) -> None:
        if self.n_positions is not None and self.n_positions < n_keys:
            raise ValueError(
                f"{self!r}: expected one id for each of {n_keys} key positions; "
                f"got {self.n_positions} ids. Give an id for every token, "
                "cached ones included."
            )

    def _rows(self, n_axes: int, device: torch.device | str | None) -> Tensor:
        """The rows of the batch, before ``n_axes`` others, as the rule is told them."""
        if self.batch is None:
            return torch.zeros(1, dtype=torch.long).as_subclass(_Untold)
        return torch.arange(self.batch, device=device).view(-1, *[1] * n_axes)

    def _checked(self, *given: Tensor) -> list[Tensor]:
        """Positions of tokens that the rule speaks of, as integers of 64 bits."""
        for positions in given:
            if not _is_integer(positions):
                raise ValueError(
                    f"{self!r}: expected positions of an integer dtype; got "
                    f"{_name(positions)}. Positions count tokens: torch.arange(T)."
                )
        if self.n_positions is not None:
            last = max((int(p.max()) for p in given if p.numel()), default=-1)
            if last >= self.n_positions:
                raise ValueError(
                    f"{self!r}: expected positions below {self.n_positions}; "
                    f"got {last}. Give an id for every token, later ones included."
                )
        return [positions.long() for positions in given]  # unsigned, −1 is large

    def _render(self, q: Tensor, k: Tensor, *, grid: bool = True) -> Tensor:
        shapes, n_axes = (tuple(q.shape), tuple(k.shape)), 1
        if grid:
            q, k, n_axes = q[..., :, None], k[..., None, :], 2  # (…, Tq, 1), (…, 1, Tk)
        b = self._rows(n_axes, q.device)
        try:
            own = () if self.batch is None else (self.batch,)
            shape = torch.broadcast_shapes((*own, *[1] * n_axes), q.shape, k.shape)
        except RuntimeError:
            expected = "one batch" if self.batch is None else f"{self.batch} rows"
            raise ValueError(
                f"{self!r}: expected positions (T,) or (B, T) for {expected}; got "
                f"query positions {shapes[0]} and key positions {shapes[1]}. "
                "Build rule and positions from the same batch."
            ) from None
        return self.allowed(b, q, k).expand(shape)

    def __and__(self, other: Mask) -> Mask:
        return And(self, _rule(other))

    def __or__(self, other: Mask) -> Mask:
        return Or(self, _rule(other))

    def __invert__(self) -> Mask:
        return Not(self)


class _Untold(Tensor):
    """What a rule that declares no batch is given for its row: not to be read.

    Row 0 would do for every row, silently.
    """

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        raise ValueError(
            "expected a rule that looks at its row of the batch to say how many there "
            "are; got one whose `batch` is None. Give the rule a `batch`, the number "
            "of rows."
        )


# eq=False: rules hold tensors, so a rule is equal to itself and nothing else.
@dataclass(frozen=True, eq=False)
class Full(Mask):
    """Every query sees every key: the encoder's mask."""

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return torch.ones_like(k, dtype=torch.bool)

    def __repr__(self) -> str:
        return "full"


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    """A query sees the keys up to its own position: the decoder's mask."""

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k <= q

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        return 0, last + 1

    def __repr__(self) -> str:
        return "causal"


@dataclass(frozen=True, eq=False)
class Window(Mask):
    """Keys fewer than ``w`` positions back; hides nothing later."""

    w: int

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k > q - self.w  # q − k < w, without a Tq×Tk difference

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        return first - self.w + 1, n_keys

    def __repr__(self) -> str:
        return f"window({self.w})"


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """The first ``n`` keys."""

    n: int

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return k < self.n

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        return 0, self.n

    def __repr__(self) -> str:
        return f"prefix({self.n})"


@dataclass(frozen=True, eq=False)
class Documents(Mask):
    """Keys of the query's own document; ``ids`` by absolute position."""

    ids: Int[Tensor, "B T"]
    batched: bool

    @property
    def batch(self) -> int | None:
        return len(self.ids) if self.batched else None

    @property
    def n_positions(self) -> int:
        return self.ids.shape[-1]

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if self.n_positions == 0:
            return (q == k) & False  # an empty grid: there is no id to look up
        ids = self.ids.to(q.device)
        row = b if self.batched else 0
        # A query before position 0 (Tq > Tk) is in no document.
        same = ids[row, q.clamp(min=0)] == ids[row, k.clamp(min=0)]
        return same & (q >= 0) & (k >= 0)

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        own = self.ids[:, max(first, 0) : last + 1]
        if last < 0 or not own.numel():
            return 0, 0
        lowest, highest = own.amin(-1, keepdim=True), own.amax(-1, keepdim=True)
        near = ((lowest <= self.ids) & (self.ids <= highest)).any(0).nonzero()
        return int(near[0]), int(near[-1]) + 1

    def __repr__(self) -> str:
        return f"documents(shape={tuple(self.ids.shape)})"


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """Keys that hold a token: ``first <= key position < end``, by batch row."""

    first: Int[Tensor, " B"]
    end: Int[Tensor, " B"]

    @property
    def batch(self) -> int | None:
        return len(self.end)

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        first, end = self.first.to(k.device), self.end.to(k.device)
        return (first[b] <= k) & (k < end[b])

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        return self._span

    @functools.cached_property
    def _span(self) -> tuple[int, int]:
        if not len(self.end):
            return 0, 0
        return int(self.first.min()), int(self.end.max())

    def __repr__(self) -> str:
        return f"padding(first={self.first.tolist()}, end={self.end.tolist()})"


class _Pair(Mask):
    left: Mask
    right: Mask

    @property
    def batch(self) -> int | None:
        return self._agree("rows of a batch", self.left.batch, self.right.batch)

    @property
    def n_positions(self) -> int | None:
        return self._agree("positions", self.left.n_positions, self.right.n_positions)

    def _agree(self, what: str, left: int | None, right: int | None) -> int | None:
        if None not in (left, right) and left != right:
            raise ValueError(
                f"{self!r}: expected rules for the same {what}; got {left} and "
                f"{right}. Build both from the same batch."
            )
        return right if left is None else left


@dataclass(frozen=True, eq=False)
class And(_Pair):
    """Allowed by both rules."""

    left: Mask
    right: Mask

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.left.allowed(b, q, k) & self.right.allowed(b, q, k)

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        a, b = (r.key_range(first, last, n_keys) for r in (self.left, self.right))
        return max(a[0], b[0]), min(a[1], b[1])

    def __repr__(self) -> str:
        return f"({self.left!r} & {self.right!r})"


@dataclass(frozen=True, eq=False)
class Or(_Pair):
    """Allowed by either rule."""

    left: Mask
    right: Mask

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return self.left.allowed(b, q, k) | self.right.allowed(b, q, k)

    def key_range(self, first: int, last: int, n_keys: int) -> tuple[int, int]:
        a, b = (r.key_range(first, last, n_keys) for r in (self.left, self.right))
        return min(a[0], b[0]), max(a[1], b[1])

    def __repr__(self) -> str:
        return f"({self.left!r} | {self.right!r})"


@dataclass(frozen=True, eq=False)
class Not(Mask):
    """Allowed where the rule forbids; an empty slot stays forbidden."""

    rule: Mask

    @property
    def batch(self) -> int | None:
        return self.rule.batch

    @property
    def n_positions(self) -> int | None:
        return self.rule.n_positions

    def allowed(self, b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return ~self.rule.allowed(b, q, k)

    def __repr__(self) -> str:
        return f"~{self.rule!r}"


full = Full()
"""Every query sees every key."""

causal = Causal()
"""Query position ``q`` sees key position ``k`` when ``k <= q``."""


def window(w: int) -> Mask:
    """Keys fewer than ``w`` positions behind the query: ``q − k < w``.

    It hides nothing later, so it is used as ``causal & window(w)``, which
    shows ``w`` keys, the query's own among them.

    >>> (causal & window(2)).matrix(3)
    tensor([[ True, False, False],
            [ True,  True, False],
            [False,  True,  True]])
    """
    if not _is_count(w, least=1):
        raise ValueError(
            f"window: expected w >= 1 keys, the query's own included; got {w!r}. "
            "window(1) shows a query its own key alone."
        )
    return Window(w)


def within(mask: Mask, w: int) -> Mask:
    """``mask & window(w)``, for a mask that hides the far future by itself.

    A window hides what is far *behind* alone. With ``full`` it would leave all
    that comes later to be seen, so that is an error.
    """
    rule = mask & window(w)
    last = (2**31 if mask.n_positions is None else mask.n_positions) - 1
    ends = torch.tensor([[0], [last]], device="cpu")  # also for a model on "meta"
    if last > 0 and mask.at(*ends).any():
        raise ValueError(
            f"expected a mask that hides the far future, as window({w}) hides the far "
            f"past alone; got {mask!r}. Give a causal mask, or no window."
        )
    return rule


def prefix(n: int) -> Mask:
    """The first ``n`` keys; ``causal | prefix(n)`` is a prefix language model."""
    if not _is_count(n, least=0):
        raise ValueError(
            f"prefix: expected n >= 0 keys; got {n!r}. prefix(0) shows nothing."
        )
    return Prefix(n)


def documents(ids: Int[Tensor, "*batch T"] | Sequence) -> Mask:
    """Keys of the query's own document, for sequences packed into one row.

    ``ids`` holds a document number for each absolute position: ``(T,)``, or
    ``(B, T)`` when rows of the batch are packed differently. There may be more
    ids than keys, for tokens yet to come, but not fewer.

    >>> documents([0, 0, 1]).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [False, False,  True]])
    """
    ids = _integers(ids)
    if not _is_integer(ids) or ids.ndim not in (1, 2):
        raise ValueError(
            "documents: expected integer ids of shape (T,) or (B, T); "
            f"got {_name(ids)}. Number the documents 0, 1, 2, …"
        )
    return Documents(torch.atleast_2d(ids).long(), batched=ids.ndim == 2)


def padding(
    lengths: Int[Tensor, " B"] | Sequence[int],
    *,
    side: Literal["left", "right"] = "right",
    width: int | None = None,
) -> Mask:
    """Keys that hold a token, in a batch of sequences of different lengths.

    ``lengths`` counts the tokens of each row. Padding stands to the ``side``
    named; for ``"left"`` the batch is ``width`` slots wide, by default as
    wide as its longest row. Queries are not masked: the outputs at padded
    queries are to be ignored.

    >>> padding([2, 3]).matrix(1, 3)
    tensor([[[ True,  True, False]],
    <BLANKLINE>
            [[ True,  True,  True]]])
    """
    lengths = _integers(lengths)
    if not _is_integer(lengths):
        raise ValueError(
            f"padding: expected integer lengths; got {_name(lengths)}. "
            "From a boolean matrix of real tokens, take its sum over positions."
        )
    lengths = lengths.long().clone()  # of few bits, "no upper bound" would be one
    if lengths.ndim != 1 or (lengths < 0).any():
        raise ValueError(
            "padding: expected one length >= 0 for each row of the batch, shape (B,); "
            f"got {lengths.tolist()}."
        )
    if side == "right":
        return Padding(torch.zeros_like(lengths), lengths)
    if side != "left":
        raise ValueError(f'padding: expected side "left" or "right"; got {side!r}.')
    longest = int(lengths.max()) if len(lengths) else 0
    width = longest if width is None else width
    if not _is_count(width, least=longest):
        raise ValueError(
            f"padding: expected width >= the longest row, {longest}; got {width!r}."
        )
    # What is generated after the prompt is real, so there is no upper bound.
    end = torch.full_like(lengths, torch.iinfo(torch.long).max)
    return Padding(width - lengths, end)


def default_positions(
    n_queries: int,
    n_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> tuple[Int[Tensor, " Tq"], Int[Tensor, " Tk"]]:
    """Bottom-right aligned: queries ``Tk − Tq … Tk − 1``, keys ``0 … Tk − 1``."""
    n_keys = n_queries if n_keys is None else n_keys
    if not (_is_count(n_queries, least=0) and _is_count(n_keys, least=0)):
        raise ValueError(
            f"expected sizes >= 0; got {n_queries!r} queries and {n_keys!r} keys."
        )
    positions = torch.arange(min(0, n_keys - n_queries), n_keys, device=device)
    return positions[len(positions) - n_queries :], positions[len(positions) - n_keys :]


def to_additive(
    allowed: Bool[Tensor, "*batch Tq Tk"], *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch Tq Tk"]:
    """What is added to the scores: 0 where ``allowed``, −∞ elsewhere."""
    if allowed.dtype != torch.bool or dtype not in _HOLD_INFINITY:
        raise ValueError(
            "to_additive: expected a bool matrix (True = may attend) and a floating-"
            f"point dtype; got {_name(allowed)} and {dtype}. Only floats of 16 bits or "
            "more hold −∞."
        )
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, -torch.inf)


def boolean_power(allowed: Bool[Tensor, "T T"], n: int) -> Bool[Tensor, "T T"]:
    """What ``n`` layers of the same mask let through: paths of ``n`` steps.

    Entry (i, j) is ``True`` when some chain i → … → j of ``n`` links, each
    allowed by the mask, leads from output i to input j. With a residual
    connection, put ``True`` on the diagonal first. Derived in chapter 6.
    """
    if not _is_count(n, least=0):
        raise ValueError(f"boolean_power: expected n >= 0 layers; got {n!r}.")
    if allowed.dtype != torch.bool or allowed.ndim != 2 or len(set(allowed.shape)) > 1:
        raise ValueError(
            "boolean_power: expected a bool matrix (T, T), True = may attend; got "
            f"{_name(allowed)}. Render a rule with .matrix(T)."
        )
    power = torch.eye(len(allowed), dtype=torch.bool, device=allowed.device)
    for _ in range(n):
        # Counts of paths are at most T: exact in float32.
        power = (power.float() @ allowed.float()) > 0
    return power


def _rule(other: object) -> Mask:
    if not isinstance(other, Mask):
        raise ValueError(
            f"expected a mask rule to combine with; got {type(other).__name__}. "
            "Render the rule with .matrix(Tq, Tk) to combine it with a tensor."
        )
    return other


_HOLD_INFINITY = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def _is_count(n: object, *, least: int) -> bool:
    """An int (of Python or NumPy, but no bool) that is not below ``least``."""
    return hasattr(n, "__index__") and not isinstance(n, bool | Tensor) and n >= least


def _is_integer(tensor: Tensor) -> bool:
    dtype = tensor.dtype
    return not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)


def _integers(values: object) -> Tensor:
    """A list or an array as a tensor; an empty list holds integers."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected integers in rows of one length; got {values!r} ({error})."
        ) from None
    return tensor if tensor.numel() or isinstance(values, Tensor) else tensor.long()


def _name(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
