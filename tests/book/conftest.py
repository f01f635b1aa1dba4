"""A browser for the tests that look at pages in one, and playgrounds in it."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browsers import BUILT, PATIENCE, WIDE, chromium, served
from played import GROUND, TOKENS, Play

from book.site.extension import SCRIPT, WITH_IT
from mattn.playground import playground, script

LINKED = '<script src="playground.js"></script>'


@pytest.fixture(scope="module")
def chrome() -> Iterator[object]:
    """A browser, whatever it is to show."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def browser(chrome: object) -> object:
    """A browser for the built book."""
    if not (BUILT / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    return chrome


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of the built book, served on this machine."""
    with served() as address:
        yield address


# Long because: most of it is the page and its listeners, read best in one piece.
@pytest.fixture
def opened(chrome, tmp_path: Path) -> Iterator[Callable[..., Play]]:
    contexts, plays = [], []

    def open_(
        made=None,
        look=(WIDE, "light"),
        *,
        body: str = "",
        address: str = "",
        linked: bool = False,
        **options,
    ) -> Play:
        viewport, scheme = look
        ink, paper = GROUND[scheme]
        made = playground(TOKENS) if made is None else made
        widget = made._repr_html_()
        if linked:  # as a page of the book: the script is a file, the model beside it
            (tmp_path / SCRIPT).write_text(script(), encoding="utf-8")
            for source in WITH_IT:
                shutil.copyfile(source, tmp_path / source.name)
            widget = widget.partition("<script>")[0] + LINKED
        file = tmp_path / f"page{len(contexts)}.html"
        file.write_text(
            f'<!DOCTYPE html><html lang="en" data-theme="{scheme}"><meta '
            'charset="utf-8"><meta name="viewport" content="width=device-width"><title>'
            f"A page</title><style>body {{ color: {ink}; background: {paper}; "
            "max-width: 43rem; margin: 1rem auto; padding: 0 0.5rem; font-family: "
            f"sans-serif }}</style><body><main>{body}<article><h1>A page</h1>{widget}"
            "</article></main>",
            encoding="utf-8",
        )
        context = chrome.new_context(viewport=viewport, color_scheme=scheme, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
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
