"""What every record names, and how it is written."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

import mattn

RECORDS = Path(mattn.__file__).parent / "records"


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
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "mattn": mattn.__version__,
        },
        "command": _command(sys.argv),
        "date": datetime.date.today().isoformat(),
        "threads": torch.get_num_threads(),
    }


def write(record: dict, path: Path) -> None:
    """All of the record or nothing: a reader never finds half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
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
