"""Small English stories from a grammar whose entropy is known exactly.

A probabilistic grammar with memory: it expands rules by chance, and words
that were chosen once, such as a name or a number, come back later. The next
word never leaves a doubt about which rules were used (the grammar is LL(1)),
so a story has one derivation, its probability is a product, and the entropy
is a sum over rules. Used in chapter 7.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from mattn.data.draws import uniform_draws
from mattn.inputs import random_source, token_list, whole_number

__all__ = ["END", "Grammar", "stories"]

END = "<end>"
"""The last token of every story; in running text, a line break."""

_PUNCTUATION = frozenset(".,!?")


class Grammar:
    """Rules ``symbol → [(probability, (item, …)), …]``, expanded from ``START``.

    An item is a symbol (if it has a rule), ``name=SYMBOL`` (expand the symbol
    to one word and remember it as ``name``), ``$name`` (that word again),
    ``$name:table`` (what a table says of it, such as its pronoun), or a word.

    Raises ``ValueError`` if probabilities are negative or do not sum to 1, if
    a word that is to come back is not known, or not always chosen before it does,
    or if two choices can begin with the same word, so that stories could be
    ambiguous.
    """

    def __init__(
        self,
        rules: Mapping[str, Sequence[tuple[float, Sequence[str]]]],
        tables: Mapping[str, Mapping[str, str]] | None = None,
    ):
        self.rules = {name: [(p, tuple(i)) for p, i in r] for name, r in rules.items()}
        self.tables = dict(tables or {})
        self._bound = {
            item.split("=")[0]: item.split("=")[1]
            for _, _, items in self._options()
            for item in items
            if "=" in item
        }
        if "START" not in self.rules:
            raise ValueError(f"Grammar: expected a rule START; got {[*self.rules]}.")
        for name, options in self.rules.items():
            shares = [p for p, _ in options]
            if not (math.isclose(sum(shares), 1.0) and all(p >= 0 for p in shares)):
                raise ValueError(
                    f"Grammar: expected the probabilities of {name} to be at least 0 "
                    f"and to sum to 1; got {shares}."
                )
        self._check_references()
        self._check_order()
        self._check_unambiguous()
        words = {w for _, _, items in self._options() for w in map(self._word, items)}
        words |= {v for table in self.tables.values() for v in table.values()}
        self.vocabulary: list[str] = [END, *sorted(w for w in words if w is not None)]
        """Every token; its index is its number, 0 the end."""
        self._index = {word: i for i, word in enumerate(self.vocabulary)}

    @functools.cached_property
    def entropy(self) -> float:
        """Nats per story: for each rule, expected uses times entropy of its choice."""
        return float(
            sum(
                uses * -sum(p * math.log(p) for p, _ in self.rules[name] if p > 0)
                for name, uses in self._expected_uses().items()
            )
        )

    @functools.cached_property
    def expected_tokens(self) -> float:
        """Mean number of tokens of a story, its end included."""
        return self._expected(lambda word: 1.0) + 1.0

    @functools.cached_property
    def expected_characters(self) -> float:
        """Mean number of characters of a story as :meth:`text`, line break included."""
        # Each word brings the space before it; the first word's stands for the
        # line break.
        return self._expected(lambda word: len(word) + (word not in _PUNCTUATION))

    @property
    def entropy_per_token(self) -> float:
        """Nats per token: the least mean loss when stories are scored whole."""
        return self.entropy / self.expected_tokens

    @property
    def entropy_per_character(self) -> float:
        """Bits per character of the text."""
        return self.entropy / self.expected_characters / math.log(2)

    def sample(self, n_stories: int, *, generator: torch.Generator) -> list[list[int]]:
        """``n_stories`` independent stories as token numbers, each with its end."""
        whole_number(n_stories, "n_stories", least=0)
        uniform = uniform_draws(random_source(generator, "Grammar.sample"))
        return [self._one(uniform) for _ in range(n_stories)]

    def log_probs(self, story: Any) -> list[float]:
        """True log p of each token given those before it, in nats.

        ``story``: token numbers, a list, an array or a tensor (T,).

        Raises ``ValueError`` at the first token that cannot stand where it is,
        and where a story ends too early.
        """
        out, log_p = [], 0.0
        stack: list[str] = ["START"]
        memory: dict[str, str] = {}
        words = self._words(story)
        position = 0
        while stack:
            item = stack.pop()
            name, _, symbol = item.rpartition("=")
            if symbol in self.rules:
                word = words[position] if position < len(words) else END
                p, items = self._choice(symbol, word)
                if p == 0:  # no option that is ever taken can begin so
                    self._refuse(words, position, f"a word that begins {symbol}")
                log_p += math.log(p)
                stack += reversed(items)
                if name:
                    memory[name] = word
                continue
            expected = self._resolve(item, memory)
            if position >= len(words) or words[position] != expected:
                self._refuse(words, position, repr(expected))
            out.append(log_p)
            log_p, position = 0.0, position + 1
        if words[position:] != [END]:
            self._refuse(words, position, repr(END))
        return [*out, log_p]

    def accepts(self, story: Any) -> bool:
        """Whether the grammar can write this story, its end included."""
        try:
            self.log_probs(story)
        except ValueError:
            return False
        return True

    def encode(self, text: str) -> list[int]:
        """Token numbers of one story in words, its end included."""
        for mark in _PUNCTUATION:
            text = text.replace(mark, f" {mark}")
        unknown = [w for w in text.split() if w not in self._index or w == END]
        if unknown:
            raise ValueError(f"expected words of the grammar; got {unknown[:5]}.")
        return [self._index[word] for word in text.split()] + [0]

    def text(self, story: Any) -> str:
        """One story in words, without its end."""
        words = [word for word in self._words(story) if word != END]
        return "".join(
            word if word in _PUNCTUATION or i == 0 else " " + word
            for i, word in enumerate(words)
        )

    def _words(self, story: Any) -> list[str]:
        numbers = token_list(story, "story", n_symbols=len(self.vocabulary))
        return [self.vocabulary[number] for number in numbers]

    def _one(self, uniform: Iterator[float]) -> list[int]:
        out: list[int] = []
        stack: list[str] = ["START"]
        memory: dict[str, str] = {}
        while stack:
            item = stack.pop()
            name, _, symbol = item.rpartition("=")
            if symbol in self.rules:
                items = self._draw(symbol, next(uniform))
                stack += reversed(items)
                if name:
                    memory[name] = items[0]
                continue
            out.append(self._index[self._resolve(item, memory)])
        return [*out, 0]

    def _draw(self, symbol: str, u: float) -> tuple[str, ...]:
        for p, items in self.rules[symbol]:
            u -= p
            if u < 0:
                return items
        return self.rules[symbol][-1][1]

    def _choice(self, symbol: str, word: str) -> tuple[float, tuple[str, ...]]:
        """The option that can begin with ``word``; else the one that can be empty;
        of probability 0 when there is neither."""
        empty: tuple[float, tuple[str, ...]] = (0.0, ())
        for option, first in zip(self.rules[symbol], self._first[symbol], strict=True):
            if word in first:
                return option
            if None in first:
                empty = option
        return empty

    def _resolve(self, item: str, memory: Mapping[str, str]) -> str:
        if not item.startswith("$"):
            return item
        name, _, table = item[1:].partition(":")
        return self.tables[table][memory[name]] if table else memory[name]

    def _refuse(self, words: list[str], position: int, expected: str) -> None:
        got = words[position] if position < len(words) else "nothing"
        raise ValueError(
            f"not a story of this grammar: expected {expected} at token {position}; "
            f"got {got!r}."
        )

    def _options(self) -> Iterator[tuple[str, float, tuple[str, ...]]]:
        for name, options in self.rules.items():
            for p, items in options:
                yield name, p, items

    def _word(self, item: str) -> str | None:
        """The item itself if it is a word."""
        plain = "=" not in item and not item.startswith("$") and item not in self.rules
        return item if plain else None

    def _values(self, item: str) -> list[tuple[float, str]]:
        """The words that a reference can stand for, with their probabilities."""
        name, _, table = item[1:].partition(":")
        words = [(p, items[0]) for p, items in self.rules[self._bound[name]]]
        return [(p, self.tables[table][w] if table else w) for p, w in words]

    def _expected_uses(self) -> dict[str, float]:
        """Expected number of expansions of each symbol in a story."""
        names = list(self.rules)
        index = {name: i for i, name in enumerate(names)}
        calls = np.zeros((len(names), len(names)))  # expected uses of j in one i
        for name, p, items in self._options():
            for item in items:
                symbol = item.rpartition("=")[2]
                if symbol in index:
                    calls[index[name], index[symbol]] += p
        start = np.zeros(len(names))
        start[index["START"]] = 1.0
        uses = np.linalg.solve(np.eye(len(names)) - calls.T, start)
        if (uses < 0).any():
            raise ValueError("Grammar: expected stories of finite mean length.")
        return dict(zip(names, uses.tolist(), strict=True))

    def _expected(self, size) -> float:
        """Expected sum of ``size(word)`` over the words of a story."""
        uses = self._expected_uses()
        total = 0.0
        for name, p, items in self._options():
            for item in items:
                if item.startswith("$"):
                    own = sum(q * size(word) for q, word in self._values(item))
                else:
                    own = size(item) if self._word(item) else 0.0
                total += uses[name] * p * own
        return total

    def _first_of(self, items: Sequence[str], first: Mapping[str, set]) -> set:
        """Words that ``items`` can begin with; ``None`` in it: they can be empty."""
        out: set = set()
        for item in items:
            symbol = item.rpartition("=")[2]
            if item.startswith("$"):
                return out | {word for _, word in self._values(item)}
            if symbol not in self.rules:
                return out | {item}
            out |= first[symbol] - {None}
            if None not in first[symbol]:
                return out
        return out | {None}

    def _check_references(self) -> None:
        """Every ``$name`` and ``$name:table`` stands for one known word."""
        for name, symbol in self._bound.items():
            phrases = [items for _, items in self.rules.get(symbol, [(0, ())])]
            if any(len(items) != 1 or not self._word(items[0]) for items in phrases):
                raise ValueError(
                    f"Grammar: expected every option of {symbol} to be one word, as "
                    f"{name} remembers it; got {phrases}."
                )
        for _, _, items in self._options():
            for item in items:
                if not item.startswith("$"):
                    continue
                try:
                    self._values(item)
                except KeyError as missing:
                    raise ValueError(
                        f"Grammar: expected {item} to stand for a word that was "
                        f"remembered, or a table's entry for it; got no {missing}."
                    ) from None

    def _check_order(self) -> None:
        """Whatever is drawn, ``name=SYMBOL`` comes before ``$name``."""
        # The names that are remembered for certain: before a symbol, and thanks to it.
        before = {name: set(self._bound) for name in self.rules} | {"START": set()}
        thanks = {name: set(self._bound) for name in self.rules}
        while True:  # to a fixed point
            last = [*before.values(), *thanks.values()]
            for name, options in self.rules.items():
                left = []
                for _, items in options:
                    known: set[str] = set()
                    for item, known in self._remembered(items, set(), thanks):
                        symbol = item.rpartition("=")[2]
                        if symbol in before:
                            before[symbol] = before[symbol] & (before[name] | known)
                    left.append(known)
                thanks[name] = set.intersection(*left)
            if last == [*before.values(), *thanks.values()]:
                break
        for name, _, items in self._options():
            for item, known in self._remembered(items, before[name], thanks):
                remembered = item[1:].partition(":")[0]
                if item.startswith("$") and remembered not in known:
                    raise ValueError(
                        f"Grammar: expected {remembered}=… before every {item}; got "
                        f"{' '.join(items)!r} in {name}, which can come earlier. "
                        f"Choose {remembered} in what always comes first."
                    )

    @staticmethod
    def _remembered(
        items: Sequence[str], known: set[str], thanks: Mapping[str, set[str]]
    ) -> Iterator[tuple[str, set[str]]]:
        """Each item with the names that are remembered by then; "" at the end."""
        for item in (*items, ""):
            yield item, known
            name, _, symbol = item.rpartition("=")
            known = known | thanks.get(symbol, set()) | ({name} - {""})

    def _check_unambiguous(self) -> None:
        """LL(1): the next word decides between the options of every rule."""
        first: dict[str, set] = {name: set() for name in self.rules}
        follow: dict[str, set] = {name: set() for name in self.rules}
        follow["START"] = {END}
        while True:  # to a fixed point
            before = [len(s) for s in (*first.values(), *follow.values())]
            for name, _, items in self._options():
                first[name] |= self._first_of(items, first)
                for i, item in enumerate(items):
                    symbol = item.rpartition("=")[2]
                    if symbol in self.rules:
                        after = self._first_of(items[i + 1 :], first)
                        follow[symbol] |= after - {None}
                        if None in after:
                            follow[symbol] |= follow[name]
            if before == [len(s) for s in (*first.values(), *follow.values())]:
                break
        self._first = {
            name: [self._first_of(items, first) for _, items in options]
            for name, options in self.rules.items()
        }
        for name, options in self._first.items():
            seen: set = set()
            for words in options:
                begins = (words - {None}) | (follow[name] if None in words else set())
                if begins & seen:
                    raise ValueError(
                        f"Grammar: two options of {name} can begin with "
                        f"{sorted(begins & seen)[0]!r}; make the first words differ."
                    )
                seen |= begins


def _even(*options: str) -> list[tuple[float, tuple[str, ...]]]:
    """Options of equal probability, each a phrase."""
    return [(1 / len(options), tuple(option.split())) for option in options]


def _mixed(options: Mapping[str, float]) -> list[tuple[float, tuple[str, ...]]]:
    return [(p, tuple(phrase.split())) for phrase, p in options.items()]


# Long because: it is the grammar itself, a table.
def stories() -> Grammar:
    """The book's stories: someone finds a number of things, and counts them again.

    Words come back over long distances: the name and its pronoun, the number
    and the things (in the last sentences), and the number of a subject, which
    its verb agrees with across relative clauses of any depth. The two words
    before the number's last mention are the same whatever the number is, so
    no trigram can know it.
    """
    girls, boys = ("anna", "clara", "mina", "ruth"), ("boris", "david", "oskar", "tom")
    rules = {
        "START": _even(
            "name=NAME lived PLACE . one DAY $name:pronoun found number=NUMBER "
            "thing=THING PLACE . BODY LAST"
        ),
        "NAME": _even(*girls, *boys),
        "PLACE": _even(
            "by the sea", "in the forest", "near a mill", "on a hill", "under a bridge"
        ),
        "DAY": _even("evening", "morning", "night", "winter"),
        "NUMBER": _even(
            "two", "three", "four", "five", "six", "seven", "eight", "nine"
        ),
        "THING": _even(
            "apples",
            "buttons",
            "coins",
            "feathers",
            "keys",
            "pebbles",
            "shells",
            "stamps",
        ),
        "BODY": _mixed({"SENTENCE BODY": 0.7, "": 0.3}),
        "SENTENCE": _mixed(
            {
                "the SUBJECT .": 0.4,
                "$name:pronoun DID .": 0.35,
                "friend=FRIEND asked for one , but $name said no .": 0.25,
            }
        ),
        # The verb agrees with the first noun, not with the nearest one.
        "SUBJECT": _mixed({"ONE CLAUSE was STATE": 0.5, "MANY CLAUSE were STATE": 0.5}),
        "ONE": _even("cat", "dog", "goat", "owl"),
        "MANY": _even("cats", "dogs", "goats", "owls"),
        "CLAUSE": _mixed({"that VERB the NOUN CLAUSE": 0.35, "": 0.65}),
        "NOUN": _mixed({"ONE": 0.5, "MANY": 0.5}),
        "VERB": _even("saw", "heard", "followed"),
        "STATE": _even("hungry", "quiet", "sleepy", "wet"),
        "DID": _even(
            "sang a song", "walked to the market", "slept for an hour", "drank some tea"
        ),
        "FRIEND": _even("emil", "greta", "ida", "paul"),
        "LAST": _even(
            "at last $name counted the $thing again . there were still $number ."
        ),
    }
    pronouns = dict.fromkeys(girls, "she") | dict.fromkeys(boys, "he")
    return Grammar(rules, {"pronoun": pronouns})
