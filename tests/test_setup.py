"""A missing or old tool gets one clear line; the pins are pins."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from stored_state import ROOT

SETUP = ROOT / "book" / "setup.sh"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="make and sh are for Unix")


def set_up(folder: Path, python: str, path: Path | None = None) -> str:
    """What setup.sh says in an empty folder where it must stop."""
    done = subprocess.run(
        [shutil.which("sh"), SETUP, python],
        cwd=folder,
        env=os.environ | ({"PATH": str(path)} if path else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert not (folder / ".venv").exists()
    (line,) = done.stderr.splitlines()
    return line


def program(folder: Path, name: str, *lines: str) -> str:
    path = folder / name
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_missing_python(tmp_path: Path) -> None:
    line = set_up(tmp_path, "python-that-is-not-there")
    assert "Python 3.11 or newer" in line
    assert "was not found" in line
    assert "PYTHON=" in line


def test_python_that_does_not_run(tmp_path: Path) -> None:
    assert "does not run" in set_up(tmp_path, program(tmp_path, "py", "exit 127"))


def test_python_too_old(tmp_path: Path) -> None:
    old = program(tmp_path, "py", 'case "$2" in *print*) echo 3.9;; *) exit 1;; esac')
    assert "is Python 3.9" in set_up(tmp_path, old)


def test_missing_venv_module(tmp_path: Path) -> None:
    bare = program(
        tmp_path,
        "py",
        'case "$2" in *print*) echo 3.11;; *ensurepip*) exit 1;; esac',
    )
    line = set_up(tmp_path, bare)
    assert "venv" in line
    assert "python3-venv" in line


def test_missing_git(tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    assert "git is needed" in set_up(tmp_path, "python3", path=empty)


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "-c "))]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; .*)?", line) for line in lines)
    pairs = [line.split(";")[0].split("==") for line in lines]
    return {re.sub(r"[-_.]+", "-", n).lower(): version for n, version in pairs}


def test_requirements_are_exact_and_agree() -> None:
    direct, closure = pins("requirements.txt"), pins("constraints.txt")
    assert direct.items() <= closure.items()
    assert direct["torch"] == "2.13.0"


def test_instructors_requirements_are_exact() -> None:
    assert pins("requirements-instructor.txt")["nbgrader"] == "0.9.6"
