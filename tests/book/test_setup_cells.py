"""The first cell of a page is folded if it only sets up, and it alone."""

from browsers import BUILT
from bs4 import BeautifulSoup
from roots import ROOT

from book.site.setup_cells import fold

CODE = (
    '<div class="highlight-python notranslate"><div class="highlight"><pre>'
    '<span></span><span class="kn">{}</span> mattn\n</pre></div>\n</div>\n'
)
INPUT = f'<div class="cell_input docutils container">\n{CODE}</div>\n'
CELL = f'<div class="cell docutils container">\n{INPUT}</div>\n'
SHOWN = f'<div class="cell docutils container">\n{INPUT}<p>out</p></div>\n'


def folds(body: str) -> list[str]:
    tree = BeautifulSoup(fold(body), "lxml")
    return [fold.find("pre").get_text() for fold in tree.select(".mattn-setup details")]


def test_the_first_cell_is_folded_if_it_imports():
    two = CELL.format("import") + "<p>a</p>" + CELL.format("from")
    assert folds(two) == ["import mattn\n"]
    assert BeautifulSoup(fold(two), "lxml").get_text().replace(
        "Set-up\n", ""
    ).split() == (BeautifulSoup(two, "lxml").get_text().split())


def test_no_other_cell_is_folded():
    for page in (
        CELL.format("print") + CELL.format("import"),
        SHOWN.format("import") + CELL.format("import"),
        CELL.format("import").replace("cell docutils", "cell tag_hide-input docutils"),
        "<p>no cell</p>",
    ):
        assert fold(page) == page


def test_every_chapter_and_exercise_of_the_built_book_folds_one():
    for path in sorted((ROOT / "chapters").glob("[0-9]*.ipynb")):
        for page in (path.stem, f"exercises/{path.stem}"):
            built = BUILT / "chapters" / f"{page}.html"
            tree = BeautifulSoup(built.read_bytes(), "lxml")
            (folded,) = tree.select("article .mattn-setup")
            first = folded.find("pre").get_text().lstrip()
            assert first.startswith(("import ", "from ")), page
            assert folded.find_previous(class_="cell") is None, page
