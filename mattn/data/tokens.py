"""From text to tokens to batches.

Chapter 7 begins with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.inputs import (
    random_source,
    token,
    token_list,
    token_lists,
    token_tensor,
    whole_number,
)

__all__ = ["Characters", "padded", "random_windows", "story_batches", "windows"]


class Characters:
    """One token for each character that occurs in a text."""

    def __init__(self, text: str):
        _check_text(text)
        self.symbols = sorted(set(text))
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """Token numbers; a character never seen is an error that names it."""
        _check_text(text)
        unknown = sorted(set(text) - set(self._index))
        if unknown:
            raise ValueError(f"expected characters of the text; got {unknown[:5]}.")
        return torch.tensor([self._index[c] for c in text], dtype=torch.long)

    def decode(self, tokens: Any) -> str:
        """The text; a number that stands for no character is an error."""
        numbers = token_list(tokens, "Characters.decode", n_symbols=len(self))
        return "".join(self.symbols[number] for number in numbers)


def random_windows(
    tokens: Any,
    *,
    n_rows: int,
    length: int,
    generator: torch.Generator,
) -> Iterator[Int[Tensor, "B T"]]:
    """Batches without end: windows of ``length`` tokens at random places."""
    tokens = _text(tokens, length)
    whole_number(n_rows, "n_rows", least=1)
    random_source(generator, "random_windows")
    offsets, shape = torch.arange(length), (n_rows, 1)
    places = len(tokens) - length + 1

    def batches() -> Iterator[Int[Tensor, "B T"]]:
        while True:
            start = torch.randint(places, shape, generator=generator)
            yield tokens[start + offsets]

    return batches()


def windows(tokens: Any, *, length: int, overlap: int = 0) -> Int[Tensor, "B T"]:
    """The text cut into windows of ``length``; a shorter rest is left out.

    With ``overlap=1`` the last token of a window begins the next, so that
    every token but the first is predicted once.
    """
    tokens = _text(tokens, length)
    if whole_number(overlap, "overlap", least=0) >= length:
        raise ValueError(
            f"windows: expected overlap < length, {length}; got {overlap}. A window "
            "begins after the one before."
        )
    return tokens.unfold(0, length, length - overlap)


def padded(rows: Any, *, filler: int) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Rows of different lengths as one batch, padded on the right; their lengths.

    A ``filler`` that stands in a row after its first token is refused: a loss
    that ignores the padding by its number would ignore that token as well.
    The first token is no target of any loss, so a start token may also fill.

    >>> padded([[1, 2], [3]], filler=0)
    (tensor([[1, 2],
            [3, 0]]), tensor([2, 1]))
    """
    rows = token_lists(rows, "row")
    filler = _checked_filler(filler, (row[1:] for row in rows))
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.long)
    width = max(map(len, rows), default=0)
    out = torch.full((len(rows), width), filler, dtype=torch.long)
    for row, tokens in zip(out, rows, strict=True):
        row[: len(tokens)] = torch.tensor(tokens, dtype=torch.long)
    return out, lengths


def story_batches(
    stories: Any,
    *,
    n_rows: int,
    filler: int,
    start: int,
    generator: torch.Generator,
) -> Iterator[Int[Tensor, "B T"]]:
    """Batches without end of whole stories, each after a ``start`` token.

    Stories of similar length share a batch, so that little is padding; each
    pass over the stories takes the batches in a new random order. No story
    may contain the ``filler``, see :func:`padded`; ``start`` may be the same.
    """
    stories = token_lists(stories, "story")
    if not stories:
        raise ValueError("story_batches: expected at least one story; got none.")
    filler = _checked_filler(filler, stories)
    start = token(start, "start")
    whole_number(n_rows, "n_rows", least=1)
    random_source(generator, "story_batches")
    order = sorted(range(len(stories)), key=lambda i: len(stories[i]))
    groups = [order[i : i + n_rows] for i in range(0, len(order), n_rows)]

    def batches() -> Iterator[Int[Tensor, "B T"]]:
        while True:
            for index in torch.randperm(len(groups), generator=generator).tolist():
                rows = [[start, *stories[i]] for i in groups[index]]
                yield padded(rows, filler=filler)[0]

    return batches()


def _checked_filler(filler: Any, rows: Iterable[list[int]]) -> int:
    filler = whole_number(filler, "filler", least=-(2**63))
    for i, row in enumerate(rows):
        if filler in row:
            raise ValueError(
                f"expected a filler that no row contains; got {filler}, which row {i} "
                "contains, so that it could not be told from padding. Take a number "
                "of its own, such as the size of the vocabulary."
            )
    return filler


def _text(tokens: Any, length: int) -> Int[Tensor, " N"]:
    """One sequence of tokens, long enough for a window of ``length``."""
    tokens = token_tensor(tokens, "windows", n_axes=1)
    if not 2 <= whole_number(length, "length", least=0) <= len(tokens):
        raise ValueError(
            f"expected windows of 2 to {len(tokens)} tokens, the length of the text; "
            f"got {length}."
        )
    return tokens


def _check_text(text: Any) -> None:
    if not isinstance(text, str):
        raise ValueError(
            f"Characters: expected a text, a str; got {type(text).__name__}. Tokens "
            "are decoded by decode."
        )
