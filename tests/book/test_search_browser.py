"""The search as a reader has it: the right place first, by keyboard, on a phone.

From a folder as from a host; nothing is asked for before it is needed, and nothing
of another host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote, unquote

import pytest
from accessibility import load_axe, violations
from browsers import BUILT, NARROW, PATIENCE, TYPESET, WIDE

from book.site import search

pytestmark = pytest.mark.long

CHAPTER = "chapters/03_scores"
GLOSSARY = "chapters/glossary#term-"
# A query, and the beginning of the address of what must be found first.
FIRST = {
    # the word that a chapter is named by
    "concept": "chapters/01_concept#",
    "mask matrix": "chapters/02_mask_matrix#",
    "scores": "chapters/03_scores#",
    "softmax": "chapters/04_softmax#",
    "autoregression": "chapters/05_autoregression#",
    "decoder": "chapters/06_decoder#",
    "text generation": "chapters/07_text_generation#",
    "translation": "chapters/08_translation#",
    "masks that went wrong": "chapters/09_masks_that_went_wrong#",
    "GPU": "chapters/10_gpu#",
    # terms
    "additive mask": f"{GLOSSARY}additive-mask",
    "beam search": f"{GLOSSARY}beam-search",
    "causal mask": f"{GLOSSARY}causal-mask",
    "Cross-entropy": f"{GLOSSARY}cross-entropy",
    "dropout": f"{GLOSSARY}dropout",
    "empty row": f"{GLOSSARY}empty-row",
    "KV cache": f"{GLOSSARY}KV-cache",
    "multi-head attention": f"{GLOSSARY}multi-head-attention",
    "perplexity": f"{GLOSSARY}perplexity",
    "teacher forcing": f"{GLOSSARY}teacher-forcing",
    # terms in Chinese
    "掩码": f"{GLOSSARY}mask",
    "因果掩码": f"{GLOSSARY}causal-mask",
    "注意力机制": f"{GLOSSARY}attention-mechanism",
    "束搜索": f"{GLOSSARY}beam-search",
    "交叉熵": f"{GLOSSARY}cross-entropy",
    # names of the package
    "masked_softmax": "chapters/api#mattn.softmax.masked_softmax",
    "mattn.masks.window": "chapters/api#mattn.masks.window",
    "KVCache": "chapters/api#mattn.cache.KVCache",
    # phrases
    "who may see whom": "chapters/02_mask_matrix#",
    '"chain rule multiplies these predictions"': f"{GLOSSARY}autoregressive",
    # misspellings
    "sofmax": "chapters/04_softmax#",
    "autoregresive": "chapters/05_autoregression#",
}
FOUND = """() => [...document.querySelectorAll('#search-results li')].map(e => ({
  href: e.querySelector('a').getAttribute('href'),
  context: e.querySelector('p.context').textContent,
  marked: e.querySelectorAll('mark').length}))"""
DIALOG = "#pst-search-dialog"
SAID = "#search-results .mattn-said"
WHERE = "() => document.activeElement.className"


@pytest.fixture
def page(browser) -> Iterator[object]:
    """A page that is not at fault, and asks for nothing of another host."""
    context = browser.new_context(viewport=WIDE, color_scheme="light")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    faults: list[str] = []
    page.on("console", lambda m: m.type == "error" and faults.append(m.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda r: (
            r.url.startswith(("file:", "http://127.0.0.1:", "data:"))
            or faults.append(r.url)
        ),
    )
    yield page
    context.close()
    assert faults == []


def looked_for(page, query: str) -> list[dict]:
    """What stands on the page of the search, once it has looked for this."""
    page.locator(".bd-search-container input").fill(query)
    page.wait_for_function(
        "q => (new URLSearchParams(location.search).get('q') ?? '') === q", arg=query
    )
    return page.evaluate(FOUND)


def sentences() -> dict[str, list[str]]:
    """The sentences and lines of code of each place, by its address."""
    text = (BUILT / "_static" / search.INDEX).read_text(encoding="utf-8")
    pages, rows = json.loads(text.partition(" = ")[2].removesuffix(";\n"))
    return {
        f"{pages[n][0]}.html#{anchor}": [*map(str.strip, f"{text}\n{code}".split("\n"))]
        for n, anchor, _, text, code in rows
    }


def test_the_right_place_comes_first_from_a_folder(page) -> None:
    page.goto(f"{BUILT.as_uri()}/search.html")
    wrong, cut, places = [], [], sentences()
    for query, address in FIRST.items():
        found = looked_for(page, query)
        first = found[0]["href"].removeprefix("./") if found else "nothing"
        if not first.replace(".html#", "#").startswith(address):
            wrong.append(f"{query}: {first}, expected {address}")
        for hit in found[:10]:
            whole = hit["context"] in places[unquote(hit["href"]).removeprefix("./")]
            if not whole or not hit["marked"]:
                cut.append(f"{query}: {hit}")
    assert wrong == []
    assert cut == []


def test_a_query_has_an_address_also_on_a_host(page, server: str) -> None:
    page.goto(f"{server}/search.html?q={quote('注意力')}")
    page.wait_for_selector("#search-results li mark")
    assert page.locator(SAID).inner_text().endswith("places:")
    page.locator("#search-results li a").first.click()
    page.wait_for_url("**/chapters/glossary.html#term-**")


def test_what_is_not_there_is_said(page) -> None:
    page.goto(f"{BUILT.as_uri()}/search.html")
    assert looked_for(page, "xylophone") == []
    assert page.locator(SAID).inner_text() == "Nothing is found for “xylophone”."
    assert looked_for(page, "sofmax")
    assert page.locator(SAID).inner_text().startswith("Nothing has just these")
    assert looked_for(page, "") == []
    assert page.locator(SAID).inner_text() == ""


def test_nothing_is_loaded_before_a_reader_searches(page) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url))
    page.goto(f"{BUILT.as_uri()}/{CHAPTER}.html")
    page.wait_for_function(TYPESET)
    late = ("minisearch.js", search.INDEX)
    assert not [url for url in asked if url.endswith(late)]
    page.keyboard.press("Control+k")
    page.keyboard.type("softmax")
    page.wait_for_selector(f"{DIALOG} li")
    assert sum(url.endswith(late) for url in asked) == 2


def test_an_index_that_does_not_load_is_said(page) -> None:
    page.route(f"**/{search.INDEX}", lambda route: route.fulfill(body="var x;"))
    page.goto(f"{BUILT.as_uri()}/search.html?q=softmax")
    page.locator(SAID, has_text="The search does not work").wait_for()


def test_all_by_keyboard_and_the_focus_comes_back(page) -> None:
    page.goto(f"{BUILT.as_uri()}/{CHAPTER}.html")
    button = page.locator(".bd-sidebar-primary .search-button-field")
    button.focus()
    page.keyboard.press("/")
    page.keyboard.type("causal/mask")
    page.wait_for_selector(f"{DIALOG} li")
    assert page.locator(f"{DIALOG} input").input_value() == "causal/mask"
    links = page.locator(f"{DIALOG} li a")
    for step in ("ArrowDown", "ArrowDown", "ArrowUp"):
        page.keyboard.press(step)
    assert links.first.evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowUp")
    assert "form-control" in page.evaluate(WHERE)
    for at in ("ArrowDown", "ArrowUp"):  # from what is found, from the field
        page.keyboard.press(at)
        page.keyboard.press("Escape")
        page.wait_for_function(
            "e => document.activeElement === e", arg=button.element_handle()
        )
        assert not page.locator(DIALOG).is_visible()
        page.keyboard.press("Control+k")
        assert page.locator(DIALOG).is_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_url("**/chapters/glossary.html#term-causal-mask")


def test_a_slash_in_a_playground_is_a_slash(page) -> None:
    page.goto(f"{BUILT.as_uri()}/chapters/playground.html")
    field = page.locator("article input[type=text]").first
    field.focus()
    field.press("End")
    page.keyboard.press("/")
    assert not page.locator(DIALOG).is_visible()
    assert field.input_value().endswith("/")


def test_enter_leads_to_all_that_is_found(page) -> None:
    page.goto(f"{BUILT.as_uri()}/{CHAPTER}.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("softmax")
    page.wait_for_selector(f"{DIALOG} li")
    all_ = page.locator(f"{DIALOG} .mattn-all")
    assert all_.get_attribute("href") == "../search.html?q=softmax"
    shown = page.locator(f"{DIALOG} li").count()
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=softmax")
    page.wait_for_selector("#search-results li")
    assert page.locator("#search-results li").count() > shown


def test_a_place_of_the_same_page_is_shown(page) -> None:
    page.goto(f"{BUILT.as_uri()}/chapters/glossary.html")
    page.keyboard.press("Control+k")
    page.keyboard.type("teacher forcing")
    page.locator(f"{DIALOG} li a").first.click()
    page.wait_for_url("**#term-teacher-forcing")
    assert not page.locator(DIALOG).is_visible()
    page.wait_for_function(
        """() => { const y = document.getElementById('term-teacher-forcing')
          .getBoundingClientRect().top; return y >= 0 && y < innerHeight; }"""
    )


# Whatever of the search reaches beyond the screen, or is too small to be hit.
OUT = """() => [...document.querySelectorAll(
    '#pst-search-dialog :is(form, .mattn-found, li, a), #pst-search-dialog')]
  .filter(e => e.checkVisibility()).filter(e => {
    const b = e.getBoundingClientRect();
    const inside = b.left >= 0 && b.right <= innerWidth + 0.5;
    const frame = !e.matches('li *, li, a') && (b.top < 0 || b.bottom > innerHeight);
    return !inside || frame || (e.matches('a') && b.height < 24);
  }).map(e => e.outerHTML.slice(0, 100))"""


@pytest.mark.parametrize("width", [390, 320])
def test_on_a_phone(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 640})
    page.goto(f"{BUILT.as_uri()}/{CHAPTER}.html")
    button = page.locator(".bd-header-article .search-button")
    button.click()
    page.keyboard.type("scaled dot-product attention")
    page.wait_for_selector(f"{DIALOG} li")
    assert page.evaluate(OUT) == []
    page.locator(f"{DIALOG} .mattn-all").scroll_into_view_if_needed()
    assert page.locator(f"{DIALOG} input").is_visible()
    page.keyboard.press("Escape")
    page.wait_for_function(
        "e => document.activeElement === e", arg=button.element_handle()
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("view", [WIDE, NARROW], ids=["1280", "390"])
def test_what_is_found_is_accessible(page, server: str, view, scheme: str) -> None:
    page.set_viewport_size(view)
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.goto(f"{server}/chapters/glossary.html")
    page.wait_for_function(TYPESET)
    page.keyboard.press("Control+k")
    page.keyboard.type("causal mask")
    page.wait_for_selector(f"{DIALOG} li")
    load_axe(page)
    assert violations(page) == []
    page.goto(f"{server}/search.html?q=softmax")
    page.wait_for_selector("#search-results li")
    load_axe(page)
    assert violations(page) == []
