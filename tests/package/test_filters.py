"""Filters of logits: temperature, top-k, top-p, min-p, repetition; by hand."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from writers import NO_TOKENS, draw, kept

from mattn.generation import min_p, repetition_penalty, temperature, top_k, top_p


def probabilities(p):
    return torch.tensor([p], dtype=torch.float64).log()


def test_temperature_divides_and_zero_is_greedy():
    logits = torch.tensor([[1.0, 3.0, 2.0]])
    assert temperature(2.0)(logits, NO_TOKENS).tolist() == [[0.5, 1.5, 1.0]]
    assert torch.equal(temperature(1.0)(logits, NO_TOKENS), logits)
    assert kept(temperature(0)(logits, NO_TOKENS)) == [1]


@pytest.mark.parametrize(("k", "expected"), [(1, [2]), (2, [0, 2]), (4, [0, 1, 2, 3])])
def test_top_k(k, expected):
    p = probabilities([0.3, 0.2, 0.4, 0.1])
    assert kept(top_k(k)(p, NO_TOKENS)) == expected


def test_top_k_larger_than_the_vocabulary_keeps_all():
    p = probabilities([0.3, 0.2, 0.4, 0.1])
    assert torch.equal(top_k(5)(p, NO_TOKENS), p)


@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.0, [2]),
        (0.4, [2]),
        (0.41, [0, 2]),
        (0.7, [0, 2]),
        (0.71, [0, 1, 2]),
        (1.0, [0, 1, 2, 3]),
    ],
)
def test_top_p_by_hand(p, expected):
    # In eighths and sixteenths sums are exact: no rounding decides.
    logits = probabilities([5 / 16, 3 / 16, 7 / 16, 1 / 16])
    cut = {0.4: 7 / 16, 0.41: 7.5 / 16, 0.7: 12 / 16, 0.71: 12.5 / 16}.get(p, p)
    logits = logits + 7.0  # logits are not normalised
    assert kept(top_p(cut - 1e-9 if 0 < cut < 1 else cut)(logits, NO_TOKENS)) == (
        expected
    )


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=8), st.floats(0, 1))
def test_top_p_keeps_the_smallest_set_that_reaches_p(values, p):
    logits = torch.tensor([values], dtype=torch.float64)
    chosen = kept(top_p(p)(logits, NO_TOKENS))
    q = logits.softmax(-1)[0]
    reached = float(q[chosen].sum())
    assert reached >= p - 1e-12
    sizes = range(len(values) + 1)
    largest = [float(q.sort(descending=True).values[:n].sum()) for n in sizes]
    smallest = next(n for n in sizes if largest[n] >= p - 1e-12 and n >= 1)
    assert p == 1 or len(chosen) <= smallest + sum(abs(m - p) < 1e-9 for m in largest)
    others = [i for i in range(len(values)) if i not in chosen]
    assert all(q[i] <= q[j] for i in others for j in chosen)


@pytest.mark.parametrize(
    ("p", "expected"), [(0.0, [0, 1, 2, 3]), (0.5, [0, 2]), (0.26, [0, 2]), (1.0, [2])]
)
def test_min_p(p, expected):
    logits = probabilities([0.3, 0.1, 0.4, 0.2 - 0.1])
    assert kept(min_p(p)(logits, NO_TOKENS)) == expected


def test_min_p_keeps_what_is_impossible_impossible():
    logits = torch.tensor([[0.0, -math.inf, 1.0]])
    assert kept(min_p(0.1)(logits, NO_TOKENS)) == [0, 2]


def test_repetition_penalty_by_hand():
    logits = torch.tensor([[2.0, -2.0, 3.0, -3.0], [2.0, -2.0, 3.0, -3.0]])
    tokens = torch.tensor([[-1, 0, 1], [3, 3, -1]])  # −1 is padding
    got = repetition_penalty(2.0)(logits, tokens)
    assert got.tolist() == [[1.0, -4.0, 3.0, -3.0], [2.0, -2.0, 3.0, -6.0]]
    assert torch.equal(repetition_penalty(1.0)(logits, tokens), logits)


def test_repetition_penalty_is_per_token_not_per_time():
    logits = torch.tensor([[2.0, 1.0]])
    once = repetition_penalty(2.0)(logits, torch.tensor([[0]]))
    often = repetition_penalty(2.0)(logits, torch.tensor([[0, 0, 0]]))
    assert torch.equal(once, often)


@pytest.mark.parametrize(
    "make",
    [temperature(0.5), temperature(0), top_k(2), top_p(0.3), min_p(0.9)],
)
def test_filters_keep_the_best_and_change_nothing_in_place(make):
    logits = torch.randn(5, 7, generator=draw())
    before = logits.clone()
    out = make(logits, torch.zeros(5, 0, dtype=torch.long))
    assert torch.equal(out.argmax(-1), logits.argmax(-1))
    assert torch.equal(logits, before)
    assert (out.softmax(-1).sum(-1) - 1).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (temperature, -0.1),
        (top_k, 0),
        (top_p, 1.1),
        (top_p, -0.1),
        (min_p, 2),
        (repetition_penalty, 0.9),
    ],
)
def test_filters_refuse_what_makes_no_sense(make, wrong):
    with pytest.raises(ValueError, match=r"expected.*got"):
        make(wrong)


def test_ties_are_broken_to_one_token_by_greedy():
    logits = torch.zeros(1, 4)
    assert len(kept(top_k(1)(logits, NO_TOKENS))) == 1
    assert len(kept(top_p(0)(logits, NO_TOKENS))) == 1
    assert len(kept(temperature(0)(logits, NO_TOKENS))) == 1
