"""Sources of tokens: with a known entropy, so that cheating can be seen, and real."""

from mattn.data.corpora import DataMissing, multi30k, real_text, tiny_shakespeare
from mattn.data.markov import MarkovSource
from mattn.data.stories import Grammar, stories
from mattn.data.tokens import (
    Characters,
    padded,
    random_windows,
    story_batches,
    windows,
)

__all__ = [
    "Characters",
    "DataMissing",
    "Grammar",
    "MarkovSource",
    "multi30k",
    "padded",
    "random_windows",
    "real_text",
    "stories",
    "story_batches",
    "tiny_shakespeare",
    "windows",
]
