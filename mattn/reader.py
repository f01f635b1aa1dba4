"""A model that reads a text as it grows: padding, cache, context, and no NaN.

What :mod:`mattn.generation` has in common, whether it draws tokens, keeps
beams or scores a text that is given.

Chapter 7 writes with it; chapter 5 says why its cache may be trusted.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mattn.filters import at_least_float32, no_distribution
from mattn.masks import Mask

__all__ = ["Reader", "device_of", "evaluating"]


class Reader:
    """The tokens so far and what the model has read of them.

    Rows are aligned at their ends. Which columns hold no token of a row is
    known by their number alone, never by a value in ``tokens``.
    """

    def __init__(
        self, model: Any, prompts: list[list[int]], n_tokens: int, *, cached: bool
    ):
        _expect(len(prompts) >= 1, "expected at least one prompt; got none.")
        sizes = [len(prompt) for prompt in prompts]
        _expect(
            min(sizes) >= 1,
            "expected at least one token in every prompt; got an empty one. Begin "
            "with a start token: a model predicts from something.",
        )
        if hasattr(model, "rows_per_source"):
            model.rows_per_source(len(prompts))
        rules = getattr(model, "masks", ())
        bounded = bool(rules) and all(r.reach().size < math.inf for r in rules)
        context = getattr(getattr(model, "config", None), "context", None)
        longest = max(sizes)
        _expect(
            context is None or longest <= context,
            f"expected prompts of at most {context} tokens, the model's context; got "
            f"{longest}. Cut the prompt to its last {context} tokens.",
        )
        self.model, self.cached = model, cached
        self.capacity = longest + n_tokens
        if context is not None and not bounded:
            self.capacity = min(self.capacity, context)
        if cached:
            self._check_mask(sizes, n_tokens)
        rows = [[0] * (longest - len(p)) + p for p in prompts]
        self._tokens = torch.tensor(rows, device=device_of(model))
        self._pads = torch.tensor([longest - size for size in sizes])
        self._first = self._pads  # of each row, the first column that is read
        self._cache: Any = None
        self._n_read = 0

    def tokens_so_far(self) -> Int[Tensor, "B T"]:
        """As filters take them: −1 before a row's prompt."""
        columns = torch.arange(self._tokens.shape[1])
        absent = columns < self._pads[:, None]
        return self._tokens.masked_fill(absent.to(self._tokens.device), -1)

    @torch.no_grad()
    def next_logits(self) -> Float[Tensor, "B V"]:
        """Logits of the token after those so far, in float32 or wider."""
        width = self._tokens.shape[1]
        full = width - self._first > self.capacity
        if full.any():
            half = width - max(1, self.capacity // 2)
            self._first = torch.where(full, half, self._first)
            self._cache, self._n_read = None, 0
        start = int(self._first.min())
        window, pads = self._tokens[:, start:], self._first - start
        given: dict[str, Any] = {}
        columns = torch.arange(self._n_read, window.shape[1])
        # Where nothing is padded and nothing was let go, the model counts by itself.
        if pads.any() or start:
            read = columns >= pads[:, None]
            slots = columns + start - self._pads[:, None]
            given["slots"] = torch.where(read, slots, -1).to(window.device)
        if start:
            given["positions"] = (columns - pads[:, None]).to(window.device)
        if self.cached:
            if self._cache is None:
                self._cache = self.model.new_cache(self.capacity)
            given["cache"] = self._cache
            window = window[:, self._n_read :]
            self._n_read += window.shape[1]
        with evaluating(self.model):
            logits = self.model(window, **given)[:, -1]
        _check_logits(logits, width)
        return at_least_float32(logits)

    def append(self, tokens: Int[Tensor, " B"]) -> None:
        tokens = tokens.to(self._tokens.device)
        self._tokens = torch.cat([self._tokens, tokens[:, None]], dim=1)

    def reorder(self, rows: Int[Tensor, " B"]) -> None:
        """Row i becomes what row ``rows[i]`` was; the cache follows."""
        self._pads, self._first = self._pads[rows], self._first[rows]
        rows = rows.to(self._tokens.device)
        self._tokens = self._tokens[rows]
        if self._cache is not None:
            self._cache.reorder(rows)

    def _check_mask(self, sizes: list[int], n_tokens: int) -> None:
        """What was read once must not depend on what is read later."""
        for rule in set(getattr(self.model, "masks", ())):
            for size in set(sizes):
                pair = _sees_what_is_to_come(rule, size, size + n_tokens - 1)
                query, key = pair or (None, None)
                _expect(
                    pair is None,
                    "expected a mask that lets no token see one that is still to come, "
                    f"as what is cached is read once; got {rule!r}, by which slot "
                    f"{query} sees slot {key}. Give cached=False.",
                )


def _sees_what_is_to_come(rule: Mask, start: int, stop: int) -> tuple[int, int] | None:
    """A query that sees a later key among ``start … stop − 1``, which come one by one
    after the first ``start`` were read at once; ``None``: there is none.
    """
    ahead = rule.bound.ahead
    stop = stop if rule.n_slots is None else min(stop, rule.n_slots)
    for i in range(start, stop if ahead > 0 else start, 256):
        keys = torch.arange(i, min(i + 256, stop))
        for first in range(max(0, i - int(min(ahead, i))), int(keys[-1]), 4096):
            queries = torch.arange(first, min(first + 4096, int(keys[-1])))
            seen = rule.at(queries, keys) & (keys > queries[:, None])
            if seen.any():
                q, k = seen.nonzero()[0, -2:].tolist()
                return first + q, i + k
    return None


@contextlib.contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Without dropout; afterwards every part is in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_logits(logits: Float[Tensor, "B V"], n_tokens: int) -> None:
    wrong = no_distribution(logits)
    if wrong is not None:
        raise FloatingPointError(
            f"the model's logits are {wrong} after {n_tokens} tokens: weights that "
            "diverged, or an input with NaN."
        )


def device_of(model: Any) -> torch.device:
    """Where the first parameter of a model lies."""
    return next(iter(model.parameters())).device


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
