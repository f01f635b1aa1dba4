"""From logits to text: filters, sampling, beam search, with and without cache.

A model is anything called as ``model(tokens, cache=…, positions=…)`` → logits
(B, T, V) with ``model.new_cache(capacity)``: :class:`mattn.models.Decoder`,
or an encoder–decoder that has read its source (:class:`Conditioned`). Its
``config`` may name the vocabulary and a context, its ``masks`` the rules.
Tokens may come as lists, arrays or tensors of integers. Filters and draws are
computed in float32, or wider, whatever the model computes in.
Derived in chapter 7.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mattn import filters
from mattn.cache import Cache
from mattn.filters import (
    at_least_float32,
    min_p,
    no_distribution,
    real_number,
    repetition_penalty,
    temperature,
    top_k,
    top_p,
)
from mattn.inputs import (
    random_source,
    token,
    token_list,
    token_lists,
    token_set,
    whole_number,
)
from mattn.masks import Mask
from mattn.reader import Reader, device_of, evaluating

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

Filter = filters.Filter
"""``filter(logits, tokens) → logits``, see :mod:`mattn.filters`."""


# Long because: more than half of it says what is returned, and when.
def generate(
    model: Any,
    prompts: Any,
    n_tokens: int,
    *,
    filters: Filter | Iterable[Filter] = (),
    generator: torch.Generator | None = None,
    stop: Any = (),
    cached: bool = True,
) -> list[list[int]]:
    """Continue each prompt by at most ``n_tokens`` tokens; return the new ones.

    Greedy without a ``generator``, else sampled with it, after ``filters``.
    A row ends before the first token in ``stop``, which is one token or
    several. Prompts of different lengths are padded on the left, and
    slots say which token of its row each is. So greedy text is that of each
    prompt alone; sampled text is not, as the rows of a batch draw from one
    generator.

    ``cached=False`` reads everything again at each step: the same tokens,
    slower, where the mask lets no token see one that is still to come. Where
    it does (``full``; ``causal | prefix(n)`` with a prompt shorter than n),
    ``cached=True`` would be another model, and is refused.

    A model with ``config.context`` reads at most that many tokens; when those
    of a row are full, it goes on from the last half of them. Where the mask
    looks back a bounded way (``causal & window(w)``), nothing is let go, and the
    cache is of constant size.

    Raises ``ValueError`` for wrong arguments, ``FloatingPointError`` for
    logits that are NaN or infinite; the generator is then as it was.
    """
    run = _Run(model, prompts, n_tokens, filters, generator, stop, cached)
    out: list[list[int]] = [[] for _ in run.prompts]
    done = [False] * len(out)
    before = None if generator is None else generator.get_state()
    try:
        for tokens in run.steps():
            for row, new in enumerate(tokens.tolist()):
                done[row] = done[row] or new in run.stop
                if not done[row]:
                    out[row].append(new)
            if all(done):
                break
    except BaseException:
        if generator is not None and before is not None:
            generator.set_state(before)
        raise
    return out


def stream(
    model: Any,
    prompt: Any,
    n_tokens: int,
    *,
    filters: Filter | Iterable[Filter] = (),
    generator: torch.Generator | None = None,
    stop: Any = (),
    cached: bool = True,
) -> Iterator[int]:
    """:func:`generate` for one prompt, token by token as they come.

    The arguments are checked at once, before the first token is asked for.
    """
    prompt = token_list(prompt, "prompt", n_symbols=_n_symbols(model))
    run = _Run(model, [prompt], n_tokens, filters, generator, stop, cached)
    return itertools.takewhile(lambda new: new not in run.stop, map(int, run.steps()))


class _Run:
    """What :func:`generate` and :func:`stream` are asked for, checked."""

    def __init__(self, model, prompts, n_tokens, filters, generator, stop, cached):
        V = _n_symbols(model)
        self.prompts = token_lists(prompts, "prompt", n_symbols=V)
        self.stop = token_set(stop, "stop", n_symbols=V)
        self.n_tokens = whole_number(n_tokens, "n_tokens", least=0)
        if callable(filters) or not isinstance(filters, Iterable):
            filters = [filters]
        self.filters: list[Filter] = list(filters)
        for each in self.filters:
            _expect(
                callable(each),
                f"expected filters such as temperature(0.8); got {each!r}. A filter "
                "is called as filter(logits, tokens).",
            )
        self.generator = generator
        if generator is not None:
            random_source(generator, "generator")
        self.reader = Reader(model, self.prompts, self.n_tokens, cached=cached)

    def steps(self) -> Iterator[Int[Tensor, " B"]]:
        """The next token of every row, until ``n_tokens`` are written."""
        for _ in range(self.n_tokens):
            logits = self.reader.next_logits()
            shape = logits.shape
            for change in self.filters:
                logits = change(logits, self.reader.tokens_so_far())
            wrong = f"{tuple(logits.shape)}" if logits.shape != shape else None
            wrong = wrong or no_distribution(logits)
            _expect(
                wrong is None,
                f"expected filters to return logits {tuple(shape)} that leave each row "
                f"a token; got {wrong}.",
            )
            if self.generator is None:
                tokens = logits.argmax(dim=-1)
            else:
                p = at_least_float32(logits).softmax(dim=-1)
                tokens = torch.multinomial(p, 1, generator=self.generator)[:, 0]
            yield tokens
            self.reader.append(tokens)


class Hypothesis(NamedTuple):
    """A continuation found by beam search."""

    tokens: list[int]
    """New tokens, the stop token that ended it included."""
    log_prob: float
    """Σ log p of these tokens, in nats."""
    score: float
    """``log_prob`` divided by (number of tokens) ** ``length_penalty``."""


# Long because: texts, sums and parents change together, step by step.
def beam_search(
    model: Any,
    prompts: Any,
    n_tokens: int,
    *,
    n_beams: int,
    stop: Any = (),
    length_penalty: float = 0.0,
    cached: bool = True,
) -> list[list[Hypothesis]]:
    """The most probable continuations of each prompt, best first.

    Keeps ``n_beams`` hypotheses at each step. Those that reach ``stop`` are
    set aside; the search ends at ``n_tokens``, or when no running one can
    still reach the ``n_beams`` best that ended. With ``length_penalty`` 0 the
    score is the log-probability, which favours short texts; with 1, its mean.
    ``prompts``, ``stop``, ``cached`` and errors: see :func:`generate`.
    """
    n_tokens = whole_number(n_tokens, "n_tokens", least=1)
    K = whole_number(n_beams, "n_beams", least=1)
    length_penalty = real_number(
        length_penalty, "expected 0 <= length_penalty <= 10", 0, 10
    )
    prompts = token_lists(prompts, "prompt", n_symbols=_n_symbols(model))
    stop = token_set(stop, "stop", n_symbols=_n_symbols(model))
    B = len(prompts)
    # Row b·K + i is beam i of prompt b. At first a prompt's beams are equal:
    # only one of them counts.
    rows = [prompt for prompt in prompts for _ in range(K)]
    reader = Reader(model, rows, n_tokens, cached=cached)
    log_prob = torch.full((B, K), -torch.inf, dtype=torch.float64)
    log_prob[:, 0] = 0.0
    texts: list[list[int]] = [[] for _ in rows]
    ended: list[list[Hypothesis]] = [[] for _ in prompts]
    for n in range(1, n_tokens + 1):
        step = reader.next_logits().cpu().double().log_softmax(dim=-1)  # (B·K, V)
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
def log_probs(model: Any, prompt: Any, continuation: Any) -> Float[Tensor, " n"]:
    """log p of each token of ``continuation``, by one pass of teacher forcing.

    What sampling or beam search returned, rescored: the sum must be the
    log-probability that was found on the way. ``ValueError`` where one pass
    cannot give it: a mask that shows tokens still to come, or a text longer
    than the model's context.
    """
    V = _n_symbols(model)
    prompt = token_list(prompt, "prompt", n_symbols=V)
    new = token_list(continuation, "continuation", n_symbols=V)
    _expect(len(prompt) >= 1, "log_probs: expected at least one token of prompt.")
    if not new:
        return torch.zeros(0, dtype=torch.float64)
    # The last token is predicted, not read: the text that is read is complete.
    reader = Reader(model, [prompt], len(new), cached=True)
    n_read = len(prompt) + len(new) - 1
    _expect(
        n_read <= reader.capacity,
        f"log_probs: expected at most {reader.capacity} tokens, the model's context; "
        f"got {n_read}. Score the text in parts.",
    )
    text = torch.tensor([[*prompt, *new]], device=device_of(model))
    with evaluating(model):
        logits = model(text[:, :-1])[0, len(prompt) - 1 :]
    if no_distribution(logits) is not None:
        raise FloatingPointError("log_probs: the model's logits are NaN or infinite.")
    log_p = logits.cpu().double().log_softmax(-1)
    return log_p.gather(-1, torch.tensor(new)[:, None])[:, 0]


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
        B, S = source.shape
        _expect(
            B > 0 and S > 0,
            f"Conditioned: expected at least one source of one token; got ({B}, {S}).",
        )
        if source_lengths is not None:
            lengths = source_lengths.tolist()
            _expect(
                len(lengths) == B and all(1 <= n <= S for n in lengths),
                f"Conditioned: expected source_lengths of 1 to {S}, one for each of "
                f"{B} sources; got {lengths}.",
            )
        self.model = model
        with torch.no_grad(), evaluating(model):
            self.memory = model.encode(source, source_lengths)
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

    @property
    def masks(self) -> tuple[Mask, ...]:
        return self.model.decoder.masks

    def modules(self) -> Iterator[torch.nn.Module]:
        return self.model.modules()

    def parameters(self) -> Iterator[Tensor]:
        return self.model.parameters()

    def rows_per_source(self, n_rows: int) -> int:
        """How many rows of a batch each source serves; an error if they differ."""
        n_sources = len(self.memory)
        _expect(
            n_rows % n_sources == 0,
            f"expected as many prompts as sources, {n_sources}, or a multiple; got "
            f"{n_rows}. Give each source its own prompt.",
        )
        return n_rows // n_sources

    def new_cache(self, capacity: int) -> Cache:
        return self.model.new_cache(capacity, self.memory.shape[1])

    def __call__(self, tokens: Int[Tensor, "N T"], **given: Any) -> Tensor:
        n = self.rows_per_source(len(tokens))
        lengths = self.source_lengths
        return self.model.decode(
            tokens,
            self.memory.repeat_interleave(n, dim=0),
            None if lengths is None else lengths.repeat_interleave(n, dim=0),
            **given,
        )


# Long because: a third is signature and docstring, the rest checks and one loop.
def translate(
    model: Any,
    sources: Any,
    n_tokens: int,
    *,
    start: Any,
    stop: Any,
    n_beams: int = 1,
    length_penalty: float = 1.0,
    cached: bool = True,
) -> list[list[int]]:
    """The target tokens for each source, greedy or by beam search.

    ``start`` is the token that a target begins with, ``stop`` its last.
    Sources of similar length share a batch, padded on the right: batch-mates
    change nothing. The ``stop`` token is left out; a text without it was cut
    at ``n_tokens``. ``cached`` as in :func:`generate`.
    """
    V, n_source_symbols = (
        part.config.n_symbols for part in (model.decoder, model.encoder)
    )
    start, stop = token(start, "start", n_symbols=V), token(stop, "stop", n_symbols=V)
    n_beams = whole_number(n_beams, "n_beams", least=1)
    n_tokens = whole_number(n_tokens, "n_tokens", least=0)
    sources = token_lists(sources, "source", n_symbols=n_source_symbols)
    _expect(len(sources) > 0, "translate: expected sources; got none.")
    empty = [i for i, source in enumerate(sources) if not source]
    _expect(not empty, f"translate: expected tokens in source {empty[:1]}; got none.")
    out: list[list[int]] = [[] for _ in sources]
    if n_tokens == 0:
        return out
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    n_rows = max(1, 128 // n_beams)
    for rows in (order[i : i + n_rows] for i in range(0, len(order), n_rows)):
        reader = _conditioned(model, [sources[i] for i in rows])
        prompts = [[start]] * len(rows)
        if n_beams == 1:
            texts = generate(reader, prompts, n_tokens, stop=stop, cached=cached)
        else:
            found = beam_search(
                reader,
                prompts,
                n_tokens,
                n_beams=n_beams,
                stop=stop,
                length_penalty=length_penalty,
                cached=cached,
            )
            texts = [[t for t in best[0].tokens if t != stop] for best in found]
        for i, text in zip(rows, texts, strict=True):
            out[i] = text
    return out


def _conditioned(model: Any, sources: list[list[int]]) -> Conditioned:
    """The model after it has read these, padded on the right."""
    lengths = torch.tensor([len(source) for source in sources])
    padded = torch.zeros(len(sources), int(lengths.max()), dtype=torch.long)
    for row, source in zip(padded, sources, strict=True):
        row[: len(source)] = torch.tensor(source)
    device = device_of(model)
    return Conditioned(model, padded.to(device), lengths.to(device))


def _n_symbols(model: Any) -> int | None:
    return getattr(getattr(model, "config", None), "n_symbols", None)


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
