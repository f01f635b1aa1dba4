"""The auditor from the shell, and as a fixture of pytest."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from audited import FAST, LEAKS, Planted, small, tokens
from roots import ROOT

pytest_plugins = ["mattn.audit.pytest_plugin"]


FACTORIES = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, leaks):
        super().__init__()
        self.table, self.leaks = nn.Embedding(11, 4), leaks
    def forward(self, tokens):
        x = self.table(tokens)
        return x.mean(1, keepdim=True) + x if self.leaks else x.cumsum(1)

def good(): return Mean(False)
def leaky(): return Mean(True)
def features(): return nn.Linear(3, 3), torch.randn(1, 5, 3)
def unknown(): return nn.Linear(3, 3)
def constant(): return lambda x: 0 * x, torch.randn(1, 5, 3)
def broken(): raise RuntimeError("no weights here")
"""


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    from mattn.audit.__main__ import main

    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)

    def run(*arguments: str):
        sys.modules.pop("factories", None)
        status = main([*arguments, "--length", "8"])
        return status, *capsys.readouterr()

    return run


def test_the_shell_reports_and_returns_a_status(shell):
    status, out, err = shell("factories:good")
    assert (status, err) == (0, "")
    assert "No leak found under:" in out
    status, out, _ = shell("factories:leaky")
    assert status == 1
    assert "query position 0 depends on key position 1" in out
    assert shell("factories:leaky", "--expected", "full")[0] == 0
    window = "--expected", "window", "--window", "3"
    assert shell("factories:good", *window)[0] == 1
    assert shell("factories:good", *window, "--layers", "9")[0] == 0
    assert shell("factories:features", "--strict")[0] == 1
    assert shell("factories:features")[0] == 0
    status, out, _ = shell("factories:constant")
    assert status == 2
    assert "NOTHING SHOWN" in out


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("factories", "expected package.module:factory"),
        ("no_such_module:f", "No module named"),
        ("factories:nothing", "has no attribute"),
        ("factories:unknown", "without an embedding"),
        ("factories:broken", "no weights here"),
    ],
)
def test_the_shell_says_what_is_wrong(shell, factory, message):
    status, out, err = shell(factory)
    assert status == 2
    assert message in err
    assert not out


def test_the_module_runs_as_a_program(tmp_path):
    (tmp_path / "factories.py").write_text(FACTORIES)
    done = subprocess.run(
        [sys.executable, "-m", "mattn.audit", "factories:leaky", "--length", "6"],
        cwd=tmp_path,
        env=os.environ | {"MATTN_PROGRESS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LEAK" in done.stdout
    assert not done.stderr


HELP = """
import importlib.metadata, sys, tomllib

with open({pyproject!r}, "rb") as file:
    scripts = tomllib.load(file)["project"]["scripts"]
entry = importlib.metadata.EntryPoint("mattn-audit", scripts["mattn-audit"], "")
try:
    entry.load()(["--help"])
except SystemExit as end:
    assert not end.code
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"jaxtyping", "numpy", "torch"}}, loaded
"""


def test_help_is_there_at_once():
    pyproject = ROOT / "pyproject.toml"
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(pyproject=str(pyproject))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: mattn-audit ")


def test_the_fixture_is_the_function(assert_causal):
    assert_causal(small(), tokens(), probes=["perturbation"])
    with pytest.raises(AssertionError, match="query position 0 depends on"):
        assert_causal(Planted(LEAKS["no mask"][0]), tokens(), **FAST)
