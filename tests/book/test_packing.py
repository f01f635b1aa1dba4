"""What is packed: everything that was asked for, once, and the same bytes each time."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from book.packing import pack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b é.txt", "in/a.txt", ".built", "in/.hidden/c.txt"):
        path = tmp_path / "folder" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name * 100)
    return tmp_path / "folder"


def test_what_is_hidden_comes_along_only_if_that_is_said(folder):
    shown, whole = folder.parent / "shown.zip", folder.parent / "whole.zip"
    pack(folder, shown, "top")
    pack(folder, whole, "top", hidden=True)
    assert zipfile.ZipFile(shown).namelist() == ["top/b é.txt", "top/in/a.txt"]
    assert sorted(zipfile.ZipFile(whole).namelist()) == [
        "top/.built",
        "top/b é.txt",
        "top/in/.hidden/c.txt",
        "top/in/a.txt",
    ]
    unpacked = folder.parent / "unpacked"
    zipfile.ZipFile(whole).extractall(unpacked)
    for path in filter(Path.is_file, folder.rglob("*")):
        there = unpacked / "top" / path.relative_to(folder)
        assert there.read_bytes() == path.read_bytes()


def test_the_same_files_make_the_same_bytes_whatever_their_date(folder):
    one, two = folder.parent / "one.zip", folder.parent / "two.zip"
    pack(folder, one, "top")
    for path in filter(Path.is_file, folder.rglob("*")):
        os.utime(path, (10**9, 10**9))
    pack(folder, two, "top")
    assert one.read_bytes() == two.read_bytes()
    assert all(i.compress_size < i.file_size for i in zipfile.ZipFile(one).infolist())
