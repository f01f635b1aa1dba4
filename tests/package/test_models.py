"""The decoder and the encoder–decoder: what each part may see, exactly."""

import ast
import itertools
import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import mattn.models
from mattn import (
    MultiHeadAttention,
    boolean_power,
    causal,
    documents,
    full,
    padding,
    prefix,
    record_weights,
    window,
)
from mattn.cache import Cache
from mattn.checks import influence
from mattn.config import Config
from mattn.losses import next_token_loss
from mattn.models import Block, Decoder, EncoderDecoder
from mattn.rotary import RopeScaling, Rotary

V, T = 13, 7
SLIDING = causal & window(3)
BASE = Config(n_symbols=V, d_model=24, n_layers=2, n_heads=4)
CONFIGS = {
    "plain": BASE,
    "tied": replace(BASE, tied=True),
    "grouped": replace(BASE, n_kv_heads=2),
    "one key head": replace(BASE, n_kv_heads=1, n_layers=3),
    "wide heads": replace(BASE, d_head=10, n_kv_heads=2),
    "normed": replace(BASE, qk_norm=True, activation="squared_relu"),
    "no positions": replace(BASE, rope_theta=None),
    "scaled": replace(BASE, rope_scaling=RopeScaling("linear", 4.0)),
    "window": replace(BASE, d_hidden=17),
}


def model_of(name):
    """The model of a name in ``CONFIGS``."""
    return Decoder(CONFIGS[name], SLIDING if name == "window" else causal)


def tokens_like(*shape, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(V, shape, generator=generator)


def measured(model, tokens):
    """What reaches what, from tokens to logits, in float64."""
    model = model.double().eval()
    return influence(lambda row: model(row[None])[0], tokens, n_symbols=V, n_tries=2)


# What a token may see -------------------------------------------------------


@pytest.mark.parametrize("n_layers", [1, 2, 3])
@pytest.mark.parametrize(
    "mask",
    [
        causal,
        full,
        causal & window(2),
        causal | prefix(3),
        causal & documents([0, 0, 0, 1] * 2),
    ],
    ids=repr,
)
def test_influence_of_L_layers_is_the_boolean_power_of_the_mask(mask, n_layers):
    model = Decoder(replace(BASE, n_layers=n_layers), mask)
    allowed = mask.matrix(8)
    assert allowed.diagonal().all()  # so the residual stream adds nothing
    got = measured(model, tokens_like(8))
    assert torch.equal(got, boolean_power(allowed, n_layers))
    # The test can fail: a mask that is removed, flipped or shifted shows.
    if mask is not full:
        for wrong in (full.matrix(8), allowed.T, allowed.roll(1, dims=0)):
            power = boolean_power(wrong | torch.eye(8, dtype=torch.bool), n_layers)
            assert not torch.equal(got, power)


@pytest.mark.parametrize(("n_layers", "w"), [(1, 3), (2, 3), (3, 2), (2, 4), (2, 1)])
def test_a_window_shows_L_times_w_minus_1_plus_1_positions(n_layers, w):
    model = Decoder(replace(BASE, n_layers=n_layers), causal & window(w))
    reach = n_layers * (w - 1) + 1
    seen = measured(model, tokens_like(9)).sum(dim=1)
    assert seen.tolist() == [min(i + 1, reach) for i in range(9)]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_causal(name):
    config = CONFIGS[name]
    model = model_of(name)
    expected = boolean_power(model.masks[0].matrix(T), config.n_layers)
    assert torch.equal(measured(model, tokens_like(T)), expected)
    model.train()
    got = influence(lambda row: model(row[None])[0], tokens_like(T), n_symbols=V)
    assert torch.equal(got, expected)


def test_a_rule_for_each_layer_and_one_for_all():
    model = Decoder(BASE, (causal, SLIDING)).double()
    assert model.mask == model.masks == (causal, SLIDING)
    expected = SLIDING.matrix(T).float() @ causal.matrix(T).float() > 0
    assert torch.equal(measured(model, tokens_like(T)), expected)
    model.mask = SLIDING
    assert (model.mask, model.masks) == (SLIDING, (SLIDING, SLIDING))
    assert torch.equal(
        measured(model, tokens_like(T)), boolean_power(SLIDING.matrix(T), 2)
    )
    with pytest.raises(ValueError, match="one for each of 2 layers"):
        model.mask = [causal]
    assert model.mask is SLIDING


def test_packed_documents_equal_separate_ones():
    model = Decoder(BASE).double()
    first, second = tokens_like(1, 4, seed=1), tokens_like(1, 5, seed=2)
    packed = torch.cat([first, second], dim=1)
    logits = model(packed, mask=documents([0] * 4 + [1] * 5))
    torch.testing.assert_close(logits[:, :4], model(first))
    torch.testing.assert_close(logits[:, 4:], model(second))
    assert (model(packed)[:, 4:] - model(second)).abs().max() > 0.01


def test_rows_of_a_batch_do_not_mix():
    model = Decoder(BASE).double()
    tokens = tokens_like(3, T)
    changed = tokens.clone()
    changed[1] = (changed[1] + 1) % V
    before, after = model(tokens), model(changed)
    assert torch.equal(before[[0, 2]], after[[0, 2]])
    assert (before[1] - after[1]).abs().amax(dim=-1).min() > 1e-3


# Cached, chunked, padded ----------------------------------------------------


def splits(n):
    """All ways to read n tokens in chunks: 2ⁿ⁻¹ of them."""
    for cuts in itertools.product([False, True], repeat=n - 1):
        bounds = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), n]
        yield list(itertools.pairwise(bounds))


@pytest.mark.parametrize(
    ("name", "capacity"),
    [
        ("grouped", T),
        ("normed", T),
        ("no positions", T),
        ("window", T),
        ("window", 3),
        ("window", None),
    ],
)
@torch.no_grad()
def test_cached_equals_uncached_for_every_split(name, capacity):
    model, tokens = model_of(name), tokens_like(2, T)
    expected = model(tokens)
    for split in splits(T):
        cache = model.new_cache(capacity)
        parts = [model(tokens[:, a:b], cache=cache) for a, b in split]
        torch.testing.assert_close(
            torch.cat(parts, dim=1), expected, atol=1e-5, rtol=0, msg=str(split)
        )


@torch.no_grad()
def test_a_ring_reads_far_beyond_its_memory():
    model = Decoder(BASE, SLIDING)
    tokens = tokens_like(1, 40)
    cache = model.new_cache()
    parts = [model(tokens[:, i : i + 1], cache=cache) for i in range(40)]
    torch.testing.assert_close(
        torch.cat(parts, dim=1), model(tokens), atol=1e-5, rtol=0
    )
    assert [layer.n_held for layer in cache.own] == [3, 3]
    assert cache.own[0].contents()[0].shape[2] == 3


@pytest.mark.parametrize(
    "mask",
    [causal, causal & window(4), causal & (window(3) | prefix(2)), causal | prefix(1)],
    ids=repr,
)
@torch.no_grad()
def test_left_padded_rows_equal_each_row_alone(mask):
    model = Decoder(replace(BASE, n_kv_heads=2), mask)
    lengths = [3, 6, 1]
    rows = [tokens_like(1, n + 3, seed=n) for n in lengths]  # 3 more to be written
    tokens = torch.zeros(3, 6, dtype=torch.long)
    for b, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        tokens[b, 6 - n :] = row[0, :n]
    first = torch.tensor(lengths) - 6
    slots = first[:, None] + torch.arange(6)  # negative where padded
    cache = model.new_cache(9)
    logits = model(tokens, slots=slots, cache=cache)
    torch.testing.assert_close(logits, model(tokens, slots=slots))
    later = torch.stack([row[0, n:] for row, n in zip(rows, lengths, strict=True)])
    for step in range(3):
        slot = torch.tensor(lengths)[:, None] + step
        out = model(later[:, step : step + 1], slots=slot, cache=cache)
        logits = torch.cat([logits, out], dim=1)
    for b, (row, n) in enumerate(zip(rows, lengths, strict=True)):
        torch.testing.assert_close(logits[b, 6 - n :], model(row)[0], atol=1e-5, rtol=0)


def test_capacity_comes_from_the_call_the_context_or_nowhere():
    assert Decoder(replace(BASE, context=5)).new_cache().own[0].capacity == 5
    assert Decoder(replace(BASE, context=5)).new_cache(8).own[0].capacity == 8
    with pytest.raises(ValueError, match="capacity"):
        Decoder(BASE).new_cache()
    model = Decoder(BASE)
    with pytest.raises(ValueError, match="new_cache"):
        model(tokens_like(1, 3), cache=Cache(model.new_cache(8).own[:1]))


# One forward ----------------------------------------------------------------


@torch.no_grad()
def test_the_maps_come_from_the_same_forward():
    model = Decoder(replace(BASE, n_kv_heads=2), SLIDING)
    tokens = tokens_like(2, T)
    with record_weights(model) as weights:
        recorded = model(tokens)
    torch.testing.assert_close(recorded, model(tokens), atol=1e-5, rtol=0)
    assert list(weights) == ["blocks.0.attention", "blocks.1.attention"]
    allowed = (causal & window(3)).matrix(T)
    for layer in weights.values():
        assert layer.shape == (2, 4, T, T)
        assert torch.equal(layer > 0, allowed.expand(2, 4, T, T))


def test_the_forward_is_the_loop_over_the_blocks():
    model = Decoder(BASE)
    tokens = tokens_like(2, T)
    x = model.embedding(tokens)
    for block in model.blocks:
        x = x + block.attention(block.attention_norm(x), causal)
        x = x + block.mlp(block.mlp_norm(x))
    assert torch.equal(model.head(model.norm(x)), model(tokens))


def test_nothing_but_the_mask_tells_an_encoder_from_a_decoder():
    decoder, encoder = Decoder(BASE), Decoder(BASE, full)
    encoder.load_state_dict(decoder.state_dict())
    tokens = tokens_like(1, T)
    a, b = decoder(tokens), encoder(tokens)
    assert not torch.allclose(a[:, 0], b[:, 0], atol=1e-3)
    # The first layer's last query sees the same under both masks.
    assert torch.equal(decoder(tokens[:, :1]), encoder(tokens[:, :1]))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_is_trained(name):
    model = Decoder(CONFIGS[name])
    next_token_loss(model(tokens_like(2, T)), tokens_like(2, T)).backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


# The parts ------------------------------------------------------------------


def test_rms_norm_by_hand():
    norm = nn.RMSNorm(2, eps=1e-6)
    out = norm(torch.tensor([[3.0, 4.0]]))  # root of the mean square: √12.5
    torch.testing.assert_close(out, torch.tensor([[3.0, 4.0]]) / math.sqrt(12.5))


def test_mlps_by_hand():
    gated = mattn.models.MLP(replace(BASE, d_hidden=5))
    x = torch.randn(2, 3, 24)
    a, b = x @ gated.gate.weight.T, x @ gated.up.weight.T
    expected = (a / (1 + torch.exp(-a)) * b) @ gated.down.weight.T
    torch.testing.assert_close(gated(x), expected)
    config = replace(BASE, d_hidden=5, activation="squared_relu")
    squared = mattn.models.MLP(config)
    a = x @ squared.up.weight.T
    expected = torch.where(a > 0, a**2, 0.0) @ squared.down.weight.T
    torch.testing.assert_close(squared(x), expected)


def test_normed_queries_and_keys_do_not_grow():
    model = Decoder(replace(BASE, qk_norm=True)).double()
    tokens = tokens_like(1, T)
    before = model(tokens)
    with torch.no_grad():
        for block in model.blocks:
            block.attention.query.weight *= 100
            block.attention.key.weight *= 100
    torch.testing.assert_close(model(tokens), before, atol=1e-3, rtol=0)


def test_a_tied_head_is_the_embedding():
    model = Decoder(replace(BASE, tied=True))
    assert model.head is None
    assert not any("head" in name for name in model.state_dict())
    x = model.run(model.embedding(tokens_like(1, T)))
    expected = x @ model.embedding.weight.T
    torch.testing.assert_close(model(tokens_like(1, T)), expected)


def test_a_zero_head_starts_at_ln_V():
    model = Decoder(replace(BASE, zero_head=True))
    logits = model(tokens_like(2, T))
    assert torch.equal(logits, torch.zeros(2, T, V))
    loss = next_token_loss(logits, tokens_like(2, T)).item()
    assert loss == pytest.approx(math.log(V))


@pytest.mark.parametrize("n_layers", [1, 8, 32])
def test_the_residual_stream_starts_with_size_of_order_1(n_layers):
    config = Config(n_symbols=50, d_model=64, n_layers=n_layers, n_heads=4)
    model = Decoder(config)
    tokens = torch.randint(50, (4, 16))
    x = model.embedding(tokens)
    for block in model.blocks:
        x = block(x, causal)
    assert 0.8 < x.square().mean().sqrt() < 1.7
    assert 0.5 < model(tokens).std() < 1.5
    with torch.no_grad():  # writes of full size: the stream grows like √depth
        for block in model.blocks:
            block.attention.output.weight *= math.sqrt(2 * n_layers)
            block.mlp.down.weight *= math.sqrt(2 * n_layers)
    x = model.embedding(tokens)
    for block in model.blocks:
        x = block(x, causal)
    if n_layers == 32:
        assert x.square().mean().sqrt() > 3


def test_dropout_acts_in_training_only():
    model = Decoder(replace(BASE, dropout=0.5))
    tokens = tokens_like(1, T)
    assert not torch.equal(model(tokens), model(tokens))
    model.eval()
    assert torch.equal(model(tokens), model(tokens))


# Rotary positions -----------------------------------------------------------


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


# Counts ---------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_parameters_and_operations_by_formula_equal_those_counted(name):
    config = CONFIGS[name]
    model = Decoder(config)
    assert config.n_parameters == sum(p.numel() for p in model.parameters())
    for n_tokens in (1, 6, 11):
        # The fused kernel is not counted on every machine; its equal is.
        with record_weights(model), FlopCounterMode(display=False) as counter:
            model(tokens_like(3, n_tokens))
        counted = counter.get_total_flops()
        assert counted == 3 * n_tokens * config.flops_per_token(n_tokens)


def test_counts_by_hand():
    config = Config(n_symbols=10, d_model=4, n_layers=1, n_heads=2, d_hidden=3)
    # Embedding and head 2·40, four 4×4 maps, three of 4×3, three norms of 4.
    assert config.n_parameters == 80 + 64 + 36 + 12
    # 2 for each of 64 + 36 + 40 weights; 2 products of T·C multiply-adds.
    assert config.flops_per_token(5) == 2 * 140 + 2 * 2 * 5 * 4


def test_default_sizes():
    assert BASE.mlp_size == 64
    assert replace(BASE, activation="squared_relu").mlp_size == 96
    assert (BASE.head_size, BASE.key_heads) == (6, 4)
    # A default follows what it is derived from.
    wider = replace(BASE, d_model=48)
    assert (wider.head_size, wider.mlp_size) == (12, 128)


# Errors ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"n_symbols": 0}, "n_symbols"),
        ({"d_model": -1}, "d_model"),
        ({"n_layers": 0}, "n_layers"),
        ({"n_heads": 0}, "n_heads"),
        ({"n_layers": True}, "n_layers"),
        ({"n_heads": 5}, "d_model divisible by n_heads"),
        ({"n_kv_heads": 3}, "n_kv_heads"),
        ({"n_kv_heads": 0}, "n_kv_heads"),
        ({"d_head": 5}, "even d_head"),
        ({"d_hidden": 0}, "d_hidden"),
        ({"context": 0}, "context"),
        ({"rope_theta": 0.0}, "rope_theta"),
        ({"rope_theta": None, "rope_scaling": RopeScaling("linear", 2.0)}, "scaling"),
        ({"tied": True, "zero_head": True}, "zero_head"),
        ({"dropout": 1.0}, "dropout"),
        ({"norm_eps": 0.0}, "norm_eps"),
    ],
)
def test_a_wrong_configuration_is_named(fields, named):
    with pytest.raises(ValueError, match=named):
        replace(BASE, **fields)


def test_odd_heads_are_fine_without_positions():
    Decoder(replace(BASE, d_head=5, rope_theta=None))(tokens_like(1, 3))


def test_wrong_scalings_are_named():
    with pytest.raises(ValueError, match="factor > 0"):
        RopeScaling("linear", 0.0)
    with pytest.raises(ValueError, match="low < high"):
        RopeScaling("llama3", 8.0, low=4.0, high=1.0)


def test_errors_that_the_shape_checker_would_forestall():
    # Without jaxtyping's hook, which would raise its own error first.
    code = """
import pytest, torch
from mattn.config import Config
from mattn.models import Decoder
from mattn.rotary import RopeScaling
with pytest.raises(ValueError, match='"yarn"|yarn'):
    RopeScaling("yarn", 2.0)
with pytest.raises(ValueError, match="activation"):
    Config(5, 4, 1, 1, activation="gelu")
with pytest.raises(ValueError, match="n_layers"):
    Config(5, 4, 1.5, 1)
config = Config(5, 4, 1, 1)
with pytest.raises(ValueError, match="mask rule"):
    Decoder(config, torch.ones(3, 3))
model = Decoder(config)
with pytest.raises(ValueError, match=r"shape \\(B, T\\)"):
    model(torch.tensor([1, 2]))
with pytest.raises(ValueError, match="from 0 to 4; got 1 to 5"):
    model(torch.tensor([[1, 5]]))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_context_needs_cross_attention_and_the_reverse():
    context = torch.randn(1, 3, 24)
    with pytest.raises(ValueError, match="cross-attention"):
        Decoder(BASE)(tokens_like(1, 3), context=context)
    with pytest.raises(ValueError, match="cross-attention"):
        Decoder(BASE, cross=True)(tokens_like(1, 3))
    block = Block(BASE, cross=True)
    assert block.cross.rotate is None
    assert block.attention.rotate is not None


# Encoder–decoder ------------------------------------------------------------

S = 5
SOURCE = replace(BASE, n_symbols=11, n_layers=1)


@pytest.fixture(params=[False, True], ids=["shared", "own source"])
def translator(request):
    return EncoderDecoder(BASE, SOURCE if request.param else None).double().eval()


def test_the_target_is_causal_and_sees_the_whole_source(translator):
    source, target = tokens_like(1, S) % 11, tokens_like(T)
    memory = translator.encode(source)
    got = influence(
        lambda t: translator.decode(t[None], memory)[0], target, n_symbols=V
    )
    assert torch.equal(got, causal.matrix(T))
    of_source = influence(
        lambda s: translator(s[None], target[None])[0], source[0], n_symbols=11
    )
    assert of_source.all()
    encoded = influence(
        lambda s: translator.encode(s[None])[0], source[0], n_symbols=11
    )
    assert encoded.all()


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(translator):
    lengths = torch.tensor([3, 5, 1])
    source, target = tokens_like(3, S) % 11, tokens_like(3, T, seed=2)
    logits = translator(source, target, lengths)
    changed = source.clone()
    hidden = torch.arange(S) >= lengths[:, None]
    changed[hidden] = (changed[hidden] + 1) % 11
    assert torch.equal(translator(changed, target, lengths), logits)
    for b, n in enumerate(lengths.tolist()):
        alone = translator(source[b : b + 1, :n], target[b : b + 1])
        torch.testing.assert_close(logits[b : b + 1], alone)
    # The test can fail: without the lengths, padding is read.
    assert (translator(source, target) - logits)[0].abs().max() > 1e-3


@torch.no_grad()
def test_padding_right_of_a_target_changes_nothing(translator):
    source, target = tokens_like(2, S) % 11, tokens_like(2, T)
    longer = torch.cat([target, tokens_like(2, 3, seed=3)], dim=1)
    torch.testing.assert_close(
        translator(source, longer)[:, :T], translator(source, target)
    )


@torch.no_grad()
def test_cached_translation_equals_uncached_and_reads_the_source_once(translator):
    lengths = torch.tensor([4, 5])
    source, target = tokens_like(2, S) % 11, tokens_like(2, T)
    memory = translator.encode(source, lengths)
    calls = []
    key = translator.decoder.blocks[0].cross.key
    key.register_forward_hook(lambda *_: calls.append(1))
    for split in ([(0, T)], [(i, i + 1) for i in range(T)], [(0, 3), (3, 4), (4, T)]):
        calls.clear()
        cache = translator.new_cache(T, S)
        parts = [
            translator.decode(target[:, a:b], memory, lengths, cache=cache)
            for a, b in split
        ]
        assert len(calls) == 1
        torch.testing.assert_close(
            torch.cat(parts, dim=1), translator(source, target, lengths)
        )


@torch.no_grad()
def test_beams_reorder_every_cache_alike(translator):
    source = tokens_like(1, S).expand(3, S) % 11
    target = tokens_like(3, T)
    rows = torch.tensor([2, 0, 2])
    cache = translator.new_cache(T, S)
    memory = translator.encode(source)
    translator.decode(target[:, :4], memory, cache=cache)
    cache.reorder(rows)
    target = torch.cat([target[rows, :4], target[:, 4:]], dim=1)
    out = translator.decode(target[:, 4:], memory, cache=cache)
    torch.testing.assert_close(out, translator(source, target)[:, 4:])


@torch.no_grad()
def test_cross_attention_maps_hide_the_padding():
    model = EncoderDecoder(BASE)
    lengths = torch.tensor([2, 5])
    with record_weights(model) as weights:
        model(tokens_like(2, S), tokens_like(2, T), lengths)
    cross = weights["decoder.blocks.1.cross"]
    visible = padding(lengths).matrix(T, S)[:, None].expand(2, 4, T, S)
    assert torch.equal(cross > 0, visible)
    torch.testing.assert_close(cross.sum(dim=-1), torch.ones(2, 4, T))
    encoder = weights["encoder.blocks.0.attention"]
    assert torch.equal(encoder > 0, visible[:, :, :1].expand(2, 4, S, S))


def test_every_parameter_of_the_encoder_decoder_is_trained(translator):
    names = [n for n, m in translator.named_modules() if isinstance(m, nn.Linear)]
    assert len(names) == len(set(names))
    logits = translator(tokens_like(2, S) % 11, tokens_like(2, T))
    F.cross_entropy(logits.flatten(0, 1), tokens_like(2, T).flatten()).backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_widths_of_encoder_and_decoder_must_agree():
    with pytest.raises(ValueError, match="d_model"):
        EncoderDecoder(BASE, replace(SOURCE, d_model=28))


# The golden file, the house -------------------------------------------------


@torch.no_grad()
def test_logits_equal_the_golden_ones(tmp_path):
    from safetensors.torch import save_file

    from mattn.pretrained import load_pretrained

    path = files("mattn") / "records" / "golden_decoder.json"
    golden = json.loads(path.read_text())
    (tmp_path / "config.json").write_text(json.dumps(golden["config"]))
    weights = {
        k: torch.tensor(v) / golden["unit"] for k, v in golden["weights"].items()
    }
    save_file(weights, tmp_path / "model.safetensors")
    model = load_pretrained(tmp_path)
    tokens = torch.tensor([golden["tokens"]])
    expected = torch.tensor(golden["logits"])
    assert expected.shape == (24, 29)
    assert expected.std() > 1
    torch.testing.assert_close(model(tokens)[0], expected, atol=1e-4, rtol=0)
    for token in golden["greedy"]:
        assert int(model(tokens)[0, -1].argmax()) == token
        tokens = torch.cat([tokens, torch.tensor([[token]])], dim=1)
    assert len(json.dumps(golden)) < 100_000


def test_the_module_can_be_read_in_one_sitting():
    source = Path(mattn.models.__file__).read_text()
    tree, told = ast.parse(source), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            told.update(range(node.lineno, node.end_lineno + 1))
    assert len(source.splitlines()) - len(told) <= 350
    assert "scaled_dot_product" not in source  # no second attention code
    assert issubclass(MultiHeadAttention, nn.Module)
