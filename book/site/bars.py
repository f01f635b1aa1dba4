"""Bars in a table, for the pieces of the first page: a word, its share, the number."""

import html
from collections.abc import Iterable

__all__ = ["bar_table"]


def bar_table(caption: str, shares: Iterable[tuple[str, float, str]]) -> str:
    """A table as HTML; each row has a word, its share of 1 and the share as printed."""
    rows = "\n".join(
        f'<tr><th scope="row">{html.escape(word)}</th><td class="bar"><span '
        f'style="--p: {share:.4f}"></span></td><td>{html.escape(said)}</td></tr>'
        for word, share, said in shares
    )
    return f"<table>\n<caption>{caption}</caption>\n<tbody>\n{rows}\n</tbody>\n</table>"
