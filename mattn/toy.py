"""The sentence of the book, and a head made by hand that reads it.

*The cats on the mat sleep*: the verb has to agree with *cats*, four words back, and
not with *mat*, which is next to it. Chapters 1 to 6, the exercises and the pictures
take it from here, so that a number seen once can be found again. Nothing below was
trained: the features and the maps were chosen so that they can be read aloud.
Introduced in chapter 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FEATURES", "TOKENS", "W_k", "W_q", "W_v", "embed", "verb"]

TOKENS = ("the", "cats", "on", "the", "mat", "sleep")

#: What the four numbers of a word say: that it points at something; how plainly it
#: tells who acts; that it is a thing; one (−1), many (+1), or neither (0).
FEATURES = ("points", "doer", "thing", "number")

_WORDS = {
    "the": (1, 0, 0, 0),
    "on": (1, 0, 1, 0),
    "near": (1, 0, 1, 0),
    "by": (1, 0, 1, 0),
    "cat": (0, 1, 0, -1),
    "cats": (0, 1, 0, 1),
    "dog": (0, 1, 0, -1),
    "mat": (0, 0, 1, -1),
    "mats": (0, 0, 1, 1),
    "sleep": (0, 2, 0, 1),
    "sleeps": (0, 2, 0, -1),
}

#: What a word asks. A thing asks for whoever acts (3), a pointing word does so
#: faintly (1), and who acts asks for a word that points (2).
W_q = torch.tensor([[0.0, 1, 0, 0], [2, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 0]]).double()
#: By what a word is found.
W_k = torch.diag(torch.tensor([1.0, 2, 1, 0])).double()
#: What a word hands over: its number, and how plainly it tells who acts.
W_v = torch.tensor([[0.0, 0], [0, 1], [0, 0], [1, 0]]).double()


def embed(words: str | Sequence[str] = TOKENS) -> Float[Tensor, "T 4"]:
    """The four features of each word, in float64.

    >>> embed("the cats")
    tensor([[1., 0., 0., 0.],
            [0., 1., 0., 1.]], dtype=torch.float64)

    Raises ``ValueError`` for a word that the toy does not know.
    """
    words = words.split() if isinstance(words, str) else list(words)
    unknown = [word for word in words if word not in _WORDS]
    if unknown:
        raise ValueError(
            f"expected words among {', '.join(_WORDS)}; got {unknown[0]!r}. The toy "
            "knows no others: make vectors of your own."
        )
    rows = [_WORDS[word] for word in words]
    return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(FEATURES))


def verb(number: float | Float[Tensor, ""]) -> str:
    """The verb that agrees: *sleep* with many (> 0), *sleeps* with one (< 0)."""
    if not (number > 0 or number < 0):
        raise ValueError(
            f"expected a number above or below 0; got {number}. At 0 the nouns cancel, "
            "and the verb cannot be decided."
        )
    return "sleep" if number > 0 else "sleeps"
