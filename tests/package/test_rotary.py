"""Where tokens stand: rotary positions, their scalings, and none."""

import math
from dataclasses import replace

import pytest
import torch
from decoders import BASE, T, model_of, tokens_like

from mattn import full
from mattn.models import Decoder
from mattn.rotary import RopeScaling, Rotary


def test_rotary_by_hand():
    # Two features, θ⁰ = 1: position p turns (1, 0) to (cos p, sin p).
    turned = Rotary(2, 10.0)(torch.tensor([[[[1.0, 0.0]] * 3]]), torch.arange(3))
    expected = [[math.cos(p), math.sin(p)] for p in range(3)]
    torch.testing.assert_close(turned[0, 0], torch.tensor(expected))
    assert Rotary(6, 1000.0).frequencies == pytest.approx([1.0, 0.1, 0.01])


def test_rotary_is_a_product_of_complex_numbers():
    x = torch.randn(2, 3, 5, 8, dtype=torch.float64)
    positions = torch.tensor([[0, 3, 4, 9, 100], [-2, -1, 0, 1, 2]])
    rotary = Rotary(8, 50.0)
    angles = positions[:, None, :, None] * torch.tensor(rotary.frequencies).double()
    unit = torch.polar(torch.ones_like(angles), angles)
    product = torch.complex(x[..., :4], x[..., 4:]) * unit
    expected = torch.cat([product.real, product.imag], dim=-1)
    torch.testing.assert_close(rotary(x, positions), expected, atol=1e-6, rtol=0)
    assert torch.equal(rotary(x, torch.zeros(5, dtype=torch.long)), x)
    torch.testing.assert_close(rotary(x, positions).norm(dim=-1), x.norm(dim=-1))


def test_rotary_scores_depend_on_the_difference_of_positions_alone():
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    rotary = Rotary(8, 10_000.0)

    def score(i, j):
        return (rotary(q, torch.tensor([i])) * rotary(k, torch.tensor([j]))).sum()

    torch.testing.assert_close(score(5, 2), score(1005, 1002), atol=1e-10, rtol=0)
    assert (score(5, 2) - score(2, 5)).abs() > 1e-2  # and on its sign
    assert (score(5, 2) - score(5, 3)).abs() > 1e-2


@pytest.mark.parametrize("name", ["plain", "window", "scaled"])
@torch.no_grad()
def test_logits_do_not_change_when_all_positions_shift(name):
    model = model_of(name).double()
    tokens, positions = tokens_like(2, T), torch.arange(T)
    torch.testing.assert_close(model(tokens, positions=positions), model(tokens))
    torch.testing.assert_close(model(tokens, positions=positions + 90), model(tokens))
    spread = model(tokens, positions=2 * positions)
    assert (spread - model(tokens)).abs().max() > 1e-3


def test_linear_scaling_divides_positions():
    x, positions = torch.randn(1, 2, 5, 8, dtype=torch.float64), torch.arange(5)
    scaled = Rotary(8, 100.0, RopeScaling("linear", 4.0))
    expected = Rotary(8, 100.0)(x, positions)
    torch.testing.assert_close(scaled(x, 4 * positions), expected)


def test_llama3_scaling_by_hand():
    # In 2π·8 tokens, frequency f turns 8f times: above 4 kept, below 1 ÷ 8.
    frequencies = torch.tensor([1.0, 0.5, 0.3125, 0.125, 0.01], dtype=torch.float64)
    scaling = RopeScaling("llama3", 8.0, low=1.0, high=4.0, original_context=50)
    turns = 50 * frequencies / (2 * math.pi)  # 7.96, 3.98, 2.49, 0.99, 0.08
    expected = frequencies.clone()
    expected[3:] /= 8
    for m in (1, 2):
        keep = (turns[m] - 1) / 3
        expected[m] = keep * frequencies[m] + (1 - keep) * frequencies[m] / 8
    torch.testing.assert_close(scaling(frequencies), expected)


def test_half_precision_does_not_round_the_frequencies():
    config = replace(BASE, n_layers=1)
    model = Decoder(config).half()
    rotate = model.blocks[0].attention.rotate
    assert rotate.frequencies == Rotary(6, 10_000.0).frequencies
    x = torch.randn(1, 1, 1, 6)
    position = torch.tensor([3001])
    exact = rotate(x.double(), position)
    assert rotate(x.half(), position).dtype == torch.float16
    torch.testing.assert_close(
        rotate(x.half(), position).double(), exact, atol=5e-3, rtol=0
    )


# Without positions ----------------------------------------------------------


@torch.no_grad()
def test_without_positions_full_attention_is_permutation_equivariant():
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    model = Decoder(replace(BASE, rope_theta=None), full).double()
    tokens = torch.arange(T)[None]
    torch.testing.assert_close(model(tokens[:, order]), model(tokens)[:, order])
    rotary = Decoder(BASE, full).double()
    assert (rotary(tokens[:, order]) - rotary(tokens)[:, order]).abs().max() > 0.01


@torch.no_grad()
def test_without_positions_one_causal_layer_sees_a_multiset_and_two_see_order():
    order = torch.tensor([3, 0, 5, 1, 4, 2, 6])  # the last token stays
    tokens = torch.arange(T)[None]

    def moved(n_layers):
        config = replace(BASE, rope_theta=None, n_layers=n_layers)
        model = Decoder(config).double()
        return (model(tokens[:, order]) - model(tokens))[:, -1].abs().max()

    assert moved(1) < 1e-12
    assert moved(2) > 1e-3
