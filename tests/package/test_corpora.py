"""Real text: from the package or a folder, checked; what is missing says what to do."""

import gzip
import hashlib
import os
import socket
import sys
from pathlib import Path

import pytest

from mattn.data import DataMissing, corpora, multi30k, tiny_shakespeare

FOLDER = os.environ.get("MATTN_DATA", "")
HAS_MULTI30K = bool(FOLDER) and (Path(FOLDER) / "multi30k/train.de.gz").is_file()


def test_tiny_shakespeare_needs_nothing_beside_the_package(tmp_path, monkeypatch):
    """No folder, no network, no pooch, another directory: the same characters."""
    monkeypatch.setenv("MATTN_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("network"))
    monkeypatch.chdir(tmp_path)
    text = tiny_shakespeare()
    assert (len(text), len(set(text))) == (1_115_394, 65)
    assert text.startswith("First Citizen:\n")


def test_tiny_shakespeare_says_where_it_comes_from():
    """Compressed without name or date; the note beside it names the sum."""
    folder = Path(corpora.__file__).parent
    packed = (folder / "tinyshakespeare.txt.gz").read_bytes()
    assert packed[3:8] == bytes(5)  # no flags: no name; a time of 0
    assert len(packed) < 450_000
    note = (folder / "tinyshakespeare.md").read_text(encoding="utf-8")
    assert hashlib.sha256(tiny_shakespeare().encode()).hexdigest() in note
    assert "public domain" in note


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda packed: packed[:-1], r"expected a gzip file; got EOFError"),
        (lambda packed: b"version https://git-lfs", r"expected a gzip file; got BadGz"),
        (
            lambda packed: packed[:5000] + bytes(90) + packed[5090:],
            r"expected a gzip file; got ",
        ),
        (lambda packed: b"", r"expected SHA-256 86c4e6.*got e3b0c4"),
        (
            lambda packed: gzip.compress(gzip.decompress(packed)[:-1]),
            r"expected SHA-256 86c4e6.*got",
        ),
    ],
    ids=["cut", "another file", "holes", "empty", "another text"],
)
def test_a_damaged_text_is_refused(damage, message, tmp_path, monkeypatch):
    packed = (Path(corpora.__file__).parent / "tinyshakespeare.txt.gz").read_bytes()
    (tmp_path / "tinyshakespeare.txt.gz").write_bytes(damage(packed))
    monkeypatch.setattr(corpora, "files", lambda package: tmp_path)
    with pytest.raises(DataMissing, match=rf"{message}.*install mattn again"):
        tiny_shakespeare()


@pytest.mark.skipif(
    not HAS_MULTI30K,
    reason="Multi30k is not part of the package. To run this: set MATTN_DATA to a "
    "folder that holds multi30k/*.gz (mattn.data.multi30k says where they are)",
)
@pytest.mark.parametrize(
    ("split", "n"), [("train", 29_000), ("val", 1_014), ("test_2016_flickr", 1_000)]
)
def test_multi30k(split, n):
    pairs = multi30k(split)
    assert len(pairs) == n
    assert all(german and english for german, english in pairs)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MATTN_DATA", str(tmp_path))
    return tmp_path


def test_a_file_that_is_not_in_the_folder(folder):
    with pytest.raises(DataMissing, match=r"val\.de\.gz.*MATTN_DATA.*Put it there"):
        multi30k("val", download=True)  # the folder comes first


def test_a_wrong_file_is_refused_by_its_checksum(folder):
    (folder / "multi30k").mkdir()
    (folder / "multi30k/val.de.gz").write_text("Ein Hund läuft.\n", encoding="utf-8")
    with pytest.raises(DataMissing, match=r"expected SHA-256 f0cba2.*got.*fetch it"):
        multi30k("val")


def test_unknown_split():
    with pytest.raises(ValueError, match=r"expected one of .*'train'.*got 'dev'"):
        multi30k("dev")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("MATTN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    return pooch


def test_nothing_is_downloaded_unless_asked(empty_cache, monkeypatch):
    monkeypatch.setattr(empty_cache, "retrieve", lambda *a, **k: pytest.fail("asked"))
    with pytest.raises(DataMissing, match=r"Pass download=True.*or set MATTN_DATA"):
        multi30k("val")


def test_a_download_is_asked_for_with_checksum_and_cached(empty_cache, monkeypatch):
    asked = []

    def retrieve(url, *, known_hash, path, fname, progressbar):
        asked.append((url, known_hash))
        path.mkdir(parents=True)
        (path / fname).write_text("not what was promised")

    monkeypatch.setattr(empty_cache, "retrieve", retrieve)
    # What came is checked, and checked again when it is read from the cache.
    for _ in range(2):
        with pytest.raises(DataMissing, match="SHA-256"):
            multi30k("val", download=True)
    ((url, known_hash),) = asked
    assert url.startswith("https://raw.githubusercontent.com/multi30k/")
    assert url.endswith("/val.de.gz")
    assert known_hash.startswith("sha256:f0cba2f9")


def test_a_failed_download_says_what_to_do(empty_cache, monkeypatch):
    def retrieve(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(empty_cache, "retrieve", retrieve)
    with pytest.raises(DataMissing, match=r"no route to host.*set MATTN_DATA"):
        multi30k("val", download=True)


def test_without_pooch(monkeypatch):
    monkeypatch.delenv("MATTN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setattr(corpora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"multi30k needs pooch: .*mattn\[text\]"):
        multi30k("val", download=True)
    with pytest.raises(DataMissing, match=r"download=True.*or set MATTN_DATA"):
        multi30k("val")
