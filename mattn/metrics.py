"""Judges: how good is a model, in numbers that can be compared.

Losses are in nats per token; divided by ln 2 and by characters per token
they are bits per character. Baselines say what a number is worth. Used in
chapters 7 and 8.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike
from torch import Tensor, nn

from mattn.inputs import token_list, whole_number
from mattn.losses import counted_targets, held_out_losses
from mattn.optional import needed

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
    """A mean and its standard error, which is NaN where there is but one row."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.error:.3f}"


def bits_per_character(
    nats_per_token: float, *, characters_per_token: float = 1.0
) -> float:
    """Nats per token as bits per character."""
    if not 0 < characters_per_token < math.inf:
        raise ValueError(
            "bits_per_character: expected finite characters_per_token > 0; got "
            f"{characters_per_token}. It is the mean length of a token."
        )
    return nats_per_token / math.log(2) / characters_per_token


def mean_loss(
    model: nn.Module,
    rows: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> Estimate:
    """:func:`mattn.losses.evaluate` with its standard error.

    Nats per token over all of ``rows``; targets equal to ``ignore`` do not
    count. The error takes rows as independent: that of a ratio of sums.
    """
    counted = counted_targets(rows, ignore, "mean_loss")
    losses = held_out_losses(model, rows, batch_size=batch_size, ignore=ignore)
    losses = losses.double().masked_fill(~counted, 0.0)
    return _ratio(losses.sum(dim=1), counted.sum(dim=1))


def loss_by_position(
    model: nn.Module,
    rows: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> tuple[Float[Tensor, " T-1"], Float[Tensor, " T-1"]]:
    """Mean loss of the token at each position 1 … T − 1, and its standard error.

    Targets equal to ``ignore`` do not count. Where no row has a target the mean
    is NaN, and where only one has, its error is.
    """
    counted = counted_targets(rows, ignore, "loss_by_position")
    losses = held_out_losses(model, rows, batch_size=batch_size, ignore=ignore)
    losses = losses.double().masked_fill(~counted, 0.0)
    n = counted.sum(dim=0)
    means = losses.sum(dim=0) / n  # 0/0 is NaN
    squares = ((losses - means).square() * counted).sum(dim=0)
    return means, (squares / (n - 1) / n).sqrt()


class NGram:
    """Counts of what followed the last ``n − 1`` tokens, mixed over all shorter ones.

    p(w | context) interpolates the orders 1 … n and the uniform distribution:
    each order gets weight c / (c + a·d) of what is left, with c occurrences of
    its context and d distinct followers (Witten–Bell smoothing for a = 1).
    Rows are lists, arrays or tensors of tokens 0 … ``n_symbols`` − 1.

    Source: Witten and Bell 1991, doi:10.1109/18.87000.
    """

    def __init__(self, rows: Iterable[ArrayLike | Tensor], n: int, n_symbols: int):
        self.n = n = whole_number(n, "NGram: n", least=1)
        self.n_symbols = whole_number(n_symbols, "NGram: n_symbols", least=1)
        self._counts: list[dict[tuple, dict[int, int]]] = [{} for _ in range(n)]
        for row in rows:
            row = self._tokens(row)
            for t, token in enumerate(row):
                for order in range(min(n, t + 1)):
                    followers = self._counts[order].setdefault(
                        tuple(row[t - order : t]), {}
                    )
                    followers[token] = followers.get(token, 0) + 1

    def log_probs(self, row: ArrayLike | Tensor) -> list[float]:
        """log p of each token of a row given those before it in the row."""
        row = self._tokens(row)
        return [math.log(self._p(row, t)) for t in range(len(row))]

    def mean_loss(
        self, rows: Iterable[ArrayLike | Tensor], *, skip: int = 0
    ) -> Estimate:
        """Nats per token over all ``rows``, the first ``skip`` of each not scored."""
        skip = whole_number(skip, "NGram.mean_loss: skip", least=0)
        scored = [self.log_probs(row)[skip:] for row in rows]
        if not any(scored):
            raise ValueError(
                f"NGram.mean_loss: expected tokens to score; got none in {len(scored)} "
                f"rows after skip = {skip} of each. Give longer rows, or skip less."
            )
        return _ratio(
            torch.tensor([-sum(row) for row in scored], dtype=torch.float64),
            torch.tensor([len(row) for row in scored]),
        )

    def _tokens(self, row: ArrayLike | Tensor) -> list[int]:
        return token_list(row, "NGram: row", n_symbols=self.n_symbols)

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
    _check_pairs("exact_match", hypotheses, references)
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

    ``tokenize="zh"`` for Chinese. The interval is a bootstrap over sentences
    with ``n_resamples`` >= 2 test sets, the same for both scores (Koehn 2004,
    W04-3250): their mean, plus and minus half the width of the middle 95 % of
    them, as sacrebleu prints it, but never beyond 0 and 100.

    Raises ``ValueError`` for empty lists and for lists of unequal length. An
    empty hypothesis is a translation, a bad one.
    """
    _check_pairs("translation_scores", hypotheses, references)
    n_resamples = whole_number(n_resamples, "translation_scores: n_resamples", least=2)
    sacrebleu = needed("sacrebleu", "translation", "translation_scores")
    if tokenize not in sacrebleu.BLEU.TOKENIZERS:
        raise ValueError(
            "translation_scores: expected tokenize to be one of "
            f"{', '.join(sorted(sacrebleu.BLEU.TOKENIZERS))}; got {tokenize!r}."
        )
    bleu, chrf = sacrebleu.BLEU(tokenize=tokenize, force=True), sacrebleu.CHRF()
    resampled = _resampled(bleu, hypotheses, references, n_resamples)
    out = {}
    for name, metric in (("BLEU", bleu), ("chrF", chrf)):
        score = metric.corpus_score(list(hypotheses), [list(references)]).score
        signature = metric.get_signature()
        signature.update("bs", n_resamples)
        signature.update("seed", _BOOTSTRAP_SEED)
        out[name] = Interval(name, score, *_middle(resampled[name]), str(signature))
    return out


def _resampled(
    bleu: Any, hypotheses: Sequence[str], references: Sequence[str], n_resamples: int
) -> dict[str, Any]:
    """BLEU and chrF of each of the drawn test sets."""
    pairs = list(zip(hypotheses, references, strict=True))
    # Of each sentence the integers whose sums over a test set give its score.
    alone = [bleu.corpus_score([h], [[r]]) for h, r in pairs]
    of_bleu = np.array([[*s.counts, *s.totals, s.sys_len, s.ref_len] for s in alone])
    of_chrf = np.array([_chrf_counts(h, r) for h, r in pairs])  # (N, 6, 3)
    drawn = _resamples(len(pairs), n_resamples)
    return {
        "BLEU": [
            bleu.compute_bleu(
                row[:4], row[4:8], *row[8:], smooth_method=bleu.smooth_method
            ).score
            for row in (drawn @ of_bleu).tolist()
        ],
        "chrF": _chrf(np.tensordot(drawn, of_chrf, axes=1)),
    }


_BOOTSTRAP_SEED = 12345


def _resamples(n: int, n_resamples: int) -> np.ndarray:
    """How often each of ``n`` sentences stands in each test set drawn of them."""
    draw = np.random.default_rng(_BOOTSTRAP_SEED)
    return np.stack(
        [np.bincount(draw.choice(n, size=n), minlength=n) for _ in range(n_resamples)]
    )


def _middle(scores: ArrayLike) -> tuple[float, float]:
    """Mean of the scores ± half the width of the middle 95 %, within 0 … 100."""
    ranked = np.sort(scores)
    outside = len(ranked) // 40  # 2.5 % on either side
    half = (ranked[-1 - outside] - ranked[outside]) / 2
    low, high = np.clip(ranked.mean() + np.array([-half, half]), 0, 100)
    return float(low), float(high)


def _chrf_counts(hypothesis: str, reference: str) -> list[list[int]]:
    """For n = 1 … 6, character n-grams of the hypothesis, of the reference, of both.

    Spaces do not count, nor does an order for which the reference is too short.
    """
    texts = ["".join(text.split()) for text in (hypothesis, reference)]
    counts = []
    for n in range(1, 7):
        h, r = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in texts)
        counts.append([h.total() if r else 0, r.total(), (h & r).total()])
    return counts


def _chrf(sums: np.ndarray) -> np.ndarray:
    """chrF of each test set (…, 6, 3): F₂ of mean precision and mean recall.

    The means are over the orders that occur on both sides.
    Source: Popović 2015, W15-3049.
    """
    in_hypotheses, in_references, in_both = np.moveaxis(sums.astype(float), -1, 0)
    occurs = (in_hypotheses > 0) & (in_references > 0)
    n_orders = np.maximum(1, occurs.sum(axis=-1))
    precision, recall = (
        np.where(occurs, in_both / np.maximum(1, n), 0).sum(axis=-1) / n_orders
        for n in (in_hypotheses, in_references)
    )
    either = 4 * precision + recall
    return 500 * precision * recall / np.where(either > 0, either, 1)


def repetition(tokens: ArrayLike | Tensor, n: int = 4) -> float:
    """Share of n-grams in a text that occurred in it before: 0 none, 1 all.

    A text without an n-gram repeats none: 0.
    """
    n = whole_number(n, "repetition: n", least=1)
    tokens = token_list(tokens, "repetition: tokens")
    grams = [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]
    return 1.0 - len(set(grams)) / len(grams) if grams else 0.0


def _check_pairs(by: str, hypotheses: Sequence[str], references: Sequence[str]) -> None:
    for what, texts in (("hypotheses", hypotheses), ("references", references)):
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{by}: expected {what} to be a list of texts; got "
                f"{type(texts).__name__}. Decode tokens, and put one text in brackets."
            )
    if len(hypotheses) != len(references) or len(references) == 0:
        raise ValueError(
            f"{by}: expected one reference for each hypothesis, and at least one; got "
            f"{len(hypotheses)} hypotheses and {len(references)} references."
        )


def _ratio(sums: Tensor, counts: Tensor) -> Estimate:
    """Σ sums / Σ counts with the standard error of a ratio of means."""
    sums, counts = sums.double(), counts.double()
    mean = sums.sum() / counts.sum()
    residual = sums - mean * counts
    n = len(sums)
    error = residual.std() / counts.mean() / math.sqrt(n) if n > 1 else math.nan
    return Estimate(float(mean), float(error))
