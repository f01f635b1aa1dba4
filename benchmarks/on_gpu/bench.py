"""A device, its clock, and the record that a measurement goes to."""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import measure
import torch
from torch import Tensor

PARTS = "checks", "tiles", "mask_building", "attention", "decoding", "profile"
"""The lists of a record."""


class Sizes(NamedTuple):
    """What is measured, and for how long one number may take."""

    n_tokens: int = 32 * 1024
    lengths: tuple[int, ...] = tuple(512 * 2**n for n in range(7))
    n_heads: int = 16
    head_sizes: tuple[int, ...] = (64, 128)
    cached: tuple[int, ...] = tuple(1024 * 2**n for n in range(8))
    matrix: int = 8192
    copied: int = 2**32
    window: int = 1024
    seconds: float = 0.4


QUICK = Sizes(
    n_tokens=8192, lengths=(512, 2048, 8192), cached=(1024, 16384), seconds=0.1
)
SMOKE = Sizes(32, (32,), 2, (16,), (48,), 64, 2**16, 8, 0.0)


class Bench:
    """A device, its record, and how long this call may go on."""

    def __init__(self, args: argparse.Namespace):
        self.smoke, self.again = args.smoke, args.again
        self.device = torch.device("cpu" if args.smoke else "cuda")
        self.sizes = SMOKE if args.smoke else QUICK if args.quick else Sizes()
        self.dtype = torch.float32
        if not args.smoke:
            capability = torch.cuda.get_device_capability()
            self.dtype = torch.bfloat16 if capability >= (8, 0) else torch.float16
            # Twice the L2 cache, or 256 MiB, overwritten before each call.
            l2 = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 2**27)
            self.flushed = torch.empty(
                max(2 * l2, 2**28), dtype=torch.int8, device="cuda"
            )
        self.until = time.monotonic() + 60 * args.minutes
        name = "interpreter" if args.smoke else torch.cuda.get_device_name()
        slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        self.path = args.to or measure.RECORDS / f"{slug}.json"
        self.record = self._begin(args)

    def _begin(self, args: argparse.Namespace) -> dict:
        header = measure.header(note=args.note)
        header["machine"] |= {"gpu": gpu(smoke=self.smoke)}
        # The parts may come from several calls; this command makes them all.
        header["command"] = "python benchmarks/gpu.py" + " --quick" * args.quick
        header["versions"] |= versions()
        new = {
            "what": "attention on a GPU",
            **header,
            "quick": args.quick,
            "smoke": args.smoke,
            "dtype": name_of(self.dtype),
            "sizes": self.sizes._asdict(),
        }
        old = record_of(self.path)
        if old is None:
            return new | {"rates": {}} | {part: [] for part in PARTS}
        same = old["machine"]["gpu"].get("name") == new["machine"]["gpu"].get("name")
        if not same or old["versions"] != new["versions"] or old["quick"] != args.quick:
            raise SystemExit(
                f"{self.path.name} was begun on another machine, with other versions "
                "or other sizes. Move it away, or write to another file with --to."
            )
        return old | {"date": new["date"]}

    def save(self) -> None:
        measure.write(self.record, self.path)

    def cases(self, items: list, part: str) -> Iterator:
        """Those items, until the time is over."""
        for n, item in enumerate(items):
            if time.monotonic() > self.until:
                print(f"{part}: time is over, {len(items) - n} left; call again")
                return
            if os.environ.get("MATTN_PROGRESS") != "0":
                print(f"{part} {n + 1}/{len(items)}: {item}", file=sys.stderr)
            yield item
            self.save()

    def milliseconds(self, run: Callable[[], Any]) -> float:
        """Median time on the device of one call."""
        if self.smoke:
            start = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - start)
        first = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
        run()
        first[0].record()
        run(), run()
        first[1].record()
        torch.cuda.synchronize()
        once = max(first[0].elapsed_time(first[1]) / 2, 1e-3)
        n = int(min(max(1e3 * self.sizes.seconds / once, 7), 100))
        events = [
            [torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(n)
        ]
        for start, end in events:
            self.flushed.zero_()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return statistics.median(a.elapsed_time(b) for a, b in events)

    def peak_mib(self, run: Callable[[], Any]) -> float | None:
        """Device memory taken by one call, beyond what was there before."""
        if self.smoke:
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return round((torch.cuda.max_memory_allocated() - before) / 2**20, 2)

    def draw(self, B: int, H: int, T: int, D: int, *, grad: bool = False) -> Tensor:
        x = torch.randn(B, H, T, D, device=self.device, dtype=self.dtype)
        return x.requires_grad_(grad)

    def attempted(self, run: Callable[[], dict]) -> dict:
        """What ``run`` found, or the status that says why there is nothing."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # why a back end declines: kept below
                return run()
        except torch.OutOfMemoryError:
            return {"status": "out of memory"}
        except Exception as error:
            return {"status": f"absent: {reason(error)}"}
        finally:
            if not self.smoke:
                torch.cuda.empty_cache()


def record_of(path: Path) -> dict | None:
    return json.loads(path.read_text()) if path.is_file() else None


def gpu(*, smoke: bool) -> dict:
    """What the driver says of the device."""
    if smoke:
        return {"name": "Triton's interpreter on a CPU"}
    p = torch.cuda.get_device_properties(0)
    found = {
        "name": p.name,
        "capability": f"{p.major}.{p.minor}",
        "memory_gib": round(p.total_memory / 2**30, 1),
        "multiprocessors": p.multi_processor_count,
        "l2_mib": round(getattr(p, "L2_cache_size", 0) / 2**20, 1),
    }
    fields = {
        "driver": "driver_version",
        "sm_clock": "clocks.sm",
        "largest_sm_clock": "clocks.max.sm",
        "memory_clock": "clocks.mem",
        "power_limit": "power.limit",
    }
    try:
        answer = subprocess.run(
            [
                "nvidia-smi",
                f"--query-gpu={','.join(fields.values())}",
                "--format=csv,noheader",
                "--id=0",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        found |= dict(zip(fields, answer.split(", "), strict=True))
    except (OSError, subprocess.CalledProcessError, ValueError):
        found["driver"] = "unknown"
    return found


def versions() -> dict:
    found = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    return {name: str(version) for name, version in found.items() if version}


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def reason(error: Exception) -> str:
    """The first line of a message, without the paths of this machine."""
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(r"(/[\w.\-]+){2,}", "…", line)[:160]
    return f"{type(error).__name__}: {line}"
