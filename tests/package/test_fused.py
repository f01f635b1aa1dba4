"""The fused form reads the keys that a rule can allow, and not many others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mattn import (
    Mask,
    attention,
    causal,
    documents,
    full,
    fused_attention,
    padding,
    prefix,
    rule,
    window,
)
from mattn.checks import same
from mattn.heads import merge_heads

TOKENS = 300  # more than one chunk of queries, and no multiple of any
IDS = torch.tensor([[0] * 90 + [1] * 130 + [2] * 80, [3] * 7 + [1] * 293])
RULES = {
    "full": full,
    "causal": causal,
    "window": causal & window(37),
    "window, both sides": window(11),
    "prefix": causal | prefix(40),
    "empty prefix": prefix(0),
    "documents": documents(IDS[0]),
    "documents by row": causal & documents(IDS),
    "unsorted documents": documents(torch.arange(TOKENS) % 7),
    "padding": padding([123, 290]),
    "left padding": causal & padding([123, 290], side="left", width=TOKENS),
    "only padding": padding([0, 0]),
    "not": ~causal,
    "not the window": causal & ~window(5),
    "either": (causal & window(5)) | documents(IDS),
}


# The smallest answers a rule may give: one for a row, one for all.
first_of_two = rule(lambda b, q, k: b == 0, batch=2, name="first of two")
nothing = rule(lambda b, q, k: False, name="nothing")


def tensors(Tq: int, Tk: int, *, heads: int = 2) -> list[torch.Tensor]:
    sizes = [(2, 2, Tq, 5), (2, heads, Tk, 5), (2, heads, Tk, 3)]
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in sizes]


@pytest.mark.parametrize("Tq", [TOKENS, 70, 1, 430])
@pytest.mark.parametrize("name", RULES)
def test_output_and_gradients_are_those_of_the_dense_form(name, Tq):
    q, k, v = tensors(Tq, TOKENS)
    out, weights = attention(q, k, v, RULES[name])
    fused = fused_attention(q, k, v, RULES[name])
    same(fused, out)
    grad = torch.randn_like(out)
    expected = torch.autograd.grad(out, (q, k, v), grad)
    found = torch.autograd.grad(fused, (q, k, v), grad)
    for a, b in zip(found, expected, strict=True):
        same(a, b)
    empty = weights.sum(dim=-1) == 0
    assert (fused[empty] == 0).all()
    assert (found[0][empty] == 0).all()
    with torch.no_grad():
        same(fused_attention(q, k, v, RULES[name]), out)


@pytest.mark.parametrize("mask", [first_of_two, nothing, first_of_two & causal])
def test_a_rule_may_answer_for_all_at_once(mask):
    q, k, v = tensors(TOKENS, TOKENS)
    same(fused_attention(q, k, v, mask), attention(q, k, v, mask)[0])


def scores_computed(monkeypatch, rule: Mask, Tq: int, Tk: int) -> int:
    """Pairs of query and key that PyTorch's kernel is given."""
    kernel, pairs = F.scaled_dot_product_attention, []

    def counted(q, k, v, **options):
        pairs.append(q.shape[-2] * k.shape[-2])
        return kernel(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    x = torch.zeros(1, 1, Tk, 1)
    fused_attention(x[:, :, :Tq], x, x, rule)
    return sum(pairs)


@pytest.mark.parametrize("T", [1024, 2048, 4096])
def test_a_window_costs_tokens_times_window_not_tokens_squared(monkeypatch, T):
    w, chunk = 64, 256
    assert scores_computed(monkeypatch, causal & window(w), T, T) < T * (w + chunk)


def test_what_is_left_out(monkeypatch):
    T = 2048
    parts = [
        (documents(torch.arange(T) // 256), T, 1 / 8),
        (padding([T // 4]), T, 1 / 4),
        (causal & padding([T // 4]), T, 1 / 4),
        (causal, T // 2, 1 / 2 * 0.85),
    ]
    for mask, Tq, part in parts:
        assert scores_computed(monkeypatch, mask, Tq, T) <= part * T * T, mask


def test_lengths_written_to_later_do_not_change_the_rule():
    lengths = torch.tensor([3, 5])
    rule = padding(lengths)
    before = rule.matrix(6), rule.spans(6)
    lengths += 1
    assert rule.matrix(6).equal(before[0])
    assert rule.spans(6).end.equal(before[1].end)


def test_heads_of_a_token_lie_side_by_side():
    """Merging them copies nothing, as after the kernel itself."""
    q, k, v = tensors(TOKENS, TOKENS)
    out = fused_attention(q, k, v, causal & window(9))
    assert merge_heads(out).data_ptr() == out.data_ptr()


def test_no_keys_give_zeros_with_gradients_of_zero():
    q, k, v = tensors(4, 0, heads=1)
    out = fused_attention(q, k, v, causal)
    assert out.shape == (2, 2, 4, 3)
    assert (out == 0).all()
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    assert (grads[0] == 0).all()
