"""A decoder that is trained in no time, and a generator."""

import torch

from mattn import Config, Decoder

V = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def decoder(**options):
    config = Config(n_symbols=V, d_model=8, n_layers=2, n_heads=2, **options)
    return Decoder(config)
