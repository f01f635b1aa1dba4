"""Submissions taken in: who, what, and whether it is a notebook at all.

Nothing of a submission has run when this is done.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from book.classroom import exercises as ex
from book.notebooks import KERNEL

MEGABYTE = 10**6
MAX_BYTES, MAX_CELLS = 5 * MEGABYTE, 1000


class Refused(Exception):
    """A submission that is not run, and why."""


@dataclass(frozen=True)
class Assignment:
    """An assignment as it was given out."""

    name: str
    source: NotebookNode

    @cached_property
    def exercises(self) -> list[ex.Exercise]:
        return ex.exercises(self.source)

    @property
    def release(self) -> str:
        return self.source.metadata.mattn.release

    @cached_property
    def cells(self) -> dict[str, NotebookNode]:
        """The cells that nbgrader knows, by their id, as students got them."""
        return {
            cell.metadata.nbgrader.grade_id: cell
            for cell in ex.student(self.source).cells
            if "nbgrader" in cell.metadata
        }


@dataclass
class Submission:
    """One file, and what became of it."""

    path: Path
    student: str
    canvas_id: str
    assignment: Assignment | None
    notebook: NotebookNode | None = None
    notes: list[str] = field(default_factory=list)
    refused: str = ""
    points: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    page: str = ""

    def runnable(self) -> tuple[Assignment, NotebookNode]:
        """What is graded; ``ValueError`` where there is nothing that could be."""
        if self.assignment is None or self.notebook is None:
            raise ValueError(
                f"expected a submission that can be run; got {self.path.name}: "
                f"{self.refused or 'not looked at'}."
            )
        return self.assignment, self.notebook

    @property
    def modified(self) -> str:
        moment = datetime.fromtimestamp(self.path.lstat().st_mtime, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def course_assignments(course: Path) -> dict[str, Assignment]:
    return {
        path.stem: Assignment(path.stem, ex.read(path))
        for path in sorted(course.glob("source/*/*.ipynb"))
    }


def files(folder: Path) -> list[Path]:
    """Notebooks in the folder, and in the folders in it: one for each student."""
    found = [*folder.glob("*.ipynb"), *folder.glob("*/*.ipynb")]
    hidden = (".ipynb_checkpoints", "__MACOSX")
    return sorted(path for path in found if path.parent.name not in hidden)


def who(path: Path, folder: Path, assignment: str | None) -> tuple[str, str]:
    """The student, by the name of the file or of its folder; and Canvas's id."""
    name = path.parent.name if path.parent != folder else path.stem
    if assignment:
        name = name.replace(assignment, "")
    name = re.sub(r"_\d+_assignsubmission_file.*$", "", name)  # Moodle
    name = re.sub(r"\s*\(\d+\)$|[ _-]+copy\d*$", "", name, flags=re.IGNORECASE)
    name = name.strip(" _-.")
    canvas = re.fullmatch(r"(.+?)(?:_LATE)?_(\d+)_\d+(?:_?-\d+)?", name)
    name, number = (canvas[1], canvas[2]) if canvas else (name, "")
    # Nothing that a spreadsheet would take for a formula, or a path for a path.
    name = re.sub(r"[^\w .@+-]+", "_", name).lstrip("=+-@ .")
    return (name or "unnamed")[:80], number


def parsed(path: Path) -> dict[str, Any]:
    """The JSON of a submission; what it is not, as ``Refused``."""
    if path.is_symlink() or not path.is_file():
        raise Refused("not a plain file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise Refused(f"{size / MEGABYTE:.1f} MB; at most {MAX_BYTES // MEGABYTE} MB")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise Refused("not a notebook: not text in UTF-8") from None
    except RecursionError:
        raise Refused("not a notebook: nested too deeply") from None
    except ValueError as error:
        raise Refused(f"not a notebook: not JSON ({error})") from None
    cells = found.get("cells") if isinstance(found, dict) else None
    if not isinstance(cells, list) or found.get("nbformat") != 4:
        raise Refused("not a notebook of format 4")
    if len(cells) > MAX_CELLS:
        raise Refused(f"{len(cells)} cells; at most {MAX_CELLS}")
    return found


def grade_id(cell: Any) -> str | None:
    meta = cell.get("metadata") if isinstance(cell, dict) else None
    meta = meta.get("nbgrader") if isinstance(meta, dict) else None
    name = meta.get("grade_id") if isinstance(meta, dict) else None
    return name if isinstance(name, str) else None


def metadata(found: dict[str, Any], *keys: str) -> str:
    """A text in the metadata of a notebook, or nothing."""
    value: Any = found.get("metadata")
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) else ""


def which(path: Path, found: dict | None, known: dict[str, Assignment]) -> str | None:
    """The assignment: by the file's name, by its metadata, or by its cells."""
    for name in known:
        if name in path.stem or name in path.parent.name:
            return name
    if found is None:
        return None
    if (named := metadata(found, "mattn", "assignment")) in known:
        return named
    ids = {grade_id(cell) for cell in found["cells"]} - {None, "parameters"}
    best = max(known, key=lambda name: len(ids & set(known[name].cells)), default=None)
    return best if best and ids & set(known[best].cells) else None


def clean(found: dict[str, Any], assignment: Assignment) -> tuple[NotebookNode, set]:
    """The cells and nothing else; ids and flags are those that were given out."""
    given = assignment.cells
    ids = Counter(name for cell in found["cells"] if (name := grade_id(cell)) in given)
    for name, count in ids.items():
        if count > 1:
            raise Refused(f"cell {name!r} occurs {count} times: which one counts?")
    if not set(ids) - {"parameters"}:
        raise Refused(f"no cell of {assignment.name} is in it")
    notebook = new_notebook(metadata={"kernelspec": KERNEL})
    for cell in found["cells"]:
        kind = cell.get("cell_type") if isinstance(cell, dict) else None
        source = cell.get("source", "") if isinstance(cell, dict) else None
        if isinstance(source, list) and all(isinstance(line, str) for line in source):
            source = "".join(source)
        if kind not in ("code", "markdown", "raw") or not isinstance(source, str):
            raise Refused("a cell that is none: neither code nor text")
        original = given.get(grade_id(cell) or "")
        kind = original.cell_type if original else kind
        new = new_code_cell if kind == "code" else new_markdown_cell
        if kind == "raw":
            continue
        meta = {"nbgrader": original.metadata.nbgrader} if original else {}
        notebook.cells.append(new(source, metadata=meta))
    return notebook, set(given) - set(ids)


def look_at(path: Path, folder: Path, known: dict[str, Assignment]) -> Submission:
    """A submission, and whether it can be run; nothing of it has run yet."""
    found, refused = None, ""
    try:
        found = parsed(path)
    except Refused as why:
        refused = str(why)
    name = which(path, found, known)
    student, canvas_id = who(path, folder, name)
    one = Submission(path, student, canvas_id, known.get(name or ""), refused=refused)
    if refused or found is None:
        return one
    if one.assignment is None:
        one.refused = "belongs to no assignment of this course"
        return one
    try:
        one.notebook, one.missing = clean(found, one.assignment)
    except Refused as why:
        one.refused = str(why)
        return one
    kernel = metadata(found, "kernelspec", "name")
    if kernel != KERNEL["name"]:
        one.notes.append(f"kernel {kernel[:40]!r} replaced by {KERNEL['name']}")
    release = metadata(found, "mattn", "release")
    if release and release != one.assignment.release:
        one.notes.append(f"made from release {release[:60]}")
    if "parameters" in one.missing:
        one.notes.append("the cell with the seed is missing")
    for cell in one.notebook.cells:
        if ex.is_(cell, "grade") and ex.is_(cell, "solution"):
            one.texts[cell.metadata.nbgrader.grade_id] = cell.source.strip()
    return one


def supersede(submissions: list[Submission]) -> None:
    """Of several files of one student for one assignment, the newest counts."""
    groups: dict[tuple[str, str], list[Submission]] = {}
    for one in submissions:
        if one.assignment:
            groups.setdefault((one.student, one.assignment.name), []).append(one)
    for group in groups.values():
        group.sort(key=lambda one: (one.path.lstat().st_mtime, str(one.path)))
        for older in group[:-1]:
            older.refused = f"a newer file counts: {group[-1].path.name}"
