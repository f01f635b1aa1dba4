"""What the auditor is tried on: a small decoder, and a model with planted leaks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mattn import Config, Decoder, MultiHeadAttention, causal

V, C, T = 20, 16, 8
SIZES = {"n_symbols": V, "d_model": C, "n_layers": 1, "n_heads": 2}
FAST = {"probes": ["perturbation"]}


def tokens(B: int = 2, n: int = T) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, V, (B, n), generator=generator)


class Planted(nn.Module):
    """Embedding, a part that attends, an MLP, logits: the part is exchanged."""

    def __init__(self, part):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.attention = MultiHeadAttention(C, 4)
        self.mlp = nn.Linear(C, C)
        self.norm = nn.BatchNorm1d(C)
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(C, V, bias=False)
        self.part = part

    def forward(self, t: Tensor) -> Tensor:
        x = self.embedding(t)
        x = x + self.part(self, x)
        return self.head(x + self.mlp(x).tanh())


def good(m, x):
    return m.attention(x, causal)


def allowed(x: Tensor, diagonal: int = 0) -> Tensor:
    """Written by hand: what a causal mask allows, and ``diagonal`` more."""
    n = x.shape[1]
    return torch.ones(n, n, dtype=torch.bool).tril(diagonal)


def one_head(m, x):
    mask = allowed(x).repeat(4, 1, 1)
    mask[0] = True
    return m.attention(x, mask[None])


def filled(m, x, fill: float):
    scores = x @ m.mlp(x).mT / C**0.5
    return scores.masked_fill(~allowed(x), fill).softmax(-1) @ x


def late(m, x):
    mask = allowed(x)
    mask[15:] = True
    return m.attention(x, mask)


def top_k(m, x):
    chosen = x.norm(dim=-1).topk(3, dim=1).indices
    return good(m, x) * (
        1 + torch.zeros(x.shape[:2]).scatter(1, chosen, 1.0)[..., None]
    )


def denominator(m, x):
    e = (x @ x.mT / C**0.5).exp()
    return e * allowed(x) @ x / e.sum(-1, keepdim=True)


def mean(x):
    return x.mean(1, keepdim=True)


# Name → the part that leaks, probes that must see it, a word of the diagnosis.
LEAKS = {
    "no mask": (lambda m, x: m.attention(x), {"perturbation", "jacobian"}, "no mask"),
    "inverted": (
        lambda m, x: m.attention(x, ~causal),
        {"perturbation", "jacobian"},
        "inverted",
    ),
    "one diagonal": (
        lambda m, x: m.attention(x, allowed(x, 1)),
        {"perturbation", "jacobian", "truncation"},
        "1 diagonal too many",
    ),
    "one head of many": (one_head, {"perturbation", "jacobian"}, "every later"),
    "fill −10": (lambda m, x: filled(m, x, -10), {"perturbation"}, "finite fill"),
    "fill −1e4": (lambda m, x: filled(m, x, -1e4), {"perturbation"}, "finite fill"),
    "detach": (
        lambda m, x: good(m, x) + mean(x).detach(),
        {"perturbation", "truncation"},
        "no gradient carries it",
    ),
    "rounding": (
        lambda m, x: good(m, x) + (10 * mean(x)).round(),
        {"perturbation", "truncation"},
        "no gradient carries it",
    ),
    "top-k routing": (top_k, {"perturbation"}, "no gradient carries it"),
    "zero gate": (
        lambda m, x: good(m, x) + m.gate * mean(x),
        {"perturbation", "jacobian"},
        "behind a zero or a gate",
    ),
    "only when i ≥ 15": (late, {"perturbation"}, "from query 15 on"),
    "depends on total length": (
        lambda m, x: good(m, x) * (1 + 0.01 * x.shape[1]),
        {"truncation"},
        "whole length",
    ),
    "mixes the batch": (
        lambda m, x: good(m, x) + 0.1 * x.mean(0, keepdim=True),
        {"batch"},
        "rows of the batch mix",
    ),
    "BatchNorm in train mode": (
        lambda m, x: good(m, m.norm(x.mT).mT),
        {"batch", "perturbation"},
        "only in train mode",
    ),
    "denominator only": (denominator, {"perturbation", "jacobian"}, "after softmax"),
    "norm over time": (
        lambda m, x: good(m, x) / (x.square().mean(1, keepdim=True) + 1),
        {"perturbation", "jacobian"},
        "a norm",
    ),
    "mask in train mode only": (
        lambda m, x: m.attention(x, causal if m.training else None),
        {"perturbation"},
        "only in eval mode",
    ),
    "mask in eval mode only": (
        lambda m, x: m.attention(x, None if m.training else causal),
        {"perturbation"},
        "only in train mode",
    ),
}


def small(mask=causal, **options) -> Decoder:
    return Decoder(Config(**{**SIZES, **options}), mask)


def left_padded(model, x, real):
    slots = torch.where(real, real.cumsum(-1) - 1, -1)
    return model(x, slots=slots)
