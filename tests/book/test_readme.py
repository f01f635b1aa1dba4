"""The README keeps its word: its snippet prints what it says, its paths exist."""

import io
import re
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import torch
import yaml
from roots import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)


def fences(language):
    return [text for name, text in FENCES if name == language]


def test_snippet_prints_what_the_readme_shows():
    (snippet,) = fences("python")
    assert len([line for line in snippet.splitlines() if line.strip()]) == 5
    printed = io.StringIO()
    before = torch._tensor_str.PRINT_OPTS
    torch.set_printoptions(profile="default")
    try:
        with redirect_stdout(printed):
            exec(snippet, {})
    finally:
        torch._tensor_str.PRINT_OPTS = before
    assert printed.getvalue() == fences("text")[0]


def test_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.M))
    named = set(re.findall(r"`make ([a-z-]+)`|^make ([a-z-]+)", README, re.M))
    named = {a or b for a, b in named}
    assert {"book", "test"} <= named <= targets


def test_images_exist_and_are_described():
    images = re.findall(r"!\[(.*?)\]\((.*?)\)", README, re.S)
    assert len(images) == 1
    for alt, path in images:
        assert (ROOT / path).is_file()
        assert len(alt.split()) > 20
        assert alt.endswith(".")


def test_folders_named_exist():
    for folder in re.findall(r"^([a-z]+)/ ", fences("text")[1], re.M):
        assert (ROOT / folder).is_dir(), folder


def test_one_address_and_that_is_pytorchs():
    assert set(re.findall(r"https?://[^\s)`]+", README)) == {
        "https://download.pytorch.org/whl/cpu"
    }


def test_torch_is_the_one_in_requirements():
    pinned = re.search(
        r"^torch==(\S+)$", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.M
    )
    assert f"torch=={pinned[1]} --index-url" in README


def test_commands_without_make_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in (
        "build . -W -n --keep-going",
        "ruff format --check",
        "mypy\n",
        "basedpyright\n",
        "--nbval-current-env --nbval-cell-timeout 3600",
        "--nbval-sanitize-with tests/nbval_sanitize.cfg",
    ):
        assert command in README
        assert command in makefile


def test_the_figure_is_what_its_program_draws(tmp_path):
    """Same shapes and colours; positions may differ by the version of a font."""
    drawn = tmp_path / "figure.svg"
    command = [sys.executable, "-m", "book.site.readme_figure", drawn]
    subprocess.run(command, cwd=ROOT, check=True)
    stored = ROOT / "book" / "static" / "scores-rule-weights.svg"

    def fills(path):
        return re.findall(r"fill: (#\w+)", path.read_text(encoding="utf-8"))

    assert fills(drawn) == fills(stored), "run: python -m book.site.readme_figure"


def test_citation_of_python_version():
    needed = re.search(
        r'requires-python = ">=(\d\.\d+)"',
        (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
    )
    assert f"Python ≥ {needed[1]}" in README


@pytest.mark.parametrize("page", ["notation", "glossary", "faq", "api", "bibliography"])
def test_appendices_are_in_the_contents(page):
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    files = [c["file"] for part in contents["parts"] for c in part["chapters"]]
    assert f"chapters/{page}" in files
