"""Every record says how it came about; the program that writes one runs."""

from __future__ import annotations

import datetime
import json
import os
import re
import statistics
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from roots import ROOT

import mattn

RECORDS = Path(mattn.__file__).parent / "records"
BENCHMARKS = ROOT / "benchmarks"
PARTS = [Fraction(1, 8), Fraction(1, 4), Fraction(1)]


def check_origin(record: dict) -> None:
    """Machine, versions, command and date are there and mean something."""
    assert record["what"]
    assert record["machine"]
    assert {"python", "torch"} <= record["versions"].keys()
    assert all(record["versions"].values())
    program = re.match(r"python (benchmarks/\w+\.py)", record["command"])
    assert program, record["command"]
    assert (BENCHMARKS.parent / program[1]).is_file()
    assert datetime.date.fromisoformat(record["date"]) <= datetime.date.today()


def check_attention(record: dict) -> None:
    """What benchmarks/attention.py writes: every table, every column a number."""
    machine = {"cpu", "cores", "memory_gib", "os", "note"}
    assert machine <= record["machine"].keys()
    assert record["threads"] == 1
    columns = {
        "fused": {"T", "batch", "sdpa_ms", "mattn_ms", "ratio", "median_ratio", "runs"},
        "skipping": {"T", "skipping_ms", "reading_all_ms", "times_as_fast", "runs"},
    }
    tables = {name: record[name] for name in columns}
    columns["memory"] = {"T", "blockwise_mib"}
    columns["allocator"] = {"T", "share_of_mapping"}
    tables |= {name: record[name]["rows"] for name in ("memory", "allocator")}
    for name, rows in tables.items():
        assert rows, name
        for row in rows:
            assert row["pass"] in ("forward", "forward and backward")
            assert all(isinstance(row[c], int | float) for c in columns[name]), row
    for row in record["allocator"]["rows"]:
        for setting in ("as_it_is", "kept_mapped"):
            assert row[setting]["dense_ms"] > 0
            assert row[setting]["dense_page_faults"] >= 0


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda p: p.name)
def test_every_record_names_machine_versions_command_and_date(path):
    text = path.read_text()
    check_origin(json.loads(text))
    for private in ("/home/", "/tmp/", "/root/", "/work/", "/Users/"):
        assert private not in text


@pytest.mark.parametrize("part", ["what", "machine", "versions", "command", "date"])
def test_a_record_without_its_origin_is_noticed(part):
    record = json.loads((RECORDS / "attention_cpu.json").read_text())
    del record[part]
    with pytest.raises(KeyError):
        check_origin(record)


def test_the_record_of_attention_keeps_the_bounds():
    record = json.loads((RECORDS / "attention_cpu.json").read_text())
    check_attention(record)
    assert not record["quick"]
    assert {r["T"] for r in record["fused"]} == {256, 512, 1024, 2048, 4096, 8192}
    assert all(r["times_as_fast"] >= 1.8 for r in record["skipping"] if r["T"] >= 4096)
    assert all(f["largest_deviation"] < 0.05 for f in record["memory"]["fit"].values())
    beyond = [r for r in record["allocator"]["rows"] if r["T"] > 1024]
    assert all(r["share_of_mapping"] > 0.4 for r in beyond)


def test_the_record_of_generation_keeps_the_bounds():
    record = json.loads((RECORDS / "generation_cpu.json").read_text())
    assert record["threads"] == 1
    assert record["model"]["layers"] == 6
    assert record["model"]["width"] == 512
    assert record["cache"]["n_tokens"] == 512
    assert record["cache"]["times_as_fast"] >= 8
    assert record["steps"]["positions"] == [50, 500]
    assert record["steps"]["ratio"] <= 1.3
    assert record["batch"]["n_prompts"] == 16
    assert record["batch"]["times_as_many"] >= 5.5


def test_the_record_of_training_keeps_the_bounds():
    record = json.loads((RECORDS / "training_cpu.json").read_text())
    seeds, median = record["seeds"].values(), record["median"]
    assert record["threads"] == 1
    assert len(seeds) == 3
    assert 790_000 < record["reference"]["parameters"] < 820_000
    for name, found in median.items():
        for kind, value in found.items():
            each = [seed[name][kind] for seed in seeds]
            assert statistics.median(each) == pytest.approx(value, abs=1e-4)
    assert 1.85 < median["reference"]["loss"] < 1.95
    assert all(median[str(part)]["share"] <= part for part in PARTS)
    assert median["1/8"]["loss"] <= median["reference"]["loss"]
    assert median["1/4"]["loss"] <= 1.74
    assert median["1"]["loss"] <= 1.57


def test_the_record_of_heads_keeps_the_bounds():
    record = json.loads((RECORDS / "heads_cpu.json").read_text())
    assert not record["quick"]
    assert [run["seed"] for run in record["agreement"]] == list(range(20))
    assert all(min(run["right"]) > 0.98 for run in record["agreement"])
    assert record["one_layer"]["again"] > 1
    assert [run["seed"] for run in record["two_layers"]] == [0, 1, 2]
    for run in record["two_layers"]:
        cut = run["cuts"]
        assert run["again"] < 0.5 < record["one_layer"]["again"]
        assert run["first"] > record["ln_V"] > 1 > run["future_visible"]["first"]
        assert cut["edge_1"][0] > 3 > cut["edge_2"][0]
        assert cut["path_key"][0] > max(cut["path_query"][0], cut["path_value"][0])
        assert run["fixed_period"]["own"]["again"] < 0.5
        assert run["fixed_period"]["other"]["again"] > 3


@pytest.mark.weekly
def test_the_benchmark_of_heads_runs_end_to_end(tmp_path):
    path = tmp_path / "heads.json"
    subprocess.run(
        [sys.executable, "benchmarks/heads.py", "--quick", "--to", str(path)],
        cwd=BENCHMARKS.parent,
        env=os.environ | {"MATTN_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
        check=True,
    )
    record = json.loads(path.read_text())
    check_origin(record)
    assert record["quick"]


@pytest.mark.weekly
def test_the_benchmark_of_attention_runs_end_to_end(tmp_path):
    path = tmp_path / "deeper" / "attention.json"
    run = subprocess.run(
        [sys.executable, "benchmarks/attention.py", "--quick", "--to", str(path)],
        cwd=BENCHMARKS.parent,
        env=os.environ | {"MATTN_PROGRESS": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stderr == ""
    assert "Fused core and SDPA" in run.stdout
    assert [p.name for p in path.parent.iterdir()] == ["attention.json"]
    record = json.loads(path.read_text())
    check_origin(record)
    check_attention(record)
    assert record["quick"]


def test_the_benchmark_explains_itself():
    run = subprocess.run(
        [sys.executable, "benchmarks/attention.py", "--help"],
        cwd=BENCHMARKS.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--quick" in run.stdout
    assert "attention_cpu.json" in run.stdout
