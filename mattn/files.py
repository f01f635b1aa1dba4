"""Tensors in a file of safetensors: read, or an error that names the file.

The golden weights of chapter 6 are such a file.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from mattn.optional import needed

__all__ = ["stored_tensors"]


def stored_tensors(
    path: Path, *, extra: str, by: str, names: Iterable[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of those ``names``, by default all, and what is noted beside them.

    ``by`` reads them and ``extra`` brings what it needs, as for
    :func:`~mattn.optional.needed`. ``ValueError`` names a file that is missing,
    cut off, of another format or without one of the names; and one that is only
    the pointer which Git LFS leaves where the file was not fetched.
    """
    safetensors = needed("safetensors", extra, by)
    if not path.is_file():
        raise ValueError(
            f"{by}: expected tensors in the file {path}; found none. Files of another "
            "format than safetensors are not read."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            there = set(file.keys())
            wanted = there if names is None else set(names)
            if missing := sorted(wanted - there):
                raise ValueError(
                    f"{by}: expected {len(wanted)} tensors in {path}; missing: "
                    f"{listed(missing)}. Copy or download the file again."
                )
            tensors = {name: file.get_tensor(name) for name in sorted(wanted)}
            return tensors, file.metadata() or {}
    except safetensors.SafetensorError as error:
        with path.open("rb") as file:
            pointer = file.read(40).startswith(b"version https://git-lfs")
        raise ValueError(
            f"{by}: expected {path} to be a file of safetensors; got "
            + (
                "the pointer of Git LFS to it. Fetch the file: `git lfs pull`."
                if pointer
                else f"{path.stat().st_size} bytes that cannot be read ({error}). It "
                "is cut off or of another format: copy or download it again."
            )
        ) from error


def listed(names: list[str]) -> str:
    """The first of the names, and how many there are besides."""
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
