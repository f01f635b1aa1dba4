"""Exercises: read the sources, and make of them what students get.

    python -m book.classroom.exercises student     chapters/exercises/, for the book
    python -m book.classroom.exercises solutions   chapters/solutions/ and its contents

A source, ``exercises/NN_name.ipynb``, is a notebook in nbgrader's source
format. The released notebook is what ``nbgrader generate_assignment`` would
write, cell by cell; nbgrader itself is not needed here.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from book import ROOT
from book.notebooks import canonical, to_text

SOURCES = ROOT / "exercises"
ANSWERS = SOURCES / "answers"
STUDENT = ROOT / "chapters" / "exercises"
SOLUTIONS = ROOT / "chapters" / "solutions"

CODE_STUB = ["# YOUR CODE HERE", "raise NotImplementedError()"]
TEXT_STUB = ["YOUR ANSWER HERE"]
LEVELS = ("●○○", "●●○", "●●●")

HEADING = re.compile(r"## (\d+)\.(\d+) (\S.*)")
FACTS = re.compile(
    r"(●○○|●●○|●●●) · (\d+) minutes? · (\d+) points? · section \*([^*]+)\*"
)
SEED = re.compile(r"^seed = 0$", re.MULTILINE)


class SourceError(ValueError):
    """A source notebook that is not in the format of this folder."""


@dataclass(frozen=True)
class Exercise:
    """One exercise of a source notebook, and the cells that belong to it."""

    number: str
    title: str
    level: str
    minutes: int
    points: int
    section: str
    task: NotebookNode
    solution: NotebookNode | None
    check: NotebookNode | None
    explain: NotebookNode | None

    @property
    def name(self) -> str:
        """The grade_id of the cell that the student fills."""
        cell = self.solution or self.explain
        if cell is None:
            raise SourceError(f"exercise {self.number} has no cell to fill")
        return cell.metadata.nbgrader.grade_id

    @property
    def kind(self) -> str:
        """What the student does: fill a blank, repair, give values, explain."""
        if self.solution is None:
            return "explain"
        given = [line for line in released(self.solution).split("\n") if line.strip()]
        if any(line in CODE_STUB for line in given):
            defines = any(line.startswith(("def ", "class ")) for line in given)
            return "repair" if defines else "values"
        return "blank"

    @property
    def manual_points(self) -> int:
        """Points that a person gives."""
        return int(self.explain.metadata.nbgrader.points) if self.explain else 0


def sources() -> list[Path]:
    """The source notebooks, in the order of the chapters."""
    return sorted(SOURCES.glob("*.ipynb"))


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def answers(stem: str) -> dict[str, list[dict[str, Any]]]:
    """Answers that must be accepted or refused, and rubrics: data only."""
    path = ANSWERS / f"{stem}.toml"
    found = tomllib.loads(path.read_text(encoding="utf-8"))
    return {"answer": found.get("answer", []), "rubric": found.get("rubric", [])}


def is_(cell: NotebookNode, what: str) -> bool:
    """Does nbgrader's metadata say so: ``grade``, ``solution`` or ``locked``?"""
    return bool(cell.metadata.get("nbgrader", {}).get(what, False))


def is_locked(cell: NotebookNode) -> bool:
    """Restored from the source before grading, as nbgrader decides it."""
    return not is_(cell, "solution") and (is_(cell, "grade") or is_(cell, "locked"))


def exercises(notebook: NotebookNode) -> list[Exercise]:
    """The exercises of a source notebook, in order."""
    groups: list[list[NotebookNode]] = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("## "):
            groups.append([])
        if groups:
            groups[-1].append(cell)
    return [_exercise(group) for group in groups]


def _exercise(cells: list[NotebookNode]) -> Exercise:
    task = cells[0]
    first, _, rest = task.source.partition("\n")
    heading = HEADING.fullmatch(first.strip())
    if heading is None:
        raise SourceError(f"{first!r} is not like '## 2.3 The inverted mask'")
    facts = FACTS.fullmatch(rest.strip().split("\n")[0].strip())
    if facts is None:
        raise SourceError(
            f"after {first!r} comes {rest.strip()[:60]!r}; expected a line like "
            "'●●○ · 10 minutes · 4 points · section *Break it*'"
        )
    solution = [c for c in cells if is_(c, "solution") and not is_(c, "grade")]
    check = [c for c in cells if is_(c, "grade") and not is_(c, "solution")]
    explain = [c for c in cells if is_(c, "grade") and is_(c, "solution")]
    if len(solution) > 1 or len(explain) > 1 or len(solution) != len(check):
        raise SourceError(
            f"{first!r} has {len(solution)} solution, {len(check)} check and "
            f"{len(explain)} explain cells; expected one solution and one check, "
            "or one to explain"
        )
    if not (solution or explain):
        raise SourceError(f"{first!r} has no cell to fill")
    return Exercise(
        number=f"{heading[1]}.{heading[2]}",
        title=heading[3].strip(),
        level=facts[1],
        minutes=int(facts[2]),
        points=int(facts[3]),
        section=facts[4],
        task=task,
        solution=solution[0] if solution else None,
        check=check[0] if check else None,
        explain=explain[0] if explain else None,
    )


# From source to release: what nbgrader does, cell by cell.


def released(cell: NotebookNode) -> str:
    """The source of a cell as students get it: no solution, no hidden test."""
    lines = cell.source.split("\n")
    stub = CODE_STUB if cell.cell_type == "code" else TEXT_STUB
    kept, replaced = _without(lines, "SOLUTION", stub)
    if replaced and not is_(cell, "solution"):
        raise SourceError(f"a solution in a cell that is none: {lines[0]!r}")
    if is_(cell, "solution") and not replaced:
        kept = stub
    kept, removed = _without(kept, "HIDDEN TESTS", [])
    if removed and not is_(cell, "grade"):
        raise SourceError(f"hidden tests in a cell without points: {lines[0]!r}")
    return "\n".join(kept)


def _without(lines: list[str], what: str, stub: list[str]) -> tuple[list[str], bool]:
    """The lines outside ``BEGIN what`` … ``END what``; the stub in their place."""
    kept: list[str] = []
    inside = replaced = False
    for line in lines:
        if f"BEGIN {what}" in line:
            if inside:
                raise SourceError(f"BEGIN {what} twice")
            inside = replaced = True
            indent = line[: len(line) - len(line.lstrip())]
            kept += [indent + stub_line for stub_line in stub]
        elif f"END {what}" in line:
            inside = False
        elif not inside:
            kept.append(line)
    if inside:
        raise SourceError(f"BEGIN {what} without END {what}")
    return kept, replaced


def regions(cell: NotebookNode, what: str) -> Iterator[str]:
    """The text between ``BEGIN what`` and ``END what``, region by region."""
    inside: list[str] | None = None
    for line in cell.source.split("\n"):
        if f"BEGIN {what}" in line:
            inside = []
        elif f"END {what}" in line and inside is not None:
            yield "\n".join(inside)
            inside = None
        elif inside is not None:
            inside.append(line)


def secrets(notebook: NotebookNode) -> list[str]:
    """Every solution and hidden test: what no reader may meet by accident."""
    found = []
    for cell in notebook.cells:
        parts = [*regions(cell, "SOLUTION"), *regions(cell, "HIDDEN TESTS")]
        if is_(cell, "solution") and not any(regions(cell, "SOLUTION")):
            parts.append(cell.source)
        found += parts
    return found


def checksum(cell: NotebookNode) -> str:
    """nbgrader's: by it the grader sees whether a cell was changed."""
    meta = cell.metadata.nbgrader
    parts = [cell.source, cell.cell_type]
    parts += [str(is_(cell, "grade")), str(is_(cell, "solution"))]
    parts += [str(is_locked(cell)), meta["grade_id"]]
    if is_(cell, "grade"):
        parts.append(str(float(meta["points"])))
    return hashlib.md5("".join(parts).encode(), usedforsecurity=False).hexdigest()


def student(notebook: NotebookNode) -> NotebookNode:
    """What ``nbgrader generate_assignment`` makes of a source notebook."""
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        if is_(cell, "solution"):
            cell.metadata["deletable"] = False
        elif is_locked(cell):
            cell.metadata["deletable"] = cell.metadata["editable"] = False
        cell.source = released(cell)
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        if is_(cell, "solution") or is_locked(cell):
            cell.metadata.nbgrader["checksum"] = checksum(cell)
            cell.metadata.nbgrader["cell_type"] = cell.cell_type
    return notebook


def seed_cell(notebook: NotebookNode) -> NotebookNode:
    """The cell whose numbers ``SEED=k`` draws anew."""
    tagged = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1 or len(SEED.findall(tagged[0].source)) != 1:
        raise SourceError("expected one cell tagged 'parameters' with 'seed = 0'")
    return tagged[0]


def prepared(path: Path, seed: int = 0) -> NotebookNode:
    """A source with its numbers drawn, its name and its release written down."""
    notebook = canonical(read(path))
    cell = seed_cell(notebook)
    cell.source = SEED.sub(f"seed = {seed}", cell.source)
    digest = hashlib.sha256(to_text(notebook).encode()).hexdigest()[:8]
    found = exercises(notebook)
    chapter = notebook.cells[0].source.split("\n")[0].removeprefix("# Exercises: ")
    notebook.metadata["mattn"] = {
        "assignment": path.stem,
        "release": f"{version()}-seed{seed}-{digest}",
        "description": f"{len(found)} exercises of "
        f"{sum(e.minutes for e in found)} minutes in all, checked as you go. "
        f"Chapter: {chapter}.",
    }
    # Locked: before grading, nbgrader puts the numbers back that were given out.
    cell.metadata["nbgrader"] = {
        "cell_type": "code",
        "grade": False,
        "grade_id": "parameters",
        "locked": True,
        "schema_version": 3,
        "solution": False,
        "task": False,
    }
    return notebook


def version() -> str:
    """The version in pyproject.toml."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]["version"]


def write_if_new(path: Path, text: str) -> None:
    """Write, unless the file says so already: make looks at the times."""
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def write_student_pages() -> None:
    """``chapters/exercises/``: the released notebooks, and nothing else."""
    for path in sources():
        write_if_new(STUDENT / path.name, to_text(student(prepared(path))))
    for path in STUDENT.glob("*"):
        if path.is_file() and path.name not in {source.name for source in sources()}:
            path.unlink()


def write_solution_pages(contents: Path) -> None:
    """``chapters/solutions/``, and the contents of a book that has them."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    for path in sources():
        notebook = prepared(path)
        first = notebook.cells[0]
        first.source = first.source.replace("# Exercises: ", "# Solutions: ", 1)
        write_if_new(SOLUTIONS / path.name, to_text(notebook))
    for chapter in (chapter for part in toc["parts"] for chapter in part["chapters"]):
        stem = Path(chapter["file"]).name
        if (SOURCES / f"{stem}.ipynb").is_file():
            page = {"file": f"chapters/solutions/{stem}"}
            chapter.setdefault("sections", []).append(page)
    text = yaml.safe_dump(toc, sort_keys=False, allow_unicode=True)
    write_if_new(contents, text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["student", "solutions"])
    options = parser.parse_args(arguments)
    write_student_pages()
    if options.action == "solutions":
        write_solution_pages(ROOT / "_build" / "solutions" / "_toc.yml")
    return 0


if __name__ == "__main__":
    sys.exit(main())
