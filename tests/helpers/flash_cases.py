"""What the tests of the kernel share: rules of every kind, inputs, a yardstick."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st

from mattn import (
    Mask,
    attention,
    causal,
    documents,
    full,
    padding,
    prefix,
    rule,
    window,
)
from mattn.flash import flash_attention

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU = DEVICE == "cuda"
HALF = torch.bfloat16 if GPU else torch.float16


def rules(Tq: int, Tk: int) -> dict[str, Mask | None]:
    """Every kind of rule that the kernel takes, for two rows of a batch."""
    ids = torch.arange(Tk) * 4 // Tk + 5
    own = torch.stack([ids, torch.arange(Tk) // 3])
    return {
        "none": None,
        "full": full,
        "causal": causal,
        "causal window": causal & window(9),
        "window": window(9),
        "causal window of 1": window(1) & causal,
        "documents": documents(ids),
        "causal documents": causal & documents(ids),
        "causal documents by row": causal & documents(own),
        "padding": padding([Tk - 7, Tk]),
        "causal padding": causal & padding([Tk - 7, 3]),
        "causal left padding": causal & padding([Tk - 7, 3], side="left", width=Tk),
        "an empty row of the batch": causal & padding([0, Tk]),
        "prefix": causal | prefix(9),
        "first key": causal | prefix(1),  # seen before slot 0, too
        "blocks": rule(lambda b, q, k: q // 4 >= k // 4),
        "chunks": causal & rule(lambda b, q, k: q // 8 == k // 8),
        "both sides": rule(lambda b, q, k: (q - k).abs() < 6, behind=6, ahead=5),
        "all but the last 5": ~window(5) & causal,
        "window by row": rule(lambda b, q, k: (k <= q) & (q - k < 4 + 9 * b), batch=2),
        "prefix by row": causal | rule(lambda b, q, k: k < 3 + 8 * b, batch=2),
        "all": causal & window(20) & documents(own) & padding([Tk, Tk // 2]),
    }


RULES = tuple(rules(8, 8))


@st.composite
def cases(draw_):
    Tq, Tk = draw_(st.integers(1, 64)), draw_(st.integers(1, 64))
    Hkv, group = draw_(st.integers(1, 2)), draw_(st.integers(1, 2))
    n = draw_(st.integers(1, 20))
    blocks = rule(lambda b, q, k: q // n >= k // n)
    mask = draw_(st.sampled_from([full, causal, causal | prefix(n), blocks]))
    if draw_(st.booleans()):
        mask = mask & window(draw_(st.integers(1, 70)))
    if draw_(st.booleans()):
        cuts = draw_(st.lists(st.integers(0, Tk), max_size=4))
        ids = torch.zeros(Tk, dtype=torch.long)
        for cut in cuts:
            ids[cut:] += 1
        mask = mask & documents(ids)
    if draw_(st.booleans()):
        lengths = [draw_(st.integers(0, Tk)) for _ in range(2)]
        side = draw_(st.sampled_from(["left", "right"]))
        mask = mask & padding(lengths, side=side, width=Tk if side == "left" else None)
    return Tq, Tk, Hkv, group, draw_(st.integers(1, 40)), mask


def draw(B=2, H=2, Hkv=1, Tq=37, Tk=37, D=24, *, dtype=torch.float32):
    shapes = (B, H, Tq, D), (B, Hkv, Tk, D), (B, Hkv, Tk, D)
    return [torch.randn(s, device=DEVICE).to(dtype).requires_grad_() for s in shapes]


def both_passes(form, q, k, v, grad):
    out = form(q, k, v)
    return out, *torch.autograd.grad(out, (q, k, v), grad)


def dense(mask, H, scale=None):
    """mattn's readable form, for grouped heads."""

    def form(q, k, v):
        if scale is not None:
            q = q * (scale * math.sqrt(q.shape[-1]))
        k, v = (t.repeat_interleave(H // t.shape[1], dim=1) for t in (k, v))
        return attention(q, k, v, mask)[0]

    return form


def rms(t) -> float:
    return float(t.detach().double().square().mean().sqrt())


def check(mask, q, k, v, *, grad=None, **options) -> None:
    """Output and gradients: finite, and about as exact as plain PyTorch's.

    Errors are root mean squares. Where terms cancel, as at a weight of 1, plain
    PyTorch can be exact by luck; one rounding of a typical term is always granted.
    """
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]
    grad = torch.randn_like(q) if grad is None else grad
    ours = both_passes(
        lambda q, k, v: flash_attention(q, k, v, mask, **options), q, k, v, grad
    )
    plainly = dense(mask, q.shape[1], options.get("scale"))
    plain = both_passes(plainly, *inputs, grad)
    wide = [t.detach().double().requires_grad_() for t in (q, k, v)]
    right = both_passes(plainly, *wide, grad.double())
    group = q.shape[1] // k.shape[1]
    d_weights = rms(grad.double() @ wide[2].detach().repeat_interleave(group, 1).mT)
    scale = options.get("scale", q.shape[-1] ** -0.5)
    terms = rms(v), d_weights * rms(k) * scale, d_weights * rms(q) * scale, rms(grad)
    names, limits = ("output", "dq", "dk", "dv"), (2, 3, 3, 3)
    for name, a, b, r, term, limit in zip(
        names, ours, plain, right, terms, limits, strict=True
    ):
        assert a.shape == r.shape
        assert a.dtype == q.dtype
        error, theirs = rms(a.double() - r), rms(b.double() - r)
        granted = max(theirs, torch.finfo(q.dtype).eps * term)
        assert error <= limit * granted, f"{name}: {error} against {theirs}"
