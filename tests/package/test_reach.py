"""What machines ask of a rule: stretches of keys, and how far it looks.

Held against the matrix of random rules, plain functions among them.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_rules import T, rules

from mattn import Mask, Reach, causal, documents, full, padding, prefix, rule, window
from mattn.masks import Spans


def by_row(mask: Mask, Tq: int, Tk: int) -> torch.Tensor:
    """The matrix (rows, Tq, Tk), of one row where no rows are told apart."""
    matrix = mask.matrix(Tq, Tk)
    return matrix if matrix.ndim == 3 else matrix[None]


def inside(found: Spans, Tk: int) -> torch.Tensor:
    k = torch.arange(Tk)
    return (k >= found.first[..., None]) & (k < found.end[..., None])


@given(rules, st.integers(0, T + 2), st.integers(0, T))
def test_no_stretch_loses_a_pair_and_exact_ones_hold_no_other(mask, Tq, Tk):
    matrix = by_row(mask, Tq, Tk)
    for found in (mask.hull(Tq, Tk), mask.spans(Tq, Tk)):
        cells = inside(found, Tk)
        assert len(cells) in (1, len(matrix))
        assert not (matrix & ~cells).any()
        if found.exact:
            assert torch.equal(*torch.broadcast_tensors(matrix, cells))


@given(rules, st.integers(0, T + 2), st.integers(0, T))
def test_spans_run_from_the_first_key_to_the_last_and_know_if_they_are_exact(
    mask, Tq, Tk
):
    found, matrix = mask.spans(Tq, Tk), by_row(mask, Tq, Tk)
    keys = [row.nonzero()[:, 0].tolist() for row in matrix.flatten(0, 1)]
    assert found.exact == all(k == list(range(k[0], k[-1] + 1)) for k in keys if k)
    first, end = (t.expand(len(matrix), Tq).flatten() for t in found[:2])
    for seen, lo, hi in zip(keys, first.tolist(), end.tolist(), strict=True):
        assert (lo, hi) == (seen[0], seen[-1] + 1) if seen else lo == hi


@pytest.mark.parametrize(
    "mask",
    [
        causal & window(3) & documents([0, 0, 1, 1]) & padding([4, 2]),
        causal & ~window(2) | prefix(1),
        rule(lambda b, q, k: (k <= q) & (k % 2 == 0)),
    ],
    ids=repr,
)
def test_stretches_are_made_on_the_device_that_is_named(mask):
    for stretches in (mask.hull, mask.spans):
        expected = stretches(3, 4)
        with torch.device("meta"):  # where all is made that names no device
            found = stretches(3, 4, device="cpu")
        assert found.exact == expected.exact
        assert found.first.equal(expected.first)
        assert found.end.equal(expected.end)


def test_a_hull_is_on_a_device_without_numbers_too():
    mask = causal & window(3) & documents([0, 0, 1, 1]) & padding([4, 2])
    found = mask.hull(3, 4, device="meta")
    assert found.first.shape == found.end.shape == (2, 3)
    assert found.first.device.type == found.end.device.type == "meta"


@given(rules, st.integers(1, T))
def test_no_pair_is_out_of_reach_and_a_cache_keeps_the_fewest(mask, n):
    matrix = by_row(mask, n, n).any(dim=0)
    q, k = torch.arange(n)[:, None], torch.arange(n)
    for reach in (mask.reach(), mask.reach(n)):
        bound = (k - q <= reach.ahead) & ((q - k < reach.behind) | (k < reach.sinks))
        assert not (matrix & ~bound).any()
    distances = [(q - k + 1)[matrix & (k >= s)].tolist() for s in range(n + 1)]
    fewest = min(max([0, *d]) + s for s, d in enumerate(distances))
    assert mask.reach(n).size <= max(fewest, mask.bound.size)
    if mask.bound.size >= n:
        assert mask.reach(n).size == fewest


@given(rules, st.integers(0, T), st.integers(0, T))
def test_who_waits_for_whom(mask, n_read, n):
    matrix = by_row(mask, n, n).any(dim=0)
    pair = mask.waits(n_read, n)
    assert (pair is not None) == bool(matrix[:n_read, n_read:].any())
    assert pair is None or (matrix[pair] and pair[0] < n_read <= pair[1])


@given(rules, st.integers(0, T), st.integers(0, T))
def test_every_form_of_a_rule_is_its_matrix(mask, Tq, Tk):
    matrix = by_row(mask, Tq, Tk)
    additive = mask.additive(Tq, Tk)
    assert torch.equal((additive == 0).reshape(matrix.shape), matrix)
    assert ((additive == 0) | (additive == -torch.inf)).all()
    b, q, k = (torch.arange(n) for n in matrix.shape)
    mod = mask.predicate(Tq, Tk)
    cells = mod(b[:, None, None], b[:1], q[:, None], k)
    assert torch.equal(cells.expand(matrix.shape), matrix)


BANDS = [full, causal, window(3), causal & window(2), full & window(4)]
NO_BANDS = [prefix(2), causal | prefix(2), ~causal, documents([0] * T), padding([3])]


@pytest.mark.parametrize("mask", BANDS, ids=repr)
def test_a_band_allows_all_that_its_bound_allows(mask):
    assert mask.band
    q, k = torch.arange(T)[:, None], torch.arange(T)
    reach = mask.reach()
    bound = (k - q <= reach.ahead) & ((q - k < reach.behind) | (k < reach.sinks))
    assert torch.equal(mask.matrix(T), bound)


@pytest.mark.parametrize("mask", NO_BANDS, ids=repr)
def test_what_is_no_band_does_not_say_so(mask):
    assert not mask.band


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (full, Reach()),
        (causal, Reach(ahead=0)),
        (causal & window(64), Reach(64, 0)),
        (causal & (window(64) | prefix(4)), Reach(64, 0, 4)),
        (causal & window(64) & window(3), Reach(3, 0)),
        (causal | prefix(4), Reach(ahead=3)),
        (prefix(4), Reach(-math.inf, 3, 4)),
        (prefix(0), Reach(-math.inf, -math.inf, 0)),
        (~causal, Reach()),
        (causal & documents([0, 0, 1]), Reach(ahead=0)),
        (documents([0, 0, 1], causal & window(2)), Reach(2, 0)),
        (documents([0, 1, 0], causal & window(2)), Reach(math.inf, 0)),
    ],
    ids=repr,
)
def test_what_is_promised(mask, expected):
    assert mask.reach() == expected


def test_what_is_found_by_looking_is_true_up_to_that_length_only():
    far = rule(lambda b, q, k: (k <= q) & ((q - k < 8) | (q - k == 1000)))
    assert far.reach() == Reach()
    assert far.reach(512) == Reach(8, 0)
    assert far.reach(1001) != Reach(8, 0)
    sinks = rule(lambda b, q, k: (k <= q) & ((q - k < 64) | (k < 4)))
    assert sinks.reach(512) == Reach(64, 0, 4)


@pytest.mark.parametrize(
    "mask",
    [causal, causal & window(64), causal | prefix(100), causal & padding([10**6])],
    ids=repr,
)
def test_named_rules_know_their_spans_without_a_matrix(mask):
    n = 10**6  # a matrix would take a terabyte
    found = mask.spans(n)
    assert found.exact
    assert found.sorted
    assert (found.end[0, :3] >= 1).all()
    assert found.end[0, -1] == n


def test_packed_documents_know_their_spans_without_a_matrix():
    found = (causal & documents(torch.arange(10**6) // 1000)).spans(10**6)
    assert found.exact
    assert found.sorted
    assert found.first[0, [0, 999, 1000, -1]].tolist() == [0, 0, 1000, 999_000]


def test_of_too_many_cells_a_hull_is_the_answer():
    evens = rule(lambda b, q, k: (k <= q) & (k % 2 == 0), ahead=0)
    found = evens.spans(12_000)
    assert not found.exact
    assert torch.equal(found.end[0], torch.arange(1, 12_001))
