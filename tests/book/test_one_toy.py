"""The sentence of the book and its head stand in ``mattn.toy`` alone.

A second toy, typed somewhere else, would give other numbers for what reads like the
same sentence. Looked for are the sentence of the first edition, the tokens as a list,
and any table of numbers that begins like one of the toy's or of the old one.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from roots import ROOT

from mattn.toy import TOKENS, W_k, W_q, W_v, embed

HOME = "mattn/toy.py"
OLD = "the cat sat on the mat"
OLD_X = torch.tensor(
    [[1, 0, 1, 0], [0, 2, 0, 1], [1, 1, 0, 0], [0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 2, 1]]
)
TABLES = {
    "the features": embed(),
    "W_q": W_q,
    "W_k": W_k,
    "W_v": W_v,
    "the old features": OLD_X,
}
LEAST_ROWS = 3  # of a table that is recognised
NUMBERS = re.compile(r"\[\s*\[[\d\s.,+\-\[\]]+\]")
FENCE = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


def pages() -> Iterator[Path]:
    for pattern in ("README.md", "chapters/*.*", "exercises/*.*", "mattn/**/*.*"):
        for path in sorted(ROOT.glob(pattern)):
            # The weights of a model are one long line of letters.
            weights = path.match("web/stories_*.js")
            if path.suffix in {".ipynb", ".md", ".py", ".js"} and not weights:
                yield path


def parts(path: Path) -> tuple[str, list[str]]:
    """All that was written by hand in a file, and what of it is Python."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        return "\n".join("".join(c["source"]) for c in cells), code
    code = [text] if path.suffix == ".py" else FENCE.findall(text)
    return text, code


def in_words(text: str) -> str:
    """The words of a text: a list of tokens reads like the sentence."""
    return " ".join(re.findall(r"[a-z]+", text.lower()))


def tokens_of(node: ast.AST) -> tuple[str, ...]:
    """The tokens that a literal makes: a list of words, or a text that is split."""
    match node:
        case ast.List(elts=parts) | ast.Tuple(elts=parts):
            words = [p.value for p in parts if isinstance(p, ast.Constant)]
            if len(words) == len(parts) and all(isinstance(w, str) for w in words):
                return tuple(words)
        case ast.Call(
            func=ast.Attribute(value=ast.Constant(value=str(text)), attr="split")
        ):
            return tuple(text.split())
    return ()


def closed(literal: str) -> str:
    """A list up to where its brackets close; what comes after is of another one."""
    depth = 0
    for i, letter in enumerate(literal, start=1):
        depth += (letter == "[") - (letter == "]")
        if not depth:
            return literal[:i]
    return literal


def tables(text: str) -> Iterator[str]:
    """Which of the known tables begin like one that is written in a text."""
    for literal in NUMBERS.findall(text):
        try:
            rows = ast.literal_eval(closed(literal))
        except (SyntaxError, ValueError):
            continue
        for name, table in TABLES.items():
            if rows[LEAST_ROWS - 1 :] and rows == table[: len(rows)].tolist():
                yield name


def second_toys(path: Path) -> list[str]:
    """What of the toy, old or new, is typed in a file."""
    text, code = parts(path)
    found = [f"“{OLD}”"] if OLD in in_words(text) else []
    for source in code:
        plain = re.sub(r"^\s*[%!].*$", "", source, flags=re.M)
        nodes = ast.walk(ast.parse(plain))
        found += ["the tokens" for node in nodes if tokens_of(node) == TOKENS]
    return found + list(tables(text))


def test_the_toy_is_typed_once():
    found = {p.relative_to(ROOT).as_posix(): second_toys(p) for p in pages()}
    # A link of the first edition that names no sentence means its sentence.
    assert found.pop("mattn/web/play/page.js") == [f"“{OLD}”"]
    typed = {name: toys for name, toys in found.items() if toys and name != HOME}
    assert not typed, f"expected the toy in {HOME} alone; got {typed}: import it"
    assert found[HOME]


@pytest.mark.parametrize(
    ("name", "text", "seen"),
    [
        ("a.md", "He said: *The cat sat\non the mat.*", True),
        ("a.md", "The cats sat on the mat.", False),
        ("a.py", 'tokens = ["the", "cat", "sat", "on", "the", "mat"]', True),
        ("a.py", f"tokens = {list(TOKENS)}", True),
        ("a.py", f"tokens = {' '.join(TOKENS)!r}.split()", True),
        ("a.py", f"assert ' '.join(TOKENS) == {' '.join(TOKENS)!r}", False),
        ("a.md", f"Guess: {' '.join(TOKENS)}.", False),
        ("a.py", f"x = torch.tensor({embed().tolist()})", True),
        ("a.py", f"x = torch.tensor({OLD_X[:3].tolist()})", True),
        ("a.py", f"x = torch.tensor({OLD_X[:2].tolist()})", False),
        ("a.js", f"const wq = {json.dumps(W_q.int().tolist())};", True),
        ("a.py", f"W = {W_v.int().tolist()}\n", True),
        ("a.py", f"W = {(W_v.int() + 1).tolist()}\n", False),
        ("a.md", f"```python\nx = {list(TOKENS)}\n```\n", True),
        ("a.ipynb", None, True),
    ],
)
def test_a_second_toy_is_seen(tmp_path, name, text, seen):
    if text is None:
        cell = {"cell_type": "code", "source": [f"%time\nx = {TOKENS}\n"]}
        text = json.dumps({"cells": [cell]})
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert bool(second_toys(path)) is seen
