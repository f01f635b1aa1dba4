"""From logits to text: sampling, cache, padding, beams, edge cases."""

import itertools
import math

import pytest
import torch
from writers import PROMPTS, SLIDING, Fixed, V, decoder, draw, kept

from mattn import Config, EncoderDecoder, causal, window
from mattn.generation import (
    Conditioned,
    beam_search,
    generate,
    log_probs,
    min_p,
    stream,
    temperature,
    top_k,
    top_p,
)

# --- Generation: with and without cache, alone and in a batch ---


@pytest.mark.parametrize(
    "options",
    [{}, {"mask": SLIDING}, {"n_kv_heads": 1, "qk_norm": True}, {"rope_theta": None}],
)
def test_cached_is_uncached_and_a_batch_is_one_by_one(options):
    model = decoder(**options)
    texts = generate(model, PROMPTS, 12)
    assert [len(text) for text in texts] == [12] * 3
    assert texts == generate(model, PROMPTS, 12, cached=False)
    assert texts == [generate(model, [prompt], 12)[0] for prompt in PROMPTS]


def test_greedy_is_argmax_of_plain_forward_passes():
    model, text = decoder(), [5, 6]
    for _ in range(9):
        with torch.no_grad():
            text.append(int(model(torch.tensor([text]))[0, -1].argmax()))
    assert generate(model, [[5, 6]], 9) == [text[2:]]


def test_padding_is_not_seen():
    # Were the padding attended to as token 0, a prompt of zeros would agree.
    model = decoder()
    alone = generate(model, [[4]], 12)[0]
    assert generate(model, [[4], [0] * 9], 12)[0] == alone
    assert generate(model, [[0] * 8 + [4]], 12)[0] != alone


def test_sampling_needs_a_generator_and_repeats_with_it():
    model = decoder()
    filters = [temperature(0.9), top_k(8), top_p(0.95), min_p(0.01)]
    runs = [
        generate(model, PROMPTS, 12, filters=filters, generator=draw(seed))
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0] == generate(
        model, PROMPTS, 12, filters=filters, generator=draw(), cached=False
    )
    state = torch.get_rng_state()
    generate(model, PROMPTS, 3, generator=draw())
    assert torch.equal(torch.get_rng_state(), state)


def test_sampled_frequencies_are_the_probabilities():
    p = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    model, n = Fixed(lambda text: p.log().tolist()), 4000
    texts = generate(model, [[0]] * n, 1, generator=draw(), cached=False)
    counts = torch.bincount(torch.tensor(texts)[:, 0], minlength=4)
    chi2 = ((counts - n * p) ** 2 / (n * p)).sum()
    assert chi2 < 16.3  # three degrees of freedom: exceeded once in 1000
    flat = [temperature(1e9)]
    texts = generate(model, [[0]] * n, 1, filters=flat, generator=draw(), cached=False)
    counts = torch.bincount(torch.tensor(texts)[:, 0], minlength=4)
    assert ((counts - n / 4) ** 2 / (n / 4)).sum() < 16.3


def test_temperature_0_samples_the_greedy_text():
    model = decoder()
    cold = generate(model, PROMPTS, 9, filters=[temperature(0)], generator=draw())
    assert cold == generate(model, PROMPTS, 9)


def test_filters_apply_in_order_and_see_the_tokens():
    seen = []

    def note(logits, tokens):
        seen.append((kept(logits), tokens.tolist()))
        return logits

    generate(decoder(), [[1, 2], [3]], 2, filters=[top_k(1), note])
    assert [len(k) for k, _ in seen] == [1, 1]
    assert seen[0][1] == [[1, 2], [-1, 3]]
    assert [row[:2] for row in seen[1][1]] == [[1, 2], [-1, 3]]


def test_stop_tokens_end_each_row_by_itself():
    model = Fixed(lambda text: [float(v == (text[-1] + 1) % 6) for v in range(6)])
    texts = generate(model, [[0], [2], [4]], 9, stop=[5], cached=False)
    assert texts == [[1, 2, 3, 4], [3, 4], []]
    calls = []
    model.next_logits, plain = lambda t: calls.append(t) or plain(t), model.next_logits
    generate(model, [[4]], 100, stop=[5], cached=False)
    assert len(calls) == 1  # and nothing is computed after all rows have ended


def test_no_new_tokens():
    assert generate(decoder(), PROMPTS, 0) == [[], [], []]
    assert list(stream(decoder(), [1], 0)) == []
    with pytest.raises(ValueError, match="n_tokens >= 0"):
        generate(decoder(), PROMPTS, -1)


def test_stream_yields_as_it_goes():
    model = decoder()
    assert list(stream(model, [5, 6], 9)) == generate(model, [[5, 6]], 9)[0]
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    tokens = stream(model, [5, 6], 9)
    assert not calls
    next(tokens)
    assert len(calls) == 1
    stop = generate(model, [[5, 6]], 9)[0][3]
    until = list(stream(model, [5, 6], 9, stop=[stop]))
    assert until == generate(model, [[5, 6]], 9, stop=[stop])[0]
    assert stop not in until


@pytest.mark.parametrize("prompts", [[], [[]], [[1], []]])
def test_empty_prompts_are_refused(prompts):
    with pytest.raises(ValueError, match="expected at least one"):
        generate(decoder(), prompts, 3)


def test_a_prompt_longer_than_the_context_is_refused():
    with pytest.raises(ValueError, match=r"at most 8 tokens.*got 9.*last 8"):
        generate(decoder(context=8), [[1] * 9], 3)
    assert len(generate(decoder(context=8), [[1] * 8], 3)[0]) == 3


@pytest.mark.parametrize("cached", [True, False])
def test_text_longer_than_the_context_goes_on_from_its_last_half(cached):
    model = decoder(context=8)
    text = [1, 2]
    with torch.no_grad():
        start = 0
        for _ in range(22):
            if len(text) - start > 8:
                start = len(text) - 4
            logits = model(torch.tensor([text[start:]]))
            text.append(int(logits[0, -1].argmax()))
    assert generate(model, [[1, 2]], 22, cached=cached) == [text[2:]]


def test_a_window_needs_constant_memory():
    model, held = decoder(mask=causal & window(4)), []

    def note(logits, tokens):
        held.append([part.contents()[0].shape[2] for part in made[0].own])
        return logits

    made, plain = [], model.new_cache
    model.new_cache = lambda *a, **k: made.append(plain(*a, **k)) or made[-1]
    text = generate(model, [[1, 2]], 40, filters=[note])
    assert len(made) == 1
    assert max(sizes for sizes in held) == [4, 4]
    del model.new_cache
    assert text == generate(model, [[1, 2]], 40, cached=False)


@pytest.mark.parametrize("cached", [True, False])
def test_nan_is_an_error_that_names_row_and_place(cached):
    model = decoder()
    with torch.no_grad():
        model.embedding.weight[7] = torch.nan
    with pytest.raises(FloatingPointError, match="row 1 after 3 tokens"):
        generate(model, [[1, 2, 3], [1, 7]], 3, cached=cached)
    with pytest.raises(FloatingPointError, match="NaN for row 0"):
        beam_search(model, [[7]], 3, n_beams=2, cached=cached)


def test_the_mode_of_the_model_comes_back_and_dropout_is_off():
    model = decoder(dropout=0.5).train()
    texts = generate(model, PROMPTS, 8)
    assert model.training
    assert texts == generate(model.eval(), PROMPTS, 8)
    assert not model.training


def test_no_gradient_is_kept():
    model = decoder()
    generate(model, [[1]], 3, filters=[check_no_grad])
    assert not log_probs(model, [1], [2, 3]).requires_grad


def check_no_grad(logits, tokens):
    assert not logits.requires_grad
    return logits


# --- Beam search ---


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_full_width_is_exhaustive_search(penalty):
    model, n = decoder(4), 4
    hypotheses = beam_search(
        model, [[1], [2, 3]], n, n_beams=4**n, length_penalty=penalty
    )
    for prompt, found in zip([[1], [2, 3]], hypotheses, strict=True):
        every = {
            text: float(log_probs(model, prompt, text).sum())
            for text in itertools.product(range(4), repeat=n)
        }
        ranked = sorted(every, key=every.get, reverse=True)
        assert [tuple(h.tokens) for h in found[:20]] == ranked[:20]
        assert all(abs(h.log_prob - every[tuple(h.tokens)]) < 1e-9 for h in found)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0])
def test_full_width_with_a_stop_token_is_exhaustive_search(penalty):
    model, n, stop = decoder(4), 4, 0
    (found,) = beam_search(
        model, [[1]], n, n_beams=4**n, stop=[stop], length_penalty=penalty
    )
    every = {}
    for length in range(1, n + 1):
        for text in itertools.product(range(4), repeat=length):
            ended = text[-1] == stop or length == n
            if ended and stop not in text[:-1]:
                total = float(log_probs(model, [1], text).sum())
                every[text] = total / length**penalty
    ranked = sorted(every, key=every.get, reverse=True)
    assert [tuple(h.tokens) for h in found[:15]] == ranked[:15]
    assert all(abs(h.score - every[tuple(h.tokens)]) < 1e-9 for h in found)


def test_one_beam_is_greedy_and_greedy_can_lose():
    model = decoder()
    (best,) = beam_search(model, [[5, 6]], 9, n_beams=1)[0]
    assert best.tokens == generate(model, [[5, 6]], 9)[0]
    # After 0: 1 (0.6) or 2 (0.4). After 1 all is even, after 2 all is sure.
    table = {0: [0, 0.6, 0.4], 1: [1 / 3] * 3, 2: [1, 0, 0]}
    model = Fixed(lambda text: [math.log(p + 1e-12) for p in table[text[-1]]])
    assert generate(model, [[0]], 2, cached=False)[0][0] == 1
    first, *_ = beam_search(model, [[0]], 2, n_beams=2, cached=False)[0]
    assert first.tokens == [2, 0]
    assert abs(first.log_prob - math.log(0.4)) < 1e-6


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("options", [{}, {"mask": SLIDING}])
def test_beams_are_rescored_to_the_same_log_probability(cached, options):
    model = decoder(**options)
    found = beam_search(
        model, PROMPTS, 7, n_beams=4, stop=[0], length_penalty=0.7, cached=cached
    )
    for prompt, beams in zip(PROMPTS, found, strict=True):
        assert len({tuple(beam.tokens) for beam in beams}) == len(beams) == 4
        assert [b.score for b in beams] == sorted((b.score for b in beams), reverse=1)
        for beam in beams:
            total = float(log_probs(model, prompt, beam.tokens).sum())
            assert abs(total - beam.log_prob) < 1e-9
            assert abs(total / len(beam.tokens) ** 0.7 - beam.score) < 1e-9
    alone = [
        beam_search(model, [p], 7, n_beams=4, stop=[0], length_penalty=0.7)[0]
        for p in PROMPTS
    ]
    for together, single in zip(found, alone, strict=True):
        assert [b.tokens for b in together] == [b.tokens for b in single]


def test_length_penalty_prefers_longer_texts():
    # Stop (0) now with 0.5, or three sure-ish tokens first: 0.5 · 0.9 · 0.9 · 0.9.
    def next_logits(text):
        p = [0.5, 0.5] if len(text) == 1 else [0.9 if len(text) > 3 else 0.1, 0]
        p[1] = 1 - p[0]
        return [math.log(x) for x in p]

    model = Fixed(next_logits)
    short, long = (
        beam_search(
            model, [[1]], 6, n_beams=2, stop=[0], length_penalty=w, cached=False
        )[0][0]
        for w in (0.0, 1.0)
    )
    assert short.tokens == [0]
    assert long.tokens == [1, 1, 1, 0]


def test_more_beams_than_texts():
    (found,) = beam_search(decoder(2), [[1]], 2, n_beams=9)
    assert len(found) == 4
    assert abs(sum(math.exp(h.log_prob) for h in found) - 1) < 1e-9


@pytest.mark.parametrize("wrong", [{"n_beams": 0}, {"n_beams": 2, "n_tokens": 0}])
def test_beam_search_refuses(wrong):
    given = {"n_tokens": 3} | wrong
    with pytest.raises(ValueError, match="expected n_"):
        beam_search(decoder(), [[1]], **given)


# --- Encoder-decoder ---


def conditioned(model, rows=slice(None)):
    source = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])[rows]
    return Conditioned(model, source, torch.tensor([3, 4])[rows])


def test_an_encoder_decoder_generates_like_a_decoder():
    torch.manual_seed(1)
    config = Config(n_symbols=V, d_model=16, n_layers=2, n_heads=2)
    model = EncoderDecoder(config).double()
    both = conditioned(model)
    texts = generate(both, [[1], [1]], 6)
    assert texts == generate(both, [[1], [1]], 6, cached=False)
    for b in range(2):
        alone = conditioned(model, slice(b, b + 1))
        assert generate(alone, [[1]], 6)[0] == texts[b]
        beams = beam_search(both, [[1], [1]], 6, n_beams=3, stop=[0])[b]
        for beam in beams:
            total = float(log_probs(alone, [1], beam.tokens).sum())
            assert abs(total - beam.log_prob) < 1e-9


def test_log_probs_by_hand():
    table = {0: [0.2, 0.8], 1: [0.7, 0.3]}
    model = Fixed(lambda text: [math.log(p) for p in table[text[-1]]])
    got = log_probs(model, [0], [1, 1, 0]).exp()
    torch.testing.assert_close(got, torch.tensor([0.8, 0.3, 0.7]).double())
    with pytest.raises(ValueError, match="at least one token of prompt"):
        log_probs(model, [], [1])
