"""English as it is written, and as the words and marks that a grammar takes.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

from collections.abc import Sequence

from mattn.data.translation.lexicon import CAPITAL
from mattn.data.translation.numerals import english_number, english_ordinal

__all__ = ["english_text", "english_words"]

_HYPHEN = frozenset(english_number(n)[0] for n in range(20, 100, 10))
_UNITS = {english_number(n)[0] for n in range(1, 10)} | {
    english_ordinal(n)[0] for n in range(1, 10)
}
_MARKS = frozenset(".,?")


def english_words(text: str) -> list[str]:
    """Lower-case words and marks of a sentence; hyphens separate words.

    >>> english_words("He has twenty-three books.")
    ['he', 'has', 'twenty', 'three', 'books', '.']
    """
    if not isinstance(text, str):
        raise ValueError(
            f"expected an English sentence, a str; got {type(text).__name__}. Join "
            "words with english_text."
        )
    text = text.lower().replace("-", " ").replace("’", "'")
    for mark in _MARKS:
        text = text.replace(mark, f" {mark} ")
    return text.split()


def english_text(words: Sequence[str]) -> str:
    """The sentence as it is written, from its lower-case words and marks."""
    out = ""
    for i, word in enumerate(words):
        before = words[i - 1] if i else ""
        last = word in _UNITS and before in _HYPHEN
        out += "" if word in _MARKS or not i else "-" if last else " "
        out += word.capitalize() if word in CAPITAL or not i else word
    return out
