"""A grammar that writes two languages at once, and the pairs that it derives.

A rule has a right-hand side for each language; what a derivation writes in both
is a pair of sentences with its alignment. English is read back by the same
rules, so a sentence has the derivations that a parser finds.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from mattn.data.draws import uniform_draws
from mattn.data.translation.numerals import (
    chinese_number,
    english_number,
    numbers_in_english,
)
from mattn.data.translation.written import english_text, english_words
from mattn.inputs import random_source

__all__ = [
    "Node",
    "Numbers",
    "Pair",
    "Rule",
    "Rules",
    "TranslationGrammar",
    "number_rule",
]


@dataclass(frozen=True, eq=False)
class Rule:
    """Two right-hand sides for one symbol; ``$NAME`` is a child, in both alike.

    ``measure`` is what the symbol gives to a ``$NAME.measure`` above it. A
    rule without children is a leaf: its words mean each other.
    """

    weight: float
    english: tuple[str, ...]
    chinese: tuple[str, ...]
    measure: tuple[str, ...] = ()
    pattern: tuple[str, str, str] | None = None
    """(kind, word, noun) that this rule combines; for a numeral, the symbol of it."""

    @functools.cached_property
    def children(self) -> tuple[str, ...]:
        """Symbols below, in English order."""
        names = (item[1:] for item in self.english if item.startswith("$"))
        return tuple(dict.fromkeys(names))

    @functools.cached_property
    def sides(self) -> list[list[tuple[int, str]]]:
        """English, Chinese and measure, each item with the side of a child that it
        stands for; −1: it is a word.
        """
        out: list[list[tuple[int, str]]] = []
        for side, items in enumerate((self.english, self.chinese, self.measure)):
            out.append([])
            for item in items:
                if not item.startswith("$"):
                    out[-1].append((-1, item))
                elif item.endswith(".measure"):
                    out[-1].append((2, item[1:-8]))
                else:
                    # What a container measures by is its own Chinese.
                    out[-1].append((min(side, 1), item[1:]))
        return out


def number_rule(n: int) -> Rule:
    """The leaf that says n in both languages."""
    chinese = chinese_number(n, before="measure")
    return Rule(1.0, tuple(english_number(n)), tuple(chinese))


class Numbers(Sequence):
    """A leaf rule for each number; as many draws of 1 digit as of 2, 3, …"""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last

    def __len__(self) -> int:
        return self.last - self.first + 1

    # No slices: a leaf is drawn, or asked for by its number.
    def __getitem__(self, i: int) -> Rule:  # type: ignore[override]
        if not 0 <= i < len(self):
            raise IndexError(i)
        return number_rule(self.first + i)

    def __contains__(self, n: object) -> bool:
        return isinstance(n, int) and self.first <= n <= self.last

    def draw(self, uniform: Iterator[float]) -> Rule:
        n_digits = 1 + int(next(uniform) * len(str(self.last)))
        low = max(self.first, 10 ** (n_digits - 1))
        high = min(self.last, 10**n_digits - 1)
        return number_rule(low + int(next(uniform) * (high - low + 1)))


class Rules(dict):
    """Rules by symbol; phrases are written as one string."""

    def add(
        self, symbol: str, english: str, chinese: str, weight: float = 1.0, **more
    ) -> None:
        measure = tuple(more.pop("measure", "").split())
        rule = Rule(
            weight, tuple(english.split()), tuple(chinese.split()), measure, **more
        )
        self.setdefault(symbol, []).append(rule)


@dataclass(frozen=True)
class Node:
    """One use of a rule and what its children became: a derivation."""

    symbol: str
    rule: Rule
    children: dict[str, Node]

    def walk(self) -> Iterator[Node]:
        """This node and all below it."""
        yield self
        for child in self.children.values():
            yield from child.walk()


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation."""

    english: tuple[str, ...]
    """Lower-case words and marks."""
    chinese: tuple[str, ...]
    """Words; numbers digit by digit and unit by unit."""
    alignment: tuple[tuple[int, int], ...]
    """(English position, Chinese position) that mean each other."""
    derivation: Node

    @property
    def text(self) -> str:
        """The English as it is written."""
        return english_text(self.english)

    @property
    def translation(self) -> str:
        """The Chinese as it is written."""
        return "".join(self.chinese)

    @property
    def depth(self) -> int:
        """Relative clauses around one another: 0 without any."""
        return _depth(self.derivation)

    @property
    def patterns(self) -> frozenset[tuple[str, str, str]]:
        """(kind, word, noun): verbs, adjectives and numerals with their nouns."""
        found = set()
        for node in self.derivation.walk():
            if node.rule.pattern is not None:
                kind, word, noun = node.rule.pattern
                if kind == "numeral":
                    word = "".join(node.children[word].rule.chinese)
                found.add((kind, word, noun))
        return frozenset(found)


class TranslationGrammar:
    """Rules by symbol, expanded from ``START``."""

    def __init__(self, rules: dict[str, Sequence[Rule]]):
        self.rules = rules
        self._first: dict[str, dict[str, list[Rule]]] = {}
        self._cumulative = {
            symbol: list(itertools.accumulate(rule.weight for rule in options))
            for symbol, options in rules.items()
            if not isinstance(options, Numbers)
        }

    def sample(self, *, generator: torch.Generator) -> Iterator[Pair]:
        """Pairs without end, drawn by the weights of the rules."""
        uniform = uniform_draws(random_source(generator, "sample"))
        return (_pair(self._expand("START", uniform)) for _ in itertools.repeat(None))

    @functools.cached_property
    def n_derivations(self) -> int:
        """How many pairs there are: each English sentence has one derivation."""
        counts: dict[str, int] = {}

        def count(symbol: str) -> int:
            if symbol not in counts:
                options = self.rules[symbol]
                if isinstance(options, Numbers):
                    return len(options)
                counts[symbol] = sum(
                    math.prod(count(child) for child in rule.children)
                    for rule in options
                )
            return counts[symbol]

        return count("START")

    @functools.cached_property
    def english_vocabulary(self) -> list[str]:
        """English word types and marks that a sentence can hold."""
        words = {w for r in self._all() for w in r.english if not w.startswith("$")}
        return sorted(words | {"an"})

    @functools.cached_property
    def chinese_vocabulary(self) -> list[str]:
        """Chinese words, digits, units and marks that a sentence can hold."""
        words = {w for r in self._all() for w in (*r.chinese, *r.measure)}
        return sorted(w for w in words if not w.startswith("$"))

    @functools.cached_property
    def dictionary(self) -> dict[str, str]:
        """A Chinese word for each English one: what its leaves say it means."""
        found: dict[str, str] = {}
        for rule in self._all():
            leaf = not rule.children and len(rule.english) == 1
            if leaf and (rule.chinese or rule.measure):
                found.setdefault(rule.english[0], "".join(rule.measure + rule.chinese))
        found.setdefault("an", found["a"])
        return found

    def pair(self, text: str) -> Pair:
        """The one pair whose English is ``text``.

        Raises ``ValueError`` for an empty sentence, for unknown words, which it
        names, and for what is no sentence of the grammar.

        >>> from mattn.data.translation import translation_grammar
        >>> translation_grammar().pair("They bought two cars.").translation
        '他们买了两辆汽车。'
        """
        words = english_words(text)
        if not words:
            raise ValueError("expected an English sentence; got an empty one.")
        known = set(self.english_vocabulary)
        unknown = [word for word in words if word not in known]
        if unknown:
            raise ValueError(f"expected words of the grammar; got {unknown[:5]}.")
        found = self.parses(words)
        if not found:
            raise ValueError(
                f"not a sentence of this grammar: {text!r}. A sentence ends with a "
                "full stop or a question mark; see the book's examples."
            )
        return _pair(found[0])

    def parses(self, words: Sequence[str]) -> list[Node]:
        """All derivations of an English sentence: one, or none."""
        words = ["a" if word == "an" else word for word in words]

        @functools.cache
        def spans(symbol: str, i: int) -> list[tuple[int, Node]]:
            out: list[tuple[int, Node]] = []
            options = self.rules[symbol]
            if isinstance(options, Numbers):
                for j in range(i + 1, min(i + 10, len(words)) + 1):
                    n = numbers_in_english().get(tuple(words[i:j]))
                    if n is not None and n in options:
                        out.append((j, Node(symbol, number_rule(n), {})))
                return out
            word = words[i] if i < len(words) else ""
            for rule in self._by_first_word(symbol).get(word, ()):
                found: list[tuple[int, dict[str, Node]]] = [(i, {})]
                for item in rule.english:
                    if item.startswith("$"):
                        found = [
                            (end, {**children, item[1:]: node})
                            for j, children in found
                            for end, node in spans(item[1:], j)
                        ]
                    else:
                        found = [
                            (j + 1, children)
                            for j, children in found
                            if j < len(words) and words[j] == item
                        ]
                out += [(j, Node(symbol, rule, children)) for j, children in found]
            return out

        return [node for end, node in spans("START", 0) if end == len(words)]

    def _by_first_word(self, symbol: str) -> dict[str, list[Rule]]:
        """The rules of a symbol by the English word they can begin with."""
        if symbol not in self._first:
            found: dict[str, list[Rule]] = {}
            for rule in self.rules[symbol]:
                item = rule.english[0]
                options = self.rules.get(item[1:]) if item.startswith("$") else None
                if isinstance(options, Numbers):
                    begins = {words[0] for words in numbers_in_english()}
                elif options is not None:
                    begins = set(self._by_first_word(item[1:]))
                else:
                    begins = {item}
                for word in begins:
                    found.setdefault(word, []).append(rule)
            self._first[symbol] = found
        return self._first[symbol]

    def _all(self) -> Iterator[Rule]:
        for options in self.rules.values():
            if not isinstance(options, Numbers):
                yield from options
        # With these every word of a number has been said.
        yield from map(number_rule, (*range(100), 111, 1100, 10_000))

    def _expand(self, symbol: str, uniform: Iterator[float]) -> Node:
        options = self.rules[symbol]
        if isinstance(options, Numbers):
            return Node(symbol, options.draw(uniform), {})
        if len(options) == 1:
            rule = options[0]
        else:
            upto = self._cumulative[symbol]
            place = bisect.bisect(upto, next(uniform) * upto[-1])
            rule = options[min(place, len(options) - 1)]
        children = {name: self._expand(name, uniform) for name in rule.children}
        return Node(symbol, rule, children)


def _pair(root: Node) -> Pair:
    english: list[tuple[str, int]] = []
    chinese: list[tuple[str, int]] = []

    def write(node: Node, side: int, out: list[tuple[str, int]]) -> None:
        leaf = id(node) if not node.children else 0
        for part, item in node.rule.sides[side]:
            if part < 0:
                out.append((item, leaf))
            else:
                write(node.children[item], part, out)

    write(root, 0, english)
    write(root, 1, chinese)
    words = [word for word, _ in english]
    for i, word in enumerate(words[:-1]):
        if word == "a" and words[i + 1][0] in "aeiou":
            words[i] = "an"
    alignment = tuple(
        (i, j)
        for i, (_, a) in enumerate(english)
        for j, (_, b) in enumerate(chinese)
        if a == b != 0
    )
    return Pair(tuple(words), tuple(word for word, _ in chinese), alignment, root)


def _depth(node: Node) -> int:
    below = max((_depth(child) for child in node.children.values()), default=0)
    return below + any(item.startswith("$REL") for item in node.rule.english)
