"""The record of the compiler is of the tiles that ship, and its program runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from roots import ROOT

from mattn.flash.launch import PASSES
from mattn.flash.tuning import tiles_on
from mattn.repro import recorded

RECORD = recorded("kernel_compiled")
PROGRAM = ROOT / "benchmarks" / "compiled.py"


def test_the_record_has_every_pass_with_the_tiles_that_ship():
    assert RECORD["capability"] == "9.0"
    found = {(r["pass"], r["D"]): r for r in RECORD["kernels"]}
    assert set(found) == {(name, D) for name in PASSES for D in (64, 128)}
    for (name, D), row in found.items():
        tiles = tiles_on((9, 0), torch.bfloat16, D)[name]
        assert {k: row[k] for k in tiles._fields} == tiles._asdict(), (
            f"{name}, D = {D}: other tiles ship; run python benchmarks/compiled.py"
        )
        assert 0 < row["registers"] <= 255
        assert 0 < row["shared_bytes"] <= 227 * 1024
        assert isinstance(row["serial"], bool)


def test_the_forward_kernel_holds_its_queries_and_the_blocks_that_are_on_the_way():
    for row in RECORD["kernels"]:
        if row["pass"] == "forward":
            rows = row["block_q"] + 2 * row["block_k"] * row["n_stages"]
            assert row["shared_bytes"] == 2 * row["D"] * rows


def test_one_kernel_compiled_again_is_what_the_record_says():
    """The numbers where Triton is the same; else that there are such numbers."""
    triton = pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", "import compiled, json, sys\n"
         "print(json.dumps(compiled.facts('dq', 64)))"],
        cwd=PROGRAM.parent, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-2000:]
    found = json.loads(done.stdout)
    (row,) = (r for r in RECORD["kernels"] if (r["pass"], r["D"]) == ("dq", 64))
    assert found.keys() == row.keys()
    if triton.__version__ == RECORD["versions"]["triton"]:
        assert found == row
    else:
        assert 0 < found["registers"] <= 255
