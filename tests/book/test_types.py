"""Types are true, and who uses the package sees them: two checkers say so."""

import re
import subprocess
import sys
from pathlib import Path

import mypy
import pytest
import yaml
from roots import ROOT

import mattn

SOURCES = [*(ROOT / "mattn").rglob("*.py"), *(ROOT / "book").rglob("*.py")]
# What somebody may write who uses the package; what is wrong says so.
USER = f"""\
import mattn
from mattn import {", ".join(mattn.__all__)}

{"".join(f"reveal_type(mattn.{name})" + chr(10) for name in mattn.__all__)}
mattn.masks.window(3)
mattn.plotting.show_mask(causal.matrix(4))
_ = causal & window(3), ~causal
attention(1, 2, 3)  # wrong
causal & 3  # wrong
window("three")  # wrong
mattn.masks.windows(3)  # wrong
mattn.nothing  # wrong
from mattn import nothing  # wrong
"""


def run(checker: str, *arguments: object) -> str:
    """What a checker says, from the folder of the sources."""
    done = subprocess.run(
        [sys.executable, "-m", checker, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr or done.stdout
    return done.stdout


def of_user(checker: str, folder: Path) -> str:
    """What is said of ``USER``, which lies outside."""
    file = folder / "user.py"
    file.write_text(USER, encoding="utf-8")
    if checker == "basedpyright":
        config = folder / "pyrightconfig.json"
        config.write_text(
            f'{{"include": ["."], "extraPaths": ["{ROOT.as_posix()}"], '
            '"typeCheckingMode": "standard"}'
        )
        return run(checker, "--project", config, "--pythonpath", sys.executable)
    return run(checker, file)


@pytest.mark.long
@pytest.mark.parametrize("checker", ["mypy", "basedpyright"])
def test_a_user_of_the_package_sees_every_name(checker: str, tmp_path: Path) -> None:
    said = of_user(checker, tmp_path)
    lines = USER.splitlines()
    wrong = {n for n, line in enumerate(lines, 1) if line.endswith("# wrong")}
    assert {int(n) for n in re.findall(r"user\.py:(\d+).* error: ", said)} == wrong
    types = re.findall(r'user\.py:\d+.*(?:type is|" is) "(.*)"', said)
    assert len(types) == len(mattn.__all__)
    assert not [t for t in types if t in ("Any", "Unknown") or t.startswith("Module")]


@pytest.mark.weekly
def test_types_are_true_for_the_newest_python_too(tmp_path: Path) -> None:
    assert "Success" in run("mypy", "--python-version", "3.13")
    said = run("basedpyright", "--pythonversion", "3.13")
    assert said.startswith("0 errors, 0 warnings"), said


def test_what_is_ignored_has_a_name() -> None:
    """A line, and one kind of error on it; never a file."""
    for path in SOURCES:
        for line in path.read_text(encoding="utf-8").splitlines():
            found = re.search(r"#\s*(type|pyright|mypy):(.*)", line)
            if found is None:
                continue
            assert re.fullmatch(r"\s*ignore\[[\w-]+\]", found[2]), f"{path}: {line}"
            assert line[: found.start()].strip(), f"{path}: {line}"


def test_the_hooks_are_what_make_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    (repository,) = yaml.safe_load(text)["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    commands = {entry.replace(".venv/bin/python", "$(PY)") for entry in entries}
    assert commands <= {line.strip() for line in makefile.splitlines()}
    modules = {entry.split()[2] for entry in entries}
    assert {"ruff", mypy.__name__, "basedpyright"} <= modules
