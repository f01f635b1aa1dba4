"""Numbers, dates and years in English and Chinese words.

Chinese has more than one right way to say some numbers; these conventions
choose one. Used in chapter 8.

* Tens of thousands are counted in 万; zeros inside a number are one 零,
  zeros at its end are silent: 10,050 is 一万零五十.
* Ten to nineteen begin with 十; inside a larger number they are 一十:
  十五, but 一百一十五.
* Two is 二; but 两 where the number begins with 两千 or 两万, and where it
  counts alone before a measure word: 二百, 两千, 两万, 一万二千, 两本书.
"""

from __future__ import annotations

import functools
from typing import Any, Literal

from mattn.inputs import whole_number

__all__ = [
    "MONTHS",
    "WEEKDAYS",
    "chinese_number",
    "english_number",
    "english_ordinal",
    "english_year",
    "numbers_in_english",
]

LARGEST = 99_999
DIGITS = "零一二三四五六七八九"
MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
WEEKDAYS = [
    *("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"),
]

_SMALL = [
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen"),
    *("seventeen", "eighteen", "nineteen"),
]
_TENS = [
    *("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),
]
_ORDINAL = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
    **{ten: ten.removesuffix("y") + "ieth" for ten in _TENS},
}


def english_number(n: int) -> list[str]:
    """The words of 0 … 99,999: 305 is "three hundred and five".

    Hyphens are left out: 23 is ["twenty", "three"].
    """
    return _english(_checked(n))


def _english(n: int) -> list[str]:
    if n < 20:
        return [_SMALL[n]]
    if n < 100:
        return [_TENS[n // 10 - 2], *(_english(n % 10) if n % 10 else [])]
    unit, name = (1000, "thousand") if n >= 1000 else (100, "hundred")
    out, rest = [*_english(n // unit), name], n % unit
    if rest:
        out += ["and"] * (rest < 100) + _english(rest)
    return out


@functools.cache
def numbers_in_english() -> dict[tuple[str, ...], int]:
    """All of :func:`english_number`, the other way."""
    return {tuple(_english(n)): n for n in range(LARGEST + 1)}


def english_ordinal(n: int) -> list[str]:
    """0 … 99,999 as an ordinal: 23 is ["twenty", "third"], 40 ["fortieth"]."""
    *first, last = english_number(n)
    return [*first, _ORDINAL.get(last, last + "th")]


def english_year(n: int) -> list[str]:
    """A year in two halves: 1984 is "nineteen eighty four"."""
    n = _checked(n)
    if not 100 <= n <= 9999 or n % 100 < 10:
        raise ValueError(
            f"expected a year from 110 to 9999 that ends in 10 to 99; got {n}."
        )
    return english_number(n // 100) + english_number(n % 100)


def chinese_number(n: int, *, before: Literal["", "measure"] = "") -> str:
    """The characters of 0 … 99,999; 2 is 两 before a measure word.

    >>> chinese_number(20_305), chinese_number(2, before="measure")
    ('两万零三百零五', '两')
    """
    n = _checked(n)
    if before not in ("", "measure"):
        raise ValueError(f'expected before="" or "measure"; got {before!r}.')
    if n == 2 and before == "measure":
        return "两"
    if n < 10:
        return DIGITS[n]
    out = ""
    gap = False  # zeros since the last digit that was said
    for unit, name in ((10_000, "万"), (1000, "千"), (100, "百"), (10, "十"), (1, "")):
        digit = n // unit % 10
        if digit == 0:
            gap = out != ""
            continue
        if gap:
            out += "零"
        gap = False
        if digit == 2 and out == "" and unit >= 1000:
            out += "两" + name
        elif digit == 1 and out == "" and unit == 10:
            out += name
        else:
            out += DIGITS[digit] + name
    return out


def _checked(n: Any) -> int:
    number = whole_number(n, f"a number of at most {LARGEST:,} and", least=0)
    if number > LARGEST:
        raise ValueError(f"expected a number from 0 to {LARGEST:,}; got {number:,}.")
    return number
