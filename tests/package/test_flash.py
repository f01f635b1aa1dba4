"""The kernel's numbers: on a GPU where there is one, else in Triton's interpreter.

The interpreter is slow, so sizes are small.
"""

from __future__ import annotations

import pytest
import torch
from flash_cases import (
    DEVICE,
    GPU,
    HALF,
    RULES,
    both_passes,
    cases,
    check,
    draw,
    rules,
)
from hypothesis import given, settings
from torch import nn

from mattn import attention, causal, documents, padding, window
from mattn.audit import audit
from mattn.checks import influence, same
from mattn.flash import flash_attention

pytest.importorskip("triton")


@pytest.mark.parametrize("name", RULES)
def test_each_rule_forward_and_backward(name):
    check(rules(37, 53)[name], *draw(Tk=53))


@pytest.mark.parametrize(
    "name", ["causal", "window", "causal documents", "prefix", "first key", "all"]
)
def test_more_queries_than_keys(name):
    # Bottom-right alignment: the first queries stand before every key.
    mask = rules(40, 21)[name]
    q, k, v = draw(Tq=40, Tk=21)
    check(mask, q, k, v)
    out = flash_attention(q, k, v, mask)
    assert out[:, :, :18].eq(0).all() or name in ("window", "prefix", "first key")


@pytest.mark.parametrize("D", [1, 32, 59, 64, 96, 128, 256])
def test_each_head_size(D):
    check(causal & window(13), *draw(B=1, H=1, Tq=20, Tk=35, D=D))


@pytest.mark.parametrize("name", ["none", "causal", "all"])
def test_half_precision(name):
    check(rules(37, 37)[name], *draw(dtype=HALF))


@pytest.mark.parametrize(("H", "Hkv"), [(6, 6), (6, 3), (6, 1)])
def test_grouped_query_heads(H, Hkv):
    check(causal, *draw(B=1, H=H, Hkv=Hkv, Tq=9, Tk=17, D=16))


@pytest.mark.parametrize("T", [1, 2, 16, 33])
def test_small_and_round_sizes(T):
    check(causal, *draw(B=1, H=1, Tq=T, Tk=T, D=16))


def test_the_scale_is_an_argument():
    check(causal, *draw(B=1, H=1, Tq=9, Tk=9, D=16), scale=0.7)


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v = draw(B=1, H=1, Tq=21, Tk=21, D=16)
    with torch.no_grad():
        q *= 300.0
    check(causal, q, k, v)
    # All scores of a query below any finite fill.
    q, k = q.detach(), k.detach().abs()
    q = -q.abs() * 1e6
    same(
        flash_attention(q, k, v.detach(), causal).cpu(),
        attention(q.double(), k.double(), v.detach().double(), causal)[0].cpu(),
        atol=1e-4,
    )


@settings(max_examples=12 if DEVICE == "cpu" else 100)
@given(cases())
def test_any_shape_and_rule(case):
    Tq, Tk, Hkv, group, D, mask = case
    torch.manual_seed(Tq * Tk + D)
    check(mask, *draw(H=Hkv * group, Hkv=Hkv, Tq=Tq, Tk=Tk, D=D))


def test_numbers_checked_by_hand():
    # All scores 0: each output is the mean of the visible values, 0, 1, 2, …
    v = torch.arange(6.0, device=DEVICE).reshape(1, 1, 6, 1)
    q = torch.zeros_like(v)
    means = flash_attention(q, q, v, causal).flatten()
    same(means.cpu(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    same(
        flash_attention(q, q, v, causal & window(2)).flatten().cpu(),
        [0.0, 0.5, 1.5, 2.5, 3.5, 4.5],
    )
    ids = [0, 0, 0, 1, 1, 1]
    same(
        flash_attention(q, q, v, causal & documents(ids)).flatten().cpu(),
        [0.0, 0.5, 1.0, 3.0, 3.5, 4.0],
    )


@pytest.mark.parametrize("name", ["causal", "causal window", "causal documents"])
def test_influence_equals_the_mask(name):
    mask, T = rules(20, 20)[name], 20
    q, k, v = (t.detach() for t in draw(B=1, H=1, Tq=T, Tk=T, D=16))

    def values(x):
        return flash_attention(q, k, x[None, None], mask)[0, 0]

    def keys(x):
        return flash_attention(q, x[None, None], v, mask)[0, 0]

    expected = mask.matrix(T)
    assert torch.equal(influence(values, v[0, 0], n_tries=1), expected)
    # A query that sees one key weighs it 1, whatever the key is.
    alone = expected.sum(-1, keepdim=True) == 1
    assert torch.equal(influence(keys, k[0, 0], n_tries=1), expected & ~alone)


def test_empty_rows_have_output_and_gradients_of_exactly_0():
    q, k, v = draw(Tq=18, Tk=18)
    out = flash_attention(q, k, v, causal & padding([18, 4], side="left", width=18))
    assert out[1, :, :14].eq(0).all()
    assert out[1, :, 14:].ne(0).any()
    dq, dk, dv = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert dq[1, :, :14].eq(0).all()
    assert dk[1, :, :14].eq(0).all()
    assert dv[1, :, :14].eq(0).all()
    out = flash_attention(q, k, v, padding([0, 0]))
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(t.eq(0).all() for t in (out, *gradients))


def test_no_keys_or_no_queries():
    q, k, v = draw(Tq=5, Tk=0, D=16)
    out = flash_attention(q, k, v, causal)
    assert out.eq(0).all()
    assert all(t.eq(0).all() for t in torch.autograd.grad(out.sum(), (q, k, v)))
    q, k, v = draw(Tq=0, Tk=5, D=16)
    out = flash_attention(q, k, v, causal)
    assert out.shape == q.shape
    assert (out == 0).all()
    assert all(t.eq(0).all() for t in torch.autograd.grad(out.sum(), (q, k, v)))


def test_strided_inputs_and_gradients():
    packed = torch.randn(2, 19, 3, 4, 32, device=DEVICE)  # (B, T, q/k/v, H, D)
    q, k, v = (t.requires_grad_() for t in packed.transpose(1, 3).unbind(2))
    assert not q.is_contiguous()
    check(causal, q, k, v, grad=torch.ones((), device=DEVICE).expand(q.shape))
    turned = [t.detach().mT.contiguous().mT.requires_grad_() for t in (q, k, v)]
    assert turned[0].stride(-1) != 1
    check(causal, *turned, grad=torch.randn(2, 4, 32, 19, device=DEVICE).mT)


def test_inputs_are_not_changed():
    q, k, v = draw(Tq=9, Tk=9, D=16)
    before = [t.detach().clone() for t in (q, k, v)]
    flash_attention(q, k, v, causal).sum().backward()
    for t, old in zip((q, k, v), before, strict=True):
        assert torch.equal(t, old)


def test_twice_the_same_bits():
    q, k, v = draw(Tq=33, Tk=33)
    grad = torch.randn_like(q)
    first, second = (
        both_passes(lambda q, k, v: flash_attention(q, k, v, causal), q, k, v, grad)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_what_is_not_seen_is_not_loaded():
    # NaN in keys and values of later blocks: 0 · NaN is NaN, so a block that was
    # loaded, though masked, would show.
    q, k, v = (
        t.detach() for t in draw(B=1, H=1, Tq=512 if GPU else 96, Tk=512 if GPU else 96)
    )
    half = q.shape[2] // 2
    k[:, :, half:], v[:, :, half:] = torch.nan, torch.nan
    out = flash_attention(q, k, v, causal)
    assert out[:, :, : half // 2].isfinite().all()
    assert out[:, :, half:].isnan().all()


# ------------------------------------------------ in models


class Layer(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask, self.maps = mask, nn.Linear(8, 24, bias=False)

    def forward(self, x):
        q, k, v = self.maps(x).unflatten(-1, (3, 1, 8)).permute(2, 0, 3, 1, 4)
        return flash_attention(q, k, v, self.mask).transpose(1, 2).flatten(2)


PROBES = ("perturbation", "truncation")


@pytest.mark.skipif(GPU, reason="the same module; the audit runs on the CPU")
def test_the_auditor_passes_it_and_sees_a_mask_that_is_missing():
    x = torch.randn(1, 4, 8)
    report = audit(Layer(causal), x, expected=causal, probes=PROBES)
    assert report.ok, report
    assert not audit(Layer(None), x, expected=causal, probes=PROBES[:1]).ok


@pytest.mark.parametrize("sizes", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("name", ["none", "causal", "window", "documents", "padding"])
def test_of_nothing_comes_the_right_nothing(name, sizes):
    B, Tq, Tk = sizes
    mask = {
        "none": None,
        "causal": causal,
        "window": causal & window(2),
        "documents": documents(torch.zeros(B, Tk + 1, dtype=torch.long)),
        "padding": causal & padding([1] * B),
    }[name]
    q, k, v = draw(B=B, Tq=Tq, Tk=Tk)
    out = flash_attention(q, k, v, mask)
    assert out.shape == q.shape
    assert (out == 0).all()
    for t, grad in zip(
        (q, k, v), torch.autograd.grad(out.sum(), (q, k, v)), strict=True
    ):
        assert grad.shape == t.shape
        assert (grad == 0).all()
