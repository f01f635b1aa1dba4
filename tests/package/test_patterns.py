"""The rules of the atlas: each is its definition cell by cell, in every rendering."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import create_mask

from mattn import causal
from mattn.masks import (
    block_causal,
    block_diffusion,
    chunks,
    cumulative,
    default_slots,
    dilated,
    draft,
    global_tokens,
    groups,
    intervals,
    near,
    neighbourhood,
    permutation,
    random_blocks,
    shared_prefix,
    tiles,
    tree,
    wait,
)

T = 8
small = st.integers(1, 5)
number = st.integers(0, 9)


def listed(least: int, most: int):
    return st.lists(st.integers(least, most), min_size=T, max_size=T)


parents = st.tuples(*(st.integers(-1, i - 1) for i in range(T))).map(list)


def is_above(parents: list[int], q: int, k: int) -> bool:
    """Whether k is q or an ancestor of it: the walk up, step by step."""
    while q > k:
        q = parents[q]
    return q == k


def is_near(q: int, k: int, side: int, kernel: int) -> bool:
    """The box around q on one side, pushed inside."""
    first = min(max(q - kernel // 2, 0), max(side - kernel, 0))
    return first <= k < first + kernel


def of_diffusion(n: int, size: int, q: int, k: int) -> bool:
    """Block diffusion, as its paper names the parts."""
    block_q, block_k = q % n // size, k % n // size
    own = block_q == block_k and (q < n) == (k < n)
    return own or (block_q > block_k and k >= n)


# Each: its arguments, the rule, and what it says of the slots q and k.
CASES = {
    "near": (st.tuples(number), near, lambda w, q, k: abs(q - k) <= w),
    "dilated": (st.tuples(small), dilated, lambda d, q, k: (q - k) % d == 0),
    "wait": (st.tuples(small), wait, lambda n, q, k: k < q + n),
    "chunks": (
        st.tuples(small, st.integers(0, 3), st.integers(-3, 3)),
        lambda c, n, s: chunks(c, left=n, start=s),
        lambda c, n, s, q, k: 0 <= (q - s) // c - (k - s) // c <= n,
    ),
    "block_causal": (
        st.tuples(small), block_causal, lambda c, q, k: k // c <= q // c
    ),
    "draft": (
        st.tuples(number, small),
        draft,
        lambda n, c, q, k: k <= q and (k < n or (q - n) // c == (k - n) // c),
    ),
    "groups": (
        st.tuples(listed(-1, 2)), groups, lambda g, q, k: g[q] == g[k] >= 0
    ),
    "cumulative": (
        st.tuples(listed(0, 1)),
        cumulative,
        lambda a, q, k: sum(a[: k + 1]) <= sum(a[: q + 1]),
    ),
    "intervals": (
        st.tuples(listed(0, T), listed(0, T)),
        intervals,
        lambda a, b, q, k: a[k] <= q < b[k],
    ),
    "tree": (st.tuples(parents), tree, is_above),
    "shared_prefix": (
        st.tuples(listed(0, 2), st.lists(st.integers(-1, 2), min_size=3, max_size=3)),
        shared_prefix,
        lambda d, r, q, k: k <= q and d[k] in (d[q], r[d[q]]),
    ),
    "block_diffusion": (
        st.tuples(small), lambda c: block_diffusion(T // 2, c),
        lambda c, q, k: of_diffusion(T // 2, c, q, k),
    ),
    "global_tokens": (
        st.tuples(st.lists(st.integers(0, T - 1))),
        global_tokens,
        lambda g, q, k: q in g or k in g,
    ),
    "neighbourhood": (
        st.tuples(small),
        lambda c: neighbourhood(2, 4, c),
        lambda c, q, k: is_near(q // 4, k // 4, 2, c) and is_near(q % 4, k % 4, 4, c),
    ),
    "tiles": (
        st.tuples(small, st.integers(0, 2)),
        lambda c, n: tiles(2, 4, c, n),
        lambda c, n, q, k: max(
            abs(q // 4 // c - k // 4 // c), abs(q % 4 // c - k % 4 // c)
        ) <= n,
    ),
    "permutation": (
        st.tuples(st.permutations(range(T)), st.booleans()),
        lambda p, s: permutation(p, strict=s),
        lambda p, s, q, k: p.index(k) < p.index(q) + (not s),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_a_rule_is_its_definition_in_every_rendering(name, data):
    arguments, make, says = CASES[name]
    chosen = data.draw(arguments)
    rule = make(*chosen)
    Tk = data.draw(st.integers(1, T))
    Tq = data.draw(st.integers(1, Tk))
    q, k = default_slots(Tq, Tk)  # bottom right: the last query at the last key
    expected = torch.tensor(
        [[bool(says(*chosen, i, j)) for j in k.tolist()] for i in q.tolist()]
    )
    matrix = rule.matrix(Tq, Tk)
    assert torch.equal(matrix, expected)
    assert torch.equal(rule.additive(Tq, Tk) == 0, expected)
    assert torch.equal(rule.at(q, k), expected)
    assert torch.equal(rule.at(q, k.flip(0)), expected.flip(1))
    gap = torch.cat([torch.tensor([-1]), k])
    assert not rule.at(q, gap)[:, 0].any()
    mod = rule.predicate(Tq, Tk)
    cells = mod(torch.tensor(0), torch.tensor(0), torch.arange(Tq)[:, None], k)
    assert torch.equal(cells.expand(Tq, Tk), expected)
    assert rule.pairs(Tq, Tk) == int(expected.sum())
    for spans in (rule.hull(Tq, Tk), rule.spans(Tq, Tk)):
        inside = (spans.first[0][:, None] <= k) & (k < spans.end[0][:, None])
        assert not (expected & ~inside).any()
        assert not spans.exact or torch.equal(inside, expected)
    check_reach(rule, Tk)


def check_reach(rule, n):
    """No pair beyond what is promised, or found by looking."""
    square = rule.matrix(n)
    i = torch.arange(n)
    for bound in (rule.reach(), rule.reach(n)):
        back = i[:, None] - i
        beyond = (-back > bound.ahead) | ((back >= bound.behind) & (i >= bound.sinks))
        assert not (square & beyond).any(), bound


@pytest.mark.parametrize("name", CASES)
def test_flex_attention_renders_the_same(name):
    rule = CASES[name][1](*some(name))
    mod = rule.predicate(3, T)
    found = create_mask(lambda b, h, q, k: mod(b, h, q, k), 1, 1, 3, T, device="cpu")
    assert torch.equal(found[0, 0], rule.matrix(3, T))


def some(name: str) -> tuple:
    """Arguments of each rule that neither show all nor nothing."""
    ids, order = [-1, 0, 0, 0, -1, 1, 1, -1], [3, 1, 0, 2, 7, 5, 6, 4]
    return {
        "groups": (ids,), "cumulative": ([0, 0, 1, 0, 1, 1, 0, 1],),
        "intervals": ([0, 0, 2, 2, 5, 5, 7, 7], [2, 2, 5, 5, 7, 7, 8, 8]),
        "tree": ([-1, 0, 1, 1, 0, 4, 4, 6],), "permutation": (order, False),
        "shared_prefix": ([0, 0, 1, 1, 1, 2, 2, 2], [-1, 0, 0]),
        "global_tokens": ([0, 3],), "chunks": (3, 1, 1), "draft": (2, 2),
        "tiles": (1, 1),
    }.get(name, (2,))  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "n", "exact"),
    [
        (near(100), 10**5, True),
        (wait(3), 10**5, True),
        (chunks(64, left=2), 10**5, True),
        (block_causal(64), 10**5, True),
        (cumulative([1] * 1000), 1000, True),
        (groups([i // 10 for i in range(1000)]), 1000, True),
    ],
    ids=lambda v: None if isinstance(v, int) else repr(v),
)
def test_spans_that_are_arithmetic(rule, n, exact):
    assert rule.hull(n).exact is exact
    assert rule.hull(n).sorted


def test_windows_beyond_the_length_show_all():
    for rule in (near(10**9), chunks(10**9), block_causal(10**9), wait(10**9)):
        assert rule.pairs(9) == 81
    assert (causal & chunks(10**9)).pairs(9) == 45


def test_random_blocks_are_drawn_once():
    rule = random_blocks(12, 3, 2, seed=4)
    cells = rule.matrix(12).view(4, 3, 4, 3)
    blocks = cells.all(dim=3).all(dim=1)
    assert torch.equal(blocks, cells.any(dim=3).any(dim=1))
    assert blocks.sum(dim=1).tolist() == [2] * 4
    assert torch.equal(rule.matrix(5, 12), rule.matrix(12)[7:])
    assert not torch.equal(rule.matrix(12), random_blocks(12, 3, 2, seed=5).matrix(12))


def test_the_same_places_are_a_mask_of_others():
    assert torch.equal(cumulative([1] * 6).matrix(6), causal.matrix(6))
    assert torch.equal(tree(range(-1, 5)).matrix(6), causal.matrix(6))
    assert torch.equal(block_causal(1).matrix(6), causal.matrix(6))
    assert torch.equal(permutation(range(6)).matrix(6), causal.matrix(6))
    assert block_causal(3).reach() == (math.inf, 2, 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: near(-1), "near: expected an int w >= 0; got -1"),
        (lambda: chunks(0), "chunks: expected an int size >= 1; got 0"),
        (lambda: chunks(2, left=0.5), "expected an int left >= 0; got 0.5"),
        (lambda: tree([0]), "expected a parent that is earlier, or -1; got 0 of slot"),
        (lambda: permutation([0, 0]), "each of 0 to 1 once; got"),
        (lambda: cumulative([2]), r"expected 1 \(a block begins\) and 0; got \[2\]"),
        (lambda: intervals([1], []), "a first and an end for each key; got 1 and 0"),
        (lambda: shared_prefix([0, 1], [-1]), "expected documents 0 to 0, one for"),
        (lambda: groups([[1]]), r"expected one integer a slot, shape \(T,\); got int"),
        (lambda: groups(["a"]), "groups: expected one integer a slot; got"),
        (lambda: global_tokens([-1]), "expected slots >= 0; got"),
        (lambda: random_blocks(4, 2, 3), "expected n <= 2, the number of blocks"),
        (lambda: tree([-1, 0]).matrix(3), "expected an id for each of 3 slots"),
    ],
)
def test_what_is_no_mask_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
