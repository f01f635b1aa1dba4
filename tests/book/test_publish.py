"""What is published: workflows that are valid, and releases that stay."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pins import bound
from roots import ROOT

from book.site import pdf
from book.site.publish import assemble

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = {
    "actions/checkout@v5",
    "actions/setup-python@v6",
    "lycheeverse/lychee-action@v2",
    "pypa/gh-action-pypi-publish@release/v1",
}


def schema_says(*files: Path) -> subprocess.CompletedProcess[str]:
    """Judged by the schema that check-jsonschema brings: no network."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "check_jsonschema"),
            *("--builtin-schema", "vendor.github-workflows", *map(str, files)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


def test_workflows_follow_the_published_schema() -> None:
    names = {"links", "publish", "release", "test", "weekly"}
    assert {path.stem for path in WORKFLOWS} == names
    done = schema_says(*WORKFLOWS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_workflow_that_does_not_is_seen(tmp_path: Path) -> None:
    text = WORKFLOWS[0].read_text(encoding="utf-8")
    (tmp_path / "broken.yml").write_text(text.replace("runs-on:", "runs_on:"))
    assert schema_says(tmp_path / "broken.yml").returncode == 1


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_and_rights_are_the_fewest(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"] <= 90
        used = {step["uses"] for step in job["steps"] if "uses" in step}
        assert used <= ACTIONS
    write = {"contents": "write" if path.stem == "publish" else "read"}
    assert workflow["permissions"] == write


def test_a_release_is_built_from_a_tag_and_goes_to_an_index_only_where_asked() -> None:
    path = WORKFLOWS[0].parent / "release.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert workflow[True] == {"push": {"tags": ["v*"]}}  # YAML's `on`
    release, index = workflow["jobs"]["release"], workflow["jobs"]["index"]
    commands = "\n".join(step.get("run", "") for step in release["steps"])
    order = ["-m build", "twine check --strict", "install --quiet dist/*.whl", "upload"]
    places = [commands.index(words) for words in order]
    assert places == sorted(places)
    assert release["permissions"] == {"contents": "write"}
    assert index["needs"] == "release"
    assert index["if"].startswith("vars.")
    assert index["permissions"] == {"contents": "read", "id-token": "write"}
    # Whoever may publish is told by the index: no password, no token.
    assert "secrets." not in path.read_text(encoding="utf-8")


def test_what_workflows_call_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for path in WORKFLOWS:
        text = path.read_text(encoding="utf-8")
        for line in re.findall(r"run: make (.*)", text):
            assert set(line.split()) <= targets
        for file in re.findall(r"\b(?:book|tests|chapters)/[\w/]+\.(?:py|ipynb)", text):
            assert (ROOT / file).is_file(), file


def jobs(stem: str) -> dict:
    path = WORKFLOWS[0].parent / f"{stem}.yml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]


def test_every_python_that_is_taken_is_tried() -> None:
    linux = jobs("test")["linux"]
    taken = [f"3.{n}" for n in range(bound("oldest"), bound("newest") + 1)]
    assert linux["strategy"]["matrix"]["python"] == taken
    # What may fail is the newest Python, and the newest of everything.
    assert "'3.14'" in linux["continue-on-error"]
    lenient = {
        name
        for stem in (path.stem for path in WORKFLOWS)
        for name, job in jobs(stem).items()
        if "continue-on-error" in job
    }
    assert lenient == {"linux", "newest"}


def test_the_package_alone_is_tried_with_its_oldest_and_newest_libraries() -> None:
    job = jobs("test")["package"]
    tried = {
        row["resolution"]: row["python"] for row in job["strategy"]["matrix"]["include"]
    }
    assert tried == {"lowest-direct": "3.11", "highest": "3.13"}
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    # Which they are, pyproject.toml alone says.
    assert not re.search(r"(torch|numpy|matplotlib|jaxtyping|tqdm)\b *[=<>~]", commands)


def test_one_command_tests_the_package_everywhere() -> None:
    systems = {"macos-latest", "windows-latest", "ubuntu-24.04-arm"}
    elsewhere = jobs("test")["elsewhere"]
    assert set(elsewhere["strategy"]["matrix"]["system"]) == systems
    for job in (elsewhere, jobs("test")["package"], jobs("weekly")["wheel"]):
        runs = [
            step["run"] for step in job["steps"] if "pytest -" in step.get("run", "")
        ]
        assert len(runs) == 1
        assert re.fullmatch(r"(python -m |alone/bin/)pytest --package", runs[0])


def book(folder: Path, words: str, edition: str | None) -> Path:
    (folder / "colab").mkdir(parents=True)
    (folder / "index.html").write_text(words)
    if edition:
        (folder / "colab" / edition).mkdir()
        (folder / "colab" / edition / "01_a.ipynb").write_text(words)
    return folder


def test_a_release_is_added_and_stays(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    first = tmp_path / "first"
    assemble(nothing, book(tmp_path / "a", "main 1", "latest"), first)
    second = tmp_path / "second"
    assemble(first, book(tmp_path / "b", "release 1", "v1"), second)
    assert (second / "index.html").read_text() == "main 1"
    third = tmp_path / "third"
    assemble(second, book(tmp_path / "c", "main 2", "latest"), third)
    fourth = tmp_path / "fourth"
    assemble(third, book(tmp_path / "d", "release 1 again", "v1"), fourth)
    assert (fourth / "index.html").read_text() == "main 2"
    stored = {
        path.parent.name: path.read_text() for path in fourth.glob("colab/*/*.ipynb")
    }
    assert stored == {"latest": "main 2", "v1": "release 1"}


def test_the_first_thing_published_may_be_a_release(tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    site = tmp_path / "site"
    assemble(tmp_path / "nothing", book(tmp_path / "a", "release", "v1"), site)
    assert (site / "index.html").read_text() == "release"
    assert (site / "colab" / "v1" / "01_a.ipynb").is_file()


def test_without_a_browser_one_line_says_what_the_pdf_needs(
    monkeypatch, capsys, tmp_path: Path
) -> None:
    monkeypatch.setattr(pdf, "find_browser", lambda: None)
    monkeypatch.setattr(sys, "argv", ["pdf.py", str(tmp_path / "mattn.pdf")])
    assert pdf.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Install chromium" in line
