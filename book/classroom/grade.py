"""Grade a folder of submitted notebooks: one file a student, one row an exercise.

    python -m book.classroom.grade SUBMISSIONS [--out DIR] [--course DIR] ...

nbgrader does the grading, wrapped: each submission is looked at before anything
of it runs, then graded in a course, a process group and (where the system can)
a network and process namespace of its own, under limits on time and memory.
Whatever it does, it costs nobody else a row. The page *For instructors* says
what this isolation is and what it is not.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from book import ROOT
from book.classroom.assignments import BUILT, OUT
from book.classroom.intake import (
    Submission,
    course_assignments,
    files,
    look_at,
    supersede,
)
from book.classroom.marks import (
    COLUMNS,
    FEEDBACK,
    name_pages,
    read_marks,
    rows_of,
    short,
    write_by_hand,
    write_csv,
    write_lms,
    write_reason,
)
from book.classroom.sandbox import Limits, isolation, run


def place_in_order(one: Submission) -> tuple[str, str, str]:
    assignment = one.assignment.name if one.assignment else ""
    return one.student, assignment, str(one.path)


def grade_folder(
    folder: Path,
    out: Path,
    course: Path,
    limits: Limits,
    isolated: list[str] | None,
    jobs: int = 2,
) -> list[dict]:
    """Every submission of a folder; the rows that were written."""
    marks = read_marks(folder)  # first: a slip in it must not cost a grading
    known = course_assignments(course)
    submissions = [look_at(path, folder, known) for path in files(folder)]
    submissions.sort(key=place_in_order)
    supersede(submissions)
    name_pages(submissions)
    shutil.rmtree(out / FEEDBACK, ignore_errors=True)
    (out / FEEDBACK).mkdir(parents=True)

    def do(one: Submission) -> None:
        _grade(one, course, limits, isolated, out)

    with ThreadPoolExecutor(jobs) as pool:
        list(
            pool.map(
                lambda one: _grade(one, course, limits, isolated, out), submissions
            )
        )
    rows = [row for one in submissions for row in rows_of(one, marks)]
    write_csv(out / "grades.csv", COLUMNS, rows)
    counted = [r for r in rows if "a newer file counts" not in r["note"]]
    write_lms(out, submissions, counted)
    write_by_hand(out, submissions)
    return rows


def _grade(
    one: Submission, course: Path, limits: Limits, isolated: list[str] | None, out: Path
) -> None:
    """Points and a page for one of them, or the reason why there are none."""
    began = time.perf_counter()
    if not one.refused:
        try:
            run(one, course, limits, isolated, out)
        except Exception as error:  # whatever it is, the others go on
            one.refused = short(f"could not be run: {error}")
    if not (out / one.page).is_file():
        write_reason(out, one)
    said = one.refused or f"graded in {time.perf_counter() - began:.0f} s"
    print(f"{one.student}: {short(said)}", flush=True)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submissions", help="a folder of notebooks, one a student")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "grades")
    parser.add_argument("--course", type=Path, default=OUT / "course")
    parser.add_argument("--seconds", type=float, default=Limits.seconds)
    parser.add_argument("--cell-seconds", type=int, default=Limits.cell_seconds)
    parser.add_argument("--memory", type=float, default=Limits.memory / 1024**3)
    parser.add_argument("--jobs", type=int, default=2, help="at the same time")
    options = parser.parse_args(arguments)
    folder = Path(options.submissions)
    if not options.submissions or not folder.is_dir():
        parser.error("name the folder: make grade SUBMISSIONS=folder")
    if not (options.course.parent / BUILT).is_file():
        parser.error(f"no course in {options.course}: `make assignments` first")
    isolated = isolation()
    if isolated is None and os.environ.get("ALLOW_NETWORK") != "1":
        print(
            "This system cannot cut submissions off from the network (it needs Linux, "
            "unshare, and user namespaces or root). Grade in a container without "
            "network, or, if you trust every submission: ALLOW_NETWORK=1",
            file=sys.stderr,
        )
        return 1
    limits = Limits(
        options.seconds, options.cell_seconds, int(options.memory * 1024**3)
    )
    rows = grade_folder(
        folder, options.out, options.course, limits, isolated, options.jobs
    )
    print(f"{len(rows)} rows: {options.out / 'grades.csv'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
