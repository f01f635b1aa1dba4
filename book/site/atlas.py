"""The table of the atlas can be filtered and sorted where scripts run.

The notebook holds the whole table; ``atlas.js`` joins it when the book is built.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

from mattn.atlas import show_atlas

__all__ = ["FILES", "PLACE", "draw", "put_in"]

SCRIPT = Path(__file__).with_name("atlas.js")
FILES = (SCRIPT,)
PLACE = re.compile(r'<div class="mattn-atlas".*?</table>\s*</div>', re.DOTALL)


def draw(static: str = "_static/") -> str:
    """The table of a page, with its script."""
    return f'{show_atlas()._repr_html_()}<script src="{static}{SCRIPT.name}"></script>'


def put_in(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the script behind the table, where a page has it."""
    body = context.get("body", "")
    if found := PLACE.search(body):
        address = context["pathto"](f"_static/{SCRIPT.name}", 1)
        script = f'<script src="{address}"></script>'
        context["body"] = body[: found.end()] + script + body[found.end() :]
