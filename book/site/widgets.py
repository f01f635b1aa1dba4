"""Widgets of the chapters: something is changed, and one sees what follows.

In a notebook there is a picture, or a text in ``<div class="mattn-card">``. When the
book is built a widget joins it there: the picture stays for paper and for whoever
runs no scripts. Each widget is a few controls and a table of states, all computed in
``book/site/states.py``; ``widgets.js`` shows the state that the controls say, and
knows nothing of attention. Tested in tests/book/test_widgets.py.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from book.site.bars import bar_table
from book.site.states import WIDGETS, Choice, Roll, Slider, Switch, Widget

__all__ = ["FILES", "PLACES", "draw", "put_in"]

SCRIPT = Path(__file__).with_name("widgets.js")
FILES = (SCRIPT,)
PLACES = {
    name: re.compile(
        r'(<div class="mattn-card">)(?P<still>.*?)(</div>)'
        if widget.figure is None
        else rf'(<figure\b[^>]*\bid="{widget.figure}"[^>]*>)(?P<still>.*?)'
        r"(?=<figcaption\b)()",
        re.DOTALL,
    )
    for name, widget in WIDGETS.items()
}


def control(name: str, given: Slider | Switch | Choice | Roll) -> str:
    """One control; what it is set to is a part of the key of a state."""
    if isinstance(given, Roll):
        return (
            f'<button type="button" name="{name}" value="0" data-of="{given.of}">'
            f"{given.label}</button>"
        )
    if isinstance(given, Switch):
        return (
            f'<label><input type="checkbox" name="{name}"> <span>{given.label}</span>'
            "</label>"
        )
    if isinstance(given, Choice):
        options = "".join(f"<option>{html.escape(o)}</option>" for o in given.options)
        return f'<label>{given.label} <select name="{name}">{options}</select></label>'
    values = html.escape(json.dumps(given.values, ensure_ascii=False))
    return (
        f'<label class="slider"><span>{given.label} <b></b></span> '
        f'<input type="range" name="{name}" min="0" max="{len(given.values) - 1}" '
        f'value="{given.start}" data-values="{values}"></label>'
    )


def grid(words: Iterable[str], asks: int | None) -> str:
    """A table with a row for each query and a column for each key, still empty."""
    words = [html.escape(word) for word in words]
    heads = "".join(f'<th scope="col"><span>{word}</span></th>' for word in words)
    rows = "\n".join(
        f'<tr{" class=asks" if i == asks else ""}><th scope="row">{word}</th>'
        f"{'<td></td>' * len(words)}</tr>"
        for i, word in enumerate(words)
    )
    return (
        '<table class="grid">\n<caption>Rows are queries, columns are keys</caption>\n'
        f'<thead><tr><td class="corner"></td>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>"
    )


def draw(widget: Widget, still: str, static: str = "_static/") -> str:
    """The widget as HTML, with what stands for it where no script runs."""
    config = html.escape(json.dumps({"states": widget.states}, ensure_ascii=False))
    controls = "\n".join(control(*item) for item in widget.controls.items())
    panels = []
    if widget.grid:
        panels.append(grid(widget.grid, widget.asks))
    if widget.bars:
        panels.append(
            bar_table(widget.caption, ((word, 0, "") for word in widget.bars))
        )
    shown = "\n".join(f"<div>{panel}</div>" for panel in panels)
    return f"""\
<div class="mattn-piece mattn-widget" role="region" aria-label="{widget.label}" \
data-config="{config}">
<div class="still">{still}</div>
<div class="live">
<p class="ask">{widget.ask}</p>
<div class="controls">
{controls}
</div>
<div class="panels">
{shown}
</div>
<p class="says" role="status" aria-live="polite"></p>
</div>
</div>
<script src="{html.escape(static)}{SCRIPT.name}"></script>
"""


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put each widget where a page has its picture or its text."""
    for name, place in PLACES.items():
        if found := place.search(body := context.get("body", "")):
            static = context["pathto"](f"_static/{SCRIPT.name}", 1)
            static = static.removesuffix(SCRIPT.name)
            piece = draw(WIDGETS[name], found["still"], static)
            whole = f"{found[1]}\n{piece}{found[3]}"
            context["body"] = body[: found.start()] + whole + body[found.end() :]
