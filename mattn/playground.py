"""The mask playground: a widget in which a reader changes a mask and looks.

The page is drawn by the scripts in ``web/play``, which do the same arithmetic;
here they are joined into the one file that a page or a notebook runs. What a
reader without scripts sees, a table of the weights, is computed here. Both make
queries, keys and values of a sentence by one recipe, so that their numbers
agree. Used in chapters 2 and 4.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mattn.attention import attention
from mattn.masks import Mask, causal
from mattn.toy import TOKENS

__all__ = ["Playground", "address", "embed", "playground", "project", "script"]

MAX_TOKENS = 10
WIDTH = 4
MAPS = {
    "q": [[1, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]],
    "k": [[0, 1, 0, 0], [1, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]],
    "v": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, -1]],
}
"""Three linear maps of the page's own, made by hand: the script has the same."""

SOURCES = Path(__file__).parent / "web" / "play"
CORE = ("texts", "arithmetic", "state", "words", "puzzles", "share", "colours")
PAGE = ("elements", "matrix", "model", "puzzling", "hands", "page")
HEAD = """\
// The mask playground: change a mask and see what masked self-attention does.
//
// Joined by mattn.playground from the scripts in mattn/web/play, in this order; change
// those. First the arithmetic, without a page (Node reads it as a module), then the
// page. Elements <div class="mattn-playground" data-config="…">, as written by
// mattn.playground, come to life; what stands inside them is for readers without
// scripts. Rows are queries, columns are keys, true = may attend.
"use strict";
(() => {
"""
BETWEEN = """
if (typeof module === "object" && module.exports) module.exports = core;
if (typeof document === "undefined") return;
"""


def embed(tokens: Sequence[str]) -> Float[Tensor, "T 4"]:
    """An embedding for any token: a hash of its UTF-8 bytes (FNV-1a, 32 bits),
    stirred once for each feature, which is one of −1.5, −1, …, 1.5.

    >>> embed(["the", "cat", "the"])
    tensor([[ 0.0000,  1.0000,  1.5000,  0.0000],
            [-1.5000,  1.5000, -1.5000,  1.0000],
            [ 0.0000,  1.0000,  1.5000,  0.0000]], dtype=torch.float64)
    """
    x = torch.zeros(len(tokens), WIDTH, dtype=torch.float64)
    for i, token in enumerate(tokens):
        if not isinstance(token, str):
            raise ValueError(
                f"embed: expected tokens, each a str; got {token!r}. Give words, not "
                "their numbers."
            )
        h = 2166136261
        for byte in token.encode():
            h = (h ^ byte) * 16777619 % 2**32
        for c in range(WIDTH):
            h = (h ^ (h >> 15) ^ (c + 1)) * 2654435761 % 2**32
            x[i, c] = ((h >> 16) % 7 - 3) / 2
    return x


def project(tokens: Sequence[str]) -> dict[str, Float[Tensor, "T 4"]]:
    """Queries, keys and values of a sentence, as ``{"q": …, "k": …, "v": …}``."""
    x = embed(tokens)
    return {name: x @ torch.tensor(W, dtype=x.dtype) for name, W in MAPS.items()}


def playground(
    tokens: str | Sequence[str] = TOKENS,
    mask: Mask | Bool[Tensor, "T T"] | Bool[np.ndarray, "T T"] = causal,
    *,
    q: Float[Tensor, "T D"] | Float[np.ndarray, "T D"] | None = None,
    k: Float[Tensor, "T D"] | Float[np.ndarray, "T D"] | None = None,
    v: Float[Tensor, "T Dv"] | Float[np.ndarray, "T Dv"] | None = None,
    query: int | None = None,
) -> Playground:
    """A widget to change a mask in; a notebook shows it as the cell's value.

    At most 10 ``tokens``, a text being split at spaces. Without ``q``, ``k``
    and ``v`` the sentence can be edited; with them, all three, the numbers are
    the caller's, rounded to six decimals. The row of ``query`` is worked out, by
    default that of position 2 or of the last token.

    >>> playground("a b c")
    Playground('a b c', 6 of 9 cells allowed)
    """
    tokens = tuple(tokens.split() if isinstance(tokens, str) else tokens)
    T = len(tokens)
    if not 1 <= T <= MAX_TOKENS or not all(isinstance(t, str) for t in tokens):
        raise ValueError(
            f"playground: expected 1 to {MAX_TOKENS} tokens, each a str; got "
            f"{tokens!r}. Take a part of the text: a larger map cannot be read."
        )
    query = min(2, T - 1) if query is None else query
    if not isinstance(query, int | np.integer) or not 0 <= query < T:
        raise ValueError(
            f"playground: expected a query position from 0 to {T - 1}; got {query}."
        )
    own = not q is k is v is None
    qkv = _rows({"q": q, "k": k, "v": v}, T) if own else project(tokens)
    allowed = _one_row(mask, T)
    out, weights = attention(qkv["q"], qkv["k"], qkv["v"], allowed)
    return Playground(tokens, allowed, qkv, own, int(query), weights, out)


def _rows(given: dict, T: int) -> dict[str, Tensor]:
    """The caller's q, k and v, rounded so that stored outputs compare."""
    rows = {
        name: torch.as_tensor(t).detach().cpu().double()
        for name, t in given.items()
        if t is not None
    }
    fit = all(t.ndim == 2 and len(t) == T and t.numel() for t in rows.values())
    if not fit or len(rows) < len(given):
        shapes = {name: tuple(t.shape) for name, t in rows.items()}
        got = ", ".join(f"{name} {shapes.get(name)}" for name in given)
        raise ValueError(
            f"playground: expected q, k and v, all three of shape ({T}, features), one "
            f"row a token; got {got}. Pick a batch row and a head first: q[0, 0]."
        )
    if not all(t.isfinite().all() for t in rows.values()):
        raise ValueError(
            "playground: expected finite q, k and v; got NaN or ∞ among them."
        )
    return {name: t.round(decimals=6) for name, t in rows.items()}


def _one_row(mask: object, T: int) -> Tensor:
    """The mask as a matrix (T, T): of a rule for a batch, if it has one row."""
    if isinstance(mask, Mask):
        allowed = mask.matrix(T)
        allowed = allowed[0] if allowed.shape == (1, T, T) else allowed
    else:
        allowed = torch.as_tensor(mask).cpu()
    if allowed.dtype != torch.bool or allowed.shape != (T, T):
        raise ValueError(
            f"playground: expected a mask for one sequence, bool (True = may attend) "
            f"of shape ({T}, {T}); got {allowed.dtype} {tuple(allowed.shape)}."
        )
    return allowed


def address(tokens: Sequence[str], mask: Mask | Bool[Tensor, "T T"]) -> str:
    """The fragment of an address at which the book's playground shows this mask.

    It follows ``playground.html``, and says which cells differ from the causal mask.

    >>> address(["a", "b"], causal.matrix(2).T)
    '#play-e3b83239&s=a+b&x=1.2'
    """
    given = playground(tokens, mask)
    differs = (given.allowed != causal.matrix(len(given.tokens))).flatten()
    cells = ".".join(str(cell) for cell in differs.nonzero().flatten().tolist())
    said = {"s": " ".join(given.tokens), **({"x": cells} if cells else {})}
    return f"#{playground().name}&{urlencode(said, safe='.')}"


@dataclass(frozen=True, eq=False)
class Playground:
    """What :func:`playground` returns: its numbers, and itself as HTML."""

    tokens: tuple[str, ...]
    allowed: Bool[Tensor, "T T"]
    qkv: dict[str, Tensor]
    own: bool
    query: int
    weights: Float[Tensor, "T T"]
    out: Float[Tensor, "T Dv"]

    def __repr__(self) -> str:
        seen, T = int(self.allowed.sum()), len(self.tokens)
        return f"Playground({' '.join(self.tokens)!r}, {seen} of {T * T} cells allowed)"

    @property
    def name(self) -> str:
        """The id of the widget: the same widget has the same one wherever it is."""
        return f"play-{hashlib.sha256(self._config().encode()).hexdigest()[:8]}"

    def _config(self) -> str:
        rows = ["".join("01"[int(c)] for c in row) for row in self.allowed.tolist()]
        config = {"tokens": self.tokens, "allowed": rows, "query": self.query}
        if self.own:
            config["own"] = {name: t.tolist() for name, t in self.qkv.items()}
        return json.dumps(config, ensure_ascii=False, separators=(",", ":"))

    def _repr_html_(self) -> str:
        return (
            f'<div class="mattn-playground" id="{self.name}" '
            f'data-config="{html.escape(self._config())}">\n{self._table()}</div>\n'
            f"<script>\n{script()}</script>"
        )

    def _table(self) -> str:
        """The weights, for readers without scripts."""
        # The class is the one of pandas' tables: notebooks and themes know it.
        names = [
            f"{i} {html.escape(token, quote=False)}"
            for i, token in enumerate(self.tokens)
        ]
        lines = [
            '<table class="dataframe">',
            "<caption>Attention weights: row = query, column = key, – = blocked. "
            "With scripts this table is a playground in which the mask can be changed."
            "</caption>",
            '<thead><tr><th scope="col">query ↓ key →</th>'
            + "".join(f'<th scope="col">{name}</th>' for name in names)
            + '<th scope="col">sum</th></tr></thead>',
            "<tbody>",
        ]
        hatched = (
            "text-align: center; color: #000; background: #D9D9D9 "
            "repeating-linear-gradient(-45deg, transparent 0 4px, #A6A6A6 4px 5px)"
        )
        for i, name in enumerate(names):
            cells = [
                f"<td>{weight:.2f}</td>"
                if self.allowed[i, j]
                else f'<td style="{hatched}">–</td>'
                for j, weight in enumerate(self.weights[i].tolist())
            ]
            total = f"<td>{self.weights[i].sum().item():.2f}</td>"
            lines.append(f'<tr><th scope="row">{name}</th>{"".join(cells)}{total}</tr>')
        return "\n".join([*lines, "</tbody>", "</table>", ""])


@cache
def script() -> str:
    """The program of the page, one file without dependencies: its sources, joined.

    Every source is read where the one before it ends, in one function, so a name
    that one defines the next ones know.
    """
    style, body = source("style.css"), source("body.html")
    return "\n".join(
        [
            HEAD,
            *(source(f"{name}.js") for name in CORE),
            f"const core = {{ {', '.join(names())} }};",
            BETWEEN,
            f"const STYLE = `\n{style}`;\n\nconst BODY = `\n{body}`;\n",
            *(source(f"{name}.js") for name in PAGE),
            "})();\n",
        ]
    )


def source(name: str) -> str:
    """One of the sources of the script."""
    return (SOURCES / name).read_text(encoding="utf-8").strip() + "\n"


def names() -> list[str]:
    """What the core of the script defines at its top level."""
    starts = ("const ", "function ")
    lines = [
        line
        for name in CORE
        for line in source(f"{name}.js").splitlines()
        if line.startswith(starts)
    ]
    return sorted({line.split()[1].partition("(")[0] for line in lines})
