"""The playground's sources, joined into the one file that a page or a notebook runs.

Every script is read where the one before it ends, in one function, so a name that one
defines the next ones know. ``python -m book.play.join`` writes ``mattn/playground.js``;
tests/book/test_playground_sources.py says whether that file is what the sources say.
"""

from __future__ import annotations

from book import ROOT

__all__ = ["JOINED", "joined"]

HERE = ROOT / "book" / "play"
JOINED = ROOT / "mattn" / "playground.js"
CORE = ("texts", "arithmetic", "state", "words", "puzzles", "share", "colours")
PAGE = ("elements", "matrix", "model", "puzzling", "hands", "page")
HEAD = """\
// The mask playground: change a mask and see what masked self-attention does.
//
// Written by book/play/join.py from the scripts in book/play, in this order; change
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


def source(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8").strip() + "\n"


def joined() -> str:
    """The one file, from its sources."""
    exported = ", ".join(names())
    style, body = source("style.css"), source("body.html")
    return "\n".join(
        [
            HEAD,
            *(source(f"{name}.js") for name in CORE),
            f"const core = {{ {exported} }};",
            BETWEEN,
            f"const STYLE = `\n{style}`;\n\nconst BODY = `\n{body}`;\n",
            *(source(f"{name}.js") for name in PAGE),
            "})();\n",
        ]
    )


def names() -> list[str]:
    """What the core defines at its top level."""
    starts = ("const ", "function ")
    lines = [
        line
        for name in CORE
        for line in source(f"{name}.js").splitlines()
        if line.startswith(starts)
    ]
    return sorted({line.split()[1].partition("(")[0] for line in lines})


if __name__ == "__main__":
    JOINED.write_text(joined(), encoding="utf-8")
