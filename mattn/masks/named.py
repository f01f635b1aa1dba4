"""The masks that have a name, each a function of slots in a few lines.

Chapter 2 meets each of them in a need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.matrices import described, is_count
from mattn.masks.rules import Rule
from mattn.masks.spans import Spans
from mattn.reach import Reach
from mattn.slots import is_integer

__all__ = ["causal", "documents", "full", "padding", "prefix", "window"]


def _band(q: Tensor, n_keys: int, behind: int | None, ahead: int | None) -> Spans:
    """The stretch from ``behind − 1`` slots back to ``ahead`` slots on."""
    first = torch.zeros_like(q) if behind is None else (q - behind + 1).clamp(0, n_keys)
    end = torch.full_like(q, n_keys) if ahead is None else q + ahead + 1
    end = torch.maximum(first, end.clamp(0, n_keys))
    return Spans(first[None], end[None], exact=True)


full: Mask = Rule(
    lambda b, q, k: torch.ones_like(k, dtype=torch.bool),
    "full",
    shape=lambda q, n: _band(q, n, None, None),
    band=True,
)
"""Every query sees every key: the encoder's mask.

    1 1 1
    1 1 1
    1 1 1
"""

causal: Mask = Rule(
    lambda b, q, k: k <= q,
    "causal",
    bound=Reach(ahead=0),
    shape=lambda q, n: _band(q, n, None, 0),
    band=True,
)
"""Query slot ``q`` sees key slot ``k`` when ``k <= q``: the decoder's mask.

    1 . .
    1 1 .
    1 1 1
"""


def window(w: int) -> Mask:
    """Keys fewer than ``w`` slots behind the query: ``q − k < w``.

    It hides nothing later, so it is used as ``causal & window(w)``, which
    shows ``w`` keys, the query's own among them.

    >>> (causal & window(2)).matrix(3)
    tensor([[ True, False, False],
            [ True,  True, False],
            [False,  True,  True]])
    """
    if not is_count(w, least=1):
        raise ValueError(
            "window: expected an int w >= 1 of keys, the query's own included; got "
            f"{w!r}. window(1) shows a query its own key alone."
        )
    return Rule(
        lambda b, q, k: k > q - w,  # q − k < w, without a Tq×Tk difference
        f"window({w})",
        bound=Reach(behind=w),
        shape=lambda q, n: _band(q, n, w, None),
        band=True,
    )


def prefix(n: int) -> Mask:
    """The first ``n`` keys; ``causal | prefix(n)`` is a prefix language model.

    >>> (causal | prefix(2)).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [ True,  True,  True]])
    """
    if not is_count(n, least=0):
        raise ValueError(
            f"prefix: expected an int n >= 0 of keys; got {n!r}. prefix(0) shows "
            "nothing."
        )

    def shape(q: Tensor, n_keys: int) -> Spans:
        first = torch.zeros_like(q)[None]
        return Spans(first, torch.full_like(first, min(n, n_keys)), exact=True)

    bound = Reach(behind=-math.inf, ahead=n - 1 if n else -math.inf, sinks=n)
    return Rule(lambda b, q, k: k < n, f"prefix({n})", bound=bound, shape=shape)


# Long because: a rule is its function and its shape, over one set of tables.
def documents(
    ids: Int[Tensor, "*batch T"] | Sequence, within: Mask | None = None
) -> Mask:
    """Keys of the query's own document, for sequences packed into one row.

    ``ids`` holds a document number for each slot, later ones included:
    ``(T,)``, or ``(B, T)`` when rows of the batch are packed differently.
    ``within`` is a rule for each document alone: its slots count from 0 at the
    document's first token.

    >>> documents([0, 0, 1]).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True, False],
            [False, False,  True]])
    """
    given = _ids(ids)
    batched = given.ndim == 2
    table: Tensor = torch.atleast_2d(given).long().clone()
    n = table.shape[-1]
    first, end, place, whole = _pieces(table.cpu())

    def looked_up(t: Tensor, b: Tensor, slots: Tensor) -> Tensor:
        return t.to(slots.device)[b if batched else 0, slots.clamp(min=0)]

    def function(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if n == 0:
            return (q == k) & False  # an empty grid: there is no id to look up
        # A query before slot 0 (Tq > Tk) is in no document.
        own = (looked_up(table, b, q) == looked_up(table, b, k)) & (q >= 0) & (k >= 0)
        if within is None:
            return own
        return own & within.allowed(b, looked_up(place, b, q), looked_up(place, b, k))

    def shape(q: Tensor, n_keys: int) -> Spans:
        outside = (q < 0) | (q >= n)
        at = q.clamp(0, max(n - 1, 0))
        if n:
            starts, ends = (t.to(q.device)[:, at] for t in (first, end))
        else:
            starts = ends = at.new_zeros(len(table), len(at))
        starts, ends = (t.masked_fill(outside, 0) for t in (starts, ends))
        exact = whole and within is None
        return Spans(starts.clamp(max=n_keys), ends.clamp(max=n_keys), exact)

    bound = Reach() if within is None else _in_slots(within.bound, whole=whole)
    inner = "" if within is None else f", within={within!r}"
    name = f"documents(shape={tuple(table.shape)}{inner})"
    batch = len(table) if batched else None
    return Rule(function, name, batch, n, bound, shape)


def _ids(ids: Tensor | Sequence) -> Tensor:
    ids = _integers(ids)
    if not is_integer(ids) or ids.ndim not in (1, 2):
        raise ValueError(
            "documents: expected integer ids of shape (T,) or (B, T); "
            f"got {described(ids)}. Number the documents 0, 1, 2, …"
        )
    return ids


def _in_slots(bound: Reach, *, whole: bool) -> Reach:
    """A bound in places of a document: farther in slots where others lie between."""
    behind, ahead, sinks = bound
    return Reach(
        behind if whole and not sinks else math.inf,
        ahead if whole or ahead <= 0 else math.inf,
    )


def _pieces(ids: Tensor) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Of each slot: its document's first slot, the one after its last, how many of
    its tokens come before; and whether every document is in one piece."""
    n = ids.shape[-1]
    order = ids.argsort(dim=-1, stable=True)  # document after document
    in_order = ids.gather(-1, order)
    at = torch.arange(n).expand_as(ids)
    begins = torch.ones_like(ids, dtype=torch.bool)
    begins[:, 1:] = in_order[:, 1:] != in_order[:, :-1]
    ends = begins.roll(-1, dims=-1)  # the first begins, so the last ends
    begin = torch.where(begins, at, 0).cummax(dim=-1).values
    end = torch.where(ends, at, n).flip(-1).cummin(dim=-1).values.flip(-1)
    back = order.argsort(dim=-1)
    first, last = (order.gather(-1, t).gather(-1, back) for t in (begin, end))
    place, size = ((t).gather(-1, back) for t in (at - begin, end - begin + 1))
    return first, last + 1, place, bool((last + 1 - first == size).all())


# Long because: half of it says what lengths and side mean.
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
    lengths = _lengths(lengths)
    if side not in ("left", "right"):
        raise ValueError(f'padding: expected side "left" or "right"; got {side!r}.')
    longest = int(lengths.max()) if len(lengths) else 0
    width = longest if width is None else width
    if not is_count(width, least=longest):
        raise ValueError(
            f"padding: expected width >= the longest row, {longest}; got {width!r}."
        )
    first, end = torch.zeros_like(lengths), lengths
    if side == "left":
        # What is generated after the prompt is real, so there is no upper bound.
        first, end = width - lengths, torch.full_like(lengths, 2**62)

    def function(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (first.to(k.device)[b] <= k) & (k < end.to(k.device)[b])

    def shape(q: Tensor, n_keys: int) -> Spans:
        starts, ends = (
            t.to(q.device).clamp(0, n_keys)[:, None].expand(-1, len(q))
            for t in (first, end)
        )
        return Spans(starts, ends, exact=True)

    name = f"padding({lengths.tolist()}, side={side!r}, width={width})"
    return Rule(function, name, len(lengths), shape=shape)


def _lengths(lengths: Tensor | Sequence[int]) -> Tensor:
    lengths = _integers(lengths)
    if not is_integer(lengths):
        raise ValueError(
            f"padding: expected integer lengths; got {described(lengths)}. "
            "From a boolean matrix of real tokens, take its sum over slots."
        )
    lengths = lengths.long().clone()  # of few bits, "no upper bound" would be one
    if lengths.ndim != 1 or (lengths < 0).any():
        raise ValueError(
            "padding: expected one length >= 0 for each row of the batch, shape (B,); "
            f"got {lengths.tolist()}."
        )
    return lengths


def _integers(values: object) -> Tensor:
    """A list or an array as a tensor; an empty list holds integers."""
    try:
        tensor = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"expected integers in rows of one length; got {values!r} ({error})."
        ) from None
    return tensor if tensor.numel() or isinstance(values, Tensor) else tensor.long()
