"""Any function is a rule, and a stranger adds one in one place."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention.flex_attention import create_mask

from mattn import (
    Config,
    Decoder,
    attention,
    blockwise_attention,
    boolean_power,
    causal,
    documents,
    fused_attention,
    padding,
    rule,
)
from mattn.audit import audit
from mattn.checks import influence, same
from mattn.masks import Mask
from mattn.playground import playground

T, W = 9, 6


def dilated(b, q, k):
    """Every second of the last W keys."""
    return (k <= q) & (q - k < W) & ((q - k) % 2 == 0)


DILATED = rule(dilated, behind=W, ahead=0)


def by_hand(n: int) -> torch.Tensor:
    return torch.tensor(
        [
            [j <= i and i - j < W and (i - j) % 2 == 0 for j in range(n)]
            for i in range(n)
        ]
    )


def test_a_stranger_adds_a_mask_in_one_place():
    """Attention, its fused form, a decoder with a cache, the playground, the audit."""
    allowed = by_hand(T)
    assert torch.equal(DILATED.matrix(T), allowed)
    q, k, v = torch.randn(3, 2, 2, T, 4, dtype=torch.float64)
    expected = attention(q, k, v, allowed)[0]
    same(attention(q, k, v, DILATED)[0], expected)
    same(blockwise_attention(q, k, v, DILATED, block=4), expected)
    same(fused_attention(q, k, v, DILATED), expected)
    model = Decoder(Config(11, 16, n_layers=2, n_heads=2), DILATED).double().eval()
    tokens = torch.randint(11, (2, 3 * T))
    cache = model.new_cache()  # none is named: the rule says how much is kept
    parts = [model(part, cache=cache) for part in tokens.split([1, 3, 7, 1, 15], 1)]
    same(torch.cat(parts, dim=1), model(tokens))
    assert [part.n_held for part in cache.own] == [W, W]
    seen = influence(lambda row: model(row[None])[0], tokens[0, :T], n_symbols=11)
    assert torch.equal(seen, boolean_power(allowed, 2))
    assert torch.equal(playground(["a"] * T, DILATED).allowed, allowed)
    assert audit(model, tokens[:, :T], expected=boolean_power(allowed, 2)).ok
    assert not audit(model, tokens[:, :T], expected=causal & ~DILATED).ok


# --- What a function is told --------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda b, q, k: k <= q,
        lambda b, h, q, k: k <= q,
        lambda b, q, k, w=99: (k <= q) & (q - k < w),  # w is bound, no fourth
        lambda b, q, k, *rest, w=99: k <= q,
    ],
)
def test_functions_of_three_and_of_four(function):
    assert torch.equal(rule(function).matrix(4), causal.matrix(4))


STARTS = torch.tensor([1, 2, 3])


def from_start(b, q, k):
    return (k <= q) & (k >= STARTS[b])


READS = {
    "indexing": from_start,
    "comparing": lambda b, q, k: (b == 0) & (k <= q),
    "index_select": lambda b, q, k: STARTS.index_select(0, b) > k,
    "where": lambda b, q, k: torch.where(b > 0, k <= q, k < q),
    "the head": lambda b, h, q, k: (h < 2) & (k <= q),
}


@pytest.mark.parametrize("name", READS)
def test_what_was_not_declared_cannot_be_read(name):
    undeclared = rule(READS[name])
    for mask in (undeclared, causal & undeclared, ~undeclared):
        with pytest.raises(ValueError, match=r"rule\(…, batch=B\)"):
            mask.matrix(4)
        with pytest.raises(ValueError, match=r"rule\(…, batch=B\)"):
            mask.spans(4)


@pytest.mark.parametrize("H", [1, 3])
@pytest.mark.parametrize("B", [1, 3])
@pytest.mark.parametrize("kind", ["function", "documents", "padding"])
def test_a_rule_by_row_means_the_same_in_every_form(kind, B, H):
    """With as many heads as rows, where the two could be taken for each other."""
    mask: Mask = {
        "function": rule(from_start, batch=B, ahead=0),
        "documents": causal & documents((torch.arange(B * T) % 4).view(B, T).sort()[0]),
        "padding": causal & padding([T - b for b in range(B)]),
    }[kind]
    q, k, v = torch.randn(3, B, H, T, 4, dtype=torch.float64)
    q, k, v = (t.requires_grad_() for t in (q, k, v))
    matrix = mask.matrix(T)[:, None]
    expected = attention(q, k, v, matrix)[0]
    grad = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, (q, k, v), grad)
    forms = [
        attention(q, k, v, mask)[0],
        blockwise_attention(q, k, v, mask, block=4),
        fused_attention(q, k, v, mask),
        fused_attention(q, k, v, matrix),
    ]
    for out in forms:
        same(out, expected)
        for a, b in zip(torch.autograd.grad(out, (q, k, v), grad), wanted, strict=True):
            same(a, b)
    mod = mask.predicate(T)
    found = create_mask(lambda b, h, q, k: mod(b, h, q, k), B, H, T, T, device="cpu")
    assert torch.equal(found, matrix.expand(B, H, T, T))
    for b in range(B):  # another row is another mask, so the test can fail
        assert B == 1 or not torch.equal(matrix[b], matrix[(b + 1) % B])


# --- What it promises ---------------------------------------------------------


@pytest.mark.parametrize(
    ("promise", "pair"),
    [
        ({"ahead": 0}, "query slot 0 that sees key slot 1"),
        ({"behind": 2, "ahead": 1}, "query slot 2 that sees key slot 0"),
        ({"behind": 1, "ahead": 1, "sinks": 1}, "query slot 2 that sees key slot 1"),
    ],
)
def test_a_promise_that_does_not_hold_is_refused_wherever_it_is_rendered(promise, pair):
    mask = rule(lambda b, q, k: k <= q + 1, name="one too many", **promise)
    with pytest.raises(ValueError, match=f"one too many: expected .* got {pair}"):
        mask.matrix(4)
    with pytest.raises(ValueError, match="one too many"):
        fused_attention(*torch.zeros(3, 1, 1, 4, 2), mask)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda q, k: k <= q,
            r"function of \(b, q, k\), or of \(b, h, q, k\).*\(q, k\)",
        ),
        (lambda b, h, q, k, x: k <= q, r"or of \(b, h, q, k\)"),
        (lambda b, q, k: q - k, "gives bools.*got int64"),
        (lambda b, q, k: None, "gives bools.*got None"),
    ],
)
def test_what_is_no_rule_is_refused(function, message):
    with pytest.raises(ValueError, match=message):
        rule(function).matrix(3)


def test_rules_have_names():
    assert repr(DILATED) == "dilated"
    assert repr(causal & rule(lambda b, q, k: k < 3)) == "(causal & rule(…))"
    assert repr(rule(lambda b, q, k: k < 3, name="three")) == "three"
    assert repr(documents([0, 1], causal)) == "documents(shape=(1, 2), within=causal)"
