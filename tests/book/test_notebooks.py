"""The stored notebooks: every fault of stored_state.py, in every chapter."""

import gc
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
import yaml
from roots import ROOT
from stored_state import code_cells, faults, listed_in_toc

from book.notebooks import execute, to_text

NOTEBOOKS = sorted((ROOT / "chapters").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_state(path: Path) -> None:
    found = faults(path.read_text(encoding="utf-8"), path.stem, listed_in_toc())
    assert not found, "\n" + "\n".join(found)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "no notebook in chapters/: nothing was checked"


def test_toc_names_only_pages_that_exist() -> None:
    """The pages of exercises are made from their sources when the book is built."""
    for name in listed_in_toc():
        source = name.replace("chapters/exercises/", "exercises/")
        ends = (".ipynb", ".md")
        assert any((ROOT / f"{source}{end}").is_file() for end in ends), name


def test_toc_lists_the_exercises_beneath_their_chapters() -> None:
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = {c["file"]: c for part in contents["parts"] for c in part["chapters"]}
    for path in (ROOT / "exercises").glob("*.ipynb"):
        chapter = f"chapters/{path.stem}"
        assert chapter in chapters
        sections = chapters[chapter].get("sections", [])
        assert {"file": f"chapters/exercises/{path.stem}"} in sections


def test_figure_names_are_unique_in_the_book() -> None:
    names = Counter(
        cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
        for path in NOTEBOOKS
        for cell in code_cells(nbformat.read(path, as_version=4))
    )
    del names[None]
    assert not [name for name, count in names.items() if count > 1]


def test_an_execution_leaves_nothing_open(tmp_path: Path) -> None:
    """In a thread, as several run at once: what it leaves ends with it, or is seen."""
    path = tmp_path / "small.ipynb"
    cells = [nbformat.v4.new_code_cell("6 * 7")]
    path.write_text(to_text(nbformat.v4.new_notebook(cells=cells)), encoding="utf-8")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        with ThreadPoolExecutor(1) as pool:
            notebook = pool.submit(execute, path).result()
        gc.collect()
    assert notebook.cells[0].outputs[0].data["text/plain"] == "42"
    assert [str(w.message) for w in said if w.category is ResourceWarning] == []
