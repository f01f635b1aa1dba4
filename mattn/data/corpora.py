"""Real text: plays that come with the package, and pairs that are downloaded.

Tiny Shakespeare is in the public domain and part of the package, so everybody
has the same characters. Multi30k may not be passed on: it is looked for in the
folder that the environment variable ``MATTN_DATA`` names (as
``multi30k/*.gz``), then in the cache of earlier downloads; it is downloaded
when asked. Each file is held against its checksum. Used in chapters 7 and 8.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import os
import zlib
from importlib.resources import files
from pathlib import Path

from mattn.optional import needed

__all__ = ["DataMissing", "multi30k", "tiny_shakespeare"]

_MULTI30K = (
    "https://raw.githubusercontent.com/multi30k/dataset/"
    "a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw/"
)
_SHA256 = {
    "tinyshakespeare.txt": (
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


def tiny_shakespeare() -> str:
    """Plays by Shakespeare, 1,115,394 characters of 65 kinds, from the package.

    The text is in the public domain; ``tinyshakespeare.md`` beside it says where
    it comes from. The usual split: the first 90 % train, the rest validates.
    Raises :class:`DataMissing` when the file was damaged.
    Source: Karpathy, char-rnn, data/tinyshakespeare/input.txt.
    """
    path = files("mattn.data") / "tinyshakespeare.txt.gz"
    remedy = "The installation is damaged: install mattn again."
    try:
        text = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataMissing(
            f"{path} cannot be read: expected a gzip file; got {error!r}. {remedy}"
        ) from error
    name = "tinyshakespeare.txt"
    return _checked(text, name, where=f"the text in {path}", remedy=remedy).decode()


def multi30k(split: str, *, download: bool = False) -> list[tuple[str, str]]:
    """Pairs (German, English) of image descriptions.

    ``split``: ``"train"`` (29,000), ``"val"`` (1,014), ``"test_2016_flickr"``
    (1,000). For researchers and educators, for non-commercial research and
    educational purposes, says the dataset's page. Raises :class:`DataMissing`
    when a file is not here and may not, or cannot, be downloaded. The files, to
    be fetched by hand: https://github.com/multi30k/dataset, data/task1/raw.
    Source: Elliott et al. 2016, doi:10.18653/v1/W16-3210.
    """
    splits = ("train", "val", "test_2016_flickr")
    if split not in splits:
        raise ValueError(f"multi30k: expected one of {splits}; got {split!r}.")
    german, english = (
        gzip.decompress(_multi30k(f"{split}.{language}.gz", download=download))
        .decode("utf-8")
        .splitlines()
        for language in ("de", "en")
    )
    return list(zip(german, english, strict=True))


def _multi30k(file: str, *, download: bool) -> bytes:
    """The file, checked: from MATTN_DATA, from the cache, or by download."""
    name, folder = f"multi30k/{file}", os.environ.get("MATTN_DATA")
    if folder:
        path = Path(folder) / name
        if not path.is_file():
            raise DataMissing(
                f"expected {name} in the folder that MATTN_DATA names; it is not "
                "there. Put it there, or unset MATTN_DATA to use a download."
            )
        return _read(path, name)
    if importlib.util.find_spec("pooch") is not None:
        import pooch

        path = Path(pooch.os_cache("mattn")) / name
        if path.is_file():
            return _read(path, name)
    if not download:
        raise DataMissing(
            f"{name} is not here. Pass download=True to fetch it (with a checksum), "
            "or set MATTN_DATA to a folder that holds it."
        )
    pooch = needed("pooch", "text", "multi30k")
    path = Path(pooch.os_cache("mattn")) / name
    try:
        pooch.retrieve(
            _MULTI30K + file,
            known_hash=f"sha256:{_SHA256[name]}",
            path=path.parent,
            fname=file,
            progressbar=os.environ.get("MATTN_PROGRESS") != "0",
        )
    except (OSError, ValueError) as error:
        raise DataMissing(
            f"{name} could not be downloaded: {error}. Without a network, set "
            "MATTN_DATA to a folder that holds it."
        ) from error
    return _read(path, name)


def _read(path: Path, name: str) -> bytes:
    remedy = "Delete it and fetch it again."
    return _checked(path.read_bytes(), name, where=str(path), remedy=remedy)


def _checked(content: bytes, name: str, *, where: str, remedy: str) -> bytes:
    digest = hashlib.sha256(content).hexdigest()
    if digest != _SHA256[name]:
        raise DataMissing(
            f"{where} is not the file it should be: expected SHA-256 "
            f"{_SHA256[name]}; got {digest}. {remedy}"
        )
    return content
