"""Which pairs are trained on, and which are kept to judge what was learned.

Chapter 8 keeps one pattern in eight out of its training.
"""

from __future__ import annotations

import zlib

import torch

from mattn.data.translation.english_chinese import translation_grammar
from mattn.data.translation.grammar import Pair
from mattn.inputs import whole_number

__all__ = ["LONGEST_TRAINED", "is_held_out", "split_of", "split_pairs"]

LONGEST_TRAINED = 18
"""English words and marks of the longest training sentence."""


def is_held_out(pattern: tuple[str, str, str]) -> bool:
    """Whether a pattern (kind, word, noun) is kept from training: one in eight.

    Decided by a checksum of its words, so that it is the same everywhere.
    """
    return zlib.crc32(" ".join(pattern).encode()) % 8 == 0


def split_of(pair: Pair) -> str | None:
    """The one split that a pair may be in; ``None``: in none.

    ``"train"``: at most 18 words and marks, no pattern that is held out.
    ``"new"``: the same size, with a pattern that is held out. ``"longer"``: more
    words, no pattern that is held out; a rare one may still have stood in no
    sentence of training. A twentieth of the sentences of training size, told by
    a checksum, is ``"valid"`` instead. A relative clause inside another, which
    nobody says, is in none.
    """
    held_out = any(map(is_held_out, pair.patterns))
    if pair.depth > 1:
        return None
    if len(pair.english) > LONGEST_TRAINED:
        return None if held_out else "longer"
    if held_out:
        return "new"
    in_valid = zlib.crc32(" ".join(pair.english).encode()) % 20 == 0
    return "valid" if in_valid else "train"


def split_pairs(
    sizes: dict[str, int], *, generator: torch.Generator
) -> dict[str, list[Pair]]:
    """So many different pairs of each split, see :func:`split_of`."""
    unknown = set(sizes) - {"train", "valid", "new", "longer"}
    if unknown:
        raise ValueError(
            "split_pairs: expected splits train, valid, new, longer; got "
            f"{sorted(unknown)}."
        )
    for split, size in sizes.items():
        whole_number(size, f"split_pairs: a number of pairs for {split!r}", least=0)
    out: dict[str, list[Pair]] = {split: [] for split in sizes}
    seen: set[tuple[str, ...]] = set()
    for pair in translation_grammar().sample(generator=generator):
        home = split_of(pair)
        if home in out and len(out[home]) < sizes[home] and pair.english not in seen:
            seen.add(pair.english)
            out[home].append(pair)
        if all(len(out[split]) == size for split, size in sizes.items()):
            return out
    raise AssertionError("the grammar has no end")
