"""The trained model in the playground, in a real browser: read, blocked, written on,
played, sent on; and the twenty masks on which Chromium's logits are mattn's.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
import torch
from accessibility import AXE
from browsers import HANGS_OUT, NARROW, WIDE
from played import LOOKS
from words_read import WORDS, edited, given, python

from mattn import causal, window
from mattn.checks import same
from mattn.pretrained import stories_model

READ = "has read"
TOLD = (
    "<start> tom lived on a hill . one morning he found nine shells by the sea . "
    "at last tom counted the shells again . there were still"
)
STORY = TOLD.split()
T = len(STORY)
SOLVED = {
    1: "m=window&n=2&x=7.14.21.28.35",
    2: "w=model&x=767",
    3: "w=model&m=window&n=17",
    4: f"w=model&s={'+'.join([*STORY[1:], 'nine', '.', '%3Cend%3E'])}&x=193",
    5: "w=model&s=anna+lived+near+a+mill+.+one+night+she+found+four+buttons+in+the+"
    "forest+.+at+last+anna+counted+the+buttons+again+.+there+were+still&x1=767",
    6: f"w=model&s={'+'.join(STORY[1:19])}&x=20.352",
}


def modelled(opened, look=(WIDE, "light"), link: str = "w=model", **options):
    """A playground that reads the model's story."""
    play = opened(look=look, linked=True, address=f"#play-e3b83239&{link}", **options)
    if "w=model" in link:
        said(play, READ)
    return play


def said(play, what: str) -> str:
    play.page.wait_for_function(
        """what => document.querySelector('.mattn-playground').shadowRoot
          .querySelector('[role=status]').textContent.includes(what)""",
        arg=what,
    )
    return play.says


def bars(play) -> list[tuple[str, str]]:
    rows = play.find(".likely tbody tr").all_inner_texts()
    return [tuple(re.split(r"\s*\t\s*", row.strip())) for row in rows]


def printed(p: float) -> str:
    return "< 0.001" if p < 0.001 else "> 0.999" if p > 0.999 else f"{p:.3f}"


def expected(mask: torch.Tensor, row: int = T - 1, temperature: float = 1) -> list:
    model = stories_model(dtype=torch.float64)
    tokens = torch.tensor([[WORDS.index(word) for word in STORY]])
    with torch.no_grad():
        logits = model(tokens, mask=given(mask))[0, row] / temperature
    p, words = logits.softmax(dim=-1).topk(3)
    pairs = zip(words.tolist(), p.tolist(), strict=True)
    return [(WORDS[n], printed(share)) for n, share in pairs]


def without(*cells: tuple[int, int]) -> torch.Tensor:
    mask = causal.matrix(T)
    for cell in cells:
        mask[cell] = False
    return mask


def word(play, j: int):
    return play.find(".strip button").nth(j)


def shows(play, mask: torch.Tensor, row: int = T - 1) -> None:
    assert bars(play)[:2] == expected(mask, row)[:2]
    pressed = play.find(".strip [aria-pressed]").evaluate_all(
        "all => all.map(b => b.getAttribute('aria-pressed') === 'false')"
    )
    assert pressed == mask[row].tolist()


@pytest.mark.long
@pytest.mark.parametrize(("viewport", "scheme"), LOOKS)
def test_it_reads_and_forgets(opened, viewport, scheme) -> None:
    play = opened(look=(viewport, scheme), linked=True)
    assert not [url for url in play.asked if "stories" in url]
    play.find("input[value=model]").check()
    assert "27 words. Next word: “nine” 0.997" in said(play, READ)
    assert [url for url in play.asked if "uncovered" in url] == []
    shows(play, causal.matrix(T))
    word(play, 11).click()
    shows(play, without((27, 11)))
    assert "no longer sees key 11 “nine”" in play.says
    assert "“two” 0.997; before “nine” 0.997" in play.says
    for row in (26, 25):
        play.find("[data-do=rowback]").click()
        shows(play, without((27, 11)), row)
    play.find("input[value=window]").check()
    play.find(".number input").fill("9")
    shows(play, (causal & window(9)).matrix(T), 25)
    assert "set aside" in play.says or "window(9)" in play.says
    play.find("input[value=causal]").check()
    assert "1 changed cell of before is back" in play.says
    play.find("[data-head='3']").click()
    assert play.says.startswith("Layer 2, head 2")
    assert play.find(".head[aria-pressed=true] svg").count() == 1
    play.find("[data-word]").first.click()
    assert "hangs on" in play.says
    assert play.page.evaluate(HANGS_OUT) == []
    play.find(".writing summary").click()
    play.find(".puzzles summary").click()
    play.page.add_script_tag(path=AXE)
    faults = play.page.evaluate("axe.run('main').then(r => r.violations)")
    assert [(f["id"], f["nodes"][0]["html"]) for f in faults] == []
    play.find("input[value=hash]").check()
    assert play.find(".grid").is_visible()
    assert not play.find(".strip").is_visible()
    play.find("input[value=model]").check()
    shows(play, without((27, 11)), 25)  # its text and its cells were kept


@pytest.mark.long
def test_logits_in_chromium_are_mattns_on_twenty_masks(opened) -> None:
    play = modelled(opened)
    states = [edited(seed, later=seed % 2 == 0) for seed in range(20)]
    found = play.page.evaluate(
        """states => states.map(state => {
          const { decoders, readWords, masksOf } = mattnPlayground;
          const { logits } = readWords(decoders.covered, state);
          return [masksOf(state), logits.map(row => [...row])];
        })""",
        states,
    )
    assert len({str(masks) for masks, _ in found}) == 20
    for state, (masks, logits) in zip(states, found, strict=True):
        got = torch.tensor(logits, dtype=torch.float64)
        same(got, python(state, masks), atol=1e-9)


@pytest.mark.long
def test_words_by_keyboard(opened) -> None:
    play = modelled(opened)
    word(play, 27).focus()
    play.press(*["ArrowLeft"] * 16, "Space")
    shows(play, without((27, 11)))
    play.press("Control+z")
    shows(play, causal.matrix(T))
    assert play.says.startswith("Undone: cell 27, 11")
    play.press("Control+Shift+z")
    shows(play, without((27, 11)))
    play.press("ArrowUp")
    shows(play, without((27, 11)), 26)
    play.press("ArrowDown", "Home", "Shift+Space")
    mask = without((27, 11))
    mask[27] = False
    shows(play, mask)
    assert "an empty row" in play.says
    play.press("Control+z", "End", "Alt+Space")
    mask = without((27, 11))
    mask[:, 27] = False
    shows(play, mask)
    play.press("?")
    assert play.find(".keys").is_visible()
    assert play.find(".strip [tabindex='0']").count() == 1


@pytest.mark.long
def test_it_writes_on_with_the_cache(opened) -> None:
    play = modelled(opened)
    play.find(".writing summary").click()
    for expected_word in ("nine", ".", "<end>"):
        play.find("[data-do=write]").click()
        assert f"It writes “{expected_word}”" in play.says
    play.find("[data-do=write]").click()
    assert play.says == "The story has ended."
    table = play.find(".writing tbody tr").all_inner_texts()
    assert [row.split("\t")[1:] for row in table] == [["1", "31"], ["31", "961"]]
    note = play.find(".writing .note")
    assert "changes no number" in note.inner_text()
    before = bars(play)
    play.find(".cached input").uncheck()
    assert bars(play) == before
    play.press("Control+z", "Control+z", "Control+z")
    assert play.find(".strip button").count() == T
    play.find("input[value=full]").check()
    assert "other numbers come out" in note.inner_text()
    play.find("input[value=causal]").check()
    # The same dice, the same words; and what plays is stopped.
    written = []
    for _ in range(2):
        play.find(".sentence input").fill("anna")
        play.find(".seed input").fill("5")
        play.find(".seed input").press("Enter")
        for _ in range(6):
            play.find("[data-do=write]").click()
        written.append(play.find(".sentence input").input_value())
    assert written[0] == written[1]
    assert len(written[0].split()) == 7
    play.find("[data-do=play]").click()
    play.page.wait_for_function(
        """() => document.querySelector('.mattn-playground').shadowRoot
          .querySelectorAll('.strip button').length > 9"""
    )
    play.press("Escape")
    assert play.says == "Stopped."
    assert play.find("[data-do=play]").inner_text() == "Play"


@pytest.mark.long
@pytest.mark.parametrize("goal", SOLVED)
def test_a_link_opens_a_puzzle_that_is_solved(opened, goal: int) -> None:
    play = modelled(opened, link=f"{SOLVED[goal]}&goal={goal}")
    verdict = play.find(".verdict")
    play.page.wait_for_function(
        """() => document.querySelector('.mattn-playground').shadowRoot
          .querySelector('.verdict').textContent"""
    )
    assert verdict.inner_text().endswith("Solved, at par.")
    assert any("uncovered" in url for url in play.asked) == (goal == 4)
    play.find(f"[data-goal='{goal}']").click()
    play.page.wait_for_timeout(50)
    assert play.says.startswith(("Make", "The", "Choose", "This", "At last"))
    ends = (
        "Solved."
        if goal == 3
        else f"par is {2 if goal == 6 else 5 if goal == 1 else 1}."
    )
    assert verdict.inner_text().endswith(ends)
    assert play.find(f"[data-goal='{goal}'][aria-pressed=true]").count() == 1


@pytest.mark.long
def test_a_link_brings_the_model_back_and_code_and_picture_say_it(opened) -> None:
    play = modelled(opened)
    word(play, 11).click()
    play.find("[data-do=copy]").click()
    assert "w=model&x=767" in play.page.url
    again = modelled(opened, link=play.page.url.partition("&")[2])
    assert bars(again) == bars(play)
    shows(again, without((27, 11)))
    again.find("[data-do=code]").click()
    code = again.find(".code").inner_text()
    assert "mask[[27], [11]] ^= True" in code
    with again.page.expect_download() as download:
        again.find("[data-do=picture]").click()
    assert download.value.suggested_filename == "mattn-playground.svg"
    root = ET.parse(download.value.path()).getroot()
    texts = {each.text for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"nine", "shells", "two", "0.997"} <= texts


@pytest.mark.long
def test_painting_undo_and_edits_that_stay(opened) -> None:
    play = opened()
    first = play.allowed
    mouse = play.page.mouse
    boxes = [play.cell(0, j).bounding_box() for j in range(1, 5)]
    mouse.move(boxes[0]["x"] + 8, boxes[0]["y"] + 8)
    mouse.down()
    for box in boxes[1:]:
        mouse.move(box["x"] + 8, box["y"] + 8, steps=3)
    mouse.up()
    assert (play.allowed != first).sum() == 4
    assert play.says == "4 cells allowed."
    painted = play.allowed
    play.find("[data-do=undo]").click()
    assert play.allowed.equal(first)  # a stroke is one step
    play.find("[data-do=redo]").click()
    assert play.allowed.equal(painted)
    play.find("input[value=full]").check()
    assert "4 changed cells set aside" in play.says
    play.find("input[value=causal]").check()
    assert play.allowed.equal(painted)
    play.find("input[value=causal]").click()  # the same mask again
    assert play.allowed.equal(painted)
    sentence = play.find(".sentence input")
    text = sentence.input_value()
    sentence.fill(f"{text} x")
    assert (play.allowed[:6, :6] == first).all()
    sentence.fill(text)
    assert play.allowed.equal(painted)
    play.find("[data-do=reset]").click()
    assert play.allowed.equal(first)
    play.press("Control+z")
    assert play.allowed.equal(painted)
    play.cell(2, 3).click(modifiers=["Shift"])
    assert play.allowed[2].tolist() == [True] * 6
    play.cell(5, 0).click(modifiers=["Alt"])
    assert not play.allowed[:, 0].any()


@pytest.mark.long
def test_a_link_of_the_first_edition_opens(opened) -> None:
    link = "#play-9e7fe176&m=window&n=2&x=1&row=4"
    play = opened(address=link)
    assert play.find(".sentence input").input_value() == "the cat sat on the mat"
    assert play.rule == "causal & window(2), 1 cell changed"
    mask = (causal & window(2)).matrix(6)
    mask[0, 1] = True
    play.shows(mask, ["the", "cat", "sat", "on", "the", "mat"])
    assert "Query 4 “the”" in play.find(".work caption").inner_text()


@pytest.mark.long
def test_where_there_is_no_model_there_is_no_mode(opened, tmp_path) -> None:
    play = opened()
    assert not play.find(".modes").is_visible()
    visible = play.find("[data-goal]").evaluate_all("all => all.map(b => b.hidden)")
    assert visible == [False, *[True] * 5]
    lost = opened(linked=True)
    (tmp_path / "decoder.js").unlink()
    lost.find("input[value=model]").check()
    assert "were not found" in said(lost, "not found")
    lost.errors.clear()  # that the file is missing


@pytest.mark.long
def test_colours_of_the_machine_motion_and_paper(opened) -> None:
    play = modelled(opened, forced_colors="active", reduced_motion="reduce")
    word(play, 11).click()
    line = "e => getComputedStyle(e).textDecorationLine"
    assert word(play, 11).evaluate(line) == "line-through"
    chosen = play.find(".presets input:checked + span")
    ground = "e => getComputedStyle(e).backgroundColor"
    others = play.find(".presets input:not(:checked) + span").first
    assert chosen.evaluate(ground) != others.evaluate(ground)
    bar = play.find(".share-bar").first
    assert (
        bar.evaluate("e => getComputedStyle(e).backgroundColor") != "rgba(0, 0, 0, 0)"
    )
    assert bar.evaluate("e => getComputedStyle(e).transitionDuration") == "0s"
    play.page.emulate_media(media="print")
    assert play.find(".likely").is_visible()
    assert not play.find(".rows").is_visible()
    still = modelled(opened, look=(NARROW, "light"))
    lasts = still.find(".share-bar").first.evaluate(
        "e => getComputedStyle(e).transitionDuration"
    )
    assert lasts == "0.25s"


@pytest.mark.long
def test_unknown_words_are_named_and_left_out(opened) -> None:
    play = modelled(opened)
    play.find(".sentence input").fill("tom saw zebras and the owl")
    assert "not zebras and and" in play.says
    assert play.find(".strip button").all_inner_texts() == [
        "<start>", "tom", "saw", "the", "owl"
    ]  # fmt: skip
    assert play.find(".grid").is_visible()  # a short text has its matrix
    weights = play.weights
    assert torch.allclose(
        weights.sum(-1), torch.ones(5, dtype=torch.float64), atol=0.02
    )
