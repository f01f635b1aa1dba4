"""Real text: downloaded with a checksum when asked, never part of the package.

A folder named by the environment variable ``MATTN_DATA`` comes first (with
``tinyshakespeare/input.txt`` and ``multi30k/*.gz`` in it), then the cache of
earlier downloads. Used in chapters 7 and 8.
"""

from __future__ import annotations

import gzip
import importlib.util
import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["DataMissing", "Text", "multi30k", "real_text", "tiny_shakespeare"]

_SHAKESPEARE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/"
    "6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/data/tinyshakespeare/"
)
_MULTI30K = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
_SHA256 = {
    "tinyshakespeare/input.txt": (
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    ),
    "multi30k/train.en.gz": (
        "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"
    ),
    "multi30k/train.de.gz": (
        "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"
    ),
    "multi30k/val.en.gz": (
        "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"
    ),
    "multi30k/val.de.gz": (
        "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"
    ),
    "multi30k/test_2016_flickr.en.gz": (
        "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"
    ),
    "multi30k/test_2016_flickr.de.gz": (
        "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"
    ),
}


class DataMissing(RuntimeError):
    """The data is neither here nor to be had; the message says what to do."""


class Text(NamedTuple):
    """A text and where it comes from, as a sentence that a notebook can print."""

    text: str
    source: str


def tiny_shakespeare(*, download: bool = False) -> str:
    """Plays by Shakespeare, 1,115,394 characters (Karpathy's char-rnn repository).

    The text is in the public domain. Raises :class:`DataMissing` when it is
    not here and may not, or cannot, be downloaded.
    """
    path = _find("tinyshakespeare/input.txt", _SHAKESPEARE, download=download)
    return path.read_text(encoding="utf-8")


def real_text(*, download: bool = False) -> Text:
    """Tiny Shakespeare if it can be had, else English that every Python has.

    That is the reference documentation inside the standard library (module
    ``pydoc_data.topics``), read as a file.
    """
    try:
        return Text(tiny_shakespeare(download=download), "plays by Shakespeare")
    except DataMissing:
        from pydoc_data import topics

        text = "\n".join(topics.topics[name] for name in sorted(topics.topics))
        plain = "".join(c for c in text if c == "\n" or " " <= c <= "~")
        return Text(plain, "the reference documentation of Python's standard library")


def multi30k(split: str, *, download: bool = False) -> list[tuple[str, str]]:
    """Pairs (German, English) of image descriptions.

    ``split``: ``"train"`` (29,000), ``"val"`` (1,014), ``"test_2016_flickr"``
    (1,000). For researchers and educators, for non-commercial research and
    educational purposes, says the dataset's page.
    Source: Elliott et al. 2016, doi:10.18653/v1/W16-3210.
    """
    splits = ("train", "val", "test_2016_flickr")
    if split not in splits:
        raise ValueError(f"multi30k: expected one of {splits}; got {split!r}.")
    german, english = (
        gzip.decompress(
            _find(
                f"multi30k/{split}.{language}.gz", _MULTI30K, download=download
            ).read_bytes()
        )
        .decode("utf-8")
        .splitlines()
        for language in ("de", "en")
    )
    return list(zip(german, english, strict=True))


def _find(name: str, url: str, *, download: bool) -> Path:
    """The file, checked: from MATTN_DATA, from the cache, or by download."""
    folder = os.environ.get("MATTN_DATA")
    if folder:
        path = Path(folder) / name
        if not path.is_file():
            raise DataMissing(
                f"expected {name} in the folder that MATTN_DATA names; it is not "
                "there. Put it there, or unset MATTN_DATA to use a download."
            )
        _check(path, name)
        return path
    if importlib.util.find_spec("pooch") is None:
        if not download:
            raise DataMissing(f"{name} is not here: pass download=True.")
        raise ImportError("downloads need pooch: python -m pip install pooch")
    import pooch

    cache = Path(pooch.os_cache("mattn"))
    path = cache / name
    if path.is_file():
        _check(path, name)
        return path
    if not download:
        raise DataMissing(
            f"{name} is not here. Pass download=True to fetch it (with a checksum), "
            "or set MATTN_DATA to a folder that holds it."
        )
    try:
        pooch.retrieve(
            url + path.name,
            known_hash=f"sha256:{_SHA256[name]}",
            path=path.parent,
            fname=path.name,
            progressbar=os.environ.get("MATTN_PROGRESS") != "0",
        )
    except (OSError, ValueError) as error:
        raise DataMissing(
            f"{name} could not be downloaded: {error}. Without a network, set "
            "MATTN_DATA to a folder that holds it."
        ) from error
    return path


def _check(path: Path, name: str) -> None:
    import hashlib

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != _SHA256[name]:
        raise DataMissing(
            f"{path} is not the file it should be: expected SHA-256 {_SHA256[name]}; "
            f"got {digest}. Delete it and fetch it again."
        )
