"""What is added to the scores, what scales them, and heads that share their keys:
the same in every form of attention.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from forms import FORMS, dense, every_form

from mattn import (
    causal,
    documents,
    full,
    padding,
    window,
)
from mattn.checks import same

IDS = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2], [5, 5, 5, 5, 5, 5, 5, 5, 6, 6]])
MASKS = {
    "none": None,
    "full": full,
    "causal": causal,
    "window": causal & window(3),
    "documents": causal & documents(IDS),
    "padding": padding([10, 0]),
    "tensor": torch.arange(10) <= torch.arange(7)[:, None] + 3,
}
BIASES = {
    "two axes": (7, 10),
    "row": (1, 10),
    "head": (1, 4, 1, 10),
    "all": (2, 4, 7, 10),
}


def tensors(*, key_heads: int = 4) -> list[torch.Tensor]:
    sizes = [(2, 4, 7, 5), (2, key_heads, 10, 5), (2, key_heads, 10, 3)]
    return [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in sizes]


def by_hand(q, k, v, mask, bias, scale) -> torch.Tensor:
    """The formula, one product after the other."""
    allowed = mask if isinstance(mask, torch.Tensor) else (mask or full).matrix(7, 10)
    if allowed.ndim == 3:
        allowed = allowed[:, None]
    scores = (q @ k.mT * scale + bias).masked_fill(~allowed, -torch.inf)
    return torch.softmax(scores, dim=-1).nan_to_num(0.0) @ v


@every_form
@pytest.mark.parametrize("shape", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_bias_is_added_to_the_scaled_scores_before_the_mask(form, shape, mask):
    q, k, v = tensors()
    bias = 3 * torch.randn(shape, dtype=torch.float64)
    same(form(q, k, v, mask, bias=bias, scale=0.3), by_hand(q, k, v, mask, bias, 0.3))


@pytest.mark.parametrize("form", [FORMS["blocks"], FORMS["fused"]])
@pytest.mark.parametrize("shape", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_gradients_are_those_of_the_dense_form_the_bias_included(form, shape, mask):
    q, k, v = tensors()
    bias = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    grads = [
        torch.autograd.grad(
            f(q, k, v, mask, bias=bias, scale=0.7).square().sum(), [q, k, v, bias]
        )
        for f in (dense, form)
    ]
    for ours, theirs in zip(*grads, strict=True):
        same(ours, theirs)
    assert grads[0][3].abs().sum() > 0.01


@every_form
def test_minus_infinity_in_a_bias_blocks_as_a_mask_does(form):
    q, k, v = tensors()
    allowed = (causal & window(2)).matrix(7, 10)
    allowed[3] = False  # a row that sees nothing
    bias = torch.zeros(7, 10, dtype=torch.float64).masked_fill(~allowed, -torch.inf)
    for mask in (None, causal):
        out = form(q, k, v, mask, bias=bias)
        same(out, dense(q, k, v, allowed))
        assert not out[:, :, 3].any()


@every_form
def test_the_scale_is_one_over_the_root_of_d_unless_given(form):
    q, k, v = tensors()
    same(form(q, k, v, causal), form(q, k, v, causal, scale=5**-0.5))
    assert (form(q, k, v, causal) - form(q, k, v, causal, scale=1.0)).abs().max() > 0.01
    # A scale of 0 weighs all visible keys alike.
    seen = (causal & window(3)).matrix(7, 10).double()
    same(form(q, k, v, causal & window(3), scale=0.0), seen / 3 @ v)


@every_form
@pytest.mark.parametrize("key_heads", [1, 2])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_heads_that_share_their_keys(form, key_heads, mask):
    q, k, v = tensors(key_heads=key_heads)
    each = [t.repeat_interleave(4 // key_heads, dim=1) for t in (k, v)]
    same(form(q, k, v, mask), dense(q, *each, mask))
    bias = torch.randn(1, 4, 7, 10, dtype=torch.float64)
    same(form(q, k, v, mask, bias=bias), dense(q, *each, mask, bias=bias))


@every_form
def test_linear_biases_of_another_implementation(form):
    """ALiBi (Press et al. 2022): −slope · distance, a slope for each head."""
    q, k, v = tensors()
    behind = torch.arange(3, 10)[:, None] - torch.arange(10)
    slopes = 2.0 ** -torch.arange(2.0, 10.0, 2.0, dtype=torch.float64)
    bias = -slopes[:, None, None] * behind
    theirs = F.scaled_dot_product_attention(
        q, k, v, attn_mask=bias.masked_fill(behind < 0, -torch.inf)
    )
    same(form(q, k, v, causal, bias=bias[None]), theirs)
