"""The strip of the first page: what it says is what the shipped model computes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from accessibility import AXE
from browsers import HANGS_OUT, NARROW, WIDE
from bs4 import BeautifulSoup, Tag
from pieces import opened_alone
from roots import ROOT

from book.site import strip
from book.site.scripts import copy_to
from book.site.strip import NUMBER, STORY, State, look, printed
from mattn.data import stories
from mattn.repro import recorded

SMALL = {"width": 320, "height": 700}
INDEX = ROOT / "chapters" / "index.ipynb"


@pytest.fixture(scope="module")
def page() -> Tag:
    return BeautifulSoup(strip.draw(), "lxml").select_one(".mattn-strip")


def shown(table: Tag) -> list[tuple[str, str]]:
    rows = table.select("tbody tr")
    return [(row.th.text, row.select("td")[1].text) for row in rows]


def expected(state: State) -> list[tuple[str, str]]:
    return [(word, printed(p)) for word, p in zip(*state, strict=True)]


def test_the_story_is_one_that_the_model_could_have_read():
    assert stories().accepts(stories().encode(f"{strip.TOLD} nine ."))
    assert (len(STORY), STORY[NUMBER], STORY[-1]) == (27, "nine", "still")


def test_one_cell_makes_it_forget():
    before, after = look(), look(NUMBER)
    assert before.words[0] == "nine"
    assert before.p[0] > 0.99
    assert after.words[0] == "two"
    assert after.p[0] > 0.99
    assert "nine" not in after.words
    # The cell is the one of the record, where the model reads a mark at first.
    assert recorded("stories_model")["one_cell"]["cell"] == [len(STORY), NUMBER + 1]


def test_no_other_cell_does():
    for i in range(len(STORY)):
        if i != NUMBER:
            state = look(i)
            assert state.words[0] == "nine"
            assert abs(state.p[0] - look().p[0]) < 0.02, STORY[i]


def test_without_scripts_both_answers_stand_side_by_side(page):
    every, without = page.select(".still table")
    assert shown(every) == expected(look())
    assert shown(without) == expected(look(NUMBER))
    assert "may look back at every word" in every.caption.text
    assert "may not look back at nine" in without.caption.text
    assert [word.text for word in page.select(".story .word")] == STORY
    (number,) = page.select(".number")
    (asks,) = page.select(".asks")
    assert (number.text, asks.text) == ("nine", "still")
    assert page.select("button.word") == []


def test_what_it_says_of_all_stories_is_recorded(page):
    record = recorded("stories_model")
    note = " ".join(page.select_one(".note").text.split())
    said = re.findall(r"\d[\d,]*", note)
    cell = record["one_cell"]
    seconds = record["covered"]["cpu_seconds"]
    assert said == [
        f"{record['n_parameters']:,}", f"{seconds:.0f}", f"{cell['n_stories']:,}"
    ]  # fmt: skip
    assert "it said two every time" in note
    assert cell["seen"]["n_right"] == cell["n_stories"]
    assert cell["blocked"]["likeliest"] == {"two": cell["n_stories"]}
    # "as sure as before": in every single story.
    assert cell["seen"]["least_likely_of_these"] > 0.99
    assert cell["blocked"]["least_likely_of_these"] > 0.99


@pytest.mark.parametrize("part", ["seen", "blocked"])
def test_a_model_that_does_not_forget_is_not_shown(monkeypatch, part):
    record = recorded("stories_model")
    cell = record["one_cell"]
    if part == "seen":
        cell["seen"]["n_right"] -= 1
    else:
        cell["blocked"]["likeliest"] = {"two": 51_000, "six": 200}
    monkeypatch.setattr(strip, "recorded", lambda name: record)
    with pytest.raises(ValueError, match=r"all of 51,200.*Train with another seed"):
        strip.draw()


def test_printed_numbers_do_not_hang_on_the_machine():
    for state in (look(), look(NUMBER)):
        for p in state.p:
            off = abs((p * 1000) % 1 - 0.5)
            assert off > 1e-3, p


def test_a_page_says_where_it_goes():
    cells = json.loads(INDEX.read_text(encoding="utf-8"))["cells"]
    assert sum("".join(c["source"]).count(strip.PLACE) for c in cells) == 1
    context = {
        "body": f"<p>a</p>\n{strip.PLACE}\n<p>b</p>",
        "pathto": lambda name, _: f"../{name}",
    }
    strip.put_in(SimpleNamespace(), "index", "page.html", context, None)
    body = BeautifulSoup(context["body"], "lxml")
    assert len(body.select(".mattn-strip")) == 1
    assert body.select_one("script")["src"] == "../_static/strip.js"
    assert body.select_one(".mattn-strip")["data-static"] == "../_static/"
    other = {"body": "<p>a</p>"}
    strip.put_in(SimpleNamespace(), "other", "page.html", other, None)
    assert other == {"body": "<p>a</p>"}


def test_its_files_go_where_the_page_looks(tmp_path):
    (tmp_path / "_static").mkdir()
    copy_to(tmp_path, strip.FILES)
    there = {file.name for file in (tmp_path / "_static").iterdir()}
    assert there == {"strip.js", "decoder.js", "stories_covered.js"}


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def opened(chrome, tmp_path: Path) -> Iterator[Callable]:
    with opened_alone(chrome, tmp_path, strip) as open_:

        def open_strip(*given, alive: bool = True, **options):
            page = open_(*given, **options)
            if alive:
                page.wait_for_function(
                    "document.querySelector('.mattn-strip [role=status]').textContent"
                )
            return page

        yield open_strip


def rows(page) -> list[tuple[str, str]]:
    found = page.locator(".bars tbody tr").all_inner_texts()
    return [tuple(re.split(r"\s*\t\s*", row.strip())) for row in found]


def press(page, word: str, nth: int = 0) -> None:
    page.get_by_role("button", name=word, exact=True).nth(nth).click()


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("view", [WIDE, NARROW, SMALL], ids=["1280", "390", "320"])
def test_it_lives_and_forgets(opened, view, theme):
    page = opened(view, theme)
    says = page.get_by_role("status")
    assert rows(page) == expected(look())
    assert says.inner_text().startswith("With every word in view it says “nine”")
    assert page.locator(".guess").inner_text() == "nine"
    press(page, "nine")
    assert rows(page) == expected(look(NUMBER))
    assert says.inner_text().startswith("It has forgotten “nine”. It says “two”")
    assert page.locator(".guess").inner_text() == "two"
    press(page, "tom", nth=1)
    assert rows(page) == expected(look(NUMBER, STORY.index("counted") - 1))
    press(page, "nine")
    assert "Without “tom” it still says “nine”" in says.inner_text()
    press(page, "Show every word again")
    assert rows(page) == expected(look())
    assert page.locator("[aria-pressed=true]").count() == 0
    assert not page.locator(".still").first.is_visible()
    assert page.evaluate(HANGS_OUT) == []
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('.mattn-strip').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
def test_by_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    focused = "document.activeElement.textContent"
    assert page.evaluate(focused) == "nine"
    page.keyboard.press("Space")
    assert page.get_by_role("button", name="nine", pressed=True).count() == 1
    assert page.locator(".guess").inner_text() == "two"
    for key, word in (
        ("ArrowRight", "shells"), ("ArrowLeft", "nine"), ("Home", "tom"),
        ("ArrowLeft", "tom"), ("End", "still"), ("ArrowRight", "still"),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(focused) == word
    page.keyboard.press("Enter")
    assert rows(page) == expected(look(NUMBER, len(STORY) - 1))
    page.keyboard.press("Tab")
    assert page.evaluate(focused) == "Show every word again"
    page.keyboard.press("Enter")
    assert rows(page) == expected(look())
    assert page.get_by_role("status").get_attribute("aria-live") == "polite"


@pytest.mark.long
@pytest.mark.parametrize("view", [WIDE, SMALL], ids=["1280", "320"])
def test_without_scripts_it_is_whole(opened, view):
    page = opened(view, alive=False, java_script_enabled=False)
    assert page.locator(".still table").count() == 2
    for table in page.locator(".still table").all():
        assert table.is_visible()
    assert not page.locator(".live").first.is_visible()
    box = page.locator(".mattn-strip").bounding_box()
    assert box["x"] + box["width"] <= view["width"]


@pytest.mark.long
def test_without_its_model_it_is_what_it_is_without_scripts(opened, tmp_path):
    opened()
    (tmp_path / "_static" / "decoder.js").unlink()
    page = opened(alive=False)
    page.wait_for_function("!document.querySelector('.mattn-strip.alive')")
    assert page.locator(".still table").first.is_visible()
    assert not page.locator(".guess").is_visible()
    assert page.locator("button.word:enabled").count() == 0


@pytest.mark.long
def test_nothing_moves_for_who_wants_no_motion(opened):
    moving = "e => getComputedStyle(e).transitionDuration"
    hint = "e => getComputedStyle(e).animationName"
    for motion, lasts, named in (
        ("reduce", "0s", "none"),
        ("no-preference", "0.35s", "mattn-strip-hint"),
    ):
        page = opened(reduced_motion=motion)
        assert page.locator(".bars span").first.evaluate(moving) == lasts
        assert page.locator("button.number").evaluate(hint) == named


@pytest.mark.long
def test_colours_of_the_machine_and_paper(opened):
    page = opened(forced_colors="active")
    press(page, "nine")
    style = page.locator("button.number").evaluate(
        "e => [getComputedStyle(e).textDecorationLine, getComputedStyle(e).borderStyle]"
    )
    assert style == ["line-through", "dashed"]
    bar = "e => getComputedStyle(e).backgroundColor"
    assert page.locator(".bars span").first.evaluate(bar) != "rgba(0, 0, 0, 0)"
    page.emulate_media(media="print")
    assert page.locator(".still table").first.is_visible()
    assert not page.locator(".bars").is_visible()
    # Both answers stand there, so no word is crossed out.
    line = "e => getComputedStyle(e).textDecorationLine"
    assert page.locator("button.number").evaluate(line) == "none"
