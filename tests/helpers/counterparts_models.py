"""What mattn has in place of what chapters derive by hand: losses, models, texts.

Each check takes the lifted function and a random generator.
"""

from __future__ import annotations

import torch
from counterparts import normal, qkv, sizes, some_allowed

from mattn import (
    KVCache,
    attention,
    boolean_power,
    causal,
    full,
    padding,
    prefix,
    window,
)
from mattn.audit import audit
from mattn.checks import influence, same
from mattn.config import Config
from mattn.data import MarkovSource
from mattn.generation import beam_search, repetition_penalty, top_p
from mattn.losses import next_token_loss, translation_loss
from mattn.metrics import translation_scores
from mattn.models import MLP, Decoder
from mattn.rotary import Rotary


def is_next_token_loss(f, rng):
    B, T, V = (s + 1 for s in sizes(rng, 3))
    logits = normal(rng, B, T, V)
    tokens = torch.from_numpy(rng.integers(0, V, (B, T)))
    same(f(logits, tokens), next_token_loss(logits, tokens))


def is_influence(f, rng):
    T, C = sizes(rng, 2)
    x = normal(rng, T, C)
    for mask in (causal, causal & window(2), ~causal, causal | prefix(2)):
        # Values alone, so that what is visible is what has influence.
        zeros = torch.zeros(T, 3, dtype=torch.float64)

        def layer(v, mask=mask, zeros=zeros):
            return attention(zeros, zeros, v, mask)[0]

        same(f(layer, x), influence(layer, x))
        same(f(layer, x), mask.matrix(T))


def is_leaks(f, rng):
    T, C = (s + 1 for s in sizes(rng, 2))
    x = normal(rng, T, C)
    for mask in (causal, ~causal, causal | prefix(2), causal | window(2)):

        def layer(v, mask=mask):
            zeros = torch.zeros(*v.shape[:-1], 3, dtype=v.dtype)
            return attention(zeros, zeros, v, mask)[0]

        report = audit(layer, x[None], probes=["perturbation"])
        found = (report.measured & ~report.expected).nonzero().tolist()
        assert f(layer, x) == [tuple(pair) for pair in found]


def is_entropy_rate(f, rng):
    V = sizes(rng, 1)[0] % 5 + 2
    # One that soon forgets where it began, as the iteration by hand must.
    source = MarkovSource(V, 2, concentration=1.0, seed=int(rng.integers(99)))
    same(f(source.transition), torch.tensor(source.entropy_rate).double(), atol=1e-6)


def is_cached_attention(f, rng):
    q, k, v = qkv(rng, Tq=sizes(rng, 1)[0])
    got = f(q, k, v)
    same(got, attention(q, k, v, causal)[0])
    cache, rows = KVCache(len(k)), []
    for t in range(len(k)):
        step = (x[None, None, t : t + 1] for x in (k, v))
        keys, values, _ = cache.extend(*step, torch.tensor([t]))
        rows.append(attention(q[t : t + 1], keys[0, 0], values[0, 0])[0])
    same(got, torch.cat(rows))


def is_boolean_power(f, rng):
    allowed = some_allowed(rng, *[sizes(rng, 1)[0]] * 2, empty=True)
    for n in range(5):
        same(f(allowed, n), boolean_power(allowed, n))


def is_rotary(f, rng):
    T, pairs = sizes(rng, 2)
    x, positions = normal(rng, T, 2 * pairs), torch.from_numpy(rng.permutation(30)[:T])
    expected = Rotary(2 * pairs, 50.0)(x[None, None], positions)
    same(f(x, positions, 50.0), expected[0, 0])


def is_rms_norm(f, rng):
    T, C = sizes(rng, 2)
    x, gain = normal(rng, T, C), normal(rng, C)
    same(f(x, gain, 0.1), torch.nn.functional.rms_norm(x, (C,), gain, 0.1))


def is_swiglu(f, rng):
    T, C, hidden = sizes(rng, 3)
    config = Config(2, C, 1, 1, d_hidden=hidden, rope_theta=None)
    mlp, x = MLP(config).double(), normal(rng, T, C)
    same(f(x, mlp.gate.weight, mlp.up.weight, mlp.down.weight), mlp(x[None])[0])


def is_filter(make):
    """``f(logits, number)`` for one row is mattn's filter for a batch of one."""

    def check(f, rng):
        logits = 3 * normal(rng, sizes(rng, 1)[0])
        for number in (0.0, 0.3, float(rng.random()), 0.9, 1.0):
            expected = make(number)(logits[None], torch.zeros(1, 0).long())[0]
            got = f(logits, number)
            if make is top_p and number == 1.0:  # by hand, rounding may cut the tail
                got = torch.where(logits.softmax(-1) < 1e-6, expected, got)
            same(got, expected)

    return check


def is_repetition_penalty(f, rng):
    V, T = sizes(rng, 2)
    logits, tokens = normal(rng, V), torch.from_numpy(rng.integers(0, V, T))
    expected = repetition_penalty(1.3)(logits[None], tokens[None])[0]
    same(f(logits, tokens, 1.3), expected)


def is_beam_search(f, rng):
    torch.manual_seed(int(rng.integers(99)))
    model = Decoder(Config(5, 8, 1, 2)).double()

    @torch.no_grad()
    def next_log_probs(tokens):
        return model(torch.tensor([tokens]))[0, -1].log_softmax(-1)

    for n_beams in (1, 3):
        expected = beam_search(model, [[1, 2]], 4, n_beams=n_beams)[0]
        got = f(next_log_probs, [1, 2], 4, n_beams)
        assert [tokens for _, tokens in got] == [h.tokens for h in expected]
        for (total, _), h in zip(got, expected, strict=True):
            assert abs(total - h.log_prob) < 1e-9


def are_translation_masks(f, rng):
    B, S, T = sizes(rng, 3)
    lengths = torch.from_numpy(rng.integers(1, S + 1, B))
    encoder, decoder, cross = f(lengths, S, T)
    same(encoder, (full & padding(lengths)).matrix(S))
    same(decoder, causal.matrix(T))
    same(cross, padding(lengths).matrix(T, S))


def is_cross_attention(f, rng):
    B, T, S, C, D = sizes(rng, 5)
    x, memory, weights = (
        normal(rng, *shape) for shape in ((B, T, C), (B, S, C), (3, C, D))
    )
    lengths = torch.from_numpy(rng.integers(1, S + 1, B))
    q, k, v = x @ weights[0], memory @ weights[1], memory @ weights[2]
    real = torch.arange(S) < lengths[:, None]
    expected = attention(q, k, v, padding(lengths))[0]
    same(f(x, memory, *weights, real), expected)


def is_bleu(f, rng):
    """With a character changed, put in or left out, so that runs of four remain."""
    reference = "".join(rng.choice(list("abcd"), 14))
    i = int(rng.integers(10, 14))
    for text in (
        reference[:i] + "e" + reference[i + 1 :],
        reference[:i] + "e" + reference[i:],
        reference[:i],
        reference + reference,
    ):
        expected = translation_scores(
            [text], [reference], tokenize="char", n_resamples=2
        )["BLEU"].score
        same(torch.tensor(f(text, reference)), torch.tensor(expected), atol=1e-4)


def is_translation_loss(f, rng):
    B, T, V = (s + 1 for s in sizes(rng, 3))
    logits, tokens = normal(rng, B, T, V), rng.integers(0, V, (B, T))
    tokens[:, 1] = 1  # a target that counts
    tokens = torch.from_numpy(tokens)
    for smoothing in (0.0, 0.1, 1.0):
        expected = translation_loss(
            logits, (tokens, tokens, tokens[:, 0]), ignore=0, smoothing=smoothing
        )
        same(f(logits, tokens, 0, smoothing), expected)
