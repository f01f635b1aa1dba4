"""The first cell of a notebook, which only imports, is folded on its page.

It is a cell like any other in the notebook. On a page it would be the first thing to
meet the eye; so it waits under the words "Set-up". Tested in
tests/book/test_setup_cells.py.
"""

from __future__ import annotations

import html
import re
from typing import Any

from sphinx.application import Sphinx

__all__ = ["fold", "put_in"]

CELL = re.compile(r'<div class="cell\b[^"]*"')
ALONE = re.compile(
    r'<div class="cell docutils container">\s*'
    r'(<div class="cell_input docutils container">\s*<div class="highlight-'
    r'[^"]*"><div class="highlight"><pre>((?:(?!</pre>).)*)</pre></div>'
    r"\s*</div>\s*</div>)\s*</div>",
    re.S,
)
TAG = re.compile(r"<[^>]+>")
IMPORTS = ("import ", "from ")


def fold(body: str) -> str:
    """The page with its first cell folded, if it puts out nothing and imports."""
    first = CELL.search(body)
    cell = ALONE.match(body, first.start()) if first else None
    if cell is None:
        return body
    source = html.unescape(TAG.sub("", cell[2])).lstrip()
    if not source.startswith(IMPORTS):
        return body
    folded = (
        '<div class="cell docutils container mattn-setup">\n<details class="hide">\n'
        f"<summary>Set-up</summary>\n{cell[1]}\n</details>\n</div>"
    )
    return body[: cell.start()] + folded + body[cell.end() :]


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Fold the first cell of a page."""
    if body := context.get("body"):
        context["body"] = fold(body)
