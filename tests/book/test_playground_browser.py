"""The playground in a real browser: every control, by mouse and by keyboard.

Each walk is made on a wide page and on a phone, in light and in dark, and
what the page shows is compared with what mattn computes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from browsers import BUILT, HANGS_OUT, NARROW, WIDE
from playground_states import states

from mattn import attention, causal, full, masked_softmax, padding, prefix, window
from mattn.checks import same
from mattn.masks import documents
from mattn.playground import playground, project

TOKENS = ["the", "cat", "sat", "on", "the", "mat"]
T = len(TOKENS)
LOOKS = [
    pytest.param(WIDE, "light", id="1280-light"),
    pytest.param(WIDE, "dark", id="1280-dark"),
    pytest.param(NARROW, "light", id="390-light"),
    pytest.param(NARROW, "dark", id="390-dark"),
]
GROUND = {"light": ("#222", "#fff"), "dark": ("#ced6dd", "#121212")}


class Play:
    """One playground on a page of its own, read as a reader reads it."""

    def __init__(self, page, errors: list[str], asked: list[str]) -> None:
        self.page, self.errors, self.asked = page, errors, asked

    def find(self, selector: str):
        return self.page.locator(f".mattn-playground {selector}")

    @property
    def says(self) -> str:
        return self.find("[role=status]").inner_text()

    @property
    def rule(self) -> str:
        return self.find(".rule").inner_text()

    def cell(self, i: int, j: int):
        return self.find(f'[data-cell="{i},{j}"]')

    def cells(self, what: str = "textContent") -> list[list[str]]:
        flat = self.find("[data-cell]").evaluate_all(
            f"cells => cells.map(c => c.{what})"
        )
        n = math.isqrt(len(flat))
        return [flat[n * i : n * i + n] for i in range(n)]

    @property
    def allowed(self) -> torch.Tensor:
        return torch.tensor(
            [[": allowed" in s for s in row] for row in self.cells("ariaLabel")]
        )

    @property
    def weights(self) -> torch.Tensor:
        return torch.tensor(
            [[float(s.replace("−", "-") or 0) for s in row] for row in self.cells()],
            dtype=torch.float64,
        )

    @property
    def sums(self) -> list[str]:
        return self.find(".sum").all_inner_texts()

    @property
    def focused(self) -> str:
        return self.page.evaluate(
            """() => {
              const e = document.activeElement?.shadowRoot?.activeElement;
              return e?.dataset.cell ?? e?.dataset.do ?? e?.value ?? e?.localName ?? '';
            }"""
        )

    def shows(self, mask: torch.Tensor, tokens: list[str] = TOKENS) -> None:
        """The weights on the page are mattn's, to the two digits printed."""
        assert self.allowed.equal(mask)
        expected = attention(*project(tokens).values(), mask)[1]
        same(self.weights, expected, atol=0.005 + 1e-9)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


@pytest.fixture
def opened(chrome, tmp_path: Path) -> Iterator[Callable[..., Play]]:
    contexts, plays = [], []

    def open_(
        made=None, look=(WIDE, "light"), *, body: str = "", address: str = "", **options
    ) -> Play:
        viewport, scheme = look
        ink, paper = GROUND[scheme]
        made = playground(TOKENS) if made is None else made
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(
            f'<!DOCTYPE html><html lang="en" data-theme="{scheme}"><meta '
            'charset="utf-8"><meta name="viewport" content="width=device-width"><title>'
            f"A page</title><style>body {{ color: {ink}; background: {paper}; "
            "max-width: 43rem; margin: 1rem auto; padding: 0 0.5rem; font-family: "
            f"sans-serif }}</style><body>{body}<article>{made._repr_html_()}</article>",
            encoding="utf-8",
        )
        context = chrome.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        errors: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda m: m.type == "error" and errors.append(m.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri() + address)
        plays.append(Play(page, errors, asked))
        return plays[-1]

    yield open_
    for play in plays:
        assert play.errors == []
        assert [url for url in play.asked if not url.startswith("file:")] == []
    for context in contexts:
        context.close()


def matrix(rule) -> torch.Tensor:
    return rule.matrix(T).reshape(T, T)


PRESETS = {
    "full": full,
    "window": causal & window(3),
    "prefix": causal | prefix(2),
    "padding": causal & padding([4]),
    "documents": causal & documents([0, 0, 0, 1, 1, 1]),
    "causal": causal,
}


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
    assert "now sees key 3 “on”" in play.says
    assert play.rule == "causal, 1 cell changed"
    assert "Query 1 “cat”" in play.find(".work caption").inner_text()
    play.cell(1, 3).click()
    play.shows(matrix(causal))
    assert "no longer sees" in play.says

    # A row without a change.
    play.find(".grid tbody th").nth(4).click()
    play.shows(matrix(causal))
    assert "Query 4 “the”" in play.find(".work caption").inner_text()
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
    assert "Leak: token 5 “mat”" in play.says
    assert "past the mask" in play.says
    assert play.find(".mark.leak").count() == 5
    play.find("[data-do=reset]").click()
    assert play.find(".mark.leak").count() == 0
    assert play.says == "As at the start."
    play.shows(matrix(causal))

    assert play.page.evaluate(HANGS_OUT) == []


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
    play.press("Tab", "Enter")
    assert play.focused == "audit"
    assert play.says.startswith("Leak")
    play.press("Tab", "Enter")
    assert play.focused == "reset"
    play.shows(matrix(causal))
    play.press("Tab")
    assert play.focused == "copy"

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
    assert play.find("details").get_attribute("open") is not None
    play.press("Tab", "Tab", "Tab", "Enter", "Enter")
    assert play.focused == "next"
    assert play.says.startswith("Step 3 of 6")
    play.press("Shift+Tab", "Enter")
    assert play.says.startswith("Step 2 of 6")
    play.press("Shift+Tab", "Enter")
    assert play.says.startswith("Step 1 of 6")
    play.press("Shift+Tab", "Space")
    assert play.find("details").get_attribute("open") is None
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
    assert "token 3 “on” was changed" in play.says
    assert "the mask shows it to output 1" in play.says
    marks = play.find("tbody .mark").all_text_contents()
    assert [m[0] for m in marks] == list("=✕=•••")
    assert play.find("th.changed").count() == 2  # its row and its column


def test_decoding_fills_the_cache_and_counts(opened) -> None:
    play = opened()
    play.find("summary").click()
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
        assert " of the whole matrix." in play.find("details .note").inner_text()
        if t < T:
            play.find("[data-do=next]").click()
    assert play.find("[data-do=next]").get_attribute("aria-disabled") == "true"
    play.find("input[value=full]").check()
    assert "Outputs 0, 1, 2, 3 and 4 are not those" in (
        play.find("details .note").inner_text()
    )


def test_an_address_brings_the_state_back(opened) -> None:
    play = opened()
    play.find("input[value=prefix]").check()
    play.cell(0, 4).click()
    play.find(".switch").click()
    play.find(".sentence input").fill("one two three four five six")
    play.page.wait_for_function("location.hash.includes('three')")
    before = play.cells("ariaLabel")
    page = play.page.context.new_page()
    page.goto(play.page.url)
    again = Play(page, play.errors, play.asked)
    assert again.cells("ariaLabel") == before
    assert again.rule == "causal | prefix(2), 1 cell changed"
    assert again.find(".switch input").is_checked()
    # Another address in the same page; and back at the start none is needed.
    name = page.locator(".mattn-playground").get_attribute("id")
    page.evaluate(f"location.hash = '#{name}&m=full&audit=true'")
    page.wait_for_function("location.hash.includes('full')")
    again.page.wait_for_timeout(50)
    assert again.allowed.all()
    assert again.says.startswith("Leak")
    again.find("[data-do=reset]").click()
    page.wait_for_function("location.hash === ''")


def test_a_link_is_copied_or_its_place_named(opened) -> None:
    play = opened()
    play.find("input[value=full]").check()
    play.find("[data-do=copy]").click()
    assert "m=full" in play.page.url
    play.page.wait_for_function(
        """() => /this state/.test(document.querySelector('.mattn-playground')
          .shadowRoot.querySelector('[role=status]').textContent)"""
    )


def test_a_notebook_keeps_its_address(opened) -> None:
    body = '<script id="jupyter-config-data" type="application/json">{}</script>'
    play = opened(body=body)
    play.find("input[value=full]").check()
    play.page.wait_for_timeout(300)
    assert "#" not in play.page.url
    assert not play.find("[data-do=copy]").is_visible()
    host = play.page.locator(".mattn-playground")
    assert host.get_attribute("data-lm-suppress-shortcuts") == "true"


def test_sentences_of_any_kind(opened) -> None:
    play = opened(look=(NARROW, "light"))
    words = "<b>x</b> & naïve 注意力 🙂 extraordinarily long a b c d e"
    play.find(".sentence input").fill(words)
    tokens = words.split()[:10]
    play.shows(causal.matrix(10), tokens)
    assert "Only the first 10 count" in play.says
    assert play.find("section b >> text=<b>x</b>").count() == 2  # as text
    assert play.page.evaluate(HANGS_OUT) == []
    play.find(".sentence input").fill("   ")
    assert "at least one token" in play.says
    play.shows(causal.matrix(10), tokens)
    play.find(".sentence input").fill("alone")
    play.shows(causal.matrix(1), ["alone"])
    play.find("[data-do=audit]").click()
    assert "One token" in play.says


def test_own_matrices_fix_the_sentence(opened) -> None:
    q, k, v = torch.randn(3, 4, 6, dtype=torch.float64)
    play = opened(playground("a b c d", causal & window(2), q=q, k=k, v=v))
    assert play.find(".sentence input").get_attribute("readonly") is not None
    assert play.rule == "causal & window(2)"
    expected = attention(q, k, v, causal & window(2))[1]
    same(play.weights, expected, atol=0.005 + 1e-6)


def test_two_on_a_page_do_not_meddle(opened) -> None:
    second = playground("a b c")._repr_html_()
    play = opened(body=second)
    assert play.page.locator(".mattn-playground").count() == 2
    play.page.locator(".mattn-playground input[value=full]").nth(0).check()
    checked = play.page.locator(".mattn-playground input[value=causal]").nth(1)
    assert checked.is_checked()
    assert play.find(".rule").all_inner_texts() == ["full", "causal"]


def test_names_roles_and_the_live_region(opened) -> None:
    play = opened()
    page = play.page
    assert page.get_by_role("region", name="Mask playground").count() == 1
    assert page.get_by_role("grid", name=re.compile("^Weights")).count() == 1
    assert page.get_by_role("gridcell").count() >= T * T
    cell = page.get_by_role("gridcell", name="query 1 “cat”, key 0 “the”: allowed")
    assert cell.count() == 1
    assert page.get_by_role("columnheader").count() >= T
    assert page.get_by_role("rowheader").count() >= T
    assert page.get_by_role("textbox", name=re.compile("^Sentence")).count() == 1
    assert page.get_by_role("group", name="Mask").get_by_role("radio").count() == 6
    assert page.get_by_role("slider", name=re.compile("^Temperature")).count() == 1
    assert page.get_by_role("checkbox", name="zero after softmax").count() == 1
    assert play.find("[role=status]").get_attribute("aria-live") == "polite"
    stops = play.find(".grid [tabindex='0']").count()
    assert stops == 1


def test_the_theme_is_followed_while_the_page_is_open(opened) -> None:
    play = opened(look=(WIDE, "light"))
    host = play.page.locator(".mattn-playground")
    assert host.get_attribute("data-dark") is None
    play.page.evaluate(
        """() => {
          document.body.style.color = '#ddd';
          document.body.style.background = '#111';
        }"""
    )
    play.page.wait_for_function(
        "document.querySelector('.mattn-playground').hasAttribute('data-dark')"
    )
    # The colours with a meaning stay what they are.
    blue = play.find(".pills input:checked + span").first
    assert blue.evaluate("e => getComputedStyle(e).backgroundColor") == (
        "rgb(0, 114, 178)"
    )
    blocked = play.cell(0, 5).evaluate("e => getComputedStyle(e).backgroundColor")
    assert blocked == "rgb(217, 217, 217)"


def test_nothing_moves_for_who_wants_no_motion(opened) -> None:
    for motion, expected in (("reduce", "0s"), ("no-preference", "0.15s, 0.15s")):
        play = opened(reduced_motion=motion)
        lasts = play.cell(0, 0).evaluate("e => getComputedStyle(e).transitionDuration")
        assert lasts == expected


def test_on_paper(opened) -> None:
    play = opened(look=(WIDE, "dark"))
    play.page.emulate_media(media="print")
    assert not play.find(".controls").is_visible()
    assert not play.find("[data-do=audit]").is_visible()
    assert play.find(".grid").is_visible()
    assert play.find(".work").is_visible()
    style = play.find("section").evaluate(
        "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    )
    assert style == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
    exact = play.cell(0, 5).evaluate("e => getComputedStyle(e).printColorAdjust")
    assert exact == "exact"
    assert play.page.pdf().startswith(b"%PDF")


def test_without_scripts_there_is_a_table(opened) -> None:
    made = playground(TOKENS)
    play = opened(made, java_script_enabled=False)
    text = play.page.locator("table").inner_text()
    assert "With scripts this table is a playground" in text
    for weight in made.weights[made.allowed].tolist():
        assert f"{weight:.2f}" in text
    assert play.page.locator("table").is_visible()


def test_the_table_gives_way_to_the_playground(opened) -> None:
    play = opened()
    assert not play.page.locator("table.dataframe").is_visible()


@pytest.mark.parametrize("name", ["playground", "02_mask_matrix", "04_softmax"])
def test_pages_of_the_book_share_one_script(browser, name: str) -> None:
    if not (BUILT / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    file = BUILT / "chapters" / f"{name}.html"
    source = file.read_text(encoding="utf-8")
    assert source.count("_static/playground.js") == 1
    assert "mattnPlayground" not in source
    context = browser.new_context(viewport=WIDE, color_scheme="dark")
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector(".mattn-playground [role=grid]")
    host = page.locator(".mattn-playground")
    assert host.get_attribute("data-dark") is not None
    # No white plate under it, as figures have.
    plate = host.evaluate("e => getComputedStyle(e.parentElement).backgroundColor")
    assert plate == "rgba(0, 0, 0, 0)"
    context.close()
