"""Softmax over what may be seen, at once and in parts."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import close, error, numpy_attention, random_qkv
from torch.autograd import gradcheck

from mattn import causal, masked_softmax
from mattn.softmax import Partial, finish, merge, partial

LOGS = [0.0, math.log(2), math.log(3), math.log(4)]  # exp: 1, 2, 3, 4


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, [0.1, 0.2, 0.3, 0.4]),
        ([True, True, True, True], [0.1, 0.2, 0.3, 0.4]),
        ([True, False, True, False], [1 / 4, 0, 3 / 4, 0]),
        ([False, True, True, False], [0, 2 / 5, 3 / 5, 0]),
        ([False, False, False, True], [0, 0, 0, 1]),
        ([False, False, False, False], [0, 0, 0, 0]),
    ],
)
def test_by_hand(allowed, expected):
    scores = torch.tensor([LOGS], dtype=torch.float64)
    allowed = None if allowed is None else torch.tensor([allowed])
    close(masked_softmax(scores, allowed), np.array([expected]))


def some_allowed(*shape) -> torch.Tensor:
    """Random, with one row empty and one row full."""
    allowed = torch.rand(shape) < 0.5
    allowed[..., 0, :] = False
    allowed[..., 1, :] = True
    return allowed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(4, 7), (2, 4, 7), (2, 3, 4, 7)])
def test_blocked_weights_are_exactly_zero_and_the_rest_sums_to_one(shape, dtype):
    scores, allowed = 10 * torch.randn(shape, dtype=dtype), some_allowed(*shape)
    weights = masked_softmax(scores, allowed)
    assert (weights[~allowed] == 0).all()
    assert (weights[allowed] > 0).all()
    close(weights.sum(dim=-1), allowed.any(dim=-1).double())
    # Masking before is the same as renormalising after.
    renormalised = torch.softmax(scores.double(), dim=-1) * allowed
    total = renormalised.sum(dim=-1, keepdim=True)
    close(weights, renormalised / total.masked_fill(total == 0, 1))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf, 1e30])
def test_what_a_blocked_score_holds_does_not_matter(bad):
    scores, allowed = torch.randn(4, 7), some_allowed(4, 7)
    dirty = scores.masked_fill(~allowed, bad).requires_grad_()
    weights = masked_softmax(dirty, allowed)
    assert torch.equal(weights, masked_softmax(scores, allowed))
    (gradient,) = torch.autograd.grad(weights, dirty, torch.randn(4, 7))
    assert (gradient[~allowed] == 0).all()
    assert gradient[1].isfinite().all()
    assert gradient[1].any()


@pytest.mark.parametrize("shift", [0.0, 89.0, -104.0, 1e4, -1e4])
def test_a_shift_of_all_scores_changes_nothing(shift):
    scores = torch.tensor([LOGS]) + shift
    weights = masked_softmax(scores, torch.tensor([[True, True, True, False]]))
    assert error(weights, torch.tensor([[1 / 6, 2 / 6, 3 / 6, 0]])) < 1e-3


def test_a_mask_broadcasts_over_heads_and_queries():
    scores, allowed = torch.randn(2, 3, 4, 7), torch.rand(2, 1, 1, 7) < 0.5
    expected = masked_softmax(scores, allowed.expand(2, 3, 4, 7))
    assert torch.equal(masked_softmax(scores, allowed), expected)


def test_masked_softmax_is_differentiated_right():
    allowed = some_allowed(4, 5)
    scores = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda s: masked_softmax(s, allowed), scores)


# --- In parts ----------------------------------------------------------------


def test_partial_by_hand():
    v = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]])
    scores = torch.tensor([LOGS])
    a = partial(scores[:, :2], v[:2])
    assert a.maximum.item() == pytest.approx(math.log(2))
    assert a.total.item() == pytest.approx(3 / 2)  # (1 + 2) ÷ 2
    assert a.weighted[0].tolist() == pytest.approx([1 / 2, 1])
    b = partial(scores[:, 2:], v[2:])
    both = merge(a, b)
    assert both.maximum.item() == pytest.approx(math.log(4))
    assert both.total.item() == pytest.approx(10 / 4)  # (1 + 2 + 3 + 4) ÷ 4
    assert finish(both)[0].tolist() == pytest.approx([12 / 10, 5 / 10])


def in_parts(q, k, v, allowed, cuts) -> list[Partial]:
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    edges = [0, *sorted(cuts), k.shape[-2]]
    return [
        partial(scores[..., a:b], v[..., a:b, :], allowed[..., a:b])
        for a, b in itertools.pairwise(edges)
        if a < b
    ]


@given(st.sets(st.integers(1, 8)), st.integers(0, 99), st.randoms())
def test_parts_merge_in_any_grouping_and_order(cuts, seed, shuffle):
    torch.manual_seed(seed)
    q, k, v = random_qkv(batch=(), Tq=5, Tk=9)
    allowed = some_allowed(5, 9)
    parts = in_parts(q, k, v, allowed, cuts)
    expected, _ = numpy_attention(q, k, v, allowed)
    while len(parts) > 1:
        shuffle.shuffle(parts)
        parts.append(merge(parts.pop(), parts.pop()))
    out = finish(parts[0])
    close(out, expected)
    assert (out[0] == 0).all()  # the empty row


def test_merge_is_associative():
    q, k, v = random_qkv(batch=(), Tq=9, Tk=9)
    a, b, c = in_parts(100 * q, k, v, causal.matrix(9), {3, 6})
    for left, right in zip(merge(merge(a, b), c), merge(a, merge(b, c)), strict=True):
        assert torch.equal(left == -torch.inf, right == -torch.inf)
        close(left.nan_to_num(), right.nan_to_num())


def test_parts_are_differentiated_right():
    q, k, v = random_qkv(batch=(), Tq=4, Tk=6, grad=True)
    allowed = some_allowed(4, 6)

    def out(q, k, v):
        a, b, c = in_parts(q, k, v, allowed, {1, 4})
        return finish(merge(merge(a, b), c))

    assert gradcheck(out, (q, k, v))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_part_ignores_what_blocked_scores_hold(bad):
    scores, v, allowed = torch.randn(4, 7), torch.randn(7, 3), some_allowed(4, 7)
    clean = partial(scores, v, allowed)
    dirty = partial(scores.masked_fill(~allowed, bad), v, allowed)
    assert all(torch.equal(a, b) for a, b in zip(clean, dirty, strict=True))
