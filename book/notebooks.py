"""Execute notebooks in place and bring them into canonical form.

    python -m book.notebooks run  [NOTEBOOK ...]     execute, store, canonicalise
    python -m book.notebooks tidy [NOTEBOOK ...]     canonicalise only

Canonical form keeps diffs small: stable cell ids, no volatile metadata,
stream outputs joined, one final newline. A figure says inside what it shows: the
caption and the alt text of its cell. Without names: every chapter.

What `run` shows in another form than plain text (a figure, a table) it signs: a
digest of the cell's source and of all that it put out stands in the metadata of
the cell, so that a picture cannot be exchanged, nor its source changed, unseen.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import re
import sys
import time
from html import escape
from pathlib import Path

import nbformat

from book import ROOT

CELL_METADATA = frozenset(
    ("tags", "mystnb", "nbgrader", "editable", "deletable", "jupyter", "mattn")
)
FIGURE = "image/svg+xml"
ROOT_TAG = re.compile(r"<svg\b[^>]*>\n?")
SAID_INSIDE = re.compile(r"<title>.*?</title>\n<desc>.*?</desc>\n", re.DOTALL)
MARKUP = re.compile(r"[$*`\\]")
KERNEL = {
    "display_name": "Python 3 (ipykernel)",
    "language": "python",
    "name": "python3",
}


def canonical(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook in canonical form; the argument is changed and returned."""
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    extra = {k: v for k, v in notebook.metadata.items() if k == "mattn"}
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}, **extra}
    )
    seen: set[str] = set()
    for cell in notebook.cells:
        cell.source = cell.source.rstrip()
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_METADATA and v}
        )
        if cell.get("id", "") in seen | {""}:
            cell.id = _fresh_id(cell, seen)
        seen.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = [_plain(output) for output in _joined(cell.outputs)]
            for output in cell.outputs:
                if FIGURE in output.get("data", {}):
                    output.data[FIGURE] = described(output.data[FIGURE], cell)
    return notebook


def described(svg: str, cell: nbformat.NotebookNode) -> str:
    """The figure with the caption and the alt text of its cell, for the blind."""
    mystnb = cell.metadata.get("mystnb", {})
    caption = mystnb.get("figure", {}).get("caption", "")
    alt = mystnb.get("image", {}).get("alt", "")
    svg = SAID_INSIDE.sub("", svg)
    if not (caption and alt):
        return svg
    title, description = (escape(MARKUP.sub("", text)) for text in (caption, alt))
    said = f"<title>{title}</title>\n<desc>{description}</desc>\n"
    return ROOT_TAG.sub(lambda root: root[0] + said, svg, count=1)


def signed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook with a digest of each cell that shows more than plain text."""
    for cell in notebook.cells:
        cell.metadata.pop("mattn", None)
        if shows(cell):
            cell.metadata["mattn"] = nbformat.from_dict({"shown": digest(cell)})
    return notebook


def shows(cell: nbformat.NotebookNode) -> bool:
    """Whether a cell put out anything but plain text."""
    outputs = cell.get("outputs", [])
    return any(set(output.get("data", {})) - {"text/plain"} for output in outputs)


def digest(cell: nbformat.NotebookNode) -> str:
    """Of the source and of all outputs; not of what describes them."""
    parts = [cell.source.rstrip()]
    for output in cell.outputs:
        data = dict(output.get("data", {}))
        if FIGURE in data:
            data[FIGURE] = SAID_INSIDE.sub("", data[FIGURE])
        parts += [output.output_type, output.get("text", ""), data]
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _fresh_id(cell: nbformat.NotebookNode, seen: set[str]) -> str:
    """An id that the same source always gets: a digest, made unique by a count."""
    digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
    candidate, n = digest, 1
    while candidate in seen:
        n += 1
        candidate = f"{digest}-{n}"
    return candidate


def _joined(outputs: list) -> list:
    """Neighbouring pieces of one stream as one output: their cuts vary by run."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else None
        if (
            last is not None
            and output.output_type == last.output_type == "stream"
            and output.name == last.name
        ):
            last.text += output.text
        else:
            joined.append(output)
    return joined


def _plain(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    if "metadata" in output:
        output.metadata = nbformat.from_dict({})
    return output


def to_text(notebook: nbformat.NotebookNode) -> str:
    """The bytes that are stored: what ``git diff`` shows."""
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def execute(path: Path) -> nbformat.NotebookNode:
    """Run a notebook from an empty kernel, in its own folder."""
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    os.environ["MATTN_PROGRESS"] = "0"
    client = NotebookClient(
        notebook,
        timeout=3600,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # errors only
    )
    asyncio.run(client.async_execute())  # a loop of its own, which is closed
    return notebook


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["run", "tidy"])
    parser.add_argument("notebooks", nargs="*", type=Path)
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((ROOT / "chapters").glob("*.ipynb"))
    for path in paths:
        began = time.perf_counter()
        if options.action == "run":
            notebook = signed(canonical(execute(path)))
        else:
            notebook = nbformat.read(path, as_version=4)
        path.write_text(to_text(canonical(notebook)), encoding="utf-8")
        print(f"{path.name}: {time.perf_counter() - began:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
