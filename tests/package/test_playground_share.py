"""What the playground copies: code that prints the page's numbers, and a picture."""

from __future__ import annotations

import contextlib
import io
import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from nodes import node

from mattn import causal
from mattn.playground import playground
from mattn.toy import TOKENS


def config(**own) -> dict:
    tokens = "a b c d" if own else TOKENS
    html = playground(tokens, **own)._repr_html_()
    return json.loads(BeautifulSoup(html, "lxml").div["data-config"])


def printed(code: str) -> list[str]:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(code, {})
    return out.getvalue().splitlines()


@pytest.mark.parametrize(
    "address",
    [
        "",
        "m=window&n=2&x=3.10&row=4",
        "m=prefix&n=2&t=0.5&row=1",
        "m=padding&n=3&late=true&row=2",
        "m=documents&n=3&x=20&t=2.5&row=5",
        "s=it+%22sat%22+%E6%8E%A9%E7%A0%81&m=full",
    ],
)
def test_code_of_made_up_numbers_prints_the_row(address):
    ((seen,)) = node([["visit", address, config()]])
    state = seen["state"]
    code, problem = node([["codeOf", state, None], ["problemOf", state, None]])
    (rows,) = node([["attention", problem]])
    expected = [f"{weight:.6f}" for weight in rows[state["row"]]["weights"]]
    assert printed(code) == [repr(expected)]


def test_code_of_the_readers_own_numbers_prints_the_row():
    q, k, v = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    given = config(q=q, k=k, v=v)
    ((seen,)) = node([["visit", "x=1&row=3", given]])
    code, problem = node(
        [[f, seen["state"], given["own"]] for f in ("codeOf", "problemOf")]
    )
    (rows,) = node([["attention", problem]])
    assert printed(code) == [repr([f"{w:.6f}" for w in rows[3]["weights"]])]


@pytest.mark.parametrize(
    ("address", "twin"),
    [
        ("w=model", False),
        ("w=model&x=767&t=0.7", False),
        ("w=model&m=window&n=9&x1=3-9&x2=200&row=20", False),
        ("w=model&s=anna+lived&m=documents&n=2&row=2", False),
        ("w=model&x=33", True),
    ],
)
def test_code_of_the_model_prints_the_words_after_the_row(address, twin):
    ((seen,)) = node([["visit", address, config()]])
    state = seen["state"]
    code, found = node(
        [
            ["codeOf", state, None, twin],
            ["modelled", state, False, "uncovered" if twin else "covered"],
        ]
    )
    logits = torch.tensor(found["logits"][state["row"]], dtype=torch.float64)
    p, _ = (logits / state["temperature"]).softmax(dim=-1).topk(5)
    lines = [line.split() for line in printed(code)]
    assert [share for _, share in lines] == [f"{share:.6f}" for share in p.tolist()]
    if not twin:
        (guess,) = node([["guessed", state, state["row"]]])
        assert [w for w, _ in lines][:2] == [g["word"] for g in guess["words"][:2]]


def test_a_picture_has_words_mask_and_bars():
    ((seen,)) = node([["visit", "w=model&x=767", config()]])
    state = seen["state"]
    bars = [["two", 0.997], ["<end>", 0.003]]
    (svg,) = node([["pictureOf", state, bars, "causal & 'one' < 1"]])
    root = ET.fromstring(svg)
    space = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{space}text")]
    for word in state["tokens"]:
        assert texts.count(word) >= 2
    assert {"two", "<end>", "0.997"} <= set(texts)
    assert root.find(f"{space}title").text == "causal & 'one' < 1"
    side = clamped(320 // len(state["tokens"]))
    T = len(state["tokens"])
    drawn = np.zeros((T, T), dtype=bool)
    for rect in root.iter(f"{space}rect"):
        place = [int(float(rect.get(k, 0))) for k in ("x", "y", "width", "height")]
        x, y, width, height = place
        if rect.get("fill") == "#0072B2" and height == side - 1:
            i, j = (y - 92) // side, (x - 120) // side
            drawn[i, j : j + (width + 1) // side] = True
    expected = causal.matrix(T).numpy()
    expected[27, 11] = False
    assert (drawn == expected).all()


def clamped(side: int) -> int:
    return min(max(side, 8), 28)
