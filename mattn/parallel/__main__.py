"""``torchrun --nproc-per-node 4 -m mattn.parallel --check``: several against one.

The command of chapter 12.
"""

from __future__ import annotations

import argparse
import datetime
import os

import torch
import torch.distributed as dist

from mattn.masks import causal, window
from mattn.parallel import checking
from mattn.parallel.layouts import LAYOUTS, deal
from mattn.parallel.planner import plan
from mattn.parallel.talk import ranks

__all__ = ["main"]

_TOLERANCE = {torch.float64: (1e-12, 1e-11), torch.float32: (1e-5, 1e-4)}


def main(arguments: list[str] | None = None) -> int:
    """Check, and print what was found; 0 where all is equal, else 1."""
    parser = argparse.ArgumentParser(
        prog="torchrun --nproc-per-node 4 -m mattn.parallel",
        description="Is attention over several processes that of one?",
    )
    parser.add_argument("--check", action="store_true", required=True)
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds")
    asked = parser.parse_args(arguments)
    if "RANK" not in os.environ:
        parser.error("expected to be started by torchrun, which says who is who")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=asked.timeout))
    try:
        return _check()
    finally:
        dist.destroy_process_group()


def _check() -> int:
    rank, size = ranks()
    faults: list[str] = []
    lines = [*_equal(faults), *_seen(faults), *_worked(faults)]
    if rank == 0:
        print("\n".join([f"{size} processes against one", *lines]))
        for fault in faults:
            print(f"WRONG: {fault}")
    return 1 if faults else 0


def _equal(faults: list[str]) -> list[str]:
    lines = []
    for dtype, (forward, gradients) in _TOLERANCE.items():
        found = list(checking.differences((3, 16, 21), dtype=dtype))
        faults += [
            f"{one.what}, {dtype}: off by {one.forward:.1e}, {one.gradients:.1e}"
            for one in found
            if not (one.forward <= forward and one.gradients <= gradients)
        ]
        lines.append(
            f"  {len(found)} cases in {str(dtype).removeprefix('torch.')}: at most "
            f"{max(one.forward for one in found):.0e} off, gradients "
            f"{max(one.gradients for one in found):.0e}"
        )
    return lines


def _seen(faults: list[str], n: int = 12) -> list[str]:
    for layout in LAYOUTS:
        reached = checking.reached(causal, n, layout)
        if not reached.equal(causal.matrix(n)):
            faults.append(f"{layout}: who sees whom is not the rule")
        if reached[:-1, -1].any():
            faults.append(f"{layout}: a change of the last token moved earlier ones")
    return [f"  who sees whom, over {n} tokens: the rule, in {len(LAYOUTS)} layouts"]


def _worked(faults: list[str], n: int = 64) -> list[str]:
    _, size = ranks()
    lines = []
    for name, rule in {"causal": causal, "window": causal & window(8)}.items():
        for layout, cost in zip(LAYOUTS, plan(rule, n, size), strict=True):
            found = checking.work(rule, n, layout)
            pairs = [sum(counts.pairs) for counts in found]
            sent = sum(counts.sent for counts in found)
            lengths = [len(slots) for slots in deal(n, size, layout)]
            lines.append(f"  {name}, {layout}: pairs {pairs}, {sent} bytes sent")
            if pairs != cost.pairs.sum(dim=0).tolist():
                faults.append(f"{name}, {layout}: planned {cost.pairs.sum(dim=0)}")
            if len(set(lengths)) == 1 and sent != cost.hops * lengths[0] * 11 * 4:
                faults.append(f"{name}, {layout}: planned {cost.hops} parts sent")
    return lines


if __name__ == "__main__":
    raise SystemExit(main())
