"""Masks by a list of one number a slot: groups, trees, orders, intervals.

The atlas of masks, an appendix of the book, names who uses each.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.named import documents
from mattn.masks.numbers import Ids, of_slots, stretch, table_of
from mattn.masks.rules import Rule
from mattn.masks.spans import Spans
from mattn.reach import Reach

__all__ = [
    "cumulative",
    "global_tokens",
    "groups",
    "intervals",
    "permutation",
    "shared_prefix",
    "tree",
]


def groups(ids: Ids) -> Mask:
    """Keys of the query's own group; a slot whose id is negative is in none.

    ``causal | groups(images)`` lets the patches of one image see each other.

    >>> (groups([-1, 0, 0, -1])).matrix(4).int()
    tensor([[0, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 1, 1, 0],
            [0, 0, 0, 0]], dtype=torch.int32)
    """
    table = table_of("groups", ids)
    same, member, n = documents(table), table >= 0, len(table)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        return same.allowed(b, q, k) & (of_slots(table, q, -1) >= 0)

    def shape(q: Tensor, n_keys: int) -> Spans:
        hull = same._hull(q, n_keys)
        inside = of_slots(member.long(), q, 0)[None] > 0
        first, end = (torch.where(inside, t, 0) for t in (hull.first, hull.end))
        return Spans(first, end, hull.exact)

    at = torch.arange(n)
    ahead, behind = 0, 1
    for group in table[member].unique():
        own = at[table == group]
        widest = int(own[-1] - own[0])
        ahead, behind = max(ahead, widest), max(behind, widest + 1)
    bound = Reach(behind, ahead) if member.any() else Reach(-math.inf, -math.inf)
    return Rule(function, f"groups({n} ids)", n_slots=n, bound=bound, shape=shape)


def cumulative(opens: Ids) -> Mask:
    """Blocks that see themselves and all blocks before: a 1 in ``opens`` begins a
    new block, a 0 goes on with the one before.

    All ones are causal, all zeros full, zeros and then ones a prefix.

    >>> cumulative([0, 0, 1, 1]).matrix(4).int()
    tensor([[1, 1, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 1, 1, 1]], dtype=torch.int32)
    """
    table = table_of("cumulative", opens)
    if ((table != 0) & (table != 1)).any():
        raise ValueError(
            f"cumulative: expected 1 (a block begins) and 0; got {table.tolist()}."
        )
    block, n = table.cumsum(0), len(table)
    last = torch.searchsorted(block, block, right=True)  # the slot after the block

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        return (k < of_slots(last, q, 0)) & (q >= 0)

    def shape(q: Tensor, n_keys: int) -> Spans:
        return stretch(torch.zeros_like(q), of_slots(last, q, 0), n_keys)

    ahead = int((last - 1 - torch.arange(n)).max()) if n else -math.inf
    bound = Reach(ahead=ahead)
    return Rule(function, f"cumulative({n} flags)", n_slots=n, bound=bound, shape=shape)


def intervals(first: Ids, end: Ids) -> Mask:
    """Each key is open to one interval of queries: ``first[k] <= q < end[k]``.

    The tables hold one number a key; keys beyond them are seen by nobody. Queries
    may be slots of another sequence, as in cross-attention.

    >>> intervals([0, 2], [2, 4]).at(torch.arange(4), torch.arange(2)).int()
    tensor([[1, 0],
            [1, 0],
            [0, 1],
            [0, 1]], dtype=torch.int32)
    """
    opens, shuts = table_of("intervals", first), table_of("intervals", end)
    if len(opens) != len(shuts):
        raise ValueError(
            "intervals: expected a first and an end for each key; got "
            f"{len(opens)} and {len(shuts)}."
        )
    n, some = len(opens), shuts > opens

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        return (of_slots(opens, k, 0) <= q) & (q < of_slots(shuts, k, 0)) & (k < n)

    at = torch.arange(n)
    bound = Reach(-math.inf, -math.inf)
    if some.any():
        bound = Reach(int((shuts - at)[some].max()), int((at - opens)[some].max()))
    return Rule(function, f"intervals({n} keys)", bound=bound)


def tree(parents: Ids) -> Mask:
    """Keys on the query's own branch: its ancestors, and itself.

    ``parents`` holds the slot of each token's parent, which is earlier; −1 is a
    root. A prompt is a chain: 0, 1, 2, … Two numbers a slot do: when a walk
    through the tree enters it and when it leaves, so one comparison answers.

    >>> tree([-1, 0, 1, 1, 0]).matrix(5).int()
    tensor([[1, 0, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [1, 1, 1, 0, 0],
            [1, 1, 0, 1, 0],
            [1, 0, 0, 0, 1]], dtype=torch.int32)
    """
    table = table_of("tree", parents)
    n, above = len(table), table.tolist()
    if wrong := [i for i, parent in enumerate(above) if not -1 <= parent < i]:
        raise ValueError(
            f"tree: expected a parent that is earlier, or -1; got {above[wrong[0]]} of "
            f"slot {wrong[0]}. Number the tokens so that parents come first."
        )
    enters, leaves = (torch.tensor(t, dtype=torch.long) for t in _walk(above))

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        at = of_slots(enters, q, -1)
        branch = (of_slots(enters, k, 0) <= at) & (at < of_slots(leaves, k, 0))
        return branch & (q >= 0) & (k < n)

    return Rule(function, f"tree({n} nodes)", n_slots=n, bound=Reach(ahead=0))


def _walk(parents: list[int]) -> tuple[list[int], list[int]]:
    """When a walk, child after child, enters each node, and when it has left it."""
    size = [1] * len(parents)
    for i in reversed(range(len(parents))):
        if parents[i] >= 0:
            size[parents[i]] += size[i]
    enters, free, top = [0] * len(parents), [0] * len(parents), 0
    for i, parent in enumerate(parents):
        if parent < 0:
            enters[i], top = top, top + size[i]
        else:
            enters[i] = free[parent]
            free[parent] += size[i]
        free[i] = enters[i] + 1
    return enters, [e + s for e, s in zip(enters, size, strict=True)]


def shared_prefix(ids: Ids, reads: Ids) -> Mask:
    """Each document is causal, and also sees the document that it reads.

    ``ids`` numbers the document of each slot; ``reads[d]`` is the document that
    document d reads, or −1. One prompt and its answers: ``reads=[-1, 0, 0]``.

    >>> shared_prefix([0, 1, 1, 2], [-1, 0, 0]).matrix(4).int()
    tensor([[1, 0, 0, 0],
            [1, 1, 0, 0],
            [1, 1, 1, 0],
            [1, 0, 0, 1]], dtype=torch.int32)
    """
    own, read = table_of("shared_prefix", ids), table_of("shared_prefix", reads)
    if len(own) and not 0 <= int(own.min()) <= int(own.max()) < len(read):
        raise ValueError(
            f"shared_prefix: expected documents 0 to {len(read) - 1}, one for each "
            f"entry of reads; got {own.unique().tolist()}."
        )
    other, n = of_slots(read, own, -1), len(own)

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        key, query = of_slots(own, k, -1), of_slots(own, q, -2)
        seen = (key == query) | (key == of_slots(other, q, -2))
        return seen & (k <= q) & (q >= 0) & (k < n)

    name = f"shared_prefix({n} ids)"
    return Rule(function, name, n_slots=n, bound=Reach(ahead=0))


def global_tokens(slots: Ids) -> Mask:
    """Some slots see everything and are seen by everyone.

    >>> from mattn.masks import near
    >>> (near(0) | global_tokens([0])).matrix(3).int()
    tensor([[1, 1, 1],
            [1, 1, 0],
            [1, 0, 1]], dtype=torch.int32)
    """
    table = table_of("global_tokens", slots)
    if (table < 0).any():
        raise ValueError(f"global_tokens: expected slots >= 0; got {table.tolist()}.")

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        at = table.to(k.device)
        of_q, of_k = ((t[..., None] == at).any(dim=-1) for t in (q, k))
        return of_q | of_k

    return Rule(function, f"global_tokens({table.tolist()})")


def permutation(order: Ids, *, strict: bool = False) -> Mask:
    """Causal in another order: ``order`` lists the slots as they are predicted.

    A query sees the keys that come no later in it; ``strict`` hides its own.

    >>> permutation([2, 0, 1]).matrix(3).int()
    tensor([[1, 0, 1],
            [1, 1, 1],
            [0, 0, 1]], dtype=torch.int32)
    """
    table = table_of("permutation", order)
    n = len(table)
    if sorted(table.tolist()) != list(range(n)):
        raise ValueError(
            f"permutation: expected each of 0 to {n - 1} once; got {table.tolist()}."
        )
    rank = table.argsort()

    def function(b: Any, q: Tensor, k: Tensor) -> Tensor:
        query, key = of_slots(rank, q, -1), of_slots(rank, k, n)
        return (key < query) if strict else (key <= query)

    more = ", strict=True" if strict else ""
    return Rule(function, f"permutation({table.tolist()}{more})", n_slots=n)
