"""Runs exercise notebooks cell by cell, in a process without the tests' hooks.

The tests of the package check every shape at run time and fix the randomness.
A student has neither, so these runs have neither: one process of its own, an
empty folder, a fresh namespace for each run.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import multiprocessing
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from book.classroom import exercises as ex

SECONDS = 1800  # a guard against what hangs, not against what is slow


class Error(NamedTuple):
    """What a cell raised: the name of the class, and what it says."""

    kind: str
    message: str
    hidden: bool  # raised in the hidden part of the check


class Cells:
    """One namespace, as of one kernel."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"__name__": "__main__"}
        self.count = 0

    def run(self, source: str) -> Error | None:
        """Run one cell; what it raised."""
        self.count += 1
        file = f"<cell {self.count}>"
        lines = source.splitlines(keepends=True)
        linecache.cache[file] = (len(source), None, lines, file)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(source, file, "exec"), self.names)
        except BaseException as error:
            line = 0
            trace = error.__traceback__
            while trace is not None:
                if trace.tb_frame.f_code.co_filename == file:
                    line = line or trace.tb_lineno
                trace = trace.tb_next
            before = "".join(lines[: max(line - 1, 0)])
            hidden = "BEGIN HIDDEN TESTS" in before
            return Error(type(error).__name__, str(error), hidden)
        finally:
            if pyplot := sys.modules.get("matplotlib.pyplot"):
                pyplot.close("all")
        return None


class Attempt(NamedTuple):
    """What one exercise came to: its own cell, and its check."""

    solution: Error | None
    check: Error | None


def _isolated() -> None:
    os.environ["MPLBACKEND"] = "Agg"
    os.environ["MATTN_PROGRESS"] = "0"
    os.chdir(tempfile.mkdtemp(prefix="exercises-"))


def _notebook(stem: str, seed: int) -> Any:
    return ex.prepared(ex.SOURCES / f"{stem}.ipynb", seed)


def run_whole(stem: str, released: bool, seed: int = 0) -> dict[str, Any]:
    """Every code cell in order; errors of plain cells, and each exercise."""
    notebook = _notebook(stem, seed)
    found = ex.exercises(notebook)
    if released:
        notebook = ex.student(notebook)
    cells, raised = Cells(), {}
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            name = cell.metadata.get("nbgrader", {}).get("grade_id", f"cell {i}")
            raised[name] = cells.run(cell.source)
    attempts = {}
    for exercise in found:
        if exercise.solution is not None:
            attempts[exercise.name] = Attempt(
                raised.pop(exercise.name),
                raised.pop(exercise.check.metadata.nbgrader.grade_id),
            )
    return {"plain": raised, "attempts": attempts}


def run_alone(stem: str, name: str, code: str | None = None, seed: int = 0) -> Attempt:
    """One exercise, with the plain cells before it and nothing else."""
    notebook = _notebook(stem, seed)
    (exercise,) = [e for e in ex.exercises(notebook) if e.name == name]
    cells, solution = Cells(), None
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        if cell is exercise.check:
            return Attempt(solution, cells.run(cell.source))
        if cell is exercise.solution:
            solution = cells.run(cell.source if code is None else code)
        elif ex.is_(cell, "grade") or ex.is_(cell, "solution"):
            continue
        elif error := cells.run(cell.source):
            raise AssertionError(f"{stem}: a plain cell raised {error}")
    raise AssertionError(f"{stem}: {name} has no check")


class Runner:
    """The process; started when first needed, and again after a time-out."""

    def __init__(self) -> None:
        self.pool: ProcessPoolExecutor | None = None

    def __call__(self, function: Any, *arguments: Any) -> Any:
        if self.pool is None:
            self.pool = ProcessPoolExecutor(
                1,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_isolated,
            )
        try:
            return self.pool.submit(function, *arguments).result(timeout=SECONDS)
        except TimeoutError:
            self.close()
            raise AssertionError(f"{arguments[0]}: over {SECONDS} s") from None

    def close(self) -> None:
        if self.pool is not None:
            for process in list(self.pool._processes.values()):
                process.kill()
            self.pool.shutdown(wait=False, cancel_futures=True)
            self.pool = None


def headings(path: Path) -> set[str]:
    """The headings of a chapter, without their marks."""
    return {
        line.lstrip("#").strip().replace("*", "").replace("`", "")
        for cell in ex.read(path).cells
        if cell.cell_type == "markdown"
        for line in cell.source.split("\n")
        if line.startswith("#")
    }
