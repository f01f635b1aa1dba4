"""Assignments: what an instructor gives out, keeps, and grades with.

    python -m book.classroom.assignments [--seed K]

writes ``_build/assignments/``: ``student/``, ``instructor/`` (executed, with
solutions), a zip of each, and ``course/``, a course folder of nbgrader.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from book import ROOT
from book.classroom import exercises as ex
from book.notebooks import canonical, execute, to_text
from book.packing import pack

OUT = ROOT / "_build" / "assignments"
PYTHON = ROOT / ".venv-instructor" / "bin" / "python"
WORKER = ROOT / "book" / "classroom" / "worker.py"
BUILT = ".built"

CONFIG = '''\
"""A course of nbgrader; the options: https://nbgrader.readthedocs.io"""

c = get_config()  # noqa: F821

c.CourseDirectory.course_id = "mattn"
c.Execute.timeout = {seconds}
'''
GITIGNORE = "gradebook.db*\nsubmitted/\nautograded/\nfeedback/\n"
CELL_SECONDS = 60


def write_student(folder: Path, paths: Iterable[Path], seed: int) -> None:
    """The released notebooks."""
    for path in paths:
        released = ex.student(ex.prepared(path, seed))
        ex.write_if_new(folder / path.name, to_text(released))


def write_instructor(folder: Path, paths: Iterable[Path], seed: int) -> None:
    """The sources, executed: what every check and figure should look like."""

    def solved(path: Path) -> None:
        target = folder / path.name
        ex.write_if_new(target, to_text(ex.prepared(path, seed)))
        target.write_text(to_text(canonical(execute(target))), encoding="utf-8")

    paths = list(paths)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(solved, paths))
    ex.write_if_new(folder / "rubrics.md", rubrics(paths))


def rubrics(paths: Iterable[Path]) -> str:
    """The rubric of every exercise that a person marks."""
    parts = ["# Rubrics\n\nOne line of equal weight for each thing that earns points."]
    for path in paths:
        if not (ex.ANSWERS / f"{path.stem}.toml").is_file():
            continue
        table = {r["exercise"]: r["points"] for r in ex.answers(path.stem)["rubric"]}
        for exercise in ex.exercises(ex.read(path)):
            if exercise.explain is None:
                continue
            name = exercise.explain.metadata.nbgrader.grade_id
            parts.append(
                f"## {exercise.number} {exercise.title} "
                f"({exercise.manual_points} points, `{name}`)\n\n"
                + "\n".join(f"- {point}" for point in table.get(name, []))
            )
    return "\n\n".join(parts) + "\n"


def write_course(folder: Path, paths: Iterable[Path], seed: int) -> None:
    """A course of nbgrader, as `nbgrader quickstart` lays it out, and released."""
    folder.mkdir(parents=True)
    config = CONFIG.format(seconds=CELL_SECONDS)
    (folder / "nbgrader_config.py").write_text(config, encoding="utf-8")
    (folder / ".gitignore").write_text(GITIGNORE, encoding="utf-8")
    for path in paths:
        source = folder / "source" / path.stem / path.name
        ex.write_if_new(source, to_text(ex.prepared(path, seed)))
    release(folder)


def release(course: Path) -> None:
    """What nbgrader itself releases, and its gradebook."""
    if not PYTHON.is_file():
        raise SystemExit("nbgrader is not set up: `make assignments` does it")
    done = subprocess.run(
        [PYTHON, WORKER, "release"],
        cwd=course,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"nbgrader did not release the course:\n{done.stdout}")


def make(out: Path, paths: list[Path], seed: int, instructor: bool = True) -> None:
    """Everything, anew: what was there before is removed."""
    for name in ("student", "instructor", "course"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / BUILT).unlink(missing_ok=True)
    write_student(out / "student", paths, seed)
    pack(out / "student", out / "student.zip", "mattn-student", hidden=True)
    if instructor:
        write_instructor(out / "instructor", paths, seed)
        pack(
            out / "instructor", out / "instructor.zip", "mattn-instructor", hidden=True
        )
    write_course(out / "course", paths, seed)
    (out / BUILT).write_text(f"seed {seed}\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the numbers")
    options = parser.parse_args(arguments)
    if not 0 <= options.seed < 2**31:
        parser.error("the seed must be a whole number, 0 or more")
    make(OUT, ex.sources(), options.seed)
    found = [e for path in ex.sources() for e in ex.exercises(ex.read(path))]
    print(
        f"{len(found)} exercises in {len(ex.sources())} notebooks, seed "
        f"{options.seed}: {OUT.relative_to(ROOT)}/"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
