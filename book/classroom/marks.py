"""What comes of it: one row an exercise, for a person, for Canvas and for Moodle."""

from __future__ import annotations

import csv
import html
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from book.classroom import exercises as ex
from book.classroom.intake import Submission

FEEDBACK = "feedback"
COLUMNS = ["student", "assignment", "exercise", "title", "points", "of"]
COLUMNS += ["file", "modified", "release", "note"]
MARKS = "marks.csv"


def short(text: str, longest: int = 200) -> str:
    """One line, without what differs from run to run."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    text = re.sub(r"\b0x[0-9a-f]{6,}", "0x…", " ".join(text.split()))
    text = re.sub(r"/\S*/grade-\w+", "…", text)
    text = "".join(c for c in text if c.isprintable())
    return text if len(text) <= longest else text[: longest - 1] + "…"


def read_marks(folder: Path) -> dict[tuple[str, str], float]:
    """Points that a person gave: ``marks.csv`` beside the submissions."""
    path = folder / MARKS
    if not path.is_file():
        return {}
    found = {}
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                if points := (row["points"] or "").strip():
                    found[row["student"], row["exercise"]] = float(points)
            except (KeyError, ValueError):
                raise SystemExit(
                    f"{path}, line {number}: expected columns student, exercise and "
                    f"points, with a number; got {row}. Start from by_hand.csv."
                ) from None
    return found


def rows_of(one: Submission, marks: dict[tuple[str, str], float]) -> list[dict]:
    """One row an exercise; where nothing is known of them, one row."""
    usual = {
        "student": one.student,
        "assignment": one.assignment.name if one.assignment else "",
        "file": short(one.path.name),
        "modified": one.modified,
        "release": one.assignment.release if one.assignment else "",
    }
    if one.assignment is None:
        empty = {"exercise": "", "title": "", "points": "0", "of": ""}
        return [usual | empty | {"note": one.refused}]
    rows = []
    for exercise in one.assignment.exercises:
        points, notes = score(one, exercise, marks)
        rows.append(
            usual
            | {
                "exercise": exercise.name,
                "title": f"{exercise.number} {exercise.title}",
                "points": f"{points:g}",
                "of": str(exercise.points),
                "note": "; ".join([*notes, *one.notes]),
            }
        )
    return rows


def score(
    one: Submission, exercise: ex.Exercise, marks: dict[tuple[str, str], float]
) -> tuple[float, list[str]]:
    """Points of one exercise, and what there is to say about them."""
    if one.refused:
        return 0.0, [one.refused]
    points, notes = 0.0, []
    if exercise.check is not None:
        check = exercise.check.metadata.nbgrader.grade_id
        gone = [name for name in (exercise.name, check) if name in one.missing]
        if gone:
            notes.append(f"cell {gone[0]!r} was deleted")
        else:
            points += one.points[check]
            if one.points[check] < exercise.check.metadata.nbgrader.points:
                error = one.errors.get(exercise.name) or one.errors.get(check, "")
                notes.append(short(error) or "no point from the check")
    if exercise.explain is not None:
        name = exercise.explain.metadata.nbgrader.grade_id
        text = one.texts.get(name, "")
        given = marks.get((one.student, name), marks.get((one.student, exercise.name)))
        if name in one.missing:
            notes.append(f"cell {name!r} was deleted")
        elif not text or text == exercise.explain.source.strip():
            notes.append("no answer")
        elif given is None:
            notes.append("to be marked by hand")
        else:
            points += min(max(given, 0.0), exercise.manual_points)
            notes.append("marked by hand")
    return points, notes


def write_csv(path: Path, columns: Iterable[str], rows: Iterable[dict]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def totals(rows: list[dict]) -> dict[str, dict[str, float]]:
    """Student → assignment → points."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["assignment"]:
            mine = found.setdefault(row["student"], {})
            old = mine.get(row["assignment"], 0.0)
            mine[row["assignment"]] = old + float(row["points"])
    return found


def write_lms(out: Path, submissions: list[Submission], rows: list[dict]) -> None:
    """``canvas.csv`` and ``moodle.csv``: a column an assignment."""
    points = totals(rows)
    names = sorted({row["assignment"] for row in rows if row["assignment"]})
    most = {
        one.assignment.name: sum(e.points for e in one.assignment.exercises)
        for one in submissions
        if one.assignment
    }
    numbers = {one.student: one.canvas_id for one in submissions if one.canvas_id}
    canvas = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    table = [
        {"Student": "    Points Possible"} | {name: str(most[name]) for name in names}
    ]
    for student in sorted(points):
        marks = {name: f"{value:g}" for name, value in points[student].items()}
        number = numbers.get(student, "")
        table.append(
            {"Student": student, "ID": number, "SIS Login ID": student} | marks
        )
    write_csv(out / "canvas.csv", [*canvas, *names], table)
    table = [
        {"username": student} | {n: f"{v:g}" for n, v in points[student].items()}
        for student in sorted(points)
    ]
    write_csv(out / "moodle.csv", ["username", *names], table)


def write_by_hand(out: Path, submissions: list[Submission]) -> int:
    """``by_hand.csv``: every text that a person marks; save it as marks.csv."""
    rows = []
    for one in submissions:
        if one.refused or one.assignment is None:
            continue
        for exercise in one.assignment.exercises:
            if exercise.explain is None:
                continue
            name = exercise.explain.metadata.nbgrader.grade_id
            text = one.texts.get(name, "")
            if text and text != one.assignment.cells[name].source.strip():
                # A space before what a spreadsheet would take for a formula.
                text = f" {text}" if text[0] in "=+-@\t" else text
                of = exercise.manual_points
                found = {"student": one.student, "exercise": name, "of": of}
                rows.append(found | {"points": "", "answer": text})
    write_csv(
        out / "by_hand.csv", ["student", "exercise", "of", "points", "answer"], rows
    )
    return len(rows)


def write_reason(out: Path, one: Submission) -> None:
    """A page for a submission that nbgrader made none for."""
    text = html.escape(f"{one.path.name}: {one.refused or 'no feedback was made'}")
    page = '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8" />\n'
    page += f"<title>Not graded</title>\n<h1>Not graded</h1>\n<p>{text}</p>\n</html>\n"
    (out / one.page).write_text(page, encoding="utf-8")


def name_pages(submissions: list[Submission]) -> None:
    """A page for each file, under the student's name."""
    seen: Counter[str] = Counter()
    for one in submissions:
        name = f"{one.student}-{one.assignment.name if one.assignment else 'unknown'}"
        name = name.replace(" ", "_")
        seen[name] += 1
        number = f"-{seen[name]}" if seen[name] > 1 else ""
        one.page = f"{FEEDBACK}/{name}{number}.html"
