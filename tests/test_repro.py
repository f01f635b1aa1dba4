"""start(seed): the same numbers every time."""

import random

import numpy as np
import pytest
import torch

from mattn.repro import start


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
