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

import argparse
import functools
import math
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # also where not installed
if "--smoke" in sys.argv:
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton

import record
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import (
    create_block_mask,
    flex_attention,
)

from mattn import (
    Mask,
    attention,
    causal,
    documents,
    flash,
    padding,
    window,
)
from mattn.flash import launch

FORWARD, BOTH = "forward", "forward and backward"
WINDOW = 1024
SDPA = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}


class Sizes(NamedTuple):
    """What is measured, and for how long one number may take."""

    n_tokens: int = 32 * 1024
    lengths: tuple[int, ...] = tuple(512 * 2**n for n in range(7))
    n_heads: int = 16
    head_sizes: tuple[int, ...] = (64, 128)
    cached: tuple[int, ...] = tuple(1024 * 2**n for n in range(8))
    matrix: int = 8192
    copied: int = 2**32
    window: int = WINDOW
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
        self.path = args.to or record.RECORDS / f"{slug}.json"
        self.record = self._begin(args)

    def _begin(self, args: argparse.Namespace) -> dict:
        header = record.header(note=args.note)
        header["machine"] |= {"gpu": self._gpu()}
        # The parts may come from several calls; this command makes them all.
        header["command"] = "python benchmarks/gpu.py" + " --quick" * args.quick
        header["versions"] |= _versions()
        new = {
            "what": "attention on a GPU",
            **header,
            "quick": args.quick,
            "smoke": args.smoke,
            "dtype": _name(self.dtype),
            "sizes": self.sizes._asdict(),
        }
        old = record_of(self.path)
        if old is None:
            return new | {
                "rates": {},
                "checks": [],
                "tiles": [],
                "mask_building": [],
                "attention": [],
                "decoding": [],
                "profile": [],
            }
        same = old["machine"]["gpu"].get("name") == new["machine"]["gpu"].get("name")
        if not same or old["versions"] != new["versions"] or old["quick"] != args.quick:
            raise SystemExit(
                f"{self.path.name} was begun on another machine, with other versions "
                "or other sizes. Move it away, or write to another file with --to."
            )
        return old | {"date": new["date"]}

    def _gpu(self) -> dict:
        if self.smoke:
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

    def save(self) -> None:
        record.write(self.record, self.path)

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


def record_of(path: Path) -> dict | None:
    import json

    return json.loads(path.read_text()) if path.is_file() else None


# ------------------------------------------------------------ what is compared


class Case(NamedTuple):
    mask: str
    T: int
    D: int

    def rule(self, sizes: Sizes, device: torch.device | str = "cpu") -> Mask:
        if self.mask == "causal":
            return causal
        if self.mask == "window":
            return causal & window(sizes.window)
        return causal & documents(packed(self.T).to(device))

    def n_pairs(self, sizes: Sizes) -> int:
        """Allowed pairs of query and key in one head of one sequence."""
        rule, n, step = self.rule(sizes), 0, 1024
        positions = torch.arange(self.T)
        for start in range(0, self.T, step):
            n += int(rule.at(positions[start : start + step], positions).sum())
        return n


def packed(T: int) -> Tensor:
    """Ids of eight documents of unequal lengths, the same for every run."""
    shares = torch.tensor([1, 5, 2, 8, 3, 1, 7, 5]).cumsum(0)
    ends = shares[:-1] * T // int(shares[-1])
    return torch.bucketize(torch.arange(T), ends, right=True)


Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def naive(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """The formula, operation by operation, each in the inputs' dtype."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1) @ v


def forms(bench: Bench, case: Case) -> dict[str, Callable[[], Form]]:
    """Method → what prepares it and returns the function that is timed."""
    rule = case.rule(bench.sizes, bench.device)

    def dense() -> Tensor:
        return rule.matrix(case.T, device=bench.device)

    def plain() -> Form:
        return functools.partial(naive, allowed=dense())

    def plain_compiled() -> Form:
        torch.compiler.reset()
        return torch.compile(plain(), dynamic=False)

    def sdpa(backend: SDPBackend) -> Form:
        options = {"is_causal": True}
        if case.mask != "causal":
            options = {"attn_mask": dense()}

        def run(q, k, v):
            with sdpa_kernel(backend):
                return F.scaled_dot_product_attention(q, k, v, **options)

        return run

    def flex() -> Form:
        blocks = block_mask(bench, rule, case.T)
        attend = flex_attention
        if not bench.smoke:
            torch.compiler.reset()
            attend = torch.compile(flex_attention, dynamic=False)
        return functools.partial(attend, block_mask=blocks)

    def ours() -> Form:
        seen = flash.stretches(rule, case.T, device=bench.device)
        return functools.partial(flash.flash_attention, mask=seen)

    found = {"mattn": ours, "naive": plain, "naive compiled": plain_compiled}
    found |= {f"sdpa {n}": functools.partial(sdpa, b) for n, b in SDPA.items()}
    found["flex"] = flex
    # Given a dense matrix, it takes the same time whatever that holds.
    if bench.smoke or case.mask != "causal":
        del found["naive compiled"]
    return found


def block_mask(bench: Bench, rule: Mask, T: int):
    return create_block_mask(
        rule.predicate(T), None, None, T, T, device=bench.device.type
    )


def reference(q, k, v, grad, rule: Mask, *, backward: bool) -> list[Tensor]:
    """Float64, one head at a time, a block of queries at a time."""
    T, D = q.shape
    q, k, v, grad = (t.detach().double() for t in (q, k, v, grad))
    positions = torch.arange(T, device=q.device)
    out, dq = torch.empty_like(q), torch.empty_like(q)
    dk, dv = torch.zeros_like(k), torch.zeros_like(v)
    for start in range(0, T, 1024):
        rows = slice(start, start + 1024)
        allowed = rule.at(positions[rows], positions)
        scores = (q[rows] @ k.mT / math.sqrt(D)).masked_fill(~allowed, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        out[rows] = weights @ v
        if backward:
            d_weights = grad[rows] @ v.mT
            delta = (weights * d_weights).sum(-1, keepdim=True)
            d_scores = weights * (d_weights - delta) / math.sqrt(D)
            dv += weights.mT @ grad[rows]
            dq[rows] = d_scores @ k
            dk += d_scores.mT @ q[rows]
    return [out, dq, dk, dv] if backward else [out]


def relative(found: list[Tensor], right: list[Tensor]) -> list[float]:
    """‖found − right‖ ÷ ‖right‖ of each."""
    return [
        _digits((a.double() - b).norm() / b.norm(), 3)
        for a, b in zip(found, right, strict=True)
    ]


# ------------------------------------------------------------ the parts


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
        "matmul_tflops": _digits(2 * n**3 / product / 1e9),
        "copy_gb_per_s": _digits(2 * s.copied / copy / 1e6),
    }
    key = "again" if bench.record["rates"] else None
    if key:
        bench.record["rates"][key] = found
    else:
        bench.record["rates"] = found
    bench.save()
    print(f"rates: {found}")


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


def check_one(bench, rule, Tq, Tk, D, dtype) -> dict:
    """Errors against float64 in units of plain PyTorch's in the same dtype."""
    H, Hkv = 4, 2
    torch.manual_seed(0)
    shapes = (2, H, Tq, D), (2, Hkv, Tk, D), (2, Hkv, Tk, D), (2, H, Tq, D)
    q, k, v, grad = (torch.randn(s, device=bench.device).to(dtype) for s in shapes)

    def run(form, precise: bool) -> list[Tensor]:
        inputs = [
            (t.double() if precise else t.clone()).requires_grad_() for t in (q, k, v)
        ]
        out = form(*inputs)
        grads = torch.autograd.grad(out, inputs, grad.to(out.dtype))
        return [t.double() for t in (out.detach(), *grads)]

    def plain(q, k, v):
        k, v = (t.repeat_interleave(H // Hkv, dim=1) for t in (k, v))
        return attention(q, k, v, rule)[0]

    right, theirs = run(plain, True), run(plain, False)
    ours = run(functools.partial(flash.flash_attention, mask=rule), False)
    ratios = []
    for a, b, r in zip(ours, theirs, right, strict=True):
        error, other = (float((t - r).square().mean().sqrt()) for t in (a, b))
        rounding = torch.finfo(dtype).eps * max(float(r.square().mean().sqrt()), 0.05)
        ratios.append(round(error / max(other, rounding), 3))
    limits = (2, 3, 3, 3)
    passed = all(x <= y for x, y in zip(ratios, limits, strict=True))
    return {
        "Tq": Tq,
        "Tk": Tk,
        "D": D,
        "dtype": _name(dtype),
        "ratios": ratios,
        "passed": passed,
    }


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


def measure_attention(bench: Bench, which: str) -> None:
    """Every method on every case, forward or forward and backward."""
    use_tiles(bench)
    s, rows = bench.sizes, bench.record["attention"]
    todo = [
        (Case(mask, T, D), method)
        for D in s.head_sizes
        for mask in ("causal", "window", "documents")
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
            row["again_ms"] = measure_one(bench, case, method, which, brief=True)["ms"]
            continue
        B = s.n_tokens // case.T
        row = {"pass": which, **case._asdict(), "B": B, "method": method}
        row |= measure_one(bench, case, method, which)
        rows.append(row)
        print({k: v for k, v in row.items() if k not in ("B", "pass")}, flush=True)


def measure_one(bench, case: Case, method: str, which: str, *, brief=False) -> dict:
    s, rule = bench.sizes, case.rule(bench.sizes, bench.device)
    B = s.n_tokens // case.T
    torch.manual_seed(case.T + case.D)
    q, k, v = (
        bench.draw(B, s.n_heads, case.T, case.D, grad=which == BOTH) for _ in range(3)
    )
    grad = torch.randn_like(q)

    def run() -> list[Tensor]:
        if which == FORWARD:
            with torch.no_grad():
                return [form(q, k, v)]
        out = form(q, k, v)
        return [out, *torch.autograd.grad(out, (q, k, v), grad)]

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # why a back end declines: kept below
            form = forms(bench, case)[method]()
            found = [t.detach() for t in run()]
            errors = [] if brief else errors_of(found, q, k, v, grad, rule, which)
            del found
            peak = None if brief else bench.peak_mib(run)
            ms = bench.milliseconds(run)
    except torch.OutOfMemoryError:
        return {"status": "out of memory"}
    except Exception as error:
        return {"status": f"absent: {_reason(error)}"}
    finally:
        if not bench.smoke:
            torch.cuda.empty_cache()
    if brief:
        return {"ms": round(ms, 4)}
    operations = 4 * case.D * case.n_pairs(s) * B * s.n_heads
    operations *= 1 if which == FORWARD else 3.5
    tflops = operations / ms / 1e9
    result = {"status": "measured", "ms": round(ms, 4), "tflops": _digits(tflops)}
    if bench.record["rates"]:
        rate = bench.record["rates"]["matmul_tflops"]
        result["share_of_matmul"] = _digits(tflops / rate)
    return result | {"peak_mib": peak, "errors": errors}


def errors_of(found, q, k, v, grad, rule, which) -> list[float]:
    """Of the output and of dq, dk, dv: the larger of the first and the last head."""
    worst = [0.0] * len(found)
    for b, h in {(0, 0), (q.shape[0] - 1, q.shape[1] - 1)}:
        own = [t[b, h] for t in (q, k, v, grad)]
        right = reference(*own, rule, backward=which == BOTH)
        each = relative([t[b, h] for t in found], right)
        worst = [max(a, b) for a, b in zip(worst, each, strict=True)]
    return worst


def measure_mask_building(bench: Bench) -> None:
    """What a block mask, a dense mask and spans cost to make, and to hold."""
    rows, s = bench.record["mask_building"], bench.sizes
    done = {(r["mask"], r["T"]) for r in rows}
    todo = [
        Case(mask, T, s.head_sizes[0])
        for mask in ("causal", "window", "documents")
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


def wall_ms(make: Callable[[], Any], n: int = 5) -> float:
    """Median of the whole time, host and device, until it is there."""
    times = []
    for _ in range(n + 1):
        start = time.perf_counter()
        make()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


def measure_decoding(bench: Bench) -> None:
    """One query a head against a cache: bytes of keys and values by time."""
    use_tiles(bench)
    rows, s = bench.record["decoding"], bench.sizes
    B, H, D = (1 if bench.smoke else 8), s.n_heads, s.head_sizes[-1]
    methods = ["mattn", *(f"sdpa {n}" for n in SDPA), "flex"]
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


def decode(bench, B, H, Hkv, Tk, D, method) -> dict:
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(Tk)
            q = bench.draw(B, H, 1, D)
            k, v = (bench.draw(B, Hkv, Tk, D) for _ in range(2))
            options = {} if Hkv == H else {"enable_gqa": True}

            def run() -> Tensor:
                if method == "mattn":
                    return flash.flash_attention(q, k, v, causal)
                if method == "flex":
                    return attend(q, k, v, **options)
                with sdpa_kernel(SDPA[method.removeprefix("sdpa ")]):
                    return F.scaled_dot_product_attention(q, k, v, **options)

            attend = flex_attention
            if method == "flex" and not bench.smoke:
                torch.compiler.reset()
                attend = torch.compile(flex_attention, dynamic=False)
            found = run()[0, 0]
            right = attention(*(t[0, 0].double() for t in (q, k, v)))[0]
            (error,) = relative([found], [right])
            ms = bench.milliseconds(run)
    except torch.OutOfMemoryError:
        return {"status": "out of memory"}
    except Exception as error:
        return {"status": f"absent: {_reason(error)}"}
    rate = 2 * k.numel() * k.element_size() / ms / 1e6
    row = {"status": "measured", "ms": round(ms, 4), "gb_per_s": _digits(rate)}
    if bench.record["rates"]:
        row["share_of_copy"] = _digits(rate / bench.record["rates"]["copy_gb_per_s"])
    return row | {"error": error}


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
            units = {
                "wgmma": r"wgmma\.mma_async",
                "mma_sync": r"mma\.sync",
                "cp_async": r"cp\.async\.c[ag]",
                "tma": r"cp\.async\.bulk\.tensor",
                "warp_specialised": r"setmaxnreg",
            }
            row = {"D": D, "kernel": name.strip("_")}
            row |= {"registers": code.n_regs, "spills": code.n_spills}
            row |= {"warps": code.metadata.num_warps, "shared": code.metadata.shared}
            row |= {unit: len(re.findall(p, ptx)) for unit, p in units.items()}
            bench.record["profile"].append(row)
            print(row, flush=True)


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


def print_tables(found: dict) -> None:
    """TFLOP/s by method and length; ours over the fastest of the others."""
    rows = [r for r in found["attention"] if r["status"] == "measured"]
    for which, mask, D in sorted({(r["pass"], r["mask"], r["D"]) for r in rows}):
        own = [r for r in rows if (r["pass"], r["mask"], r["D"]) == (which, mask, D)]
        lengths = sorted({r["T"] for r in own})
        print(f"\n{which}, {mask}, D = {D}: TFLOP/s of allowed pairs")
        print(f"{'T':18}" + "".join(f"{T:9}" for T in lengths))
        table = {(r["method"], r["T"]): r["tflops"] for r in own}
        for method in dict.fromkeys(r["method"] for r in own):
            cells = (table.get((method, T), math.nan) for T in lengths)
            print(f"{method:18}" + "".join(f"{c:9.1f}" for c in cells))
        shares = []
        for T in lengths:
            others = [x for (m, t), x in table.items() if t == T and m != "mattn"]
            ours = table.get(("mattn", T), math.nan)
            shares.append(ours / max(others, default=math.nan))
        print(f"{'mattn ÷ best other':18}" + "".join(f"{s:9.2f}" for s in shares))
    apart = [abs(r["again_ms"] / r["ms"] - 1) for r in rows if "again_ms" in r]
    if apart:
        print(f"\nagain: {len(apart)} numbers, at most {100 * max(apart):.1f} % apart")


def _versions() -> dict:
    found = {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    return {name: str(version) for name, version in found.items() if version}


def _digits(x: float, n: int = 4) -> float:
    return float(f"{float(x):.{n}g}")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _reason(error: Exception) -> str:
    """The first line of a message, without the paths of this machine."""
    line = (str(error).strip().splitlines() or [""])[0]
    line = re.sub(r"(/[\w.\-]+){2,}", "…", line)[:160]
    return f"{type(error).__name__}: {line}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", choices=list(PARTS), action="append")
    parser.add_argument("--check", action="store_true", help="only: is it right?")
    parser.add_argument("--quick", action="store_true", help="minutes, not an hour")
    parser.add_argument("--again", action="store_true", help="measure a second time")
    parser.add_argument("--smoke", action="store_true", help="no GPU: run the code")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="begin nothing after these"
    )
    parser.add_argument("--note", default="", help="what else to know of the machine")
    parser.add_argument("--to", type=Path, help="the record (.json)")
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
