"""English to Chinese by a synchronous grammar: one right answer a sentence.

Every rule writes both languages at once, each in its own order; a *leaf* says
which words mean each other. So each pair comes with its derivation and its
alignment, and there is nothing to guess in scoring a translation. Used in
chapter 8.

Conventions, where Chinese leaves a choice:

* numbers and dates as in :mod:`mattn.data.numerals`;
* subject, time, negation or 会, place, verb, object: 我昨天没有在商店买这本书;
* a noun has one measure word: 一本书, 这本书, 两本书; not after 这些 and 那些;
* an event that happened has 了 after the verb; 没有 takes its place when it did
  not, and a relative clause has none; habits, states and the future take 不;
* 是 is negated by 不, 有 by 没有; an adjective as predicate has 很, but neither
  after 不 nor before 吗, and a colour is 是红色的;
* an adjective or a relative clause stands before its noun, with 的;
* "morning" is 上午, "they" 他们, Sunday 星期日, the day of a month 日.
"""

from __future__ import annotations

import bisect
import calendar
import functools
import itertools
import math
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mattn.data.lexicon import (
    ADJECTIVES,
    CAPITAL,
    COLOURS,
    DRINKS,
    EXISTS,
    GOODS,
    HAS_COLOUR,
    MANY_EXIST,
    NAMES,
    NOUNS,
    PEOPLE,
    PLACES,
    PREDICATES,
    VERBS,
    Verb,
    each,
)
from mattn.data.numerals import (
    LARGEST,
    MONTHS,
    WEEKDAYS,
    chinese_number,
    english_number,
    english_ordinal,
    english_year,
    numbers_in_english,
)
from mattn.inputs import random_source, whole_number

__all__ = [
    "LONGEST_TRAINED",
    "Node",
    "Pair",
    "Rule",
    "TranslationGrammar",
    "english_text",
    "english_words",
    "is_held_out",
    "split_of",
    "split_pairs",
    "translation_grammar",
]

LONGEST_TRAINED = 18
"""English words and marks of the longest training sentence."""

_HYPHEN = frozenset(english_number(n)[0] for n in range(20, 100, 10))
_UNITS = {english_number(n)[0] for n in range(1, 10)} | {
    english_ordinal(n)[0] for n in range(1, 10)
}
_MARKS = frozenset(".,?")
_YEARS = (*range(1910, 2000), *range(2010, 2025))


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
        out = []
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
            if not isinstance(options, _Numbers)
        }

    def sample(self, *, generator: torch.Generator) -> Iterator[Pair]:
        """Pairs without end, drawn by the weights of the rules."""
        uniform = _uniform(random_source(generator, "sample"))
        return (_pair(self._expand("START", uniform)) for _ in itertools.repeat(None))

    @functools.cached_property
    def n_derivations(self) -> int:
        """How many pairs there are: each English sentence has one derivation."""
        counts: dict[str, int] = {}

        def count(symbol: str) -> int:
            if symbol not in counts:
                options = self.rules[symbol]
                if isinstance(options, _Numbers):
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
            if isinstance(options, _Numbers):
                for j in range(i + 1, min(i + 10, len(words)) + 1):
                    n = numbers_in_english().get(tuple(words[i:j]))
                    if n is not None and n in options:
                        out.append((j, Node(symbol, _number_rule(n), {})))
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
                if isinstance(options, _Numbers):
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
            if not isinstance(options, _Numbers):
                yield from options
        # With these every word of a number has been said.
        yield from map(_number_rule, (*range(100), 111, 1100, 10_000))

    def _expand(self, symbol: str, uniform: Iterator[float]) -> Node:
        options = self.rules[symbol]
        if isinstance(options, _Numbers):
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


def _uniform(generator: torch.Generator) -> Iterator[float]:
    while True:
        yield from torch.rand(4096, generator=generator, dtype=torch.float64).tolist()


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


# ---------------------------------------------------------------- the rules


def _number_rule(n: int) -> Rule:
    chinese = chinese_number(n, before="measure")
    return Rule(1.0, tuple(english_number(n)), tuple(chinese))


class _Numbers(Sequence):
    """A leaf rule for each number; as many draws of 1 digit as of 2, 3, …"""

    def __init__(self, first: int, last: int):
        self.first, self.last = first, last

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __getitem__(self, i: int) -> Rule:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return _number_rule(self.first + i)

    def __contains__(self, n: object) -> bool:
        return isinstance(n, int) and self.first <= n <= self.last

    def draw(self, uniform: Iterator[float]) -> Rule:
        n_digits = 1 + int(next(uniform) * len(str(self.last)))
        low = max(self.first, 10 ** (n_digits - 1))
        high = min(self.last, 10**n_digits - 1)
        return _number_rule(low + int(next(uniform) * (high - low + 1)))


class _Rules(dict):
    """Rules by symbol; phrases are written as one string."""

    def add(
        self, symbol: str, english: str, chinese: str, weight: float = 1.0, **more
    ) -> None:
        measure = tuple(more.pop("measure", "").split())
        rule = Rule(
            weight, tuple(english.split()), tuple(chinese.split()), measure, **more
        )
        self.setdefault(symbol, []).append(rule)


@functools.cache
def translation_grammar(*, depth: int = 2) -> TranslationGrammar:
    """The book's English–Chinese grammar, with up to ``depth`` relative clauses
    inside one another.
    """
    if whole_number(depth, "depth", least=0) > 2:
        raise ValueError(f"translation_grammar: expected depth 0, 1 or 2; got {depth}.")
    rules = _Rules()
    _add_words(rules)
    _add_numbers_and_times(rules)
    _add_noun_phrases(rules)
    for d in range(depth + 1):
        _add_subjects(rules, d)
        _add_relative_clauses(rules, d)
        _add_objects(rules, d)
    _add_sentences(rules, depth)
    return TranslationGrammar(rules)


def _add_words(rules: _Rules) -> None:
    for symbol, english, chinese in (
        map(str.strip, line.split(","))
        for line in """\
A, a, 一
THIS, this, 这
THAT, that, 那
THESE, these, 这些
THOSE, those, 那些
ANY, any,
NOT-PAST, did not, 没有
NOT-DO, do not, 不
NOT-DOES, does not, 不
NO-DO, do not, 没
NO-DOES, does not, 没
WILL, will, 会
WILL-NOT, will not, 不 会
DID, did,
DO, do,
DOES, does,
IS:is, is, 很
IS:are, are, 很
IS-NOT:is, is not, 不
IS-NOT:are, are not, 不
IS-IT:is, is,
IS-IT:are, are,
IS-是:is, is, 是
IS-是:are, are, 是
IS-不是:is, is not, 不 是
IS-不是:are, are not, 不 是
THERE-IS, there is, 有
THERE-ARE, there are, 有
THERE-NO:True, there is no, 没有
THERE-NO:False, there are no, 没有
ARE-THERE:True, is there any, 有
ARE-THERE:False, are there any, 有
THIS-N, these, 这
THAT-N, those, 那
PRICE, price, 价格
YUAN, yuan, 元
WHO-he, he, 他
WHO-she, she, 她
WHO-they, they, 他们
WHO-we, we, 我们
WHO-i, i, 我
REL, that, 的
REL-WHO, who, 的
STOP, ., 。
ASK, ?, 吗 ？""".splitlines()
    ):
        rules.add(symbol, english, chinese)
    for english, chinese in {
        **COLOURS,
        **{k: v[0] for k, v in (ADJECTIVES | PREDICATES).items()},
    }.items():
        rules.add(f"ADJ:{english}", english, chinese)
    for verb in VERBS:
        for form in {verb.base, verb.third, verb.past}:
            if f"V:{form}" not in rules:
                rules.add(f"V:{form}", form, verb.chinese)
    for name, chinese in NAMES.items():
        rules.add(f"WHO-{name}", name, chinese)
    for place, (english, chinese) in PLACES.items():
        rules.add(f"IN:{place}", " ".join(english), f"在 {chinese}")
    for bare, (one, many, chinese, measure) in NOUNS.items():
        if one.endswith(" of"):
            rules.add(f"NOUN:{bare}", bare, chinese)
            rules[f"ONE:{one[:-3]}:{measure}"] = []
            rules.add(f"ONE:{one[:-3]}:{measure}", one, measure)
            rules[f"MANY:{many[:-3]}:{measure}"] = []
            rules.add(f"MANY:{many[:-3]}:{measure}", many, measure)
        else:
            rules.add(f"ONE:{bare}", one, chinese, measure=measure)
            rules.add(f"NOUN:{bare}", many, chinese, measure=measure)


def _add_numbers_and_times(rules: _Rules) -> None:
    for n in range(2, 13):
        rules["FEW"] = [*rules.get("FEW", []), _number_rule(n)]
    rules["NUMBER-SMALL"] = _Numbers(2, 99)
    rules["NUMBER-LARGE"] = _Numbers(2, LARGEST)
    rules["NUMBER-PRICE"] = _Numbers(1, LARGEST)
    for i, day in enumerate(WEEKDAYS):
        rules.add("WEEKDAY", day, f"星期 {'一二三四五六日'[i]}")
        rules.add(f"WEEKDAY:{day}", day, f"星期 {'一二三四五六日'[i]}")
        rules.add("WEEKDAYS", f"{day}s", f"星期 {'一二三四五六日'[i]}")
    for month, name in enumerate(MONTHS, start=1):
        length = 28 if month == 2 else calendar.monthrange(2001, month)[1]
        rules.add(f"MONTH-{length}", name, " ".join([*chinese_number(month), "月"]))
    for day in range(1, 32):
        for length in (28, 30, 31):
            if day <= length:
                ordinal = " ".join(english_ordinal(day))
                said = " ".join([*chinese_number(day), "日"])
                rules.add(f"DAY-{length}", ordinal, said)
        rules.add(f"DAY:{day}", ordinal, said)
    for length, weight in ((28, 1), (30, 4), (31, 7)):
        rules.add(
            "DAY",
            f"the $DAY-{length} of $MONTH-{length}",
            f"$MONTH-{length} $DAY-{length}",
            weight,
        )
    for year in _YEARS:
        said = [
            *("〇" if c == "0" else chinese_number(int(c)) for c in str(year)),
            "年",
        ]
        rules.add("YEAR", " ".join(english_year(year)), " ".join(said))
    rules.add("DATE", "$DAY $YEAR", "$YEAR $DAY")
    _add_full_dates(rules)
    for part, chinese, hours in (
        ("morning", "上午", range(7, 12)),
        ("afternoon", "下午", range(1, 6)),
        ("evening", "晚上", range(7, 11)),
    ):
        rules.add("PART", part, chinese)
        for hour in hours:
            said = chinese_number(hour, before="measure")
            rules.add(
                f"HOUR:{part}", f"at {english_number(hour)[0]} o'clock", f"{said} 点"
            )
        rules.add(f"PART:{part}", part, chinese)
    for day, chinese, tense in (
        ("yesterday", "昨天", "PAST"),
        ("tomorrow", "明天", "FUTURE"),
    ):
        rules.add(f"DAY:{day}", day, chinese)
        rules.add(f"TIME-{tense}", f"$DAY:{day}", f"$DAY:{day}", 3)
        rules.add(f"TIME-{tense}", f"$DAY:{day} $PART", f"$DAY:{day} $PART", 2)
        for part in ("morning", "afternoon", "evening"):
            rules.add(
                f"TIME-{tense}",
                f"$HOUR:{part} $DAY:{day} $PART:{part}",
                f"$DAY:{day} $PART:{part} $HOUR:{part}",
                0.7,
            )
    for word, tense in (("last", "PAST"), ("next", "FUTURE")):
        for unit, past, future in (
            ("week", "上周", "下周"),
            ("month", "上个月", "下个月"),
            ("year", "去年", "明年"),
        ):
            chinese = past if tense == "PAST" else future
            rules.add(f"WEEK-{tense}", f"{word} {unit}", chinese)
        rules.add(f"TIME-{tense}", f"$WEEK-{tense}", f"$WEEK-{tense}", 2)
        rules.add(f"TIME-{tense}", "on $WEEKDAY", "$WEEKDAY", 1.5)
        rules.add(f"TIME-{tense}", "on $DAY", "$DAY", 1.5)
    rules.add("TIME-PAST", "on $DATE", "$DATE", 3)
    rules.add("TIME-PAST", "on $FULL-DATE", "$FULL-DATE", 3)
    rules.add("TIME-CLAUSE", "$DAY:yesterday", "$DAY:yesterday", 2)
    rules.add("TIME-CLAUSE", "$WEEK-PAST", "$WEEK-PAST")
    rules.add("TIME-CLAUSE", "on $WEEKDAY", "$WEEKDAY")
    rules.add("TIME-HABIT", "on $WEEKDAYS", "$WEEKDAYS")
    rules.add("TIME-OFTEN", "every day", "每天", 2)
    rules.add("TIME-OFTEN", "every week", "每周")
    rules.add("TIME-OFTEN", "on $WEEKDAYS", "$WEEKDAYS", 2)


def _add_full_dates(rules: _Rules) -> None:
    """Weekday, date and year that belong together.

    Years with the same calendar are one symbol, and so are its days of one
    weekday, so that every day of every year comes up, each rightly named.
    """
    for year in _YEARS:
        kind = f"{calendar.weekday(year, 1, 1)}{'+' * calendar.isleap(year)}"
        new = f"YEAR-{kind}" not in rules
        rules.setdefault(f"YEAR-{kind}", []).append(rules["YEAR"][_YEARS.index(year)])
        if not new:
            rules["FULL-DATE"] = [
                replace(r, weight=r.weight + (kind in _calendar(r)) / 7)
                for r in rules["FULL-DATE"]
            ]
            continue
        for month, name in enumerate(MONTHS, start=1):
            length = 28 if month == 2 else calendar.monthrange(year, month)[1]
            rules[f"MONTH:{name}"] = []
            rules.add(f"MONTH:{name}", name, " ".join([*chinese_number(month), "月"]))
            for day in range(1, length + 1):
                weekday = calendar.weekday(year, month, day)
                rules.add(
                    f"ON-{WEEKDAYS[weekday]}-{kind}",
                    f"the $DAY:{day} of $MONTH:{name}",
                    f"$MONTH:{name} $DAY:{day}",
                )
        for weekday in WEEKDAYS:
            day, when = f"$ON-{weekday}-{kind}", f"$YEAR-{kind}"
            rules.add(
                "FULL-DATE",
                f"$WEEKDAY:{weekday} , {day} {when}",
                f"{when} {day} $WEEKDAY:{weekday}",
                1 / 7,
            )


def _calendar(rule: Rule) -> tuple[str, ...]:
    """The kind of year of a rule for full dates."""
    return tuple(item.rpartition("-")[2] for item in rule.chinese[:1])


def _add_noun_phrases(rules: _Rules) -> None:
    adjectives: dict[str, list[str]] = {noun: [] for noun in NOUNS}
    listed = {**ADJECTIVES, **HAS_COLOUR}
    for adjective, (_, nouns) in listed.items():
        for noun in each(nouns):
            adjectives[noun].append(adjective)
    for bare, (one, many, _, measure) in NOUNS.items():
        mass = one.endswith(" of")
        for symbol, count, head in (
            ("SG", f"ONE:{one[:-3]}:{measure}", f"NOUN:{bare}"),
            ("PL", f"MANY:{many[:-3]}:{measure}", f"NOUN:{bare}"),
            ("BARE", None, f"NOUN:{bare}"),
        ):
            if not mass:
                head = f"ONE:{bare}" if symbol == "SG" else head
                count = None
            before = f"${count} " if count else ""
            words = f"${count}" if count else f"${head}.measure"
            own = f"{symbol}:{bare}"
            rules.add(own, f"{before}${head}", f"${head}", 2, measure=words)
            for adjective in adjectives[bare]:
                rules.add(
                    own,
                    f"{before}$ADJ:{adjective} ${head}",
                    f"$ADJ:{adjective} 的 ${head}",
                    1.2 / len(adjectives[bare]),
                    measure=words,
                    pattern=("adjective", adjective, bare),
                )
        sg, pl = f"$SG:{bare}", f"$PL:{bare}"
        rules.add(f"A:{bare}", f"$A {sg}", f"$A {sg}.measure {sg}")
        for size in ("SMALL", "LARGE"):
            _numeral(rules, f"COUNT-{size}:{bare}", f"$NUMBER-{size}", bare)
        _numeral(rules, f"COUNT-FEW:{bare}", "$FEW", bare)
        # Without adjectives, for sentences that say one of the thing.
        noun = name = f"$NOUN:{bare}"
        if mass:
            before, of = f"$MANY:{many[:-3]}:{measure} ", f"$MANY:{many[:-3]}:{measure}"
            single, of_one = (
                f"$ONE:{one[:-3]}:{measure} {noun}",
                f"$ONE:{one[:-3]}:{measure}",
            )
        else:
            before, of = "", f"{noun}.measure"
            single = name = f"$ONE:{bare}"
            of_one = f"{single}.measure"
        for symbol in ("THIS", "THAT"):
            english = f"${symbol} {sg}"
            rules.add(f"DEF-SG:{bare}", english, f"${symbol} {sg}.measure {sg}")
            rules.add(
                f"THIS-SG:{bare}", f"${symbol} {single}", f"${symbol} {of_one} {name}"
            )
        for symbol, near in (("THESE", "THIS"), ("THOSE", "THAT")):
            if not mass:
                rules.add(f"DEF-PL:{bare}", f"${symbol} {pl}", f"${symbol} {pl}")
                rules.add(f"THIS-PL:{bare}", f"${symbol} {noun}", f"${symbol} {noun}")
            # "These three books" is 这三本书: 这 without 些, as a measure follows.
            some = f"${near}-N $COUNT-FEW:{bare}"
            rules.add(f"DEF-PL:{bare}", some, some)
            rules.add(
                f"THIS-PL:{bare}",
                f"${near}-N $FEW {before}{noun}",
                f"${near}-N $FEW {of} {noun}",
                pattern=("numeral", "FEW", bare),
            )
        rules.add(f"DEF:{bare}", f"$DEF-SG:{bare}", f"$DEF-SG:{bare}", 2)
        rules.add(f"DEF:{bare}", f"$DEF-PL:{bare}", f"$DEF-PL:{bare}")
        rules.add(f"SOME:{bare}", f"$A:{bare}", f"$A:{bare}")
        small = f"$COUNT-SMALL:{bare}"
        rules.add(f"SOME:{bare}", small, small, 2)
        rules.add(f"ANY:{bare}", f"$ANY $BARE:{bare}", f"$BARE:{bare}")


def _numeral(rules: _Rules, symbol: str, number: str, noun: str) -> None:
    pl = f"$PL:{noun}"
    rules.add(
        symbol,
        f"{number} {pl}",
        f"{number} {pl}.measure {pl}",
        pattern=("numeral", number[1:], noun),
    )


def _add_subjects(rules: _Rules, d: int) -> None:
    """SG: he, Anna, this teacher; PL: they; I and WE only where nothing is asked."""
    pronouns = {"he": "他", "she": "她"}
    for english in (*pronouns, *NAMES):
        who = f"$WHO-{english}"
        rules.add(f"SG/{d}", who, who, 3 if english in pronouns else 1)
    for noun in PEOPLE.split():
        rules.add(f"SG/{d}", f"$DEF-SG:{noun}", f"$DEF-SG:{noun}", 0.5)
        if d:
            rules.add(f"SG/{d}", f"$WHO:{noun}/{d}", f"$WHO:{noun}/{d}", 0.35)
    for who, weight in (("they", 2), ("we", 1), ("i", 1)):
        rules.add(f"PL/{d}", f"$WHO-{who}", f"$WHO-{who}", weight)
    for noun in PEOPLE.split():
        rules.add(f"PL/{d}", f"$DEF-PL:{noun}", f"$DEF-PL:{noun}", 0.3)
    rules.add(f"ANYONE/{d}", f"$SG/{d}", f"$SG/{d}", 2)
    rules.add(f"ANYONE/{d}", f"$PL/{d}", f"$PL/{d}", 1)
    rules.add(f"ASKED-SG/{d}", f"$SG/{d}", f"$SG/{d}")
    rules.add(f"ASKED-PL/{d}", "$WHO-they", "$WHO-they", 2)
    for noun in PEOPLE.split():
        rules.add(f"ASKED-PL/{d}", f"$DEF-PL:{noun}", f"$DEF-PL:{noun}", 0.3)
    for number, weight in (("SG", 2), ("PL", 1)):
        who = f"$ASKED-{number}/{d}"
        rules.add(f"ASKED/{d}", who, who, weight)


def _add_relative_clauses(rules: _Rules, d: int) -> None:
    """Around a noun: "the book that she bought", "the doctor who knows Tom".

    A clause of its own time or place stands only where these cannot belong to
    the main verb: THING has neither, TIMED may have a time, FULL both.
    """
    if d == 0:
        return
    below = d - 1
    for noun in PEOPLE.split():
        for verb in (v for v in VERBS if v.base in ("like", "need", "know")):
            what = f"OBJECT-STATE:{verb.base}/{below}"
            rules.add(
                f"WHO:{noun}/{d}",
                f"the $SG:{noun} $REL-WHO $V:{verb.third} ${what}",
                f"$V:{verb.third} ${what} $REL-WHO $SG:{noun}",
            )
    for verb in (v for v in VERBS if "p" in v.tenses):
        for noun in each(verb.nouns):
            for number in ("SG", "PL"):
                if (noun in DRINKS.split() and number == "PL") or (
                    noun in ("shoes", "socks") and number == "SG"
                ):
                    continue
                of = NOUNS[noun][0].endswith(" of")
                plain = f"NOUN:{noun}" if of or number == "PL" else f"ONE:{noun}"
                head = f"BARE:{noun}" if of or number == "PL" else f"SG:{noun}"
                for name, said, places in (
                    ("THING", head, ()),
                    ("TIMED", head, ()),
                    ("FULL", plain, verb.places.split()),
                ):
                    _clause(rules, f"{name}-{number}:{noun}/{d}", verb, said, places)


def _clause(rules: _Rules, symbol: str, verb: Verb, head: str, places) -> None:
    """ "the car that she sold [in the shop] [yesterday]"."""
    name, noun, d = re.split("[:/]", symbol)
    who = f"$ANYONE/{int(d) - 1}"
    said = f"the ${head} $REL {who} $V:{verb.past}"
    meant = f"$V:{verb.past} $REL ${head}"
    tag = ("verb", verb.base, noun)
    rules.add(symbol, said, f"{who} {meant}", pattern=tag)
    time = "$TIME-CLAUSE"
    if not name.startswith("THING"):
        rules.add(symbol, f"{said} {time}", f"{who} {time} {meant}", pattern=tag)
    for place in places:
        rules.add(
            symbol,
            f"{said} $IN:{place} {time}",
            f"{who} {time} $IN:{place} {meant}",
            1 / len(places),
            pattern=tag,
        )


def _add_objects(rules: _Rules, d: int) -> None:
    """What a verb is said of, each with the pattern (verb, noun)."""
    for verb in VERBS:
        for noun in each(verb.nouns):
            tag = ("verb", verb.base, noun)

            def add(kind: str, phrase: str, weight=1.0, tag=tag, base=verb.base):
                item = f"${phrase}"
                rules.add(f"{kind}:{base}", item, item, weight, pattern=tag)

            if d == 0:
                add("SOME", f"SOME:{noun}", 2)
                add("SOME", f"DEF:{noun}")
                add("DEF", f"DEF:{noun}")
                add("ANY", f"DEF:{noun}")
                add("ANY", f"ANY:{noun}")
                add("A", f"SOME:{noun}")
                add("NONE", f"ANY:{noun}")
                add("BARE", f"BARE:{noun}")
                add("HABIT", f"BARE:{noun}")
                add("HABIT", f"COUNT-FEW:{noun}")
            if verb.base == "have" or noun in PEOPLE.split():
                clauses = []
            else:
                clauses = [
                    f"{name}-{number}:{noun}/{d}"
                    for name in ("THING", "TIMED")
                    for number in ("SG", "PL")
                    if f"{name}-{number}:{noun}/{d}" in rules
                ]
            if "s" in verb.tenses:
                kind = f"OBJECT-STATE:{verb.base}/{d}"
                rules.add(kind, f"$DEF:{noun}", f"$DEF:{noun}", pattern=tag)
                for phrase in (c for c in clauses if c.startswith("TIMED")):
                    rules.add(kind, f"${phrase}", f"${phrase}", 0.7, pattern=tag)
            else:
                kind = f"OBJECT-CLAUSE:{verb.base}/{d}"
                for phrase in (c for c in clauses if c.startswith("THING")):
                    rules.add(kind, f"${phrase}", f"${phrase}", pattern=tag)
    if d == 0:
        for name in NAMES:
            rules.add(f"NAME:{name}", name, NAMES[name])
    for name in NAMES:
        rules.add(f"OBJECT-STATE:know/{d}", f"$NAME:{name}", f"$NAME:{name}", 0.8)


def _adjuncts(verb: Verb, time: str | None, *, needed: bool = False):
    """(English end, Chinese time, Chinese place, weight) of what may be said."""
    places = verb.places.split()
    if not needed:
        yield "", "", "", 1.0
        for place in places:
            yield f" $IN:{place}", "", f"$IN:{place} ", 0.5 / len(places)
    if time is not None:
        yield f" ${time}", f"${time} ", "", 1.5
        for place in places:
            said = f" $IN:{place} ${time}"
            yield said, f"${time} ", f"$IN:{place} ", 1.5 / len(places)


def _add_sentences(rules: _Rules, d: int) -> None:
    anyone, asked = f"$ANYONE/{d}", f"$ASKED/{d}"
    for verb in VERBS:
        base, past = f"$V:{verb.base}", f"$V:{verb.past}"
        v = verb.base
        # "Read" has one form: past and present are told apart by the time.
        doubtful = verb.past == verb.base
        if "p" in verb.tenses:
            for e, t, p, w in _adjuncts(verb, "TIME-PAST", needed=doubtful):
                rules.add(
                    "PAST",
                    f"{anyone} {past} $SOME:{v}{e} $STOP",
                    f"{anyone} {t}{p}{past} 了 $SOME:{v} $STOP",
                    w,
                )
            for e, t, p, w in _adjuncts(verb, "TIME-PAST"):
                rules.add(
                    "PAST-NOT",
                    f"{anyone} $NOT-PAST {base} $ANY:{v}{e} $STOP",
                    f"{anyone} {t}$NOT-PAST {p}{base} $ANY:{v} $STOP",
                    w,
                )
                rules.add(
                    "PAST-ASK",
                    f"$DID {asked} {base} $SOME:{v}{e} $ASK",
                    f"{asked} {t}{p}{base} 了 $SOME:{v} $ASK",
                    w,
                )
            clause = f"OBJECT-CLAUSE:{v}/{d}"
            if clause in rules and not doubtful:
                rules.add(
                    "PAST",
                    f"{anyone} {past} ${clause} $STOP",
                    f"{anyone} {past} 了 ${clause} $STOP",
                    1.2,
                )
        if "f" in verb.tenses:
            for e, t, p, w in _adjuncts(verb, "TIME-FUTURE"):
                rules.add(
                    "FUTURE",
                    f"{anyone} $WILL {base} $SOME:{v}{e} $STOP",
                    f"{anyone} {t}$WILL {p}{base} $SOME:{v} $STOP",
                    w,
                )
                rules.add(
                    "FUTURE-NOT",
                    f"{anyone} $WILL-NOT {base} $ANY:{v}{e} $STOP",
                    f"{anyone} {t}$WILL-NOT {p}{base} $ANY:{v} $STOP",
                    w,
                )
                rules.add(
                    "FUTURE-ASK",
                    f"$WILL {asked} {base} $SOME:{v}{e} $ASK",
                    f"{asked} {t}$WILL {p}{base} $SOME:{v} $ASK",
                    w,
                )
        for number, form, do in (
            ("SG", verb.third, "DOES"),
            ("PL", verb.base, "DO"),
        ):
            who, ask = f"${number}/{d}", f"$ASKED-{number}/{d}"
            if "h" in verb.tenses:
                for e, t, p, w in _adjuncts(verb, "TIME-OFTEN", needed=True):
                    rules.add(
                        "HABIT",
                        f"{who} $V:{form} $HABIT:{v}{e} $STOP",
                        f"{who} {t}{p}$V:{form} $HABIT:{v} $STOP",
                        w,
                    )
                for e, t, p, w in _adjuncts(verb, "TIME-HABIT"):
                    rules.add(
                        "HABIT-NOT",
                        f"{who} $NOT-{do} {base} $BARE:{v}{e} $STOP",
                        f"{who} {t}$NOT-{do} {p}{base} $BARE:{v} $STOP",
                        w,
                    )
                for e, t, p, w in _adjuncts(verb, "TIME-OFTEN"):
                    rules.add(
                        "HABIT-ASK",
                        f"${do} {ask} {base} $BARE:{v}{e} $ASK",
                        f"{ask} {t}{p}{base} $BARE:{v} $ASK",
                        w,
                    )
            if "s" in verb.tenses:
                _add_states(rules, verb, form, do, who, ask, d)
    _add_predicates(rules, d)
    for pattern, weight in {
        "PAST": 4,
        "PAST-NOT": 2,
        "PAST-ASK": 1.5,
        "FUTURE": 1.5,
        "FUTURE-NOT": 1,
        "FUTURE-ASK": 1,
        "HABIT": 1.5,
        "HABIT-NOT": 1,
        "HABIT-ASK": 1,
        "STATE": 2,
        "STATE-NOT": 1.5,
        "STATE-ASK": 1,
        "IS": 3,
        "PRICE-IS": 1.2,
        "EXISTS": 2,
    }.items():
        rules.add("START", f"${pattern}", f"${pattern}", weight)


def _add_states(rules: _Rules, verb: Verb, form, do, who, ask, d: int) -> None:
    """like, need, know, have: 不, but 没 before 有."""
    v, base = verb.base, f"$V:{verb.base}"
    have = v == "have"
    not_do = f"$NO-{do}" if have else f"$NOT-{do}"
    known = f"OBJECT-STATE:{v}/{d}"
    objects = {
        "like": ((known, f"BARE:{v}"),) * 3,
        "need": ((known, f"A:{v}"), (known, f"NONE:{v}"), (known, f"A:{v}")),
        "know": ((known,),) * 3,
        "have": ((f"A:{v}",), (f"DEF:{v}", f"NONE:{v}"), (f"NONE:{v}", f"A:{v}")),
    }[v]
    for what in objects[0]:
        rules.add(
            "STATE", f"{who} $V:{form} ${what} $STOP", f"{who} $V:{form} ${what} $STOP"
        )
    for what in objects[1]:
        rules.add(
            "STATE-NOT",
            f"{who} {not_do} {base} ${what} $STOP",
            f"{who} {not_do} {base} ${what} $STOP",
        )
    for what in objects[2]:
        rules.add(
            "STATE-ASK",
            f"${do} {ask} {base} ${what} $ASK",
            f"{ask} {base} ${what} $ASK",
        )


def _add_predicates(rules: _Rules, d: int) -> None:
    """What something is, costs, and where it is."""

    def add_is(who: str, verb: str, adjective: str, weight: float, tag) -> None:
        said = f"$ADJ:{adjective}"
        colour = adjective in COLOURS
        meant = f"{said} 的" if colour else said
        is_, is_not, ask = (
            (f"$IS-是:{verb}", f"$IS-不是:{verb}", "是 ")
            if colour
            else (f"$IS:{verb}", f"$IS-NOT:{verb}", "")
        )
        more = {"pattern": tag}
        rules.add(
            "IS",
            f"{who} {is_} {said} $STOP",
            f"{who} {is_} {meant} $STOP",
            weight,
            **more,
        )
        rules.add(
            "IS",
            f"{who} {is_not} {said} $STOP",
            f"{who} {is_not} {meant} $STOP",
            weight / 2,
            **more,
        )
        rules.add(
            "IS",
            f"$IS-IT:{verb} {who} {said} $ASK",
            f"{who} {ask}{meant} $ASK",
            weight / 2,
            **more,
        )

    for adjective, (_, nouns) in {
        **ADJECTIVES,
        **PREDICATES,
        **HAS_COLOUR,
    }.items():
        listed = each(nouns)
        for noun in listed:
            tag, weight = ("adjective", adjective, noun), 1 / len(listed)
            for number, verb in (("SG", "is"), ("PL", "are")):
                add_is(f"$THIS-{number}:{noun}", verb, adjective, weight, tag)
                clause = f"FULL-{number}:{noun}/{d}"
                if clause in rules:
                    add_is(f"${clause}", verb, adjective, weight, tag)
    for who in ("he", "she", *NAMES):
        for adjective in ("young", "friendly", "clever"):
            add_is(f"$WHO-{who}", "is", adjective, 0.1, None)
    for person in PEOPLE.split():
        for who in ("he", "she", *NAMES):
            one = f"$ONE:{person}"
            for verb, share in (("$IS-是:is", 0.03), ("$IS-不是:is", 0.02)):
                rules.add(
                    "IS",
                    f"$WHO-{who} {verb} a {one} $STOP",
                    f"$WHO-{who} {verb} {one} $STOP",
                    share,
                )
            rules.add(
                "IS",
                f"$IS-IT:is $WHO-{who} a {one} $ASK",
                f"$WHO-{who} 是 {one} $ASK",
                0.02,
            )
        for who in ("they", "we"):
            many = f"$NOUN:{person}"
            for verb in ("$IS-是:are", "$IS-不是:are"):
                rules.add(
                    "IS",
                    f"$WHO-{who} {verb} {many} $STOP",
                    f"$WHO-{who} {verb} {many} $STOP",
                    0.05,
                )
    for noun in f"{GOODS} tickets".split():
        thing = f"$DEF-SG:{noun}"
        money = "$NUMBER-PRICE $YUAN"
        for verb, weight in (("$IS-是:is", 3), ("$IS-不是:is", 1)):
            rules.add(
                "PRICE-IS",
                f"the $PRICE of {thing} {verb} {money} $STOP",
                f"{thing} 的 $PRICE {verb} {money} $STOP",
                weight,
            )
        rules.add(
            "PRICE-IS",
            f"$IS-IT:is the $PRICE of {thing} {money} $ASK",
            f"{thing} 的 $PRICE 是 {money} $ASK",
        )
    for places, size in ((EXISTS, "SMALL"), (MANY_EXIST, "LARGE")):
        for english, chinese, nouns in places:
            where = f"WHERE:{chinese}"
            rules.add(where, " ".join(english), chinese)
            where = f"${where}"
            for noun in each(nouns):
                w = 1 / len(each(nouns))
                a, some, n = f"$A:{noun}", f"$COUNT-{size}:{noun}", f"$BARE:{noun}"
                mass = NOUNS[noun][0].endswith(" of") and noun in DRINKS.split()
                for said, meant, weight in (
                    (
                        f"$THERE-IS {a} {where} $STOP",
                        f"{where} $THERE-IS {a} $STOP",
                        w / 2,
                    ),
                    (
                        f"$THERE-ARE {some} {where} $STOP",
                        f"{where} $THERE-ARE {some} $STOP",
                        w * 2,
                    ),
                    (
                        f"$THERE-NO:{mass} {n} {where} $STOP",
                        f"{where} $THERE-NO:{mass} {n} $STOP",
                        w,
                    ),
                    (
                        f"$ARE-THERE:{mass} {n} {where} $ASK",
                        f"{where} $ARE-THERE:{mass} {n} $ASK",
                        w,
                    ),
                ):
                    rules.add("EXISTS", said, meant, weight)


# ---------------------------------------------------------------- the splits


def is_held_out(pattern: tuple[str, str, str]) -> bool:
    """Whether a pattern (kind, word, noun) is kept from training: one in eight.

    Decided by a checksum of its words, so that it is the same everywhere.
    """
    return zlib.crc32(" ".join(pattern).encode()) % 8 == 0


def split_of(pair: Pair) -> str | None:
    """The one split that a pair may be in; ``None``: in none.

    ``"train"``: at most 18 words and marks, no relative clause inside another,
    no pattern that is held out. ``"new"``: the same size,
    with a pattern that is held out. ``"longer"``: more words, all patterns of
    training. A twentieth of the sentences of training size, told by a
    checksum, is ``"valid"`` instead.
    """
    held_out = any(map(is_held_out, pair.patterns))
    if len(pair.english) > LONGEST_TRAINED:
        return None if held_out else "longer"
    if pair.depth > 1:
        return None
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
        split = split_of(pair)
        if split in out and len(out[split]) < sizes[split] and pair.english not in seen:
            seen.add(pair.english)
            out[split].append(pair)
        if all(len(out[split]) == size for split, size in sizes.items()):
            return out
    raise AssertionError("the grammar has no end")
