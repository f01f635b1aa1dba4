"""Tokens at the door: lists, arrays and tensors become Python's integers.

Prompts, stops, starts, sources and stories come from files, tokenizers and
other libraries, as lists, NumPy arrays or tensors. They pass through here
once, so that within the package a token is an ``int`` of 0 … V − 1 and
nothing else: a tensor would never be equal to a token that it is compared
with, and a negative number would stand for padding that nobody meant.

Every function that takes tokens, from chapter 5 on, asks here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "random_source",
    "token",
    "token_list",
    "token_lists",
    "token_set",
    "token_tensor",
    "whole_number",
]


def token(value: Any, what: str, *, n_symbols: int | None = None) -> int:
    """One token as an ``int``: from an integer of Python, NumPy or a tensor.

    ``n_symbols`` is the size V of the vocabulary; ``None``: not known, so that
    only negative numbers are refused. ``what`` names the value in the error.

    Raises ``ValueError`` for anything else: a float, a bool, text, a sequence.
    """
    number, bound = _integer(value), "0 and more"
    if n_symbols is not None:
        bound = f"0 to {n_symbols - 1}"
    if number is None:
        raise ValueError(
            f"{what}: expected a token, an integer of {bound}; got {_shown(value)}. "
            "Encode text first, and convert floats and bools to integers."
        )
    if not 0 <= number < _end(n_symbols):
        raise ValueError(
            f"{what}: expected a token of {bound}; got {number}. Leave out what "
            "marks padding, and encode with the vocabulary of the model."
        )
    return number


def token_list(tokens: Any, what: str, *, n_symbols: int | None = None) -> list[int]:
    """One sequence of tokens, (T,), as a list; it may be empty.

    >>> token_list(np.array([3, 1]), "prompt", n_symbols=5)
    [3, 1]
    >>> token_list([3, -100], "prompt", n_symbols=5)
    Traceback (most recent call last):
        ...
    ValueError: prompt: expected a token of 0 to 4; got -100. Leave out what \
marks padding, and encode with the vocabulary of the model.
    """
    values, end = _each(tokens, what), _end(n_symbols)
    if all(type(value) is int and 0 <= value < end for value in values):
        return values  # the usual case, without a call for each
    return [token(value, what, n_symbols=n_symbols) for value in values]


def token_lists(
    rows: Any, what: str, *, n_symbols: int | None = None
) -> list[list[int]]:
    """Several sequences, which may differ in length; of a tensor (B, T), the rows.

    >>> token_lists([[1, 2], (3,)], "prompt")
    [[1, 2], [3]]
    """
    return [
        token_list(row, f"{what} {i}", n_symbols=n_symbols)
        for i, row in enumerate(_each(rows, f"{what}s"))
    ]


def token_set(
    tokens: Any, what: str, *, n_symbols: int | None = None
) -> frozenset[int]:
    """Tokens whose order does not matter, such as stops; one may come alone.

    >>> token_set(5, "stop") == token_set([5, 5], "stop") == {5}
    True
    """
    if _integer(tokens) is not None:
        tokens = [tokens]
    return frozenset(token_list(tokens, what, n_symbols=n_symbols))


def token_tensor(
    tokens: Any, what: str, *, n_axes: int, n_symbols: int | None = None
) -> Tensor:
    """Tokens as a tensor of so many axes, in the integer dtype that they have.

    Raises ``ValueError`` for another number of axes, rows of different
    lengths, floats, bools, and tokens outside 0 … V − 1.
    """
    if isinstance(tokens, np.ndarray):
        tokens = np.array(tokens)  # read-only or reversed ones are no tensors
    try:
        out = torch.as_tensor(tokens)
    except (TypeError, ValueError, RuntimeError):
        out = None
    if out is not None and not out.numel():
        out = out.long()  # an empty list holds no floats
    if (
        out is None
        or out.ndim != n_axes
        or out.is_floating_point()
        or out.is_complex()
        or out.dtype == torch.bool
    ):
        raise ValueError(
            f"{what}: expected tokens of an integer dtype and {n_axes} axes; got "
            f"{_shown(tokens)}. Encode text first; one sequence as a batch: row[None]."
        )
    if not out.numel():
        return out
    lowest, highest = (int(bound) for bound in out.long().aminmax())
    if lowest < 0 or highest >= _end(n_symbols):
        bound = "and more" if n_symbols is None else f"to {n_symbols - 1}"
        raise ValueError(
            f"{what}: expected tokens 0 {bound}; got {lowest} to {highest}. Leave out "
            "what marks padding."
        )
    return out


def whole_number(value: Any, what: str, *, least: int) -> int:
    """A size or a count as an ``int`` that is not below ``least``.

    Raises ``ValueError`` for a smaller one, and for a float or a bool.
    """
    number = _integer(value)
    if number is None or number < least:
        raise ValueError(
            f"expected {what} >= {least}; got {value!r}. A count is an integer."
        )
    return number


def random_source(generator: Any, what: str) -> torch.Generator:
    """``generator`` itself; ``ValueError`` if it is a seed or something else."""
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"{what}: expected a torch.Generator; got {_shown(generator)}. Make one "
            "of a seed: torch.Generator().manual_seed(0)."
        )
    return generator


def _end(n_symbols: int | None) -> int:
    """The first number that is no token; without V, that no tensor of them holds."""
    return 2**63 if n_symbols is None else n_symbols


def _integer(value: Any) -> int | None:
    """The integer that a value is; ``None`` for floats, bools, text, sequences."""
    if isinstance(value, Tensor | np.ndarray | np.generic) and value.ndim == 0:
        value = value.item()
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole else None


def _each(values: Any, what: str) -> list:
    """What a sequence holds; text and single values are none."""
    single = getattr(values, "ndim", 1) == 0 or not isinstance(values, Iterable)
    if single or isinstance(values, str | bytes | Mapping):
        raise ValueError(
            f"{what}: expected a list, an array or a tensor of them; got "
            f"{_shown(values)}. Encode text first, and put brackets around what "
            "stands alone."
        )
    if isinstance(values, Tensor | np.ndarray) and values.ndim == 1:
        return values.tolist()
    return list(values)


def _shown(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{type(value).__name__} {tuple(value.shape)} of {dtype}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
