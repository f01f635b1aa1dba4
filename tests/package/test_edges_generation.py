"""Generation at its edges: half precision, −∞, other kinds of tokens, other masks;
and a call that raises changes nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from writers import NO_TOKENS, V, draw, kept

from mattn import (
    Config,
    Decoder,
    EncoderDecoder,
    causal,
    documents,
    full,
    padding,
    prefix,
    window,
)
from mattn.generation import (
    Conditioned,
    beam_search,
    generate,
    log_probs,
    min_p,
    repetition_penalty,
    stream,
    temperature,
    top_k,
    top_p,
    translate,
)
from mattn.reader import Reader

HALVES = [torch.float16, torch.bfloat16]


def decoder(mask=causal, **options):
    torch.manual_seed(1)
    config = Config(n_symbols=V, d_model=16, n_layers=2, n_heads=2, **options)
    return Decoder(config, mask).double()


def translator():
    torch.manual_seed(1)
    config = Config(n_symbols=V, d_model=16, n_layers=1, n_heads=2)
    source = Config(n_symbols=5, d_model=16, n_layers=1, n_heads=2)
    return EncoderDecoder(config, source).eval()


# --- Filters: half precision, extreme numbers, −∞ ---


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    "make", [temperature(0.7), top_k(5), top_p(0.9), min_p(0.1), temperature(0)]
)
def test_filters_of_half_precision_are_those_of_the_same_numbers(dtype, make):
    logits = (3 * torch.randn(2, 50)).to(dtype)
    got = make(logits, NO_TOKENS.expand(2, 0))
    assert got.dtype == torch.float32
    assert torch.equal(got, make(logits.float(), NO_TOKENS.expand(2, 0)))
    wide = make(logits.double(), NO_TOKENS.expand(2, 0))
    assert wide.dtype == torch.float64
    torch.testing.assert_close(got, wide.float())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("t", [0.0, 5e-324, 1e-40, 1e-5, 1.0, 1e38, 1e300, math.inf])
def test_every_temperature_gives_a_distribution_and_keeps_what_is_removed(dtype, t):
    logits = torch.tensor([[3.0, -math.inf, 5.0, -7.0, 5.0]], dtype=dtype)
    p = temperature(t)(logits, NO_TOKENS).softmax(-1)[0]
    assert p[1] == 0
    if t == 0:
        assert p.max() == 1
    elif t <= 1e-5:  # the two best, as probable as one another
        assert p.tolist() == [0, 0, 0.5, 0, 0.5]
    elif t > 1:
        torch.testing.assert_close(p, p.new_tensor([1, 0, 1, 1, 1]) / 4)
    else:
        assert torch.equal(p, logits.to(p.dtype).softmax(-1)[0])


def test_a_low_temperature_tells_near_logits_apart():
    # 1000 and 1000.0001 / 1e-4 would both be rounded to steps of 1 in float32.
    logits = torch.tensor([[1000.0, 1000.0 + 2**-13]])
    p = temperature(2**-13)(logits, NO_TOKENS).softmax(-1)[0]
    torch.testing.assert_close(p, torch.tensor([0.0, 1.0]).softmax(-1))


def test_no_temperature_brings_back_what_top_k_removed():
    logits = torch.tensor([[1.0, 4.0, 3.0, 2.0]])
    for t in (1e-40, 0.5, 1, 2, math.inf):
        after = temperature(t)(top_k(2)(logits, NO_TOKENS), NO_TOKENS)
        assert not set(kept(after)) - {1, 2}
    assert kept(temperature(math.inf)(top_k(2)(logits, NO_TOKENS), NO_TOKENS)) == [1, 2]


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.999, 1 - 1e-6, 1 - 1e-9])
def test_the_nucleus_of_a_large_vocabulary_reaches_p(dtype, p):
    logits = torch.randn(1, 20_000, generator=draw()).to(dtype)
    chosen = top_p(p)(logits, NO_TOKENS) > -math.inf
    exact = logits.double().softmax(-1)
    assert exact[chosen].sum() >= p - 1e-12
    least = exact[chosen].min()
    assert exact[chosen].sum() - least < p + 1e-12  # and no smaller set does
    assert (exact[~chosen] <= least).all()


@given(
    st.lists(
        st.one_of(st.just(-math.inf), st.floats(-(2.0**126), 2.0**126, width=32)),
        min_size=1,
        max_size=6,
    ).filter(lambda row: max(row) > -math.inf),
    st.sampled_from([0.0, 1e-300, 0.3, 1 - 1e-16, 1.0]),
)
def test_filters_keep_the_best_and_never_bring_back_the_impossible(row, p):
    logits = torch.tensor([row])
    for make in (top_p(p), min_p(p), temperature(p), top_k(2)):
        out = make(logits, NO_TOKENS)
        assert logits[0, out.argmax()] == logits.max()  # one of the best
        assert out.softmax(-1).sum() == pytest.approx(1, abs=1e-5)
        assert set(kept(out)) <= set(kept(logits))


def test_repetition_penalty_of_other_strides_and_dtypes():
    logits = torch.tensor([[2.0, -2.0], [3.0, -3.0]]).T.contiguous().T
    tokens = torch.tensor([[0, 1], [-1, 1]]).T.contiguous().T
    right = [[1.0, -4.0], [3.0, -6.0]]
    for kind in (torch.long, torch.int32, torch.int8):
        assert repetition_penalty(2)(logits, tokens.to(kind)).tolist() == right
    assert repetition_penalty(2)(logits.half(), tokens).tolist() == right
    none = torch.zeros(2, 0, dtype=torch.long)
    assert torch.equal(repetition_penalty(2)(logits, none), logits)


def test_no_rows_are_no_rows():
    none = torch.zeros(0, 5)
    for make in (temperature(0.5), top_k(2), top_p(0.5), min_p(0.5)):
        assert make(none, torch.zeros(0, 3).long()).shape == (0, 5)


# --- Tokens at the door ---


KINDS = [np.array, torch.tensor, tuple, lambda row: [torch.tensor(t) for t in row]]


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_and_stops_of_every_kind_mean_the_same(kind):
    model, prompt = decoder(), [1, 2, 3]
    (text,) = generate(model, [prompt], 8)
    stop = [text[4]]
    right = generate(model, [prompt], 8, stop=stop)
    assert len(right[0]) < 8
    given = {"stop": kind(stop)}
    assert generate(model, [kind(prompt)], 8, **given) == right
    assert list(stream(model, kind(prompt), 8, **given)) == right[0]
    assert beam_search(model, [kind(prompt)], 4, n_beams=2, **given) == beam_search(
        model, [prompt], 4, n_beams=2, stop=stop
    )
    same = log_probs(model, kind(prompt), kind(text))
    assert torch.equal(same, log_probs(model, prompt, text))


def test_one_stop_may_stand_alone_and_rows_may_be_a_tensor():
    model = decoder()
    stop = generate(model, [[1, 2]], 8)[0][3]
    right = generate(model, [[1, 2], [3, 4]], 8, stop=[stop])
    for one in (stop, torch.tensor(stop), np.int64(stop)):
        assert generate(model, [[1, 2], [3, 4]], 8, stop=one) == right
    rows = torch.tensor([[1, 3], [2, 4]]).T
    assert generate(model, rows, 8, stop=stop) == right
    assert generate(model, rows.numpy(), 8, stop={stop}) == right


def test_what_is_translated_may_be_of_every_kind():
    model = translator()
    right = translate(model, [[1, 2], [3]], 5, start=1, stop=2)
    for kind in KINDS:
        assert translate(model, map(kind, [[1, 2], [3]]), 5, start=1, stop=2) == right
    given = {"start": torch.tensor(1), "stop": np.int8(2)}
    assert translate(model, [[1, 2], [3]], 5, **given) == right
    for n_beams in (1, 3):
        given = {"start": 1, "stop": 2, "n_beams": n_beams}
        assert translate(model, [[1, 2], [3]], 0, **given) == [[], []]


def test_padding_is_told_by_place_alone():
    reader = Reader(decoder(), [[0, 0], [4]], 3, cached=True)
    assert reader.tokens_so_far().tolist() == [[0, 0], [-1, 4]]
    reader.next_logits()
    reader.append(torch.tensor([5, 0]))
    assert reader.tokens_so_far().tolist() == [[0, 0, 5], [-1, 4, 0]]
    reader.reorder(torch.tensor([1, 1]))
    assert reader.tokens_so_far().tolist() == [[-1, 4, 0]] * 2


def test_a_prompt_alone_is_penalised_as_beside_longer_ones():
    model, filters = decoder(), repetition_penalty(3.0)
    prompts = [[10, 0, 3], [4], [10]]
    together = generate(model, prompts, 9, filters=filters)
    assert together == [generate(model, [p], 9, filters=[filters])[0] for p in prompts]
    assert together != generate(model, prompts, 9)


# --- Draws ---


@pytest.mark.parametrize("dtype", HALVES)
def test_a_model_of_half_precision_is_sampled_at_any_temperature(dtype):
    model = decoder().to(dtype)
    greedy = generate(model, [[1, 2]], 4)
    for t in (0, 1e-40, 1e-6):
        cold = generate(model, [[1, 2]], 4, filters=temperature(t), generator=draw())
        # Two logits that are equal in half precision are drawn between.
        assert cold == greedy or t > 0
    warm = {"filters": [top_k(3), temperature(math.inf)], "generator": draw()}
    assert len(generate(model, [[1, 2]], 6, **warm)[0]) == 6


def test_sampled_text_depends_on_the_batch_and_greedy_text_does_not():
    model, prompts = decoder(), [[1, 2, 3], [4, 5]]
    alone = generate(model, prompts[1:], 8, generator=draw())[0]
    assert generate(model, prompts, 8, generator=draw())[1] != alone
    assert generate(model, prompts, 8)[1] == generate(model, prompts[1:], 8)[0]


# --- Context, window, masks ---


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize(
    "options", [{"context": 8}, {"context": 8, "mask": causal & window(3)}]
)
def test_each_row_fills_its_own_context(options, cached):
    model, prompts = decoder(**options), [[1, 2, 3, 4, 5, 6], [7], [8, 9, 0]]
    together = generate(model, prompts, 20, cached=cached)
    assert together == [generate(model, [p], 20)[0] for p in prompts]


@pytest.mark.parametrize(
    ("rule", "prompt", "options"),
    [
        (causal | prefix(4), [1, 2, 3, 4], {}),
        (causal | prefix(4), [1, 2, 3, 4, 5], {}),
        (causal & documents([0] * 3 + [1] * 20), [1, 2, 3, 4], {}),
        (full & documents([0, 0, *range(1, 20)]), [1, 2], {}),
        (causal & window(2), [1], {}),
        # The first five tokens stay the first five when they have been let go.
        (causal | prefix(5), [1] * 6, {"context": 8}),
    ],
)
def test_a_mask_that_looks_ahead_within_the_prompt_alone_is_cached(
    rule, prompt, options
):
    model = decoder(rule, **options)
    assert generate(model, [prompt], 9) == generate(model, [prompt], 9, cached=False)


LOOKING_AHEAD = {
    "full": (full, [[1, 2]], {}),
    "a prefix beyond the prompt": (causal | prefix(4), [[1, 2, 3]], {}),
    "one prompt of two": (causal | prefix(4), [[1] * 6, [1, 2]], {}),
    "far ahead": (causal | (prefix(9) & ~prefix(8)), [[1]], {}),
    "one document": (documents([0, 0, 0, *[1] * 20]), [[1, 2, 3]], {}),
    "one row": (causal | padding([1, 5]), [[1, 2], [1, 2]], {}),
}


@pytest.mark.parametrize("name", LOOKING_AHEAD)
def test_a_mask_that_shows_what_is_to_come_is_not_cached(name):
    rule, prompts, options = LOOKING_AHEAD[name]
    model = decoder(rule, **options)
    message = r"expected a mask that lets no token see.*slot \d+ sees.*cached=False"
    with pytest.raises(ValueError, match=message):
        generate(model, prompts, 12)
    with pytest.raises(ValueError, match=message):
        beam_search(model, prompts, 12, n_beams=2)
    if len(prompts) == 1:
        with pytest.raises(ValueError, match=message):
            stream(model, prompts[0], 12)
    assert len(generate(model, prompts, 2, cached=False)[0]) == 2


def test_one_new_token_comes_after_all_that_is_read():
    model = decoder(full)
    assert generate(model, [[1, 2]], 1) == generate(model, [[1, 2]], 1, cached=False)
    assert log_probs(model, [1, 2], [3]).shape == (1,)
    with pytest.raises(ValueError, match="still to come"):
        log_probs(model, [1, 2], [3, 4])


def test_a_long_text_is_checked_in_bounded_memory():
    # 20,000 squared would be 400 million pairs.
    Reader(decoder(), [[1]], 20_000, cached=True)
    with pytest.raises(ValueError, match="slot 0 sees slot 1"):
        Reader(decoder(causal | prefix(2)), [[1]], 20_000, cached=True)


# --- All or nothing ---


def broken():
    model = decoder(dropout=0.5).train()
    model.blocks[0].mlp.eval()  # one part in another mode
    with torch.no_grad():
        model.embedding.weight[7] = torch.nan
    return model


def fails(logits, tokens):
    raise RuntimeError("a filter that fails")


@pytest.mark.parametrize(
    "call",
    [
        lambda m, g: generate(m, [[1, 7]], 3, generator=g),
        lambda m, g: generate(m, [[1]], 3, filters=[fails], generator=g),
        lambda m, g: generate(m, [[1]], 3, generator=g, filters=at_third(fails)),
        lambda m, g: generate(m, [[1, 99]], 3, generator=g),
        lambda m, g: generate(m, [[1]], 3, generator=g, stop=99),
        lambda m, g: list(stream(m, [1, 7], 3, generator=g)),
        lambda m, g: beam_search(m, [[7]], 3, n_beams=2),
        lambda m, g: log_probs(m, [7], [1]),
    ],
)
def test_a_call_that_raises_changes_nothing(call):
    model, generator = broken(), draw()
    before = generator.get_state()
    modes = [module.training for module in model.modules()]
    with pytest.raises((ValueError, FloatingPointError, RuntimeError)):
        call(model, generator)
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(generator.get_state(), before)


def at_third(change):
    calls = []

    def apply(logits, tokens):
        calls.append(1)
        return change(logits, tokens) if len(calls) == 3 else logits

    return apply


def test_a_call_that_ends_leaves_every_part_in_its_mode():
    model = decoder(dropout=0.5).train()
    model.blocks[0].mlp.eval()
    modes = [module.training for module in model.modules()]
    generate(model, [[1]], 3)
    assert torch.equal(log_probs(model, [1], [2]), log_probs(model, [1], [2]))
    assert [module.training for module in model.modules()] == modes
    both = translator().train()
    both.encoder.eval()
    Conditioned(both, torch.tensor([[1]]))
    assert both.training
    assert not both.encoder.training
