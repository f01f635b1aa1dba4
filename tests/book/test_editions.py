"""The Colab edition as files: addresses, first cell, links, metadata."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from published import CI
from roots import ROOT

from book.classroom.exercises import write_student_pages
from book.site import editions
from book.site.editions import Edition, Repository, find_edition, find_repository

REPOSITORY = Repository("https://github.com", "owner/name")
EDITION = Edition(REPOSITORY, "v1.2.3", "v1.2.3")


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> dict[str, nbformat.NotebookNode]:
    write_student_pages()
    folder = tmp_path_factory.mktemp("edition")
    paths = editions.write(EDITION, folder)
    root = folder / "colab" / "v1.2.3"
    return {
        path.relative_to(root).as_posix(): nbformat.read(path, as_version=4)
        for path in paths
    }


def origin(folder: Path, address: str | None) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    subprocess.run(["git", "init", "-q", folder], check=True)
    if address:
        subprocess.run(
            ["git", "-C", folder, "remote", "add", "origin", address], check=True
        )
    return folder


def test_the_environment_of_the_ci_comes_first(tmp_path: Path) -> None:
    there = origin(tmp_path, "https://gitlab.com/a/b")
    assert find_repository(CI, "https://codeberg.org/c/d", there) == REPOSITORY


def test_then_the_configuration(tmp_path: Path) -> None:
    there = origin(tmp_path, "https://gitlab.com/a/b")
    found = find_repository({}, "https://codeberg.org/c/d", there)
    assert found == Repository("https://codeberg.org", "c/d")


def test_an_address_that_is_none_stops_the_build(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no address of a repository"):
        find_repository({}, "somewhere", tmp_path)


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/owner/name",
        "https://github.com/owner/name.git",
        "git@github.com:owner/name.git",
        "ssh://git@github.com/owner/name",
    ],
)
def test_then_the_remote_at_a_public_host(tmp_path: Path, address: str) -> None:
    assert find_repository({}, "", origin(tmp_path, address)) == REPOSITORY


@pytest.mark.parametrize(
    "address",
    [
        None,
        "../bare.git",
        "file:///srv/git/name.git",
        "git@git.internal:owner/name.git",
        "http://127.0.0.1:3000/owner/name.git",
    ],
)
def test_anything_else_counts_as_none(tmp_path: Path, address: str | None) -> None:
    there = origin(tmp_path, address)
    assert find_repository({}, "", there) is None
    assert find_edition({}, "", there) is None


def test_the_repository_around_a_copy_is_not_its_own(tmp_path: Path) -> None:
    there = origin(tmp_path, "https://github.com/owner/name")
    assert find_repository({}, "", there) == REPOSITORY
    copy = there / "copy"
    (copy / ".git").mkdir(parents=True)  # nothing is in it: git looks further up
    assert find_repository({}, "", copy) is None
    assert find_edition({}, REPOSITORY.url, copy) is None


def test_a_tag_has_its_own_place_and_all_else_is_the_latest(tmp_path: Path) -> None:
    latest = find_edition(CI, "", tmp_path)
    assert latest == Edition(REPOSITORY, "0" * 40, "latest")
    tagged = CI | {"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v1.2.3"}
    assert find_edition(tagged, "", tmp_path) == EDITION
    assert "/blob/gh-pages/colab/v1.2.3/01_a.ipynb" in EDITION.address("chapters/01_a")


def test_a_local_tag_is_a_release_too(tmp_path: Path) -> None:
    there = origin(tmp_path, "https://github.com/owner/name")
    who = ["-c", "user.name=n", "-c", "user.email=n@example.org"]
    empty = ["commit", "-q", "--allow-empty", "-m", "x"]
    subprocess.run(["git", "-C", there, *who, *empty], check=True)
    assert find_edition({}, "", there).name == "latest"
    assert len(find_edition({}, "", there).revision) == 40
    subprocess.run(["git", "-C", there, "tag", "v1.2.3"], check=True)
    assert find_edition({}, "", there) == EDITION


def test_every_chapter_and_exercise_is_there(written) -> None:
    chapters = {path.name for path in (ROOT / "chapters").glob("*.ipynb")}
    tasks = {f"exercises/{path.name}" for path in (ROOT / "exercises").glob("*.ipynb")}
    assert set(written) == chapters | tasks


def test_two_cells_are_added_and_all_stays_but_what_is_folded(written) -> None:
    folded = 0
    for name, notebook in written.items():
        source = nbformat.read(ROOT / "chapters" / name, as_version=4)
        badge, setup, *rest = notebook.cells
        assert [c.cell_type for c in (badge, setup)] == ["markdown", "code"]
        assert (
            EDITION.address(f"chapters/{name.removesuffix('.ipynb')}") in badge.source
        )
        assert "**Hardware:**" in badge.source
        assert len(rest) == len(source.cells)
        for mine, theirs in zip(rest, source.cells, strict=True):
            assert mine.cell_type == theirs.cell_type
            if "hide-output" in theirs.metadata.get("tags", []):
                folded += len(theirs.outputs)
                theirs.outputs, theirs.execution_count = [], None
            if mine.cell_type == "code":
                assert mine == theirs
        assert "nbgrader" not in setup.metadata
    assert folded, "no chapter folds an output: nothing was seen to be left out"


def test_every_notebook_says_how_long_it_runs(written) -> None:
    for name, notebook in written.items():
        (time,) = re.findall(r"\*\*Time to run:\*\* (.+?)\.", notebook.cells[0].source)
        stated = editions.minutes(notebook)
        if name[:2].isdigit():
            assert stated, f"{name} does not say how long it runs"
        assert time.startswith(stated or "less than a minute"), name


def test_set_up_is_pinned_and_brings_no_torch(written) -> None:
    for notebook in written.values():
        setup = notebook.cells[1].source
        ast.parse(setup)
        assert max(map(len, setup.splitlines())) <= 79
        assert '"mattn @ git+https://github.com/owner/name"' in setup
        assert '"@v1.2.3"' in setup
        assert "--no-deps" in setup
        listed = setup.partition("NEEDS = ")[2].partition("\n}")[0]
        assert '"jaxtyping": "jaxtyping>=' in listed
        for never in ("torch", "numpy", "matplotlib", "triton"):
            assert f'"{never}"' not in listed


@pytest.mark.parametrize(
    ("code", "extras"),
    [
        ("attention(x, x, x)", []),
        ("from mattn.data import BytePairs\nBytePairs(texts, 9)", ["text"]),
        ("mattn.data.multi30k()", ["text"]),
        ("fit(model, batches, checkpoint=path)", ["pretrained"]),
        ("metrics.translation_scores(h, read(path))", ["translation"]),
        ("BytePairs, load_pretrained", ["text", "pretrained"]),
    ],
)
def test_an_extra_is_needed_where_one_of_its_functions_is_used(code, extras) -> None:
    cells = [nbformat.v4.new_code_cell(line) for line in code.splitlines()]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert editions.extras(notebook) == extras
    lists = editions.declared()
    always = {"jaxtyping", "tqdm"}
    assert set(editions.needs(notebook)) == always.union(*(lists[e] for e in extras))


def test_another_package_that_a_notebook_imports_is_installed_by_its_name() -> None:
    cells = [
        nbformat.v4.new_code_cell("import os, einops.layers\nfrom torch import nn")
    ]
    needs = editions.needs(nbformat.v4.new_notebook(cells=cells))
    assert needs["einops"] == "einops"
    assert set(needs) == {"einops", "jaxtyping", "tqdm"}


def test_set_up_does_nothing_where_mattn_is(written, monkeypatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"was called: {arguments}")

    monkeypatch.setattr(subprocess, "run", refuse)
    for notebook in written.values():
        exec(notebook.cells[1].source, {})


def test_set_up_installs_what_is_absent_by_name(written, monkeypatch) -> None:
    import importlib.util

    called = []
    present = {"tqdm"}
    monkeypatch.setattr(subprocess, "run", lambda what, check: called.append(what))
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: object() if name in present else None
    )
    exec(written["01_concept.ipynb"].cells[1].source, {})
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    assert called[0] == [
        *pip,
        "--no-deps",
        "mattn @ git+https://github.com/owner/name@v1.2.3",
    ]
    assert called[1:] == [[*pip, editions.declared()[""]["jaxtyping"]]]


def test_only_the_gpu_chapter_asks_for_a_gpu(written) -> None:
    asked = {n for n, nb in written.items() if nb.metadata.get("accelerator") == "GPU"}
    assert asked == {"10_gpu.ipynb"}


def test_no_relative_link_is_left(written) -> None:
    for name, notebook in written.items():
        for cell in notebook.cells:
            if cell.cell_type == "markdown":
                assert not editions.LINK.search(cell.source), (name, cell.source)


def test_links_between_chapters_stay_in_the_edition() -> None:
    text = "[4](04_softmax.ipynb#by-hand), [all](faq.md), [web](https://example.org)"
    here = editions.linked(text, "chapters/01_concept", EDITION)
    assert f"[4]({EDITION.address('chapters/04_softmax')}#by-hand)" in here
    assert "[all](https://github.com/owner/name/blob/v1.2.3/chapters/faq.md)" in here
    assert "[web](https://example.org)" in here
    task = editions.linked("[2](../02_mask.ipynb)", "chapters/exercises/02_m", EDITION)
    assert task == f"[2]({EDITION.address('chapters/02_mask')})"


def test_without_an_address_no_page_speaks_of_colab() -> None:
    """As built here, where ``origin`` is no public host."""
    if find_edition({}, editions.configured(), ROOT) is not None:
        pytest.skip("this checkout has a public address")
    built = ROOT / "_build" / "html"
    assert not (built / "colab").exists()
    for page in (built / "chapters").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "colab.research" not in text
        assert "repository-button" not in text
