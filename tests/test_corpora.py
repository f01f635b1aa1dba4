"""Real text: from a folder, checked; what is missing says what to do."""

import os
import sys
from pathlib import Path

import pytest

from mattn.data import DataMissing, corpora, multi30k, real_text, tiny_shakespeare

FOLDER = os.environ.get("MATTN_DATA", "")


def needs(name):
    there = bool(FOLDER) and (Path(FOLDER) / name).is_file()
    return pytest.mark.skipif(not there, reason=f"MATTN_DATA has no {name}")


@needs("tinyshakespeare/input.txt")
def test_tiny_shakespeare():
    text = tiny_shakespeare()
    assert len(text) == 1_115_394
    assert text.startswith("First Citizen:\n")
    assert len(set(text)) == 65
    assert real_text() == (text, "plays by Shakespeare")


@needs("multi30k/test_2016_flickr.de.gz")
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
    with pytest.raises(DataMissing, match=r"input\.txt.*MATTN_DATA.*Put it there"):
        tiny_shakespeare(download=True)  # the folder comes first
    with pytest.raises(DataMissing, match=r"multi30k/val\.de\.gz"):
        multi30k("val")


def test_a_wrong_file_is_refused_by_its_checksum(folder):
    (folder / "tinyshakespeare").mkdir()
    (folder / "tinyshakespeare/input.txt").write_text("First Citizen:\n")
    with pytest.raises(DataMissing, match=r"expected SHA-256 86c4e6.*got.*fetch it"):
        tiny_shakespeare()


def test_without_the_file_there_is_still_english(folder):
    text, source = real_text()
    assert source == "the reference documentation of Python's standard library"
    assert len(text) > 300_000
    assert set(text) <= {"\n", *map(chr, range(32, 127))}
    assert " the " in text


def test_unknown_split():
    with pytest.raises(ValueError, match=r"expected one of .*'train'.*got 'dev'"):
        multi30k("dev")


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("MATTN_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path)
    return tmp_path, pooch


def test_nothing_is_downloaded_unless_asked(empty_cache, monkeypatch):
    _, pooch = empty_cache
    monkeypatch.setattr(pooch, "retrieve", lambda *a, **k: pytest.fail("download"))
    with pytest.raises(DataMissing, match=r"Pass download=True.*or set MATTN_DATA"):
        tiny_shakespeare()
    assert real_text().source.startswith("the reference documentation")


def test_a_download_is_asked_for_with_checksum_and_cached(empty_cache, monkeypatch):
    _, pooch = empty_cache
    asked = {}

    def retrieve(url, *, known_hash, path, fname, progressbar):
        asked.update(url=url, known_hash=known_hash)
        path.mkdir(parents=True)
        (path / fname).write_text("not what was promised")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    tiny_shakespeare(download=True)
    assert asked["url"].startswith("https://raw.githubusercontent.com/")
    assert asked["url"].endswith("/tinyshakespeare/input.txt")
    assert asked["known_hash"].startswith("sha256:86c4e6aa")
    # The next call reads the cache, and checks it again.
    with pytest.raises(DataMissing, match="SHA-256"):
        tiny_shakespeare()


def test_a_failed_download_says_what_to_do(empty_cache, monkeypatch):
    _, pooch = empty_cache

    def retrieve(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(DataMissing, match=r"no route to host.*set MATTN_DATA"):
        tiny_shakespeare(download=True)


def test_without_pooch(monkeypatch):
    monkeypatch.delenv("MATTN_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    monkeypatch.setattr(corpora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install pooch"):
        tiny_shakespeare(download=True)
    with pytest.raises(DataMissing, match="download=True"):
        tiny_shakespeare()
