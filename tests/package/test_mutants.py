"""Broken copies of the package: each is seen, the package as it is is not accused."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from mutants.patches import MUTANTS, Mutant, apply

import mattn

PACKAGE = Path(mattn.__file__).parent
PROGRAM = PACKAGE.parent / "benchmarks" / "mutate.py"
RECORD = PACKAGE / "records" / "mutants.json"
NUMBERS = [str(n) for n in range(1, 37) if n != 29] + ["29a", "29b"]
BY_TESTS = {"15", "19", "20", "21", "22", "23", "24"} | {str(n) for n in range(31, 37)}


def rows_of(*numbers: str) -> list[dict]:
    """What saw the mutants: run in a process that has not imported mattn."""
    program = f"""
import json, sys
sys.path.insert(0, {str(PROGRAM.parent)!r})
import mutate
chosen = [m for m in mutate.MUTANTS if m.number in {numbers!r}]
print(json.dumps(mutate.run(chosen)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def check(rows: list[dict]) -> None:
    """The sound package is silent, each mutant is seen by whom it must be."""
    sound, *broken = rows
    assert sound["seen_by"] == {}
    for row in broken:
        seen = {p for probes in row["seen_by"].values() for p in probes}
        leaks = {p for p in seen if p != "hygiene" and not p.startswith("fails")}
        if row["auditor"]:
            assert leaks, row
        else:
            assert row["failed_test"], row


def test_all_are_there():
    assert {m.number for m in MUTANTS} == set(NUMBERS)
    assert {m.number for m in MUTANTS if not m.auditor} == BY_TESTS
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.number)
def test_every_patch_still_applies(mutant):
    texts = apply(mutant, str(PACKAGE))
    for file, text in texts.items():
        assert text != (PACKAGE / file).read_text()
        ast.parse(text)
    if mutant.test:
        assert (PACKAGE.parent / mutant.test).is_file()


def test_a_patch_that_does_not_apply_is_an_error():
    stale = Mutant("x", "stale", (("reach.py", "no such line", ""),))
    with pytest.raises(ValueError, match="expected 'no such line' once"):
        apply(stale, str(PACKAGE))


def test_a_sample_is_seen_and_the_package_as_it_is_is_not_accused():
    rows = rows_of("28")
    check(rows)
    assert rows[1]["seen_by"] == {"beam_search": ["beam"]}


def test_the_record_shows_every_mutant_and_what_saw_it():
    record = json.loads(RECORD.read_text())
    assert [row["number"] for row in record["mutants"]] == [
        "0",
        *(m.number for m in MUTANTS),
    ]
    assert [row["name"] for row in record["mutants"][1:]] == [m.name for m in MUTANTS]
    check(record["mutants"])


@pytest.mark.long
def test_every_fourth_mutant_is_seen():
    """Two at a time: it is the last of the long files and has both cores then."""
    check(rows_of(*(m.number for m in MUTANTS[::4])))


@pytest.mark.weekly
def test_all_mutants_are_seen():
    check(rows_of(*(m.number for m in MUTANTS)))
