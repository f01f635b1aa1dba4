"""start(seed), recorded(name): the same numbers every time."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mattn
from mattn.repro import recorded, start


@pytest.fixture(autouse=True)
def _options_restored():
    options = np.get_printoptions()
    yield
    np.set_printoptions(**options)
    torch.set_printoptions(profile="default")
    torch.set_num_threads(1)


def draws() -> list:
    return [random.random(), np.random.rand(), torch.rand(()).item()]


def test_every_source_of_randomness_is_seeded():
    generator = start(7)
    first = [*draws(), torch.rand((), generator=generator).item()]
    generator = start(7)
    assert first == [*draws(), torch.rand((), generator=generator).item()]
    start(8)
    assert not set(first) & set(draws())


def test_the_generator_is_its_own():
    generator = start(7)
    torch.rand(3)
    expected = torch.rand(3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.rand(3, generator=generator), expected)


def test_threads_dtype_and_print_options():
    torch.set_default_dtype(torch.float64)
    start(0)
    assert torch.get_default_dtype() == torch.float32
    assert torch.get_num_threads() == 1
    assert str(torch.tensor([1 / 3, 1e-4])) == "tensor([0.333, 0.000])"
    assert str(np.array([1 / 3, 1e-4])) == "[0.333 0.   ]"
    start(0, n_threads=2)
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("seed", [-1, 2**32, None, 1.0, True, "0"])
def test_a_seed_that_numpy_does_not_take_changes_nothing(seed):
    start(7)
    first = draws()
    start(7)
    with pytest.raises((ValueError, TypeError), match="seed"):  # TypeError: the hook
        start(seed)
    assert draws() == first


@pytest.mark.parametrize("n_threads", [0, -2])
def test_there_is_a_thread(n_threads):
    with pytest.raises(ValueError, match=f"n_threads .* from 1 .*got {n_threads}"):
        start(0, n_threads=n_threads)


def test_the_largest_seed_is_one():
    start(2**32 - 1)
    first = draws()
    start(2**32 - 1)
    assert draws() == first


IMPORTS_ALL = """
import importlib.util, os, pkgutil, random, sys, warnings
import numpy, torch
torch.set_num_threads(2)
torch.set_default_dtype(torch.float64)
torch.set_printoptions(precision=7)
numpy.set_printoptions(precision=6)
def state():
    return {
        "environment": dict(os.environ),
        "python": random.getstate(),
        "numpy": numpy.random.get_state()[1].tolist(),
        "torch": torch.get_rng_state().tolist(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "dtype": torch.get_default_dtype(),
        "printed": (str(torch.tensor([1 / 3])), str(numpy.array([1 / 3]))),
        "working folder": os.getcwd(),
    }
before = state()
import mattn
names = [m.name for m in pkgutil.walk_packages(mattn.__path__, "mattn.")]
names = [name for name in names if not name.endswith("pytest_plugin")]
if not importlib.util.find_spec("triton"):
    names.remove("mattn.flash.kernels")
for name in names:
    __import__(name)
    assert (after := state()) == before, (
        name, [key for key in before if before[key] != after[key]]
    )
print(len(names))
"""


def test_importing_any_module_leaves_the_users_settings_as_they_were():
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS_ALL],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MATTN_PROGRESS": "1"},
    )
    assert not done.returncode, done.stderr
    assert int(done.stdout) > 20


def test_a_record_is_the_file_of_that_name():
    path = Path(mattn.__file__).parent / "records" / "mutants.json"
    assert recorded("mutants") == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["mutant", "mutants.json", "", "../repro"])
def test_a_record_that_is_not_there_is_an_error_that_names_those_that_are(name):
    with pytest.raises(ValueError, match=r"attention_cpu, .*mutants, .*; got"):
        recorded(name)
