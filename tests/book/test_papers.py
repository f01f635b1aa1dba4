"""What a stranger reads first: every paper names what exists, and no address more."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import distribution, packages_distributions

import pytest
import yaml
from roots import ROOT

PAPERS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", ".github/**/*.md", "mattn/*.md")
    for path in ROOT.glob(pattern)
)
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
ADDRESSES = {
    "CHANGELOG.md": {
        "https://keepachangelog.com/en/1.1.0/",
        "https://semver.org/spec/v2.0.0.html",
    },
    "README.md": {"https://download.pytorch.org/whl/cpu"},
}
# Made by the commands that the papers name.
MADE = re.compile(r"_build/|\.venv|colab/")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_papers_of_an_open_project_are_there():
    assert set(PAPERS) >= {
        *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"),
        *("THIRD-PARTY.md", ".github/PULL_REQUEST_TEMPLATE.md"),
    }
    assert [form.stem for form in FORMS] == ["fault", "idea", "passage"]


@pytest.mark.parametrize("name", PAPERS)
def test_what_a_paper_names_exists(name):
    text = read(name)
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    assert set(re.findall(r"`make ([a-z-]+)", text)) <= targets
    for path in re.findall(r"`([\w.-]+/[\w./-]*|[\w-]+\.(?:md|toml|cff|yml))`", text):
        places = (ROOT, ROOT / ".github" / "workflows", ROOT / "mattn" / "data")
        assert MADE.match(path) or any((p / path).exists() for p in places), path


@pytest.mark.parametrize("name", PAPERS)
def test_a_paper_invents_no_address(name):
    found = set(re.findall(r"(?:https?://|mailto:)[^\s)`>\]]+", read(name)))
    assert found == ADDRESSES.get(name, set())
    assert not re.findall(r"[\w.]+@[\w-]+\.\w+", read(name))


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-issue-forms", FORMS),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=["forms", "citation"],
)
def test_forms_and_citation_follow_their_schema(schema, files):
    check = [sys.executable, "-m", "check_jsonschema"]
    check += ["--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_of_others_is_listed():
    text = read("THIRD-PARTY.md")
    for folder in ("book", "mattn", "tests", "chapters", "exercises"):
        for file in (ROOT / folder).rglob("*"):
            if file.name.startswith(("LICENSE", "COPYING", "OFL")):
                place = file.parent.relative_to(ROOT).as_posix()
                assert f"`{place}`" in text, place
    # Extensions that put files of theirs into the built pages.
    config = yaml.safe_load(read("_config.yml"))["sphinx"]["config"]
    homes = packages_distributions()
    built = text.partition("## In the built pages")[2].partition("|---")[2]
    # The first row of a distribution is its own; others are of what it holds.
    shown = dict(re.findall(r"^\| .+? \| ([\w-]+) \| (\w+)", built, re.M)[::-1])
    brings = {"sphinx", "pydata-sphinx-theme"}
    for extension in {name.partition(".")[0] for name in config["extensions"]}:
        for name in homes.get(extension, []):
            files = distribution(name).files or ()
            if any("static" in str(f) and f.suffix in {".js", ".css"} for f in files):
                brings.add(name.lower())
    assert len(brings) > 4
    assert brings <= shown.keys()
    for name, licence in shown.items():
        facts = distribution(name).metadata
        said = [facts.get("License-Expression"), facts.get("License")]
        said += facts.get_all("Classifier", [])
        assert licence in " ".join(filter(None, said)), name
