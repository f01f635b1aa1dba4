"""Sources of tokens: with a known entropy, so that cheating can be seen."""

from mattn.data.markov import MarkovSource

__all__ = ["MarkovSource"]
