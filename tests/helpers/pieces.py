"""A piece of the first page, alone in a page of its own, opened in a browser."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from browsers import PATIENCE, WIDE
from roots import ROOT

from book.site.scripts import copy_to


@contextmanager
def opened_alone(
    browser: object, folder: Path, piece: ModuleType
) -> Iterator[Callable]:
    """A function that opens ``piece`` in a viewport and a theme.

    At the end no page may have had an error or asked another host for anything.
    """
    contexts, errors, asked = [], [], []
    (folder / "_static").mkdir()
    copy_to(folder, piece.FILES)
    sheets = (ROOT / "book" / "static" / f"{name}.css" for name in ("mattn", "pieces"))
    style = "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)
    file = folder / "page.html"

    def open_(viewport=WIDE, theme="light", **options):
        paper, ink = ("#fff", "#1f2a35") if theme == "light" else ("#14181d", "#d7dee5")
        file.write_text(
            f'<!DOCTYPE html><html lang="en" data-theme="{theme}"><meta '
            'charset="utf-8"><meta name="viewport" content="width=device-width">'
            f"<title>A page</title><style>{style}\nbody {{ color: {ink}; background: "
            f"{paper}; font-family: sans-serif; max-width: 43rem; margin: 1rem auto; "
            f"padding: 0 0.5rem }}</style><main><article><h1>A page</h1>{piece.draw()}"
            "</article></main>",
            encoding="utf-8",
        )
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(file.as_uri())
        return page

    yield open_
    assert errors == []
    assert [url for url in asked if not url.startswith("file:")] == []
    for context in contexts:
        context.close()
