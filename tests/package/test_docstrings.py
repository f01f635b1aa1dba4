"""Every public name says what it does, and the examples are true."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import json
import pkgutil
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from refusals import printed

import mattn

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(mattn.__path__, "mattn.")
    if not name.endswith(("__main__", "pytest_plugin"))
    # Triton has wheels for Linux alone.
    if name != "mattn.flash.kernels" or find_spec("triton")
)

#: What every chapter stands on and none is about.
FOR_ALL = {
    "mattn.optional",
    "mattn.plotting.given",
    "mattn.plotting.grid",
    "mattn.plotting.style",
    "mattn.plotting.svg",
}


def test_every_name_in_all_exists():
    for name in ["mattn", *MODULES]:
        module = importlib.import_module(name)
        listed = list(getattr(module, "__all__", []))
        assert len(listed) == len(set(listed))
        assert [n for n in listed if not hasattr(module, n)] == []


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_and_classes_are_documented(name):
    file = Path(inspect.getsourcefile(importlib.import_module(name)))
    tree = ast.parse(file.read_text(encoding="utf-8"))
    said = re.search(r"[Cc]hapter|book", ast.get_docstring(tree))
    assert bool(said) is (name not in FOR_ALL)
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare


def run_examples(names: list[str]) -> dict[str, list]:
    """Module → number of examples that ran, and what failed."""
    out = {}
    for name in names:
        module = importlib.import_module(name)
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        for test in doctest.DocTestFinder(exclude_empty=True).find(module, name):
            runner.run(test, out=report.append)
        out[name] = [runner.summarize(verbose=False).attempted, "".join(report)]
    return out


@pytest.fixture(scope="module")
def examples() -> dict[str, list]:
    # In a process of its own: without the shape checks, which wrap functions so
    # that doctest overlooks them, and with print options as a reader has them.
    return printed(__file__, *MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_are_true(examples, name):
    attempted, failures = examples[name]
    assert not failures, failures
    file = Path(inspect.getsourcefile(importlib.import_module(name)))
    assert attempted == file.read_text(encoding="utf-8").count(">>> ")


if __name__ == "__main__":
    print("\n" + json.dumps(run_examples(sys.argv[1:])))
