"""Write mattn/records/mutants.json: broken copies of mattn, and what sees them.

Each mutation of tests/helpers/mutants is applied to a copy of the package. The auditor
then looks at eight parts of it; what the auditor need not see, an ordinary test
must.

    python benchmarks/mutate.py [NUMBER …]
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

# Before the copies are imported, each in a process of its own: what they share.
import jaxtyping  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import numpy  # noqa: F401
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
from mutants.panel import look  # noqa: E402
from mutants.patches import MUTANTS, Mutant, apply  # noqa: E402

N_AT_ONCE = 2


def run(mutants: Iterable[Mutant] = MUTANTS) -> list[dict]:
    """The rows of the record: what saw each mutant, the sound package first."""
    with tempfile.TemporaryDirectory() as folder:
        sound = Mutant("0", "the package as it is", ())
        waiting, running, rows = [sound, *mutants], {}, {}
        while waiting or running:
            while waiting and len(running) < N_AT_ONCE:
                mutant = waiting.pop(0)
                running[_start(mutant, Path(folder) / mutant.number)] = mutant
            child, status = os.wait()
            mutant = running.pop(child)
            if status:
                raise RuntimeError(f"mutant {mutant.number}: status {status}")
            place = Path(folder) / mutant.number
            seen = json.loads((place / "seen.json").read_text())
            failed = json.loads((place / "failed.json").read_text())
            rows[mutant.number] = {
                "number": mutant.number,
                "name": mutant.name,
                "auditor": mutant.auditor,
                "seen_by": seen,
                "failed_test": failed,
            }
    return [rows[m.number] for m in (sound, *mutants)]


def _start(mutant: Mutant, place: Path) -> int:
    """Copy, break, and look at it in a child process; its process number."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "mattn", place / "mattn", ignore=ignore)
    for file, text in apply(mutant, str(ROOT / "mattn")).items():
        (place / "mattn" / file).write_text(text, encoding="utf-8")
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        (place / "seen.json").write_text(json.dumps(_seen(place)))
        failed = _failed(mutant, place) if mutant.test else None
        (place / "failed.json").write_text(json.dumps(failed))
        status = 0
    except BaseException as error:
        print(f"mutant {mutant.number}: {error!r}", file=sys.stderr, flush=True)
    os._exit(status)


def _seen(place: Path) -> dict[str, list[str]]:
    sys.path.insert(0, str(place))
    os.environ["MATTN_PROGRESS"] = "0"
    import mattn

    if not Path(mattn.__file__).is_relative_to(place):
        raise RuntimeError(f"expected mattn of {place}; got {mattn.__file__}")
    return look()


def _failed(mutant: Mutant, place: Path) -> str | None:
    """The first test of the named file that fails on the broken copy."""
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("book", "tests"):
        shutil.copytree(ROOT / folder, place / folder, ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", place)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            mutant.test,
        ],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.returncode:
        return None
    found = re.search(r"^FAILED (\S+)", done.stdout, flags=re.M)
    if not found:  # tests that do not start have seen nothing
        raise RuntimeError(f"no test of {mutant.test} ran:\n{done.stdout}{done.stderr}")
    return found[1].partition("[")[0]


def main(numbers: list[str]) -> None:
    torch.set_num_threads(1)
    chosen = [m for m in MUTANTS if not numbers or m.number in numbers]
    rows = run(chosen)
    for row in rows:
        print(row["number"], row["name"], row["seen_by"], row["failed_test"] or "")
    if not numbers:
        write(rows)


def write(rows: list[dict]) -> None:
    """The record, with machine, versions, command and date."""
    import measure

    head = measure.header()
    head["command"] = "python benchmarks/mutate.py"
    what = "mutations of mattn, one at a time, and what saw each of them"
    measure.write(
        {"what": what, **head, "mutants": rows}, measure.RECORDS / "mutants.json"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
