"""From logits to text: filters, sampling, beam search, with and without cache.

A model is anything called as ``model(tokens, cache=…, positions=…)`` → logits
(B, T, V) with ``model.new_cache(capacity)``: :class:`mattn.models.Decoder`,
or an encoder–decoder that has read its source (:class:`Conditioned`).
Derived in chapter 7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = [
    "Conditioned",
    "Filter",
    "Hypothesis",
    "beam_search",
    "generate",
    "log_probs",
    "min_p",
    "repetition_penalty",
    "stream",
    "temperature",
    "top_k",
    "top_p",
    "translate",
]

Filter = Callable[[Tensor, Tensor], Tensor]
"""``filter(logits, tokens) → logits``: (B, V) and the tokens so far, (B, T),
in which −1 marks padding. Filters compose by being called in turn; none
removes the most probable token."""


def temperature(t: float) -> Filter:
    """Divide the logits by ``t``: below 1 sharper, above 1 flatter; 0 is greedy."""
    _expect(t >= 0, f"temperature: expected t >= 0; got {t}.")

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        return top_k(1)(logits, tokens) if t == 0 else logits / t

    return apply


def top_k(k: int) -> Filter:
    """Keep the ``k`` most probable tokens; all, when there are not more than ``k``."""
    _expect(k >= 1, f"top_k: expected k >= 1; got {k}. top_k(1) is greedy.")

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        best = logits.topk(min(k, logits.shape[-1]), dim=-1).indices
        return _keep(
            logits, torch.zeros_like(logits, dtype=torch.bool).scatter(-1, best, True)
        )

    return apply


def top_p(p: float) -> Filter:
    """Keep the smallest set of most probable tokens whose probability reaches ``p``.

    ``p = 0`` keeps the most probable one, ``p = 1`` keeps all.
    Source: Holtzman et al. 2020, arXiv:1904.09751 (nucleus sampling).
    """
    _expect(0 <= p <= 1, f"top_p: expected 0 <= p <= 1; got {p}.")

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        if p == 1:  # rounding must not cut off the tail
            return logits
        ordered, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        before = ordered.cumsum(dim=-1) - ordered  # probability of those ahead
        keep = before < p
        keep[..., 0] = True
        return _keep(logits, torch.zeros_like(keep).scatter(-1, order, keep))

    return apply


def min_p(p: float) -> Filter:
    """Keep tokens at least ``p`` times as probable as the most probable one.

    Source: Nguyen et al. 2024, arXiv:2407.01082.
    """
    _expect(0 <= p <= 1, f"min_p: expected 0 <= p <= 1; got {p}.")

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        probabilities = logits.softmax(dim=-1)
        return _keep(
            logits, probabilities >= p * probabilities.amax(dim=-1, keepdim=True)
        )

    return apply


def repetition_penalty(penalty: float) -> Filter:
    """Make tokens that occurred already less probable; 1 changes nothing.

    Positive logits are divided by ``penalty``, negative ones multiplied.
    Source: Keskar et al. 2019, arXiv:1909.05858, section 4.1.
    """
    _expect(
        penalty >= 1,
        f"repetition_penalty: expected a penalty >= 1; got {penalty}. Below 1 it "
        "would reward repetition.",
    )

    def apply(logits: Tensor, tokens: Tensor) -> Tensor:
        # One column more than there are symbols takes the padding, −1.
        seen = logits.new_zeros(len(logits), logits.shape[-1] + 1, dtype=torch.bool)
        seen = seen.scatter(-1, tokens % seen.shape[-1], True)[:, :-1]
        lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
        return torch.where(seen, lowered, logits)

    return apply


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n_tokens: int,
    *,
    filters: Iterable[Filter] = (),
    generator: torch.Generator | None = None,
    stop: Iterable[int] = (),
    cached: bool = True,
) -> list[list[int]]:
    """Continue each prompt by at most ``n_tokens`` tokens; return the new ones.

    Greedy without a ``generator``, else sampled with it, after ``filters``.
    A row ends before the first token in ``stop``. Prompts of different
    lengths are padded on the left; explicit positions hide the padding, so
    the text is that of each prompt alone. ``cached=False`` reads everything
    again at each step: the same tokens, slower.

    A model with ``config.context`` reads at most that many tokens; when they
    are full, it goes on from the last half of them. With ``config.window`` the
    cache is a ring of constant size.
    """
    out: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    stop = frozenset(stop)
    for tokens in _steps(model, prompts, n_tokens, filters, generator, cached):
        for row, token in enumerate(tokens.tolist()):
            done[row] = done[row] or token in stop
            if not done[row]:
                out[row].append(token)
        if all(done):
            break
    return out


def stream(
    model: Any,
    prompt: Sequence[int],
    n_tokens: int,
    *,
    filters: Iterable[Filter] = (),
    generator: torch.Generator | None = None,
    stop: Iterable[int] = (),
    cached: bool = True,
) -> Iterator[int]:
    """:func:`generate` for one prompt, token by token as they come."""
    stop = frozenset(stop)
    for tokens in _steps(model, [prompt], n_tokens, filters, generator, cached):
        if int(tokens) in stop:
            return
        yield int(tokens)


def _steps(model, prompts, n_tokens, filters, generator, cached) -> Iterator[Tensor]:
    _expect(n_tokens >= 0, f"expected n_tokens >= 0; got {n_tokens}.")
    reader = _Reader(model, prompts, n_tokens, cached=cached)
    filters = list(filters)
    for _ in range(n_tokens):
        logits = reader.next_logits()
        for change in filters:
            logits = change(logits, reader.tokens)
        if generator is None:
            tokens = logits.argmax(dim=-1)
        else:
            probabilities = logits.softmax(dim=-1)
            tokens = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
        yield tokens
        reader.append(tokens)


class Hypothesis(NamedTuple):
    """A continuation found by beam search."""

    tokens: list[int]
    """New tokens, the stop token that ended it included."""
    log_prob: float
    """Σ log p of these tokens, in nats."""
    score: float
    """``log_prob`` divided by (number of tokens) ** ``length_penalty``."""


def beam_search(
    model: Any,
    prompts: Sequence[Sequence[int]],
    n_tokens: int,
    *,
    n_beams: int,
    stop: Iterable[int] = (),
    length_penalty: float = 0.0,
    cached: bool = True,
) -> list[list[Hypothesis]]:
    """The most probable continuations of each prompt, best first.

    Keeps ``n_beams`` hypotheses at each step. Those that reach ``stop`` are
    set aside; the search ends at ``n_tokens``, or when no running one can
    still reach the ``n_beams`` best that ended. With ``length_penalty`` 0 the
    score is the log-probability, which favours short texts; with 1, its mean.
    """
    _expect(n_beams >= 1, f"beam_search: expected n_beams >= 1; got {n_beams}.")
    _expect(n_tokens >= 1, f"beam_search: expected n_tokens >= 1; got {n_tokens}.")
    B, K = len(prompts), n_beams
    stop = frozenset(stop)
    # Row b·K + i is beam i of prompt b. At first a prompt's beams are equal:
    # only one of them counts.
    rows = [prompt for prompt in prompts for _ in range(K)]
    reader = _Reader(model, rows, n_tokens, cached=cached)
    log_prob = torch.full((B, K), -torch.inf, dtype=torch.float64)
    log_prob[:, 0] = 0.0
    texts: list[list[int]] = [[] for _ in rows]
    ended: list[list[Hypothesis]] = [[] for _ in prompts]
    for n in range(1, n_tokens + 1):
        step = reader.next_logits().double().log_softmax(dim=-1).cpu()  # (B·K, V)
        V = step.shape[-1]
        total = (log_prob[..., None] + step.reshape(B, K, V)).flatten(1)
        # At most K·|stop| of the best can have ended; K others must be left.
        n_best = min(K * (1 + len(stop)), K * V)
        values, index = total.topk(n_best, dim=-1)
        parents = torch.arange(B * K).reshape(B, K)
        chosen = torch.zeros(B, K, dtype=torch.long)
        new_texts = list(texts)
        log_prob = torch.full((B, K), -torch.inf, dtype=torch.float64)
        for b in range(B):
            kept = 0
            for value, flat in zip(values[b].tolist(), index[b].tolist(), strict=True):
                parent, token = b * K + flat // V, flat % V
                if value == -torch.inf or kept == K:
                    break
                text = [*texts[parent], token]
                if token in stop or n == n_tokens:
                    score = value / n**length_penalty
                    ended[b].append(Hypothesis(text, value, score))
                if token not in stop:
                    parents[b, kept], chosen[b, kept] = parent, token
                    log_prob[b, kept] = value
                    new_texts[b * K + kept] = text
                    kept += 1
        texts = new_texts
        ended = [sorted(h, key=lambda h: -h.score)[:K] for h in ended]
        if n == n_tokens or all(
            _is_settled(ended[b], float(log_prob[b, 0]), K, n_tokens, length_penalty)
            for b in range(B)
        ):
            break
        reader.reorder(parents.flatten())
        reader.append(chosen.flatten())
    return ended


def _is_settled(ended, best_running: float, K: int, n_tokens: int, penalty: float):
    """Whether no running hypothesis can still be among the K best that ended."""
    if best_running == -torch.inf:
        return True
    # Its log-probability can only fall, and is divided by at most n_tokens**penalty.
    return len(ended) == K and best_running / n_tokens**penalty <= ended[-1].score


@torch.no_grad()
def log_probs(
    model: Any, prompt: Sequence[int], continuation: Sequence[int]
) -> Float[Tensor, " n"]:
    """log p of each token of ``continuation``, by one pass of teacher forcing.

    What sampling or beam search returned, rescored: the sum must be the
    log-probability that was found on the way.
    """
    _expect(len(prompt) >= 1, "log_probs: expected at least one token of prompt.")
    device = _device(model)
    tokens = torch.tensor([[*prompt, *continuation]], device=device)
    logits = model(tokens[:, :-1])[0, len(prompt) - 1 :]
    new = tokens[0, len(prompt) :]
    return logits.double().log_softmax(-1).gather(-1, new[:, None])[:, 0]


class Conditioned:
    """An encoder–decoder that has read its source: a decoder like any other.

    Row ``b`` of a batch continues the translation of ``source[b]``; when a
    batch has n times as many rows (beams), each source serves n neighbours.
    """

    def __init__(
        self,
        model: Any,
        source: Int[Tensor, "B S"],
        source_lengths: Int[Tensor, " B"] | None = None,
    ):
        self.model = model
        was_training = model.training
        model.eval()
        with torch.no_grad():
            self.memory = model.encode(source, source_lengths)
        model.train(was_training)
        self.source_lengths = source_lengths
        self.config = model.decoder.config

    @property
    def training(self) -> bool:
        return self.model.training

    def train(self, mode: bool = True) -> Conditioned:
        self.model.train(mode)
        return self

    def eval(self) -> Conditioned:
        return self.train(False)

    def parameters(self) -> Iterator[Tensor]:
        return self.model.parameters()

    def new_cache(self, capacity: int) -> list:
        return self.model.new_cache(capacity, self.memory.shape[1])

    def __call__(self, tokens: Int[Tensor, "N T"], **given: Any) -> Tensor:
        n = len(tokens) // len(self.memory)
        lengths = self.source_lengths
        return self.model.decode(
            tokens,
            self.memory.repeat_interleave(n, dim=0),
            None if lengths is None else lengths.repeat_interleave(n, dim=0),
            **given,
        )


def translate(
    model: Any,
    sources: Sequence[Sequence[int]],
    n_tokens: int,
    *,
    start: int,
    stop: int,
    n_beams: int = 1,
    length_penalty: float = 1.0,
) -> list[list[int]]:
    """The target tokens for each source, greedy or by beam search, with cache.

    Sources of similar length share a batch, padded on the right: batch-mates
    change nothing. The ``stop`` token is left out; a text without it was cut
    at ``n_tokens``.
    """
    _expect(len(sources) > 0, "translate: expected sources; got none.")
    empty = [i for i, source in enumerate(sources) if len(source) == 0]
    _expect(not empty, f"translate: expected tokens in source {empty[:1]}; got none.")
    out: list[list[int]] = [[] for _ in sources]
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    n_rows = max(1, 128 // n_beams)
    for rows in (order[i : i + n_rows] for i in range(0, len(order), n_rows)):
        lengths = torch.tensor([len(sources[i]) for i in rows])
        source = torch.zeros(len(rows), int(lengths.max()), dtype=torch.long)
        for row, i in zip(source, rows, strict=True):
            row[: len(sources[i])] = torch.as_tensor(sources[i])
        device = _device(model)
        reader = Conditioned(model, source.to(device), lengths.to(device))
        prompts = [[start]] * len(rows)
        if n_beams == 1:
            texts = generate(reader, prompts, n_tokens, stop=[stop])
        else:
            found = beam_search(
                reader,
                prompts,
                n_tokens,
                n_beams=n_beams,
                stop=[stop],
                length_penalty=length_penalty,
            )
            texts = [[t for t in best[0].tokens if t != stop] for best in found]
        for i, text in zip(rows, texts, strict=True):
            out[i] = text
    return out


class _Reader:
    """The tokens so far and what the model has read of them."""

    def __init__(self, model, prompts, n_tokens: int, *, cached: bool):
        _expect(len(prompts) >= 1, "expected at least one prompt; got none.")
        sizes = [len(prompt) for prompt in prompts]
        _expect(
            min(sizes) >= 1,
            "expected at least one token in every prompt; got an empty one. Begin "
            "with a start token: a model predicts from something.",
        )
        config = getattr(model, "config", None)
        self.ring = cached and getattr(config, "window", None) is not None
        context = getattr(config, "context", None)
        longest = max(sizes)
        _expect(
            context is None or longest <= context,
            f"expected prompts of at most {context} tokens, the model's context; got "
            f"{longest}. Cut the prompt to its last {context} tokens.",
        )
        self.model, self.cached = model, cached
        self.capacity = longest + n_tokens
        if context is not None and not self.ring:
            self.capacity = min(self.capacity, context)
        pads = torch.tensor([longest - size for size in sizes])
        rows = [[-1] * (longest - len(p)) + list(p) for p in prompts]
        device = _device(model)
        self.tokens = torch.tensor(rows, device=device)  # −1 marks padding
        self._pads = pads.to(device)
        self._start = 0  # what is left of it has been let go
        self._cache: list | None = None
        self._n_read = 0

    @torch.no_grad()
    def next_logits(self) -> Float[Tensor, "B V"]:
        """Logits of the token after those so far."""
        if not self.ring and self.tokens.shape[1] - self._start > self.capacity:
            self._start = self.tokens.shape[1] - max(1, self.capacity // 2)
            self._cache, self._n_read = None, 0
        window = self.tokens[:, self._start :]
        positions = torch.arange(window.shape[1], device=window.device)
        pads = (self._pads - self._start).clamp(min=0)
        # Without padding the model counts by itself.
        padded = bool(pads.any())
        positions = positions - pads[:, None] if padded else None
        given: dict[str, Any] = {}
        if self.cached:
            if self._cache is None:
                options = {"ring": True} if self.ring else {}
                self._cache = self.model.new_cache(self.capacity, **options)
            given["cache"] = self._cache
            window = window[:, self._n_read :]
            if padded:
                positions = positions[:, self._n_read :]
            self._n_read += window.shape[1]
        if padded:
            given["positions"] = positions
        was_training = self.model.training
        self.model.eval()
        logits = self.model(window.clamp(min=0), **given)[:, -1]
        self.model.train(was_training)
        if logits.isnan().any():
            row = int(logits.isnan().any(dim=-1).nonzero()[0])
            raise FloatingPointError(
                f"the model's logits are NaN for row {row} after "
                f"{self.tokens.shape[1]} tokens: weights that diverged, or an input "
                "with NaN."
            )
        return logits

    def append(self, tokens: Int[Tensor, " B"]) -> None:
        tokens = tokens.to(self.tokens.device)
        self.tokens = torch.cat([self.tokens, tokens[:, None]], dim=1)

    def reorder(self, rows: Int[Tensor, " B"]) -> None:
        """Row i becomes what row ``rows[i]`` was; the cache follows."""
        rows = rows.to(self.tokens.device)
        self.tokens, self._pads = self.tokens[rows], self._pads[rows]
        for cache in self._cache or ():
            cache.reorder(rows)


def _keep(logits: Tensor, keep: Tensor) -> Tensor:
    return logits.masked_fill(~keep, -torch.inf)


def _device(model: Any) -> torch.device:
    return next(iter(model.parameters())).device


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
