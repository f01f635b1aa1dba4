"""The playground in a real browser: every control, by mouse and by keyboard.

Each walk is made on a wide page and on a phone, in light and in dark, and
what the page shows is compared with what mattn computes.
"""

from __future__ import annotations

import math
import re

import pytest
import torch
from browsers import HANGS_OUT, WIDE
from played import LOOKS, TOKENS, T, matrix
from playground_states import states

from mattn import attention, causal, full, masked_softmax, padding, prefix, window
from mattn.checks import same
from mattn.masks import documents
from mattn.playground import playground, project

PRESETS = {
    "full": full,
    "window": causal & window(3),
    "prefix": causal | prefix(2),
    "padding": causal & padding([4]),
    "documents": causal & documents([0, 0, 0, 1, 1, 1]),
    "causal": causal,
}


# Long because: it is one walk, and each step starts from what the last one left.
@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_by_mouse(opened, viewport, scheme) -> None:
    play = opened(look=(viewport, scheme))
    play.shows(matrix(causal))
    assert play.sums == ["1.00"] * T

    # One cell: allow, block again; the row of the cell is the one worked out.
    changed = matrix(causal).clone()
    changed[1, 3] = True
    play.cell(1, 3).click()
    play.shows(changed)
    assert f"now sees key 3 “{TOKENS[3]}”" in play.says
    assert play.rule == "causal, 1 cell changed"
    assert f"Query 1 “{TOKENS[1]}”" in play.find(".work caption").inner_text()
    play.cell(1, 3).click()
    play.shows(matrix(causal))
    assert "no longer sees" in play.says

    # A row without a change.
    play.find(".grid tbody th").nth(4).click()
    play.shows(matrix(causal))
    assert f"Query 4 “{TOKENS[4]}”" in play.find(".work caption").inner_text()
    assert play.find("tr.chosen").count() == 1

    for name, rule in PRESETS.items():
        play.find(f"input[value={name}]").check()
        play.shows(matrix(rule))
        assert play.find(".number").is_visible() == (name not in ("full", "causal"))
    play.find("input[value=window]").check()
    play.find(".number input").fill("1")
    play.shows(matrix(causal & window(1)))
    assert play.rule == "causal & window(1)"

    play.find("input[value=rule]").check()
    assert play.cells()[1][1] == "✓"
    play.find("input[value=scores]").check()
    q, k, _ = project(TOKENS).values()
    assert play.cells()[2][2] == f"{(q @ k.T / 2)[2, 2]:.2f}".replace("-", "−")
    assert play.cells()[2][1] == "−∞"
    play.find("input[value=weights]").check()

    play.find("input[value=causal]").check()
    play.find("input[type=range]").fill("0.5")
    expected = masked_softmax(q @ k.T / 2 / 0.5, matrix(causal))
    same(play.weights, expected, atol=0.005 + 1e-9)
    play.find("[data-do=reset]").click()
    play.shows(matrix(causal))

    play.find(".switch").click()
    expected = (q @ k.T / 2).softmax(-1) * matrix(causal)
    same(play.weights, expected, atol=0.005 + 1e-9)
    assert "rows 0, 1, 2, 3 and 4 no longer sum to 1" in play.says
    assert play.find(".sum.wrong").count() == 5
    assert play.sums == [f"{x:.2f}" for x in expected.sum(-1)]
    play.find("[data-do=audit]").click()
    assert f"Leak: token 5 “{TOKENS[5]}”" in play.says
    assert "past the mask" in play.says
    assert play.find(".mark.leak").count() == 5
    play.find("[data-do=reset]").click()
    assert play.find(".mark.leak").count() == 0
    assert play.says == "As at the start."
    play.shows(matrix(causal))

    assert play.page.evaluate(HANGS_OUT) == []


# Long because: it is one walk, and each step starts from what the last one left.
@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_by_keyboard(opened, viewport, scheme) -> None:
    play = opened(look=(viewport, scheme))
    play.press("Tab")
    play.press("Control+a")
    play.page.keyboard.type("a b c d")
    play.shows(causal.matrix(4), list("abcd"))
    play.press("Control+a")
    play.page.keyboard.type(" ".join(TOKENS))
    play.shows(matrix(causal))

    play.press("Tab")
    assert play.focused == "causal"
    play.press("ArrowRight", "ArrowRight")
    assert play.focused == "window"
    play.shows(matrix(causal & window(3)))
    play.press("Tab", "ArrowDown")  # the number of keys
    play.shows(matrix(causal & window(2)))

    play.press("Tab", "ArrowRight")  # views
    assert play.focused == "scores"
    assert play.cells()[0][1] == "−∞"
    play.press("ArrowLeft", "Tab", "ArrowRight")  # temperature
    assert play.find(".now").inner_text() == "1.1"
    play.press("Tab", "Space")  # zero after softmax
    assert play.find(".sum.wrong").count() > 0
    play.press("Tab")
    assert play.focused == "undo"
    play.press("Tab", "Tab", "Enter")
    assert play.focused == "audit"
    assert play.says.startswith("Leak")
    play.press("Tab", "Enter")
    assert play.focused == "reset"
    play.shows(matrix(causal))
    play.press("Tab")
    assert play.focused == "copy"
    play.press("Tab", "Tab", "Tab")
    assert play.focused == "keys"

    play.press("Tab")  # one stop for the whole matrix
    assert play.focused == "2,0"
    play.press("End", "ArrowDown", "ArrowLeft")
    assert play.focused == "3,4"
    play.press("Space")
    changed = matrix(causal).clone()
    changed[3, 4] = True
    play.shows(changed)
    assert play.focused == "3,4"
    play.press("Enter")
    play.shows(matrix(causal))
    play.press("Control+End")
    assert play.focused == "5,5"
    play.press("ArrowRight", "ArrowDown")  # not over the edge
    assert play.focused == "5,5"
    play.press("Control+Home", "ArrowUp")
    assert play.focused == "0,0"
    assert "Query 0" in play.find(".work caption").inner_text()

    play.press("Tab")
    assert play.focused == "summary"
    play.press("Enter")
    assert play.find(".decoding").get_attribute("open") is not None
    play.press("Tab", "Tab", "Tab", "Enter", "Enter")
    assert play.focused == "next"
    assert play.says.startswith("Step 3 of 6")
    play.press("Shift+Tab", "Enter")
    assert play.says.startswith("Step 2 of 6")
    play.press("Shift+Tab", "Enter")
    assert play.says.startswith("Step 1 of 6")
    play.press("Shift+Tab", "Space")
    assert play.find(".decoding").get_attribute("open") is None
    play.shows(matrix(causal))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_what_has_the_focus_is_outlined(opened, scheme) -> None:
    play = opened(look=(WIDE, scheme))
    seen = set()
    for _ in range(10):
        play.press("Tab")
        seen.add(play.focused)
        # A radio button lies invisible over its label, which is outlined.
        outlined = play.page.evaluate(
            """() => {
              const e = document.activeElement.shadowRoot.activeElement;
              return [e, e.nextElementSibling].some(
                x => x && getComputedStyle(x).outlineStyle === 'solid');
            }"""
        )
        assert outlined, play.focused
    assert len(seen) == 10


def test_the_numbers_in_the_browser_are_mattns(opened) -> None:
    play = opened()
    chosen = [state["problem"] for state in states()[:60]]
    rows = play.page.evaluate(
        """problems => problems.map(
          p => mattnPlayground.attention(p).map(r => [r.weights, r.out]))""",
        chosen,
    )
    for problem, got in zip(chosen, rows, strict=True):
        q, k, v = (torch.tensor(problem[n], dtype=torch.float64) for n in "qkv")
        q, allowed = q / problem["temperature"], torch.tensor(problem["allowed"])
        if problem["late"]:
            weights = (q @ k.T / math.sqrt(q.shape[1])).softmax(-1) * allowed
            out = weights @ v
        else:
            out, weights = attention(q, k, v, allowed)
        for n, expected in enumerate((weights, out)):
            same(torch.tensor([row[n] for row in got]), expected.float(), atol=1e-6)


def test_an_empty_row_has_four_answers(opened) -> None:
    play = opened()
    play.cell(0, 0).click()
    assert "nothing: an empty row" in play.says
    lines = play.find(".work tbody tr").all_inner_texts()
    assert len(lines) == T
    q, k, _ = project(TOKENS).values()
    unmasked = (q @ k.T / 2).softmax(-1)[0]
    for line, added in zip(lines, unmasked, strict=True):
        *_, infinite, filled, shifted, ours = line.split("\t")
        assert (infinite, filled, ours.strip()) == ("NaN", "0.17", "0.00")
        assert shifted == f"{added:.2f}"
    assert play.sums[0] == "0.00"


def test_the_worked_row_adds_up(opened) -> None:
    play = opened(playground(TOKENS, query=3))
    rows = [line.split("\t") for line in play.find(".work tbody tr").all_inner_texts()]
    q, k, v = project(TOKENS).values()
    scores = (q @ k.T / 2)[3]
    e = (scores[:4] - scores[:4].max()).exp()
    for j, (_, score, masked, exp, weight) in enumerate(rows):
        assert score == f"{scores[j]:.3f}".replace("-", "−")
        assert masked == (score if j <= 3 else "−∞")
        assert exp == (f"{e[j]:.3f}" if j <= 3 else "0.000")
        assert weight.strip() == (f"{e[j] / e.sum():.3f}" if j <= 3 else "0.000")
    foot = play.find(".work tfoot tr").inner_text().split("\t")
    assert [foot[0], *foot[-2:]] == ["sum", f"{e.sum():.3f}", "1.000"]
    out = attention(q, k, v, causal)[0][3]
    numbers = re.findall(r"−?\d\.\d\d", play.find(".out").inner_text())
    assert numbers == [f"{x:.2f}".replace("-", "−") for x in out]


@pytest.mark.parametrize("spaced", ["0", "0.05em", "0.12em"])
def test_the_worked_row_is_not_cut(opened, spaced: str) -> None:
    """Also in wide letters; where no room is left, it scrolls by keyboard too."""
    style = f"<style>body {{ letter-spacing: {spaced} }}</style>"
    cut = "box => box.scrollWidth > box.clientWidth"
    play = opened(body=style)
    for preset in ("causal", "full"):
        play.find(f"input[value={preset}]").check()
        assert not play.find(".work .scroll").evaluate(cut)
    narrow = opened(look=({"width": 240, "height": 844}, "light"), body=style)
    for box in (play.find(".work .scroll"), narrow.find(".work .scroll")):
        assert box.evaluate("box => box.tabIndex === 0") == box.evaluate(cut)
    assert narrow.find(".work .scroll").evaluate(cut)


def test_the_audit_names_the_output_that_moved(opened) -> None:
    play = opened()
    play.find("[data-do=audit]").click()
    assert play.says.startswith("No leak")
    marks = play.find("tbody .mark").all_text_contents()
    assert [m[0] for m in marks] == list("=====•")
    play.cell(1, 3).click()
    assert play.find("tbody .mark").all_text_contents() == [""] * T  # of another mask
    play.find("[data-do=audit]").click()
    assert "token 3 “the” was changed" in play.says
    assert "the mask shows it to output 1" in play.says
    marks = play.find("tbody .mark").all_text_contents()
    assert [m[0] for m in marks] == list("=✕=•••")
    assert play.find("th.changed").count() == 2  # its row and its column


def test_decoding_fills_the_cache_and_counts(opened) -> None:
    play = opened()
    play.find(".decoding summary").click()
    for t in range(1, T + 1):
        assert play.says.startswith(f"Step {t} of {T}")
        shown = play.find(".later").count()
        assert shown == T * T - t * (t + 1) // 2
        filled = [
            "–" not in line for line in play.find(".cache tbody tr").all_inner_texts()
        ]
        assert filled == [i < t for i in range(T)]
        counts = [
            int(n.replace(" ", ""))
            for line in play.find(".count tbody tr").all_inner_texts()
            for n in line.split("\t")[1:]
        ]
        cached = [48 + 8 * n for n in range(1, t + 1)]
        anew = [48 * n + 8 * n * n for n in range(1, t + 1)]
        assert counts == [cached[-1], sum(cached), anew[-1], sum(anew)]
        assert " of the whole matrix." in play.find(".decoding .note").inner_text()
        if t < T:
            play.find("[data-do=next]").click()
    assert play.find("[data-do=next]").get_attribute("aria-disabled") == "true"
    play.find("input[value=full]").check()
    assert "Outputs 0, 1, 2, 3 and 4 are not those" in (
        play.find(".decoding .note").inner_text()
    )
