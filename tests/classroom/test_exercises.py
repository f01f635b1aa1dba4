"""Exercises: the sources, their solutions, and answers that people really give.

    pytest tests/classroom/test_exercises.py -k 02_mask_matrix

checks one notebook: its form, its solutions, its released stubs, and every
answer in ``exercises/answers/02_mask_matrix.toml``.
"""

import ast
import html
import json
import re
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from exercise_runs import Attempt, Runner, headings, run_alone, run_whole
from roots import ROOT
from stored_state import MACHINE, code_cells, n_words

from book.classroom import exercises as ex
from book.notebooks import canonical, to_text

CHAPTERS = ROOT / "chapters"
STEMS = [path.stem for path in ex.sources()]
GRADE_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
ALLOWED_IMPORTS = {"mattn", "matplotlib", "numpy", "torch"}


def notebook_of(stem: str) -> Any:
    return ex.read(ex.SOURCES / f"{stem}.ipynb")


def exercises_of(stem: str) -> list[ex.Exercise]:
    """Empty where the notebook is not in the format: another test says why."""
    try:
        return ex.exercises(notebook_of(stem))
    except ex.SourceError:
        return []


def answers_of(stem: str) -> list[dict[str, Any]]:
    path = ex.ANSWERS / f"{stem}.toml"
    return ex.answers(stem)["answer"] if path.is_file() else []


ANSWERS = [
    pytest.param(stem, answer, id=f"{stem}-{answer['exercise']}-{answer['kind']}")
    for stem in STEMS
    for answer in answers_of(stem)
]


@pytest.fixture(scope="module")
def run() -> Iterator[Runner]:
    runner = Runner()
    yield runner
    runner.close()


# The form of a source notebook.


@pytest.mark.parametrize("stem", STEMS)
def test_form(stem: str) -> None:
    found = list(faults_of_form(stem))
    assert not found, "\n" + "\n".join(f"{stem}: {fault}" for fault in found)


def faults_of_form(stem: str) -> Iterator[str]:
    text = (ex.SOURCES / f"{stem}.ipynb").read_text(encoding="utf-8")
    notebook = notebook_of(stem)
    if to_text(canonical(deepcopy(notebook))) != text:
        yield "not in canonical form: python -m book.notebooks tidy exercises/*.ipynb"
    chapter = CHAPTERS / f"{stem}.ipynb"
    if not chapter.is_file():
        yield f"no chapter {chapter.name}"
        return
    title = ex.read(chapter).cells[0].source.split("\n")[0].removeprefix("# ")
    first = notebook.cells[0].source.split("\n")[0].removeprefix("# Exercises: ")
    if first not in {title, title.split(":")[0]}:
        yield f"begins with {first!r}, not '# Exercises: {title}'"
    yield from faults_of_cells(notebook)
    yield from faults_of_setup(notebook)
    yield from faults_of_ids(notebook)
    try:
        found = ex.exercises(notebook)
    except ex.SourceError as error:
        yield str(error)
        return
    number = int(stem[:2])
    if [e.number for e in found] != [f"{number}.{i + 1}" for i in range(len(found))]:
        yield f"numbers {[e.number for e in found]} do not count {number}.1, …"
    if not 4 <= len(found) <= 6:
        yield f"{len(found)} exercises; expected 4 to 6"
    for e in found:
        for fault in faults_of_exercise(e, headings(chapter)):
            yield f"{e.number} {e.title}: {fault}"


def faults_of_cells(notebook: Any) -> Iterator[str]:
    for cell in code_cells(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {cell.id} stores outputs or a count"
        if not cell.source.strip():
            yield f"cell {cell.id} is empty"
        for line in cell.source.split("\n"):
            if len(line) > 79:
                yield f"line of {len(line)} columns, at most 79: {line[:40]!r}"
            if re.match(r"\s*[!%]", line):
                yield f"a shell or magic line: {line!r}"
    for cell in notebook.cells:
        for tag in set(cell.metadata.get("tags", [])) - {"parameters"}:
            yield f"cell {cell.id} has the tag {tag!r}"
        if match := MACHINE.search(cell.source):
            yield f"a path or address: {match[0]!r}"
        if cell.cell_type == "markdown":
            if match := re.search(r"(?:```|:::)\{\w|\{[\w:-]+\}`", cell.source):
                yield f"MyST shows raw in Jupyter and Colab: {match[0]!r}"
            if cell.source.count("<details>") != cell.source.count("</details>"):
                yield f"cell {cell.id}: <details> without </details>"


def faults_of_setup(notebook: Any) -> Iterator[str]:
    """Imports, then the cell with the seed, before the first exercise."""
    cells = code_cells(notebook)
    if "nbgrader" in cells[0].metadata or "start(0)" not in cells[0].source:
        yield "the first code cell is not the plain one with the imports and start(0)"
    try:
        if cells[1] is not ex.seed_cell(notebook):
            yield "the cell tagged 'parameters' is not the second code cell"
    except ex.SourceError as error:
        yield str(error)
    if "nbgrader" in cells[1].metadata:
        yield "the cell tagged 'parameters' has nbgrader metadata"
    for cell in cells:
        try:
            tree = ast.parse(cell.source)
        except SyntaxError as error:
            yield f"{error}: {cell.source[:40]!r}"
            continue
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom):
                names = [node.module or "."]
            for name in {name.split(".")[0] for name in names} - ALLOWED_IMPORTS:
                if name not in sys.stdlib_module_names:
                    yield f"imports {name}"


def faults_of_ids(notebook: Any) -> Iterator[str]:
    cells = [c for c in notebook.cells if "nbgrader" in c.metadata]
    ids = [cell.metadata.nbgrader.get("grade_id", "") for cell in cells]
    for name, count in Counter(ids).items():
        if count > 1:
            yield f"grade_id {name!r} occurs {count} times"
        if not GRADE_ID.fullmatch(name):
            yield f"grade_id {name!r} is not lower-case-with-hyphens"
    for cell in cells:
        expected = {"schema_version": 3, "cell_type": cell.cell_type, "task": False}
        meta = cell.metadata.nbgrader
        for key, value in expected.items():
            if meta.get(key) != value:
                yield f"{meta.get('grade_id')}: {key} is {meta.get(key)!r}"
        if meta.get("locked") is not ex.is_locked(cell):
            yield f"{meta.get('grade_id')}: locked is {meta.get('locked')!r}"
        if meta.get("grade") and not meta.get("points", 0) > 0:
            yield f"{meta.get('grade_id')}: points missing"


def faults_of_exercise(e: ex.Exercise, sections: set[str]) -> Iterator[str]:
    if e.section not in sections:
        yield f"the chapter has no section {e.section!r}; it has {sorted(sections)}"
    hints = len(re.findall(r"<details>\s*<summary>Hint", e.task.source))
    if not 1 <= hints <= 2:
        yield f"{hints} folded hints; expected 1 or 2"
    if (words := n_words(e.task.source)) > 250:
        yield f"{words} words in the task; at most 250"
    graded = [c for c in (e.check, e.explain) if c is not None]
    if (points := sum(c.metadata.nbgrader.points for c in graded)) != e.points:
        yield f"states {e.points} points; its cells give {points}"
    if e.check is not None:
        yield from faults_of_check(e)
    if e.solution is not None:
        if not list(ex.regions(e.solution, "SOLUTION")):
            yield "no BEGIN SOLUTION in the solution cell"
        try:
            ex.released(e.solution)
        except ex.SourceError as error:
            yield str(error)


def faults_of_check(e: ex.Exercise) -> Iterator[str]:
    if e.check.metadata.nbgrader.grade_id != f"{e.name}-check":
        yield f"its check is not called {e.name}-check"
    hidden = list(ex.regions(e.check, "HIDDEN TESTS"))
    if len(hidden) != 1 and not (e.kind == "values" and not hidden):
        yield f"{len(hidden)} regions of hidden tests; expected 1"
        return
    helpers: set[str] = set()
    parts = [("public", ex.released(e.check)), *(("hidden", h) for h in hidden)]
    for part, source in parts:
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            yield f"{part} check: {error}"
            continue
        asserts = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        helpers |= {
            node.name
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
            and any(isinstance(inner, ast.Assert) for inner in ast.walk(node))
        }
        called = {
            node.func.id
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        if not asserts and not called & helpers:
            yield f"no assert in the {part} check"
        for node in asserts:
            if node.msg is None:
                yield f"an assert without a message: {ast.unparse(node)[:50]!r}"
        # nbgrader reads a number shown by the last line as points.
        last = tree.body[-1] if tree.body else None
        silent = re.compile(r"print\(|check\w*\(|assert\w*\(")
        if isinstance(last, ast.Expr) and not silent.match(ast.unparse(last)):
            yield f"the {part} check ends in a value: nbgrader takes it as points"


# Solutions pass; released stubs fail, each for the right reason.


@pytest.mark.parametrize("stem", STEMS)
def test_solutions_pass(stem: str, run: Runner) -> None:
    assert_solved(stem, run(run_whole, stem, False))


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 42])
@pytest.mark.parametrize("stem", STEMS)
def test_solutions_pass_for_other_numbers(stem: str, seed: int, run: Runner) -> None:
    assert_solved(stem, run(run_whole, stem, False, seed))


def assert_solved(stem: str, done: dict[str, Any]) -> None:
    raised = {name: error for name, error in done["plain"].items() if error}
    assert not raised, stem
    for name, attempt in done["attempts"].items():
        assert attempt == Attempt(None, None), f"{stem}: {name}"


@pytest.mark.parametrize("stem", STEMS)
def test_released_stubs_fail_for_the_right_reason(stem: str, run: Runner) -> None:
    done = run(run_whole, stem, True)
    raised = {name: error for name, error in done["plain"].items() if error}
    assert not raised, f"{stem}: a plain cell needs a solution"
    for e in exercises_of(stem):
        if e.solution is not None:
            solution, check = done["attempts"][e.name]
            reason = wrong_reason(e, solution, check)
            assert not reason, f"{stem}: {e.number} {e.name} ({e.kind}): {reason}"


def wrong_reason(e: ex.Exercise, solution: Any, check: Any) -> str:
    """Why the released cells fail otherwise than they should; empty if not."""
    if check is None:
        return "the check accepts the stub"
    if check.hidden:
        return f"only the hidden tests refuse the stub: {check}"
    if e.kind == "blank":
        if solution is not None:
            return f"the cell itself raises {solution}"
        if check.kind != "NotImplementedError":
            return f"expected NotImplementedError, got {check}"
        return ""
    if solution is None or solution.kind != "NotImplementedError":
        return f"the stub itself raises {solution}, not NotImplementedError"
    if e.kind == "repair":
        if check.kind != "AssertionError" or len(check.message) < 20:
            return f"the planted bug should meet a teaching message, got {check}"
        return ""
    # Values: the name is not there yet, or the check says that it is empty.
    if check.kind == "NotImplementedError":
        return ""
    if check.kind == "AssertionError" and len(check.message) >= 20:
        return ""
    match = re.fullmatch(r"name '(\w+)' is not defined", check.message)
    given = {
        node.id
        for node in ast.walk(ast.parse(e.solution.source))
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    if check.kind != "NameError" or match is None or match[1] not in given:
        return f"expected that a value is missing, got {check}"
    return ""


# Answers: the table beside each notebook. Each runs with the plain cells alone,
# so that no exercise needs the answer to another.


@pytest.mark.parametrize(("stem", "answer"), ANSWERS)
def test_answer(stem: str, answer: dict[str, Any], run: Runner) -> None:
    solution, check = run(run_alone, stem, answer["exercise"], answer["code"])
    assert solution is None, "the answer itself raises: its check never speaks"
    if answer["right"]:
        assert check is None, "a right answer is refused"
        return
    assert check is not None, "a wrong answer is accepted"
    assert check.kind == "AssertionError"
    assert answer["message"] in check.message


@pytest.mark.parametrize("stem", STEMS)
def test_answers_are_complete(stem: str) -> None:
    found, names = list(faults_of_answers(stem)), [e.name for e in exercises_of(stem)]
    assert not found, "\n" + "\n".join(f"{stem}: {fault}" for fault in found)
    assert {a["exercise"] for a in answers_of(stem)} <= set(names)


def faults_of_answers(stem: str) -> Iterator[str]:
    path = ex.ANSWERS / f"{stem}.toml"
    if not path.is_file():
        yield f"no {path.name}"
        return
    table = ex.answers(stem)
    rubrics = {r["exercise"]: r["points"] for r in table["rubric"]}
    kinds = Counter((a["exercise"], a["kind"]) for a in table["answer"])
    for (name, kind), count in kinds.items():
        if count > 1:
            yield f"{name}: {count} answers are called {kind!r}"
    for answer in table["answer"]:
        keys = {"exercise", "kind", "right", "code"}
        if not answer["right"]:
            keys |= {"message"}
            if len(answer.get("message", "")) < 8:
                yield f"{answer['exercise']}: {answer['kind']}: no message"
        if set(answer) != keys:
            yield f"{answer['exercise']}: keys {sorted(answer)}, not {sorted(keys)}"
    for e in exercises_of(stem):
        mine = [a for a in table["answer"] if a["exercise"] == e.name]
        wrong = sum(not a["right"] for a in mine)
        if e.solution is not None and (wrong < 3 or wrong == len(mine)):
            yield f"{e.name}: {wrong} wrong and {len(mine) - wrong} right; need 3 and 1"
        if e.explain is not None:
            name = e.explain.metadata.nbgrader.grade_id
            if not 2 <= len(rubrics.pop(name, [])) <= 4:
                yield f"{name}: expected a rubric of 2 to 4 points"
    for name in rubrics:
        yield f"rubric for {name!r}, which is nothing to explain"


# What is released.


@pytest.mark.parametrize("stem", STEMS)
def test_released_notebook_has_no_solution(stem: str) -> None:
    source = ex.prepared(ex.SOURCES / f"{stem}.ipynb")
    text = to_text(ex.student(source))
    assert "BEGIN SOLUTION" not in text
    assert "BEGIN HIDDEN" not in text
    shown = {line for cell in ex.student(source).cells for line in lines(cell.source)}
    for secret in ex.secrets(source):
        assert secret not in text
        assert lines(secret) - shown, f"the release gives all of it away:\n{secret}"


@pytest.mark.parametrize("stem", STEMS)
def test_seed_draws_other_numbers(stem: str) -> None:
    path = ex.SOURCES / f"{stem}.ipynb"
    one, two = ex.prepared(path, 0), ex.prepared(path, 7)
    assert one.metadata.mattn.release != two.metadata.mattn.release
    changed = [
        (old.source, new.source)
        for old, new in zip(one.cells, two.cells, strict=True)
        if old.source != new.source
    ]
    assert changed == [(ex.seed_cell(one).source, "seed = 7")]
    trees = [ast.parse(cell.source) for cell in code_cells(one)]
    names = [node for tree in trees for node in ast.walk(tree)]
    read = [n for n in names if isinstance(n, ast.Name) and n.id == "seed"]
    assert any(isinstance(n.ctx, ast.Load) for n in read), "nothing is drawn with it"


def lines(text: str) -> set[str]:
    return {" ".join(line.split()) for line in text.split("\n") if line.strip()}


def public_lines() -> set[str]:
    """What anybody may read anyway: chapters, released exercises, the package."""
    notebooks = [ex.read(path) for path in CHAPTERS.glob("*.ipynb")]
    notebooks += [ex.student(ex.prepared(path)) for path in ex.sources()]
    texts = [cell.source for notebook in notebooks for cell in notebook.cells]
    files = [*CHAPTERS.glob("*.md"), *(ROOT / "mattn").rglob("*.py")]
    texts += [path.read_text(encoding="utf-8") for path in files]
    return {line for text in texts for line in lines(text)}


def distinctive_lines() -> dict[str, str]:
    """Lines that occur in a solution or a hidden test only, with its notebook."""
    public = public_lines()
    return {
        line: path.stem
        for path in ex.sources()
        for secret in ex.secrets(ex.prepared(path))
        for line in lines(secret) - public
        if len(line) >= 12
    }


def solutions_in(folder: Path) -> Iterator[str]:
    """Every line of a solution in the files of a built book, whatever its form."""
    secret = distinctive_lines()
    for path in folder.rglob("*"):
        if path.suffix in {".html", ".ipynb", ".js", ".json", ".md", ".txt", ".inv"}:
            raw = path.read_text(encoding="utf-8", errors="replace")
            shown = html.unescape(re.sub(r"<[^>]*>", "", raw))
            found = lines(shown)
            if path.suffix != ".html":
                found |= lines(raw.replace("\\n", "\n").replace('\\"', '"'))
            if path.suffix == ".ipynb":
                found |= {
                    line for cell in ex.read(path).cells for line in lines(cell.source)
                }
            for line in found & set(secret):
                yield f"{path.relative_to(folder)}: {secret[line]}: {line}"


def test_built_book_has_no_solution() -> None:
    built = ROOT / "_build" / "html"
    if not (built / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    assert len(distinctive_lines()) > 20 * len(STEMS)
    found = list(solutions_in(built))
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("form", ["page.html", "page.ipynb", "page.js"])
def test_a_solution_in_the_book_is_found(form: str, tmp_path: Path) -> None:
    source = ex.prepared(ex.sources()[0])
    for notebook, expected in ((ex.student(source), False), (source, True)):
        text = to_text(notebook)
        if form == "page.html":
            cells = "\n".join(cell.source for cell in notebook.cells)
            words = re.split(r"(\w+)", cells)
            marked = (html.escape(w) if i % 2 == 0 else w for i, w in enumerate(words))
            text = "".join(
                f"<span>{w}</span>" if i % 2 else w for i, w in enumerate(marked)
            )
        elif form == "page.js":
            text = f"show({json.dumps([c.source for c in notebook.cells])})"
        (tmp_path / form).write_text(text, encoding="utf-8")
        assert bool(list(solutions_in(tmp_path))) is expected


# The whole set, and the chapters.


def test_there_are_exercises() -> None:
    found = [e for stem in STEMS for e in exercises_of(stem)]
    chapters = [p.stem for p in CHAPTERS.glob("[01][0-9]_*.ipynb")]
    assert sorted(chapters) == STEMS
    assert len(found) >= 4.5 * len(chapters)
    assert {e.kind for e in found} == {"blank", "repair", "values", "explain"} or {
        e.kind for e in found if e.explain is None
    } >= {"blank", "repair", "values"}
    assert {e.level for e in found} == set(ex.LEVELS)
    assert statistics.median(e.minutes for e in found) <= 30


LISTED = re.compile(
    r"^\d+\. \*{1,2}(.+?)\*{1,2},? (●○○|●●○|●●●),? \(?(\d+) min\b", re.MULTILINE
)


@pytest.mark.parametrize("stem", STEMS)
def test_chapter_lists_its_exercises(stem: str) -> None:
    chapter = ex.read(CHAPTERS / f"{stem}.ipynb")
    parts = "\n\n".join(c.source for c in chapter.cells if c.cell_type == "markdown")
    parts = re.split(r"^## ", parts, flags=re.MULTILINE)
    (section,) = [part for part in parts if part.startswith("Exercises\n")]
    listed = [(t.strip(" ."), d, int(m)) for t, d, m in LISTED.findall(section)]
    assert listed == [(e.title, e.level, e.minutes) for e in exercises_of(stem)]
    assert f"](exercises/{stem}.ipynb)" in section
    if match := re.search(r"about (\d+) minutes", section):
        assert int(match[1]) == sum(e.minutes for e in exercises_of(stem))
