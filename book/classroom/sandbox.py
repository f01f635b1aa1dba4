"""One submission, run by nbgrader in a process group of its own, under limits."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from book import ROOT
from book.classroom import exercises as ex
from book.classroom import worker
from book.classroom.assignments import CELL_SECONDS, PYTHON, WORKER
from book.classroom.intake import MEGABYTE, Submission
from book.classroom.marks import FEEDBACK, short
from book.classroom.worker import charged, family, only_loopback
from book.notebooks import KERNEL, to_text

MAX_FILE = 256 * MEGABYTE  # that a submission may write
STUDENT = "submission"  # what nbgrader is told: names stay out of paths

# From the strongest on: cut off from the network in each of them.
ISOLATIONS: tuple[str, ...] = (
    "unshare --user --map-root-user --net --pid --fork --kill-child=KILL --mount-proc",
    "unshare --user --map-root-user --net",
    "unshare --net",
)
NO_NETWORK = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    "from book.classroom.worker import loopback_up, only_loopback\n"
    "loopback_up(); sys.exit(not only_loopback())"
)


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    seconds: float = 300
    cell_seconds: int = CELL_SECONDS
    memory: int = 4 * 1024**3  # bytes


def isolation() -> list[str] | None:
    """A command that cuts off the network, the strongest that works here.

    Nothing is needed where there is none, as in a container without network.
    """
    for line in ISOLATIONS:
        command = line.split()
        if shutil.which(command[0]) is None:
            break
        test = [*command, sys.executable, "-I", "-c", NO_NETWORK]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(test, capture_output=True, timeout=30, check=False)
            if done.returncode == 0:
                return command
    return [] if only_loopback() else None


def lay_out(folder: Path, one: Submission, course: Path, job: dict[str, Any]) -> None:
    """A course of one student, with a kernel that has the book's packages."""
    assignment, notebook = one.runnable()
    name = assignment.name
    submitted = folder / "submitted" / STUDENT / name / f"{name}.ipynb"
    ex.write_if_new(submitted, to_text(notebook))
    shutil.copyfile(course / "gradebook.db", folder / "gradebook.db")
    # The kernel is that of .venv; nbgrader's own environment has no torch.
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    kernel = folder / "jupyter" / "kernels" / KERNEL["name"] / "kernel.json"
    ex.write_if_new(kernel, json.dumps(spec))
    ex.write_if_new(folder / "job.json", json.dumps(job))
    for made in ("home/.config/matplotlib", "tmp", "runtime"):
        (folder / made).mkdir(parents=True)
    import matplotlib

    for fonts in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        shutil.copy(fonts, folder / "home/.config/matplotlib")


def environment(folder: Path) -> dict[str, str]:
    """Nothing of the instructor's: no token, no home, no proxy."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "JUPYTER_PATH": str(folder / "jupyter"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "MPLCONFIGDIR": str(folder / "home/.config/matplotlib"),
        "MATTN_PROGRESS": "0",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONWARNINGS": "ignore",
    }


def watched(process: subprocess.Popen, limits: Limits) -> str:
    """Wait; why it had to be ended, or nothing. No process is left behind.

    Of the time, what is ``charged`` counts, so that a busy machine costs nobody
    anything; that nobody waits for ever, ten times the limit ends it anyway.
    """
    began = looked = time.monotonic()
    spent, used = 0.0, 0.0
    seen: dict[int, str] = {}
    try:
        while process.poll() is None:
            members = family(process.pid)
            seen |= {pid: member.began for pid, member in members.items()}
            now = time.monotonic()
            if now - looked >= 1:
                before, used = used, sum(member.cpu for member in members.values())
                spent += charged(used - before, now - looked)
                looked = now
            if spent > limits.seconds or now - began > 10 * limits.seconds:
                return f"ran longer than {limits.seconds:g} s: ended"
            if sum(member.memory for member in members.values()) > limits.memory:
                return f"needed more than {limits.memory / 1024**3:g} GiB: ended"
            time.sleep(0.2)
    finally:
        end(process, seen)
    return ""


def end(process: subprocess.Popen, seen: dict[int, str]) -> None:
    """Kill a process and its descendants, and wait for it.

    A kernel has a process group of its own, so whoever was ``seen`` is killed by
    its number, if it still began at that moment. Before that all are stopped, until
    nobody is left who could start another.
    """
    stopped: set[int] = set()
    while process.poll() is None:
        members = family(process.pid)
        if not (new := members.keys() - stopped):
            break
        for pid in new:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
        seen |= {pid: members[pid].began for pid in new}
        stopped |= new
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pid, began in seen.items():
        if (left := worker.process(pid)) and left.began == began:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def run(
    one: Submission, course: Path, limits: Limits, isolated: list[str] | None, out: Path
) -> None:
    """Grade one submission; whatever happens, it has points or a reason."""
    assignment, _ = one.runnable()
    graded = [name for name, cell in assignment.cells.items() if ex.is_(cell, "grade")]
    job = {
        "assignment": assignment.name,
        "student": STUDENT,
        "graded": graded,
        "cell_seconds": limits.cell_seconds,
        "memory": limits.memory,
        "file_size": MAX_FILE,
        "isolated": isolated is not None,
    }
    kept = tempfile.TemporaryDirectory(prefix="grade-", ignore_cleanup_errors=True)
    with kept as name:
        folder = Path(name).resolve()
        lay_out(folder, one, course, job)
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [*(isolated or []), PYTHON, WORKER, "grade", "job.json"],
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            one.refused = watched(process, limits)
        if one.refused:
            return
        one.refused = _result(one, folder, graded, process.returncode)
        if one.refused:
            return
        name = assignment.name
        page = folder / FEEDBACK / STUDENT / name / f"{name}.html"
        if page.is_file() and not page.is_symlink():
            shutil.copyfile(page, out / one.page)


def _result(one: Submission, folder: Path, graded: list[str], status: int) -> str:
    """Takes points and errors over; else the reason why there are none."""
    try:
        done = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        if "error" in done:
            return short(f"not graded: {done['error']}")
        one.points = {name: float(done["points"][name]) for name in graded}
        one.errors = {str(k): str(v) for k, v in done["errors"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return f"not graded: exit status {status}"
    return ""
