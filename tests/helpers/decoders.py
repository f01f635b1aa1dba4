"""Small decoders of every configuration, and tokens for them."""

from dataclasses import replace

import torch

from mattn import causal, window
from mattn.config import Config
from mattn.models import Decoder
from mattn.rotary import RopeScaling

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
