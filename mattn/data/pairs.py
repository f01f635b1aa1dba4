"""Pairs of sentences: from words to tokens to batches, for two languages.

Every vocabulary here begins with the same four tokens: padding, start, end,
unknown. Used in chapter 8.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.data.tokens import padded
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

Pair = tuple[Sequence[int], Sequence[int]]


class Words:
    """One token for each word, in the order in which a list first names it."""

    def __init__(self, words: Iterable[str]):
        self.symbols = [*SPECIAL, *dict.fromkeys(words)]
        self._index = {symbol: i for i, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, words: Sequence[str], *, mark_unknown: bool = False) -> list[int]:
        """Token numbers; an unknown word is an error that names it, or is marked."""
        if isinstance(words, str):
            raise ValueError("Words.encode: expected a list of words; got one string.")
        unknown = [w for w in words if w not in self._index or w in SPECIAL]
        if unknown and not mark_unknown:
            raise ValueError(
                f"expected known words; got {unknown[:5]}. Use words of the "
                "vocabulary, or mark_unknown=True."
            )
        return [UNKNOWN if w in unknown else self._index[w] for w in words]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """The words up to the end token; padding and start are left out."""
        return [self.symbols[t] for t in _until_end(tokens) if t not in (PAD, START)]


class BytePairs:
    """Subwords by byte-pair encoding: frequent pairs of symbols are merged.

    The library ``tokenizers`` learns and applies the merges; a text comes
    back as it was, but for unknown characters and repeated spaces.
    Source: Sennrich et al. 2016, arXiv:1508.07909.
    """

    def __init__(self, texts: Iterable[str], n_symbols: int):
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
        if not text.strip():
            raise ValueError("expected a sentence; got an empty one.")
        return self._tokenizer.encode(" ".join(text.split())).ids

    def decode(self, tokens: Iterable[int]) -> str:
        """The text up to the end token."""
        return self._tokenizer.decode(_until_end(tokens)).strip()


def pair_batches(
    pairs: Sequence[Pair], *, n_tokens: int, generator: torch.Generator
) -> Iterator[tuple[Int[Tensor, "B T"], Int[Tensor, "B U"], Int[Tensor, " B"]]]:
    """Batches without end of (source, target, source lengths), as models take them.

    Targets stand between the start and the end token. Pairs of similar length
    share a batch, so that little is padding; rows times columns is at most
    ``n_tokens`` on either side, unless one pair alone is longer. Each pass
    over the pairs draws the batches and their order anew.
    """
    if not pairs or any(len(source) == 0 for source, _ in pairs):
        raise ValueError("pair_batches: expected pairs with at least one source token.")
    sizes = torch.tensor([[len(s), len(t) + 2] for s, t in pairs]).double()
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


def _until_end(tokens: Iterable[int]) -> list[int]:
    out = []
    for token in tokens:
        if int(token) == END:
            break
        out.append(int(token))
    return out
