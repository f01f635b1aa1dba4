"""Attention in three forms: readable, block by block, fused."""

import math

import numpy as np
import pytest
import torch
from forms import blocks_of, dense, every_form, every_kind
from oracles import (
    close,
    error,
    kinds_of_mask,
    numpy_attention,
    plain_attention,
    random_qkv,
    rendered,
    torch_attention,
)
from torch.autograd import gradcheck

from mattn import (
    attention,
    blockwise_attention,
    causal,
    documents,
    full,
    fused_attention,
    padding,
    prefix,
    window,
)
from mattn.checks import influence
from mattn.softmax import masked_softmax

# --- Numbers that can be checked on paper ------------------------------------


@every_form
def test_equal_scores_give_the_mean_of_what_is_visible(form):
    zeros = torch.zeros(1, 1, 4, 3)
    v = torch.tensor([[6.0, 0.0], [2.0, 4.0], [1.0, 2.0], [3.0, 2.0]])[None, None]
    running = [[6.0, 0.0], [4.0, 2.0], [3.0, 2.0], [3.0, 2.0]]
    close(form(zeros, zeros, v, causal)[0, 0], torch.tensor(running))
    of_two = [[6.0, 0.0], [4.0, 2.0], [1.5, 3.0], [2.0, 2.0]]
    close(form(zeros, zeros, v, causal & window(2))[0, 0], torch.tensor(of_two))
    later = [[2.0, 8 / 3], [2.0, 2.0], [3.0, 2.0], [0.0, 0.0]]
    close(form(zeros, zeros, v, ~causal)[0, 0], torch.tensor(later))


@every_form
def test_scores_are_divided_by_the_root_of_the_key_size(form):
    # q·k = 4 ln 3 and 0; divided by √16 the weights are 3/4 and 1/4.
    q = torch.zeros(1, 1, 1, 16)
    q[..., 0] = 4 * math.log(3)
    k = torch.zeros(1, 1, 2, 16)
    k[..., 0, 0] = 1
    v = torch.tensor([[[[8.0, 0.0, 4.0], [0.0, 8.0, 4.0]]]])
    close(form(q, k, v), torch.tensor([[[[6.0, 2.0, 4.0]]]]))


def test_the_example_of_two_unit_vectors():
    x = torch.eye(2, dtype=torch.float64)
    _, weights = attention(x, x, x, causal)
    e = math.exp(1 / math.sqrt(2))
    close(weights, np.array([[1, 0], [1 / (1 + e), e / (1 + e)]]))


# --- Against float64 NumPy and PyTorch ---------------------------------------

SIZES = [(0, 0), (0, 3), (3, 0), (1, 1), (1, 7), (7, 1), (5, 5), (5, 8), (8, 5)]


@every_form
@pytest.mark.parametrize(("Tq", "Tk"), SIZES)
def test_equals_the_definition_for_every_kind_and_size(form, Tq, Tk):
    for dtype in (torch.float32, torch.float64):
        q, k, v = random_qkv(Tq=Tq, Tk=Tk, dtype=dtype)
        for mask in kinds_of_mask(Tk).values():
            allowed = rendered(mask, Tq, Tk, 2)
            expected, _ = numpy_attention(q, k, v, allowed)
            out = form(q, k, v, mask)
            assert out.dtype == dtype
            close(out, expected)
            if mask is not None:  # a rule and its matrix mean the same
                close(form(q, k, v, allowed.expand(2, 3, -1, -1)), expected)


@pytest.mark.parametrize(
    ("kind", "batch"),
    [
        (kind, batch)
        for kind, mask in kinds_of_mask(7).items()
        for batch in [(), (2,), (2, 3), (2, 3, 4)]
        if batch or mask is None or mask.batch is None
    ],
)
def test_weights_are_those_of_the_definition(kind, batch):
    mask = kinds_of_mask(7)[kind]
    q, k, v = random_qkv(batch=batch)
    allowed = rendered(mask, 5, 7, len(batch))
    for got, expected in zip(
        attention(q, k, v, mask), numpy_attention(q, k, v, allowed), strict=True
    ):
        close(got, expected)
    weights = attention(q, k, v, mask)[1]
    assert torch.equal(weights == 0, ~allowed.expand_as(weights))
    close(blockwise_attention(q, k, v, mask, block=2), attention(q, k, v, mask)[0])


@every_form
@pytest.mark.parametrize("kind", ["none", "causal", "window", "padding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_pytorch_forward_and_backward(form, kind, dtype):
    mask = kinds_of_mask(7)[kind]
    q, k, v = random_qkv(dtype=dtype, grad=True)
    allowed = None if mask is None else rendered(mask, 5, 7, 2).expand(2, 3, 5, 7)
    up = torch.randn(2, 3, 5, 6, dtype=dtype)
    expected = torch_attention(q, k, v, allowed)
    out = form(q, k, v, mask)
    close(out, expected)
    for got, wanted in zip(
        torch.autograd.grad(out, (q, k, v), up),
        torch.autograd.grad(expected, (q, k, v), up),
        strict=True,
    ):
        close(got, wanted)


@every_form
@every_kind
def test_gradients_are_those_of_the_float64_dense_form(form, kind):
    """Which is itself held to finite differences, below."""
    mask = kinds_of_mask(7)[kind]
    q, k, v = random_qkv(dtype=torch.float32, grad=True)
    up = torch.randn(2, 3, 5, 6)
    exact = [t.detach().double().requires_grad_() for t in (q, k, v)]
    wanted = torch.autograd.grad(attention(*exact, mask)[0], exact, up.double())
    for got, expected in zip(
        torch.autograd.grad(form(q, k, v, mask), (q, k, v), up), wanted, strict=True
    ):
        close(got, expected)


@pytest.mark.parametrize("form", [attention, blocks_of(2), fused_attention])
@pytest.mark.parametrize("kind", ["none", "window", "padding", "future"])
def test_gradcheck(form, kind):
    mask = kinds_of_mask(4)[kind]
    inputs = random_qkv(batch=(2, 1), Tq=3, Tk=4, D=2, Dv=3, grad=True)
    assert gradcheck(lambda *qkv: form(*qkv, mask), inputs)


@every_form
def test_strides_and_broadcasting_do_not_matter(form):
    q, k, v = random_qkv(batch=(2, 3), Tq=5, Tk=7)
    allowed = torch.rand(2, 3, 5, 7) < 0.6
    expected = form(q, k, v, allowed)
    strided = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (q, k, v)]
    assert not any(t.is_contiguous() for t in strided)
    close(form(*strided, allowed.mT.contiguous().mT), expected)
    reversed_keys = form(q, k.flip(2), v.flip(2), allowed.flip(3))
    close(reversed_keys, expected)
    for shape in [(2, 1, 5, 7), (1, 3, 1, 7), (1, 1, 5, 1), (2, 3, 5, 1)]:
        small = torch.rand(shape) < 0.6
        close(form(q, k, v, small), form(q, k, v, small.expand(2, 3, 5, 7)))


@pytest.mark.parametrize("form", [dense, blocks_of(2)])
def test_keys_and_values_broadcast_over_the_batch(form):
    q, k, v = random_qkv(batch=(2, 3))
    k, v = k[:1, :1], v[:1]
    expected, _ = numpy_attention(q, k, v, causal.matrix(5, 7))
    close(form(q, k, v, causal), expected)
    close(form(q, k[0, 0], v[0], causal), expected)


@every_form
def test_packed_documents_are_separate_sequences(form):
    q, k, v = random_qkv(batch=(2, 3), Tq=7, Tk=7)
    out = form(q, k, v, causal & documents([0, 0, 0, 1, 1, 2, 2]))
    for rows in (slice(0, 3), slice(3, 5), slice(5, 7)):
        close(out[:, :, rows], form(*(t[:, :, rows] for t in (q, k, v)), causal))


@every_form
def test_padding_has_no_say(form):
    q, k, v = random_qkv(batch=(2, 3), Tq=5, Tk=7)
    out = form(q, k, v, padding([4, 6]))
    for row, n in enumerate([4, 6]):
        alone = form(q[row, None], k[row, None, :, :n], v[row, None, :, :n])
        close(out[row], alone[0])


@every_form
@pytest.mark.parametrize(
    "rule", [full, causal, causal & window(2), causal | prefix(3), ~causal], ids=repr
)
def test_influence_of_keys_and_values_is_the_mask(form, rule):
    q, k, v = random_qkv(batch=(1, 2), Tq=7, Tk=7)

    def out(values):
        return form(q, k, values.expand(1, 2, -1, -1), rule).flatten(0, 1).movedim(1, 0)

    assert torch.equal(influence(out, v[0, 0]), rule.matrix(7))

    def out_by_key(keys):
        return form(q, keys.expand(1, 2, -1, -1), v, rule).flatten(0, 1).movedim(1, 0)

    # A lone visible key has weight 1 whatever it is.
    more_than_one = rule.matrix(7).sum(dim=-1, keepdim=True) > 1
    assert torch.equal(influence(out_by_key, k[0, 0]), rule.matrix(7) & more_than_one)


# --- Precision ---------------------------------------------------------------


@every_form
@pytest.mark.parametrize("kind", ["none", "causal", "window"])
def test_float16_errs_at_most_twice_as_much_as_pytorch(form, kind):
    mask = kinds_of_mask(33)[kind]
    q, k, v = random_qkv(Tq=21, Tk=33, D=16, dtype=torch.float16)
    allowed = rendered(mask, 21, 33, 2)
    reference, _ = numpy_attention(q, k, v, allowed)
    out = form(q, k, v, mask)
    assert out.dtype == torch.float16
    assert error(out, reference) <= 2 * error(
        plain_attention(q, k, v, allowed), reference
    )


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("large", ["q", "v", "all"])
@pytest.mark.parametrize("kind", ["none", "causal", "padding"])
def test_large_magnitudes(form, kind, large, dtype):
    """±1e4: finite, and at most twice PyTorch's error."""
    mask = kinds_of_mask(33)[kind]
    # Small integers times 1e4: products and sums are exact in float32, so that
    # which key is largest, and which are level, does not depend on rounding.
    shapes = (2, 3, 21, 4), (2, 3, 33, 4), (2, 3, 33, 6)
    q, k, v = (torch.randint(-1, 2, s).to(dtype) for s in shapes)
    q = q * 1e4 if large in ("q", "all") else q
    k = k * 1e4 if large == "all" else k
    v = v * 1e4 if large in ("v", "all") else v
    allowed = rendered(mask, 21, 33, 2)
    reference, _ = numpy_attention(q, k, v, allowed)
    out = form(q, k, v, mask)
    assert out.isfinite().all()
    theirs = error(torch_attention(q, k, v, allowed), reference)
    # Four roundings of the largest value, for sums taken in another order.
    rounding = 4 * torch.finfo(dtype).eps * float(v.abs().max())
    assert error(out, reference) <= 2 * theirs + rounding


# --- Empty rows --------------------------------------------------------------


@every_form
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "mask",
    [~causal, causal & padding([7, 0]), ~full, causal & window(1) & prefix(3)],
    ids=repr,
)
def test_an_empty_row_is_exactly_zero_and_so_are_its_gradients(form, mask, dtype):
    q, k, v = random_qkv(Tq=7, Tk=7, dtype=dtype, grad=True)
    allowed = rendered(mask, 7, 7, 2).expand(2, 3, 7, 7)
    empty = ~allowed.any(dim=-1)
    unseen = ~allowed.any(dim=-2)
    assert empty.any()
    out = form(q, k, v, mask)
    assert (out[empty] == 0).all()
    gq, gk, gv = torch.autograd.grad(out, (q, k, v), torch.randn_like(out))
    assert (gq[empty] == 0).all()
    assert (gk[unseen] == 0).all()
    assert (gv[unseen] == 0).all()
    for gradient in (gq, gk, gv):
        assert gradient.isfinite().all()
    # Nothing flows from an empty row alone, to anything.
    out = form(q, k, v, mask)
    only_empty = (out * empty[..., None]).sum()
    for gradient in torch.autograd.grad(only_empty, (q, k, v)):
        assert not gradient.any()


@every_form
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_an_empty_row_makes_no_nan_on_the_way_either(form):
    q, k, v = random_qkv(Tq=7, Tk=7, grad=True)
    with torch.autograd.detect_anomaly(check_nan=True):
        form(q, k, v, ~causal).sum().backward()


def test_weights_of_an_empty_row_are_exactly_zero():
    q, k, v = random_qkv(Tq=7, Tk=7)
    _, weights = attention(q, k, v, ~causal)
    assert not weights[..., 6, :].any()
    close(weights.sum(dim=-1), torch.tensor([1.0] * 6 + [0.0]).expand(2, 3, 7))


# --- NaN and infinity in keys and values that no query may see ---------------

# What is guaranteed. The dense and the block-wise form mask the *scores*, so
# whatever stands in a blocked key does not reach the output. Values are
# *multiplied* by a weight of 0, and 0·NaN = 0·∞ = NaN: a blocked value must
# hold numbers, except where the block-wise form skips its whole block. The fused
# kernels add −∞ to the score, and NaN − ∞ = NaN, so for them this holds of keys
# too. No form ever turns such an input into a wrong number: an entry of the
# output is right or it is not finite. (Gradients: q's is NaN where a NaN key was
# blocked, because it is a sum of 0·k.)

BAD = [torch.nan, torch.inf, -torch.inf]


def with_bad(t: torch.Tensor, bad: float) -> torch.Tensor:
    """Positions 4 and later hold ``bad``."""
    return torch.cat([t[..., :4, :], torch.full_like(t[..., 4:, :], bad)], dim=-2)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("form", [dense, blocks_of(1), blocks_of(3)])
def test_blocked_keys_may_hold_anything(form, bad):
    q, k, v = random_qkv(Tq=5, Tk=7, grad=True)
    clean = form(q, k, v, prefix(4))
    out = form(q, with_bad(k, bad), v, prefix(4))
    close(out, clean)
    for gradient in torch.autograd.grad(out.sum(), (k, v)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("bad", BAD)
def test_skipped_blocks_may_hold_anything(bad):
    q, k, v = random_qkv(Tq=5, Tk=8)
    out = blockwise_attention(q, with_bad(k, bad), with_bad(v, bad), prefix(3), block=4)
    close(out, attention(q, k, v, prefix(3))[0])


@every_form
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["k", "v"])
def test_no_form_turns_a_blocked_nan_into_a_wrong_number(form, where, bad):
    q, k, v = random_qkv(Tq=5, Tk=7)
    clean = form(q, k, v, prefix(4))
    k, v = (with_bad(k, bad), v) if where == "k" else (k, with_bad(v, bad))
    out = form(q, k, v, prefix(4))
    close(out.where(out.isfinite(), clean), clean)


# --- Manners -----------------------------------------------------------------


@every_form
@every_kind
def test_inputs_are_not_changed(form, kind):
    inputs = random_qkv()
    mask = kinds_of_mask(7)[kind]
    tensor = (
        None if mask is None else rendered(mask, 5, 7, 2).expand(2, 3, 5, 7).clone()
    )
    tensors = [t for t in (*inputs, tensor) if t is not None]
    before = [(t.clone(), t._version) for t in tensors]
    form(*inputs, mask)
    form(*inputs, tensor)
    for t, (copy, version) in zip(tensors, before, strict=True):
        assert t._version == version
        assert torch.equal(t, copy)


def test_softmax_does_not_change_its_scores():
    scores, allowed = torch.randn(3, 4), torch.rand(3, 4) < 0.5
    masked_softmax(scores, allowed)
    assert scores._version == allowed._version == 0


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@every_kind
def test_grouped_queries_are_repeated_heads(kind, n_kv_heads):
    mask = kinds_of_mask(7)[kind]
    q, _, _ = random_qkv(batch=(2, 6))
    _, k, v = random_qkv(batch=(2, n_kv_heads))
    group = 6 // n_kv_heads
    repeated = (t.repeat_interleave(group, dim=1) for t in (k, v))
    close(fused_attention(q, k, v, mask), attention(q, *repeated, mask)[0])
