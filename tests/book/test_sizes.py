"""A file can be read in one sitting, a function at one glance; or it says why not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from roots import ROOT

import book

FOLDERS = ("benchmarks", "book", "mattn", "tests")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 500, 40
REASON = "# Long because: "


def n_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, what it holds included, without what its docstring says."""
    first, n = function.body[0], function.end_lineno - function.lineno + 1
    told = ast.get_docstring(function, clean=False) is not None
    return n - (first.end_lineno - first.lineno + 1) if told else n


def reason(function: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """What stands on its ``def`` or in the comment above it, decorators between."""
    top = min([function.lineno, *(d.lineno for d in function.decorator_list)])
    while top > 1 and lines[top - 2].lstrip().startswith("#"):
        top -= 1
    for line in lines[top - 1 : function.body[0].lineno]:
        if REASON in line:
            return line.partition(REASON)[2].strip()
    return ""


def too_long(text: str) -> list[str]:
    """What is too long in a Python file, without a reason."""
    lines, found = text.splitlines(), []
    if len(lines) > LONGEST_FILE:
        found.append(f"{len(lines)} lines; expected at most {LONGEST_FILE}: split it")
    long = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and n_lines(node) > LONGEST_FUNCTION
        and not reason(node, lines)
    ]
    return found + [
        f"{node.name}: {n_lines(node)} lines without its docstring; expected at most "
        f"{LONGEST_FUNCTION}: divide it, or say why above it ({REASON}…)"
        for node in long
    ]


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_too_long(folder: str) -> None:
    files = [file for file in FILES if file.is_relative_to(ROOT / folder)]
    assert files
    found = [
        f"{file.relative_to(ROOT).as_posix()}: {fault}"
        for file in files
        for fault in too_long(file.read_text(encoding="utf-8"))
    ]
    assert not found, "\n".join(["too long:", *found])


LONG = "def f():\n" + "    x = 1\n" * LONGEST_FUNCTION


@pytest.mark.parametrize(
    ("text", "n"),
    [
        ("x = 1\n" * LONGEST_FILE, 0),
        ("x = 1\n" * (LONGEST_FILE + 1), 1),
        ("def f():\n" + "    x = 1\n" * (LONGEST_FUNCTION - 1), 0),
        (LONG, 1),
        ("async " + LONG, 1),
        ('def f():\n    """One.\n\n    Two.\n    """\n' + LONG[9:-10], 0),
        ("def g():\n    " + LONG.replace("\n", "\n    "), 2),
        (f"{REASON}a table.\n{LONG}", 0),
        (f"{REASON}a table, in\n# two lines.\n@cache\n{LONG}", 0),
        (LONG.replace(":\n", f":  {REASON}a table.\n", 1), 0),
        (f"{REASON}\n{LONG}", 1),
        (f"{REASON}of another.\n\n\n{LONG}", 1),
    ],
)
def test_what_is_too_long_is_found(text: str, n: int) -> None:
    assert len(too_long(text)) == n


def test_book_is_the_package_of_the_tree() -> None:
    """tests/ has a folder of that name, which no import may find."""
    assert Path(book.__file__) == ROOT / "book" / "__init__.py"
    assert book.ROOT == ROOT
