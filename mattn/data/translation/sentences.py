"""Rules for whole sentences: what happens, what is, what it costs, what there is.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

from typing import NamedTuple

from mattn.data.translation.grammar import Rules
from mattn.data.translation.lexicon import (
    ADJECTIVES,
    COLOURS,
    DRINKS,
    EXISTS,
    GOODS,
    HAS_COLOUR,
    MANY_EXIST,
    NAMES,
    NOUNS,
    PEOPLE,
    PREDICATES,
    VERBS,
    Verb,
    each,
)

__all__ = ["add_sentences"]


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


def add_sentences(rules: Rules, d: int) -> None:
    """What was, will be, often happens and is the case: said, denied, asked."""
    for verb in VERBS:
        if "p" in verb.tenses:
            _add_past(rules, verb, d)
        if "f" in verb.tenses:
            _add_future(rules, verb, d)
        for subject in (
            Subject(f"$SG/{d}", f"$ASKED-SG/{d}", verb.third, "DOES"),
            Subject(f"$PL/{d}", f"$ASKED-PL/{d}", verb.base, "DO"),
        ):
            if "h" in verb.tenses:
                _add_habits(rules, verb, subject)
            if "s" in verb.tenses:
                _add_states(rules, verb, subject, d)
    _add_adjectives(rules, d)
    _add_professions(rules)
    _add_prices(rules)
    _add_places(rules)
    for pattern, weight in SHARES.items():
        rules.add("START", f"${pattern}", f"${pattern}", weight)


class Subject(NamedTuple):
    """Who does it, who may be asked, and the verb and the "do" that go with them."""

    who: str
    asked: str
    form: str
    do: str


SHARES = {
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
}
"""How often a kind of sentence comes up, in relation to the others."""


def _add_past(rules: Rules, verb: Verb, d: int) -> None:
    anyone, asked, v = f"$ANYONE/{d}", f"$ASKED/{d}", verb.base
    base, past = f"$V:{verb.base}", f"$V:{verb.past}"
    # "Read" has one form: past and present are told apart by the time.
    doubtful = verb.past == verb.base
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


def _add_future(rules: Rules, verb: Verb, d: int) -> None:
    anyone, asked, v = f"$ANYONE/{d}", f"$ASKED/{d}", verb.base
    base = f"$V:{v}"
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


def _add_habits(rules: Rules, verb: Verb, subject: Subject) -> None:
    (who, asked, form, do), v = subject, verb.base
    base = f"$V:{v}"
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
            f"${do} {asked} {base} $BARE:{v}{e} $ASK",
            f"{asked} {t}{p}{base} $BARE:{v} $ASK",
            w,
        )


def _add_states(rules: Rules, verb: Verb, subject: Subject, d: int) -> None:
    """like, need, know, have: 不, but 没 before 有."""
    who, asked, form, do = subject
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
            f"${do} {asked} {base} ${what} $ASK",
            f"{asked} {base} ${what} $ASK",
        )


def _add_adjectives(rules: Rules, d: int) -> None:
    """What something is: this book, the book that she bought, Anna."""
    for adjective, (_, nouns) in {
        **ADJECTIVES,
        **PREDICATES,
        **HAS_COLOUR,
    }.items():
        listed = each(nouns)
        for noun in listed:
            weight, more = 1 / len(listed), {"pattern": ("adjective", adjective, noun)}
            for number, verb in (("SG", "is"), ("PL", "are")):
                this = f"$THIS-{number}:{noun}"
                _add_is(rules, this, verb, adjective, weight, **more)
                clause = f"FULL-{number}:{noun}/{d}"
                if clause in rules:
                    _add_is(rules, f"${clause}", verb, adjective, weight, **more)
    for who in ("he", "she", *NAMES):
        for adjective in ("young", "friendly", "clever"):
            _add_is(rules, f"$WHO-{who}", "is", adjective, 0.1)


def _add_is(
    rules: Rules, who: str, verb: str, adjective: str, weight: float, **more
) -> None:
    """It is red, it is not, is it? A colour takes 是 … 的, another adjective 很."""
    said = f"$ADJ:{adjective}"
    colour = adjective in COLOURS
    meant = f"{said} 的" if colour else said
    is_, is_not, ask = (
        (f"$IS-是:{verb}", f"$IS-不是:{verb}", "是 ")
        if colour
        else (f"$IS:{verb}", f"$IS-NOT:{verb}", "")
    )
    for english, chinese, w in (
        (f"{who} {is_} {said} $STOP", f"{who} {is_} {meant} $STOP", weight),
        (f"{who} {is_not} {said} $STOP", f"{who} {is_not} {meant} $STOP", weight / 2),
        (f"$IS-IT:{verb} {who} {said} $ASK", f"{who} {ask}{meant} $ASK", weight / 2),
    ):
        rules.add("IS", english, chinese, w, **more)


def _add_professions(rules: Rules) -> None:
    """Anna is a teacher, we are not doctors."""
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
                is_ = f"$WHO-{who} {verb} {many} $STOP"
                rules.add("IS", is_, is_, 0.05)


def _add_prices(rules: Rules) -> None:
    """The price of this red car is 30,000 yuan."""
    money = "$NUMBER-PRICE $YUAN"
    for noun in f"{GOODS} tickets".split():
        thing = f"$DEF-SG:{noun}"
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


def _add_places(rules: Rules) -> None:
    """There is a book on the table, there are no books, are there any?"""
    for places, size in ((EXISTS, "SMALL"), (MANY_EXIST, "LARGE")):
        for english, chinese, nouns in places:
            rules.add(f"WHERE:{chinese}", " ".join(english), chinese)
            where = f"$WHERE:{chinese}"
            for noun in each(nouns):
                w = 1 / len(each(nouns))
                mass = NOUNS[noun][0].endswith(" of") and noun in DRINKS.split()
                for there, what, mark, weight in (
                    ("$THERE-IS", f"$A:{noun}", "$STOP", w / 2),
                    ("$THERE-ARE", f"$COUNT-{size}:{noun}", "$STOP", w * 2),
                    (f"$THERE-NO:{mass}", f"$BARE:{noun}", "$STOP", w),
                    (f"$ARE-THERE:{mass}", f"$BARE:{noun}", "$ASK", w),
                ):
                    rules.add(
                        "EXISTS",
                        f"{there} {what} {where} {mark}",
                        f"{where} {there} {what} {mark}",
                        weight,
                    )
