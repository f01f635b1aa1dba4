"""Rules for numbers, hours, days, dates and years.

A room of the grammar that chapter 8 learns to translate.
"""

from __future__ import annotations

import calendar
from dataclasses import replace

from mattn.data.translation.grammar import Numbers, Rule, Rules, number_rule
from mattn.data.translation.numerals import (
    LARGEST,
    MONTHS,
    WEEKDAYS,
    chinese_number,
    english_number,
    english_ordinal,
    english_year,
)

__all__ = ["add_numbers_and_times"]

_YEARS = (*range(1910, 2000), *range(2010, 2025))


def add_numbers_and_times(rules: Rules) -> None:
    """What is counted, what it costs, and when things happen."""
    for n in range(2, 13):
        rules["FEW"] = [*rules.get("FEW", []), number_rule(n)]
    rules["NUMBER-SMALL"] = Numbers(2, 99)
    rules["NUMBER-LARGE"] = Numbers(2, LARGEST)
    rules["NUMBER-PRICE"] = Numbers(1, LARGEST)
    _add_days(rules)
    rules.add("DATE", "$DAY $YEAR", "$YEAR $DAY")
    _add_full_dates(rules)
    _add_hours(rules)
    _add_near_days(rules)
    rules.add("TIME-PAST", "on $DATE", "$DATE", 3)
    rules.add("TIME-PAST", "on $FULL-DATE", "$FULL-DATE", 3)
    rules.add("TIME-CLAUSE", "$DAY:yesterday", "$DAY:yesterday", 2)
    rules.add("TIME-CLAUSE", "$WEEK-PAST", "$WEEK-PAST")
    rules.add("TIME-CLAUSE", "on $WEEKDAY", "$WEEKDAY")
    rules.add("TIME-HABIT", "on $NO-WEEKDAYS", "$NO-WEEKDAYS")
    rules.add("TIME-OFTEN", "every day", "每天", 2)
    rules.add("TIME-OFTEN", "every week", "每周")
    rules.add("TIME-OFTEN", "on $WEEKDAYS", "$WEEKDAYS", 2)


def _add_days(rules: Rules) -> None:
    """Days of the week, days of a month, years."""
    for i, day in enumerate(WEEKDAYS):
        rules.add("WEEKDAY", day, f"星期 {'一二三四五六日'[i]}")
        rules.add(f"WEEKDAY:{day}", day, f"星期 {'一二三四五六日'[i]}")
        rules.add("WEEKDAYS", f"{day}s", f"每个 星期 {'一二三四五六日'[i]}")
        rules.add("NO-WEEKDAYS", f"{day}s", f"星期 {'一二三四五六日'[i]}")
    for month, name in enumerate(MONTHS, start=1):
        length = 28 if month == 2 else calendar.monthrange(2001, month)[1]
        rules.add(f"MONTH-{length}", name, " ".join([*chinese_number(month), "月"]))
    for number in range(1, 32):
        ordinal = " ".join(english_ordinal(number))
        said = " ".join([*chinese_number(number), "日"])
        for length in (28, 30, 31):
            if number <= length:
                rules.add(f"DAY-{length}", ordinal, said)
        rules.add(f"DAY:{number}", ordinal, said)
    for length, weight in ((28, 1), (30, 4), (31, 7)):
        rules.add(
            "DAY",
            f"the $DAY-{length} of $MONTH-{length}",
            f"$MONTH-{length} $DAY-{length}",
            weight,
        )
    for year in _YEARS:
        digits = [
            *("〇" if c == "0" else chinese_number(int(c)) for c in str(year)),
            "年",
        ]
        rules.add("YEAR", " ".join(english_year(year)), " ".join(digits))


def _add_hours(rules: Rules) -> None:
    """Parts of a day, and the hours of each."""
    # Chinese has another word for the morning before nine o'clock.
    for part, chinese, hours in (
        ("morning", "上午", range(9, 12)),
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


def _add_near_days(rules: Rules) -> None:
    """Yesterday and tomorrow, last week and next: the tense goes with them."""
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


def _add_full_dates(rules: Rules) -> None:
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
        for name in WEEKDAYS:
            on, when = f"$ON-{name}-{kind}", f"$YEAR-{kind}"
            rules.add(
                "FULL-DATE",
                f"$WEEKDAY:{name} , {on} {when}",
                f"{when} {on} $WEEKDAY:{name}",
                1 / 7,
            )


def _calendar(rule: Rule) -> tuple[str, ...]:
    """The kind of year of a rule for full dates."""
    return tuple(item.rpartition("-")[2] for item in rule.chinese[:1])
