"""Rules for parts of a sentence: nouns, subjects, relative clauses, objects.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

import re

from mattn.data.translation.grammar import Rules
from mattn.data.translation.lexicon import (
    ADJECTIVES,
    DRINKS,
    HAS_COLOUR,
    NAMES,
    NOUNS,
    PEOPLE,
    VERBS,
    WITHOUT_DE,
    Verb,
    each,
)

__all__ = ["add_noun_phrases", "add_objects", "add_relative_clauses", "add_subjects"]


def add_noun_phrases(rules: Rules) -> None:
    """A book, this red book, two books, books: each with its measure word."""
    adjectives: dict[str, list[str]] = {noun: [] for noun in NOUNS}
    for adjective, (_, nouns) in {**ADJECTIVES, **HAS_COLOUR}.items():
        for noun in each(nouns):
            adjectives[noun].append(adjective)
    for bare in NOUNS:
        _add_heads(rules, bare, adjectives[bare])
        sg = f"$SG:{bare}"
        rules.add(f"A:{bare}", f"$A {sg}", f"$A {sg}.measure {sg}")
        for size in ("SMALL", "LARGE"):
            _numeral(rules, f"COUNT-{size}:{bare}", f"$NUMBER-{size}", bare)
        _numeral(rules, f"COUNT-FEW:{bare}", "$FEW", bare)
        _add_this(rules, bare)
        _add_these(rules, bare)
        rules.add(f"DEF:{bare}", f"$DEF-SG:{bare}", f"$DEF-SG:{bare}", 2)
        rules.add(f"DEF:{bare}", f"$DEF-PL:{bare}", f"$DEF-PL:{bare}")
        rules.add(f"SOME:{bare}", f"$A:{bare}", f"$A:{bare}")
        small = f"$COUNT-SMALL:{bare}"
        rules.add(f"SOME:{bare}", small, small, 2)
        rules.add(f"ANY:{bare}", f"$ANY $BARE:{bare}", f"$BARE:{bare}")


def _containers(bare: str) -> tuple[str, str] | None:
    """The symbols of "cup of" and "cups of"; ``None`` for what is counted itself."""
    one, many, _, measure = NOUNS[bare]
    if not one.endswith(" of"):
        return None
    return f"ONE:{one[:-3]}:{measure}", f"MANY:{many[:-3]}:{measure}"


def _add_heads(rules: Rules, bare: str, adjectives: list[str]) -> None:
    """SG, PL, BARE: the noun, with an adjective or without."""
    of = _containers(bare)
    one, many = of or (None, None)
    for symbol, count in (("SG", one), ("PL", many), ("BARE", None)):
        head = f"ONE:{bare}" if symbol == "SG" and not of else f"NOUN:{bare}"
        before = f"${count} " if count else ""
        words = f"${count}" if count else f"${head}.measure"
        own = f"{symbol}:{bare}"
        rules.add(own, f"{before}${head}", f"${head}", 2, measure=words)
        for adjective in adjectives:
            bound = adjective in WITHOUT_DE and len(NOUNS[bare][2]) > 1
            rules.add(
                own,
                f"{before}$ADJ:{adjective} ${head}",
                f"$ADJ:{adjective} {'' if bound else '的 '}${head}",
                1.2 / len(adjectives),
                measure=words,
                pattern=("adjective", adjective, bare),
            )


def _add_this(rules: Rules, bare: str) -> None:
    """This red book; THIS-SG, for sentences that say one thing of it: this book."""
    sg, of = f"$SG:{bare}", _containers(bare)
    if of:
        measure, name = f"${of[0]}", f"$NOUN:{bare}"
        single = f"{measure} {name}"
    else:
        single = name = f"$ONE:{bare}"
        measure = f"{name}.measure"
    for symbol in ("THIS", "THAT"):
        rules.add(f"DEF-SG:{bare}", f"${symbol} {sg}", f"${symbol} {sg}.measure {sg}")
        rules.add(
            f"THIS-SG:{bare}", f"${symbol} {single}", f"${symbol} {measure} {name}"
        )


def _add_these(rules: Rules, bare: str) -> None:
    """These books, these three red books; THIS-PL is without adjectives."""
    pl, noun, of = f"$PL:{bare}", f"$NOUN:{bare}", _containers(bare)
    measure = f"${of[1]}" if of else f"{noun}.measure"
    for symbol, near in (("THESE", "THIS"), ("THOSE", "THAT")):
        if not of:
            rules.add(f"DEF-PL:{bare}", f"${symbol} {pl}", f"${symbol} {pl}")
            rules.add(f"THIS-PL:{bare}", f"${symbol} {noun}", f"${symbol} {noun}")
        # "These three books" is 这三本书: 这 without 些, as a measure follows.
        some = f"${near}-N $COUNT-FEW:{bare}"
        rules.add(f"DEF-PL:{bare}", some, some)
        rules.add(
            f"THIS-PL:{bare}",
            f"${near}-N $FEW {f'{measure} ' if of else ''}{noun}",
            f"${near}-N $FEW {measure} {noun}",
            pattern=("numeral", "FEW", bare),
        )


def _numeral(rules: Rules, symbol: str, number: str, noun: str) -> None:
    pl = f"$PL:{noun}"
    rules.add(
        symbol,
        f"{number} {pl}",
        f"{number} {pl}.measure {pl}",
        pattern=("numeral", number[1:], noun),
    )


def add_subjects(rules: Rules, d: int) -> None:
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


def add_relative_clauses(rules: Rules, d: int) -> None:
    """Around a noun: "the book that she bought", "the doctor who knows Tom".

    The noun has no adjective, as that would put one 的 after another.
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
                f"the $ONE:{noun} $REL-WHO $V:{verb.third} ${what}",
                f"$V:{verb.third} ${what} $REL-WHO $ONE:{noun}",
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
                for name, places in (
                    ("THING", ()),
                    ("TIMED", ()),
                    ("FULL", verb.places.split()),
                ):
                    _clause(rules, f"{name}-{number}:{noun}/{d}", verb, plain, places)


def _clause(rules: Rules, symbol: str, verb: Verb, head: str, places) -> None:
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


def add_objects(rules: Rules, d: int) -> None:
    """What a verb is said of, each with the pattern (verb, noun)."""
    for verb in VERBS:
        for noun in each(verb.nouns):
            tag = ("verb", verb.base, noun)
            if d == 0:
                for kind, phrase, weight in OBJECTS:
                    item = f"${phrase}:{noun}"
                    rules.add(f"{kind}:{verb.base}", item, item, weight, pattern=tag)
            clauses = [] if verb.base == "have" else _clauses_of(rules, noun, d)
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


OBJECTS = (
    ("SOME", "SOME", 2.0),
    ("SOME", "DEF", 1.0),
    ("DEF", "DEF", 1.0),
    ("ANY", "DEF", 1.0),
    ("ANY", "ANY", 1.0),
    ("A", "SOME", 1.0),
    ("NONE", "ANY", 1.0),
    ("BARE", "BARE", 1.0),
    ("HABIT", "BARE", 1.0),
    ("HABIT", "COUNT-FEW", 1.0),
)
"""Kind of object, how the noun is said in it, weight."""


def _clauses_of(rules: Rules, noun: str, d: int) -> list[str]:
    """The nouns with a relative clause that there are; of people none."""
    if noun in PEOPLE.split():
        return []
    found = (
        f"{name}-{number}:{noun}/{d}"
        for name in ("THING", "TIMED")
        for number in ("SG", "PL")
    )
    return [symbol for symbol in found if symbol in rules]
