"""A folder as one zip: the same bytes for the same files, whenever it is packed."""

from __future__ import annotations

import zipfile
from pathlib import Path

MOMENT = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can name


def pack(folder: Path, out: Path, top: str, *, hidden: bool = False) -> None:
    """The files of ``folder`` in ``out``, under one folder named ``top``.

    What is ``hidden``, in any folder on the way, comes along only if that is said.
    """
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            inside = path.relative_to(folder)
            shown = hidden or not any(part.startswith(".") for part in inside.parts)
            if path.is_file() and shown:
                info = zipfile.ZipInfo(f"{top}/{inside.as_posix()}", MOMENT)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, path.read_bytes())
