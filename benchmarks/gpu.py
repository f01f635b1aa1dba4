"""Measure attention on a GPU: what mattn's kernel, PyTorch's and plain code take.

    python benchmarks/gpu.py --check      is the kernel right on this GPU?
    python benchmarks/gpu.py              measure all parts, about an hour
    python benchmarks/gpu.py --quick      small sizes, a few minutes
    python benchmarks/gpu.py --part forward --minutes 7

Each result goes to mattn/records/<gpu>.json as soon as it is there, and a
later call goes on where an earlier one stopped; chapter 10 draws every record
it finds. ``--again`` measures once more what is there and keeps both times.

How: bf16 (fp16 where the GPU has none), 16 heads, 32k tokens a batch whatever
their length T. Device events around one call, the L2 cache overwritten before
it, median of many calls after a warm-up. TFLOP/s count allowed pairs only, 4·D
operations a pair forward, 2.5 times that backward. Errors are root mean
squares, divided by that of a float64 reference computed block by block on the
first and the last head. Clocks are left as they are found. ``--smoke`` runs
the same code in Triton's interpreter, tiny, to test it.
"""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # also where not installed
if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import measure
import torch
from on_gpu.attention import measure_attention
from on_gpu.bench import Bench
from on_gpu.checks import measure_checks
from on_gpu.costs import measure_mask_building, measure_rates
from on_gpu.decoding import measure_decoding
from on_gpu.forms import BOTH, FORWARD
from on_gpu.tables import print_tables
from on_gpu.tiles import measure_profile, measure_tiles

PARTS: dict[str, Callable[[Bench], Any]] = {
    "rates": measure_rates,
    "check": measure_checks,
    "tiles": measure_tiles,
    "profile": measure_profile,
    "forward": functools.partial(measure_attention, which=FORWARD),
    "backward": functools.partial(measure_attention, which=BOTH),
    "masks": measure_mask_building,
    "decoding": measure_decoding,
}


def main() -> None:
    parser = measure.arguments(__doc__)
    parser.add_argument("--part", choices=list(PARTS), action="append")
    parser.add_argument("--check", action="store_true", help="only: is it right?")
    parser.add_argument("--quick", action="store_true", help="minutes, not an hour")
    parser.add_argument("--again", action="store_true", help="measure a second time")
    parser.add_argument("--smoke", action="store_true", help="no GPU: run the code")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing after these"
    )
    args = parser.parse_args()
    if args.smoke and args.to is None:
        parser.error("--smoke needs --to: its numbers say nothing about a machine")
    if not args.smoke and not torch.cuda.is_available():
        parser.error("no GPU found by PyTorch; --smoke runs the code without one")
    bench = Bench(args)
    good = True
    for part in ["check"] if args.check else args.part or PARTS:
        good &= PARTS[part](bench) is not False
    bench.save()
    print_tables(bench.record)
    print(f"\nrecord: {bench.path.name}")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
