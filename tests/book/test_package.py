"""The package alone: its metadata, its extras, its wheel."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from extras import CALLS, complaints, names_the_extra
from lone import canonical, closure, copy_package
from packaging.requirements import Requirement
from pins import pins
from roots import HELPERS, ROOT

import mattn
from book.site.editions import USES
from mattn.optional import needed

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]
EXTRAS = PROJECT["optional-dependencies"]
PACKAGE = ROOT / "mattn"
FILES = sorted(PACKAGE.rglob("*.py"))


def required(*extras: str) -> dict[str, Requirement]:
    """Name → requirement of some extras, those that they name in turn included."""
    found = {}
    for extra in extras:
        for line in EXTRAS[extra]:
            need = Requirement(line)
            if need.name == "mattn":
                found |= required(*need.extras)
            else:
                found[canonical(need.name)] = need
    return found


def test_the_version_is_one():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert mattn.__version__ == PROJECT["version"] == citation["version"]


def test_extras_are_named_by_what_they_are_for():
    shown = re.findall(r"`(\w+)`", "".join(re.findall(
        r"^\|(.+?)\|", (PACKAGE / "README.md").read_text(encoding="utf-8"), re.M
    )))  # fmt: skip
    assert list(EXTRAS) == shown
    assert set(USES) <= set(EXTRAS)
    assert required(*USES).keys() <= required("chapters").keys()


def test_extras_and_pins_are_of_the_same_packages():
    always = {canonical(Requirement(line).name) for line in PROJECT["dependencies"]}
    here = required(*EXTRAS.keys() - {"grade"})
    assert pins("requirements.txt").keys() == always | here.keys()
    for name, version in pins("requirements.txt").items():
        if name in here:
            assert here[name].specifier.contains(version), name
    graded = pins("requirements-instructor.txt")
    for name, need in required("grade").items():
        assert need.specifier.contains(graded[name]), name


def imported(tree: ast.AST) -> set[str]:
    """Top-level names of what is imported, anywhere."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name.partition(".")[0] for alias in names}
            case ast.ImportFrom(module=str(module)):
                found.add(module.partition(".")[0])
    return found - sys.stdlib_module_names


@pytest.mark.parametrize(
    ("folder", "extras"), [("book", ["book", "grade"]), ("tests", ["test"])]
)
def test_what_a_folder_imports_is_in_its_extra(folder, extras):
    files = [*(ROOT / folder).rglob("*.py")]
    own = {file.stem for file in HELPERS.iterdir()}
    own |= {"book", "mattn"} | {file.stem for file in (ROOT / "benchmarks").iterdir()}
    names = set().union(*(imported(ast.parse(file.read_bytes())) for file in files))
    needs = {canonical(Requirement(line).name) for line in PROJECT["dependencies"]}
    # What nbgrader brings is in an environment of its own.
    absent = required("grade").keys() - {"setuptools"}
    brought = closure((needs | required(*extras).keys()) - absent).keys() | absent
    homes = packages_distributions()
    for name in names - own:
        dists = {canonical(dist) for dist in homes.get(name, [name])}
        assert dists & brought, f"{name}, imported in {folder}, is in none of {extras}"


def asked_for(tree: ast.AST) -> set[str]:
    """Packages that the calls of ``needed`` name."""
    return {
        node.args[0].value.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "needed"
    }


OPTIONAL = set().union(*(asked_for(ast.parse(f.read_bytes())) for f in FILES))


def test_every_package_that_may_be_absent_is_asked_for_by_name():
    always = {Requirement(line).name for line in PROJECT["dependencies"]} | {"mattn"}
    for file in FILES:
        tree = ast.parse(file.read_bytes())
        known = always | asked_for(tree)
        if file.name == "pytest_plugin.py":  # loaded by pytest alone
            known.add("pytest")
        if file == PACKAGE / "flash/kernels.py":  # loaded by flash/launch.py alone
            known.add("triton")
        assert imported(tree) <= known, file.name
    assert {package for package, _, _ in CALLS.values()} == OPTIONAL


def test_what_is_absent_is_an_error_that_names_its_extra(tmp_path):
    kept = {k: v for k, v in os.environ.items() if k != "MATTN_DATA"}
    kept["PYTHONPATH"] = str(ROOT)
    said = complaints(Path(sys.executable), tmp_path, OPTIONAL, **kept)
    assert [name for name in CALLS if not names_the_extra(said, name)] == [], said


def test_a_package_that_is_there_and_broken_says_what_it_says(tmp_path, monkeypatch):
    (tmp_path / "half_there.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'nowhere_at_all'"):
        needed("half_there", "text", "somebody")
    with pytest.raises(ImportError, match=r"somebody needs nowhere_at_all: .*\[text\]"):
        needed("nowhere_at_all.part", "text", "somebody")


def build(out: Path) -> tuple[Path, Path]:
    """The sdist of the tree as it is, and the wheel that is built from it."""
    source = out / "tree"
    copy_package(ROOT, source)
    # What is not the package's must not come along.
    (source / "tests").mkdir()
    (source / "tests" / "test_a.py").touch()
    (source / "mattn_other").mkdir()
    (source / "mattn_other" / "__init__.py").touch()
    hook = "import sys; from setuptools import build_meta as b; b.{}(sys.argv[1])"
    python = [sys.executable, "-c"]
    run = {"check": True, "capture_output": True}
    subprocess.run([*python, hook.format("build_sdist"), out], cwd=source, **run)
    (sdist,) = out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4
        archive.extractall(out)
    unpacked = out / sdist.name.removesuffix(".tar.gz")
    subprocess.run([*python, hook.format("build_wheel"), out], cwd=unpacked, **run)
    (wheel,) = out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("built"))


def ours() -> set[str]:
    """The files of the package, README.md apart: that is in the metadata."""
    return {
        file.relative_to(ROOT).as_posix()
        for file in PACKAGE.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    } - {"mattn/README.md"}


def test_wheel_and_sdist_hold_the_package_and_nothing_else(built):
    sdist, wheel = built
    packed = set(zipfile.ZipFile(wheel).namelist())
    info = f"mattn-{mattn.__version__}.dist-info"
    licences = {f"{info}/licenses/{name}" for name in PROJECT["license-files"]}
    written = {f"{info}/{name}" for name in ("METADATA", "RECORD", "WHEEL")}
    written |= {f"{info}/{name}" for name in ("entry_points.txt", "top_level.txt")}
    assert packed == ours() | licences | written
    with tarfile.open(sdist) as archive:
        names = {member.name for member in archive if member.isfile()}
    inside = {name.partition("/")[2] for name in names}
    named = {"pyproject.toml", "MANIFEST.in", "mattn/README.md"}
    made = {name for name in inside if name.startswith("mattn.egg-info/")}
    made |= {"PKG-INFO", "setup.cfg"}
    assert inside - made == ours() | named | set(PROJECT["license-files"])


def test_metadata_says_what_a_package_index_shows(built):
    with zipfile.ZipFile(built[1]) as wheel:
        name = f"mattn-{mattn.__version__}.dist-info/METADATA"
        facts = message_from_string(wheel.read(name).decode())
    assert facts["Description-Content-Type"] == "text/markdown"
    # No picture and no link that leads nowhere outside the repository; no
    # address, as long as none is known.
    assert not re.search(r"!\[|\]\(|https?:", facts.get_payload())
    assert "Project-URL" not in facts
    assert "Home-page" not in facts
    assert facts["Requires-Python"] == PROJECT["requires-python"]
    assert facts["License-Expression"] == "BSD-3-Clause"
    assert set(facts.get_all("Provides-Extra")) == set(EXTRAS)
    oldest = int(PROJECT["requires-python"].rpartition(".")[2])
    minors = re.findall(r":: 3\.(\d+)$", "\n".join(facts.get_all("Classifier")), re.M)
    assert [int(minor) for minor in minors] == [*range(oldest, oldest + len(minors))]


SMOKE = """
import torch
import mattn
from mattn import attention, causal
from mattn.data import tiny_shakespeare
from mattn.playground import playground
from mattn.repro import recorded

assert mattn.__file__.startswith({target!r}), mattn.__file__
x = torch.eye(3)
assert torch.equal(attention(x, x, x, causal)[1][0], torch.tensor([1.0, 0, 0]))
assert len(tiny_shakespeare()) == 1_115_394
assert "<script" in playground(["the", "cat", "sat"])._repr_html_()
for name in {records}:
    assert recorded(name)
"""


def test_the_wheel_works_in_an_empty_folder(built, tmp_path):
    target, empty = tmp_path / "target", tmp_path / "empty"
    empty.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, built[1]], check=True)
    records = [path.stem for path in PACKAGE.glob("records/*.json")]
    assert len(records) > 5
    done = subprocess.run(
        [sys.executable, "-c", SMOKE.format(target=str(target), records=records)],
        capture_output=True,
        text=True,
        check=False,
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(target)},
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list(empty.iterdir()) == []
