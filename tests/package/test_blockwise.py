"""Block by block, and some queries at a time: exact, without a square tensor."""

import pytest
import torch
from forms import blocks_of, dense, every_kind
from oracles import close, kinds_of_mask, random_qkv
from torch.utils._python_dispatch import TorchDispatchMode

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


class Watch(TorchDispatchMode):
    """Counts batched matrix products; notes the largest tensor that is made."""

    def __init__(self):
        super().__init__()
        self.products, self.largest = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.bmm.default, torch.ops.aten.mm.default):
            self.products += all(t.numel() for t in args)
        out = func(*args, **(kwargs or {}))
        for t in out if isinstance(out, tuple | list) else (out,):
            if isinstance(t, torch.Tensor):
                self.largest = max(self.largest, t.numel())
        return out


@every_kind
@pytest.mark.parametrize("block", [1, 2, 3, 5, 7, 8, 9])
def test_equals_the_dense_form_for_every_block_size(kind, block):
    mask = kinds_of_mask(8)[kind]
    q, k, v = random_qkv(Tq=6, Tk=8, grad=True)
    up = torch.randn(2, 3, 6, 6, dtype=torch.float64)
    expected = attention(q, k, v, mask)[0]
    gradients = torch.autograd.grad(expected, (q, k, v), up)
    for skip in (True, False):
        out = blockwise_attention(q, k, v, mask, block=block, skip=skip)
        close(out, expected)
        for got, wanted in zip(
            torch.autograd.grad(out, (q, k, v), up), gradients, strict=True
        ):
            close(got, wanted)


@pytest.mark.parametrize("kind", ["none", "causal", "window", "documents by row"])
def test_no_tensor_grows_with_the_square_of_the_length(kind):
    largest = {}
    for T in (64, 128):
        q, k, v = random_qkv((2, 1), T, T, 2, 3, grad=True)
        with Watch() as watch:
            out = blockwise_attention(q, k, v, kinds_of_mask(T)[kind], block=8)
            out.sum().backward()
        largest[T] = watch.largest
        assert watch.largest < T * T
    assert largest[128] <= 2 * largest[64]
    with Watch() as watch:  # the watch does see a matrix of weights
        attention(q, k, v)
    assert watch.largest == 2 * 128 * 128


def kept_for_backward(form, T: int) -> int:
    """Numbers that the forward pass keeps, each memory counted once."""
    memory = {}

    def pack(t):
        memory[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    inputs = random_qkv((2, 1), T, T, 2, 3, grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        form(*inputs, causal)
    return sum(memory.values()) // 8


def test_what_is_kept_for_the_backward_pass_does_not_either():
    few, many = (kept_for_backward(blocks_of(8), T) for T in (64, 128))
    assert many <= 2 * few
    few, many = (kept_for_backward(dense, T) for T in (64, 128))
    assert many > 3 * few  # the count does see matrices of weights


@pytest.mark.parametrize(
    ("mask", "visited"),
    [
        (None, 64),
        (full, 64),
        (causal, 8 * 9 // 2),
        (causal & window(1), 8),
        (causal & window(2), 8 + 7),
        (causal & window(6), 8 + 7),  # query 5 sees keys 0 to 5
        (causal & window(7), 8 + 7 + 6),  # query 10 sees keys 4 to 10
        (documents([0] * 20 + [1] * 20), 16 + 16),
        (causal & documents([0] * 20 + [1] * 20), 10 + 10),
        (prefix(7), 2 * 8),
        (padding([3, 9]), 2 * 8),
        (~full, 0),
        (causal.matrix(40), 8 * 9 // 2),
    ],
    ids=repr,
)
def test_blocks_with_nothing_allowed_are_not_computed(mask, visited):
    q, k, v = random_qkv(batch=(2,), Tq=40, Tk=40)
    for skip, expected in ((True, visited), (False, 64)):
        with Watch() as watch:
            blockwise_attention(q, k, v, mask, block=5, skip=skip)
        assert watch.products == 2 * expected  # scores, and weights times values


@pytest.mark.parametrize(("Tq", "Tk"), [(150, 150), (70, 200), (200, 70), (65, 64)])
@every_kind
def test_fused_attention_of_some_queries_at_a_time(kind, Tq, Tk):
    """Long enough that a rule is applied in several pieces."""
    mask = kinds_of_mask(Tk)[kind]
    inputs = random_qkv((2, 1), Tq, Tk, 2, 3, grad=True)
    up = torch.randn(2, 1, Tq, 3, dtype=torch.float64)
    expected, out = dense(*inputs, mask), fused_attention(*inputs, mask)
    close(out, expected)
    for got, wanted in zip(
        torch.autograd.grad(out, inputs, up),
        torch.autograd.grad(expected, inputs, up),
        strict=True,
    ):
        close(got, wanted)
