"""Every method on every case: time, memory, errors."""

from __future__ import annotations

import functools
import math

import torch
from measure import digits
from torch import Tensor

from on_gpu.bench import Bench
from on_gpu.errors import errors_of
from on_gpu.forms import BOTH, FORWARD, MASKS, Case, Form, forms
from on_gpu.tiles import use_tiles


def measure_attention(bench: Bench, which: str) -> None:
    """Every method on every case, forward or forward and backward."""
    use_tiles(bench)
    s, rows = bench.sizes, bench.record["attention"]
    todo = [
        (Case(mask, T, D), method)
        for D in s.head_sizes
        for mask in MASKS
        for T in sorted(s.lengths, key=lambda T: abs(math.log2(T / 8192)))
        for method in forms(bench, Case(mask, T, D))
    ]
    known = {(r["pass"], r["mask"], r["T"], r["D"], r["method"]): r for r in rows}

    def waits(case: Case, method: str) -> bool:
        row = known.get((which, *case, method))
        if bench.again:
            return row is not None and "ms" in row and "again_ms" not in row
        return row is None

    for case, method in bench.cases([t for t in todo if waits(*t)], which):
        row = known.get((which, *case, method))
        if row is not None:
            again = measure_one(bench, case, method, which, brief=True)
            row |= {"again_ms": again["ms"]} if "ms" in again else {}
            continue
        B = s.n_tokens // case.T
        row = {"pass": which, **case._asdict(), "B": B, "method": method}
        row |= measure_one(bench, case, method, which)
        rows.append(row)
        print({k: v for k, v in row.items() if k not in ("B", "pass")}, flush=True)


def measure_one(
    bench: Bench, case: Case, method: str, which: str, *, brief: bool = False
) -> dict:
    """Time, rate, memory and errors of one method; its time alone if ``brief``."""
    s, rule = bench.sizes, case.rule(bench.sizes, bench.device)
    B = s.n_tokens // case.T
    torch.manual_seed(case.T + case.D)
    q, k, v = (
        bench.draw(B, s.n_heads, case.T, case.D, grad=which == BOTH) for _ in range(3)
    )
    inputs = q, k, v, torch.randn_like(q)

    def timed() -> dict:
        run = functools.partial(one_pass, forms(bench, case)[method](), *inputs, which)
        found = [t.detach() for t in run()]
        errors = [] if brief else errors_of(found, inputs, rule, which)
        del found
        peak = None if brief else bench.peak_mib(run)
        return {"ms": bench.milliseconds(run), "peak_mib": peak, "errors": errors}

    found = bench.attempted(timed)
    if "status" in found:
        return found
    ms = found.pop("ms")
    if brief:
        return {"ms": round(ms, 4)}
    operations = 4 * case.D * case.n_pairs(s) * B * s.n_heads
    operations *= 1 if which == FORWARD else 3.5
    tflops = operations / ms / 1e9
    result = {"status": "measured", "ms": round(ms, 4), "tflops": digits(tflops)}
    if bench.record["rates"]:
        rate = bench.record["rates"]["matmul_tflops"]
        result["share_of_matmul"] = digits(tflops / rate)
    return result | found


def one_pass(
    form: Form, q: Tensor, k: Tensor, v: Tensor, grad: Tensor, which: str
) -> list[Tensor]:
    """The output; with the backward pass, dq, dk and dv too."""
    if which == FORWARD:
        with torch.no_grad():
            return [form(q, k, v)]
    out = form(q, k, v)
    return [out, *torch.autograd.grad(out, (q, k, v), grad)]
