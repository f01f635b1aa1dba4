"""Predict, then run: answers to choose from, what the wrong ones believe, the fold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from accessibility import AXE
from browsers import HANGS_OUT, NARROW, WIDE
from pieces import opened_alone
from roots import ROOT

from book.site import choices
from book.site.choices import mark, questions

# Chapter → how many questions it asks; the rest of its lists are the letters of
# chapter 9, whose suspects are not all believed in.
ASKED = {"01": 3, "02": 3, "03": 3, "04": 3, "05": 3, "06": 3, "09": 3, "10": 3}
LETTERS = 13
ITEM = re.compile(r"^- \(([a-h])\) (.+)$", re.M)

PAGE = """\
<p>Is a dot product of 64 about 1, 8 or 64?</p>
<ul class="simple">
<li><p>(a) 1</p></li>
<li><p>(b) <em>eight</em></p></li>
<li><p>(c) 64</p></li>
</ul>
<div class="cell tag_hide-output"><details class="hide"><summary>Show</summary>
<pre>8.0</pre></details></div>
<details><summary>Answer</summary>
<p>(b). The root of 64.</p>
<ul class="simple">
<li><p>(a) believes that all of them <em>cancel</em>.</p></li>
</ul>
</details>
<div class="cell tag_hide-output"><details class="hide"><summary>Show</summary>
<pre>and more</pre></details></div>
<p>Between.</p>
<div class="cell tag_hide-output"><details class="hide"><summary>Show</summary>
<pre>of another question</pre></details></div>
"""


def markdown(number: str) -> str:
    """The Markdown of a chapter, all cells."""
    (path,) = (ROOT / "chapters").glob(f"{number}_*.ipynb")
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cells = (c for c in notebook["cells"] if c["cell_type"] == "markdown")
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def as_page(text: str) -> str:
    """Lists and folds of Markdown as a page has them, as far as questions need it."""
    text = re.sub(r"\n  (?=\S)", " ", text)  # an item that goes on in the next line
    lists = r"(?:^- .*\n?)+"

    def drawn(match: re.Match[str]) -> str:
        items = match[0].strip().split("\n")
        lines = "\n".join(f"<li><p>{item[2:]}</p></li>" for item in items)
        return f'<ul class="simple">\n{lines}\n</ul>\n'

    text = re.sub(lists, drawn, text, flags=re.M)
    return re.sub(r"(?<=</summary>)\n\n(.+)", r"\n<p>\1</p>", text)


@pytest.mark.parametrize("number", ASKED)
def test_each_question_has_a_right_answer_and_says_what_the_wrong_ones_believe(number):
    found = list(questions(as_page(markdown(number))))
    asked = [q for q in found if q.believed == {*q.letters} - {q.right}]
    assert len(asked) == ASKED[number]
    assert len(found) - len(asked) == (LETTERS if number == "09" else 0)
    for question in found:
        assert 2 <= len(question.letters) <= 4
        assert question.letters == tuple("abcd"[: len(question.letters)])
    believes = [text for _, text in ITEM.findall(markdown(number)) if "believe" in text]
    assert len(believes) == sum(len(q.letters) - 1 for q in asked)


def test_the_right_answer_does_not_stand_in_one_place():
    rights = [q.right for n in ASKED for q in questions(as_page(markdown(n)))]
    assert all(rights.count(letter) >= 5 for letter in "abc")


def test_a_question_is_marked_and_the_list_in_the_fold_is_not():
    (found,) = questions(PAGE)
    assert found[1:] == (("a", "b", "c"), "b", frozenset("a"))
    marked = mark(PAGE)
    assert marked.count("mattn-choices") == 1
    assert '<ul class="simple mattn-choices" data-right="b">\n<li><p>(a) 1' in marked
    plain = "<ul class='simple'><li><p>(a) no</p></li></ul>"
    assert mark(plain) == plain
    context = {"body": PAGE, "pathto": lambda path, _: f"../{path}"}
    choices.put_in(SimpleNamespace(), "a", "page.html", context, None)
    assert context["body"].endswith('<script src="../_static/choices.js"></script>\n')
    context = {"body": plain}
    choices.put_in(SimpleNamespace(), "a", "page.html", context, None)
    assert context == {"body": plain}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<p>(b). The root", "<p>The root"),
        ("<p>(b). The root", "<p>(e). The root"),
        ("(a) believes", "(d) believes"),
        ("(a) believes", "(b) believes"),
        ("<details>", "<details open>"),
    ],
    ids=[
        "no letter",
        "no such answer",
        "no such belief",
        "right, yet wrong",
        "no fold",
    ],
)
def test_a_question_without_its_answer_stops_the_build(old, new):
    with pytest.raises(ValueError, match="a fold that begins with the right"):
        mark(PAGE.replace(old, new))


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Callable]:
    """A function that opens the page above in a viewport and a theme."""
    script = '<script src="_static/choices.js"></script>'
    piece = SimpleNamespace(FILES=choices.FILES, draw=lambda: f"{mark(PAGE)}{script}")
    with opened_alone(browser, tmp_path, piece) as open_:
        yield open_


def folds(page) -> list[bool]:
    return page.locator("details").evaluate_all("all => all.map(fold => fold.open)")


def test_in_a_browser(opened):
    page = opened()
    assert folds(page) == [False] * 4
    says = page.get_by_role("status")
    assert says.inner_text() == ""
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # the first answer
    assert says.inner_text() == "No: (a) believes that all of them cancel."
    assert folds(page) == [True, True, True, False]
    pressed = page.get_by_role("button", pressed=True)
    assert [b.inner_text() for b in pressed.all()] == ["(a) 1"]
    page.get_by_role("button", name="(c) 64").click()
    assert says.inner_text() == "No, it was not (c), but (b)."
    page.get_by_role("button", name="(b) eight").click()
    assert says.inner_text() == "(b) is right."
    assert [b.inner_text() for b in pressed.all()] == ["(b) eight"]
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_phone_in_both_themes_and_on_paper(opened, theme):
    page = opened(NARROW, theme)
    page.get_by_role("button", name="(a) 1").click()
    assert page.evaluate(HANGS_OUT) == []
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []
    page.emulate_media(media="print")
    assert not page.get_by_text("No: (a)").is_visible()
    assert page.get_by_text("(c) 64").is_visible()


@pytest.mark.long
def test_without_scripts_it_is_a_list_and_a_fold(opened):
    page = opened(WIDE, java_script_enabled=False)
    assert page.locator(".mattn-choices li").count() == 3
    assert page.get_by_role("button").count() == 0
    page.get_by_text("Answer").click()
    assert page.get_by_text("The root of 64").is_visible()
