"""`pytest --package` runs one room, and of it what can be imported."""

import subprocess
import sys
from pathlib import Path

import package_only
import pytest
from roots import ROOT


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
@pytest.mark.parametrize("place", ["package", "package/deep"])
def test_what_is_left_out(
    folder: Path, place: str, source: str, why: str | None
) -> None:
    path = folder / place / "test_round.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source)
    assert package_only.obstacle(path) == why


def test_another_room_is_left_out_and_none_of_this_room_is_the_books(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "book" / "test_plain.py"
    assert package_only.obstacle(path) == "of another room"
    monkeypatch.setattr(package_only, "TESTS", ROOT / "tests")
    files = [*(ROOT / "tests" / "package").rglob("test_*.py")]
    assert Path(__file__) in files
    books = [p.name for p in files if package_only.obstacle(p) == "of the book"]
    assert books == []


def test_the_command_runs_what_is_left_and_names_the_rest(tmp_path: Path) -> None:
    for name, text in {
        "pytest.ini": "[pytest]\npythonpath = tests/helpers\n",
        "tests/conftest.py": "from package_only import *",
        "tests/package/test_plain.py": "def test(): pass",
        "tests/package/deep/test_absent.py": "import not_there",
        "tests/book/conftest.py": "import not_there",
        "tests/book/test_book.py": "import book",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "tests/helpers").mkdir()
    for helper in ("package_only.py", "roots.py"):
        source = Path(package_only.__file__).with_name(helper)
        (tmp_path / "tests/helpers" / helper).write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "pytest", "--package", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "leaves out: book/, test_absent.py (needs not_there)\n" in done.stdout
    assert "1 passed" in done.stdout
    assert done.returncode == 0
