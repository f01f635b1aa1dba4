"""The playground among other things: addresses, notebooks, themes, paper, a twin."""

from __future__ import annotations

import re

import pytest
import torch
from browsers import BUILT, HANGS_OUT, NARROW, WIDE
from played import TOKENS, Play, T

from mattn import attention, causal, window
from mattn.checks import same
from mattn.playground import playground


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
    cell = page.get_by_role("gridcell", name="query 1 “cats”, key 0 “the”: allowed")
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
