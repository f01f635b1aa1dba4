"""The first thing to touch: what it says is what the head of ``mattn.toy`` does."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
from accessibility import AXE
from browsers import HANGS_OUT, NARROW, WIDE
from bs4 import BeautifulSoup, Tag
from pieces import opened_alone
from roots import ROOT

from book.site import tap
from book.site.scripts import copy_to
from book.site.tap import ACTS, ASKS, look, printed
from mattn import attention, causal, full
from mattn.checks import same
from mattn.toy import TOKENS, W_k, W_q, W_v, embed, verb

SMALL = {"width": 320, "height": 700}
INDEX = ROOT / "chapters" / "index.ipynb"
CHANGES = [dict(zip(("acts", "asks"), c, strict=True)) for c in product((0, 1), (0, 1))]


@pytest.fixture(scope="module")
def page() -> Tag:
    return BeautifulSoup(tap.draw(), "lxml").select_one(".mattn-tap")


def said(tag: Tag) -> str:
    return " ".join(tag.get_text().split())


def test_the_sentence_is_that_of_the_toy():
    assert look().words == TOKENS
    assert (TOKENS[ACTS], TOKENS[ASKS]) == ("cats", "mat")
    assert [look(**c).words for c in CHANGES] == [
        ("the", "cats", "on", "the", "mat", "sleep"),
        ("the", "cats", "on", "the", "mats", "sleep"),
        ("the", "cat", "on", "the", "mat", "sleeps"),
        ("the", "cat", "on", "the", "mats", "sleeps"),
    ]


@pytest.mark.parametrize("changes", CHANGES)
def test_every_state_is_computed(changes):
    for lifted, mask in ((False, causal), (True, full)):
        state = look(**changes, lifted=lifted)
        x = embed(state.words)
        out, weights = attention(x @ W_q, x @ W_k, x @ W_v, mask)
        same(list(state.weights), weights[ASKS])
        assert state.verb == verb(out[ASKS, 0]) == state.words[-1]
        # What speaks for many, less what speaks for one, is the number it fetches.
        same(out[ASKS, 0], state.many - state.one)
        assert max(state.many, state.one) > 0.8


def test_the_numbers_of_the_design():
    assert printed(look().weights[ACTS]) == "0.83"
    assert {printed(w) for w in look().weights[:-1]} == {"0.04", "0.83"}
    assert printed(look(lifted=True).weights[-1]) == "0.94"
    for swapped, number in ((False, "0.79"), (True, "-0.79")):
        state = look(acts=swapped, asks=swapped)
        assert printed(state.many - state.one) == number


def test_printed_numbers_do_not_hang_on_the_machine():
    for c in CHANGES:
        for lifted in (False, True):
            state = look(**c, lifted=lifted)
            for p in (*state.weights, state.many, state.one):
                assert abs((p * 100) % 1 - 0.5) > 1e-3, p


def test_without_scripts_both_states_stand_side_by_side(page):
    covered, lifted = page.select(".still > div")
    assert [said(w) for w in covered.select(".word")[:-1]] == list(TOKENS[:-1])
    assert [said(w) for w in lifted.select(".word")] == list(TOKENS)
    assert len(covered.select(".card")) == 1
    assert not lifted.select(".card")
    assert TOKENS[-1] not in said(covered.select_one(".words"))
    assert [said(panel.select_one(".most")) for panel in (covered, lifted)] == [
        "0.83", "0.94"
    ]  # fmt: skip
    assert len(covered.select(".back")) == 5
    assert len(covered.select(".ahead")) == 0
    assert len(lifted.select(".ahead")) == 1
    for panel, state in ((covered, look()), (lifted, look(lifted=True))):
        rows = [[said(cell) for cell in row] for row in panel.select("tr")]
        shares = [printed(state.many), printed(state.one)]
        assert [row[0] for row in rows] == ["sleep", "sleeps"]
        assert [row[-1] for row in rows] == shares
    assert page.select(".still button") == []


def test_an_arrow_is_as_thick_as_its_weight(page):
    widths = [
        float(re.search(r"[\d.]+(?=px)", path["style"])[0])
        for path in page.select(".still > div:first-child path[style]")
    ]
    weights = look().weights[:-1]
    same(widths, [0.8 + 6 * w for w in weights], atol=0.006)
    assert max(widths) == widths[ACTS] > 5 * widths[ASKS]


def test_the_piece_takes_the_place_of_the_picture():
    first = json.loads(INDEX.read_text(encoding="utf-8"))["cells"][1]
    assert first["metadata"]["mystnb"]["figure"]["name"] == "fig-first"
    figure = (
        '<figure class="align-default" id="{}"><a href="#"><img src="a.svg" alt="A" />'
        "</a>\n<figcaption>\n<p>C</p></figcaption>\n</figure>"
    )
    body = f"<p>a</p>{figure.format('fig-first')}{figure.format('fig-other')}"
    context = {"body": body, "pathto": lambda name, _: f"../{name}"}
    tap.put_in(SimpleNamespace(), "index", "page.html", context, None)
    tree = BeautifulSoup(context["body"], "lxml")
    changed, other = tree.select("figure")
    assert changed.select_one("figcaption").text.strip() == "C"
    assert not changed.select("img")
    assert len(tree.select(".mattn-tap")) == len(changed.select(".mattn-tap")) == 1
    assert changed.select_one("script")["src"] == "../_static/tap.js"
    assert len(other.select("img")) == 1
    without = {"body": figure.format("fig-other")}
    tap.put_in(SimpleNamespace(), "other", "page.html", dict(without), None)
    assert without == {"body": figure.format("fig-other")}


def test_its_script_goes_where_the_page_looks(tmp_path):
    (tmp_path / "_static").mkdir()
    copy_to(tmp_path, tap.FILES)
    assert (tmp_path / "_static" / "tap.js").is_file()


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def opened(chrome, tmp_path: Path) -> Iterator[Callable]:
    with opened_alone(chrome, tmp_path, tap) as open_:
        yield open_


def press(page, word: str, nth: int = 0) -> None:
    page.get_by_role("button", name=word, exact=True).nth(nth).click()


def shows(page, state: tap.State) -> None:
    """The page shows this state: its words, arrows, share, bars."""
    live = page.locator(".live")
    there = [text.strip() for text in live.locator(".word").all_inner_texts()]
    assert there[:-1] == list(state.words[:-1])
    lifted = state.weights[-1] > 0
    last = live.locator(".last > span").first.inner_text()
    assert (last == state.words[-1]) is lifted
    assert live.locator("svg g").count() == sum(w >= tap.LEAST for w in state.weights)
    assert live.locator(".ahead").count() == lifted
    assert live.locator(".most").inner_text() == printed(max(state.weights))
    rows = live.locator("tbody tr").all_inner_texts()
    numbers = [re.split(r"\s*\t\s*", row.strip())[-1] for row in rows]
    assert numbers == [printed(state.many), printed(state.one)]


def says(page) -> str:
    return page.get_by_role("status").inner_text()


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", [WIDE, NARROW, SMALL], ids=["1280", "390", "320"])
def test_four_beats(opened, view, theme):
    page = opened(view, theme)
    assert page.locator(".ask").is_visible()
    assert not page.locator(".below").is_visible()
    assert not page.locator(".live .most").is_visible()  # it would tell
    # Guess, and be answered.
    press(page, "cats")
    shows(page, look())
    assert says(page).startswith("So did the machine. It gives cats 0.83")
    assert not page.get_by_role("button", name="Lift the card").is_visible()
    other = page.get_by_role("button", name="on", exact=True)
    other.click(force=True)  # the guess is made: it does nothing now
    shows(page, look())
    # Change it.
    press(page, "cats")
    shows(page, look(acts=True))
    assert says(page).endswith("cat, which is one, so it writes sleeps.")
    press(page, "mat")
    shows(page, look(acts=True, asks=True))
    press(page, "cat")
    shows(page, look(asks=True))
    assert says(page).endswith("cats, which is many, so it writes sleep.")
    # Cheat.
    press(page, "Lift the card")
    shows(page, look(asks=True, lifted=True))
    assert "It copies sleep." in says(page)
    press(page, "cats")
    shows(page, look(acts=True, asks=True, lifted=True))
    page.wait_for_function(
        "getComputedStyle(document.querySelector('.live .card')).opacity === '0'"
    )
    assert page.evaluate(HANGS_OUT) == []
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('.mattn-tap').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []
    press(page, "Put the card back")
    shows(page, look(acts=True, asks=True))


@pytest.mark.long
@pytest.mark.parametrize(
    ("word", "nth", "answer"),
    [
        ("mat", 0, "Then you would write sleeps. The machine looks past mat"),
        ("the", 1, "But the is neither one nor many."),
        ("on", 0, "But on is neither one nor many."),
    ],
)
def test_other_guesses_are_answered_too(opened, word, nth, answer):
    page = opened()
    press(page, word, nth)
    assert says(page).startswith(answer)
    assert "Now tap cats or mat" in says(page)
    shows(page, look())


@pytest.mark.long
def test_by_keyboard(opened):
    page = opened()
    focused = "document.activeElement.textContent"
    for word in TOKENS[:-1]:
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == word
    page.keyboard.press("Space")
    assert says(page).startswith("Then you would write sleeps.")
    page.keyboard.press("Enter")
    shows(page, look(asks=True))
    assert page.evaluate(focused) == "mats"
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Lift the card"
    page.keyboard.press("Enter")
    shows(page, look(asks=True, lifted=True))
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"


@pytest.mark.long
@pytest.mark.parametrize("view", [WIDE, SMALL], ids=["1280", "320"])
def test_without_scripts_it_is_whole(opened, view):
    page = opened(view, java_script_enabled=False)
    assert page.locator(".still .scene").count() == 2
    for scene in page.locator(".still .scene").all():
        assert scene.is_visible()
    assert not page.locator(".live").is_visible()
    box = page.locator(".mattn-tap").bounding_box()
    assert box["x"] + box["width"] <= view["width"]
    first, second = (s.bounding_box() for s in page.locator(".still .scene").all())
    assert (first["x"] < second["x"]) is (view is WIDE)


@pytest.mark.long
def test_nothing_moves_for_who_wants_no_motion(opened):
    for motion, lasts, named in (
        ("reduce", "0s", "none"),
        ("no-preference", "0.35s", "mattn-tap-comes"),
    ):
        page = opened(reduced_motion=motion)
        press(page, "cats")
        bar = page.locator(".live .bar span").first
        assert bar.evaluate("e => getComputedStyle(e).transitionDuration") == lasts
        arrow = page.locator(".live path").first
        assert arrow.evaluate("e => getComputedStyle(e).animationName") == named


@pytest.mark.long
def test_paper_shows_both_states(opened):
    page = opened()
    page.emulate_media(media="print")
    assert page.locator(".still .scene").first.is_visible()
    assert not page.locator(".live").is_visible()
