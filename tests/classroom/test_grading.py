"""From release to grades: nbgrader agrees, and no submission stops another's.

What runs nbgrader is ``long`` and needs .venv-instructor, which `make test-long`
sets up.
"""

import contextlib
import csv
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import classroom
import pytest
from roots import ROOT

from book.classroom import assignments, marks, sandbox
from book.classroom import exercises as ex

GRADED = "01_concept"
needs_nbgrader = pytest.mark.skipif(
    not assignments.PYTHON.is_file(),
    reason="nbgrader is not set up: `make test-long` does it",
)
LIMITS = ["--seconds", "240", "--cell-seconds", "30"]


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
    command += ["--nbval-cell-timeout", "3600", str(executed)]
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
