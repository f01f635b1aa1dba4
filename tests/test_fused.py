"""The fused form reads the keys that a rule can allow, and not many others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mattn import (
    attention,
    causal,
    documents,
    full,
    fused_attention,
    padding,
    prefix,
    window,
)
from mattn.attention import merge_heads
from mattn.checks import same
from mattn.masks import Mask

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


class FirstOfTwo(Mask):
    """The smallest answers a rule may give: one for all, one for a row."""

    batch = 2

    def allowed(self, b, q, k):
        return b == 0


class Nothing(Mask):
    def allowed(self, b, q, k):
        return torch.zeros((), dtype=torch.bool)


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


@pytest.mark.parametrize("rule", [FirstOfTwo(), Nothing(), FirstOfTwo() & causal])
def test_a_rule_may_answer_for_all_at_once(rule):
    q, k, v = tensors(TOKENS, TOKENS)
    same(fused_attention(q, k, v, rule), attention(q, k, v, rule)[0])


@pytest.mark.parametrize("name", RULES)
def test_no_key_outside_the_range_is_allowed(name):
    rule = RULES[name]
    for Tq in (TOKENS, 70, 430):
        allowed = rule.matrix(Tq, TOKENS).reshape(-1, Tq, TOKENS).any(0)
        for start in range(0, Tq, 41):
            rows = allowed[start : start + 41]
            first = TOKENS - Tq + start
            lo, hi = rule.key_range(first, first + len(rows) - 1, TOKENS)
            seen = rows.any(0).nonzero()
            assert ((lo <= seen) & (seen < hi)).all()


def test_ranges_by_hand():
    assert causal.key_range(4, 6, 10) == (0, 7)
    assert (causal & window(3)).key_range(4, 6, 10) == (2, 7)
    assert (causal | prefix(8)).key_range(4, 6, 10) == (0, 8)
    assert documents([0, 0, 1, 1, 1, 2]).key_range(1, 2, 6) == (0, 5)
    assert documents([0, 0, 1, 1, 1, 2]).key_range(3, 4, 6) == (2, 5)
    assert padding([2, 3]).key_range(0, 0, 5) == (0, 3)
    assert (~causal).key_range(4, 6, 10) == (0, 10)


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
    for rule, Tq, part in parts:
        assert scores_computed(monkeypatch, rule, Tq, T) <= part * T * T, rule


def test_lengths_written_to_later_do_not_change_the_rule():
    lengths = torch.tensor([3, 5])
    rule = padding(lengths)
    before = rule.matrix(6), rule.key_range(0, 5, 6)
    lengths += 1
    assert rule.matrix(6).equal(before[0])
    assert rule.key_range(0, 5, 6) == before[1]


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
