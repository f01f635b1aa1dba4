"""The book as it is published, under its address: one build for all tests.

It has what a build without an address lacks: a site prefix, canonical
addresses, the button of Colab and its edition, a page for what is not there.
A browser is given the files under that very address, without a network.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from roots import ROOT

ADDRESS = "https://book.example/mattn"
SITE = f"{ADDRESS}/"
CI = {
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_REPOSITORY": "owner/name",
    "GITHUB_SHA": "0" * 40,
    "GITHUB_REF_TYPE": "branch",
    "GITHUB_REF_NAME": "main",
}


@functools.cache
def made() -> tuple[tempfile.TemporaryDirectory[str], str]:
    """The folder, removed when the tests end; what went wrong, once for all."""
    folder = tempfile.TemporaryDirectory(prefix="mattn-published-")
    python = str(Path(sys.executable).parent)
    done = subprocess.run(
        [
            *(shutil.which("jupyter-book", path=python), "build", str(ROOT)),
            *("--path-output", folder.name, "-W", "-n", "--keep-going", "--all", "-q"),
        ],
        env=os.environ | CI | {"MATTN_SITE": ADDRESS},
        capture_output=True,
        text=True,
        check=False,
    )
    return folder, done.stdout + done.stderr if done.returncode else ""


def build() -> Path:
    """The folder of the pages, built as on the host."""
    folder, wrong = made()
    if wrong:
        pytest.fail(f"the book was not built:\n{wrong[-4000:]}")
    return Path(folder.name, "_build", "html")


def serve(context: object, root: Path) -> None:
    """Answer every request to the site from ``root``, as GitHub Pages does."""
    prefix = urlsplit(SITE).path

    def answer(route: object) -> None:
        path = root / unquote(urlsplit(route.request.url).path).removeprefix(prefix)
        if path.is_dir():
            path /= "index.html"
        if not path.is_file():
            route.fulfill(status=404, path=root / "404.html", content_type="text/html")
        elif path.suffix == ".ipynb":
            route.fulfill(path=path, content_type="application/json")
        else:
            route.fulfill(path=path)

    context.route(f"{SITE}**", answer)
