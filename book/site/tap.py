"""The first thing to touch on the first page: which word tells you how it goes on?

In a notebook the page begins with a picture, the figure ``fig-first``. When the book
is built, this piece takes the place of the picture, above its caption. The sentence
and the head that reads it are those of ``mattn.toy``, and every number, arrow and
sentence is made here, for each of the eight states that a reader can bring about.
``tap.js`` only shows the one that was chosen; without scripts the sentence with the
card and without it stand side by side.
"""

from __future__ import annotations

import html
import json
import re
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from sphinx.application import Sphinx

from book.site.bars import bar_table
from mattn import attention, causal, full
from mattn.toy import TOKENS, W_k, W_q, W_v, embed, verb

__all__ = ["FILES", "PLACE", "State", "draw", "look", "put_in"]

PLACE = re.compile(
    r'(<figure\b[^>]*\bid="fig-first"[^>]*>).*?(?=<figcaption\b)', re.DOTALL
)
FILES = (Path(__file__).with_name("tap.js"),)
ASKS = len(TOKENS) - 2  # the last word before the card
ACTS = 1
COLUMN, HEIGHT = 100, 130  # of the arrows: of a word's column, and in all
LEAST = 0.005  # a weight that is written 0.00 is no arrow


class State(NamedTuple):
    """A sentence, who its word before the card looks at, and what that speaks for."""

    words: tuple[str, ...]
    weights: tuple[float, ...]
    many: float
    one: float
    verb: str


def other_number(word: str) -> str:
    """The same noun for many instead of one, or for one instead of many."""
    many = embed([word])[0, -1] > 0
    other = word.removesuffix("s") if many else f"{word}s"
    assert (embed([other]) * embed([word]))[0, -1] < 0
    return other


def look(*, acts: bool = False, asks: bool = False, lifted: bool = False) -> State:
    """What the head does if the number of either noun is changed, the card lifted.

    The word under the card is the verb that agrees with the one who acts.
    """
    words: list[str] = list(TOKENS)
    for place, changed in ((ACTS, acts), (ASKS, asks)):
        words[place] = other_number(words[place]) if changed else words[place]
    words[-1] = verb(embed(words)[ACTS, -1])
    x = embed(words)
    v = x @ W_v
    out, weights = attention(x @ W_q, x @ W_k, v, full if lifted else causal)
    row, number = weights[ASKS], v[:, 0]
    return State(
        tuple(words),
        tuple(row.tolist()),
        row[number > 0].sum().item(),
        row[number < 0].sum().item(),
        verb(out[ASKS, 0]),
    )


def printed(share: float) -> str:
    return f"{share:.2f}"


def said(word: str) -> str:
    return f"<em>{html.escape(word)}</em>"


def answer(i: int) -> str:
    """What a reader is told who says that the word at ``i`` tells."""
    state = look()
    word, other = said(state.words[i]), said(verb(-1))
    acts, written = said(state.words[ACTS]), said(state.verb)
    share = printed(state.weights[ACTS])
    if i == ACTS:
        least = {printed(w) for j, w in enumerate(state.weights[:-1]) if j != ACTS}
        return (
            f"So did the machine. It gives {acts} {share} of its attention, each other "
            f"word {least.pop()}, and writes {written}."
        )
    if i == ASKS:
        return (
            f"Then you would write {other}. The machine looks past {word} and gives "
            f"{acts} {share} of its attention, so it writes {written}."
        )
    return (
        f"But {word} is neither one nor many. The machine gives {acts} {share} of its "
        f"attention, so it writes {written}."
    )


def says(state: State) -> str:
    """What is seen of a state, in a sentence or two."""
    asks, last = state.words[ASKS], state.words[-1]
    if state.weights[-1]:
        return (
            f"Now {said(asks)} sees the word that it should guess, and gives it "
            f"{printed(state.weights[-1])} of its attention. It copies {said(last)}. "
            "When it has to write, there will be nothing to copy."
        )
    number = "many" if state.many > state.one else "one"
    acts = state.words[ACTS]
    return (
        f"It looks past {said(asks)} to {said(acts)}, which is {number}, so it writes "
        f"{said(state.verb)}."
    )


def rise(j: int) -> float:
    """How high the arrow to ``j`` climbs."""
    return 12 + 26 * abs(ASKS - j)


def arrows(state: State) -> str:
    """The arrows from the word that asks, each as thick as its weight."""
    parts = []
    for j, weight in enumerate(state.weights):
        if weight < LEAST:
            continue
        start, end = COLUMN * (ASKS + 0.5), COLUMN * (j + 0.5)
        if j == ASKS:
            start, end = start + 18, end - 18
        head = 6 + 7 * weight
        top = HEIGHT - head - rise(j) * 4 / 3
        way = f"M{start:g},{HEIGHT} C{start:g},{top:.1f} {end:g},{top:.1f} "
        parts.append(
            f'<g class="{"ahead" if j > ASKS else "back"}">'
            f'<path d="{way}{end:g},{HEIGHT - head:.1f}" '
            f'style="stroke-width: {0.8 + 6 * weight:.2f}px"/>'
            f'<path class="head" d="M{end - head * 0.6:.1f},{HEIGHT - head:.1f} '
            f'h{head * 1.2:.1f} L{end:g},{HEIGHT} Z"/></g>'
        )
    return "".join(parts)


def most(state: State) -> tuple[str, str]:
    """The largest weight and where it is written: beside its arrow, at its top."""
    j = max(range(len(state.weights)), key=state.weights.__getitem__)
    left = (ASKS + j + 1) / 2 / len(TOKENS)
    top = 1 - (rise(j) + 6 + 7 * state.weights[j] * 0.75) / HEIGHT
    place = f"left: {100 * left:.1f}%; top: {100 * top:.1f}%"
    return printed(state.weights[j]), place


def bars(state: State) -> str:
    """Two bars: how much of the attention speaks for many, how much for one."""
    shares = (verb(1), state.many), (verb(-1), state.one)
    return bar_table(
        "What its attention speaks for", ((w, p, printed(p)) for w, p in shares)
    )


def scene(state: State, *, live: bool) -> str:
    """The words in their boxes with the arrows above; ``live``: to be pressed."""
    words = []
    for i, word in enumerate(state.words[:-1]):
        kind = "word asks" if i == ASKS else "word"
        tag = 'button type="button"' if live else "span"
        words.append(f'<{tag} class="{kind}">{html.escape(word)}</{tag.split()[0]}>')
    last = html.escape(state.words[-1]) if state.weights[-1] else ""
    card = "" if last else '<span class="card"></span>'
    there = last or '<span class="unseen">a covered word</span>'
    words.append(f'<span class="word last"><span>{there}</span>{card}</span>')
    share, place = most(state)
    return f"""\
<div class="scene">
<div class="arrows" aria-hidden="true">
<svg viewBox="0 0 {COLUMN * len(TOKENS)} {HEIGHT}">{arrows(state)}</svg>
<span class="most" style="{place}">{share}</span>
</div>
<div class="words">
{chr(10).join(words)}
</div>
</div>"""


def config() -> dict[str, Any]:
    """All that ``tap.js`` shows: an answer to each guess, and the eight states."""
    states = {}
    for key in product((False, True), repeat=3):
        state = look(acts=key[0], asks=key[1], lifted=key[2])
        share, place = most(state)
        states["".join(str(int(part)) for part in key)] = {
            "words": state.words,
            "arrows": arrows(state),
            "most": share,
            "place": place,
            "bars": [[f"{p:.4f}", printed(p)] for p in (state.many, state.one)],
            "says": says(state),
        }
    now = f"Now tap {said(TOKENS[ACTS])} or {said(TOKENS[ASKS])} to change it."
    answers = [f"{answer(i)} {now}" for i in range(len(TOKENS) - 1)]
    return {"acts": ACTS, "asks": ASKS, "answers": answers, "states": states}


def draw(static: str = "_static/") -> str:
    """The piece as HTML; its script is found in ``static``."""
    covered, lifted = look(), look(lifted=True)
    data = html.escape(json.dumps(config(), ensure_ascii=False))
    question = f"{said(verb(1))} or {said(verb(-1))}?"
    return f"""\
<div class="mattn-piece mattn-tap" role="region" aria-label="Which word tells you?" \
data-config="{data}">
<div class="panels still">
<div>
<p>Under the card lies {question} {says(covered)}</p>
{scene(covered, live=False)}
{bars(covered)}
</div>
<div>
<p>The card is lifted. {says(lifted)}</p>
{scene(lifted, live=False)}
{bars(lifted)}
</div>
</div>
<div class="live">
<p class="ask">Tap the word that tells you: {question}</p>
{scene(covered, live=True)}
<div class="panels below">
{bars(covered)}
<div class="says"><p role="status" aria-live="polite"></p>
<button type="button" class="lift">Lift the card</button>
</div>
</div>
</div>
</div>
<script src="{html.escape(static)}tap.js"></script>
"""


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the piece where a page has its picture."""
    body = context.get("body", "")
    if place := PLACE.search(body):
        static = context["pathto"]("_static/tap.js", 1).removesuffix("tap.js")
        piece = f"{place[1]}\n{draw(static)}"
        context["body"] = body[: place.start()] + piece + body[place.end() :]
