"""The edges of attention: nothing in a batch, −∞, NaN, half precision, strides."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import close, error, kinds_of_mask, numpy_attention, random_qkv, rendered

from mattn import (
    MultiHeadAttention,
    attention,
    blockwise_attention,
    causal,
    documents,
    full,
    fused_attention,
    masked_softmax,
    padding,
    window,
)
from mattn.softmax import finish, merge, partial


def dense(q, k, v, mask=None):
    return attention(q, k, v, mask)[0]


def blocks(q, k, v, mask=None):
    return blockwise_attention(q, k, v, mask, block=3)


FORMS = {"dense": dense, "blocks": blocks, "fused": fused_attention}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


def near(a: torch.Tensor, reference) -> None:
    """As close as the dtype allows: half precision has 11 bits."""
    if a.dtype == torch.float16:
        assert tuple(a.shape) == tuple(reference.shape)
        assert error(a, reference) <= 5e-3
    else:
        close(a, reference)


# --- Nothing -----------------------------------------------------------------

SIZES = [(0, 3, 5, 7), (2, 0, 5, 7), (2, 3, 0, 7), (2, 3, 5, 0), (0, 3, 0, 0)]


@every_form
@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("given", ["none", "causal", "padding", "documents", "tensor"])
def test_of_nothing_comes_the_right_nothing(form, sizes, given):
    B, H, Tq, Tk = sizes
    q, k, v = random_qkv(batch=(B, H), Tq=Tq, Tk=Tk, grad=True)
    masks = {
        "none": None,
        "causal": causal & window(2),
        "padding": causal & padding(list(range(B))),
        "documents": causal & documents(torch.zeros(B, Tk, dtype=torch.long)),
        "tensor": torch.ones(B, 1, Tq, Tk, dtype=torch.bool),
    }
    out = form(q, k, v, masks[given])
    assert out.shape == (B, H, Tq, v.shape[-1])
    assert (out == 0).all()  # what there is of it has no key
    for t, grad in zip(
        (q, k, v), torch.autograd.grad(out.sum(), (q, k, v)), strict=True
    ):
        assert grad.shape == t.shape
        assert (grad == 0).all()


@pytest.mark.parametrize(("B", "T"), [(0, 4), (2, 0), (0, 0)])
@pytest.mark.parametrize("rule", [None, causal, causal & window(2)], ids=repr)
def test_a_layer_reads_nothing(B, T, rule):
    layer = MultiHeadAttention(12, 6, n_kv_heads=2)
    x = torch.zeros(B, T, 12, requires_grad=True)
    out = layer(x, rule)
    out.sum().backward()
    assert out.shape == x.grad.shape == (B, T, 12)
    assert layer.query.weight.grad.eq(0).all()


def test_a_softmax_over_no_keys_and_a_part_of_none():
    scores = torch.zeros(2, 3, 0, requires_grad=True)
    assert masked_softmax(scores).shape == (2, 3, 0)
    assert masked_softmax(scores, torch.ones(3, 0, dtype=torch.bool)).shape == (2, 3, 0)
    none = partial(scores, torch.zeros(2, 0, 5))
    assert (none.maximum == -torch.inf).all()
    assert (finish(none) == 0).all()
    assert finish(none).shape == (2, 3, 5)
    some = partial(torch.randn(2, 3, 4), torch.randn(2, 4, 5))
    for merged in (merge(none, some), merge(some, none)):
        assert all(torch.equal(a, b) for a, b in zip(merged, some, strict=True))


# --- −∞ and NaN --------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("mask", [None, "all", "causal"])
def test_to_score_minus_infinity_is_to_be_blocked(dtype, mask):
    scores = torch.randn(4, 4).to(dtype)
    scores[0] = scores[2, 1] = scores[3, :2] = -torch.inf
    allowed = {"all": torch.ones(4, 4).bool(), "causal": causal.matrix(4)}.get(mask)
    seen = (scores > -torch.inf) & (allowed if mask else True)
    scores.requires_grad_()
    weights = masked_softmax(scores, allowed)
    assert torch.equal(weights > 0, seen)
    assert (weights[0] == 0).all()
    near(weights.sum(-1), seen.any(-1).double())
    v = torch.randn(4, 3).to(dtype)
    near(
        finish(partial(scores, v, allowed)).to(dtype),
        weights.detach().double() @ v.double(),
    )
    (grad,) = torch.autograd.grad((weights * torch.randn(4, 4)).sum(), scores)
    assert (grad[~seen] == 0).all()
    assert grad.isfinite().all()


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
@pytest.mark.parametrize("rule", [full, causal, causal & window(2)], ids=repr)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_keys_of_minus_infinity_are_seen_by_nobody(form, dtype, rule, as_tensor):
    """In all three forms: a row that has no other key gives 0, not NaN."""
    q = torch.rand(1, 2, 6, 4).to(dtype) + 0.1
    k, v = torch.randn(1, 2, 6, 4).to(dtype), torch.randn(1, 2, 6, 3).to(dtype)
    first = 0 if rule is full else 3
    k[..., first:4, :] = -torch.inf
    out = form(q, k, v, rule.matrix(6) if as_tensor else rule)
    hidden = (first <= torch.arange(6)) & (torch.arange(6) < 4)
    finite = k.masked_fill(k == -torch.inf, 0.0)
    seen = (rule.matrix(6) & ~hidden).expand(1, 2, 6, 6)
    near(out, numpy_attention(q, finite, v, seen)[0])
    k[:] = -torch.inf
    assert (form(q, k, v, rule.matrix(6) if as_tensor else rule) == 0).all()


@pytest.mark.parametrize("form", [dense, blocks])
def test_a_nan_key_is_seen_by_those_who_see_it(form):
    q, k, v = random_qkv(batch=(1, 2), Tq=5, Tk=5)
    k[..., 4, 0] = torch.nan
    out = form(q, k, v, causal)
    assert out[..., 4, :].isnan().all()
    assert not out[..., :4, :].isnan().any()


def test_nan_in_softmax():
    scores = torch.tensor([[0.0, torch.nan], [0.0, 0.0]])
    blocked = torch.tensor([[True, False], [True, True]])
    assert masked_softmax(scores, blocked).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert masked_softmax(scores)[0].isnan().all()
    v = torch.eye(2)
    assert finish(partial(scores, v, blocked)).tolist() == [[1.0, 0.0], [0.5, 0.5]]
    assert finish(partial(scores, v))[0].isnan().all()


# --- Half precision ----------------------------------------------------------


@every_form
@pytest.mark.parametrize("size", [40.0, 250.0])
@pytest.mark.parametrize("D", [16, 64, 128])
@pytest.mark.parametrize("mask", [None, causal, "causal & window(2)"])
def test_large_queries_and_keys_in_half_precision_are_finite(form, size, D, mask):
    """q·k passes 65,504, the largest number of float16; q·k/√D may, too."""
    mask = causal & window(2) if isinstance(mask, str) else mask
    q, k, v = random_qkv(batch=(1, 2), Tq=6, Tk=6, D=D, dtype=torch.float16)
    q, k = size + q, size + k
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    out = form(q, k, v, mask)
    assert out.dtype == torch.float16
    if size == 40:  # larger scores leave float32 too few bits after the point
        near(out, numpy_attention(q, k, v, rendered(mask, 6, 6, 2))[0])
    assert out.isfinite().all()
    assert (out.abs().amax(-2) <= v.abs().amax(-2) + 1e-3).all()  # they are means
    out.sum().backward()
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("form", [dense, blocks])
def test_bfloat16_is_computed_in_float32(form):
    q, k, v = random_qkv(dtype=torch.bfloat16)
    expected = numpy_attention(q, k, v, causal.matrix(5, 7))[0]
    out = form(q, k, v, causal)
    assert out.dtype == torch.bfloat16
    # Rounded once, at the end: half a unit in the last of 8 bits.
    expected = torch.as_tensor(expected)
    assert ((out.double() - expected).abs() <= 2**-8 * expected.abs() + 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dense_scores_do_not_overflow_before_they_are_divided(dtype):
    """D = 4: q·k is twice the largest number of the dtype, q·k/2 fits."""
    large = math.sqrt(torch.finfo(dtype).max) * 0.7
    x = torch.full((2, 4), large, dtype=dtype)
    out, weights = attention(x, x, torch.eye(2, dtype=dtype))
    assert (weights == 0.5).all()
    assert (out == 0.5).all()
    assert (blockwise_attention(x, x, torch.eye(2, dtype=dtype), block=1) == 0.5).all()


# --- Strides -----------------------------------------------------------------


@every_form
@pytest.mark.parametrize("kind", ["none", "causal", "window", "causal padding"])
def test_tensors_on_other_strides(form, kind):
    q, k, v = random_qkv(batch=(2, 3), grad=True)
    mask = kinds_of_mask(7)[kind]
    expected = form(q, k, v, mask)
    grads = torch.autograd.grad(expected.sin().sum(), (q, k, v))

    def turned(t):
        return t.detach().mT.contiguous().mT

    def strided(t):
        wide = torch.full((*t.shape[:-2], 2 * t.shape[-2], 3 * t.shape[-1]), torch.nan)
        wide = wide.to(t.dtype)
        wide[..., ::2, ::3] = t.detach()
        return wide[..., ::2, ::3]

    def by_token(t):
        return t.detach().transpose(1, 2).contiguous().transpose(1, 2)

    for change in (turned, strided, by_token):
        others = [change(t).requires_grad_() for t in (q, k, v)]
        assert not any(t.is_contiguous() for t in others)
        out = form(*others, mask)
        close(out, expected)
        found = torch.autograd.grad(out.sin().sum(), others)
        for a, b in zip(found, grads, strict=True):
            close(a, b)


@every_form
def test_masks_on_other_strides(form):
    q, k, v = random_qkv(batch=(2, 3))
    allowed = torch.rand(2, 1, 7, 5) < 0.6
    expected = form(q, k, v, allowed.mT.contiguous())
    close(form(q, k, v, allowed.mT), expected)
    one = allowed[:1, :, :1].mT  # (1, 1, 5, 1): the same for each key
    close(form(q, k, v, one), form(q, k, v, one.expand(2, 3, 5, 7).contiguous()))


# --- The axes of a mask ------------------------------------------------------


@every_form
@pytest.mark.parametrize("rule", [causal & padding([4, 2]), padding([1, 3])], ids=repr)
def test_the_matrix_of_a_rule_by_row_says_that_it_is_for_all_heads(form, rule):
    q, k, v = random_qkv(batch=(2, 2), Tq=4, Tk=4)
    close(form(q, k, v, rule.matrix(4)[:, None]), form(q, k, v, rule))
    if form is not fused_attention:  # without heads it has the axes of the scores
        one = [t[:, 0] for t in (q, k, v)]
        close(form(*one, rule.matrix(4)), form(*one, rule))


@every_form
def test_more_ids_than_keys_are_ids_of_tokens_to_come(form):
    q, k, v = random_qkv(batch=(2, 2), Tq=5, Tk=7)
    ids = torch.tensor([[0, 0, 1, 1, 1, 2, 2, 2, 3], [0, 1, 1, 1, 1, 1, 1, 1, 1]])
    close(form(q, k, v, documents(ids)), form(q, k, v, documents(ids[:, :7])))
