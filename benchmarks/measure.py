"""What the benchmarks share: how time is taken, and what a record says and where.

CPU time is that of this process, user and system: other work on the machine
raises it far less than the time on the wall.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import statistics
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

import mattn

RECORDS = Path(mattn.__file__).parent / "records"


# ------------------------------------------------------------------------ time


def one_thread() -> None:
    """For torch here, and for the processes that are started from here."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def cpu_seconds(*, children: bool = False) -> float:
    """CPU time used so far, that of ended child processes included if asked for."""
    return time.process_time() + (sum(os.times()[2:4]) if children else 0.0)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """CPU seconds of ``run()``, and its result."""
    before = cpu_seconds()
    result = run()
    return cpu_seconds() - before, result


def by_turns(
    runs: dict[str, Callable[[], Any]], *, least: int, budget: float = 0.0
) -> dict[str, list[tuple[float, Any]]]:
    """Run each in every round, every other round backwards: name → what was timed.

    At least so many rounds; more, up to 200, while the CPU seconds of all
    runs stay within the budget.
    """
    found: dict[str, list] = {name: [] for name in runs}
    spent, n_rounds = 0.0, 0
    while n_rounds < least or (spent < budget and n_rounds < 200):
        for name in list(runs) if n_rounds % 2 else reversed(runs):
            found[name].append(timed(runs[name]))
            spent += found[name][-1][0]
        n_rounds += 1
    return found


def least_seconds(times: list[tuple[float, Any]]) -> float:
    return min(seconds for seconds, _ in times)


def median_ratio(above: list[tuple[float, Any]], below: list) -> float:
    """Median of the ratios of neighbouring runs."""
    pairs = zip(above, below, strict=True)
    return statistics.median(a / b for (a, _), (b, _) in pairs)


def wall_ms(run: Callable[[], Any], n: int = 5) -> float:
    """Median of the whole time, host and device, until it is there; one to warm up."""
    times = []
    for _ in range(n + 1):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times[1:])


# --------------------------------------------------------------------- a record


def arguments(doc: str | None, name: str = "") -> ArgumentParser:
    """What every program takes that writes a record: a note, and another place."""
    parser = ArgumentParser(
        description=doc, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("--note", default="", help="what else to know of the machine")
    place = RECORDS / f"{name}.json" if name else None
    parser.add_argument("--to", type=Path, default=place, help="the record (.json)")
    return parser


def header(*, note: str = "") -> dict:
    """Machine, versions, command, date and threads of this run."""
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "memory_gib": _memory_gib(),
            "os": f"{platform.system()} {platform.release()}, {_libc()}",
            "note": note,
        },
        "versions": versions(torch, np, mattn),
        "command": _command(sys.argv),
        "date": today(),
        "threads": torch.get_num_threads(),
    }


def versions(*modules: ModuleType) -> dict[str, str]:
    """Of Python and of these."""
    named = {module.__name__: module.__version__ for module in modules}
    return {"python": platform.python_version(), **named}


def today() -> str:
    return datetime.date.today().isoformat()


def n_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def digits(x: float, n: int = 4) -> float:
    """To so many significant digits: enough, and the record stays readable."""
    return float(f"{float(x):.{n}g}")


def write(record: dict, path: Path, *, compact: bool = False) -> None:
    """All of the record or nothing: a reader never finds half a file."""
    layout: dict = {"separators": (",", ":")} if compact else {"indent": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        text = json.dumps(record, ensure_ascii=False, **layout)
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _command(argv: list[str]) -> str:
    """As it was called, but for where the record goes."""
    arguments = iter(argv[1:])
    kept = []
    for argument in arguments:
        if argument == "--to":
            next(arguments)
        elif not argument.startswith("--to="):
            kept.append(argument)
    return shlex.join(["python", f"benchmarks/{Path(argv[0]).name}", *kept])


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory_gib() -> float | None:
    try:
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    return round(n_bytes / 2**30, 1)


def _libc() -> str:
    return " ".join(platform.libc_ver()).strip() or "C library unknown"
