"""Sources of tokens: with a known entropy, so that cheating can be seen, and real.

Chapters 1, 5, 7 and 8 learn from them.
"""

from mattn.data.corpora import DataMissing, multi30k, tiny_shakespeare
from mattn.data.markov import MarkovSource
from mattn.data.pairs import BytePairs, Words, pair_batches
from mattn.data.repeats import repeats
from mattn.data.stories import Grammar, stories
from mattn.data.tokens import (
    Characters,
    padded,
    random_windows,
    story_batches,
    windows,
)
from mattn.data.translation import Pair, split_pairs, translation_grammar

__all__ = [
    "BytePairs",
    "Characters",
    "DataMissing",
    "Grammar",
    "MarkovSource",
    "Pair",
    "Words",
    "multi30k",
    "padded",
    "pair_batches",
    "random_windows",
    "repeats",
    "split_pairs",
    "stories",
    "story_batches",
    "tiny_shakespeare",
    "translation_grammar",
    "windows",
]
