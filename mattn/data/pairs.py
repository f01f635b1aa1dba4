"""Pairs of sentences: from words to tokens to batches, for two languages.

Every vocabulary here begins with the same four tokens: padding, start, end,
unknown. Used in chapter 8.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.data.tokens import padded
from mattn.inputs import random_source, token_list, whole_number
from mattn.optional import needed

__all__ = [
    "END",
    "PAD",
    "SPECIAL",
    "START",
    "UNKNOWN",
    "BytePairs",
    "Words",
    "pair_batches",
]

SPECIAL = ("<pad>", "<start>", "<end>", "<unknown>")
"""The first tokens of every vocabulary."""
PAD, START, END, UNKNOWN = range(4)

TokenPair = tuple[Sequence[int], Sequence[int]]


class Words:
    """One token for each word, in the order in which a list first names it."""

    def __init__(self, words: Iterable[str]):
        words = _texts(words, "Words")
        special = sorted(set(words) & set(SPECIAL))
        if special:
            raise ValueError(
                f"Words: expected words other than {SPECIAL}, which every vocabulary "
                f"has; got {special}."
            )
        self.symbols = [*SPECIAL, *dict.fromkeys(words)]
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, words: Sequence[str], *, mark_unknown: bool = False) -> list[int]:
        """Token numbers; an unknown word is an error that names it, or is marked."""
        words = _texts(words, "Words.encode")
        unknown = {w for w in words if w not in self._index or w in SPECIAL}
        if unknown and not mark_unknown:
            raise ValueError(
                f"expected known words; got {sorted(unknown)[:5]}. Use words of the "
                "vocabulary, or mark_unknown=True."
            )
        return [UNKNOWN if w in unknown else self._index[w] for w in words]

    def decode(self, tokens: Any) -> list[str]:
        """The words up to the end token; padding and start are left out."""
        numbers = _until_end(tokens, len(self))
        return [self.symbols[t] for t in numbers if t not in (PAD, START)]


class BytePairs:
    """Subwords by byte-pair encoding: frequent pairs of symbols are merged.

    The library ``tokenizers`` learns and applies the merges; a text comes
    back as it was, but for unknown characters and repeated spaces.
    Source: Sennrich et al. 2016, arXiv:1508.07909.
    """

    def __init__(self, texts: Iterable[str], n_symbols: int):
        texts = _texts(texts, "BytePairs")
        whole_number(n_symbols, "n_symbols", least=len(SPECIAL) + 1)
        library = needed("tokenizers", "text", "BytePairs")
        self._tokenizer = library.Tokenizer(library.models.BPE(unk_token=SPECIAL[3]))
        self._tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence(
            [
                library.pre_tokenizers.Metaspace(),
                library.pre_tokenizers.Punctuation(),
            ]
        )
        self._tokenizer.decoder = library.decoders.Metaspace()
        trainer = library.trainers.BpeTrainer(
            vocab_size=n_symbols, special_tokens=list(SPECIAL), show_progress=False
        )
        self._tokenizer.train_from_iterator(texts, trainer)

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"expected a sentence with words; got {text!r}.")
        return self._tokenizer.encode(" ".join(text.split())).ids

    def decode(self, tokens: Any) -> str:
        """The text up to the end token."""
        return self._tokenizer.decode(_until_end(tokens, len(self))).strip()


def pair_batches(
    pairs: Iterable[TokenPair], *, n_tokens: int, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, "B T"], Int[Tensor, "B U"], Int[Tensor, " B"]]]:
    """Batches without end of (source, target, source lengths), as models take them.

    Targets stand between the start and the end token. Pairs of similar length
    share a batch, so that little is padding; rows times columns is at most
    ``n_tokens`` on either side, unless one pair alone is longer. Each pass
    over the pairs draws the batches and their order anew.
    """
    pairs = [_pair(i, pair) for i, pair in enumerate(pairs)]
    if not pairs or any(len(source) == 0 for source, _ in pairs):
        raise ValueError("pair_batches: expected pairs with at least one source token.")
    whole_number(n_tokens, "n_tokens", least=1)
    random_source(generator, "pair_batches")
    sizes = torch.tensor([[len(s), len(t) + 2] for s, t in pairs]).double()
    return _batches(pairs, sizes, n_tokens, generator)


def _batches(pairs, sizes, n_tokens, generator):
    while True:
        # A little noise lets every pair meet others than in the pass before.
        noise = torch.rand(len(pairs), generator=generator, dtype=torch.float64)
        order = (sizes.amax(dim=1) + sizes[:, 0] / 100 + noise).argsort().tolist()
        groups: list[list[int]] = [[]]
        widest = 0
        for i in order:
            widest = max(widest, int(sizes[i].max()))
            if groups[-1] and widest * (len(groups[-1]) + 1) > n_tokens:
                groups.append([])
                widest = int(sizes[i].max())
            groups[-1].append(i)
        for index in torch.randperm(len(groups), generator=generator).tolist():
            chosen = [pairs[i] for i in groups[index]]
            source, lengths = padded([s for s, _ in chosen], filler=PAD)
            target, _ = padded([[START, *t, END] for _, t in chosen], filler=PAD)
            yield source, target, lengths


def _pair(i: int, pair: Any) -> tuple[list[int], list[int]]:
    if not isinstance(pair, Sequence) or len(pair) != 2:
        raise ValueError(
            f"pair_batches: expected pairs (source, target); got {pair!r} as pair {i}."
        )
    what = f"pair_batches: pair {i}"
    source, target = (token_list(side, what) for side in pair)
    if PAD in source or PAD in target:
        raise ValueError(
            f"{what}: expected no padding, token {PAD}, in a sentence; got "
            f"{(source, target)}. Batches are padded here."
        )
    return source, target


def _until_end(tokens: Any, n_symbols: int) -> list[int]:
    numbers = token_list(tokens, "decode", n_symbols=n_symbols)
    return list(itertools.takewhile(lambda number: number != END, numbers))


def _texts(texts: Any, what: str) -> list[str]:
    """A list of strings; one string would be read letter by letter."""
    listed = [] if isinstance(texts, str) else list(texts)
    if isinstance(texts, str) or not all(isinstance(text, str) for text in listed):
        raise ValueError(f"{what}: expected a list of str; got {texts!r:.60}.")
    return listed
