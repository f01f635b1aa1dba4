"""This machine's own ceilings, and what a mask costs to make."""

from __future__ import annotations

import torch
from measure import digits, wall_ms

from mattn import flash
from on_gpu.bench import Bench
from on_gpu.forms import MASKS, Case, block_mask


def measure_rates(bench: Bench) -> None:
    """This machine's own ceilings: matrix products and copies."""
    if bench.record["rates"] and not bench.again:
        return
    n, s = bench.sizes.matrix, bench.sizes
    a, b = (torch.randn(n, n, device=bench.device).to(bench.dtype) for _ in range(2))
    product = bench.milliseconds(lambda: a @ b)
    del a, b
    source = torch.randint(100, (s.copied,), dtype=torch.int8, device=bench.device)
    target = torch.empty_like(source)
    copy = bench.milliseconds(lambda: target.copy_(source))
    found = {
        "matmul_tflops": digits(2 * n**3 / product / 1e9),
        "copy_gb_per_s": digits(2 * s.copied / copy / 1e6),
    }
    key = "again" if bench.record["rates"] else None
    if key:
        bench.record["rates"][key] = found
    else:
        bench.record["rates"] = found
    bench.save()
    print(f"rates: {found}")


def measure_mask_building(bench: Bench) -> None:
    """What a block mask, a dense mask and spans cost to make, and to hold."""
    rows, s = bench.record["mask_building"], bench.sizes
    done = {(r["mask"], r["T"]) for r in rows}
    todo = [
        Case(mask, T, s.head_sizes[0])
        for mask in MASKS
        for T in s.lengths
        if (mask, T) not in done
    ]
    for case in bench.cases(todo, "mask building"):
        rule, T = case.rule(s, bench.device), case.T
        made = {
            "spans": lambda: flash.stretches(rule, T, device=bench.device),  # noqa: B023
            "dense": lambda: rule.matrix(T, device=bench.device),  # noqa: B023
            "block_mask": lambda: block_mask(bench, rule, T),  # noqa: B023
        }
        row = {"mask": case.mask, "T": T}
        for name, make in made.items():
            try:
                row[f"{name}_ms"] = round(wall_ms(make), 4)
                row[f"{name}_peak_mib"] = bench.peak_mib(make)
            except torch.OutOfMemoryError:
                row[f"{name}_ms"] = None
                torch.cuda.empty_cache()
        rows.append(row)
        print(row, flush=True)
