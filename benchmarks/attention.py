"""Measure attention on the CPU; write mattn/records/attention_cpu.json.

1. fused:     what lies between the projections of mattn's multi-head module,
              against PyTorch's scaled_dot_product_attention (SDPA) called
              directly with the best arguments for the mask; masks for SDPA
              are rendered before the clock starts.
2. skipping:  block-wise attention, causal, with blocks skipped and without.
3. memory:    peak of live tensor bytes beyond the inputs, block-wise and dense.
4. allocator: dense attention with the system's allocator as it is, and with
              large temporaries kept mapped (glibc), with page faults counted.

Times are CPU times of one thread. What is compared runs by turns in one
process. A time is the least of its runs, "ratio" that of the least times, and
"median_ratio" the median of the ratios of neighbouring runs, which other work
on the machine raises. --quick takes two short lengths and few runs: it checks
the program, not the speed.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import weakref
from argparse import SUPPRESS
from collections.abc import Callable
from typing import NamedTuple

import measure
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from tqdm import tqdm

from mattn import (
    attention,
    blockwise_attention,
    causal,
    documents,
    full,
    fused_attention,
    padding,
    window,
)
from mattn.heads import merge_heads, split_heads

H, D, WINDOW = 8, 64, 128
KEPT_MAPPED = {
    # No temporary is mapped by itself, and the heap is never given back.
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**26),
}


class Case:
    """One mask at one length: the inputs, and both ways to the output."""

    def __init__(self, name: str, T: int, B: int = 1):
        self.name, self.T, self.rule = name, T, full
        self.B, self.H, self.Tk = B, H, T
        if name == "causal":
            self.rule = causal
        elif name == "window":
            self.rule = causal & window(WINDOW)
        elif name == "padding":
            self.B, self.H = 2 * B, H // 2  # sequences of different lengths
            self.rule = padding(torch.linspace(T // 2, T, self.B).long())
        elif name == "documents":
            length = max(T // 8, 64)
            self.rule = causal & documents(torch.arange(T) // length)
        elif name == "causal, Tk = 3T/2":
            self.rule, self.Tk = causal, 3 * T // 2
        self.q, self.k, self.v = (
            torch.randn(self.B, n, self.H * D) for n in (T, self.Tk, self.Tk)
        )
        self.grad = torch.randn(self.B, T, self.H * D)

    def sdpa_arguments(self) -> dict:
        """The best that SDPA can be told of this mask, ready before it is called.

        A boolean mask it would turn into an additive one at every call.
        """
        if self.rule is full:
            return {}
        if self.name == "causal":
            return {"is_causal": True}
        n_queries = 1 if self.name == "padding" else self.T  # one row broadcasts
        mask = self.rule.additive(n_queries, self.Tk)
        return {"attn_mask": mask[:, None] if mask.ndim == 3 else mask}

    def direct(self, *, backward: bool) -> Callable[[], None]:
        told = self.sdpa_arguments()
        return self._run(
            lambda q, k, v: F.scaled_dot_product_attention(q, k, v, **told), backward
        )

    def fused(self, *, backward: bool) -> Callable[[], None]:
        return self._run(lambda q, k, v: fused_attention(q, k, v, self.rule), backward)

    def blockwise(self, *, backward: bool, skip: bool = True) -> Callable[[], None]:
        return self._run(
            lambda q, k, v: blockwise_attention(q, k, v, self.rule, skip=skip),
            backward,
        )

    def dense(self, *, backward: bool) -> Callable[[], None]:
        return self._run(lambda q, k, v: attention(q, k, v, self.rule)[0], backward)

    def _run(self, attend: Callable, backward: bool) -> Callable[[], None]:
        inputs = [t.requires_grad_(backward) for t in (self.q, self.k, self.v)]

        def run() -> None:
            out = merge_heads(attend(*(split_heads(t, self.H) for t in inputs)))
            if backward:
                torch.autograd.grad(out, inputs, self.grad)

        return run


PASSES = ["forward", "forward and backward"]
CASES = ["causal", "full", "window", "padding", "documents", "causal, Tk = 3T/2"]


class Compared(NamedTuple):
    """Least CPU seconds of both, the median ratio second/first, and the runs."""

    first: float
    second: float
    median: float
    n_runs: int


def compared(
    first: Callable[[], None], second: Callable[[], None], *, budget: float, least: int
) -> Compared:
    """Both by turns, as often as the budget of CPU seconds allows."""
    if min(measure.timed(run)[0] for run in (first, second)) > 0.5:  # warm
        least = min(least, 2)
    runs = {"first": first, "second": second}
    a, b = measure.by_turns(runs, least=least, budget=budget).values()
    median = measure.median_ratio(b, a)
    return Compared(measure.least_seconds(a), measure.least_seconds(b), median, len(a))


def measure_fused(lengths: list[int], budget: float, least: int) -> list[dict]:
    rows = []
    # One sequence, and as many as give 2048 tokens.
    sizes = [(T, B) for T in lengths for B in sorted({1, max(1, 2048 // T)})]
    bar = _bar([(*s, n, p) for s in sizes for n in CASES for p in PASSES])
    for T, B, name, which in bar:
        bar.set_description(f"fused, T = {T}, {name}")
        case, backward = Case(name, T, B), which != "forward"
        sdpa, own, median, runs = compared(
            case.direct(backward=backward),
            case.fused(backward=backward),
            budget=budget,
            least=least,
        )
        rows.append(
            {
                "mask": name,
                "T": T,
                "batch": B,
                "pass": which,
                "sdpa_ms": _ms(sdpa),
                "mattn_ms": _ms(own),
                "ratio": round(own / sdpa, 3),
                "median_ratio": round(median, 3),
                "runs": runs,
            }
        )
    return rows


def measure_skipping(lengths: list[int], budget: float, least: int) -> list[dict]:
    rows = []
    bar = _bar([(T, which) for T in lengths for which in PASSES])
    for T, which in bar:
        bar.set_description(f"skipping, T = {T}")
        skip, read_all = (
            Case("causal", T).blockwise(backward=which != "forward", skip=skip)
            for skip in (True, False)
        )
        quick, slow, median, runs = compared(skip, read_all, budget=budget, least=least)
        rows.append(
            {
                "T": T,
                "pass": which,
                "skipping_ms": _ms(quick),
                "reading_all_ms": _ms(slow),
                "times_as_fast": round(slow / quick, 3),
                "median_times_as_fast": round(median, 3),
                "runs": runs,
            }
        )
    return rows


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of tensors made under it and still alive; their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, int] = {}
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves((args, kwargs)):
            if isinstance(t, Tensor) and t.untyped_storage()._cdata not in self.live:
                self._watch(t, 0)  # made before: an input
        for t in tree_leaves(out):
            if isinstance(t, Tensor) and t.untyped_storage()._cdata not in self.live:
                self._watch(t, t.untyped_storage().nbytes())
        self.peak = max(self.peak, sum(self.live.values()))
        return out

    def _watch(self, t: Tensor, n_bytes: int) -> None:
        storage = t.untyped_storage()
        self.live[storage._cdata] = n_bytes
        weakref.finalize(storage, self.live.pop, storage._cdata, None)


def measure_memory(lengths: list[int]) -> dict:
    rows = []
    bar = _bar([(T, which) for T in lengths for which in PASSES])
    for T, which in bar:
        bar.set_description(f"memory, T = {T}")
        case, backward = Case("causal", T), which != "forward"
        row = {"T": T, "pass": which}
        forms = {"blockwise": case.blockwise(backward=backward)}
        if T <= 2048:  # at 4096 the dense form would take 2 GiB
            forms["dense"] = case.dense(backward=backward)
        for name, run in forms.items():
            with LiveBytes() as n_bytes:
                run()
            row[f"{name}_mib"] = round(n_bytes.peak / 2**20, 2)
        rows.append(row)
    return {"rows": rows, "fit": {which: _line(rows, which) for which in PASSES}}


def _line(rows: list[dict], which: str) -> dict:
    """The block-wise peak as a constant and so much a token, least squares."""
    points = [(r["T"], r["blockwise_mib"]) for r in rows if r["pass"] == which]
    T, mib = np.array(points).T
    slope, constant = np.polyfit(T, mib, 1)
    return {
        "kib_per_token": round(1024 * slope, 3),
        "constant_mib": round(constant, 2),
        "largest_deviation": round(
            float(np.abs((constant + slope * T) / mib - 1).max()), 4
        ),
    }


def naive_child(lengths: list[int], least: int) -> list[dict]:
    """Dense attention beside SDPA, in a process of its own."""
    rows = []
    for T in lengths:
        case = Case("causal", T)
        for which in PASSES:
            backward = which != "forward"
            runs = {
                "dense": case.dense(backward=backward),
                "sdpa": case.direct(backward=backward),
            }
            row = {"T": T, "pass": which}
            for name, run in runs.items():
                run(), run()  # the heap reaches its size
                times, faults = [], []
                for _ in range(least):
                    before = _page_faults()
                    times.append(measure.timed(run)[0])
                    faults.append(_page_faults() - before)
                row[f"{name}_ms"] = _ms(min(times))
                row[f"{name}_page_faults"] = int(statistics.median(faults))
            rows.append(row)
    return rows


def measure_allocator(lengths: list[int], least: int) -> dict:
    settings = {"as it is": {}, "kept mapped": KEPT_MAPPED}
    both = {}
    bar = _bar(list(settings))
    for name in bar:
        bar.set_description(f"allocator, {name}")
        request = json.dumps([lengths, least])
        child = subprocess.run(
            [sys.executable, __file__, "--child", request],
            env=os.environ | settings[name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        both[name] = json.loads(child.stdout)
    rows = [
        {
            "T": system["T"],
            "pass": system["pass"],
            "as_it_is": _without_labels(system),
            "kept_mapped": _without_labels(kept),
            "share_of_mapping": round(1 - kept["dense_ms"] / system["dense_ms"], 3),
        }
        for system, kept in zip(both["as it is"], both["kept mapped"], strict=True)
    ]
    return {"kept_mapped_by": KEPT_MAPPED, "rows": rows}


def _without_labels(row: dict) -> dict:
    return {name: value for name, value in row.items() if name not in ("T", "pass")}


def print_tables(result: dict) -> None:
    """Each part of the record as a table."""
    print_fused(result["fused"])
    print_skipping(result["skipping"])
    print_memory(result["memory"])
    print_allocator(result["allocator"])


def print_fused(rows: list[dict]) -> None:
    print("\nFused core and SDPA called directly (CPU ms)")
    print(
        f"{'mask':17}{'T':>5}{'batch':>6}  {'pass':21}{'SDPA':>10}{'mattn':>10}"
        f"{'ratio':>7}{'median':>7}"
    )
    for r in rows:
        print(
            f"{r['mask']:17}{r['T']:5}{r['batch']:6}  {r['pass']:21}"
            f"{r['sdpa_ms']:10.2f}{r['mattn_ms']:10.2f}{r['ratio']:7.2f}"
            f"{r['median_ratio']:7.2f}"
        )


def print_skipping(rows: list[dict]) -> None:
    print("\nBlock-wise, causal: blocks skipped, all blocks read (CPU ms)")
    print(f"{'T':>5}  {'pass':21}{'skipped':>10}{'all':>10}{'times':>7}{'median':>7}")
    for r in rows:
        print(
            f"{r['T']:5}  {r['pass']:21}{r['skipping_ms']:10.1f}"
            f"{r['reading_all_ms']:10.1f}{r['times_as_fast']:7.2f}"
            f"{r['median_times_as_fast']:7.2f}"
        )


def print_memory(found: dict) -> None:
    print("\nPeak of live tensors beyond the inputs (MiB)")
    print(f"{'T':>5}  {'pass':21}{'block-wise':>12}{'dense':>10}")
    for r in found["rows"]:
        dense = f"{r['dense_mib']:10.1f}" if "dense_mib" in r else ""
        print(f"{r['T']:5}  {r['pass']:21}{r['blockwise_mib']:12.1f}{dense}")
    for which, fit in found["fit"].items():
        print(
            f"  block-wise, {which}: {fit['constant_mib']} MiB and "
            f"{fit['kib_per_token']} KiB a token; at most "
            f"{100 * fit['largest_deviation']:.1f} % off"
        )


def print_allocator(found: dict) -> None:
    print("\nDense attention by allocator: as it is, temporaries kept mapped (CPU ms)")
    print(
        f"{'T':>5}  {'pass':21}{'as it is':>10}{'faults':>9}{'mapped':>10}{'faults':>9}"
        f"{'share':>7}{'SDPA':>10}{'mapped':>10}"
    )
    for r in found["rows"]:
        a, b = r["as_it_is"], r["kept_mapped"]
        print(
            f"{r['T']:5}  {r['pass']:21}{a['dense_ms']:10.1f}{a['dense_page_faults']:9}"
            f"{b['dense_ms']:10.1f}{b['dense_page_faults']:9}"
            f"{r['share_of_mapping']:7.2f}{a['sdpa_ms']:10.1f}{b['sdpa_ms']:10.1f}"
        )


def _page_faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def _ms(seconds: float) -> float:
    return round(1e3 * seconds, 3)


def _bar(items: list) -> tqdm:
    return tqdm(items, disable=os.environ.get("MATTN_PROGRESS") == "0", leave=False)


def main() -> None:
    parser = measure.arguments(__doc__, "attention_cpu")
    parser.add_argument("--quick", action="store_true", help="seconds, not minutes")
    parser.add_argument("--child", help=SUPPRESS)
    args = parser.parse_args()
    measure.one_thread()
    torch.manual_seed(0)
    if args.child:
        print(json.dumps(naive_child(*json.loads(args.child))))
        return
    lengths = [64, 128] if args.quick else [256, 512, 1024, 2048, 4096, 8192]
    budget, least = (0.01, 2) if args.quick else (2.0, 5)
    result = {
        "what": "attention on the CPU: fused, block-wise, dense",
        **measure.header(note=args.note),
        "quick": args.quick,
        "sizes": {"heads": H, "features": D, "dtype": "float32", "window": WINDOW},
        "fused": measure_fused(lengths, budget, least),
        "skipping": measure_skipping(lengths[-2:], budget, least),
        "memory": measure_memory(lengths[-4:]),
        "allocator": measure_allocator(lengths[:-1], least),
    }
    print_tables(result)
    measure.write(result, args.to)
    print(f"\nwritten: {args.to}")


if __name__ == "__main__":
    main()
