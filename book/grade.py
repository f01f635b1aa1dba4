"""Grade a folder of submitted notebooks: one file a student, one row an exercise.

    python book/grade.py SUBMISSIONS [--out DIR] [--course DIR] ...

nbgrader does the grading, wrapped: each submission is looked at before anything
of it runs, then graded in a course, a process group and (where the system can)
a network and process namespace of its own, under limits on time and memory.
Whatever it does, it costs nobody else a row. The page *For instructors* says
what this isolation is and what it is not.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import nbgrader_worker
from assignments import BUILT, CELL_SECONDS, OUT, PYTHON, WORKER
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from nbgrader_worker import charged, family, only_loopback
from notebooks import KERNEL, ROOT, to_text

import exercises as ex

MEGABYTE = 10**6
MAX_BYTES, MAX_CELLS = 5 * MEGABYTE, 1000
MAX_FILE = 256 * MEGABYTE  # that a submission may write
STUDENT = "submission"  # what nbgrader is told: names stay out of paths
FEEDBACK = "feedback"
COLUMNS = ["student", "assignment", "exercise", "title", "points", "of"]
COLUMNS += ["file", "modified", "release", "note"]
MARKS = "marks.csv"

# From the strongest on: cut off from the network in each of them.
ISOLATIONS = (
    "unshare --user --map-root-user --net --pid --fork --kill-child=KILL --mount-proc",
    "unshare --user --map-root-user --net",
    "unshare --net",
)
NO_NETWORK = (
    f"import sys; sys.path.insert(0, {str(ROOT / 'book')!r})\n"
    "from nbgrader_worker import loopback_up, only_loopback\n"
    "loopback_up(); sys.exit(not only_loopback())"
)


class Refused(Exception):
    """A submission that is not run, and why."""


@dataclass(frozen=True)
class Limits:
    """What one submission may use."""

    seconds: float = 300
    cell_seconds: int = CELL_SECONDS
    memory: int = 4 * 1024**3  # bytes


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

    @property
    def modified(self) -> str:
        moment = datetime.fromtimestamp(self.path.lstat().st_mtime, UTC)
        return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


# Before anything runs: who, what, and whether it is a notebook at all.


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
        original = given.get(grade_id(cell))
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
    one = Submission(path, student, canvas_id, known.get(name), refused=refused)
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


# One submission, in a process group of its own.


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
    name = one.assignment.name
    submitted = folder / "submitted" / STUDENT / name / f"{name}.ipynb"
    ex.write_if_new(submitted, to_text(one.notebook))
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
    spent, used, seen = 0.0, 0.0, {}
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
        if (left := nbgrader_worker.process(pid)) and left.began == began:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
    process.wait()


def run(
    one: Submission, course: Path, limits: Limits, isolated: list[str] | None, out: Path
) -> None:
    """Grade one submission; whatever happens, it has points or a reason."""
    graded = [
        name for name, cell in one.assignment.cells.items() if ex.is_(cell, "grade")
    ]
    job = {
        "assignment": one.assignment.name,
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
        try:
            done = json.loads((folder / "result.json").read_text(encoding="utf-8"))
            if "error" in done:
                one.refused = short(f"not graded: {done['error']}")
                return
            one.points = {name: float(done["points"][name]) for name in graded}
            one.errors = {str(k): str(v) for k, v in done["errors"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            one.refused = f"not graded: exit status {process.returncode}"
            return
        page = folder / FEEDBACK / STUDENT / one.assignment.name
        page /= f"{one.assignment.name}.html"
        if page.is_file() and not page.is_symlink():
            shutil.copyfile(page, out / one.page)


# What comes of it.


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
        elif not text or text == one.assignment.cells[name].source.strip():
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
    submissions.sort(
        key=lambda one: (
            one.student,
            one.assignment.name if one.assignment else "",
            str(one.path),
        )
    )
    supersede(submissions)
    name_pages(submissions)
    shutil.rmtree(out / FEEDBACK, ignore_errors=True)
    (out / FEEDBACK).mkdir(parents=True)

    def do(one: Submission) -> None:
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

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(do, submissions))
    rows = [row for one in submissions for row in rows_of(one, marks)]
    write_csv(out / "grades.csv", COLUMNS, rows)
    counted = [r for r in rows if "a newer file counts" not in r["note"]]
    write_lms(out, submissions, counted)
    write_by_hand(out, submissions)
    return rows


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
