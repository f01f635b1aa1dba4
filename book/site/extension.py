"""What Jupyter Book leaves out of a page: its description; a complete front door.

And what it should not repeat: the script of the playground, which every output
brings along so that a lone notebook has it, is one file in the book.

The description of a page is ``mattn: {description: ...}`` in the metadata of
its notebook (in a ``.md`` page: ``description`` in its front matter), or else
the first paragraph.
"""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

from book import ROOT
from book.classroom.exercises import write_student_pages
from book.site import (
    atlas,
    choices,
    editions,
    lights,
    search,
    setup_cells,
    strip,
    tap,
    widgets,
)
from book.site.pages import add_open_graph, finish_pages, set_site
from book.site.scripts import copy_to
from mattn.playground import script

SCRIPT = "playground.js"
# What it loads when its reader asks for the trained model.
WITH_IT = (*strip.MODEL, strip.WEB / "stories_uncovered.js")
INLINE = re.compile(r"<script>\n// The mask playground:.*?</script>", re.DOTALL)
PIECES = (strip, tap, widgets, choices, lights, atlas)  # what a reader can touch
LONGEST = 200  # characters; search engines show about 160
GENERATED = {
    "genindex": "Every function and class of the package mattn, from A to Z.",
    "search": "Search the whole book.",
    "404": "There is no page at this address: search the book, or see its contents.",
}


def name_works(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """A work of the bibliography has its key as an address, which never moves."""
    works: Any = app.env.get_domain("cite")  # sphinxcontrib.bibtex's
    keys = {c.citation_id: c.key for c in works.citations}
    for work in doctree.findall(nodes.citation):
        work["ids"] += [keys[own] for own in work["ids"] if own in keys]


def shortened(text: str) -> str:
    """One line of at most ``LONGEST`` characters, cut between words."""
    text = " ".join(text.split())
    if len(text) <= LONGEST:
        return text
    return text[: LONGEST - 1].rsplit(" ", 1)[0].rstrip(",;:–-") + "…"


def stated_description(app: Sphinx, page: str) -> str | None:
    """The description that a page states about itself, if it does."""
    if page not in app.env.all_docs:
        return None
    path = Path(app.env.doc2path(page))
    if path.suffix == ".ipynb":
        metadata = json.loads(path.read_text(encoding="utf-8"))["metadata"]
        return metadata.get("mattn", {}).get("description")
    return app.env.metadata[page].get("description")


def first_paragraph(doctree: nodes.document | None) -> str | None:
    """The first paragraph of running text, without math and notes."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree else ():
        if isinstance(paragraph.parent, nodes.section):
            return paragraph.astext()
    return None


def describe(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Add ``<meta name="description">`` to every page, also index and search."""
    text = (
        stated_description(app, page)
        or first_paragraph(doctree)
        or GENERATED.get(page, app.config.html_title)
    )
    text = shortened(text or "")
    content = html.escape(text, quote=True)
    tag = f'<meta name="description" content="{content}" />'
    context["metatags"] = context.get("metatags", "") + tag
    add_open_graph(app, page, template, context, text)


def share_script(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Put the one file in place of every copy of the playground's script."""
    first, *others = INLINE.split(context.get("body", ""))
    if others:
        address = context["pathto"](f"_static/{SCRIPT}", 1)
        linked = f'<script src="{address}"></script>'
        context["body"] = linked.join([first, "".join(others)])


def set_edition(app: Sphinx, config: Config) -> None:
    """Where the book's repository is; the theme is not told: it knows few hosts."""
    stated = config.html_theme_options.get("repository_url") or None
    config.html_theme_options["repository_url"] = ""
    vars(app)["mattn_edition"] = editions.find_edition(os.environ, stated, ROOT)


def add_buttons(
    app: Sphinx, page: str, template: str, context: dict[str, Any], doctree: Any
) -> None:
    """Open in Colab, and the repository: where there are such addresses."""
    edition = vars(app)["mattn_edition"]
    if edition is None or "header_buttons" not in context:
        return
    buttons = context["header_buttons"]
    is_notebook = page in app.env.all_docs and app.env.doc2path(page).endswith(".ipynb")
    if is_notebook and edition.repository.for_colab:
        buttons.append(
            {
                "type": "link",
                "url": edition.address(page),
                "text": "Colab",
                "tooltip": "Open in Colab",
                "icon": "_static/images/logo_colab.png",
                "label": "colab-button",
            }
        )
    buttons.append(
        {
            "type": "link",
            "url": edition.repository.url,
            "tooltip": "Repository",
            "icon": "fas fa-code-branch",
            "label": "repository-button",
        }
    )


def missing_page(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """What a site answers with where it has no page; a folder has no such use."""
    if app.config.html_baseurl:
        yield "404", {"title": "No such page"}, "404.html"


def write_edition(app: Sphinx, exception: Exception | None) -> None:
    """The notebooks that the buttons open; or one line that there are none."""
    if exception is not None or app.builder.name != "html":
        return
    edition = vars(app)["mattn_edition"]
    if edition is None or not edition.repository.for_colab:
        print(editions.NONE)
    else:
        editions.write(edition, Path(app.outdir))


def copy_scripts(app: Sphinx, exception: Exception | None) -> None:
    """The playground, the model that it loads, and the scripts of the pieces."""
    if exception is None and app.builder.name == "html":
        own = (file for piece in PIECES for file in piece.FILES)
        copy_to(app.outdir, [*WITH_IT, *own])
        Path(app.outdir, "_static", SCRIPT).write_text(script(), encoding="utf-8")


def write_front_door(app: Sphinx, exception: Exception | None) -> None:
    """The ``index.html`` at the top: a whole page that leads to the first one."""
    if exception is not None or app.builder.name != "html":
        return
    target = app.builder.get_target_uri(app.config.root_doc)
    title = html.escape(app.env.titles[app.config.root_doc].astext())
    page = (
        f'<!DOCTYPE html>\n<html lang="{app.config.language}">\n<head>\n'
        '<meta charset="utf-8" />\n'
        f'<meta name="description" content="{title}: the first page" />\n'
        f'<meta http-equiv="refresh" content="0; url={target}" />\n'
        '<link rel="icon" href="data:," />\n'
        f"<title>{title} — {app.config.html_title}</title>\n</head>\n"
        f'<body><p><a href="{target}">{title}</a></p></body>\n</html>\n'
    )
    Path(app.outdir, "index.html").write_text(page, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    # The student notebooks are pages too: they must be there to be listed.
    write_student_pages()
    app.connect("config-inited", set_site)
    app.connect("config-inited", set_edition)
    app.connect("config-inited", search.set_shortcuts)
    app.connect("doctree-resolved", name_works)
    app.connect("html-page-context", add_buttons, priority=510)
    app.connect("html-page-context", describe)
    app.connect("html-page-context", share_script)
    for piece in (*PIECES, setup_cells):
        app.connect("html-page-context", piece.put_in)
    app.connect("html-collect-pages", missing_page)
    app.connect("build-finished", copy_scripts)
    app.connect("build-finished", write_edition)
    app.connect("build-finished", write_front_door, priority=900)
    app.connect("build-finished", finish_pages, priority=950)
    app.connect("build-finished", search.finish, priority=960)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
