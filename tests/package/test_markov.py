"""The Markov source: its numbers by brute force, its samples by counting."""

import itertools
import math
import os
import subprocess
import sys

import pytest
import torch

from mattn.data import MarkovSource


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def all_sequences(n_symbols, length):
    return torch.tensor(list(itertools.product(range(n_symbols), repeat=length)))


def tiny(order=2):
    return MarkovSource(3, order, concentration=0.5, seed=4)


def brute_force_probability(source, sequence):
    """Stationary context by repeated steps, then one factor a token."""
    V, order = source.n_symbols, source.order
    contexts = list(itertools.product(range(V), repeat=order))
    row = {c: source.transition[i].tolist() for i, c in enumerate(contexts)}
    share = dict.fromkeys(contexts, 1 / len(contexts))
    for _ in range(300):
        after = dict.fromkeys(contexts, 0.0)
        for c, p in share.items():
            for x in range(V):
                after[(*c[1:], x)] += p * row[c][x]
        share = after
    probability = share[sequence[:order]]
    for t in range(order, len(sequence)):
        probability *= row[sequence[t - order : t]][sequence[t]]
    return probability


@pytest.mark.parametrize("order", [1, 2, 3])
def test_transition_is_a_distribution_and_stationary_is_kept(order):
    source = tiny(order)
    V = source.n_symbols
    torch.testing.assert_close(
        source.transition.sum(dim=-1), torch.ones(V**order).double()
    )
    assert (source.transition > 0).all()
    assert abs(float(source.stationary.sum()) - 1) < 1e-12
    # One step: context (a, b, …) and token x become (b, …, x).
    joint = source.stationary[:, None] * source.transition
    stepped = joint.reshape(V, -1).sum(dim=0)
    torch.testing.assert_close(stepped, source.stationary, atol=1e-12, rtol=0)


def test_hand_computed_first_order_source():
    source = MarkovSource(2, 1)
    source.transition = torch.tensor([[0.5, 0.5], [0.25, 0.75]]).double()
    source.stationary = source._stationary()
    # π₀/2 = π₁/4, so π = (1/3, 2/3).
    torch.testing.assert_close(
        source.stationary, torch.tensor([1, 2]).double() / 3, atol=1e-12, rtol=0
    )
    h_second = math.log(4) - 0.75 * math.log(3)
    expected = math.log(2) / 3 + 2 * h_second / 3
    assert abs(source.entropy_rate - expected) < 1e-12
    first = math.log(3) - 2 / 3 * math.log(2)  # entropy of (1/3, 2/3)
    torch.testing.assert_close(
        source.entropies(3),
        torch.tensor([first, expected, expected], dtype=torch.float64),
    )
    # The sequence 1, 0: π₁ = 2/3, then 1/4.
    torch.testing.assert_close(
        source.log_probs(torch.tensor([[1, 0]])).exp(),
        torch.tensor([[2 / 3, 1 / 4]], dtype=torch.float64),
    )


@pytest.mark.parametrize("order", [1, 2])
def test_log_probs_and_entropies_by_brute_force(order):
    source, T = tiny(order), 4
    sequences = all_sequences(source.n_symbols, T)
    log_p = source.log_probs(sequences)
    p = torch.tensor(
        [brute_force_probability(source, tuple(s)) for s in sequences.tolist()],
        dtype=torch.float64,
    )
    assert abs(float(p.sum()) - 1) < 1e-10
    torch.testing.assert_close(log_p.sum(dim=1).exp(), p, atol=1e-12, rtol=1e-9)
    # H(X_t | X_<t) = E[−log p(X_t | X_<t)], over every sequence there is.
    torch.testing.assert_close(-(p[:, None] * log_p).sum(dim=0), source.entropies(T))
    # Past the first tokens it is the entropy rate, before it is more.
    floors = source.entropies(T)
    torch.testing.assert_close(
        floors[order:], torch.full((T - order,), source.entropy_rate).double()
    )
    assert (floors[:order] > source.entropy_rate).all()
    # The rate is what one more token adds to the entropy of a long block.
    block = [-(q * q.log()).sum() for q in (p.reshape(-1, source.n_symbols).sum(1), p)]
    assert abs(float(block[1] - block[0]) - source.entropy_rate) < 1e-10


def test_entropies_of_short_lengths():
    source = tiny(3)
    for length in range(6):
        assert source.entropies(length).shape == (length,)
        torch.testing.assert_close(
            source.entropies(length), source.entropies(9)[:length]
        )


def test_monte_carlo_agrees_within_three_standard_errors():
    source = MarkovSource(5, 2, seed=1)
    losses = -source.log_probs(source.sample(4000, 12, generator=draw()))
    error = losses.std(dim=0) / 4000**0.5
    assert ((losses.mean(dim=0) - source.entropies(12)).abs() < 3 * error).all()
    rate = losses[:, 2:].mean(dim=1)
    assert abs(rate.mean() - source.entropy_rate) < 3 * rate.std() / 4000**0.5


def test_samples_follow_the_transition_at_every_position():
    source, n = tiny(), 20000
    tokens = source.sample(n, 5, generator=draw(2))
    for t in range(2, 5):
        context = tokens[:, t - 2] * 3 + tokens[:, t - 1]
        counts = torch.zeros(9, 3).double()
        counts.index_put_(
            (context, tokens[:, t]), torch.ones(n).double(), accumulate=True
        )
        expected = n * source.stationary[:, None] * source.transition
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < 26 + 4 * (2 * 26) ** 0.5  # 26 degrees of freedom, 4 sigma


def test_second_order_dependence_is_present():
    source = MarkovSource(8, 2)
    # What the last token alone leaves open, against what the last two do.
    V = source.n_symbols
    pair = (source.stationary[:, None] * source.transition).reshape(V, V, V).sum(dim=0)
    from_one = -(pair * (pair / pair.sum(dim=1, keepdim=True)).log()).sum()
    assert float(from_one) > source.entropy_rate + 0.3
    torch.testing.assert_close(source.entropies(3)[1], from_one)


def test_samples_are_determined_by_the_generator():
    a, b = MarkovSource(seed=7), MarkovSource(seed=7)
    torch.testing.assert_close(a.transition, b.transition, atol=0, rtol=0)
    x, y = (s.sample(6, 9, generator=draw(3)) for s in (a, b))
    assert torch.equal(x, y)
    assert x.shape == (6, 9)
    assert x.dtype == torch.long
    assert not torch.equal(x, a.sample(6, 9, generator=draw(4)))
    assert not torch.equal(a.transition, MarkovSource(seed=8).transition)
    before = torch.random.get_rng_state()
    a.sample(2, 3, generator=draw())
    assert torch.equal(before, torch.random.get_rng_state())  # no global randomness
    # Longer samples begin at the stationary context, of exactly `order` tokens.
    assert a.sample(4, 2, generator=draw()).shape == (4, 2)


def test_errors_say_what_was_expected():
    # Without jaxtyping's hook, which would raise its own error first.
    code = """
import torch
from mattn.data import MarkovSource
calls = {
    "n_symbols >= 2": lambda: MarkovSource(1),
    "order >= 1": lambda: MarkovSource(3, 0),
    "concentration > 0": lambda: MarkovSource(3, 1, concentration=0.0),
    "length >= order, 2; got 1": lambda: MarkovSource(3).sample(
        1, 1, generator=torch.Generator()
    ),
    "length >= 0; got -1": lambda: MarkovSource(3).entropies(-1),
    "tokens 0 to 2; got 0 to 3": lambda: MarkovSource(3).log_probs(
        torch.tensor([[0, 3]])
    ),
}
for text, call in calls.items():
    try:
        call()
    except ValueError as error:
        assert text in str(error), error
    else:
        raise AssertionError(text)
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
