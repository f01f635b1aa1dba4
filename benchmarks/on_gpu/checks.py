"""Is the kernel right on this GPU? Against float64 and plain PyTorch."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from mattn import Mask, attention, causal, documents, flash, padding, window
from on_gpu.bench import Bench, name_of
from on_gpu.forms import Form


def measure_checks(bench: Bench) -> bool:
    """Our kernel against float64 and plain PyTorch: every rule, dtype, head size."""
    sizes = [(97, 97)] if bench.smoke else [(1, 1), (97, 97), (300, 512), (512, 300)]
    heads = (16,) if bench.smoke else (32, 64, 59, 96, 128)
    dtypes = [torch.float32, torch.float16]
    if bench.smoke:
        sizes, dtypes = [(17, 33)], dtypes[:1]
    elif bench.dtype == torch.bfloat16:
        dtypes.append(torch.bfloat16)
    rows, good = [], True
    for (Tq, Tk), D, dtype in [(s, D, t) for s in sizes for D in heads for t in dtypes]:
        for name, rule in check_rules(Tk).items():
            row = check_one(bench, rule, Tq, Tk, D, dtype)
            rows.append({"mask": name, **row})
            good &= row["passed"]
            if not row["passed"]:
                print("FAILED", rows[-1])
    bench.record["checks"] = summary(rows)
    bench.save()
    worst = max(max(r["ratios"]) for r in rows)
    print(f"checks: {len(rows)} cases, passed: {good}, worst ratio {worst:.2f}")
    return good


def check_rules(T: int) -> dict[str, Mask | None]:
    ids = torch.arange(T) * 3 // T
    lengths = [max(T - 7, 1), T]
    return {
        "none": None,
        "causal": causal,
        "window": causal & window(max(T // 3, 1)),
        "documents": causal & documents(ids),
        "padding": causal & padding(lengths),
        "left padding": causal & padding(lengths, side="left", width=T),
        "all": causal & window(50) & documents(ids) & padding([T, T // 2]),
    }


def check_one(
    bench: Bench, rule: Mask | None, Tq: int, Tk: int, D: int, dtype: torch.dtype
) -> dict:
    """Errors against float64 in units of plain PyTorch's in the same dtype."""
    H, Hkv = 4, 2
    torch.manual_seed(0)
    shapes = (2, H, Tq, D), (2, Hkv, Tk, D), (2, Hkv, Tk, D), (2, H, Tq, D)
    q, k, v, grad = (torch.randn(s, device=bench.device).to(dtype) for s in shapes)

    def run(form: Form, precise: bool) -> list[Tensor]:
        inputs = [
            (t.double() if precise else t.clone()).requires_grad_() for t in (q, k, v)
        ]
        out = form(*inputs)
        grads = torch.autograd.grad(out, inputs, grad.to(out.dtype))
        return [t.double() for t in (out.detach(), *grads)]

    def plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        k, v = (t.repeat_interleave(H // Hkv, dim=1) for t in (k, v))
        return attention(q, k, v, rule)[0]

    right, theirs = run(plain, True), run(plain, False)
    ours = run(functools.partial(flash.flash_attention, mask=rule), False)
    ratios = ratios_of(ours, theirs, right, torch.finfo(dtype).eps)
    limits = (2, 3, 3, 3)
    passed = all(x <= y for x, y in zip(ratios, limits, strict=True))
    return {
        "Tq": Tq,
        "Tk": Tk,
        "D": D,
        "dtype": name_of(dtype),
        "ratios": ratios,
        "passed": passed,
    }


def ratios_of(
    ours: list[Tensor], theirs: list[Tensor], right: list[Tensor], eps: float
) -> list[float]:
    """Our root mean square error in units of theirs, or of one rounding."""
    ratios = []
    for a, b, r in zip(ours, theirs, right, strict=True):
        error, other = (float((t - r).square().mean().sqrt()) for t in (a, b))
        rounding = eps * max(float(r.square().mean().sqrt()), 0.05)
        ratios.append(round(error / max(other, rounding), 3))
    return ratios


def summary(rows: list[dict]) -> list[dict]:
    """Of the checks the record keeps, per dtype, how many and the worst."""
    found = []
    for dtype in dict.fromkeys(r["dtype"] for r in rows):
        own = [r for r in rows if r["dtype"] == dtype]
        found.append(
            {
                "dtype": dtype,
                "cases": len(own),
                "passed": sum(r["passed"] for r in own),
                "worst_output": max(r["ratios"][0] for r in own),
                "worst_gradient": max(max(r["ratios"][1:]) for r in own),
            }
        )
    return found
