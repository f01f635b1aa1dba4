"""A machine as Colab is one, made without a network: for test_colab.py.

A virtual environment with numpy, torch, matplotlib and ipykernel, made of
links to what is installed here; a folder of wheels, packed from what is
installed here, in place of a package index; a local clone in place of the
repository, by git's ``insteadOf``.
"""

from __future__ import annotations

import asyncio
import base64
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement

from book.site.editions import USES, declared

BROUGHT = ("numpy", "torch", "matplotlib", "ipykernel")
# What a machine with a GPU has besides: PyTorch brings it there.
BROUGHT_ON_LINUX = ("triton",)
# All that a notebook may install besides.
OTHERS = {
    name
    for extra, needs in declared().items()
    if not extra or extra in USES
    for name in needs
}
WRITTEN_BY_PIP = {"INSTALLER", "REQUESTED", "direct_url.json", "RECORD"}
BUILD = ("setuptools", "wheel")


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: Iterable[str]) -> dict[str, Distribution]:
    """The distributions and, in turn, all that they need."""
    found: dict[str, Distribution] = {}
    todo = list(names)
    while todo:
        name = canonical(todo.pop())
        if name in found:
            continue
        found[name] = distribution(name)
        for line in found[name].requires or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                todo.append(need.name)
    return found


def files(dist: Distribution) -> list[str]:
    """What belongs into a wheel: no scripts, no compiled files."""
    return [
        str(file)
        for file in dist.files or ()
        if ".." not in file.parts
        and "__pycache__" not in file.parts
        and not (len(file.parts) == 2 and file.name in WRITTEN_BY_PIP)
    ]


def link_into(dist: Distribution, site: Path) -> None:
    """Make an installed distribution part of another environment."""
    records = [str(file) for file in dist.files if file.name == "RECORD"]
    for name in dict.fromkeys([*files(dist), *records]):
        source, target = Path(dist.locate_file(name)), site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, target)
        except FileExistsError:
            pass
        except OSError:
            os.symlink(source, target)


def pack(dist: Distribution, folder: Path) -> Path:
    """An installed distribution as the wheel that it came from."""
    name = re.sub(r"[-_.]+", "_", dist.metadata["Name"])
    tags = re.findall(r"^Tag: (\S+?)-(\S+?)-(\S+)$", dist.read_text("WHEEL"), re.M)
    tag = "-".join(".".join(dict.fromkeys(part)) for part in zip(*tags, strict=True))
    path = folder / f"{name}-{dist.version}-{tag}.whl"
    rows, record = [], ""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as wheel:
        for file in files(dist):
            content = Path(dist.locate_file(file)).read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            rows.append((file, f"sha256={digest.decode().rstrip('=')}", len(content)))
            wheel.writestr(file, content)
            if file.endswith(".dist-info/METADATA") and file.count("/") == 1:
                record = file.replace("METADATA", "RECORD")
        text = io.StringIO()
        csv.writer(text).writerows([*rows, (record, "", "")])
        wheel.writestr(record, text.getvalue())
    return path


def copy_package(root: Path, folder: Path) -> None:
    """What the package is built from, as it is in the tree now."""
    folder.mkdir(parents=True)
    for name in ("pyproject.toml", "MANIFEST.in", "LICENSE", "THIRD-PARTY.md"):
        shutil.copy(root / name, folder / name)
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(root / "mattn", folder / "mattn", ignore=leave)


def clone(root: Path, folder: Path) -> str:
    """A repository with the package as it is in the tree now; its commit."""
    copy_package(root, folder)
    return commit(folder)


def commit(folder: Path) -> str:
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@example.org"]
    for line in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "all"]):
        subprocess.run(["git", "-C", folder, *line], check=True)
    done = subprocess.run(
        ["git", "-C", folder, "rev-parse", "HEAD"], capture_output=True, text=True
    )
    return done.stdout.strip()


class Machine:
    """Where lone notebooks run: nothing outside ``folder`` but this Python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.template = folder / "template"
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        subprocess.run([sys.executable, "-m", "venv", self.template], check=True)
        names = BROUGHT + BROUGHT_ON_LINUX * (sys.platform == "linux")
        brought = closure(names)
        for dist in brought.values():
            link_into(dist, self.site(self.template))
        for name, dist in closure((*OTHERS, *BUILD)).items():
            if name not in brought or name in BUILD:
                pack(dist, self.wheels)

    @staticmethod
    def site(venv: Path) -> Path:
        (site,) = venv.glob("lib/python*/site-packages")
        return site

    def environment(self, repository: Path, address: str) -> dict[str, str]:
        """No index, no user's settings; the address of the repository is local."""
        kept = {k: v for k, v in os.environ.items() if k in {"PATH", "LANG", "TMPDIR"}}
        return kept | {
            "HOME": str(self.folder),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.wheels),
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": f"url.{repository.as_uri()}.insteadOf",
            "GIT_CONFIG_VALUE_0": address,
            "GIT_CONFIG_KEY_1": "safe.directory",
            "GIT_CONFIG_VALUE_1": "*",
            "GIT_ALLOW_PROTOCOL": "file",
            "JUPYTER_PLATFORM_DIRS": "1",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "OMP_NUM_THREADS": "1",
            "MATTN_PROGRESS": "0",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        }

    def fresh(self, name: str) -> Path:
        """A virtual environment in which nothing was installed yet."""
        (self.folder / "venvs").mkdir(exist_ok=True)
        venv = Path(tempfile.mkdtemp(dir=self.folder / "venvs")) / name
        shutil.copytree(self.template, venv, symlinks=True, copy_function=hard_link)
        return venv

    def versions(self, venv: Path) -> dict[str, str]:
        done = subprocess.run(
            [venv / "bin" / "python", "-m", "pip", "list", "--format=json"],
            capture_output=True,
            text=True,
            check=True,
            env=self.environment(self.folder, "nowhere"),
        )
        return {line["name"]: line["version"] for line in json.loads(done.stdout)}

    def run(self, notebook: Path, repository: Path, address: str) -> dict:
        """Run a lone notebook in an empty folder; returns packages before and after.

        Raises what nbclient raises where a cell fails.
        """
        from jupyter_client import AsyncKernelManager
        from jupyter_client.kernelspec import KernelSpec
        from nbclient import NotebookClient
        from nbformat import read

        name = "-".join(notebook.parts[-2:]).removesuffix(".ipynb")
        venv = self.fresh(name)
        place = Path(tempfile.mkdtemp(dir=self.folder))
        shutil.copy(notebook, place)
        before = self.versions(venv)
        began = time.perf_counter()
        manager = AsyncKernelManager()
        manager._kernel_spec = KernelSpec(
            argv=[
                str(venv / "bin" / "python"),
                *("-m", "ipykernel_launcher", "-f", "{connection_file}"),
            ],
            display_name="Python 3",
            language="python",
        )
        client = NotebookClient(
            read(notebook, as_version=4),
            km=manager,
            timeout=3600,  # for what hangs
            resources={"metadata": {"path": str(place)}},
        )
        client.owns_km = True  # the kernel ends with the notebook
        ran = client.async_execute(
            cwd=str(place), env=self.environment(repository, address)
        )
        asyncio.run(ran)  # a loop of its own, which is closed
        after = self.versions(venv)
        shutil.rmtree(venv)
        shutil.rmtree(place)
        seconds = time.perf_counter() - began
        return {"before": before, "after": after, "seconds": seconds}


def hard_link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
