"""Every Colab notebook, alone, on a machine as Colab is one: to its end.

Exercises run with their solutions in place, under the same first cell.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from extras import CALLS, complaints, names_the_extra
from lone import Machine, canonical, clone, closure, commit
from nbclient.exceptions import CellExecutionError
from roots import ROOT

from book.notebooks import to_text
from book.site import editions
from book.site.editions import Edition, Repository, colab

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(sys.platform == "win32", reason="links and bin/python"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]

ADDRESS = "https://github.com/owner/name"
# The longest first, so that two at a time end together.
FIRST = ("08_", "07_", "06_", "05_", "10_", "09_")
# Most of their time is training, which `make test` has run already.
DEAR = ("chapters/06_", "chapters/07_", "chapters/08_")
SOURCES = sorted(
    [*ROOT.glob("chapters/*.ipynb"), *ROOT.glob("exercises/*.ipynb")],
    key=lambda p: next((i for i, f in enumerate(FIRST) if p.name.startswith(f)), 99),
)


def name_of(source: Path) -> str:
    return source.relative_to(ROOT).as_posix()


def marked(name: str):
    dear = [pytest.mark.weekly] if name.startswith(DEAR) else []
    return pytest.param(name, marks=dear)


def edition_of(commit_id: str) -> Edition:
    return Edition(Repository("https://github.com", "owner/name"), commit_id, "latest")


def write(source: Path, folder: Path, commit_id: str) -> Path:
    page = (
        f"chapters/{name_of(source).removeprefix('chapters/').removesuffix('.ipynb')}"
    )
    notebook = colab(nbformat.read(source, as_version=4), page, edition_of(commit_id))
    path = folder / source.parent.name / source.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_text(notebook), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def machine(tmp_path_factory) -> Machine:
    return Machine(tmp_path_factory.mktemp("colab"))


@pytest.fixture(scope="module")
def runs(machine: Machine, request):
    """All notebooks asked for, two at a time; a test waits for its own."""
    asked = {
        item.callspec.params.get("name")
        for item in request.session.items
        if item.path == Path(__file__) and hasattr(item, "callspec")
    }
    repository = machine.folder / "repository"
    commit_id = clone(ROOT, repository)
    with ThreadPoolExecutor(2) as pool:
        started: dict[str, Future] = {
            name_of(source): pool.submit(
                machine.run,
                write(source, machine.folder / "edition", commit_id),
                repository,
                ADDRESS,
            )
            for source in SOURCES
            if name_of(source) in asked
        }
        yield started
        for future in started.values():
            future.cancel()


@pytest.mark.parametrize("name", [marked(name_of(source)) for source in SOURCES])
def test_runs_to_the_end_and_leaves_torch_alone(runs, name: str) -> None:
    packages = runs[name].result()
    before, after = packages["before"], packages["after"]
    assert "mattn" not in before
    assert "mattn" in after
    assert "jaxtyping" not in before
    assert "jaxtyping" in after
    assert before.items() <= after.items(), "a version was changed"
    assert {"numpy", "torch", "matplotlib"} <= before.keys()
    # The extras of the notebook are enough, and nothing else was installed.
    needs = editions.needs(nbformat.read(ROOT / name, as_version=4))
    new = {canonical(package) for package in after.keys() - before.keys()}
    assert new <= {"mattn"} | closure(needs).keys()


def broken(machine: Machine, name: str, sound: str, planted: str) -> tuple[Path, str]:
    """A repository with one fault in its pyproject.toml."""
    repository = machine.folder / name
    clone(ROOT, repository)
    project = repository / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    assert sound in text
    project.write_text(text.replace(sound, planted), encoding="utf-8")
    return repository, commit(repository)


@pytest.mark.parametrize(
    ("sound", "planted", "says"),
    [
        ('build-backend = "', 'build-backend = "absent_', "CalledProcessError"),
        ('"web/play/*",', "", "FileNotFoundError"),
    ],
    ids=["not-installable", "data-file-missing"],
)
def test_planted_break_is_seen(
    machine: Machine, tmp_path: Path, sound: str, planted: str, says: str
) -> None:
    repository, commit_id = broken(machine, says, sound, planted)
    notebook = write(ROOT / "chapters" / "playground.ipynb", tmp_path / says, commit_id)
    with pytest.raises(CellExecutionError, match=says):
        machine.run(notebook, repository, ADDRESS)


def test_the_wheel_brings_what_it_declares_and_an_extra_the_rest(
    machine: Machine, tmp_path: Path
) -> None:
    """Beside PyTorch alone; then with the extra for notebooks."""
    repository = tmp_path / "repository"
    clone(ROOT, repository)
    venv = machine.fresh("wheel")
    python = venv / "bin" / "python"
    environment = machine.environment(repository, ADDRESS)

    def pip(*what: str | Path) -> None:
        run = [python, "-m", "pip", "--quiet", *what]
        subprocess.run(run, check=True, env=environment, cwd=tmp_path)

    before = machine.versions(venv)
    pip("wheel", "--no-deps", "--wheel-dir", "out", repository)
    (wheel,) = (tmp_path / "out").glob("mattn-*.whl")
    pip("install", wheel)
    pip("check")
    new = machine.versions(venv).keys() - before.keys()
    assert {"mattn", "jaxtyping", "tqdm"} <= new
    absent = {name for name, (package, _, _) in CALLS.items() if package != "triton"}
    said = complaints(python, tmp_path, set(), **environment)
    assert {name for name in absent if names_the_extra(said, name)} == absent, said
    pip("install", f"{wheel}[chapters]")
    pip("check")
    modules = {name for extra in editions.USES for name in editions.declared()[extra]}
    program = f"import {', '.join(sorted(modules))}"
    subprocess.run([python, "-c", program], check=True, env=environment, cwd=tmp_path)


def test_gpu_pages_are_notebooks() -> None:
    assert {name_of(s).removesuffix(".ipynb") for s in SOURCES} >= editions.GPU
