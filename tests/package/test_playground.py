"""The playground's arithmetic is mattn's, on random states, in Node.

The script of the page is one file; Node, which comes with Playwright, reads
its arithmetic as a module. Python asks, Node computes, Python compares.
"""

from __future__ import annotations

import gzip
import json
import math
import re

import matplotlib
import numpy as np
import pytest
import torch
from bs4 import BeautifulSoup
from nodes import node
from playground_states import WORDS, states

import mattn
from mattn import (
    attention,
    causal,
    documents,
    full,
    masked_softmax,
    padding,
    prefix,
    window,
)
from mattn.checks import same
from mattn.playground import embed, playground, project, script
from mattn.plotting.style import WEIGHTS
from mattn.toy import TOKENS

RULES = {
    "causal": lambda T, n: causal,
    "full": lambda T, n: full,
    "window": lambda T, n: causal & window(n),
    "prefix": lambda T, n: causal | prefix(n),
    "padding": lambda T, n: causal & padding([n]),
    "documents": lambda T, n: causal & documents([int(i >= n) for i in range(T)]),
}
SIZES = range(1, 11)


def matrix(name: str, T: int, n: int) -> torch.Tensor:
    return RULES[name](T, n).matrix(T).reshape(T, T)


def number(value: str | float) -> float:
    return float(str(value).replace("Infinity", "inf"))


def tensor(values: list) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def parts(problem: dict) -> tuple[torch.Tensor, ...]:
    q, k, v = (tensor(problem[name]) for name in "qkv")
    return q / problem["temperature"], k, v, torch.tensor(problem["allowed"])


def test_an_embedding_is_the_same_in_both_languages():
    got = node([["embed", word] for word in WORDS])
    assert got == embed(WORDS).tolist()
    assert len({tuple(row) for row in got}) == len(WORDS)
    assert {abs(x) for row in got for x in row} <= {0, 0.5, 1, 1.5}
    (got,) = node([["project", WORDS]])
    assert got == {name: t.tolist() for name, t in project(WORDS).items()}


def test_presets_are_mattns_rules_for_every_size_and_number():
    cases = [(name, T, n) for name in RULES for T in SIZES for n in range(1, T + 1)]
    drawn = node([["matrix", *case] for case in cases])
    named = node([["expression", *case] for case in cases])
    names = vars(mattn)
    for case, got, expression in zip(cases, drawn, named, strict=True):
        assert got == matrix(*case).tolist(), case
        # What the page calls the rule is Python for it.
        T = case[1]
        assert eval(expression, dict(names)).matrix(T).reshape(T, T).tolist() == got


def test_scores_weights_and_outputs_are_mattns():
    for state, rows in zip(
        states(), node([["attention", s["problem"]] for s in states()]), strict=True
    ):
        q, k, v, allowed = parts(state["problem"])
        scores = q @ k.T / math.sqrt(q.shape[1])
        if state["problem"]["late"]:
            weights = scores.softmax(dim=-1) * allowed
            out = weights @ v
        else:
            out, weights = attention(q, k, v, allowed)
        for name, expected in (("scores", scores), ("weights", weights), ("out", out)):
            same(tensor([row[name] for row in rows]), expected, atol=1e-6)


def test_rows_sum_to_one_and_blocked_is_exactly_zero():
    for state, rows in zip(
        states(), node([["attention", s["problem"]] for s in states()]), strict=True
    ):
        for row, allowed in zip(rows, state["problem"]["allowed"], strict=True):
            blocked = [w for w, a in zip(row["weights"], allowed, strict=True) if not a]
            assert all(w == 0 for w in blocked)
            assert all(w >= 0 for w in row["weights"])
            if not any(allowed):
                assert row["out"] == [0] * len(row["out"])
            elif not state["problem"]["late"]:
                assert sum(row["weights"]) == pytest.approx(1, abs=1e-12)
            elif not all(allowed):
                assert sum(row["weights"]) < 1


def test_an_empty_row_has_four_answers():
    scores = [[0.5, -1.0, 2.0], [3.0], [-0.25] * 10]
    for s, got in zip(scores, node([["emptyRow", s] for s in scores]), strict=True):
        row = tensor(s)
        nothing = torch.zeros(len(s), dtype=torch.bool)
        answers = {
            "infinite": (row - torch.inf).softmax(0),
            "filled": row.masked_fill(~nothing, -1e9).softmax(0),
            "added": (row - 1e4).softmax(0),
            "mattn": masked_softmax(row[None], nothing[None])[0],
        }
        for name, expected in answers.items():
            values = tensor([number(x) for x in got[name]])
            torch.testing.assert_close(
                values, expected, equal_nan=True, atol=1e-6, rtol=0
            )
        assert all(number(x) != number(x) for x in got["infinite"])
        same(answers["added"], row.softmax(0))


def test_decoding_gives_each_query_the_keys_so_far():
    for state, rows in zip(
        states(), node([["decode", s["problem"]] for s in states()]), strict=True
    ):
        q, k, v, allowed = parts(state["problem"])
        if state["problem"]["late"]:
            continue
        for i, row in enumerate(rows):
            seen = slice(i + 1)
            out, weights = attention(
                q[i : i + 1], k[seen], v[seen], allowed[i : i + 1, seen]
            )
            same(tensor([row["out"]]), out, atol=1e-6)
            same(tensor([row["weights"]]), weights, atol=1e-6)


def test_a_cache_changes_no_output_exactly_where_nothing_later_is_read():
    calls = [[name, s["problem"]] for s in states() for name in ("attention", "decode")]
    answers = node(calls)
    for n, state in enumerate(states()):
        whole, steps = answers[2 * n : 2 * n + 2]
        problem = state["problem"]
        for i, (a, b) in enumerate(zip(whole, steps, strict=True)):
            later = any(problem["allowed"][i][i + 1 :])
            if not later and not problem["late"]:
                assert a["out"] == b["out"]  # in every bit


def counted(T: int, D: int, Dv: int, width: int) -> int:
    """Multiplications of masked attention over ``T`` rows, one by one."""
    n = 0
    for _ in range(T):
        n += sum(1 for _ in range(width) for _ in range(D + D + Dv))  # to q, k, v
        for _ in range(T):
            n += sum(1 for _ in range(D))  # a score
            n += sum(1 for _ in range(Dv))  # weight times value
    return n


def test_multiplications_are_counted_one_by_one():
    cases = [
        (t, D, Dv, w) for t in (1, 2, 7) for D, Dv in ((4, 4), (3, 5)) for w in (0, 4)
    ]
    for (t, D, Dv, width), got in zip(
        cases, node([["multiplications", *case] for case in cases]), strict=True
    ):
        assert got["anew"] == counted(t, D, Dv, width)
        one_map = width * (D + D + Dv)
        assert got["cached"] == one_map + (counted(t, D, Dv, 0) // t)


def test_the_audit_finds_exactly_what_reads_a_later_token():
    calls = [["audited", s["problem"], s["tokens"], s["own"]] for s in states()]
    clean = 0
    for state, found in zip(states(), node(calls), strict=True):
        problem = state["problem"]
        allowed = np.array(problem["allowed"])
        T = len(allowed)
        if T == 1:
            assert found is None
            continue
        reads = allowed.copy()
        if problem["late"]:  # through the sum, every row that sees anything
            reads |= allowed.any(axis=1, keepdims=True)
        leaky = [j for j in range(T) if reads[:j, j].any()]
        token = max(leaky, default=T - 1)
        assert found["token"] == token
        assert found["leaks"] == np.flatnonzero(reads[:token, token]).tolist()
        clean += not leaky
    assert 10 < clean < 150  # both kinds were among them


def config(tokens: str = "a b c d", mask=causal, **more) -> dict:
    html = playground(tokens, mask, **more)._repr_html_()
    return json.loads(BeautifulSoup(html, "lxml").div["data-config"])


@pytest.mark.parametrize("name", RULES)
def test_a_rule_given_in_python_is_recognised(name):
    cases = [(T, n) for T in (1, 2, 5, 10) for n in range(1, T + 1)]
    given = [matrix(name, *case) for case in cases]
    starts = [config(" ".join("abcdefghij"[: len(m)]), m) for m in given]
    states = node([["initial", start] for start in starts])
    for (T, _), state, allowed in zip(cases, states, given, strict=True):
        assert state["flips"] == []
        assert matrix(state["preset"], T, state["n"]).equal(allowed)


def test_any_other_mask_is_causal_with_cells_changed():
    odd = ~causal.matrix(4)
    (seen,) = node([["visit", "", config(mask=odd)]])
    assert seen["allowed"] == odd.tolist()
    assert seen["state"]["preset"] == "causal"
    assert seen["again"] == ""


def test_an_address_holds_the_whole_state():
    rng = np.random.default_rng(1)
    start = config(" ".join(TOKENS))
    (first,) = node([["initial", start]])
    wanted = []
    for _ in range(100):
        T = int(rng.integers(1, 11))
        preset = str(rng.choice(list(RULES)))
        cells = rng.choice(T * T, size=rng.integers(0, T + 1), replace=False)
        wanted.append(
            first
            | {
                "tokens": [str(rng.choice(WORDS)) for _ in range(T)],
                "preset": preset,
                "n": 1 if preset in ("causal", "full") else int(rng.integers(1, T + 1)),
                "flips": sorted(int(c) for c in cells),
                "temperature": int(rng.integers(2, 41)) / 10,
                "late": bool(rng.integers(2)),
                "view": str(rng.choice(["weights", "scores", "rule"])),
                "row": int(rng.integers(T)),
                "step": int(rng.integers(T + 1)),
                "audit": bool(rng.integers(2)),
            }
        )
    addresses = node([["there", state, start] for state in wanted])
    for state, seen in zip(
        wanted, node([["visit", a, start] for a in addresses]), strict=True
    ):
        assert seen["state"] == state
    assert node([["there", first, start]]) == [""]


@pytest.mark.parametrize(
    "address",
    [
        "s=%20%20",
        "m=constructor&n=-1",
        "m=window&n=999",
        "n=1e3&x=a.b.99.-1.3.3",
        "t=99&row=77&step=-5",
        "t=0&late=perhaps&show=<script>",
        "s=" + "word+" * 500,
        "s=%ff&m=%00&x=" + "1." * 5000,
        "&&&=&==",
    ],
)
def test_a_spoilt_address_gives_a_sound_state(address):
    start = config()
    (seen,) = node([["visit", address, start]])
    state = seen["state"]
    T = len(state["tokens"])
    assert 1 <= T <= 10
    assert state["preset"] in RULES
    assert 1 <= state["n"] <= T
    assert state["flips"] == sorted(set(state["flips"]))
    assert all(0 <= c < T * T for c in state["flips"])
    assert 0.2 <= state["temperature"] <= 4
    assert 0 <= state["row"] < T
    assert 0 <= state["step"] <= T
    assert state["view"] in ("weights", "scores", "rule")
    (again,) = node([["visit", seen["again"], start]])
    assert again["state"] == state


def test_own_matrices_keep_their_sentence():
    q, k, v = torch.randn(3, 4, 5, dtype=torch.float64)
    own = config(q=q, k=k, v=v)
    (seen,) = node([["visit", "s=x+y&m=full", own]])
    assert seen["state"]["tokens"] == list("abcd")
    assert seen["state"]["preset"] == "full"


@pytest.mark.parametrize(
    ("stops", "colours_of"), [("HUE", WEIGHTS), ("PUOR", matplotlib.colormaps["PuOr"])]
)
def test_colours_are_those_of_the_figures(stops, colours_of):
    table = re.search(rf"const {stops} = \((.*?)\)", script(), re.DOTALL)[1]
    colours = re.findall(r"[0-9a-f]{6}", "".join(re.findall(r'"(\w+)"', table)))
    at = np.linspace(0, 1, 41)
    got = node([["colour", colours, float(x)] for x in at])
    for x, colour in zip(at, got, strict=True):
        rgb = np.array([int(c) for c in re.findall(r"\d+", colour["fill"])])
        expected = np.array(colours_of(x)[:3]) * 255
        assert np.abs(rgb - expected).max() < 6, (x, rgb, expected)
        # As in the figures, and readable: contrast of at least 4.5.
        assert contrast(rgb, 255 if colour["ink"] == "#fff" else 0) > 4.4


def contrast(rgb: np.ndarray, ink: int) -> float:
    def luminance(c):
        c = np.asarray(c) / 255
        c = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
        return c @ (0.2126, 0.7152, 0.0722)

    light, dark = sorted((luminance(rgb), luminance([ink] * 3)), reverse=True)
    return float((light + 0.05) / (dark + 0.05))


# --- The Python side ---


def test_the_html_is_the_same_every_time_and_differs_with_the_content():
    first, again = (playground("a b c")._repr_html_() for _ in range(2))
    assert first == again
    names = {
        BeautifulSoup(p._repr_html_(), "lxml").div["id"]
        for p in (
            playground("a b c"),
            playground("a b d"),
            playground("a b c", full),
            playground("a b c", query=1),
        )
    }
    assert len(names) == 4


def test_a_reader_without_scripts_has_mattns_weights_in_a_table():
    made = playground("the <b>cat</b> & mat", window(2) & causal)
    page = BeautifulSoup(made._repr_html_(), "lxml")
    assert page.find("b") is None
    rows = [
        [cell.get_text() for cell in row.find_all(["th", "td"])]
        for row in page.table.find_all("tr")
    ]
    assert rows[0][1:-1] == ["0 the", "1 <b>cat</b>", "2 &", "3 mat"]
    assert {th["scope"] for th in page.table.find_all("th")} == {"row", "col"}
    assert page.caption.get_text()
    expected = attention(*project(made.tokens).values(), causal & window(2))[1]
    same(made.weights, expected)
    for i, row in enumerate(rows[1:]):
        for j, text in enumerate(row[1:-1]):
            allowed = i - 2 < j <= i
            assert text == (f"{expected[i, j]:.2f}" if allowed else "–")
        assert row[-1] == "1.00"


def test_one_file_without_dependencies_that_fits_into_a_page():
    text = script()
    assert text.count("</script") == 0
    named = text.replace("http://www.w3.org/2000/svg", "")  # a name, not a place
    assert not re.search(
        r"(?m)^\s*import\b|require\(|https?:|//cdn|@import|url\((?!#)", named
    )
    assert len(text.encode()) < 110_000
    assert len(gzip.compress(text.encode())) < 36_000
    html = playground()._repr_html_()
    assert html.endswith(f"<script>\n{text}</script>")
    assert len(html.encode()) < 115_000


def test_repr_is_short():
    assert repr(playground("a b")) == "Playground('a b', 3 of 4 cells allowed)"


def test_own_matrices_are_taken_and_rounded():
    q, k, v = torch.randn(3, 4, 5)
    made = playground("a b c d", q=q, k=k, v=v)
    out, weights = attention(q, k, v, causal)
    same(made.out, out)
    same(made.weights, weights)
    arrays = playground("a b c d", causal.matrix(4).numpy(), q=q.numpy(), k=k, v=v)
    assert arrays._repr_html_() == made._repr_html_()
    own = config(q=q, k=k, v=v)["own"]
    assert all(round(x, 6) == x for row in own["q"] for x in row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": ""}, "expected 1 to 10 tokens"),
        ({"tokens": "a " * 11}, "expected 1 to 10 tokens"),
        ({"tokens": "a b", "query": 2}, "expected a query position from 0 to 1"),
        ({"tokens": "a b", "q": torch.zeros(2, 4)}, "all three of shape (2, features)"),
        (
            {"tokens": "a b", **dict.fromkeys("qkv", torch.full((2, 4), torch.nan))},
            "expected finite",
        ),
        (
            {"tokens": "a b", "mask": padding([1, 2])},
            "of shape (2, 2); got torch.bool (2, 2, 2)",
        ),
    ],
)
def test_errors_say_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        playground(**arguments)
