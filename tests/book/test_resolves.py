"""Every requirements file resolves to wheels, on systems other than this one.

uv reads the metadata of the packages and installs nothing. It asks the package
index, so all of it is long; only where no index answers is it skipped.
"""

import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pins import bound, pins
from roots import ROOT

pytestmark = pytest.mark.long

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
# The first patch release of the oldest Python: a pin may want a later one.
OLDEST = PYPROJECT["project"]["requires-python"].removeprefix(">=") + ".0"
NEWEST = f"3.{bound('newest')}"
SYSTEMS = {
    "linux-x86": "x86_64-manylinux_2_28",
    "linux-arm": "aarch64-manylinux_2_28",
    "macos-arm": "aarch64-apple-darwin",
    "windows": "x86_64-pc-windows-msvc",
}
FILES = ("requirements.txt", "requirements-instructor.txt", "pyproject.toml")
# What torch itself pins, on Linux.
TORCHS = re.compile(r"nvidia-|cuda-")


def resolved(
    file: Path, python: str, system: str, *options: str, **env: str
) -> dict[str, str]:
    """Package → version, as ``python`` on ``system`` would install ``file``.

    What does not resolve is an ``AssertionError`` with uv's reason.
    """
    done = subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "compile", "--quiet"),
            *("--only-binary", ":all:", "--no-header", "--no-annotate"),
            *("--python-version", python, "--python-platform", SYSTEMS[system]),
            *options,
            str(file),
        ],
        cwd=file.parent,
        # The first macOS that torch has wheels for.
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"} | env,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if "error sending request" in done.stderr:
        why = done.stderr.strip().splitlines()[-1].strip()
        pytest.skip(f"the package index cannot be reached ({why})")
    assert done.returncode == 0, f"{file.name} on {system}, {python}: {done.stderr}"
    lines = (line.split(";")[0].strip() for line in done.stdout.splitlines())
    pairs = (line.split("==") for line in lines if "==" in line)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}


def corners() -> list:
    """Every file, Python and system; two of each file before the week is over."""
    often = {(OLDEST, "linux-x86"), (NEWEST, "windows")}
    return [
        pytest.param(*of, marks=[] if of[1:] in often else [pytest.mark.weekly])
        for of in itertools.product(FILES, (OLDEST, NEWEST), SYSTEMS)
    ]


@pytest.mark.parametrize(("file", "python", "system"), corners())
def test_it_resolves_to_wheels(file: str, python: str, system: str) -> None:
    options = ["--all-extras"] if file == "pyproject.toml" else []
    packages = resolved(ROOT / file, python, system, *options)
    if file == "pyproject.toml":
        assert {"torch", "numpy", "nbgrader"} <= packages.keys()
        return
    exact = pins(file) | (pins("constraints.txt") if file == FILES[0] else {})
    ours = {name: v for name, v in packages.items() if not TORCHS.match(name)}
    assert not ours.keys() - exact.keys(), "without a pin"
    assert ours.items() <= exact.items()


@pytest.mark.parametrize(
    ("line", "python", "reason"),
    [
        ("soupsieve==4.1.2", OLDEST, "3.11.5"),
        ("torch==2.13.0", "3.15", "no wheels"),
        ("docopt==0.6.2", NEWEST, "no usable wheels"),
    ],
    ids=["Python too old", "Python too new", "source only"],
)
def test_what_does_not_resolve_is_seen(
    tmp_path: Path, line: str, python: str, reason: str
) -> None:
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    with pytest.raises(AssertionError, match=reason):
        resolved(tmp_path / "requirements.txt", python, "linux-x86")


def test_without_a_network_the_reason_is_said(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("tqdm==4.70.1\n")
    nowhere = dict.fromkeys(("HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    with pytest.raises(pytest.skip.Exception, match="index cannot be reached"):
        resolved(
            tmp_path / "requirements.txt",
            OLDEST,
            "linux-x86",
            "--no-cache",
            UV_HTTP_RETRIES="0",
            **nowhere,
        )


def test_every_file_is_tried() -> None:
    named = {path.name for path in ROOT.glob("requirements*.txt")}
    assert named | {"pyproject.toml"} == set(FILES)
