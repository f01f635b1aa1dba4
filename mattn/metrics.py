"""Judges: how good is a model, in numbers that can be compared.

Losses are in nats per token; divided by ln 2 and by characters per token
they are bits per character. Baselines say what a number is worth. Used in
chapters 7 and 8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.training import held_out_losses

__all__ = [
    "Estimate",
    "Interval",
    "NGram",
    "bits_per_character",
    "exact_match",
    "loss_by_position",
    "mean_loss",
    "repetition",
    "translation_scores",
]


class Estimate(NamedTuple):
    """A mean and its standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def bits_per_character(
    nats_per_token: float, *, characters_per_token: float = 1.0
) -> float:
    """Nats per token as bits per character."""
    return nats_per_token / math.log(2) / characters_per_token


def mean_loss(
    model: nn.Module,
    rows: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> Estimate:
    """:func:`mattn.training.evaluate` with its standard error.

    Nats per token over all of ``rows``; targets equal to ``ignore`` do not
    count. The error takes rows as independent: that of a ratio of sums.
    """
    losses = held_out_losses(model, rows, batch_size=batch_size).double()
    counted = torch.ones_like(losses) if ignore is None else (rows[:, 1:] != ignore)
    return _ratio((losses * counted).sum(dim=1), counted.double().sum(dim=1))


def loss_by_position(
    model: nn.Module, rows: Int[Tensor, "N T"], *, batch_size: int = 256
) -> tuple[Float[Tensor, " T-1"], Float[Tensor, " T-1"]]:
    """Mean loss of the token at each position 1 … T − 1, and its standard error."""
    losses = held_out_losses(model, rows, batch_size=batch_size).double()
    return losses.mean(dim=0), losses.std(dim=0) / math.sqrt(len(losses))


class NGram:
    """Counts of what followed the last ``n − 1`` tokens, mixed over all shorter ones.

    p(w | context) interpolates the orders 1 … n and the uniform distribution:
    each order gets weight c / (c + a·d) of what is left, with c occurrences of
    its context and d distinct followers (Witten–Bell smoothing for a = 1).

    Source: Witten and Bell 1991, doi:10.1109/18.87000.
    """

    def __init__(self, rows: Sequence[Sequence[int]], n: int, n_symbols: int):
        if n < 1:
            raise ValueError(f"NGram: expected n >= 1; got {n}. 1 is a unigram.")
        self.n, self.n_symbols = n, n_symbols
        self._counts: list[dict[tuple, dict[int, int]]] = [{} for _ in range(n)]
        for row in rows:
            row = [int(token) for token in row]
            for t, token in enumerate(row):
                for order in range(min(n, t + 1)):
                    followers = self._counts[order].setdefault(
                        tuple(row[t - order : t]), {}
                    )
                    followers[token] = followers.get(token, 0) + 1

    def log_probs(self, row: Sequence[int]) -> list[float]:
        """log p of each token of a row given those before it in the row."""
        row = [int(token) for token in row]
        return [math.log(self._p(row, t)) for t in range(len(row))]

    def mean_loss(self, rows: Sequence[Sequence[int]], *, skip: int = 0) -> Estimate:
        """Nats per token over all ``rows``, the first ``skip`` of each not scored."""
        sums = [-sum(self.log_probs(row)[skip:]) for row in rows]
        counts = [len(row) - skip for row in rows]
        return _ratio(torch.tensor(sums, dtype=torch.float64), torch.tensor(counts))

    def _p(self, row: list[int], t: int) -> float:
        p = 1.0 / self.n_symbols
        for order in range(min(self.n, t + 1)):
            followers = self._counts[order].get(tuple(row[t - order : t]))
            if followers is None:
                break
            count = sum(followers.values())
            p = (followers.get(row[t], 0) + len(followers) * p) / (
                count + len(followers)
            )
        return p


def exact_match(hypotheses: Sequence[str], references: Sequence[str]) -> Estimate:
    """Share of hypotheses equal to their reference, with its standard error."""
    right = np.array([h == r for h, r in zip(hypotheses, references, strict=True)])
    return Estimate(float(right.mean()), float(right.std() / math.sqrt(len(right))))


class Interval(NamedTuple):
    """A score on the whole test set with its 95 % bootstrap interval."""

    name: str
    score: float
    low: float
    high: float
    signature: str

    def __str__(self) -> str:
        return f"{self.name} {self.score:.1f} ({self.low:.1f} to {self.high:.1f})"


def translation_scores(
    hypotheses: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    n_resamples: int = 1000,
) -> dict[str, Interval]:
    """BLEU and chrF over the whole test set, by sacrebleu, with signatures.

    ``tokenize="zh"`` for Chinese. The interval is a
    bootstrap over sentences (Koehn 2004, W04-3250).
    """
    import sacrebleu

    metrics: dict[str, Any] = {
        "BLEU": sacrebleu.BLEU(tokenize=tokenize),
        "chrF": sacrebleu.CHRF(),
    }
    out = {}
    for name, metric in metrics.items():
        result = metric.corpus_score(
            list(hypotheses), [list(references)], n_bootstrap=n_resamples
        )
        half = result._ci
        out[name] = Interval(
            name,
            result.score,
            result._mean - half,
            result._mean + half,
            str(metric.get_signature()),
        )
    return out


def repetition(tokens: Sequence[int], n: int = 4) -> float:
    """Share of n-grams in a text that occurred in it before: 0 none, 1 all."""
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def _ratio(sums: Tensor, counts: Tensor) -> Estimate:
    """Σ sums / Σ counts with the standard error of a ratio of means."""
    sums, counts = sums.double(), counts.double()
    mean = sums.sum() / counts.sum()
    residual = sums - mean * counts
    n = len(sums)
    error = residual.std() / counts.mean() / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(mean), float(error))
