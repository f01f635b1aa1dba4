"""The tiles that suit this GPU, and what the compiler makes of the kernels."""

from __future__ import annotations

import re

import torch

from mattn import causal, flash
from mattn.flash import launch
from on_gpu.bench import Bench

UNITS = {
    "wgmma": r"wgmma\.mma_async",
    "mma_sync": r"mma\.sync",
    "cp_async": r"cp\.async\.c[ag]",
    "tma": r"cp\.async\.bulk\.tensor",
    "warp_specialised": r"setmaxnreg",
}
"""What a kernel uses, by what its PTX says."""


def measure_tiles(bench: Bench) -> None:
    """What tune() finds for each head size; later parts use it."""
    if bench.smoke:
        return
    done = {row["D"] for row in bench.record["tiles"]}
    todo = [D for D in bench.sizes.head_sizes if D not in done]
    for D in bench.cases(todo, "tiles"):
        T = min(8192, bench.sizes.n_tokens)
        q, k, v = (
            bench.draw(bench.sizes.n_tokens // T, bench.sizes.n_heads, T, D)
            for _ in range(3)
        )
        measured: dict = {}
        (best,) = flash.tune(q, k, v, causal, measured=measured).values()
        bench.record["tiles"].append(
            {
                "D": D,
                "T": T,
                "best": {name: list(tiles) for name, tiles in best.items()},
                "ms": {
                    name: [
                        [*tiles, round(ms, 4)]
                        for tiles, ms in sorted(times.items(), key=lambda item: item[1])
                    ]
                    for name, times in measured.items()
                },
            }
        )
        print(f"tiles, D = {D}: {best}")


def use_tiles(bench: Bench) -> None:
    """Put the record's tiles into the table."""
    if bench.smoke:
        return
    capability = torch.cuda.get_device_capability()
    for row in bench.record["tiles"]:
        key = capability, bench.dtype, launch.columns(row["D"])
        flash.TILES[key] = {n: flash.Tiles(*t) for n, t in row["best"].items()}


def measure_profile(bench: Bench) -> None:
    """What the compiler made of each kernel: registers, shared memory, units."""
    if bench.smoke:
        return
    use_tiles(bench)
    bench.record["profile"] = []
    original = launch._launch
    for D in bench.cases(list(bench.sizes.head_sizes), "profile"):
        made = {}

        def kept(kernel, *args, made=made):
            made[kernel.fn.__name__] = original(kernel, *args)

        launch._launch = kept
        try:
            q, k, v = (bench.draw(1, 2, 1024, D, grad=True) for _ in range(3))
            flash.flash_attention(q, k, v, causal).sum().backward()
        finally:
            launch._launch = original
        for name, code in made.items():
            ptx = code.asm["ptx"]
            row = {"D": D, "kernel": name.strip("_")}
            row |= {"registers": code.n_regs, "spills": code.n_spills}
            row |= {"warps": code.metadata.num_warps, "shared": code.metadata.shared}
            row |= {unit: len(re.findall(p, ptx)) for unit, p in UNITS.items()}
            bench.record["profile"].append(row)
            print(row, flush=True)
