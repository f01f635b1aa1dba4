"""The page *For instructors*: its minutes add up, its exercises exist."""

import re

import pytest
from roots import ROOT

from book.classroom import exercises as ex
from book.classroom import intake, marks, sandbox

PAGE = (ROOT / "chapters" / "for_instructors.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
FOUND = {e.number: e for path in ex.sources() for e in ex.exercises(ex.read(path))}
SYLLABI = re.findall(
    r"^### ([^\n(]+) \((\d+) minutes\)\n(.*?)(?=^#)", PAGE, re.MULTILINE | re.DOTALL
)


def table(text: str) -> list[list[str]]:
    """The rows of the first table in a text, without its head and its links."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    rows = [line for line in text.split("\n") if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {title}\n")[1], flags=re.MULTILINE)[0]


def chapter(number: int) -> str:
    (path,) = (ROOT / "chapters").glob(f"{number:02}_*.ipynb")
    return "\n".join(cell.source for cell in ex.read(path).cells)


def minutes_to_read(number: int) -> int:
    return int(re.search(r"(\d+)\s+minutes\s+to\s+read", chapter(number))[1])


def minutes(numbers: str) -> int:
    return sum(FOUND[n].minutes for n in re.findall(r"\d+\.\d+", numbers))


def test_chapters_are_described_with_their_minutes() -> None:
    rows = table(section("What each chapter teaches, and takes for granted"))
    numbers = [int(path.stem[:2]) for path in ex.sources()]
    assert [int(row[0]) for row in rows] == numbers
    for number, _, _, reading, count, spent, points in rows:
        mine = [e for e in FOUND.values() if e.number.startswith(f"{number}.")]
        assert int(reading) == minutes_to_read(int(number)), number
        assert int(count) == len(mine), number
        assert int(spent) == sum(e.minutes for e in mine), number
        assert int(points) == sum(e.points for e in mine), number


def test_misconceptions_name_exercises_that_exist() -> None:
    rows = table(section("Misconceptions, and the exercise that exposes each"))
    assert len(rows) >= 15
    for *_, named in rows:
        for one in named.split("; "):
            number, _, title = one.partition(" ")
            assert FOUND[number].title == title


def test_there_are_three_syllabi() -> None:
    assert [name for name, _, _ in SYLLABI] == ["Half a day", "Two days", "Six weeks"]


@pytest.mark.parametrize(("name", "total", "text"), SYLLABI, ids=lambda x: str(x)[:12])
def test_minutes_of_a_syllabus_add_up(name: str, total: str, text: str) -> None:
    spent = 0
    for row in table(text):
        if len(row) == 2:
            part, time = row
        else:
            _, _, time, part, at_home = row
            spent += int(at_home)
            assert int(at_home) == minutes(part), part
        spent += int(time)
        if match := re.search(r"Chapter (\d+), read and run together", part):
            assert int(time) == minutes_to_read(int(match[1])), part
        elif part.startswith("Exercises"):
            assert int(time) == minutes(part), part
    assert spent == int(total)


def test_every_assignment_is_in_the_calendar() -> None:
    named = re.findall(r"`(\d\d_\w+)`", section("Calendar of assignments"))
    assert named == [path.stem for path in ex.sources()]


def test_commands_and_columns_are_those_of_the_program() -> None:
    for target in re.findall(r"(?:`|^|grader )make\s([a-z-]+)", PAGE, re.MULTILINE):
        assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE), target
    text = section("Grade")
    listed = re.search(r"Columns: (.*?);", text, re.DOTALL)[1]
    assert re.findall(r"`(\w+)`", listed) == marks.COLUMNS
    limits = sandbox.Limits()
    assert f"A cell may run {limits.cell_seconds} seconds" in text
    assert f"a submission {limits.seconds}" in text
    assert f"{limits.memory // 1024**3}\nGiB" in text
    assert f"larger than {intake.MAX_BYTES // intake.MEGABYTE} MB" in text


def test_columns_of_the_imports() -> None:
    source = (ROOT / "book" / "classroom" / "marks.py").read_text(encoding="utf-8")
    text = " ".join(section("Import into an LMS").split())
    for column in ("Student", "ID", "SIS User ID", "SIS Login ID", "Section"):
        assert f'"{column}"' in source
        assert f"`{column}`" in text
    assert '"username"' in source
    assert "`username`" in text
