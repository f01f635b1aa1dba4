"""What is looked at before anything of a submission runs."""

import json
import os
from pathlib import Path

import pytest

from book.classroom import exercises as ex
from book.classroom import intake, marks


@pytest.fixture
def known(tmp_path: Path) -> dict[str, intake.Assignment]:
    course = tmp_path / "course"
    for path in ex.sources()[:2]:
        target = course / "source" / path.stem / path.name
        ex.write_if_new(target, ex.to_text(ex.prepared(path)))
    return intake.course_assignments(course)


@pytest.mark.parametrize(
    ("file", "student", "canvas"),
    [
        ("ada_01_concept.ipynb", "ada", ""),
        ("01_concept-ada.ipynb", "ada", ""),
        ("01_concept ada lovelace (1).ipynb", "ada lovelace", ""),
        ("lovelaceada_4711_8899_01_concept.ipynb", "lovelaceada", "4711"),
        ("lovelaceada_LATE_4711_8899_01_concept-1.ipynb", "lovelaceada", "4711"),
        ("Ada B_4711_assignsubmission_file/01_concept.ipynb", "Ada B", ""),
        ("ada@example.org_01_concept.ipynb", "ada@example.org", ""),
        ("=cmd|calc_01_concept.ipynb", "_cmd_calc", ""),
        ("01_concept.ipynb", "unnamed", ""),
    ],
)
def test_student_of_a_file(file: str, student: str, canvas: str) -> None:
    folder = Path("submissions")
    assert intake.who(folder / file, folder, "01_concept") == (student, canvas)


def test_assignment_of_a_file(known: dict[str, intake.Assignment]) -> None:
    first, second = known
    found = json.loads(ex.to_text(ex.student(known[second].source)))
    assert intake.which(Path("x", f"a_{first}.ipynb"), found, known) == first
    assert intake.which(Path("x", "a.ipynb"), found, known) == second
    found["metadata"] = {}
    assert intake.which(Path("x", "a.ipynb"), found, known) == second
    found["cells"] = []
    assert intake.which(Path("x", "a.ipynb"), found, known) is None
    assert intake.which(Path("x", "a.ipynb"), None, known) is None


HOSTILE = {
    "[" * 100_000: "not a notebook",
    "[1, 2]": "format 4",
    '{"cells": 3, "nbformat": 4}': "format 4",
    '{"cells": [], "nbformat": 3}': "format 4",
    '{"cells": [], "nbformat": 4}': "no cell of",
    '{"cells": [1], "nbformat": 4}': "no cell of",
    '{"cells": [{"metadata": []}], "nbformat": 4, "metadata": 7}': "no cell of",
    json.dumps({"cells": [{}] * 1001, "nbformat": 4}): "1001 cells",
    "nonsense": "not JSON",
    " " * 5_000_001: "at most 5 MB",
}


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:30].strip() or "blank")
def test_what_is_no_submission_is_refused(
    text: str, known: dict[str, intake.Assignment], tmp_path: Path
) -> None:
    path = tmp_path / f"ada_{next(iter(known))}.ipynb"
    path.write_text(text, encoding="utf-8")
    one = intake.look_at(path, tmp_path, known)
    assert HOSTILE[text] in one.refused
    rows = marks.rows_of(one, {})
    assert len(rows) == len(one.assignment.exercises)
    assert all(row["points"] == "0" and row["note"] == one.refused for row in rows)


def test_a_link_is_refused(known: dict[str, intake.Assignment], tmp_path: Path) -> None:
    path = tmp_path / f"ada_{next(iter(known))}.ipynb"
    path.symlink_to("/etc/hostname")
    assert intake.look_at(path, tmp_path, known).refused == "not a plain file"


def test_points_in_a_submission_do_not_count(
    known: dict[str, intake.Assignment],
) -> None:
    assignment = next(iter(known.values()))
    found = json.loads(ex.to_text(ex.student(assignment.source)))
    for cell in found["cells"]:
        if "nbgrader" in cell["metadata"]:
            cell["metadata"]["nbgrader"] |= {"points": 1000, "locked": False}
    notebook, missing = intake.clean(found, assignment)
    assert not missing
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata:
            given = assignment.cells[cell.metadata.nbgrader.grade_id]
            assert cell.metadata.nbgrader == given.metadata.nbgrader


def test_the_newest_file_of_a_student_counts(
    known: dict[str, intake.Assignment], tmp_path: Path
) -> None:
    name, assignment = next(iter(known.items()))
    text = ex.to_text(ex.student(assignment.source))
    paths = [tmp_path / f"ada_{name}.ipynb", tmp_path / f"ada_{name} (1).ipynb"]
    for path, moment in zip(paths, (2000, 1000), strict=True):
        path.write_text(text, encoding="utf-8")
        os.utime(path, (moment, moment))
    submissions = [intake.look_at(path, tmp_path, known) for path in paths]
    intake.supersede(submissions)
    assert [bool(one.refused) for one in submissions] == [False, True]
    assert paths[0].name in submissions[1].refused
    assert submissions[0].modified == "1970-01-01T00:33:20Z"
