"""benchmarks/gpu.py runs, goes on where it stopped, and writes what it promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from roots import ROOT

import mattn

pytest.importorskip("triton")

RECORDS = Path(mattn.__file__).parent / "records"
PROGRAM = ROOT / "benchmarks" / "gpu.py"
WHAT = "attention on a GPU"
PASSES = {"forward": 1, "forward and backward": 4}  # errors: output, dq, dk, dv
OTHERS = ("out of memory", "absent: ")


def check_gpu(record: dict) -> None:
    """What every record of a GPU holds: each number with all that explains it."""
    assert record["what"] == WHAT
    assert record["machine"]["gpu"]["name"]
    assert {"python", "torch", "triton", "numpy", "mattn"} <= set(record["versions"])
    assert record["command"].startswith("python benchmarks/gpu.py")
    assert record["dtype"] in ("bfloat16", "float16") or record["smoke"]
    if not record["smoke"]:
        assert {"driver", "capability", "memory_gib"} <= set(record["machine"]["gpu"])
        assert "cuda" in record["versions"]
    if record["rates"]:
        assert record["rates"]["matmul_tflops"] > 0
        assert record["rates"]["copy_gb_per_s"] > 0
    for row in record["checks"]:
        assert 0 < row["passed"] <= row["cases"]
    named = ("pass", "mask", "T", "D", "method")
    keys = [tuple(row[name] for name in named) for row in record["attention"]]
    assert len(set(keys)) == len(keys), "measured twice"
    for row in record["attention"]:
        check_row(row, record)
    for row in record["decoding"]:
        assert {"B", "H", "Hkv", "Tk", "D", "method"} <= set(row)
        if row["status"] == "measured":
            assert row["gb_per_s"] > 0
            assert row["error"] < 0.02
        else:
            assert row["status"].startswith(OTHERS)
    for row in record["mask_building"]:
        assert {"mask", "T", "spans_ms", "dense_ms", "block_mask_ms"} <= set(row)


def check_row(row: dict, record: dict) -> None:
    """One mask, length and method: what was measured, or why it was not."""
    assert row["mask"] in ("causal", "window", "documents")
    assert row["B"] * row["T"] == record["sizes"]["n_tokens"]
    if row["status"] != "measured":
        assert row["status"].startswith(OTHERS)
        assert "ms" not in row
        return
    assert row["ms"] > 0
    assert row["tflops"] > 0
    assert len(row["errors"]) == PASSES[row["pass"]]
    if row["method"] == "mattn":
        assert max(row["errors"]) < 0.02
    assert row["peak_mib"] is None if record["smoke"] else row["peak_mib"] >= 0
    # No machine is faster than its own matrix products.
    assert row.get("share_of_matmul", 0) < 1.1 or record["smoke"]


def gpu_records() -> list[Path]:
    found = sorted(RECORDS.glob("*.json"))
    return [p for p in found if json.loads(p.read_text()).get("what") == WHAT]


def test_each_record_of_a_gpu():
    for path in gpu_records():
        record = json.loads(path.read_text())
        assert not record["smoke"], "numbers of the interpreter are no record"
        check_gpu(record)


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, PROGRAM, *arguments],
        env=os.environ | {"MATTN_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.weekly
def test_all_parts_run_in_the_interpreter_and_are_not_measured_twice(tmp_path):
    path = tmp_path / "new" / "smoke.json"
    done = run("--smoke", "--to", str(path))
    assert done.returncode == 0, done.stderr
    assert "mattn ÷ best other" in done.stdout
    record = json.loads(path.read_text())
    check_gpu(record)
    assert record["smoke"]
    assert str(tmp_path) not in path.read_text()
    assert sum(row["cases"] for row in record["checks"]) >= 7
    measured = {
        (r["pass"], r["mask"]) for r in record["attention"] if r["method"] == "mattn"
    }
    assert len(measured) == 6
    by_status = {r["method"]: r["status"] for r in record["attention"]}
    assert by_status["mattn"] == by_status["naive"] == "measured"
    assert by_status["sdpa cudnn"].startswith("absent: ")
    assert record["decoding"]
    assert record["mask_building"]

    last = record["attention"].pop()
    path.write_text(json.dumps(record))
    done = run("--smoke", "--to", str(path), "--part", "forward", "--part", "backward")
    assert done.returncode == 0, done.stderr
    again = json.loads(path.read_text())["attention"]
    assert again[:-1] == record["attention"], "what was there is kept"
    assert {**again[-1], "ms": 0}.keys() == {**last, "ms": 0}.keys()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_without_a_gpu_it_says_so():
    done = run()
    assert done.returncode == 2
    assert "no GPU found" in done.stderr
    assert "--smoke" in done.stderr


def test_the_interpreter_writes_no_record_of_a_machine():
    done = run("--smoke")
    assert done.returncode == 2
    assert "--to" in done.stderr
