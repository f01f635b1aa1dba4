"""The strip of the first page: one story, one number, one word that is blocked.

Where a page holds ``<div class="mattn-strip"></div>``, alone on its line, the strip
is put in when the book is built: with what the shipped model says of the story when
every word may be looked at and when one may not, computed here. ``strip.js`` brings
it to life with the same weights; without scripts both answers stand side by side.
"""

from __future__ import annotations

import html
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from sphinx.application import Sphinx

from book import ROOT
from book.site.bars import bar_table
from mattn import rule
from mattn.pretrained import stored_stories, stories_model
from mattn.repro import recorded

__all__ = ["FILES", "PLACE", "State", "draw", "look", "put_in"]

PLACE = '<div class="mattn-strip"></div>'
TOLD = (
    "tom lived on a hill . one morning he found nine shells by the sea . "
    "at last tom counted the shells again . there were still"
)
STORY = TOLD.split()
NUMBER = STORY.index("nine")
N_BARS = 4
WEB = ROOT / "mattn" / "web"
MODEL = (WEB / "decoder.js", WEB / "stories_covered.js")
FILES = (Path(__file__).with_name("strip.js"), *MODEL)


class State(NamedTuple):
    """The likeliest next words with their probabilities, the likeliest first."""

    words: tuple[str, ...]
    p: tuple[float, ...]


@cache
def look(*blocked: int) -> State:
    """What the model expects after the story when its last word may not look at some.

    ``blocked``: places of those words in ``STORY``. The model reads a mark before
    the first word, so the mask has one cell more; no other row loses anything.
    """
    vocabulary = stored_stories(covered=True)["vocabulary"]
    tokens = [vocabulary.index(word) for word in ["<start>", *STORY]]
    hidden = torch.zeros(len(tokens), dtype=torch.bool)
    hidden[[i + 1 for i in blocked]] = True
    last = len(tokens) - 1
    seen = rule(lambda b, q, k: (q != last) | ~hidden[k], name="cells of the last row")
    with torch.no_grad():
        logits = stories_model(dtype=torch.float64)(torch.tensor([tokens]), mask=seen)
    p, numbers = logits[0, -1].softmax(dim=-1).topk(N_BARS)
    return State(tuple(vocabulary[n] for n in numbers), tuple(p.tolist()))


def printed(p: float) -> str:
    """A probability as the page says it; ``strip.js`` has the same rule."""
    if p < 0.001:
        return "< 0.001"
    return "> 0.999" if p > 0.999 else f"{p:.3f}"


def bars(state: State, caption: str) -> str:
    return bar_table(
        caption, ((word, p, printed(p)) for word, p in zip(*state, strict=True))
    )


def kind_of(i: int) -> str:
    """The classes of a word: the number, a full stop, the word that looks back."""
    kinds = {
        "number": i == NUMBER,
        "mark": STORY[i] == ".",
        "asks": i == len(STORY) - 1,
    }
    return " ".join(["word", *(kind for kind, applies in kinds.items() if applies)])


# Long because: most of it is the page, which is read best in one piece.
def draw(static: str = "_static/") -> str:
    """The strip as HTML; its files are found in ``static``.

    Raises ``ValueError`` if the record no longer bears out what the strip says of
    all stories.
    """
    record = recorded("stories_model")
    cell = record["one_cell"]
    n = cell["n_stories"]
    always = list(cell["blocked"]["likeliest"])
    if cell["seen"]["n_right"] != n or len(always) != 1:
        raise ValueError(
            f"draw: expected a model that names the number in all of {n:,} stories, "
            "and without its cell one word in all; got "
            f"{cell['seen']['n_right']:,} and {cell['blocked']['likeliest']}. Train "
            "with another seed, or say on the page what is true."
        )
    number = STORY[NUMBER]
    words = "\n".join(
        f'<span class="{kind_of(i)}">{html.escape(word)}</span>'
        for i, word in enumerate(STORY)
    )
    config = html.escape(json.dumps({"story": STORY, "number": NUMBER, "bars": N_BARS}))
    return f"""\
<div class="mattn-piece mattn-strip" role="region" aria-labelledby="mattn-strip-title" \
data-config="{config}" data-static="{html.escape(static)}">
<p class="title" id="mattn-strip-title">Block one word and it forgets.</p>
<p>The covered model from above has read this story as far as <em>still</em> and has to
write the next word. How many shells were there? It can only know by looking back.
<span class="live">Press a word, and the model may not look back at it while it
guesses. Begin with <em>{number}</em>.</span></p>
<div class="story">
{words}
<span class="guess" hidden></span>
</div>
<div class="panels">
<div class="still">
{bars(look(), "It may look back at every word")}
</div>
<div class="still">
{bars(look(NUMBER), f"It may not look back at <em>{number}</em>")}
</div>
<div class="live bars"></div>
<div class="live says"><p role="status" aria-live="polite"></p>
<button type="button" class="again" aria-disabled="true">Show every word again</button>
</div>
</div>
<p class="note">The model consists of {record["n_parameters"]:,} numbers, trained for \
{record["covered"]["cpu_seconds"]:.0f} seconds
on made-up stories like this one. We tried all {n:,} stories of this length: it named
the right number every time. With that number blocked it said <em>{always[0]}</em> \
every time, and
was as sure as before.</p>
</div>
<script src="{html.escape(static)}strip.js"></script>
"""


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the strip where a page has a place for it."""
    body = context.get("body", "")
    if PLACE in body:
        static = context["pathto"]("_static/strip.js", 1).removesuffix("strip.js")
        context["body"] = body.replace(PLACE, draw(static), 1)
