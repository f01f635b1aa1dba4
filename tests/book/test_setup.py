"""A missing or old tool gets one clear line; the pins are pins."""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from pins import SETUP, bound, pins
from roots import ROOT

pytestmark = pytest.mark.skipif(os.name == "nt", reason="make and sh are for Unix")


def run_setup(folder: Path, python: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [shutil.which("sh"), SETUP, python],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def refused(folder: Path, python: str) -> str:
    """What setup.sh says in an empty folder where it must stop."""
    done = run_setup(folder, python)
    assert done.returncode == 1
    assert done.stdout == ""
    assert not (folder / ".venv").exists()
    (line,) = done.stderr.splitlines()
    return line


def program(
    path: Path,
    version: str = "3.12",
    megabytes: int = 20_000,
    rest: str = "exit 0",
) -> str:
    """A stand-in for Python: its version, the free disk, and what else it does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        f"*sys.version_info*) echo {version};;\n"
        f"*disk_usage*) echo {megabytes};;\n"
        f"*) {rest};;\n"
        "esac\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_missing_python(tmp_path: Path) -> None:
    line = refused(tmp_path, "python-that-is-not-there")
    assert "Python 3.11 to 3.14 is needed" in line
    assert "was not found" in line
    assert "PYTHON=" in line


def test_python_that_does_not_run(tmp_path: Path) -> None:
    broken = program(tmp_path / "py", version="; exit 127")
    assert "does not run" in refused(tmp_path, broken)


@pytest.mark.parametrize("version", ["2.7", "3.9", "3.10"])
def test_python_too_old(tmp_path: Path, version: str) -> None:
    line = refused(tmp_path, program(tmp_path / "py", version))
    assert f"is Python {version}, which is too old" in line


@pytest.mark.parametrize("version", ["3.15", "3.100", "4.0"])
def test_python_too_new(tmp_path: Path, version: str) -> None:
    line = refused(tmp_path, program(tmp_path / "py", version))
    assert f"is Python {version}, for which the pinned packages have no wheels" in line


def test_missing_venv_module(tmp_path: Path) -> None:
    line = refused(tmp_path, program(tmp_path / "py", rest="exit 1"))
    assert "venv" in line
    assert "python3-venv" in line


def test_too_little_disk(tmp_path: Path) -> None:
    line = refused(tmp_path, program(tmp_path / "py", megabytes=2_400))
    assert "2.4 GB are free" in line
    if sys.platform == "linux":
        assert "5.5 GB of free disk are needed" in line
        assert "2.5 GB are enough with torch's build for CPUs" in line


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A folder whose .venv is there with torch, and whose pip does nothing."""
    program(tmp_path / ".venv" / "bin" / "python", megabytes=2_600)
    site = tmp_path / ".venv" / "lib" / "python3.12" / "site-packages"
    (site / "torch").mkdir(parents=True)
    return tmp_path


def test_a_set_up_that_was_begun_goes_on(begun: Path) -> None:
    done = run_setup(begun, "python-that-is-not-there")
    assert done.returncode == 0
    assert "Going on with the set-up of .venv (Python 3.12)" in done.stderr
    (begun / ".venv" / ".ready").touch()
    assert "requirements have changed" in run_setup(begun, "python3").stderr


def test_the_small_torch_needs_less_disk(begun: Path) -> None:
    program(begun / ".venv" / "bin" / "python", megabytes=2_400)
    done = run_setup(begun, "python3")
    assert done.returncode == 1
    assert "2.5 GB of free disk are needed here and 2.4 GB are free" in done.stderr
    (begun / ".venv" / "lib" / "python3.12" / "site-packages" / "nvidia").mkdir()
    program(begun / ".venv" / "bin" / "python", megabytes=5_400)
    assert "5.5 GB of free disk are needed" in run_setup(begun, "python3").stderr


def test_a_python_of_venv_that_is_not_taken_is_named(begun: Path) -> None:
    program(begun / ".venv" / "bin" / "python", version="3.15")
    line = run_setup(begun, "python3").stderr
    assert "'.venv/bin/python' is Python 3.15" in line
    assert "remove .venv" in line


def test_why_pip_fails_is_seen(begun: Path) -> None:
    """What pip says is kept, without the noise of a user's settings."""
    says = 'case "$*" in *install*) echo "WARNING: Location x is ignored: y"; '
    says += 'echo "The conflict is caused by: z"; exit 1;; esac'
    program(begun / ".venv" / "bin" / "python", rest=says)
    done = run_setup(begun, "python3")
    assert done.returncode == 1
    assert "The conflict is caused by: z" in done.stderr
    assert "pip could not install" in done.stderr
    assert "Location" not in done.stderr


def test_git_is_not_asked_for() -> None:
    text = SETUP.read_text(encoding="utf-8")
    assert not re.search(r"\bgit\b", text)


def test_pythons_are_those_of_the_package() -> None:
    declared = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">=3.{bound("oldest")}"' in declared


def test_the_readme_says_the_same_size_and_time() -> None:
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for name in ("small", "large"):
        assert f"{bound(name) / 1000:.1f} GB" in readme
    assert "2 to 10 minutes" in readme
    assert 'minutes="2 to 10 minutes"' in SETUP.read_text(encoding="utf-8")


def test_requirements_are_exact_and_agree() -> None:
    direct, closure = pins("requirements.txt"), pins("constraints.txt")
    assert direct.items() <= closure.items()
    assert direct["torch"] == "2.13.0"


def test_instructors_requirements_are_exact() -> None:
    assert pins("requirements-instructor.txt")["nbgrader"] == "0.9.6"
