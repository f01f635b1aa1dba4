"""`make book` on a stand-in for Jupyter Book: built aside, swapped, once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from roots import ROOT

from book.site import address

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="make and sh are for Unix"),
    pytest.mark.skipif(not shutil.which("make"), reason="make is not installed"),
]

# Counts its runs, fails where a page says so, and talks as Jupyter Book does.
BUILDER = f"""#!/bin/sh
case "$*" in
*jupyter-book*)
    echo run >> runs
    printf 'Running\\nOutput Path: aside\\nNo address.\\n'
    if grep -q broken chapters/*.md; then echo "A page is broken."; exit 1; fi
    mkdir -p _build/next/_build/html
    cat chapters/*.md > _build/next/_build/html/index.html
    printf '====\\nOpen _build/next\\n';;
*) exec "{sys.executable}" "$@";;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a b" / "é"
    shutil.copytree(ROOT / "book", folder / "book")
    for name in ("chapters", "exercises", "mattn", ".venv/bin"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    for name in ("_config.yml", "_toc.yml", "chapters/a.md", "chapters/b.md"):
        (folder / name).write_text("first\n", encoding="utf-8")
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (folder / name).touch()
    python = folder / ".venv" / "bin" / "python"
    python.write_text(BUILDER, encoding="utf-8")
    python.chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    return folder


def make(folder: Path, *words: str, ok: bool = True) -> str:
    done = subprocess.run(
        ["make", "--no-print-directory", *words],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done.stdout


def runs(folder: Path) -> int:
    return (folder / "runs").read_text().count("run")


def test_the_address_is_a_uri_and_only_one_is_said(clone: Path) -> None:
    lines = make(clone, "book").splitlines()
    page = clone / "_build" / "html" / "index.html"
    assert lines[-1] == f"The book is built. Open it: {page.as_uri()}"
    assert "/a%20b/%C3%A9/" in lines[-1]
    assert lines[1:-1] == ["No address."]
    assert os.listdir(clone / "_build") == ["html"]


def test_it_builds_again_only_if_something_changed(clone: Path) -> None:
    make(clone, "book")
    assert "Building" not in make(clone, "book")
    assert runs(clone) == 1
    later = (clone / "_build" / "html" / ".built").stat().st_mtime + 5
    os.utime(clone / "chapters" / "a.md", (later, later))
    make(clone, "book")
    assert runs(clone) == 2


@pytest.mark.parametrize("change", ["page removed", "page older", "other site"])
def test_what_leaves_nothing_newer_is_seen_too(
    clone: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    make(clone, "book")
    if change == "page removed":
        (clone / "chapters" / "b.md").unlink()
    elif change == "page older":
        (clone / "chapters" / "c.md").touch()
        os.utime(clone / "chapters" / "c.md", (0, 0))
    else:
        monkeypatch.setenv("MATTN_SITE", "elsewhere")
    make(clone, "book")
    assert runs(clone) == 2


def test_a_build_that_breaks_off_leaves_the_old_book(clone: Path) -> None:
    make(clone, "book")
    (clone / "chapters" / "a.md").write_text("broken\n", encoding="utf-8")
    os.utime(clone / "_build" / "html" / ".built", (0, 0))
    assert "A page is broken." in make(clone, "book", ok=False)
    assert (clone / "_build/html/index.html").read_text() == "first\nfirst\n"
    (clone / "chapters" / "a.md").write_text("second\n", encoding="utf-8")
    make(clone, "book")
    assert (clone / "_build/html/index.html").read_text() == "second\nfirst\n"


def test_a_page_changed_during_the_build_is_built_again(clone: Path) -> None:
    """The stamp is as old as the beginning."""
    builder = clone / ".venv" / "bin" / "python"
    text = builder.read_text(encoding="utf-8")
    slow = text.replace(">> runs", ">> runs; sleep 0.1; touch _toc.yml")
    builder.write_text(slow, encoding="utf-8")
    make(clone, "book")
    make(clone, "book")
    assert runs(clone) == 2


def test_make_and_make_help_list_what_there_is(clone: Path) -> None:
    listed = make(clone)
    assert listed == make(clone, "help")
    for target in ("help", "book", "open", "test", "test-long", "test-all", "pdf"):
        assert f"make {target} " in listed


@pytest.mark.parametrize("there", [True, False])
def test_open_shows_the_page_or_says_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, there: bool
) -> None:
    asked = []
    monkeypatch.setattr(address.webbrowser, "open", lambda u: asked.append(u) or there)
    address.main(["--open", "Built.", str(tmp_path / "ä.html")])
    uri = (tmp_path / "ä.html").as_uri()
    assert asked == [uri]
    words = "It opens in a browser" if there else "No browser was found. Open it"
    assert capsys.readouterr().out == f"Built. {words}: {uri}\n"
