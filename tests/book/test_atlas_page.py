"""The page of the atlas: all entries, their anchors, and a table that can be worked."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest
from accessibility import AXE
from browsers import WIDE
from bs4 import BeautifulSoup
from nodes import node
from pieces import opened_alone
from roots import ROOT

from book.site import atlas as piece
from mattn.atlas import WORDS, picture, show_atlas
from mattn.masks.atlas import ENTRIES, atlas
from mattn.playground import address, playground

PAGE = ROOT / "chapters" / "atlas_of_masks.ipynb"
IDS = [f"mask-{entry.key}" for entry in ENTRIES]


@pytest.fixture(scope="module")
def stored() -> str:
    """The table as the page stores it."""
    cells = json.loads(PAGE.read_text(encoding="utf-8"))["cells"]
    outputs = (o for c in cells for o in c.get("outputs", ()) if "data" in o)
    texts = ("".join(o["data"].get("text/html", "")) for o in outputs)
    return next(text for text in texts if "mattn-atlas" in text)


def test_every_entry_has_a_row_at_its_own_address(stored):
    rows = BeautifulSoup(stored, "lxml").select("tbody tr")
    assert [row["id"] for row in rows] == IDS
    for row, entry in zip(rows, ENTRIES, strict=True):
        told = row.get_text(" ")
        for text in (entry.title, entry.rule, entry.why, entry.who, entry.pairs):
            assert text in told, (entry.key, text)
        assert (row["data-kind"] == "mask") is (not entry.instead)
        assert row.svg["role"] == "img"


def test_the_picture_is_the_mask():
    drawn = BeautifulSoup(picture(atlas("window").matrix(8), "a window"), "lxml").svg
    cells = re.findall(r"M([\d.]+) ([\d.]+)h", drawn.path["d"])
    seen = {(int(float(y) // 9), int(float(x) // 9)) for x, y in cells}
    allowed = atlas("window").matrix(8).nonzero().tolist()
    assert seen == {tuple(cell) for cell in allowed}
    said = "query 0: 0; query 1: 0, 1; query 2: 0, 1, 2; query 3: 1, 2, 3"
    assert said in drawn["aria-label"]


def test_the_links_lead_to_the_mask_in_the_playground(stored):
    config = json.loads(
        BeautifulSoup(playground()._repr_html_(), "lxml").div["data-config"]
    )
    calls, expected = [], []
    for entry in ENTRIES:
        fragment = address(WORDS, entry.matrix(8))
        assert f"playground.html{fragment}".replace("&", "&amp;") in stored
        assert fragment.startswith(f"#{playground().name}&")
        calls.append(["visit", fragment.partition("&")[2], config])
        expected.append(entry.matrix(8).tolist())
    seen = node(calls)
    allowed = node([["allowedOf", found["state"]] for found in seen])
    assert allowed == expected
    chapter = (ROOT / "chapters" / "playground.ipynb").read_text(encoding="utf-8")
    assert f'id=\\"{playground().name}\\"' in chapter


def test_the_script_stands_behind_the_table(stored):
    context = {"body": f"<p>a</p>{stored}<p>b</p>", "pathto": lambda name, _: name}
    piece.put_in(SimpleNamespace(), "atlas", "page.html", context, None)
    body = BeautifulSoup(context["body"], "lxml")
    assert body.select_one("script")["src"] == "_static/atlas.js"
    assert body.select_one("script").find_previous_sibling()["class"] == ["mattn-atlas"]
    other = {"body": "<p>a</p>"}
    piece.put_in(SimpleNamespace(), "other", "page.html", other, None)
    assert other == {"body": "<p>a</p>"}


# ---------------------------------------------------------------- in a browser


@pytest.fixture
def opened(chrome, tmp_path):
    with opened_alone(chrome, tmp_path, piece) as open_:
        yield open_


def shown(page) -> list[str]:
    return page.evaluate(
        "[...document.querySelectorAll('tbody tr:not([hidden])')].map(r => r.id)"
    )


@pytest.mark.long
def test_it_is_filtered_and_sorted_by_keyboard(opened):
    page = opened(WIDE)
    assert shown(page) == IDS
    page.keyboard.press("Tab")
    page.keyboard.type("gemma window")
    found = shown(page)
    assert "mask-images" in found
    assert "mask-causal" not in found
    assert page.get_by_role("status").inner_text() == f"{len(found)} of {len(IDS)}"
    page.get_by_role("searchbox").fill("")
    page.keyboard.press("Tab")
    page.keyboard.press("Space")
    masks = [f"mask-{entry.key}" for entry in ENTRIES if not entry.instead]
    assert shown(page) == masks
    page.keyboard.press("Space")
    pairs = page.get_by_role("button", name="pairs")
    pairs.focus()
    page.keyboard.press("Enter")
    counts = {f"mask-{entry.key}": entry.n_pairs(8) for entry in ENTRIES}
    assert shown(page) == sorted(IDS, key=lambda i: counts[i])
    page.keyboard.press("Enter")
    assert [counts[i] for i in shown(page)] == sorted(counts.values(), reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text() == "pairs"
    page.add_script_tag(path=AXE)
    faults = page.evaluate("axe.run('main').then(r => r.violations)")
    assert [fault["id"] for fault in faults] == []


@pytest.mark.long
def test_without_scripts_the_table_is_whole(opened):
    page = opened(WIDE, java_script_enabled=False)
    assert page.locator("tbody tr").count() == len(IDS)
    assert page.locator("tbody tr").first.is_visible()
    assert page.locator("input").count() == 0


def test_outside_a_notebook_it_is_a_list():
    assert str(show_atlas([atlas("causal")])) == "causal: causal"
