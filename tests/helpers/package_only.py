"""``pytest --package``: the package's tests only, wherever their files lie.

A test file is the package's if everything that it and its helpers import at module
level is installed and none of it is in ``book``. So the same command serves an
environment that has no more than the package needs. What is left out is named.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
BOOK = "book"


def imports(path: Path) -> set[str]:
    """The first names of what ``path`` imports outside functions and classes."""
    names, todo = set(), ast.parse(path.read_text(encoding="utf-8")).body
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module)
        elif isinstance(node, ast.If | ast.Try):
            todo += [*node.body, *node.orelse]
    return {name.partition(".")[0] for name in names}


def obstacle(path: Path) -> str | None:
    """Why the test file ``path`` is not the package's; ``None`` if it is."""
    todo, seen = [path], set()
    while todo:
        file = todo.pop()
        seen.add(file)
        for name in sorted(imports(file)):
            if name == BOOK:
                return "of the book"
            helpers = set(TESTS.rglob(f"{name}.py"))
            todo += helpers - seen
            if not helpers and find_spec(name) is None:
                return f"needs {name}"
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--package", action="store_true", help="the package's tests only, none of book/"
    )


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("package") or not collection_path.match("test_*.py"):
        return None
    return True if obstacle(collection_path) else None


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.getoption("package"):
        return None
    why = {path.name: obstacle(path) for path in sorted(TESTS.rglob("test_*.py"))}
    left = ", ".join(f"{name} ({reason})" for name, reason in why.items() if reason)
    return f"--package leaves out: {left or 'nothing'}"
