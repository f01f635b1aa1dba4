"""The playground's state: edits of two layers, what stays with a mask, undo, links."""

from __future__ import annotations

import json

import numpy as np
import pytest
from bs4 import BeautifulSoup
from nodes import node

from mattn import causal, window
from mattn.playground import playground
from mattn.toy import TOKENS

SETS = ("flips", "flips1", "flips2")


def config() -> dict:
    html = playground(TOKENS)._repr_html_()
    return json.loads(BeautifulSoup(html, "lxml").div["data-config"])


def start(address: str = "") -> dict:
    return node([["visit", address, config()]])[0]["state"]


def test_cells_change_in_the_layers_that_are_edited():
    rng = np.random.default_rng(0)
    first = start("w=model&s=tom+lived+on+a+hill")
    T = len(first["tokens"])
    assert T == 6
    steps = [
        [
            str(rng.choice(["both", "1", "2"])),
            rng.integers(T, size=(4, 2)).tolist(),
            value,
        ]
        for value in [True, False] * 50
    ]
    masks = np.stack([causal.matrix(T).numpy()] * 2)
    for (layer, cells, value), (got, n, state) in zip(
        steps, node([["edited", first, steps]])[0], strict=True
    ):
        for where in [0, 1] if layer == "both" else [int(layer) - 1]:
            for i, j in cells:
                masks[where, i, j] = value
        assert got == masks.tolist()
        counted = [c for name in SETS for c in state[name]]
        assert len(counted) == len(set(counted)) == n
        assert (masks != causal.matrix(T).numpy()).any(0).sum() == n


def test_edits_stay_with_their_mask_and_length():
    state = start() | {"flips": [3, 7]}
    (there,) = node([["moved", state, {"preset": "window", "n": 3}]])
    away = state | there
    assert away["flips"] == []
    edited = away | {"flips": [1]}
    (again,) = node([["moved", edited, {"preset": "causal", "n": 1}]])
    back = edited | again
    assert back["flips"] == [3, 7]
    (shorter,) = node([["moved", back, {"tokens": TOKENS[:4]}]])
    assert shorter["flips"] == []
    (longer,) = node([["moved", back | shorter, {"tokens": TOKENS}]])
    assert longer["flips"] == [3, 7]
    # Neither mask nor length: nothing moves.
    assert node([["moved", state, {"row": 1}]]) == [{"row": 1}]
    assert node([["moved", state, {"tokens": list("abcdef")}]])[0].keys() == {"tokens"}


def test_what_was_done_is_undone_and_done_again():
    zero = start() | {"n": 0}
    steps = [
        ["start", zero], ["a", {"n": 1}], ["b", {"n": 2}], ["undo"], ["undo"], ["undo"],
        ["redo"], ["redo"], ["redo"], ["undo"], ["c", {"n": 5}], ["redo"],
        ["row", {"row": 0}], ["undo"],
    ]  # fmt: skip
    found = node([["walked", steps]])[0]
    assert found == [
        [1, [1, 0]], [2, [2, 0]], [1, [1, 1]], [0, [0, 2]], [0, [0, 2]],
        [1, [1, 1]], [2, [2, 0]], [2, [2, 0]], [1, [1, 1]], [5, [2, 0]], [5, [2, 0]],
        [5, [2, 0]], [1, [1, 1]],
    ]  # fmt: skip


def test_a_stroke_is_one_step_and_the_oldest_steps_go():
    zero = start() | {"n": 0}
    strokes = [["p", {"n": n}, "stroke 1"] for n in (1, 2, 3)]
    found = node([["walked", [["start", zero], *strokes, ["undo"], ["redo"]]]])[0]
    assert [n for n, _ in found] == [1, 2, 3, 0, 3]
    many = [["p", {"n": n}] for n in range(1, 7)]
    found = node([["walked", [["start", zero], *many, *[["undo"]] * 5]]])[0]
    assert [n for n, _ in found][-5:] == [5, 4, 3, 3, 3]  # three are kept


def test_a_link_holds_what_the_model_reads_and_all_that_is_set():
    rng = np.random.default_rng(2)
    words = start("w=model")["tokens"][1:]
    base = start("w=model")
    wanted = []
    for _ in range(60):
        T = int(rng.integers(2, 49))
        tokens = ["<start>", *(str(w) for w in rng.choice(words, size=T - 1))]
        cells = rng.permutation(T * T)[: int(rng.integers(0, T * T + 1))]
        parts = np.split(cells, sorted(rng.integers(0, len(cells) + 1, size=2)))
        rest = {
            "tokens": tokens, "preset": "window", "n": int(rng.integers(1, T + 1)),
            "temperature": int(rng.integers(2, 41)) / 10, "row": int(rng.integers(T)),
            "layer": str(rng.choice(["both", "1", "2"])), "head": int(rng.integers(4)),
            "seed": int(rng.integers(100)), "cached": bool(rng.integers(2)),
            "goal": int(rng.integers(7)),
        }  # fmt: skip
        edits = {
            name: sorted(int(c) for c in part)
            for name, part in zip(SETS, parts, strict=True)
        }
        wanted.append(base | rest | edits)
    links = node([["there", state, config()] for state in wanted])
    assert all(link.startswith("w=model&") for link in links)
    found = node([["visit", link, config()] for link in links])
    for state, seen in zip(wanted, found, strict=True):
        assert seen["state"] == state
    assert node([["there", base, config()]]) == ["w=model"]


@pytest.mark.parametrize(
    "address",
    [
        "w=model&s=%20",
        "w=model&s=" + "tom+" * 300,
        "w=model&x=5-2.0-99999.7-8&x1=7.8.9&x2=-1",
        "w=model&layer=3&head=9&seed=-1&goal=77&cache=maybe",
        "w=constructor&x=3-5",
    ],
)
def test_a_spoilt_link_gives_a_sound_state(address):
    (seen,) = node([["visit", address, config()]])
    state = seen["state"]
    T = len(state["tokens"])
    assert T <= 48
    counted = [c for name in SETS for c in state[name]]
    assert len(counted) == len(set(counted))
    assert all(0 <= c < T * T for c in counted)
    assert state["layer"] in ("both", "1", "2")
    assert 0 <= state["head"] <= 3
    assert 0 <= state["goal"] <= 6
    (again,) = node([["visit", seen["again"], config()]])
    assert again["state"] == state


def test_a_link_of_the_first_edition_says_what_it_said():
    """Its words were the sentence, the mask, cells, temperature, view and step."""
    link = "s=the+cat+sat&m=window&n=2&x=0.5&t=0.5&late=true&show=rule&row=1&step=2"
    (seen,) = node([["visit", link, config()]])
    state = seen["state"]
    assert state["tokens"] == ["the", "cat", "sat"]
    expected = (causal & window(2)).matrix(3)
    expected[0, 0] ^= True
    expected[1, 2] ^= True
    assert seen["allowed"] == expected.tolist()
    assert (state["mode"], state["temperature"], state["late"]) == ("hash", 0.5, True)
    assert (state["view"], state["row"], state["step"]) == ("rule", 1, 2)
