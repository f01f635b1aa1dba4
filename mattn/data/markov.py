"""A source whose entropy is known exactly.

No model that predicts the next token from the past alone can have a lower
expected loss than the entropy rate of the source. One that does has seen
the future. Used in chapter 5.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mattn.inputs import random_source, token_tensor, whole_number

__all__ = ["MarkovSource"]

_MOST_CONTEXTS = 10_000


class MarkovSource:
    """Tokens that depend on the ``order`` tokens before, at random but known.

    Each context of ``order`` tokens has its own next-token distribution,
    drawn once from a symmetric Dirichlet distribution; a small
    ``concentration`` makes the source predictable. A context is numbered by
    its tokens as digits, oldest first: ``(a, b)`` is ``a·V + b``.

    Sequences start in the stationary distribution. So every token past the
    first ``order`` has the same expected loss, the entropy rate; the first
    ones have shorter contexts and a higher floor (:meth:`entropies`).

    Source: Cover and Thomas 2006, Elements of Information Theory, chapter 4.
    """

    def __init__(
        self,
        n_symbols: int = 8,
        order: int = 2,
        *,
        concentration: float = 0.3,
        seed: int = 0,
    ):
        self.n_symbols = n_symbols = whole_number(n_symbols, "n_symbols", least=2)
        self.order = order = whole_number(order, "order", least=1)
        if not 0 < concentration < math.inf:
            raise ValueError(
                "MarkovSource: expected a finite concentration > 0; got "
                f"{concentration}."
            )
        n_contexts = n_symbols**order
        if n_contexts > _MOST_CONTEXTS:
            raise ValueError(
                f"MarkovSource: expected n_symbols ** order <= {_MOST_CONTEXTS}, as "
                "the stationary distribution is solved for exactly; got "
                f"{n_symbols} ** {order}."
            )
        rng = np.random.default_rng(seed)
        transition = rng.dirichlet(np.full(n_symbols, concentration), size=n_contexts)
        # Every symbol stays possible, so the chain has one stationary distribution.
        transition = 0.999 * transition + 0.001 / n_symbols
        self.transition = torch.from_numpy(transition)
        """Probability of the next token by context, ``(V^order, V)``, float64."""
        self.stationary = self._stationary()
        """Long-run share of each context, ``(V^order,)``, float64."""

    @property
    def entropy_rate(self) -> float:
        """Nats per token: mean over contexts of the next token's entropy."""
        return float(self.stationary @ _entropy(self.transition))

    def sample(
        self, n_sequences: int, length: int, *, generator: torch.Generator
    ) -> Int[Tensor, "N T"]:
        """``n_sequences`` independent sequences of ``length`` tokens."""
        whole_number(n_sequences, "n_sequences", least=0)
        random_source(generator, "sample")
        if whole_number(length, "length", least=0) < self.order:
            raise ValueError(
                f"sample: expected length >= order, {self.order}; got {length}."
            )
        if n_sequences == 0:
            return torch.zeros(0, length, dtype=torch.long)
        context = torch.multinomial(
            self.stationary, n_sequences, replacement=True, generator=generator
        )
        digits = self.n_symbols ** torch.arange(self.order - 1, -1, -1)
        first = context[:, None] // digits % self.n_symbols
        tokens = torch.empty(n_sequences, length, dtype=torch.long)
        tokens[:, : self.order] = first
        cumulative = self.transition.cumsum(dim=-1)
        uniform = torch.rand(
            n_sequences, length, generator=generator, dtype=torch.float64
        )
        for t in range(self.order, length):
            passed = uniform[:, t, None] > cumulative[context]
            tokens[:, t] = passed.sum(dim=-1).clamp(max=self.n_symbols - 1)
            context = self._next(context, tokens[:, t])
        return tokens

    def entropies(self, length: int) -> Float[Tensor, " length"]:
        """Expected loss of the best predictor of each token, in nats, float64.

        Entry t is H(X_t | X_0 … X_{t−1}): the entropy rate from
        t = ``order`` on, more before. Their mean over the positions that a
        loss scores is the floor of that loss.
        """
        whole_number(length, "length", least=0)
        joint = torch.stack([_entropy(p) for p in self._starts()])  # H(X_0 … X_t)
        first = joint.diff(prepend=joint.new_zeros(1))[:length]
        rest = joint.new_full((length - len(first),), self.entropy_rate)
        return torch.cat([first, rest])

    def log_probs(self, tokens: Any) -> Float[Tensor, "N T"]:
        """True log-probability of each token given all before, in nats, float64.

        ``tokens`` (N, T); the sum of a row is the log-probability of the
        sequence (chain rule).
        """
        tokens = token_tensor(tokens, "log_probs", n_axes=2, n_symbols=self.n_symbols)
        tokens = tokens.long()
        out = torch.empty(tokens.shape, dtype=torch.float64)
        context = torch.zeros(len(tokens), dtype=torch.long)
        starts = self._starts()
        for t in range(tokens.shape[1]):
            if t < self.order:  # context is everything so far
                p = starts[t].reshape(-1, self.n_symbols)
                p = p / p.sum(dim=-1, keepdim=True)
            else:
                p = self.transition
            out[:, t] = p[context, tokens[:, t]].log()
            context = self._next(context, tokens[:, t])
        return out

    def _starts(self) -> list[Tensor]:
        """Distribution of the first 1, 2, …, ``order`` tokens, by context number."""
        powers = [self.n_symbols**n for n in range(1, self.order + 1)]
        return [self.stationary.reshape(n, -1).sum(dim=-1) for n in powers]

    def _next(self, context: Tensor, token: Tensor) -> Tensor:
        return (context * self.n_symbols + token) % self.n_symbols**self.order

    def _stationary(self) -> Float[Tensor, " contexts"]:
        n = self.n_symbols**self.order
        context = torch.arange(n)
        chain = torch.zeros(n, n, dtype=torch.float64)
        for token in range(self.n_symbols):
            chain[context, self._next(context, torch.tensor(token))] = self.transition[
                :, token
            ]
        # Solve π(chain − I) = 0 with Σπ = 1.
        system = torch.cat([chain.T - torch.eye(n), torch.ones(1, n)])
        right = torch.zeros(n + 1, dtype=torch.float64)
        right[-1] = 1.0
        return torch.linalg.lstsq(system, right[:, None]).solution[:, 0].clamp(min=0)


def _entropy(p: Float[Tensor, "*rows outcomes"]) -> Float[Tensor, "*rows"]:
    return -torch.special.xlogy(p, p).sum(dim=-1)
