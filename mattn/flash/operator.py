"""Attention as an operator of PyTorch: for autograd, ``torch.compile`` and people.

Derived in chapter 10.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mattn.flash.launch import (
    Call,
    check_device,
    check_inputs,
    run_delta,
    run_dk_dv,
    run_dq,
    run_forward,
)
from mattn.flash.spans import Stretches, stretches
from mattn.flash.tuning import tiles_for
from mattn.masks import Mask

__all__ = ["flash_attention"]

_RULE = "Tensor? by_query, Tensor? by_key, bool causal, int window, float scale"
# Schemas in full: PyTorch cannot read annotations that a type checker wrapped.


@torch.library.custom_op(
    "mattn::flash_attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_RULE}) -> (Tensor, Tensor)",
)
def _flash(q, k, v, by_query, by_key, causal, window, scale):
    """Output and log-sum-exp (base 2), as PyTorch's dispatcher calls it."""
    check_device(q)
    call = Call(q, k, v, by_query, by_key, causal, window, scale)
    return run_forward(call, tiles_for(q)["forward"])


@_flash.register_fake
def _(q, k, v, by_query, by_key, causal, window, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "mattn::flash_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_RULE}) -> (Tensor, Tensor, Tensor)",
)
def _flash_backward(grad, q, k, v, out, lse, by_query, by_key, causal, window, scale):
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    call = Call(q, k, v, by_query, by_key, causal, window, scale)
    tiles = tiles_for(q)
    delta = run_delta(call, out, grad)
    dk, dv = run_dk_dv(call, grad, lse, delta, tiles["dk_dv"])
    return run_dq(call, grad, lse, delta, tiles["dq"]), dk, dv


@_flash_backward.register_fake
def _(grad, q, k, v, out, lse, by_query, by_key, causal, window, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx, inputs, output) -> None:
    q, k, v, by_query, by_key, *ctx.rest = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, by_query, by_key)


def _differentiate(ctx, grad, _):
    gradients = _flash_backward(grad, *ctx.saved_tensors, *ctx.rest)
    return *gradients, None, None, None, None, None


_flash.register_autograd(_differentiate, setup_context=_keep)


def flash_attention(
    q: Float[Tensor, "B H Tq D"],
    k: Float[Tensor, "B Hkv Tk D"],
    v: Float[Tensor, "B Hkv Tk D"],
    mask: Mask | Stretches | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "B H Tq D"]:
    """The output of :func:`mattn.attention` by one Triton kernel, in O(T) memory.

    ``mask`` is a rule that shows each query one stretch of keys, whose ends
    never move back from query to query; or what :func:`stretches` made of one,
    to be used by many calls. ``scale`` is 1/√D unless given. ``H`` query heads
    may share ``Hkv`` key heads. float16, float32 and, from compute capability
    8.0 on, bfloat16; heads of up to 256 features. An empty row has output 0
    and gradients 0. Twice the same inputs give twice the same bits.

    Raises ``ValueError`` for any other rule, device, dtype or shape, and
    ``ImportError`` without Triton.

    Source: Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691.
    Derived in chapter 10.
    """
    check_inputs(q, k, v, scale)
    if not isinstance(mask, Stretches):
        mask = stretches(mask, q.shape[2], k.shape[2], device=q.device)
    _check_stretches(mask, q, k)
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out, _ = _flash(
        q, k, v, mask.by_query, mask.by_key, mask.causal, mask.window, scale
    )
    return out


def _check_stretches(mask: Stretches, q: Tensor, k: Tensor) -> None:
    if (mask.Tq, mask.Tk) != (q.shape[2], k.shape[2]):
        raise ValueError(
            f"flash_attention: stretches for {mask.Tq} queries and {mask.Tk} keys; "
            f"got q {tuple(q.shape)} and k {tuple(k.shape)}. Build them for these "
            "sizes."
        )
    if mask.by_query is None:
        return
    if len(mask.by_query) not in (1, len(q)):
        raise ValueError(
            f"flash_attention: the mask holds {len(mask.by_query)} rows of a batch; "
            f"got q {tuple(q.shape)}. Build mask and q from the same batch."
        )
    if mask.by_query.device != q.device:
        raise ValueError(
            f"flash_attention: stretches on {mask.by_query.device}; got q on "
            f"{q.device}. Build them with stretches(mask, Tq, Tk, device=q.device)."
        )
