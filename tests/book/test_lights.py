"""Words and symbols light up cells: of figures that are there, and the right ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
from accessibility import AXE
from browsers import NARROW
from pieces import opened_alone
from roots import ROOT

from book.site import lights
from book.site.lights import LIGHTS, SAID, cells, grids
from book.site.pages import finished
from mattn import causal, full, window
from mattn.plotting import (
    show_attention,
    show_curves,
    show_leaks,
    show_mask,
    show_masks,
    show_weights,
    svg,
)
from mattn.toy import TOKENS

MASK = causal.matrix(6)
WEIGHTS = MASK / MASK.sum(1, keepdim=True)
SCORES = WEIGHTS * 3 - 1


def sizes(figure) -> list[tuple[int, int]]:
    return [(grid.rows, grid.columns) for grid in grids(svg(figure))]


def test_the_grids_of_every_figure_of_cells_are_found():
    assert sizes(show_mask(MASK, TOKENS, query=4)) == [(6, 6)]
    assert sizes(show_mask(causal.matrix(2, 5))) == [(2, 5)]
    assert sizes(show_weights(WEIGHTS, TOKENS, allowed=MASK)) == [(6, 6)]
    assert sizes(show_leaks(full.matrix(4), causal.matrix(4))) == [(4, 4)]
    assert sizes(show_attention(SCORES, MASK, WEIGHTS, TOKENS)) == [(6, 6)] * 3
    five = {f"window({w})": window(w).matrix(6) for w in range(1, 6)}
    assert sizes(show_masks(five, TOKENS)) == [(6, 6)] * 5
    assert sizes(show_curves({"a": (range(3), range(3))})) == []


def test_a_number_stands_in_the_cell_that_it_belongs_to():
    values = np.arange(12).reshape(3, 4) / 20 + 0.1
    text = svg(show_weights(values, allowed=np.ones((3, 4), dtype=bool)))
    (grid,) = grids(text)
    printed = {f"{v:.2f}": at for at, v in np.ndenumerate(values)}
    found = {}
    for line in text.splitlines():
        said = re.search(r">(\d\.\d\d)</text>", line)
        at = re.search(r'x="([\d.]+)" y="([\d.]+)"', line)
        at = at or re.search(r"translate\(([\d.]+) ([\d.]+)\)", line)
        if said and at:
            x, y = map(float, at.groups())
            column = (x - grid.x) / grid.side
            row = (y - grid.y) / grid.side
            found[said[1]] = int(row), int(column)
    assert found == printed


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("1,2", {(1, 2)}),
        ("1,*", {(1, 0), (1, 1), (1, 2)}),
        ("0-1,1-2", {(0, 1), (0, 2), (1, 1), (1, 2)}),
        ("0,0 1,1", {(0, 0), (1, 1)}),
    ],
)
def test_cells_are_said_by_row_and_column(said, expected):
    assert cells(said, 2, 3) == expected


def in_chapters() -> Iterator[tuple[str, str, str]]:
    """Chapter, what ``data-lights`` says, and the figure as it is stored."""
    for path in sorted((ROOT / "chapters").glob("*.ipynb")):
        found = json.loads(path.read_text(encoding="utf-8"))["cells"]
        figures = {
            c["metadata"]["mystnb"]["figure"]["name"]: "".join(
                "".join(o.get("data", {}).get("image/svg+xml", ""))
                for o in c["outputs"]
            )
            for c in found
            if c["metadata"].get("mystnb", {}).get("figure", {}).get("name")
        }
        for cell in found:
            if cell["cell_type"] == "markdown":
                for said, _ in LIGHTS.findall("".join(cell["source"])):
                    yield (
                        path.stem,
                        said,
                        figures.get(said.partition(":")[0].split("/")[0]),
                    )


def test_what_chapters_speak_of_is_there():
    all_of_them = list(in_chapters())
    assert {chapter[:2] for chapter, *_ in all_of_them} >= {"01", "02", "04", "05"}
    for chapter, said, figure in all_of_them:
        assert figure, f"{chapter}: no figure for {said}"
        name = SAID.fullmatch(said)
        grid = grids(figure)[int(name[2] or 0)]
        meant = cells(name[3], grid.rows, grid.columns)
        assert meant, said
        assert meant <= {*np.ndindex(grid.rows, grid.columns)}, (chapter, said)


def page_of(body: str) -> str:
    context = {"body": body, "pathto": lambda path, _: path}
    lights.put_in(SimpleNamespace(), "a", "page.html", context, None)
    return context["body"]


def test_words_become_links_to_their_figure():
    words = '<span data-lights="fig-a/2: 4,* 1,0-1">row <em>mat</em></span>'
    math = '<span class="math notranslate">\\(Q\\)</span>'
    symbol = f'<span data-lights="fig-a: 0,0">{math}</span>'
    page = page_of(f'<figure id="fig-a"></figure><p>{words} and {symbol}.</p>')
    assert (
        '<a class="mattn-lights" href="#fig-a" data-grid="2" data-cells="4,* 1,0-1">'
        "row <em>mat</em></a>" in page
    )
    # A formula is drawn and not written: a link of nothing else is named.
    assert f'data-cells="0,0" aria-label="its cells">{math}</a>.' in page
    assert page.endswith('<script src="_static/lights.js"></script>\n')
    assert page_of("<p>none</p>") == "<p>none</p>"
    with pytest.raises(
        ValueError, match="expected a figure of the page a; got 'fig-a'"
    ):
        page_of(words)
    with pytest.raises(ValueError, match="expected a figure and its cells"):
        page_of('<span data-lights="fig-a row 4">row</span>')


def glyphs(text: str) -> str:
    return "".join(f'<mjx-c class="mjx-c{ord(c):X}">{c}</mjx-c>' for c in text)


@pytest.fixture
def opened(browser, tmp_path) -> Iterator[Callable]:
    """A function that opens a page with a formula, words and a figure."""
    file = tmp_path / "figure.svg"
    file.write_text(svg(show_mask(MASK)), encoding="utf-8")
    image = '<img src="figure.svg" alt="A triangle" />'
    figure = finished(image, tmp_path / "a.html")
    body = (
        f'<div class="math">{glyphs("A=softmax(QK+Mask)")}</div>'
        '<p><span data-lights="fig-a: 0,1-5">Mask</span> hides, '
        '<span data-lights="fig-a: 4,4 0,0">row</span> shows.</p>'
        f'<figure id="fig-a">{figure}</figure>'
    )
    piece = SimpleNamespace(FILES=lights.FILES)
    piece.draw = lambda: page_of(body)
    with opened_alone(browser, tmp_path, piece) as open_:
        yield open_


def lit(page) -> tuple[int, str]:
    """How many boxes are drawn, and the letters of the formula that are marked."""
    boxes = page.locator("rect.mattn-lit").count()
    return boxes, "".join(page.locator("mjx-c.mattn-lit").all_inner_texts())


def test_in_a_browser(opened):
    page = opened(NARROW, "dark")
    mask = page.get_by_role("link", name="Mask")
    assert lit(page) == (0, "")
    mask.hover()
    assert lit(page) == (1, "Mask")
    box = page.locator("rect.mattn-lit").bounding_box()
    drawing = page.locator("svg").bounding_box()
    assert box["width"] == pytest.approx(5 * (box["height"] - 3) + 3, abs=3)
    assert drawing["x"] < box["x"]
    assert box["x"] + box["width"] <= drawing["x"] + drawing["width"] + 4
    page.mouse.move(2, 2)
    assert lit(page) == (0, "")
    page.keyboard.press("Tab")
    assert lit(page) == (1, "Mask")
    page.keyboard.press("Tab")
    assert lit(page) == (2, "")
    page.get_by_role("link", name="row").blur()
    assert lit(page) == (0, "")
    page.locator("mjx-c").nth(13).hover()  # a letter of Mask in the formula
    assert lit(page) == (1, "Mask")
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
def test_without_scripts_a_word_leads_to_its_figure(opened):
    page = opened(java_script_enabled=False)
    page.get_by_role("link", name="Mask").click()
    assert page.url.endswith("#fig-a")
