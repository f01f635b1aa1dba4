"""The widgets of the chapters: each shows what mattn computes, and its picture."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from accessibility import AXE
from browsers import HANGS_OUT, NARROW, WIDE
from bs4 import BeautifulSoup
from pieces import opened_alone
from roots import ROOT

from book.site import widgets
from book.site.scripts import copy_to
from book.site.states import CARDS, MAT, N_ROLLS, SIZES, WIDGETS
from mattn import attention, causal, window
from mattn.checks import influence, same
from mattn.toy import TOKENS, W_k, W_q, W_v, embed

CHAPTERS = {
    "stencil": "02_mask_matrix",
    "strangers": "03_scores",
    "never": "04_softmax",
    "card": "05_autoregression",
}
STILL = "<p>What stands here on paper.</p>"


def cells(chapter: str) -> list[dict]:
    path = ROOT / "chapters" / f"{chapter}.ipynb"
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def printed(chapter: str, figure: str) -> str:
    """What the cell of a figure prints."""
    (cell,) = (
        cell
        for cell in cells(chapter)
        if cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") == figure
    )
    return "".join("".join(output.get("text", "")) for output in cell["outputs"])


def said(name: str, key: str) -> list[str]:
    return [number for _, number in WIDGETS[name].states[key]["bars"]]


@pytest.mark.parametrize("name", WIDGETS)
def test_each_has_its_place_in_its_chapter(name):
    widget, found = WIDGETS[name], cells(CHAPTERS[name])
    if widget.figure is None:
        text = "\n".join("".join(c["source"]) for c in found)
        assert widgets.PLACES[name].search(text)["still"].strip()
    else:
        assert printed(CHAPTERS[name], widget.figure)


@pytest.mark.parametrize("name", WIDGETS)
def test_there_is_a_state_for_all_that_the_controls_can_say(name):
    widget = WIDGETS[name]
    keys = [""]
    for control in widget.controls.values():
        match control:
            case widgets.Slider():
                values = [str(n) for n in range(len(control.values))]
            case widgets.Choice():
                values = control.options
            case widgets.Roll():
                values = [str(n) for n in range(control.of)]
            case _:
                values = ["0", "1"]
        keys = [f"{key} {value}".strip() for key in keys for value in values]
    assert set(widget.states) == set(keys)
    for state in widget.states.values():
        assert len(state.get("bars", [])) == len(widget.bars)
        assert len(state.get("grid", [])) == len(widget.grid)
        assert state["says"]


def test_the_window_is_that_of_the_chapter():
    x, lines = embed(), printed("02_mask_matrix", "fig-stencils").splitlines()
    for w, line in zip(range(1, 7), lines, strict=True):
        state = WIDGETS["stencil"].states[str(w - 1)]
        weights = attention(x @ W_q, x @ W_k, x @ W_v, causal & window(w))[1][MAT]
        same([p for p, _ in state["bars"]], weights, atol=6e-5)
        number, verb = line.split(": ")[1].split()
        assert f"It fetches {number} and writes <em>{verb}</em>." in state["says"]
        matrix = (causal & window(w)).matrix(6).int().tolist()
        assert state["grid"] == ["".join(map(str, row)) for row in matrix]
        blocked = [number == "blocked" for _, number in state["bars"]]
        assert blocked == [c == "0" for c in state["grid"][MAT]]


def test_strangers_grow_loud_unless_divided_and_no_one_stays_the_favourite():
    def largest(d: int, divided: int) -> list[float]:
        n = SIZES.index(d)
        states = (
            WIDGETS["strangers"].states[f"{n} {divided} {r}"] for r in range(N_ROLLS)
        )
        return [max(p for p, _ in state["bars"]) for state in states]

    assert np.mean(largest(1, 0)) < np.mean(largest(64, 0)) > 0.8
    assert np.mean(largest(1024, 0)) > 0.95
    assert np.mean(largest(64, 1)) < 0.6 > np.mean(largest(1024, 1))
    firsts = {
        WIDGETS["strangers"].states[f"6 0 {roll}"]["says"].split()[2]
        for roll in range(N_ROLLS)
    }
    assert len(firsts) >= 3
    for state in WIDGETS["strangers"].states.values():
        same(sum(p for p, _ in state["bars"]), 1.0, atol=4e-4)


def test_the_hidden_score_does_what_the_chapter_prints():
    for line in printed("04_softmax", "fig-hidden-score").splitlines()[1:]:
        hidden, *numbers = line.split()
        of_ln_4 = ["NaN" if n == "nan" else n for n in numbers[1::2]]
        assert said("never", hidden) == of_ln_4
    for hidden in range(111):
        struck, divided, first = said("never", str(hidden))
        says = WIDGETS["never"].states[str(hidden)]["says"]
        assert first == "0.800"
        assert ("nothing has warned" in says) == (divided not in ("NaN", "0.800"))
        assert ("NaN" in says) == (divided == "NaN")
        assert float(struck) < 0.8
    assert said("never", "102")[1] == "0.778"


def test_a_changed_word_moves_what_the_card_lets_it():
    x = embed()
    for name, card in CARDS.items():
        moved = influence(
            lambda x, c=card: attention(x @ W_q, x @ W_k, x @ W_v, c)[0], x
        )
        same(moved, card.matrix(6))
        for j, word in enumerate(TOKENS):
            state = WIDGETS["card"].states[f"{name} {j}"]
            for i, row in enumerate(state["grid"]):
                assert row[j] == ("x" if j > i else "1") if moved[i, j] else "0"
                assert set(row[:j] + row[j + 1 :]) == {"."}
            leaks = any(row[j] == "x" for row in state["grid"])
            assert ("leak" in state["says"]) == leaks == (card is not causal and j > 0)
            assert state["says"].startswith(f"<em>{word}</em> is changed")
    says = WIDGETS["card"].states["one word too far 5"]["says"]
    assert "2 of 6 outputs move. <em>mat</em> stands before it" in says


@pytest.mark.parametrize("name", WIDGETS)
def test_it_joins_the_picture_of_its_page(name):
    figure = WIDGETS[name].figure
    picture = '<a href="#"><img src="a.svg" alt="A" /></a>'
    whole = (
        f'<figure class="align-default" id="{figure}">{picture}\n'
        "<figcaption>\n<p>C</p></figcaption>\n</figure>"
        if figure
        else '<div class="mattn-card">\n<p>A</p>\n</div>'
    )
    context = {
        "body": f"<p>a</p>{whole}<p>z</p>",
        "pathto": lambda path, _: f"../{path}",
    }
    widgets.put_in(SimpleNamespace(), "a", "page.html", context, None)
    tree = BeautifulSoup(context["body"], "lxml")
    (piece,) = tree.select(".mattn-widget")
    assert piece.select(".still img" if figure else ".still p")
    assert tree.select_one("script")["src"] == "../_static/widgets.js"
    if figure:
        assert tree.select_one("figure > figcaption").get_text(strip=True) == "C"
    assert [p.text for p in tree.select("body > p")] == ["a", "z"]
    other = {"body": "<p>a</p>"}
    widgets.put_in(SimpleNamespace(), "a", "page.html", other, None)
    assert other == {"body": "<p>a</p>"}


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Callable]:
    """A function that opens all four in one page, in a viewport and a theme."""
    pieces = SimpleNamespace(
        FILES=widgets.FILES,
        draw=lambda: "".join(widgets.draw(w, STILL) for w in WIDGETS.values()),
    )
    with opened_alone(browser, tmp_path, pieces) as open_:
        yield open_


def shows(page, name: str, key: str) -> None:
    """The page shows this state of a widget."""
    widget = WIDGETS[name]
    piece = page.get_by_role("region", name=widget.label)
    state = widget.states[key]
    plain = BeautifulSoup(state["says"], "lxml").get_text()
    assert piece.get_by_role("status").inner_text() == plain
    if widget.bars:
        rows = piece.locator("table:not(.grid) tbody tr").all()
        numbers = [row.locator("td").last.inner_text() for row in rows]
        assert numbers == [number for _, number in state["bars"]]
    if widget.grid:
        kinds = {"1": "allowed", "0": "blocked", "x": "leak", ".": ""}
        drawn = piece.locator(".grid tbody td").evaluate_all(
            "a => a.map(e => e.className)"
        )
        assert drawn == [kinds[sign] for row in state["grid"] for sign in row]


def test_in_a_browser(opened):
    page = opened()
    shows(page, "stencil", "0")
    page.get_by_role("slider", name="Words in sight").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    shows(page, "stencil", "3")
    slider = page.get_by_role("slider", name="Words in sight")
    assert slider.get_attribute("aria-valuetext") == "4"
    shows(page, "strangers", "6 0 0")
    page.get_by_role("button", name="Roll again").press("Enter")
    page.get_by_role("checkbox", name="divide").check()
    shows(page, "strangers", "6 1 1")
    page.get_by_role("slider", name="Hidden score").fill("102")
    shows(page, "never", "102")
    page.get_by_role("combobox").select_option("on the table")
    page.get_by_role("slider", name="Changed").press("Home")
    shows(page, "card", "on the table 0")
    assert not page.get_by_text("on paper").first.is_visible()
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_and_in_every_colour(opened, theme):
    page = opened(NARROW, theme)
    page.get_by_role("combobox").select_option("on the table")
    assert page.evaluate(HANGS_OUT) == []
    for piece in page.locator(".mattn-widget").all():
        box = piece.bounding_box()
        assert box["x"] + box["width"] <= NARROW["width"]
        assert piece.evaluate(
            "e => [...e.querySelectorAll('.live *')].filter(x => x.checkVisibility()"
            " && !x.closest('.unseen')).every(x => x.getBoundingClientRect().right <="
            " e.getBoundingClientRect().right + 1)"
        )
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
def test_colours_of_the_machine(opened):
    page = opened(forced_colors="active")
    cell = page.locator("td.blocked").first
    assert cell.evaluate("e => getComputedStyle(e).outlineStyle") == "dashed"
    bar = page.locator(".bar span").first
    assert bar.evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(0, 0, 0)"


@pytest.mark.long
def test_paper_and_no_scripts_have_what_stood_there(opened):
    page = opened(WIDE)
    page.emulate_media(media="print")
    for still, live in zip(
        page.locator(".still").all(), page.locator(".live").all(), strict=True
    ):
        assert still.is_visible()
        assert not live.is_visible()
    page = opened(WIDE, java_script_enabled=False)
    assert page.locator(".still").first.is_visible()
    assert not page.locator(".live").first.is_visible()


def test_its_script_goes_where_the_page_looks(tmp_path: Path):
    (tmp_path / "_static").mkdir()
    copy_to(tmp_path, widgets.FILES)
    assert [path.name for path in (tmp_path / "_static").iterdir()] == ["widgets.js"]
