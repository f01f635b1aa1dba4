"""From text to tokens to batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

__all__ = ["Characters", "padded", "random_windows", "story_batches", "windows"]


class Characters:
    """One token for each character that occurs in a text."""

    def __init__(self, text: str):
        self.symbols = sorted(set(text))
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """Token numbers; a character never seen is an error that names it."""
        unknown = sorted(set(text) - set(self._index))
        if unknown:
            raise ValueError(f"expected characters of the text; got {unknown[:5]}.")
        return torch.tensor([self._index[c] for c in text], dtype=torch.long)

    def decode(self, tokens: Sequence[int] | Int[Tensor, " T"]) -> str:
        return "".join(self.symbols[int(token)] for token in tokens)


def random_windows(
    tokens: Int[Tensor, " N"],
    *,
    n_rows: int,
    length: int,
    generator: torch.Generator,
) -> Iterator[Int[Tensor, "B T"]]:
    """Batches without end: windows of ``length`` tokens at random places."""
    _check_length(tokens, length)
    offsets = torch.arange(length)
    while True:
        start = torch.randint(
            len(tokens) - length + 1, (n_rows, 1), generator=generator
        )
        yield tokens[start + offsets]


def windows(
    tokens: Int[Tensor, " N"], *, length: int, overlap: int = 0
) -> Int[Tensor, "B T"]:
    """The text cut into windows of ``length``; a shorter rest is left out.

    With ``overlap=1`` the last token of a window begins the next, so that
    every token but the first is predicted once.
    """
    _check_length(tokens, length)
    return tokens.unfold(0, length, length - overlap)


def padded(
    rows: Sequence[Sequence[int]], *, filler: int
) -> tuple[Int[Tensor, "B T"], Int[Tensor, " B"]]:
    """Rows of different lengths as one batch, padded on the right; their lengths."""
    lengths = torch.tensor([len(row) for row in rows])
    out = torch.full((len(rows), int(lengths.max())), filler)
    for row, tokens in zip(out, rows, strict=True):
        row[: len(tokens)] = torch.as_tensor(tokens)
    return out, lengths


def story_batches(
    stories: Sequence[Sequence[int]],
    *,
    n_rows: int,
    filler: int,
    start: int,
    generator: torch.Generator,
) -> Iterator[Int[Tensor, "B T"]]:
    """Batches without end of whole stories, each after a ``start`` token.

    Stories of similar length share a batch, so that little is padding; each
    pass over the stories takes the batches in a new random order.
    """
    order = sorted(range(len(stories)), key=lambda i: len(stories[i]))
    groups = [order[i : i + n_rows] for i in range(0, len(order), n_rows)]
    while True:
        for index in torch.randperm(len(groups), generator=generator).tolist():
            rows = [[start, *stories[i]] for i in groups[index]]
            yield padded(rows, filler=filler)[0]


def _check_length(tokens: Tensor, length: int) -> None:
    if not 2 <= length <= len(tokens):
        raise ValueError(
            f"expected windows of 2 to {len(tokens)} tokens, the length of the text; "
            f"got {length}."
        )
