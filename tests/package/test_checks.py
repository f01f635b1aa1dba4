"""Equality and influence: the checks that everything else stands on."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mattn.checks import TOLERANCE, influence, same, sensitivity

# --- same ------------------------------------------------------------------------

ONE = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (ONE, ONE),
        (ONE, ONE.numpy()),
        (ONE, ONE.tolist()),
        (ONE, ONE + 0.9e-10),
        (ONE.float(), ONE + 0.9e-5),  # the less precise dtype decides
        (ONE, ONE.float() + 0.9e-5),
        (ONE.half(), ONE + 0.9e-3),
        (1.5, torch.tensor(1.5)),
        (torch.tensor([True, False]), np.array([True, False])),
        (torch.tensor([1, 2]), [1, 2]),
        (torch.tensor([torch.inf, -torch.inf]), [torch.inf, -torch.inf]),
        (torch.zeros(0, 3), torch.zeros(0, 3)),
        (ONE.clone().requires_grad_(), ONE),
    ],
)
def test_same(a, b):
    same(a, b)
    same(b, a)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (ONE, ONE.reshape(4), r"shapes differ: \(2, 2\) and \(4,\)"),
        (ONE, ONE[0], "shapes differ"),  # never broadcast
        (ONE, ONE[:, :1], "shapes differ"),
        (torch.zeros(0, 3), torch.zeros(3, 0), "shapes differ"),
        (ONE, ONE + 1.1e-10, "values differ by 1.1e-10"),
        (ONE.float(), ONE.float() + 1.2e-5, "allowed: 1e-05"),
        (ONE, ONE * torch.tensor([1, 2]), r"differ by 4 at \(1, 1\): 4.0 and 8.0"),
        (torch.tensor([1, 2]), [1, 3], r"differ by 1 at \(1,\): 2.0 and 3.0"),
        (torch.tensor([True]), [False], r"differ by 1 at \(0,\)"),
        (1.5, 1.6, r"at \(\)"),
        (torch.tensor([torch.nan]), [torch.nan], "differ by nan"),
        (torch.tensor([1.0, torch.nan]), [5.0, 1.0], r"differ by nan at \(1,\)"),
        (torch.tensor([torch.inf]), [-torch.inf], "differ by inf"),
        (torch.tensor([torch.inf]), [1e30], "differ by inf"),
    ],
)
def test_different(a, b, message):
    with pytest.raises(AssertionError, match=message):
        same(a, b)
    with pytest.raises(AssertionError):
        same(b, a)


def test_the_tolerance_can_be_chosen():
    same(ONE, ONE + 0.1, atol=0.11)
    with pytest.raises(AssertionError, match="allowed: 0"):
        same(ONE, ONE + 1e-15, atol=0)
    assert TOLERANCE[torch.float32] == 1e-5
    assert TOLERANCE[torch.float64] == 1e-10


def test_nothing_is_changed_and_nothing_warned(recwarn):
    a = np.arange(3.0)
    a.setflags(write=False)
    same(a, torch.arange(3.0).double())
    assert a.tolist() == [0, 1, 2]
    assert not recwarn


# --- influence and sensitivity ------------------------------------------------------


def linear_map(matrix: torch.Tensor):
    """Output i is the sum of the inputs j at which entry (i, j) is not 0."""
    return lambda x: torch.einsum("ij,jc->ic", matrix, x)


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**20))
def test_influence_finds_exactly_the_links_that_are_there(n_out, n_in, seed):
    generator = torch.Generator().manual_seed(seed)
    links = torch.rand(n_out, n_in, generator=generator) < 0.4
    x = torch.randn(n_in, 3, dtype=torch.float64, generator=generator)
    weights = links * (0.1 + torch.rand(links.shape, generator=generator).double())
    assert torch.equal(influence(linear_map(weights), x), links)
    # The largest derivative of any feature by any feature is the weight itself.
    same(sensitivity(linear_map(weights), x), weights)


def test_influence_sees_one_feature_and_the_smallest_change():
    def f(x):
        return x + 1e-12 * x.flip(0) * torch.tensor([0.0, 0.0, 1.0]).double()

    x = torch.randn(4, 3, dtype=torch.float64)
    assert torch.equal(influence(f, x), (torch.eye(4) + torch.eye(4).flip(0)).bool())


def test_influence_does_not_look_at_gradients():
    def f(x):
        return x.detach().cumsum(0).round()

    x = 10 * torch.randn(4, 3)
    assert torch.equal(influence(f, x), torch.ones(4, 4).bool().tril())


def test_influence_of_tokens():
    table = torch.randn(5, 2)

    def f(tokens):
        return table[tokens].cumsum(0)

    tokens = torch.tensor([0, 4, 2, 4])
    expected = torch.ones(4, 4).bool().tril()
    assert torch.equal(influence(f, tokens, n_symbols=5), expected)
    # Of two symbols the other one is always tried.
    assert influence(lambda t: t, torch.tensor([1]), n_symbols=2).item()


def test_one_try_that_shows_a_link_is_enough():
    out = influence(lambda t: t == 3, torch.zeros(10).long(), n_symbols=4, n_tries=40)
    assert torch.equal(out, torch.eye(10).bool())


def test_influence_takes_nan_for_what_it_is():
    def nowhere(x):
        return torch.full_like(x, torch.nan)

    def sometimes(x):
        return torch.where(x == ONE, x, torch.nan)

    assert not influence(nowhere, ONE).any()
    assert torch.equal(influence(sometimes, ONE), torch.eye(2).bool())


def test_influence_changes_neither_input_nor_global_randomness():
    x, state = torch.randn(4, 3), torch.get_rng_state()
    x_state = x.clone()
    influence(lambda x: x, x)
    influence(lambda x: x, x, generator=torch.Generator().manual_seed(1))
    assert torch.equal(x, x_state)
    torch.manual_seed(0)
    torch.randn(4, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_signed_sum_would_miss_what_sensitivity_finds():
    def f(x):
        a, b = x[1, 0] - x[1, 1], x[0, 0] - 2 * x[0, 1]
        return torch.stack([a, -a, b])[None]  # (1, 3)

    out = sensitivity(f, torch.randn(2, 2, dtype=torch.float64))
    same(out, torch.tensor([[2.0, 1.0]]).double())


def test_sensitivity_by_hand():
    # f(x)₀ = x₀² and f(x)₁ = 3·x₀·x₁ at x = (2, 5).
    def f(x):
        return torch.stack([x[0] ** 2, 3 * x[0] * x[1]])

    out = sensitivity(f, torch.tensor([[2.0], [5.0]]))
    same(out, torch.tensor([[4.0, 0.0], [15.0, 6.0]]))


# --- edges ----------------------------------------------------------------------------

BIG = 2**53


def test_integers_beyond_float64_are_compared_as_integers():
    same(torch.tensor([BIG + 1]), [BIG + 1])
    with pytest.raises(AssertionError, match=r"differ by 1 at \(0,\)"):
        same(torch.tensor([BIG]), [BIG + 1])
    with pytest.raises(AssertionError, match="differ"):
        same(torch.tensor([2**62]), [-(2**62)])
    same(torch.tensor([BIG]), [BIG + 1], atol=1)


def test_complex_numbers_are_compared_as_such():
    z = torch.tensor([1 + 2j])
    same(z, [1 + 2j])
    with pytest.raises(AssertionError, match="differ by 1"):
        same(z, [1 + 3j])


@pytest.mark.parametrize("atol", [-1e-9, float("nan")])
def test_a_tolerance_is_no_less_than_0(atol):
    with pytest.raises(ValueError, match="atol >= 0; got"):
        same(ONE, ONE, atol=atol)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e10, 1e30])
def test_influence_changes_features_of_every_size(scale):
    x = scale * torch.randn(3, 2)
    assert torch.equal(influence(lambda x: x, x), torch.eye(3).bool())
    x = x.double().t().contiguous().t()  # other strides
    assert torch.equal(influence(lambda x: x, x), torch.eye(3).bool())


def test_influence_sees_through_a_function_that_keeps_one_buffer():
    buffer = torch.empty(3, 2)
    assert torch.equal(influence(buffer.copy_, torch.randn(3, 2)), torch.eye(3).bool())


def test_influence_gives_the_function_a_copy():
    x = torch.randn(3, 2)
    before = x.clone()
    assert torch.equal(influence(lambda x: x.mul_(2), x), torch.eye(3).bool())
    assert torch.equal(x, before)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_influence_refuses_what_noise_does_not_change(bad):
    x = torch.tensor([[1.0], [bad]])
    with pytest.raises(ValueError, match="finite features; got NaN or ∞"):
        influence(lambda x: x, x)


def test_influence_without_a_try_or_an_output_for_each_position_is_refused():
    with pytest.raises(ValueError, match="n_tries >= 1; got 0"):
        influence(lambda x: x, ONE, n_tries=0)
    with pytest.raises(ValueError, match=r"for each position.*got a scalar"):
        influence(torch.sum, ONE)
    assert influence(lambda x: x, ONE[:0]).shape == (0, 0)
    assert influence(lambda x: ONE, ONE[:0]).shape == (2, 0)


def test_sensitivity_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"features \(T, C\), T and C >= 1"):
        sensitivity(lambda x: x, ONE[:0])
