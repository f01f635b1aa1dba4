"""Limits from outside: on time, on memory, and on what is charged."""

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from book.classroom import sandbox, worker


def started(code: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", code], start_new_session=True)


needs_proc = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="the system has no /proc"
)


def alive(marker: str) -> bool:
    """Is a process left whose command has this text in it?"""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if marker.encode() in path.read_bytes():
                return True
    return False


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds; the guard is for what hangs, not for what is slow."""
    guard = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < guard
        time.sleep(0.05)


@needs_proc
@pytest.mark.parametrize("detached", [False, True])
def test_what_runs_too_long_is_ended_with_its_children(detached: bool) -> None:
    """A child in a session of its own, too, as every kernel is."""
    marker = f"{detached}_{os.getpid()}_child"
    process = started(
        "import subprocess, sys\n"
        f"child = 'import time; time.sleep(600); ' + {marker[::-1]!r}[::-1]\n"
        "subprocess.run([sys.executable, '-c', child], "
        f"start_new_session={detached})"
    )
    wait(lambda: alive(marker))
    why = sandbox.watched(process, sandbox.Limits(seconds=1))
    assert "longer than 1 s" in why
    wait(lambda: not alive(marker))


@needs_proc
def test_who_is_started_at_the_last_moment_is_ended_too() -> None:
    marker = f"600.{os.getpid()}"
    process = started(
        "import os, time\n"
        f"command = ['sleep', {marker!r}]\n"
        "for _ in range(500):\n"
        "    os.posix_spawnp('sleep', command, os.environ, setsid=True)\n"
        "    time.sleep(0.005)\n"
        "time.sleep(600)"
    )
    wait(lambda: alive(f"sleep\0{marker}"))
    assert sandbox.watched(process, sandbox.Limits(seconds=1))
    wait(lambda: not alive(f"sleep\0{marker}"))


@needs_proc
def test_what_needs_too_much_memory_is_ended() -> None:
    process = started("x = b'x' * 300_000_000; import time; time.sleep(600)")
    limits = sandbox.Limits(seconds=300, memory=100_000_000)
    assert "GiB" in sandbox.watched(process, limits)


SPIN = "import time\nwhile time.process_time() < 1.5: pass"


@needs_proc
def test_waiting_for_a_cpu_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock four times as fast, a process seems to get a quarter of a CPU."""
    clock = SimpleNamespace(monotonic=lambda: 4 * time.monotonic(), sleep=time.sleep)
    monkeypatch.setattr(sandbox, "time", clock)
    process = started(SPIN)
    assert sandbox.watched(process, sandbox.Limits(seconds=5)) == ""
    assert process.returncode == 0
    assert "longer than 1 s" in sandbox.watched(
        started(SPIN), sandbox.Limits(seconds=1)
    )


def test_what_is_charged() -> None:
    assert worker.charged(0.0, 10.0) == 10.0  # asleep
    assert worker.charged(0.1, 10.0) == 10.0
    assert worker.charged(2.5, 10.0) == 2.5  # a quarter of a CPU
    assert worker.charged(20.0, 10.0) == 10.0  # two of them
    assert worker.charged(-1.0, 10.0) == 10.0  # a child has gone


@pytest.mark.parametrize(("share", "ended"), [(0.0, True), (0.1, False)])
def test_a_cell_that_waits_for_a_cpu_goes_on(share: float, ended: bool) -> None:
    """A kernel of nbclient whose CPU time is a share of what the clock says."""

    class Client(worker.OwnTime, NotebookClient):
        interrupt_on_timeout = True

        def cpu(self) -> float:
            return share * time.monotonic()

    code = "import time; time.sleep(600)" if ended else "import time; time.sleep(2.5)"
    notebook = new_notebook(cells=[new_code_cell(code)])
    client = Client(notebook, timeout=1, startup_timeout=600, allow_errors=True)
    asyncio.run(client.async_execute())  # a loop of its own, which is closed
    outputs = notebook.cells[0].outputs
    assert [output.ename for output in outputs] == ["KeyboardInterrupt"] * ended
