"""The decoder: what each part may see, exactly; its parts; its golden numbers."""

import ast
import itertools
import json
import math
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from decoders import BASE, CONFIGS, SLIDING, T, V, model_of, tokens_like
from torch import nn

import mattn.models
from mattn import (
    MultiHeadAttention,
    boolean_power,
    causal,
    documents,
    full,
    prefix,
    record_weights,
    window,
)
from mattn.cache import Cache
from mattn.checks import influence
from mattn.config import Config
from mattn.losses import next_token_loss
from mattn.models import Decoder


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
