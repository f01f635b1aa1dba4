"""start(seed), recorded(name): the same numbers every time."""

import json
import random
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


def test_a_record_is_the_file_of_that_name():
    path = Path(mattn.__file__).parent / "records" / "mutants.json"
    assert recorded("mutants") == json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["mutant", "mutants.json", "", "../repro"])
def test_a_record_that_is_not_there_is_an_error_that_names_those_that_are(name):
    with pytest.raises(ValueError, match=r"attention_cpu, .*mutants, .*; got"):
        recorded(name)
