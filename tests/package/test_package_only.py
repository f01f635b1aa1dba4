"""`pytest --package` takes a file by what it imports, not by where it lies."""

import subprocess
import sys
from pathlib import Path

import package_only
import pytest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path, text in {
        "tests/helpers/near.py": "import math",
        "tests/helpers/far.py": "try:\n    import book\nexcept OSError: pass",
        "tests/helpers/round.py": "import test_round",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    monkeypatch.setattr(package_only, "TESTS", tmp_path / "tests")
    return tmp_path / "tests"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import torch\nfrom numpy.typing import ArrayLike\nimport near", None),
        ("def test():\n    import book", None),
        ("from book.site import pages", "of the book"),
        ("from far import x", "of the book"),
        ("import not_there.at_all", "needs not_there"),
        ("import round", None),
    ],
    ids=["plain", "inside", "book", "by a helper", "not installed", "in a circle"],
)
@pytest.mark.parametrize("place", [".", "package/deep"])
def test_what_is_left_out(
    folder: Path, place: str, source: str, why: str | None
) -> None:
    path = folder / place / "test_round.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert package_only.obstacle(path) == why


def test_the_command_runs_what_is_left_and_names_the_rest(folder: Path) -> None:
    source = Path(package_only.__file__)
    (folder / "package_only.py").write_bytes(source.read_bytes())
    (folder / "conftest.py").write_text("from package_only import *")
    (folder / "test_plain.py").write_text("def test(): pass")
    (folder / "deep").mkdir()
    (folder / "deep" / "test_book.py").write_text("import book")
    command = [sys.executable, "-m", "pytest", "--package", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False
    )
    assert "leaves out: test_book.py (of the book)\n" in done.stdout
    assert "1 passed" in done.stdout
    assert done.returncode == 0
