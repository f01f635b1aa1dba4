"""Models that write: small ones, and one whose logits are given by hand."""

import math

import torch

from mattn import Config, Decoder, causal, window

V = 11
SLIDING = causal & window(3)
PROMPTS = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
NO_TOKENS = torch.zeros(1, 0, dtype=torch.long)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def decoder(n_symbols=V, mask=causal, **options):
    torch.manual_seed(1)
    config = Config(n_symbols=n_symbols, d_model=16, n_layers=2, n_heads=2, **options)
    return Decoder(config, mask).double()


def kept(logits):
    return [i for i, value in enumerate(logits[0].tolist()) if value > -math.inf]


class Fixed(torch.nn.Module):
    """A model whose next logits are a function of the tokens so far, by hand."""

    config = None

    def __init__(self, next_logits):
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.next_logits = next_logits

    def forward(self, tokens, positions=None):
        rows = [
            [self.next_logits(row[: t + 1]) for t in range(len(row))]
            for row in tokens.tolist()
        ]
        return torch.tensor(rows, dtype=torch.float64)
