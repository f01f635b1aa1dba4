"""Rules, their matrices, and the algebra of rules."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import KINDS, kinds_of_mask
from random_rules import T, rules
from torch.nn.attention.flex_attention import create_mask

from mattn import (
    boolean_power,
    causal,
    documents,
    full,
    padding,
    prefix,
    to_additive,
    window,
)
from mattn.masks import default_slots

# beartype draws at random which item of a list it looks at.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

SIZES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 6), (6, 6), (4, 6), (6, 4)]


def drawn(text: str) -> torch.Tensor:
    """ "10 11" → the matrix with these rows."""
    return torch.tensor([[c == "1" for c in row] for row in text.split()])


@pytest.mark.parametrize(
    ("rule", "Tq", "Tk", "picture"),
    [
        (full, 2, 3, "111 111"),
        (causal, 3, 3, "100 110 111"),
        (causal, 2, 5, "11110 11111"),
        (causal, 1, 4, "1111"),
        (causal, 4, 2, "00 00 10 11"),
        (~causal, 3, 3, "011 001 000"),
        (window(2), 4, 4, "1111 1111 0111 0011"),
        (causal & window(1), 3, 3, "100 010 001"),
        (causal & window(2), 4, 4, "1000 1100 0110 0011"),
        (causal & window(2), 2, 5, "00110 00011"),
        (causal & window(2), 4, 2, "00 00 10 11"),
        (prefix(0), 2, 3, "000 000"),
        (prefix(2), 2, 3, "110 110"),
        (causal | prefix(2), 4, 4, "1100 1100 1110 1111"),
        (documents([0, 0, 1, 0]), 4, 4, "1101 1101 0010 1101"),
        (causal & documents([7, 7, 2, 2]), 4, 4, "1000 1100 0010 0011"),
        (documents([0, 0, 1]), 2, 3, "110 001"),
        (documents([0, 1]), 3, 2, "00 10 01"),
    ],
)
def test_drawn_by_hand(rule, Tq, Tk, picture):
    assert torch.equal(rule.matrix(Tq, Tk), drawn(picture))


@pytest.mark.parametrize(
    ("rule", "Tq", "Tk", "pictures"),
    [
        (padding([2, 0, 3]), 2, 3, ["110 110", "000 000", "111 111"]),
        (causal & padding([1, 3]), 3, 3, ["100 100 100", "100 110 111"]),
        (padding([1, 3], side="left"), 1, 3, ["001", "111"]),
        (padding([1, 2], side="left", width=3), 1, 3, ["001", "011"]),
        # What is generated after left-padded prompts is real.
        (padding([1, 3], side="left"), 1, 5, ["00111", "11111"]),
        (documents([[0, 0, 1], [0, 1, 1]]), 1, 3, ["001", "011"]),
    ],
)
def test_drawn_by_hand_for_each_row_of_the_batch(rule, Tq, Tk, pictures):
    assert torch.equal(rule.matrix(Tq, Tk), torch.stack([drawn(p) for p in pictures]))


@pytest.mark.parametrize("Tk", [5, 8])
@pytest.mark.parametrize("Tq", [5, 8])
@pytest.mark.parametrize(
    ("rule", "definition"),
    [
        (causal, lambda q, k: k <= q),
        (window(3), lambda q, k: q - k < 3),
        (prefix(3), lambda q, k: k < 3),
        (causal & window(3), lambda q, k: 0 <= q - k < 3),
        (causal | prefix(3), lambda q, k: k <= q or k < 3),
    ],
    ids=["causal", "window", "prefix", "causal-window", "causal-prefix"],
)
def test_the_last_query_stands_at_the_last_key(rule, definition, Tq, Tk):
    expected = [[definition(Tk - Tq + i, j) for j in range(Tk)] for i in range(Tq)]
    assert rule.matrix(Tq, Tk).tolist() == expected


@pytest.mark.parametrize("w", range(1, 10))
def test_a_causal_window_of_w_shows_w_keys(w):
    shown = (causal & window(w)).matrix(9).sum(dim=-1)
    assert shown.tolist() == [min(i + 1, w) for i in range(9)]


@pytest.mark.parametrize(("Tq", "Tk"), SIZES)
@pytest.mark.parametrize("kind", KINDS[1:])
def test_renderings_agree_bit_for_bit(kind, Tq, Tk):
    rule = kinds_of_mask(Tk)[kind]
    matrix = rule.matrix(Tq, Tk)
    assert matrix.dtype == torch.bool
    assert matrix.shape == (*(() if rule.batch is None else (2,)), Tq, Tk)

    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        additive = rule.additive(Tq, Tk, dtype=dtype)
        assert additive.dtype == dtype
        assert torch.equal(additive == 0, matrix)
        assert torch.equal(additive == -torch.inf, ~matrix)
        assert torch.equal(additive, to_additive(matrix, dtype=dtype))

    assert torch.equal(rule.at(*default_slots(Tq, Tk)), matrix)

    if Tq and Tk:  # FlexAttention's own renderer takes no empty sizes
        mask_mod = rule.predicate(Tq, Tk)

        def four_arguments(b, h, q, k):  # the shape checks hide their number
            return mask_mod(b, h, q, k)

        predicate = create_mask(four_arguments, 2, 3, Tq, Tk, device="cpu")
        by_row = matrix if matrix.ndim == 3 else matrix.expand(2, -1, -1)
        assert torch.equal(predicate, by_row[:, None].expand(2, 3, -1, -1))


@pytest.mark.parametrize("kind", KINDS[1:])
def test_explicit_positions_pick_rows_and_columns(kind):
    rule = kinds_of_mask(7)[kind]
    q, k = torch.tensor([6, 0, 3]), torch.tensor([2, 5, 1, 6])
    expected = rule.matrix(7)[..., q, :][..., k]
    assert torch.equal(rule.at(q, k), expected)
    # The same for positions that differ by row of the batch.
    rows = torch.stack([q, q + 0]), torch.stack([k, k.flip(0)])
    expected = expected.expand(2, 3, 4).clone()
    expected[1] = expected[1].flip(-1)
    assert torch.equal(rule.at(*rows), expected)


def test_default_slots():
    assert [p.tolist() for p in default_slots(2, 5)] == [[3, 4], [0, 1, 2, 3, 4]]
    assert [p.tolist() for p in default_slots(3, 1)] == [[-2, -1, 0], [0]]
    assert [p.tolist() for p in default_slots(2)] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("kind", KINDS[1:])
def test_matrix_is_made_on_the_device_asked_for(kind):
    rule = kinds_of_mask(5)[kind]
    assert rule.matrix(3, 5, device="meta").device.type == "meta"
    assert rule.additive(3, 5, device="meta").device.type == "meta"


def test_a_rule_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        window(3).w = 4


# --- The algebra, on random rules --------------------------------------------


# Negative key slots hold no token.
def some_slots(at_most: int) -> st.SearchStrategy[torch.Tensor]:
    slots = st.lists(st.integers(-2, T - 1), max_size=at_most)
    return slots.map(lambda p: torch.tensor(p, dtype=torch.long))


q_slots, k_slots = some_slots(4), some_slots(5)


@given(rules, rules, rules, q_slots, k_slots)
def test_rules_are_a_boolean_algebra(a, b, c, q, k):
    def equal(left, right):
        left, right = left.at(q, k), right.at(q, k)
        # A rule that tells no rows apart stands for all of them.
        assert torch.equal(*torch.broadcast_tensors(left, right))

    equal(~(a & b), ~a | ~b)
    equal(~(a | b), ~a & ~b)
    equal(~~a, a)
    equal(a & b, b & a)
    equal(a | b, b | a)
    equal((a & b) & c, a & (b & c))
    equal((a | b) | c, a | (b | c))
    equal(a & (b | c), (a & b) | (a & c))
    equal(a & full, a)
    equal(a & ~a, ~full)
    equal(a | ~a, full)


@given(rules, rules, q_slots, k_slots)
def test_connectives_are_those_of_each_cell(a, b, q, k):
    left, right = torch.broadcast_tensors(a.at(q, k), b.at(q, k))
    token = k >= 0
    assert torch.equal((a & b).at(q, k).expand_as(left), left & right)
    assert torch.equal((a | b).at(q, k).expand_as(left), left | right)
    assert torch.equal((~a).at(q, k).expand_as(left), ~left & token)


@given(rules, q_slots, k_slots)
def test_no_rule_shows_an_empty_slot(rule, q, k):
    for r in (rule, ~rule):
        assert not r.at(q, k)[..., k < 0].any()


@given(rules, st.integers(0, T))
def test_a_shorter_block_of_queries_is_the_last_rows(rule, Tq):
    assert torch.equal(rule.matrix(Tq, T), rule.matrix(T)[..., T - Tq :, :])


# --- Powers ------------------------------------------------------------------


def test_power_by_hand():
    chain = drawn("000 100 010")  # 2 → 1 → 0
    assert torch.equal(boolean_power(chain, 0), drawn("100 010 001"))
    assert torch.equal(boolean_power(chain, 1), chain)
    assert torch.equal(boolean_power(chain, 2), drawn("000 000 100"))
    assert not boolean_power(chain, 3).any()


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("w", [1, 2, 4])
def test_layers_with_a_window_see_n_times_w_minus_one_back(n, w):
    reach = n * (w - 1) + 1
    expected = (causal & window(reach)).matrix(9)
    assert torch.equal(boolean_power((causal & window(w)).matrix(9), n), expected)


@given(st.integers(0, 2**20), st.integers(0, 5))
def test_power_is_that_of_integer_matrices(seed, n):
    allowed = np.random.default_rng(seed).random((5, 5)) < 0.3
    expected = np.linalg.matrix_power(allowed.astype(int), n) > 0
    assert boolean_power(torch.tensor(allowed), n).tolist() == expected.tolist()
