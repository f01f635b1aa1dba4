"""Imports only point down, and the names of mattn bring little with them."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mattn
from mattn import audit, judge

PACKAGE = Path(mattn.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))
ALWAYS_THERE = {"numpy", "torch", "matplotlib", "jaxtyping"}
HEAVY = {
    "matplotlib.pyplot",
    "pandas",
    "pooch",
    "requests",
    "sacrebleu",
    "safetensors",
    "tokenizers",
    "tqdm",
    "transformers",
    "triton",
}


def drawn(docstring: str) -> dict[str, int]:
    """The drawing in the docstring of a package: module → layer."""
    return {
        name: int(number)
        for number, names in re.findall(r"^    (\d)  (.+)$", docstring, flags=re.M)
        for name in names.split(" · ")
    }


LAYER = drawn(mattn.__doc__)


def module_of(file: Path) -> str:
    """mattn/data/markov.py → data, as in the drawing."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return parts[0]


def own_imports(tree: ast.AST, file: Path) -> set[str]:
    """Dotted names of what is imported of mattn, anywhere in the file."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file.name}: a relative import"
            # `from mattn import softmax` may name a module.
            one_deep = {f"{node.module}.{a.name}" for a in node.names}
            found |= one_deep if node.module == "mattn" else {node.module}
    return {name for name in found if name.split(".")[0] == "mattn"}


def at_module_level(tree: ast.Module) -> set[str]:
    """Top-level packages imported when the module is."""
    found, inside = set(), list(tree.body)
    while inside:
        node = inside.pop()
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                continue
            inside += ast.iter_child_nodes(node)
    return found


def test_the_drawing_is_found_and_complete():
    assert len(LAYER) > 10
    assert set(LAYER.values()) == set(range(max(LAYER.values()) + 1))
    modules = {module_of(f) for f in FILES} - {"__init__"}
    assert modules <= set(LAYER), "a module that the drawing does not show"


def upward(module: str, imported: set[str]) -> set[str]:
    """Those imports that do not point down."""
    names = {name.removeprefix("mattn").lstrip(".").split(".")[0] for name in imported}
    names -= {module}  # the parts of a sub-package may know each other
    return {n for n in names if n not in LAYER or LAYER[n] >= LAYER[module]}


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_point_down(file):
    module = module_of(file)
    tree = ast.parse(file.read_text(encoding="utf-8"))
    if module != "__init__":
        assert not upward(module, own_imports(tree, file))
    if module == "audit":
        known = {n.split(".")[1] for n in own_imports(tree, file)}
        assert known <= {"audit", "checks", "masks", "plotting"}


@pytest.mark.parametrize("package", [audit, judge], ids=["audit", "judge"])
def test_the_rooms_of_a_package_are_as_its_docstring_draws_them(package):
    layer = drawn(package.__doc__)
    own = package.__name__
    files = {file.stem: file for file in Path(package.__file__).parent.glob("*.py")}
    assert set(layer) == set(files) - {"__init__"}
    for room in layer:
        tree = ast.parse(files[room].read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom):
                continue
            for name in node.names:
                dotted = f"{node.module}.{name.name}"
                if dotted.startswith(f"{own}.") and dotted.split(".")[2] in files:
                    other = dotted.split(".")[2]
                    assert layer.get(other, -1) < layer[room], (room, other)


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_what_is_not_always_there_is_imported_where_it_is_used(file):
    tree = ast.parse(file.read_text(encoding="utf-8"))
    allowed = ALWAYS_THERE | {"mattn"} | sys.stdlib_module_names
    if file.name == "pytest_plugin.py":  # loaded by pytest alone
        allowed |= {"pytest"}
    if file == PACKAGE / "flash/kernels.py":  # loaded when a kernel is launched
        allowed |= {"triton"}
    assert at_module_level(tree) <= allowed


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("masks", "from mattn.attention import attention"),
        ("masks", "def f():\n    from mattn import softmax"),
        ("checks", "import mattn.plotting"),
        ("attention", "from mattn import causal"),
        ("attention", "import mattn"),
    ],
)
def test_an_import_that_points_up_or_sideways_is_seen(module, source):
    assert upward(module, own_imports(ast.parse(source), Path("a.py")))


def test_the_kernels_are_imported_by_what_launches_them_alone():
    importers = {
        file.relative_to(PACKAGE).as_posix()
        for file in FILES
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for name in node.names
        if f"{node.module}.{name.name}".startswith("mattn.flash.kernels")
    }
    assert importers == {"flash/launch.py"}


def test_a_third_party_import_is_seen_also_inside_a_class_or_try():
    source = "try:\n    import pooch\nexcept ImportError:\n    pass\n"
    source += "class A:\n    import tqdm\n    def f():\n        import triton\n"
    assert at_module_level(ast.parse(source)) == {"pooch", "tqdm"}


def test_the_names_of_mattn_bring_no_figure_and_nothing_optional():
    program = """
import json, sys
import jaxtyping, numpy, torch
before = set(sys.modules)
from mattn import *
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not done.stderr
    new = set(json.loads(done.stdout))
    assert "mattn.attention" in new
    assert not new & HEAVY
    # Of other packages only parts of torch and numpy may come along.
    roots = {name.split(".")[0] for name in new}
    assert roots <= {"mattn", "torch", "numpy"} | sys.stdlib_module_names
