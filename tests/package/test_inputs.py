"""Tokens at the door: what comes in, as integers; or an error that names it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mattn.inputs import (
    random_source,
    token,
    token_list,
    token_lists,
    token_set,
    token_tensor,
    whole_number,
)

KINDS = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "array": np.array,
    "small array": lambda row: np.array(row, dtype=np.uint8),
    "tensor": torch.tensor,
    "small tensor": lambda row: torch.tensor(row, dtype=torch.uint8),
    "list of 0-d tensors": lambda row: [torch.tensor(t) for t in row],
    "list of NumPy integers": lambda row: [np.int32(t) for t in row],
    "0-d arrays": lambda row: [np.array(t) for t in row],
    "another stride": lambda row: torch.tensor(row).repeat_interleave(2)[::2],
    "reversed twice": lambda row: np.array(row[::-1])[::-1],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_integers(kind):
    row = [3, 0, 10, 3]
    got = token_list(KINDS[kind](row), "prompt", n_symbols=11)
    assert got == row
    assert {type(t) for t in got} == {int}
    assert token_set(KINDS[kind](row), "stop", n_symbols=11) == {0, 3, 10}
    rows = [KINDS[kind](row), KINDS[kind](row[:1])]
    assert token_lists(rows, "prompt", n_symbols=11) == [row, row[:1]]


@given(st.lists(st.integers(0, 2**63 - 2), max_size=5))
def test_any_tokens_there_and_back(row):
    assert token_list(torch.tensor(row, dtype=torch.long), "prompt") == row
    assert token_list(row, "prompt") == row


def test_two_axes_are_rows():
    rows = torch.arange(6).reshape(3, 2).T  # not contiguous
    assert token_lists(rows, "prompt") == [[0, 2, 4], [1, 3, 5]]
    assert token_lists(rows.numpy(), "prompt") == [[0, 2, 4], [1, 3, 5]]
    assert token_lists(torch.zeros(0, 3), "prompt") == []
    assert token_lists([], "prompt") == []


@pytest.mark.parametrize("empty", [[], (), np.array([]), torch.tensor([]), set()])
def test_nothing_is_no_tokens(empty):
    assert token_list(empty, "prompt") == []
    assert token_set(empty, "stop") == frozenset()


@pytest.mark.parametrize(
    "one", [5, np.int64(5), torch.tensor(5), np.array(5), torch.tensor(5).int()]
)
def test_one_token_alone(one):
    assert token(one, "start", n_symbols=6) == 5
    assert type(token(one, "start")) is int
    assert token_set(one, "stop") == {5}


WRONG = {
    "text": "ab",
    "bytes": b"ab",
    "a list of text": ["ab"],
    "floats": [1.0],
    "a float tensor": torch.tensor([1.0]),
    "half": torch.tensor([1.0]).half(),
    "NaN": [float("nan")],
    "bools": [True],
    "a bool array": np.array([True]),
    "a bool tensor": torch.tensor([True, False]),
    "rows": [[1, 2]],
    "a tensor of rows": torch.ones(2, 2, dtype=torch.long),
    "one entry, one axis": [torch.tensor([1])],
    "nothing": None,
    "a dictionary": {1: 2},
    "a float alone": 2.0,
    "negative": [-1],
    "a negative tensor": torch.tensor([1, -100]),
    "too large": [11],
    "far too large": [2**70],
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_token_is_named(name):
    for take in (token_list, token_set):
        with pytest.raises(ValueError, match=r"(?s)^stop: expected.*; got.*\. \w"):
            take(WRONG[name], "stop", n_symbols=11)
    with pytest.raises(ValueError, match=r"(?s)^prompts?( 0)?: expected.*; got.*\. \w"):
        token_lists([WRONG[name]], "prompt", n_symbols=11)


def test_without_a_vocabulary_only_its_end_is_unknown():
    assert token_list([10**9], "stop") == [10**9]
    for wrong in (-1, 2**63):
        with pytest.raises(ValueError, match=f"0 and more; got {wrong}"):
            token_list([wrong], "stop")


def test_rows_without_brackets_are_named():
    with pytest.raises(ValueError, match=r"prompt 0: .*got 1\..*brackets"):
        token_lists([1, 2, 3], "prompt")
    with pytest.raises(ValueError, match=r"prompt 0: .*got 1\..*brackets"):
        token_lists(torch.tensor([1, 2]), "prompt")
    with pytest.raises(ValueError, match=r"prompts: .*got 5\..*brackets"):
        token_lists(5, "prompt")


@pytest.mark.parametrize("value", [1, np.int32(1), torch.tensor(1)])
def test_whole_numbers(value):
    assert whole_number(value, "n_rows", least=1) == 1
    assert type(whole_number(value, "n_rows", least=1)) is int
    for wrong in (value - 1, 1.0, float("nan"), True, "1", None, [1]):
        with pytest.raises(
            ValueError, match=r"n_rows >= 1; got .*A count is an integer"
        ):
            whole_number(wrong, "n_rows", least=1)


@pytest.mark.parametrize("seed", [0, None, torch.tensor(0), np.random.default_rng(0)])
def test_a_seed_is_no_generator(seed):
    made = torch.Generator()
    assert random_source(made, "sample") is made
    with pytest.raises(ValueError, match=r"sample: expected a torch.Generator; got .*"):
        random_source(seed, "sample")


STRIDES = {
    "as it is": lambda row: row,
    "a list": torch.Tensor.tolist,
    "int16": torch.Tensor.short,
    "uint8": lambda row: row.to(torch.uint8),
    "every other": lambda row: row.repeat_interleave(2)[::2],
    "reversed twice": lambda row: row.numpy()[::-1].copy()[::-1],
    "uint16": lambda row: row.numpy().astype(np.uint16),
    "read only": lambda row: np.frombuffer(row.numpy().tobytes(), dtype=np.int64),
    "0-d tensors": list,
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", STRIDES)
def test_a_text_as_a_tensor(kind):
    row = torch.tensor([3, 0, 10])
    got = token_tensor(STRIDES[kind](row), "text", n_axes=1, n_symbols=11)
    assert got.tolist() == [3, 0, 10]
    with pytest.raises(ValueError, match="text: expected tokens 0 to 9; got 0 to 10"):
        token_tensor(STRIDES[kind](row), "text", n_axes=1, n_symbols=10)
    with pytest.raises(ValueError, match="integer dtype and 2 axes; got"):
        token_tensor(STRIDES[kind](row), "text", n_axes=2)


@pytest.mark.parametrize(
    "wrong",
    ["ab", None, 5, [1.0], torch.ones(2).half(), [True], [[1], [1, 2]], ["a"]],
)
def test_what_is_no_text_is_refused(wrong):
    for n_axes in (1, 2):
        with pytest.raises(ValueError, match="text: expected tokens of an integer dty"):
            token_tensor(wrong, "text", n_axes=n_axes)
    with pytest.raises(ValueError, match="expected tokens 0 and more; got -1 to 3"):
        token_tensor([3, -1], "text", n_axes=1)


@pytest.mark.parametrize("empty", [[], np.array([]), torch.tensor([])])
def test_an_empty_text_holds_integers(empty):
    got = token_tensor(empty, "text", n_axes=1, n_symbols=3)
    assert got.shape == (0,)
    assert got.dtype == torch.long
