"""Answers to choose from: a question, two to four answers, a fold that tells.

A chapter asks in plain Markdown: a list whose items begin with (a), (b), and so on,
and somewhere below it a fold that begins with the letter of the right answer::

    - (a) 1
    - (b) 8

    <details><summary>Answer</summary>

    (b). The variance is 64 …

    - (a) believes that …

    </details>

The list in the fold says of each wrong answer what it believes. When the book is
built, such a question is found and marked, and ``choices.js`` makes buttons of its
answers; without scripts it stays the list and the fold that it is. Tested in
tests/book/test_choices.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

__all__ = ["FILES", "Question", "mark", "put_in", "questions"]

SCRIPT = Path(__file__).with_name("choices.js")
FILES = (SCRIPT,)
LIST = re.compile(
    r'<ul class="simple">\s*((?:<li><p>\([a-h]\) .*?</li>\s*)+)</ul>', re.S
)
ITEM = re.compile(r"<li><p>\(([a-h])\) ")
FOLD = re.compile(r"<details><summary>(.*?)</summary>\s*(.*?)</details>", re.S)
RIGHT = re.compile(r"<p>\(([a-h])\)")


class Question(NamedTuple):
    """Where its list stands, its letters, the right one, those that the fold names."""

    start: int
    letters: tuple[str, ...]
    right: str
    believed: frozenset[str]


def questions(body: str) -> Iterator[Question]:
    """The questions of a page, in order.

    Raises ``ValueError`` if the fold below a question does not begin with one of its
    letters, or names one that it does not have.
    """
    folds = list(FOLD.finditer(body))
    inside = [(fold.start(), fold.end()) for fold in folds]
    for found in LIST.finditer(body):
        if any(first < found.start() < last for first, last in inside):
            continue
        letters = tuple(ITEM.findall(found[1]))
        fold = next((fold for fold in folds if fold.start() > found.end()), None)
        right = RIGHT.match(fold[2]) if fold else None
        believed = frozenset(ITEM.findall(fold[2])) if fold else frozenset()
        if not right or {right[1], *believed} - {*letters} or right[1] in believed:
            got = fold[2][:60] if fold else "no fold"
            raise ValueError(
                f"expected below the answers {letters} a fold that begins with the "
                f"right one's letter and says what the others believe; got {got!r}."
            )
        yield Question(found.start(), letters, right[1], believed)


def mark(body: str) -> str:
    """The page with its questions marked, for ``choices.js``."""
    for question in reversed(list(questions(body))):
        head = body[: question.start]
        tail = body[question.start :].replace(
            '<ul class="simple">',
            f'<ul class="simple mattn-choices" data-right="{question.right}">',
            1,
        )
        body = head + tail
    return body


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Mark the questions of a page and bring the script along."""
    body = context.get("body", "")
    if (marked := mark(body)) != body:
        script = context["pathto"](f"_static/{SCRIPT.name}", 1)
        context["body"] = f'{marked}<script src="{script}"></script>\n'
