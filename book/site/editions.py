"""Which repository the book is in, and the edition of its notebooks for Colab.

    python -m book.site.editions          writes _build/colab, or says why not

Three places are asked for the address, in this order: what the CI of a host
sets (``GITHUB_SERVER_URL`` and ``GITHUB_REPOSITORY``), ``repository: url:`` in
``_config.yml``, and the remote ``origin`` of the book's own repository, if it is
at a public Git host. Without an address there is no Colab edition, and no button
that needs one.

An edition is a folder: ``colab/<tag>`` for a release, which later ones never
change, and ``colab/latest`` for all that is not a release. The site's branch,
``gh-pages``, has them, and Colab opens them from there.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from posixpath import dirname, join, normpath

import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from book import ROOT
from book.notebooks import to_text

BRANCH = "gh-pages"
COLAB = "https://colab.research.google.com"
BADGE = f"{COLAB}/assets/colab-badge.svg"
HOSTS = {"github.com", "gitlab.com", "codeberg.org", "bitbucket.org"}
NONE = (
    "No repository address (CI environment, _config.yml, origin at a public host): "
    "no Colab edition, no buttons for it."
)
# What Colab brings, and what must never be installed or pinned there.
BROUGHT = {"numpy", "torch", "matplotlib", "triton", "IPython", "mattn"}
# Extra of mattn → the names whose use in a notebook needs it.
USES = {
    "text": {"BytePairs", "multi30k"},
    "pretrained": {"checkpoint", "fetch_pretrained", "load_pretrained"},
    "translation": {"translation_scores"},
}
GPU = {"chapters/10_gpu"}
MINUTES = re.compile(r"((?:[Aa]bout )?[\w-]+(?: a)?\s+\w+)\s+to\s+run\b")
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)\s]*)?\)")

SETUP = """\
# Nothing happens here if mattn is there. Else it is installed, with what it
# needs and does not find; torch, numpy and matplotlib stay as they are.
import importlib.util
import subprocess
import sys

MATTN = (
    "mattn @ git+{url}"
    "@{revision}"
)
NEEDS = {needs}


def absent(module):
    return importlib.util.find_spec(module) is None


def install(*what):
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, *what], check=True)


if absent("mattn"):
    install("--no-deps", MATTN)
    if missing := [NEEDS[name] for name in NEEDS if absent(name)]:
        install(*missing)
    importlib.invalidate_caches()"""


@dataclass(frozen=True)
class Repository:
    """A repository at a public Git host."""

    server: str
    path: str

    @property
    def url(self) -> str:
        return f"{self.server}/{self.path}"

    @property
    def for_colab(self) -> bool:
        """Colab opens notebooks from one host only."""
        return self.server == "https://github.com"

    @classmethod
    def at(cls, address: str) -> Repository | None:
        """The repository that an address names; ``None``: it names none."""
        address = address.strip().removesuffix("/").removesuffix(".git")
        web = re.fullmatch(
            r"(https?://[\w.-]+(?::\d+)?)/([\w.-]+(?:/[\w.-]+)+)", address
        )
        if web:
            return cls(web[1], web[2])
        return None


@dataclass(frozen=True)
class Edition:
    """The notebooks of one revision, at an address that stays."""

    repository: Repository
    revision: str
    name: str

    def folder(self) -> str:
        return f"colab/{self.name}"

    def address(self, page: str) -> str:
        """Where Colab opens the notebook of ``page`` (``chapters/04_softmax``)."""
        place = f"{self.repository.path}/blob/{BRANCH}/{self.folder()}"
        return f"{COLAB}/github/{place}/{page.removeprefix('chapters/')}.ipynb"

    def source(self, path: str) -> str:
        """Where a file of this revision is read at its host."""
        return f"{self.repository.url}/blob/{self.revision}/{path}"


def find_repository(
    environment: Mapping[str, str], configured: str | None, root: Path
) -> Repository | None:
    """The repository of the book, or ``None``."""
    server, path = (
        environment.get(f"GITHUB_{k}") for k in ("SERVER_URL", "REPOSITORY")
    )
    if server and path:
        return Repository(server.removesuffix("/"), path)
    if configured:
        if (stated := Repository.at(configured)) is None:
            raise SystemExit(f"_config.yml: no address of a repository: {configured}")
        return stated
    return public(git(root, "remote", "get-url", "origin"))


def public(origin: str | None) -> Repository | None:
    """The repository of a remote, if anybody can reach it."""
    ssh = re.fullmatch(r"(?:ssh://)?(?:\w+@)([\w.-]+)[:/](.+)", origin or "")
    repository = Repository.at(f"https://{ssh[1]}/{ssh[2]}" if ssh else origin or "")
    if repository is None or repository.server.partition("//")[2] not in HOSTS:
        return None
    return repository


def find_edition(
    environment: Mapping[str, str], configured: str | None, root: Path
) -> Edition | None:
    """Repository, revision and name of what is being built, or ``None``."""
    repository = find_repository(environment, configured, root)
    if repository is None:
        return None
    if environment.get("GITHUB_REF_TYPE") == "tag":
        tag: str | None = environment["GITHUB_REF_NAME"]
    elif "GITHUB_REF_TYPE" in environment:
        tag = None
    else:
        tag = git(root, "describe", "--tags", "--exact-match")
    commit = environment.get("GITHUB_SHA") or git(root, "rev-parse", "HEAD")
    if not (tag or commit):
        return None
    return Edition(repository, tag or str(commit), tag or "latest")


def git(root: Path, *arguments: str) -> str | None:
    """One line of git's answer about the repository that ``root`` is the top of.

    ``None`` if there is no answer, or no repository: one that ``root`` only lies in
    is another's.
    """
    above = {"GIT_CEILING_DIRECTORIES": str(root.resolve().parent)}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=root,
            env=os.environ | above,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip() or None


def declared(root: Path = ROOT) -> dict[str, dict[str, str]]:
    """Extra → module → requirement, as pyproject.toml has them; "": always needed."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    project = project["project"]
    lists = {"": project["dependencies"]} | project["optional-dependencies"]
    return {
        extra: {re.split(r"[^\w-]", line, maxsplit=1)[0]: line for line in lines}
        for extra, lines in lists.items()
    }


def extras(notebook: NotebookNode) -> list[str]:
    """The extras of mattn that a notebook needs."""
    used = set()
    for node in ast.walk(parsed(notebook)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.keyword(arg=name):
                used.add(name)
    return [extra for extra, names in USES.items() if used & names]


def parsed(notebook: NotebookNode) -> ast.Module:
    code = (c.source for c in notebook.cells if c.cell_type == "code")
    return ast.parse("\n".join(code))


def needs(notebook: NotebookNode) -> dict[str, str]:
    """Module → requirement of what a notebook needs beyond what Colab brings."""
    imported = set()
    for node in ast.walk(parsed(notebook)):
        match node:
            case ast.Import(names=aliases):
                imported |= {alias.name.partition(".")[0] for alias in aliases}
            case ast.ImportFrom(module=str(module)):
                imported.add(module.partition(".")[0])
    lists = declared()
    wanted = {name: name for name in sorted(imported - sys.stdlib_module_names)}
    for extra in ("", *extras(notebook)):
        wanted |= lists[extra]
    return {name: line for name, line in wanted.items() if name not in BROUGHT}


def minutes(notebook: NotebookNode) -> str:
    """What a notebook says of the time it runs, if it does."""
    for cell in notebook.cells[:4]:
        if cell.cell_type == "markdown" and (found := MINUTES.search(cell.source)):
            return " ".join(found[1].split())
    return ""


def hardware(notebook: NotebookNode, page: str) -> str:
    """What to run it on, and for how long."""
    time = minutes(notebook) or "less than a minute"
    if dirname(page).endswith("exercises"):
        time += ", once every answer is there"
    if page in GPU:
        line = (
            "**Hardware:** made for a GPU, and Colab is asked for one. Without it the "
            "cells run too, on the CPU, with smaller sizes."
        )
    else:
        line = "**Hardware:** a CPU is enough."
    return f"{line} **Time to run:** {time}."


def linked(text: str, page: str, edition: Edition) -> str:
    """Relative links made whole: notebooks of the edition, other files at the host."""

    def whole(match: re.Match[str]) -> str:
        path = normpath(join(dirname(page), match[1]))
        if path.startswith("chapters/") and path.endswith(".ipynb"):
            address = edition.address(path.removesuffix(".ipynb"))
        else:
            address = edition.source(path)
        return f"]({address}{match[2] or ''})"

    return LINK.sub(whole, text)


def colab(notebook: NotebookNode, page: str, edition: Edition) -> NotebookNode:
    """The notebook with a badge, a first cell that sets up, and whole links.

    Colab would unfold an output that the book folds, and answer before the reader
    has guessed: such cells come without.
    """
    notebook = deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = linked(cell.source, page, edition)
        elif "hide-output" in cell.metadata.get("tags", []):
            cell.outputs, cell.execution_count = [], None
    badge = new_markdown_cell(
        f"[![Open in Colab]({BADGE})]({edition.address(page)})\n\n"
        f"{hardware(notebook, page)} **Package:** `{edition.revision}`.",
        id="colab-badge",
    )
    listed = "".join(f'\n    "{k}": "{v}",' for k, v in needs(notebook).items())
    setup = new_code_cell(
        SETUP.format(
            url=edition.repository.url,
            revision=edition.revision,
            needs=f"{{{listed}\n}}",
        ),
        id="colab-setup",
    )
    notebook.cells = [badge, setup, *notebook.cells]
    notebook.metadata["colab"] = {"provenance": [], "toc_visible": True}
    if page in GPU:
        notebook.metadata["accelerator"] = "GPU"
        notebook.metadata["colab"]["gpuType"] = "T4"
    return notebook


def pages(root: Path = ROOT) -> Iterator[str]:
    """Every notebook of the book: chapters, and exercises as students get them."""
    for path in sorted((root / "chapters").glob("*.ipynb")):
        yield f"chapters/{path.stem}"
    for path in sorted((root / "chapters" / "exercises").glob("*.ipynb")):
        yield f"chapters/exercises/{path.stem}"


def write(edition: Edition, target: Path, root: Path = ROOT) -> list[Path]:
    """Write the edition below ``target``; returns the notebooks."""
    written = []
    for page in pages(root):
        notebook = nbformat.read(root / f"{page}.ipynb", as_version=4)
        name = f"{page.removeprefix('chapters/')}.ipynb"
        path = target / edition.folder() / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(to_text(colab(notebook, page, edition)), encoding="utf-8")
        written.append(path)
    facts = {"revision": edition.revision, "repository": edition.repository.url}
    record = target / edition.folder() / "edition.json"
    record.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return written


def configured(root: Path = ROOT) -> str:
    """The address that ``_config.yml`` states, or an empty string."""
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    return (config.get("repository") or {}).get("url") or ""


def main() -> int:
    edition = find_edition(os.environ, configured(), ROOT)
    if edition is None or not edition.repository.for_colab:
        print(NONE)
        return 0
    written = write(edition, ROOT / "_build")
    print(f"{len(written)} notebooks for Colab: _build/{edition.folder()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
