"""A class of students who do not exist: their submissions, and what they earn.

Each kind takes the released notebook and returns the text that is handed in,
with what must stand in the rows: points of each exercise, and a note.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from book.classroom import exercises as ex
from book.notebooks import to_text

ENDLESS = "while True:\n    pass"
STUBBORN = (
    "while True:\n    try:\n        while True:\n            pass\n"
    "    except BaseException:\n        pass"
)


@dataclass
class Handed:
    """What a student hands in, and what must come of it."""

    text: str
    points: dict[str, float]
    note: str = ""  # in at least one row of this student
    refused: bool = False  # in every row


class Desk:
    """One assignment: its source, its release, and its table of answers."""

    def __init__(self, path: Path, course: Path) -> None:
        self.name = path.stem
        self.source = ex.read(course / "source" / path.stem / path.name)
        self.release = ex.read(course / "release" / path.stem / path.name)
        self.exercises = ex.exercises(self.source)
        self.coding = [e for e in self.exercises if e.solution is not None]
        self.answers = ex.answers(path.stem)["answer"]

    def full(self) -> dict[str, float]:
        """What a right submission earns before a person marks the rest."""
        return {e.name: float(e.points - e.manual_points) for e in self.exercises}

    def none(self) -> dict[str, float]:
        return {e.name: 0.0 for e in self.exercises}

    def filled(self, *left_out: str) -> NotebookNode:
        """The release with the solutions in it, but for some exercises."""
        notebook = deepcopy(self.release)
        for exercise in self.exercises:
            if exercise.name in left_out:
                continue
            if exercise.solution is not None:
                cell_of(notebook, exercise.name).source = exercise.solution.source
            if exercise.explain is not None:
                name = exercise.explain.metadata.nbgrader.grade_id
                cell_of(notebook, name).source = "Because of what I saw."
        return notebook

    def solving(self, cell: NotebookNode | dict) -> NotebookNode:
        """All right, with one more cell before everything else."""
        notebook = self.filled()
        notebook.cells.insert(0, cell)
        return notebook


def cell_of(notebook: NotebookNode, name: str) -> NotebookNode:
    (cell,) = [
        c
        for c in notebook.cells
        if c.metadata.get("nbgrader", {}).get("grade_id") == name
    ]
    return cell


def right(desk: Desk) -> Handed:
    return Handed(to_text(desk.filled()), desk.full(), "by hand")


def right_otherwise(desk: Desk) -> Handed:
    """Every exercise by the other right answer of the table."""
    notebook = desk.filled()
    for answer in desk.answers:
        if answer["right"]:
            cell_of(notebook, answer["exercise"]).source = answer["code"]
    return Handed(to_text(notebook), desk.full())


def untouched(desk: Desk) -> Handed:
    return Handed(to_text(desk.release), desk.none(), "NotImplementedError")


def half(desk: Desk) -> Handed:
    left = [e.name for e in desk.exercises[::2]]
    points = desk.full() | dict.fromkeys(left, 0.0)
    return Handed(to_text(desk.filled(*left)), points)


def wrong(which: int) -> Callable[[Desk], Handed]:
    """The wrong answer number ``which`` to each exercise of the table."""

    def hand_in(desk: Desk) -> Handed:
        notebook, points = desk.filled(), desk.full()
        for exercise in desk.coding:
            mine = [a for a in desk.answers if a["exercise"] == exercise.name]
            mine = [a for a in mine if not a["right"]]
            cell = cell_of(notebook, exercise.name)
            cell.source = mine[which % len(mine)]["code"]
            points[exercise.name] = 0.0
        return Handed(to_text(notebook), points, "AssertionError")

    return hand_in


def only_one_wrong(desk: Desk) -> Handed:
    (answer, *_) = [a for a in desk.answers if not a["right"]]
    notebook = desk.filled()
    cell_of(notebook, answer["exercise"]).source = answer["code"]
    points = desk.full() | {answer["exercise"]: 0.0}
    return Handed(to_text(notebook), points, answer["message"])


def code(source: str, note: str) -> Callable[[Desk], Handed]:
    """The first exercise is answered with this; the others are right."""

    def hand_in(desk: Desk) -> Handed:
        notebook, first = desk.filled(), desk.coding[0].name
        cell_of(notebook, first).source = source
        return Handed(to_text(notebook), desk.full() | {first: 0.0}, note)

    return hand_in


def fatal(source: str, note: str) -> Callable[[Desk], Handed]:
    """What ends the whole run."""

    def hand_in(desk: Desk) -> Handed:
        text = to_text(desk.solving(new_code_cell(source)))
        return Handed(text, desk.none(), note, refused=True)

    return hand_in


def harmless(source: str) -> Callable[[Desk], Handed]:
    """What must not change a right submission, nor reach anybody else's."""

    def hand_in(desk: Desk) -> Handed:
        return Handed(to_text(desk.solving(new_code_cell(source))), desk.full())

    return hand_in


def bytes_of(text: str, note: str) -> Callable[[Desk], Handed]:
    def hand_in(desk: Desk) -> Handed:
        return Handed(text, desk.none(), note, refused=True)

    return hand_in


def deleted_check(desk: Desk) -> Handed:
    notebook, gone = desk.filled(), desk.coding[-1]
    name = gone.check.metadata.nbgrader.grade_id
    notebook.cells.remove(cell_of(notebook, name))
    return Handed(to_text(notebook), desk.full() | {gone.name: 0.0}, "was deleted")


def duplicated_cell(desk: Desk) -> Handed:
    notebook = desk.filled()
    notebook.cells.append(deepcopy(cell_of(notebook, desk.coding[0].name)))
    notebook.cells[-1].id = "copied"
    return Handed(to_text(notebook), desk.none(), "occurs 2 times", refused=True)


def changed_check(desk: Desk) -> Handed:
    """The check replaced by one that cannot fail, the points by a thousand."""
    notebook, first = deepcopy(desk.release), desk.coding[0]
    cell = cell_of(notebook, first.check.metadata.nbgrader.grade_id)
    cell.source, cell.metadata.nbgrader["points"] = "pass", 1000
    return Handed(to_text(notebook), desk.none(), "NotImplementedError")


def wrong_kernel(desk: Desk) -> Handed:
    notebook = desk.filled()
    notebook.metadata.kernelspec = {"name": "julia-1.9", "language": "julia"}
    return Handed(to_text(notebook), desk.full(), "kernel 'julia-1.9' replaced")


def no_metadata(desk: Desk) -> Handed:
    """As some editors save it: nothing in the notebook but its cells."""
    found: dict[str, Any] = json.loads(to_text(desk.filled()))
    found["metadata"] = {"kernelspec": found["metadata"]["kernelspec"]}
    found["nbformat_minor"] = 0
    for cell in found["cells"]:
        cell.pop("id")
    return Handed(json.dumps(found), desk.full())


def no_cells(desk: Desk) -> Handed:
    notebook = deepcopy(desk.release)
    notebook.cells = [new_markdown_cell("I forgot the exercises.")]
    return Handed(to_text(notebook), desk.none(), "no cell of", refused=True)


KINDS: dict[str, Callable[[Desk], Handed]] = {
    "right": right,
    "right-otherwise": right_otherwise,
    "untouched": untouched,
    "half": half,
    "wrong-a": wrong(0),
    "wrong-b": wrong(1),
    "wrong-c": wrong(2),
    "one-wrong": only_one_wrong,
    "endless": code(ENDLESS, "longer than"),
    "stubborn": fatal(STUBBORN, "could not be interrupted"),
    "exit": code("import sys\n\nsys.exit(0)", "SystemExit"),
    "syntax": code("def f(:", "SyntaxError"),
    "hungry": code("x = b'x' * 5_000_000_000", "MemoryError"),
    "killed-kernel": fatal("import os\n\nos._exit(0)", "kernel"),
    "sleeper": fatal(
        "import subprocess, sys, time\n\n"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(999)'])\n"
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "time.sleep(999)",
        "could not be interrupted",
    ),
    "network": code(
        "import socket\n\nsocket.create_connection(('192.0.2.1', 80), timeout=5)",
        "Network is unreachable",
    ),
    "shouting": harmless("import sys\n\nprint('!' * 10**6, file=sys.stderr)"),
    "warning": harmless("import warnings\n\nwarnings.warn('careful')"),
    "deleted-check": deleted_check,
    "duplicated": duplicated_cell,
    "changed-check": changed_check,
    "wrong-kernel": wrong_kernel,
    "no-metadata": no_metadata,
    "no-cells": no_cells,
    "not-json": bytes_of("My notebook is attached.\n", "not JSON"),
    "deep": bytes_of("[" * 100_000, "not a notebook"),
    "list": bytes_of("[1, 2, 3]", "format 4"),
    "huge": bytes_of(" " * 6_000_000, "at most 5 MB"),
    "empty": bytes_of("", "not JSON"),
    "script": harmless(
        "from IPython.display import HTML\n\n"
        "HTML('<script>stolen()</script><b onclick=\"stolen()\">here</b>')"
    ),
}


def hand_in(folder: Path, desk: Desk, kinds: list[str]) -> dict[str, Handed]:
    """Write the submissions of a class; who handed in what."""
    folder.mkdir(parents=True, exist_ok=True)
    handed = {}
    for kind in kinds:
        handed[kind] = KINDS[kind](desk)
        path = folder / f"{kind}_{desk.name}.ipynb"
        path.write_text(handed[kind].text, encoding="utf-8")
    return handed
