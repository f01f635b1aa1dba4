"""A language of 1,024 sentences, whose verb agrees with the noun that is further back.

*The* animal *on, near, under* or *by the* noun, and a verb: *the foxes on the mat
sleep*. The verb follows the number of the animal, whatever the noun next to it says,
so whoever writes it has to look back. All sentences are equally likely, so what the
best possible guesser needs is found by counting. Used in chapters 1 and 5.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mattn.inputs import random_source, token_list, whole_number

__all__ = ["WORDS", "decode", "encode", "floors", "is_sentence", "sample", "sentences"]

_ANIMALS = {"cat": "cats", "dog": "dogs", "fox": "foxes", "bird": "birds"}
_PLACES = ("on", "near", "under", "by")
_THINGS = {"cat": "cats", "dog": "dogs", "mat": "mats", "box": "boxes"}
_VERBS = {"sleeps": "sleep", "waits": "wait", "eats": "eat", "plays": "play"}


@functools.cache
def _all() -> dict[tuple[str, ...], None]:
    """Every sentence, in order."""
    return {
        ("the", animal, place, "the", thing, verb): None
        for number in (0, 1)  # one, many
        for animal, place, thing, verb in itertools.product(
            [pair[number] for pair in _ANIMALS.items()],
            _PLACES,
            [noun for pair in _THINGS.items() for noun in pair],
            [pair[number] for pair in _VERBS.items()],
        )
    }


def sentences() -> list[tuple[str, ...]]:
    """All 1,024 sentences, each of six words.

    >>> " ".join(sentences()[0])
    'the cat on the cat sleeps'
    """
    return list(_all())


#: The 25 words, in the order of their token numbers.
WORDS = tuple(sorted({word for sentence in _all() for word in sentence}))


def encode(text: str | Sequence[str]) -> Int[Tensor, " T"]:
    """Token numbers, the index of each word in ``WORDS``.

    Raises ``ValueError`` for a word that is not in the language.
    """
    words = text.split() if isinstance(text, str) else list(text)
    if unknown := [word for word in words if word not in WORDS]:
        raise ValueError(
            f"expected words among {', '.join(WORDS)}; got {unknown[0]!r}. The "
            "language has no others."
        )
    return torch.tensor([WORDS.index(word) for word in words], dtype=torch.long)


def decode(tokens: Int[Tensor, " T"] | Sequence[int]) -> str:
    """The words of token numbers, joined by spaces."""
    numbers = token_list(tokens, "decode", n_symbols=len(WORDS))
    return " ".join(WORDS[number] for number in numbers)


def is_sentence(text: str | Sequence[str]) -> bool:
    """Whether these words, in this order, are one of the 1,024 sentences.

    >>> is_sentence("the cats on the mat sleep")
    True
    >>> is_sentence("the cats on the mat sleeps")
    False
    """
    return tuple(text.split() if isinstance(text, str) else text) in _all()


def sample(n: int, *, generator: torch.Generator) -> Int[Tensor, "n 6"]:
    """``n`` sentences as token numbers, each drawn from all with equal chances."""
    n = whole_number(n, "n", least=1)
    generator = random_source(generator, "agreement.sample")
    tokens = _tokens()
    return tokens[torch.randint(len(tokens), (n,), generator=generator)]


@functools.cache
def _tokens() -> Tensor:
    return torch.stack([encode(sentence) for sentence in sentences()])


def floors(allowed: Bool[Tensor, "6 6"]) -> list[float]:
    """Bits that each of the words 1 … 5 costs the best possible guesser, on average.

    Who guesses word t + 1 knows the whole language, and of the sentence the words that
    row t of a mask's matrix shows. The words that are still possible are counted: in 8
    equally likely ones there are 3 bits.

    >>> from mattn import causal, window
    >>> floors(causal.matrix(6))
    [3.0, 2.0, 0.0, 3.0, 2.0]
    >>> floors((causal & window(1)).matrix(6))
    [3.0, 2.0, 0.0, 3.0, 3.0]
    """
    rows = allowed.tolist()[:-1]
    return [_cost(t + 1, [j for j in range(6) if row[j]]) for t, row in enumerate(rows)]


def _cost(target: int, seen: list[int]) -> float:
    """Mean of log₂(sentences that look the same / those with the same word, too)."""
    looks = [(tuple(s[j] for j in seen), s[target]) for s in _all()]
    same_look, same_word = Counter(look for look, _ in looks), Counter(looks)
    costs = [math.log2(same_look[look[0]] / same_word[look]) for look in looks]
    return math.fsum(costs) / len(costs)
