"""Rules for whole sentences: what happens, what is, what it costs, what there is."""

from __future__ import annotations

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


def _add_states(rules: Rules, verb: Verb, form, do, who, ask, d: int) -> None:
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


def _add_predicates(rules: Rules, d: int) -> None:
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
