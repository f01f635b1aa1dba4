"""What the page of frequent questions says about behaviour, repeated."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_mask

from mattn import (
    Config,
    Decoder,
    KVCache,
    MultiHeadAttention,
    attention,
    causal,
    full,
    padding,
    window,
)
from mattn.masks import to_additive

INF = math.inf
RULE = causal.matrix(5)


@pytest.fixture
def x():
    return torch.randn(1, 5, 4, generator=torch.Generator().manual_seed(0))


def test_right_padding_needs_no_mask_beside_the_causal_one(x):
    lengths = [3]
    with_padding = attention(x, x, x, causal & padding(lengths))[0]
    torch.testing.assert_close(
        attention(x, x, x, causal)[0][:, :3], with_padding[:, :3]
    )
    left = attention(x, x, x, causal & padding(lengths, side="left", width=5))[0]
    assert not torch.allclose(attention(x, x, x, causal)[0][:, 2:], left[:, 2:])


def test_the_last_output_of_one_layer_needs_no_mask_of_two_layers_it_does(x):
    one, one_full = attention(x, x, x, causal)[0], attention(x, x, x)[0]
    torch.testing.assert_close(one[:, -1], one_full[:, -1])
    two = attention(one, one, one, causal)[0]
    two_full = attention(one_full, one_full, one_full)[0]
    assert not torch.allclose(two[:, -1], two_full[:, -1], atol=1e-3)


def test_one_cached_query_needs_no_causal_mask_a_chunk_does(x):
    torch.manual_seed(0)
    layer = MultiHeadAttention(4, 2)
    expected = layer(x, causal)

    def last(n_new, mask):
        cache = KVCache(5)
        layer(x[:, : 5 - n_new], causal, cache=cache)
        return layer(x[:, 5 - n_new :], mask, cache=cache)

    torch.testing.assert_close(last(1, None), expected[:, -1:])
    torch.testing.assert_close(last(3, causal), expected[:, -3:])
    assert not torch.allclose(last(3, None), expected[:, -3:], atol=1e-3)


def test_a_score_of_zero_still_gets_weight():
    weights = torch.softmax(torch.tensor([-1.0, 2.0]) * torch.tensor([1.0, 0.0]), -1)
    assert weights[1] > weights[0] > 0


def test_zero_after_softmax_leaks():
    allowed = torch.tensor([1.0, 1.0, 0.0])

    def zeroed(later):
        return torch.softmax(torch.tensor([1.0, 2.0, later]), -1) * allowed

    assert zeroed(3.0).sum() < 1
    assert (zeroed(5.0)[:2] < zeroed(3.0)[:2]).all()
    scores = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (torch.softmax(scores, -1) * allowed)[0].backward()
    assert scores.grad[2] != 0


def test_renormalising_equals_minus_infinity_until_a_row_underflows():
    def renormalised(blocked_score):
        scores = torch.tensor([0.0, 1.0, blocked_score])
        weights = torch.softmax(scores, -1) * torch.tensor([1.0, 1.0, 0.0])
        return weights / weights.sum()

    exact = torch.softmax(torch.tensor([0.0, 1.0, -INF]), -1)
    torch.testing.assert_close(renormalised(3.0), exact)
    # Where a machine keeps no numbers below 1e-38, NaN comes here already.
    assert not torch.isclose(renormalised(1.0 + 102.0)[:2], exact[:2], atol=0.05).any()
    assert renormalised(1.0 + 105.0).isnan().all()


def test_a_finite_fill_can_be_met():
    weights = torch.softmax(torch.tensor([-20000.0, -10000.0]), -1)
    assert weights.tolist() == [0, 1]  # the second is blocked, by a fill of -1e4


def test_a_finite_fill_may_not_fit():
    half = torch.zeros(2, dtype=torch.float16)
    with pytest.raises(RuntimeError, match="overflow"):
        half.masked_fill(torch.tensor([True, False]), -1e9)
    assert (half + -1e9 == -INF).all()


def test_empty_rows():
    scores = torch.tensor([[0.0, 1.0, 2.0]])
    nothing = torch.zeros(1, 3, dtype=torch.bool)
    uniform = torch.full((1, 3), 1 / 3)
    filled = torch.softmax(scores.masked_fill(~nothing, -1e4), -1)
    torch.testing.assert_close(filled, uniform)
    added = torch.softmax(scores - 1e4, -1)
    torch.testing.assert_close(added, torch.softmax(scores, -1), atol=1e-3, rtol=0)
    torch.testing.assert_close(torch.softmax(scores - 1e9, -1), uniform)
    assert torch.softmax(scores + to_additive(nothing), -1).isnan().all()


def test_is_causal_is_aligned_with_the_top_left(x):
    q, k = x[:, None, -1:], x[:, None]
    out = F.scaled_dot_product_attention(q, k, k, is_causal=True)
    torch.testing.assert_close(out, k[:, :, :1])
    expected = attention(q, k, k, causal)[0]
    bottom_right = F.scaled_dot_product_attention(q, k, k, causal_lower_right(1, 5))
    torch.testing.assert_close(bottom_right, expected)
    assert not torch.allclose(out, expected, atol=1e-3)


MODES = {"train": (True, True), "eval": (False, True), "used": (False, False)}


def in_torch_nn(kind: str, mode: str):
    """A layer in one of the ``MODES``, as a function of its input and of masks."""
    torch.manual_seed(0)
    training, with_gradients = MODES[mode]
    if kind == "attention":
        layer = nn.MultiheadAttention(4, 2, batch_first=True)

        def call(x, attn_mask=None, **flags):
            return layer(x, x, x, attn_mask=attn_mask, need_weights=False, **flags)[0]
    else:
        layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)

        def call(x, attn_mask=None, **flags):
            return layer(x, src_mask=attn_mask, **flags)

    layer.train(training)
    return torch.set_grad_enabled(with_gradients)(call)


@pytest.mark.parametrize("kind", ["attention", "encoder"])
@pytest.mark.parametrize("mode", MODES)
def test_is_causal_is_a_promise_in_torch_nn(kind, mode, x):
    call = in_torch_nn(kind, mode)
    if mode == "used":
        torch.testing.assert_close(call(x, is_causal=True), call(x))
        assert reaches(lambda x: call(x, is_causal=True), x)
    else:
        with pytest.raises(RuntimeError, match="Need attn_mask"):
            call(x, is_causal=True)
    blocked = ~(causal & window(2)).matrix(5)
    promised = call(x, blocked, is_causal=True)
    kept = torch.allclose(promised, call(x, blocked), atol=1e-5)
    assert kept is (mode == "used")
    if not kept:
        torch.testing.assert_close(promised, call(x, ~RULE))


def test_a_mask_and_the_flag_together_depend_on_the_back_end(x):
    x, both = x[:, None], {"attn_mask": torch.ones(5, 5).bool(), "is_causal": True}
    one = F.scaled_dot_product_attention(x, x, x, attn_mask=RULE)
    torch.testing.assert_close(F.scaled_dot_product_attention(x, x, x, **both), one)
    with (
        sdpa_kernel(SDPBackend.MATH),
        pytest.raises(RuntimeError, match="should not be set when is_causal"),
    ):
        F.scaled_dot_product_attention(x, x, x, **both)


def test_masks_of_texts_and_heads_lie_text_by_text():
    torch.manual_seed(0)
    layer, x = nn.MultiheadAttention(4, 2, batch_first=True), torch.randn(3, 5, 4)
    rules = [causal, full, causal & window(2)]
    masks = ~torch.stack([rule.matrix(5) for rule in rules])  # (B, Tq, Tk)
    each = [
        layer(*[row[None]] * 3, attn_mask=m)[0] for row, m in zip(x, masks, strict=True)
    ]
    right = layer(x, x, x, attn_mask=masks.repeat_interleave(2, 0))[0]
    torch.testing.assert_close(right, torch.cat(each))
    mixed = layer(x, x, x, attn_mask=masks.repeat(2, 1, 1))[0]
    assert mixed.shape == right.shape
    assert not torch.allclose(mixed, right, atol=1e-3)


def test_a_padding_mask_needs_its_axes():
    x = torch.randn(4, 2, 5, 8, generator=torch.Generator().manual_seed(0))
    real = torch.arange(5) < torch.tensor([5, 4, 3, 2])[:, None]  # (B, T)
    sdpa = F.scaled_dot_product_attention
    with pytest.raises(RuntimeError, match=r"must match|expand"):
        sdpa(x, x, x, attn_mask=real)
    expected = attention(x, x, x, padding([5, 4, 3, 2]))[0]
    torch.testing.assert_close(sdpa(x, x, x, attn_mask=real[:, None, None]), expected)
    square = x[:, :, :4]  # now B = T, and nothing is refused
    read = sdpa(square, square, square, attn_mask=real[:, :4])
    torch.testing.assert_close(read, attention(square, square, square, real[:, :4])[0])


def test_zero_embeddings_are_no_mask():
    x = torch.zeros(1, 5, 4)
    x[:, :3] = torch.eye(4)[:3] * 0.01
    _, weights = attention(x, x, x)
    assert abs(weights[0, 0, 3:].sum().item() - 2 / 5) < 1e-3


def reaches(function, x, *, at=0):
    """Does a change of the last input reach output ``at``?"""
    changed = x.clone()
    changed[:, -1] += 1.0
    return not torch.equal(function(x)[:, at], function(changed)[:, at])


def test_a_batch_goes_on_from_its_last_slot_so_padding_is_on_the_left():
    torch.manual_seed(0)
    config = Config(n_symbols=7, d_model=8, n_layers=2, n_heads=2)
    model, prompt = Decoder(config).double().eval(), torch.tensor([[3, 1, 4]])
    alone = model(prompt)[:, -1]
    pad = torch.zeros(1, 2, dtype=torch.long)
    on_the_right = model(torch.cat([prompt, pad], dim=1))[:, -1]
    assert (on_the_right - alone).abs().max() > 0.1
    rows, hidden = torch.cat([pad, prompt], dim=1), torch.arange(-2, 3)
    on_the_left = model(rows, slots=hidden)[:, -1]
    torch.testing.assert_close(on_the_left, alone)
    seen = model(rows)[:, -1]  # neither hidden nor counted from the first real token
    assert (seen - alone).abs().max() > 0.01


def test_true_means_may_attend_in_sdpa_and_flex_attention(x):
    def sdpa(mask):
        return lambda x: F.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    assert not reaches(sdpa(RULE), x)
    assert reaches(sdpa(RULE.float()), x)  # ones and zeros block nothing
    rendered = create_mask(lambda b, h, q, k: q >= k, 1, 1, 5, 5, device="cpu")
    assert torch.equal(rendered[0, 0], RULE)


def test_true_means_blocked_in_the_modules_of_torch_nn(x):
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(4, 1, batch_first=True)
    assert not reaches(lambda x: layer(x, x, x, attn_mask=~RULE)[0], x)
    assert reaches(lambda x: layer(x, x, x, attn_mask=RULE)[0], x)
    last = torch.tensor([[False, False, False, False, True]])
    assert not reaches(lambda x: layer(x, x, x, key_padding_mask=last)[0], x)
    assert reaches(lambda x: layer(x, x, x, key_padding_mask=~last)[0], x)


@pytest.mark.parametrize(
    ("argument", "side"),
    [("src", 0), ("tgt", 1), ("memory", 0)],
)
def test_true_means_blocked_in_transformer(argument, side, x):
    torch.manual_seed(0)
    model = nn.Transformer(
        4, 2, 1, 1, dim_feedforward=8, dropout=0.0, batch_first=True
    ).train()
    last = torch.tensor([[False, False, False, False, True]])

    def run(**masks):
        # The last input of one side changes; the other side stays.
        return lambda changing: model(
            *((changing, x) if side == 0 else (x, changing)), **masks
        )

    if argument == "memory":
        # The encoder must not carry the change to other positions either.
        alone = ~torch.eye(5, dtype=torch.bool)
        own = {"src_mask": alone}
        assert not reaches(run(**own, memory_key_padding_mask=last), x)
        blocked = torch.zeros(5, 5, dtype=torch.bool)
        blocked[:, -1] = True
        assert not reaches(run(**own, memory_mask=blocked), x)
        assert reaches(run(**own), x)
    elif argument == "src":
        blocked = torch.zeros(5, 5, dtype=torch.bool)
        blocked[:4, -1] = True
        hide = {"memory_key_padding_mask": last}
        assert not reaches(run(src_mask=blocked, **hide), x)
        assert not reaches(run(src_key_padding_mask=last, **hide), x)
        assert reaches(run(**hide), x)
    else:
        assert not reaches(run(tgt_mask=~RULE), x)
        assert not reaches(run(tgt_key_padding_mask=last), x)
        assert reaches(run(), x)


def test_mattn_refuses_a_float_mask(x):
    with pytest.raises((ValueError, TypeError)):
        attention(x, x, x, RULE.float())
