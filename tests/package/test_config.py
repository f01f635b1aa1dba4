"""A configuration: what it counts, what follows from it, and what is none."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from decoders import BASE, CONFIGS, tokens_like
from torch.utils.flop_counter import FlopCounterMode

from mattn import record_weights
from mattn.config import Config
from mattn.models import Block, Decoder
from mattn.rotary import RopeScaling

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
