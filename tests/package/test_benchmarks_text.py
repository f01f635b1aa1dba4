"""The programs that measure generation and training run and write their records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from roots import ROOT

import mattn

RECORDS = Path(mattn.__file__).parent / "records"
BENCHMARKS = ROOT / "benchmarks"


def record(name: str) -> dict:
    return json.loads((RECORDS / f"{name}_cpu.json").read_text(encoding="utf-8"))


def run(program: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCHMARKS / f"{program}.py"), *arguments],
        env=os.environ | {"MATTN_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def keys(value) -> object:
    """The shape of a record: its names, whatever the numbers."""
    if isinstance(value, dict):
        return {name: keys(each) for name, each in value.items()}
    return type(value).__name__


def test_the_benchmark_of_generation_runs(tmp_path):
    path = tmp_path / "generation.json"
    printed = run("generation", "--quick", "--rounds", "1", "--to", str(path))
    assert all(name in printed for name in ("cache:", "steps:", "batch:"))
    assert keys(json.loads(path.read_text())) == keys(record("generation"))


@pytest.mark.weekly
def test_the_benchmark_of_training_runs(tmp_path):
    path = tmp_path / "training.json"
    run("training", "--seeds", "5", "--scale", "0.003", "--to", str(path))
    made = json.loads(path.read_text())
    assert list(made["seeds"]) == ["5"]
    assert keys(made["median"]) == keys(record("training")["median"])
