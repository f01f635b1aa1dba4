"""One query a head against a cache of keys and values."""

from __future__ import annotations

import functools
from typing import Any

import torch
from measure import digits
from torch.nn.attention.flex_attention import flex_attention

from mattn import attention, causal, flash
from on_gpu.bench import Bench
from on_gpu.errors import relative
from on_gpu.forms import SDPA, Form, compiled, run_sdpa
from on_gpu.tiles import use_tiles


def measure_decoding(bench: Bench) -> None:
    """One query a head against a cache: bytes of keys and values by time."""
    use_tiles(bench)
    rows, s = bench.record["decoding"], bench.sizes
    B, H, D = (1 if bench.smoke else 8), s.n_heads, s.head_sizes[-1]
    methods = ["mattn", *SDPA, "flex"]
    done = {(r["Tk"], r["Hkv"], r["method"]) for r in rows}
    todo = [
        (Tk, Hkv, m)
        for Tk in s.cached
        for Hkv in (H, max(H // 4, 1))
        for m in methods
        if (Tk, Hkv, m) not in done
    ]
    for Tk, Hkv, method in bench.cases(todo, "decoding"):
        row = {"B": B, "H": H, "Hkv": Hkv, "Tk": Tk, "D": D, "method": method}
        row |= decode(bench, B, H, Hkv, Tk, D, method)
        rows.append(row)
        print(row, flush=True)


def decode(
    bench: Bench, B: int, H: int, Hkv: int, Tk: int, D: int, method: str
) -> dict:
    """Time and error of one method, and the bytes that it reads a second."""

    def timed() -> dict:
        torch.manual_seed(Tk)
        q = bench.draw(B, H, 1, D)
        k, v = (bench.draw(B, Hkv, Tk, D) for _ in range(2))
        form = one_query(bench, method, {} if Hkv == H else {"enable_gqa": True})
        with torch.no_grad():
            right = attention(*(t[0, 0].double() for t in (q, k, v)))[0]
            (error,) = relative([form(q, k, v)[0, 0]], [right])
            ms = bench.milliseconds(lambda: form(q, k, v))
        return {"ms": ms, "bytes": 2 * k.numel() * k.element_size(), "error": error}

    found = bench.attempted(timed)
    if "status" in found:
        return found
    ms, error = found["ms"], found["error"]
    rate = found["bytes"] / ms / 1e6
    row = {"status": "measured", "ms": round(ms, 4), "gb_per_s": digits(rate)}
    if bench.record["rates"]:
        row["share_of_copy"] = digits(rate / bench.record["rates"]["copy_gb_per_s"])
    return row | {"error": error}


def one_query(bench: Bench, method: str, told: dict[str, Any]) -> Form:
    """The function that is timed: no mask, as the cache holds only what may be seen."""
    if method == "mattn":
        return functools.partial(flash.flash_attention, mask=causal)
    if method == "flex":
        return functools.partial(compiled(bench, flex_attention), **told)
    return functools.partial(run_sdpa, method, **told)
