"""The scripts that pages load: each piece names its own, and all go to one place."""

import shutil
from collections.abc import Iterable
from pathlib import Path

__all__ = ["copy_to"]


def copy_to(outdir: str | Path, files: Iterable[Path]) -> None:
    """Copy files to where the pages of a book look for them."""
    for file in dict.fromkeys(files):
        shutil.copyfile(file, Path(outdir, "_static", file.name))
