"""``pytest --package``: the package's tests only, those in tests/package.

Of these, a file is left out if something that it or its helpers import at module
level is not installed. So the same command serves an environment that has no more
than the package needs. What is left out is named.
"""

from __future__ import annotations

import ast
from importlib.util import find_spec
from pathlib import Path

import pytest
from roots import ROOT

TESTS = ROOT / "tests"
ROOM = "package"
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
    if TESTS / ROOM not in path.parents:
        return "of another room"
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
    parser.addoption("--package", action="store_true", help="the package's tests only")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    if not config.getoption("package"):
        return None
    if collection_path.parent == TESTS and collection_path.is_dir():
        # Not even entered: a conftest.py in there may need what is not installed.
        return True if collection_path.name != ROOM else None
    if not collection_path.match("test_*.py"):
        return None
    return True if obstacle(collection_path) else None


def pytest_report_header(config: pytest.Config) -> str | None:
    if not config.getoption("package"):
        return None
    rooms = {path.parent for path in TESTS.glob("*/test_*.py")} - {TESTS / ROOM}
    left = [f"{room.name}/" for room in sorted(rooms)]
    why = {p.name: obstacle(p) for p in sorted((TESTS / ROOM).rglob("test_*.py"))}
    left += [f"{name} ({reason})" for name, reason in why.items() if reason]
    return f"--package leaves out: {', '.join(left) or 'nothing'}"
