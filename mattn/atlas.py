"""The page of the atlas: every mask with its picture, rule, users and counts.

All of it is made from :mod:`mattn.masks.atlas`, the one table; an appendix of the book
shows it, and the book's script lets a reader filter and sort it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from mattn.masks.atlas import ENTRIES
from mattn.masks.entry import Entry
from mattn.playground import address
from mattn.toy import TOKENS

__all__ = ["WORDS", "Atlas", "picture", "show_atlas"]

WORDS = (*TOKENS, "all", "day")
"""The eight tokens of every picture."""
CELL = 9
COLUMNS = ("mask", "what it is for", "pairs", "after 2 layers", "cache", "blocks")
HATCH = (
    '<pattern id="mattn-atlas-hatch" width="4" height="4" '
    'patternUnits="userSpaceOnUse"><path d="M0 4L4 0" stroke="#A6A6A6" '
    'stroke-width="0.8"/></pattern>'
)


def picture(allowed: Bool[Tensor, "Tq Tk"], name: str) -> str:
    """A boolean matrix as a small SVG: allowed blue, blocked grey and hatched.

    >>> from mattn import causal
    >>> picture(causal.matrix(2), "causal").count("<rect")
    3
    """
    n_queries, n_keys = allowed.shape
    width, height = n_keys * CELL, n_queries * CELL
    ground = f'<rect width="{width}" height="{height}" '
    cells = "".join(
        f"M{j * CELL + 0.5:g} {i * CELL + 0.5:g}h{CELL - 1}v{CELL - 1}h{1 - CELL}z"
        for i, j in allowed.nonzero().tolist()
    )
    rows = "; ".join(
        f"query {i}: " + (", ".join(map(str, row.nonzero().flatten().tolist())) or "no")
        for i, row in enumerate(allowed)
    )
    said = html.escape(f"{name}, keys that each query sees. {rows}")
    return (
        f'<svg role="img" aria-label="{said}" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
        f'{ground}style="fill: var(--mattn-blocked, #D9D9D9)"/>'
        f'{ground}fill="url(#mattn-atlas-hatch)"/>'
        f'<path d="{cells}" style="fill: var(--mattn-allowed, #0072B2)"/>'
        f'<rect width="{width}" height="{height}" fill="none" stroke="currentColor" '
        'stroke-width="0.5"/></svg>'
    )


@dataclass(frozen=True)
class Atlas:
    """Entries as a table: HTML in a notebook, a list elsewhere."""

    entries: tuple[Entry, ...]

    def __str__(self) -> str:
        return "\n".join(f"{e.title}: {e.rule}" for e in self.entries)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        head = "".join(f'<th scope="col">{name}</th>' for name in COLUMNS)
        rows = "\n".join(map(_row, self.entries))
        return (
            f'<div class="mattn-atlas">\n<svg width="0" '
            f'height="0" style="position: absolute" aria-hidden="true"><defs>{HATCH}'
            "</defs></svg>\n<table>\n<caption>Rows of a picture are queries, "
            "columns are keys, 8 of each; blue = may attend. Pairs are counted for 8 "
            "tokens; cache and skipped blocks of 128 × 128 for 4,096, with the "
            "numbers named.</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n"
            "</div>"
        )


def show_atlas(entries: Iterable[Entry] = ENTRIES) -> Atlas:
    """Entries of the atlas, by default all.

    >>> from mattn.masks.atlas import atlas
    >>> show_atlas([atlas("prefix")])
    prefix: causal | prefix(n)
    """
    return Atlas(tuple(entries))


def _row(entry: Entry) -> str:
    skipped, every = entry.skipped
    pairs, share = entry.n_pairs(len(WORDS)), skipped / every
    after = "" if entry.alternates else entry.seen_after(2)
    cells = entry.matrix(len(WORDS))
    words = [
        picture(cells, entry.title),
        _told(entry, cells),
        str(pairs),
        f"{after or 'by layer'}",
        html.escape(entry.kept),
        f"{share:.0%}",
    ]
    sort = (entry.title, entry.title, pairs, after or 0, entry.kept, share)
    row = "".join(
        f'<td data-sort="{html.escape(str(key))}">{text}</td>'
        for text, key in zip(words, sort, strict=True)
    )
    kind = "no mask" if entry.instead else "mask"
    return f'<tr id="mask-{entry.key}" data-kind="{kind}">{row}</tr>'


def _told(entry: Entry, cells: Bool[Tensor, "Tq Tk"]) -> str:
    """Name, rule, sentence, users and source, and the way into the playground."""
    rule = f"<code>{html.escape(entry.rule)}</code>"
    lines = [
        f'<strong><a href="#mask-{entry.key}">{html.escape(entry.title)}</a></strong>',
        f"{html.escape(entry.instead)} The mask that bounds it: {rule}"
        if entry.instead
        else rule,
        html.escape(entry.why),
        f"Used by {html.escape(entry.who)}. {_sources(entry)}.",
        f"Pairs: <code>{html.escape(entry.pairs)}</code>{_numbers(entry)}",
        f'<a href="playground.html{html.escape(address(WORDS, cells))}">'
        f"In the playground<span hidden>: {html.escape(entry.title)}</span></a>",
    ]
    return "".join(f"<div>{line}</div>" for line in lines)


def _numbers(entry: Entry) -> str:
    """The parameters of the picture, and those of the counts at 4,096 tokens."""
    small, large = (
        ", ".join(f"{n} = {v}" for n, v in given.items() if len(v) < 20)
        for given in (entry.given, entry.large)
    )
    both = [small, large and f"at 4,096 tokens {large}"]
    said = "; ".join(filter(None, both))
    return f", with {html.escape(said)}" if said else ""


def _sources(entry: Entry) -> str:
    """Links into the bibliography by name and year, and what stands in brackets."""
    keys, _, more = entry.source.partition(" (")
    links = [
        f'<a href="bibliography.html#{key}">{name.capitalize()} {year}</a>'
        for key in keys.split(", ")
        for name, year in re.findall(r"^([a-z]+)(\d{4})", key)
    ]
    more = re.sub(r"\)$", "", more)
    return ", ".join(links) + (f"; {html.escape(more)}" if more else "")
