"""From release to grades: nbgrader agrees, and no submission stops another's.

What runs nbgrader is ``long`` and needs .venv-instructor, which `make test-long`
sets up.
"""

import asyncio
import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import classroom
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from stored_state import ROOT

from book.classroom import assignments, intake, marks, sandbox, worker
from book.classroom import exercises as ex

GRADED = "01_concept"
needs_nbgrader = pytest.mark.skipif(
    not assignments.PYTHON.is_file(),
    reason="nbgrader is not set up: `make test-long` does it",
)
LIMITS = ["--seconds", "240", "--cell-seconds", "30"]


# What is looked at before anything runs.


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


# Limits from outside.


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
    """On a clock eight times as fast, a process seems to get an eighth of a CPU."""
    clock = SimpleNamespace(monotonic=lambda: 8 * time.monotonic(), sleep=time.sleep)
    monkeypatch.setattr(sandbox, "time", clock)
    process = started(SPIN)
    assert sandbox.watched(process, sandbox.Limits(seconds=6)) == ""
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


@pytest.mark.parametrize(
    "text",
    ["student,exercise,points\nada,explain,full\n", "student;exercise;points\na;b;1\n"],
)
def test_marks_that_cannot_be_read_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "marks.csv").write_text(text)
    with pytest.raises(SystemExit, match="line 2: expected columns student"):
        marks.read_marks(tmp_path)


def test_marks_are_read_and_empty_ones_left_out(tmp_path: Path) -> None:
    text = "student,exercise,points\nada,explain,2.5\ngrace,explain,\n"
    (tmp_path / "marks.csv").write_text(text)
    assert marks.read_marks(tmp_path) == {("ada", "explain"): 2.5}


def test_without_isolation_it_refuses(tmp_path: Path) -> None:
    course = tmp_path / "course"
    course.mkdir()
    (tmp_path / assignments.BUILT).touch()
    script = (
        "import sys; from book.classroom import grade; grade.isolation = lambda: None; "
        "sys.exit(grade.main())"
    )
    command = [sys.executable, "-c", script, str(tmp_path), "--course", str(course)]
    command += ["--out", str(tmp_path / "out")]
    usual = {k: v for k, v in os.environ.items() if k != "ALLOW_NETWORK"}
    usual["PYTHONPATH"] = str(ROOT)
    options = {"capture_output": True, "text": True, "check": False}
    done = subprocess.run(command, env=usual, **options)
    assert done.returncode == 1
    assert "ALLOW_NETWORK=1" in done.stderr
    allowed = subprocess.run(command, env=usual | {"ALLOW_NETWORK": "1"}, **options)
    assert allowed.returncode == 0, allowed.stderr
    assert (tmp_path / "out" / "grades.csv").is_file()


# nbgrader itself.


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every assignment as it is given out, but for the executed notebooks."""
    out = tmp_path_factory.mktemp("assignments")
    assignments.make(out, ex.sources(), seed=0, instructor=False)
    return out


@pytest.mark.long
@needs_nbgrader
@pytest.mark.parametrize("path", ex.sources(), ids=lambda path: path.stem)
def test_released_is_what_nbgrader_releases(path: Path, built: Path) -> None:
    ours = json.loads((built / "student" / path.name).read_text(encoding="utf-8"))
    theirs = built / "course" / "release" / path.stem / path.name
    assert ours == json.loads(theirs.read_text(encoding="utf-8"))


def graded(folder: Path, out: Path, course: Path) -> list[dict[str, str]]:
    """What one command makes of a folder of submissions."""
    command = [sys.executable, "-m", "book.classroom.grade", str(folder)]
    command += ["--out", str(out), "--course", str(course), *LIMITS]
    allowed = os.environ | {"ALLOW_NETWORK": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=allowed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with (out / "grades.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def assert_as_expected(
    rows: list[dict[str, str]], handed: dict[str, classroom.Handed], names: list[str]
) -> None:
    found = {}
    for kind, expected in handed.items():
        mine = [row for row in rows if row["student"] == kind]
        assert [row["exercise"] for row in mine] == names, kind
        points = {row["exercise"]: float(row["points"]) for row in mine}
        notes = [row["note"] for row in mine]
        said = [expected.note in note for note in notes]
        if points != expected.points or not any(said):
            found[kind] = (points, expected.points, notes)
        if expected.refused:
            assert all(said), (kind, notes)
    assert not found


@pytest.mark.long
@needs_nbgrader
def test_a_class_of_thirty_earns_what_it_should(built: Path, tmp_path: Path) -> None:
    desk = classroom.Desk(ex.SOURCES / f"{GRADED}.ipynb", built / "course")
    kinds = list(classroom.KINDS)
    assert len(kinds) == 30
    if sandbox.isolation() is None:
        kinds.remove("network")
    folder, out = tmp_path / "class", tmp_path / "grades"
    handed = classroom.hand_in(folder, desk, kinds)
    rows = graded(folder, out, built / "course")
    names = [e.name for e in desk.exercises]
    assert_as_expected(rows, handed, names)
    assert len(rows) == len(kinds) * len(names)
    for row in rows:
        release = desk.source.metadata.mattn.release
        assert row["release"] == release
        assert row["file"] == f"{row['student']}_{GRADED}.ipynb"
        assert row["modified"].endswith("Z")
    pages = {path.stem for path in (out / "feedback").glob("*.html")}
    assert pages == {f"{kind}-{GRADED}" for kind in kinds}
    page = (out / "feedback" / f"script-{GRADED}.html").read_text(encoding="utf-8")
    assert "<b>here</b>" in page
    assert "<script>stolen" not in page
    assert_imports(out, desk, handed)


def assert_imports(
    out: Path, desk: classroom.Desk, handed: dict[str, classroom.Handed]
) -> None:
    """What Canvas and Moodle read says the same."""
    with (out / "canvas.csv").open(encoding="utf-8", newline="") as file:
        possible, *canvas = csv.DictReader(file)
    assert possible["Student"].strip() == "Points Possible"
    assert float(possible[GRADED]) == sum(e.points for e in desk.exercises)
    with (out / "moodle.csv").open(encoding="utf-8", newline="") as file:
        moodle = list(csv.DictReader(file))
    for kind, expected in handed.items():
        total = sum(expected.points.values())
        (row,) = [row for row in canvas if row["SIS Login ID"] == kind]
        assert float(row[GRADED]) == total
        (row,) = [row for row in moodle if row["username"] == kind]
        assert float(row[GRADED]) == total


@pytest.mark.long
@needs_nbgrader
def test_twice_the_same_and_marks_by_hand(built: Path, tmp_path: Path) -> None:
    desk = classroom.Desk(ex.SOURCES / f"{GRADED}.ipynb", built / "course")
    folder = tmp_path / "class"
    classroom.hand_in(folder, desk, ["right", "wrong-a", "exit", "not-json"])
    first = graded(folder, tmp_path / "one", built / "course")
    again = graded(folder, tmp_path / "two", built / "course")
    assert again == first
    for name in ("grades.csv", "canvas.csv", "moodle.csv", "by_hand.csv"):
        one, two = ((tmp_path / out / name).read_bytes() for out in ("one", "two"))
        assert one == two
    with (tmp_path / "one" / "by_hand.csv").open(encoding="utf-8") as file:
        by_hand = list(csv.DictReader(file))
    assert {row["student"] for row in by_hand} == {"right", "wrong-a", "exit"}
    (folder / "wrong-a_01_concept.ipynb").unlink()
    (folder / "exit_01_concept.ipynb").unlink()
    for row in by_hand:
        row["points"] = "2.5"
    marks.write_csv(folder / marks.MARKS, by_hand[0], by_hand)
    marked = graded(folder, tmp_path / "three", built / "course")
    for old, new in zip(
        [row for row in first if row["student"] in ("right", "not-json")],
        marked,
        strict=True,
    ):
        if old["note"] == "to be marked by hand":
            assert (new["points"], new["note"]) == ("2.5", "marked by hand")
        else:
            assert new == old


# Instructors' notebooks, and students' on an empty machine.


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("instructor")
    assignments.write_instructor(out, ex.sources(), seed=0)
    return out


@pytest.mark.long
def test_instructor_notebooks_pass_nbval(executed: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q"]
    command += ["-n", "2", "--dist", "loadfile", "--nbval", "--nbval-current-env"]
    command += ["--nbval-cell-timeout", "300", str(executed)]
    done = subprocess.run(
        command, cwd=executed, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:]


@pytest.mark.long
@needs_nbgrader
def test_instructor_notebooks_pass_nbgrader(built: Path, tmp_path: Path) -> None:
    folder = tmp_path / "class"
    desks = [classroom.Desk(path, built / "course") for path in ex.sources()]
    for desk in desks:
        classroom.hand_in(folder, desk, ["right"])
    rows = graded(folder, tmp_path / "out", built / "course")
    for desk in desks:
        mine = [row for row in rows if row["assignment"] == desk.name]
        points = {row["exercise"]: float(row["points"]) for row in mine}
        assert points == desk.full(), [row["note"] for row in mine]


ALONE = """
import json, sys
from pathlib import Path

assert not any(Path().iterdir())
for path in sys.argv[1:]:
    space = {"__name__": "__main__"}
    for cell in json.loads(Path(path).read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] != "code":
            continue
        meta = cell["metadata"].get("nbgrader", {})
        try:
            exec("".join(cell["source"]), space)
        except BaseException as error:
            if not (meta.get("grade") or meta.get("solution")):
                raise
            if isinstance(error, (ImportError, OSError)):
                raise
        else:
            assert not meta.get("grade"), f"{path}: a check passes as released"
assert "mattn" in sys.modules and "nbformat" not in sys.modules
try:
    import nbformat
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("not alone")
"""


def needed_by(name: str, found: set[str]) -> set[str]:
    """The installed distributions that one brings along, itself included."""
    if name not in found:
        found.add(name)
        for line in metadata.requires(name) or []:
            need, _, when = line.partition(";")
            other = re.match(r"[\w.-]+", need.strip())[0]
            with contextlib.suppress(metadata.PackageNotFoundError):
                if "extra" not in when and metadata.distribution(other):
                    needed_by(re.sub(r"[-_.]+", "-", other).lower(), found)
    return found


@pytest.mark.long
def test_student_notebooks_run_with_mattn_alone(tmp_path: Path) -> None:
    """In an empty folder, where nothing can be imported but what mattn brings."""
    assignments.write_student(tmp_path / "student", ex.sources(), seed=0)
    notebooks = sorted((tmp_path / "student").glob("*.ipynb"))
    assert len(notebooks) == len(ex.sources())
    installed = tmp_path / "installed"
    installed.mkdir()
    (installed / "mattn").symlink_to(ROOT / "mattn")
    for name in needed_by("mattn", set()) - {"mattn"}:
        distribution = metadata.distribution(name)
        for top in {file.parts[0] for file in distribution.files} - {".."}:
            place = Path(distribution.locate_file(top))
            if place.exists() and not (installed / top).exists():
                (installed / top).symlink_to(place)
    (tmp_path / "empty").mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    environment |= {"MPLBACKEND": "Agg", "MATTN_PROGRESS": "0"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", ALONE, *map(str, notebooks)],
        cwd=tmp_path / "empty",
        env=environment | {"PYTHONPATH": str(installed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
