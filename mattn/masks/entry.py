"""What an entry of the atlas says, and what is computed from its rule.

The atlas of masks is an appendix of the book.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from mattn.masks import listed, named, patterns
from mattn.masks.algebra import Mask
from mattn.masks.matrices import boolean_power

__all__ = ["LARGE", "SMALL", "Entry"]

SMALL, LARGE = 8, 4096
"""Tokens of the pictures, and of the counts for a kernel."""
BLOCK = 128
_NAMES = {
    name: getattr(room, name)
    for room in (named, listed, patterns)
    for name in room.__all__
}


@dataclass(frozen=True)
class Entry:
    """One mask that is in use, or what is used instead of one.

    ``rule``, ``pairs`` and what is ``given`` are Python: they are run with T, the
    number of tokens, and with each other, in that order. A text in ``large``
    stands for the one of that name in ``given`` when a kernel's blocks are counted.
    """

    key: str
    title: str
    rule: str
    why: str
    who: str
    source: str
    """Keys of the bibliography, and names of functions and threads in brackets."""
    pairs: str
    """How many pairs of query and key it allows among T tokens."""
    given: Mapping[str, str] = field(default_factory=dict)
    large: Mapping[str, str] = field(default_factory=dict)
    tries: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Other values of parameters, with which a stranger's mask is tried, too."""
    slips: Mapping[str, str] = field(default_factory=dict)
    """What others took it for: in words, and as a rule."""
    instead: str = ""
    """What it is when it is no mask; the rule is then the mask that bounds it."""
    cross: bool = False
    """Whether queries and keys are two sequences, each counted from 0."""
    alternates: str = ""
    """A rule of other layers, if the layers differ."""
    step: int = 1
    """Lengths are multiples of it: a picture has two rows, say."""

    def parameters(self, T: int, *, large: bool = False, **set_to: Any) -> dict:
        """The parameters for T tokens; ``set_to`` replaces some."""
        known: dict[str, Any] = {"T": T}
        for name, text in self.given.items():
            code = self.large.get(name, text) if large else text
            known[name] = set_to.get(name, _run(code, known))
        del known["T"]
        return known

    def mask(self, T: int = SMALL, *, large: bool = False, **set_to: Any) -> Mask:
        """The rule for T tokens.

        >>> from mattn.masks.atlas import atlas
        >>> atlas("window").mask(8, w=2).matrix(1, 4)
        tensor([[False, False,  True,  True]])
        """
        return self.read(self.rule, T, self.parameters(T, large=large, **set_to))

    def read(self, code: str, T: int, parameters: Mapping[str, Any]) -> Mask:
        """A rule in the names of the entry."""
        return _run(code, {**parameters, "T": T})

    def matrix(self, T: int = SMALL) -> Bool[Tensor, "T T"]:
        """The picture: True = may attend; of a batch, its first row."""
        cells = self.mask(T).matrix(T)
        return cells if cells.ndim == 2 else cells[0]

    def n_pairs(self, T: int = SMALL) -> int:
        """What the formula says; a test counts it."""
        return int(_run(self.pairs, {**self.parameters(T), "T": T}))

    def seen_after(self, n_layers: int, T: int = 64) -> int:
        """Tokens that the last of T has heard of after so many layers of it."""
        cells = self.matrix(T) | torch.eye(T, dtype=torch.bool)
        if self.alternates:
            raise ValueError(f"{self.key}: expected one rule; it has one a layer.")
        return int(boolean_power(cells, n_layers)[-1].sum())

    @cached_property
    def kept(self) -> str:
        """What a cache must keep, at 4,096 tokens."""
        if self.cross:
            return "the other sequence"
        mask = self.mask(LARGE, large=True)
        reach = mask.reach()
        if not mask.band and (reach.size == math.inf or reach.ahead == math.inf):
            reach = mask.reach(LARGE)
        if reach.ahead > 0:
            return f"looks {int(min(reach.ahead, LARGE - 1)):,} ahead"
        return "all" if reach.size >= LARGE else f"{int(reach.size):,} keys"

    @cached_property
    def skipped(self) -> tuple[int, int]:
        """Blocks of 128 × 128 in which nothing is allowed, of 4,096 tokens; of how
        many."""
        mask = self.mask(LARGE, large=True)
        rows = mask.batch or 1
        every = rows * (-(-LARGE // BLOCK)) ** 2
        return every - mask.pairs(LARGE, block=BLOCK), every


def _run(code: str, known: Mapping[str, Any]) -> Any:
    # One dict: what a comprehension looks up are globals. The code is the atlas's own.
    return eval(code, {**_NAMES, "math": math, **known})
