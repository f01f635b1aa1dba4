"""The playground's one file is made of all its sources; each says what it is."""

from __future__ import annotations

import re

import pytest
from roots import ROOT

from mattn import playground

SOURCES = sorted(playground.SOURCES.glob("*.js"))


def test_every_source_is_joined_once() -> None:
    assert {file.stem for file in SOURCES} == {*playground.CORE, *playground.PAGE}
    assert len(playground.CORE + playground.PAGE) == len(SOURCES) > 8


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.stem)
def test_a_script_says_what_it_does_and_where_its_test_is(file) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    head = [line for line in lines if line][:9]
    comment = " ".join(line for line in head if line.startswith("//"))
    assert lines[0].startswith("// ")
    named = re.findall(r"tests/[\w/]+?/?\w+\.py|test_\w+\.py", comment)
    assert named or "wherever a page is read" in comment
    for name in named:
        assert list((ROOT / "tests").rglob(name.rpartition("/")[2])), name
    assert len(lines) <= 700


def test_no_name_is_defined_twice() -> None:
    found = [name for name in playground.names() if name]
    assert len(found) == len(set(found)) > 50
    text = playground.script()
    for name in found:
        outer = re.findall(rf"(?m)^(?:const|let|function) {name}\b", text)
        assert len(outer) == 1, name
