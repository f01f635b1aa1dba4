"""Each fault that a stored figure can have is planted, and must be caught."""

import re
from collections.abc import Callable
from copy import deepcopy
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from every_figure import FIGURES
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbval.plugin import IPyNbCell, get_sanitize_patterns
from roots import ROOT
from stored_figures import differences, stored_pictures, svg_faults, unguarded
from stored_state import faults

from book.notebooks import FIGURE, canonical, described, digest, signed, to_text
from mattn import causal, window
from mattn.masks import Mask
from mattn.plotting import measured, show_curves, show_mask, show_weights, svg
from mattn.tables import show_table, show_texts

TOC = {"chapters/one"}
SANITIZE = get_sanitize_patterns(ROOT.joinpath("tests/nbval_sanitize.cfg").read_text())


def shown(source: str, figure: str, name: str, alt: str) -> NotebookNode:
    output = new_output("execute_result", data={FIGURE: figure, "text/plain": "<F>"})
    cell = new_code_cell(source, outputs=[output])
    words = {"name": name, "caption": f"What {alt} is drawn for."}
    cell.metadata["mystnb"] = {"figure": words, "image": {"alt": alt}}
    return cell


def stored() -> NotebookNode:
    cells = [
        new_markdown_cell("# Two figures and a table"),
        shown(
            "show(1)", svg(show_mask(causal.matrix(5))), "fig-a", "a causal mask of 5"
        ),
        shown(
            "show(2)", svg(show_mask(window(2).matrix(5))), "fig-b", "a window of two"
        ),
        new_code_cell("table"),
    ]
    table = {"text/html": "<table></table>", "text/plain": "a | b"}
    cells[3].outputs = [new_output("execute_result", data=table)]
    for count, cell in enumerate(cells[1:], start=1):
        cell.execution_count = cell.outputs[0].execution_count = count
    return signed(canonical(new_notebook(cells=cells)))


def other_picture(notebook: NotebookNode) -> None:
    another = svg(show_mask(causal.matrix(4)))
    cell = notebook.cells[1]
    cell.outputs[0].data[FIGURE] = described(another, cell)


def one_pixel(notebook: NotebookNode) -> None:
    cell = notebook.cells[1]
    small = 'class="mattn-figure" width="1" height="1" viewBox="0 0 1 1"'
    empty = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {small} style="--mattn-least: 1px">'
    )
    cell.outputs[0].data[FIGURE] = described(f"{empty}\n</svg>\n", cell)


def a_cell_moved(notebook: NotebookNode) -> None:
    data = notebook.cells[1].outputs[0].data
    data[FIGURE] = re.sub(r"M(\d)", r"M1\1", data[FIGURE], count=1)


def swapped_outputs(notebook: NotebookNode) -> None:
    a, b = (cell.outputs[0] for cell in notebook.cells[1:3])
    a.data, b.data = b.data, a.data
    canonical(notebook)


def other_alt(notebook: NotebookNode) -> None:
    notebook.cells[1].metadata.mystnb.image.alt = "a window of two"


def other_source(notebook: NotebookNode) -> None:
    notebook.cells[1].source = "show(3)"


def stored_as_display(notebook: NotebookNode) -> None:
    data = notebook.cells[1].outputs[0].data
    notebook.cells[1].outputs = [new_output("display_data", data=data)]


def unsigned(notebook: NotebookNode) -> None:
    del notebook.cells[1].metadata["mattn"]


def other_table(notebook: NotebookNode) -> None:
    notebook.cells[3].outputs[0].data["text/html"] = "<table><tr></tr></table>"


def a_png(notebook: NotebookNode) -> None:
    notebook.cells[1].outputs[0].data = {
        "image/png": "iVBORw0KGgo=",
        "text/plain": "<F>",
    }
    signed(notebook)


PLANTS = {
    other_picture: "make notebooks",
    one_pixel: "make notebooks",
    a_cell_moved: "make notebooks",
    swapped_outputs: "make notebooks",
    other_alt: "make tidy",
    other_source: "make notebooks",
    stored_as_display: "make notebooks",
    unsigned: "make notebooks",
    other_table: "make notebooks",
    a_png: "stores image/png",
}


def test_figures_as_they_are_stored_have_no_fault():
    assert not faults(to_text(stored()), "one", TOC)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_planted_fault_is_caught(plant: Callable[[NotebookNode], None]):
    broken = stored()
    plant(broken)
    found = faults(to_text(broken), "one", TOC)
    assert found
    assert all(PLANTS[plant] in fault for fault in found)


def test_a_png_with_a_reason_is_let_in():
    notebook = stored()
    a_png(notebook)
    notebook.cells[1].metadata.mattn["why-not-svg"] = "a photograph of a face"
    assert not faults(to_text(notebook), "one", TOC)


def test_tidying_keeps_the_signature_and_the_words_inside():
    notebook = stored()
    text = to_text(notebook)
    assert to_text(canonical(deepcopy(notebook))) == text
    figure = notebook.cells[1].outputs[0].data[FIGURE]
    assert "<desc>a causal mask of 5</desc>" in figure
    other_alt(notebook)  # by its author: the figure is still that of the source
    tidy = canonical(notebook)
    assert "<desc>a window of two</desc>" in tidy.cells[1].outputs[0].data[FIGURE]
    assert tidy.cells[1].metadata.mattn.shown == digest(tidy.cells[1])
    assert not list(stored_pictures(tidy.cells[1]))


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_light_and_can_be_read_on_a_phone(name):
    assert not list(svg_faults(svg(FIGURES[name]())))


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('width="', 'width="9', "pixels; at most"),
        ('class="mattn-figure"', 'class="x"', "not drawn by mattn"),
        ("--mattn-least: ", "--mattn-least: 0.", "text of"),
        ("<text", f"<!-- {'x' * 60_000} --><text", "bytes"),
    ],
)
def test_a_figure_out_of_bounds_is_seen(old, new, fault):
    wide = svg(FIGURES["show_attention"]())
    assert not list(svg_faults(wide))
    (found,) = svg_faults(wide.replace(old, new, 1))
    assert fault in found


def curve(*y: float, name: str = "loss", mark: bool = False) -> Callable[[], str]:
    def draw() -> str:
        figure = show_curves({name: (range(len(y)), list(y))})
        return svg(measured(figure) if mark else figure)

    return draw


def weights(values: torch.Tensor) -> Callable[[], str]:
    return lambda: svg(show_weights(values))


def mask(rule: Mask) -> Callable[[], str]:
    return lambda: svg(show_mask(rule.matrix(6)))


WEIGHTS = torch.tensor([[1.0, 0.0], [0.25, 0.75]])


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        (curve(1, 2, 3), curve(1, 2, 3), True),
        (curve(1, 2, 3), curve(1, 2.001, 3), True),
        (curve(1, 2, 3), curve(1, 2.1, 3), False),
        (curve(1, 2, 3), curve(1, 2, 3, name="gain"), False),
        (curve(1, 2, 3), curve(1, 3), False),
        (curve(1, 3, mark=True), curve(2, 9, 0, mark=True), True),
        (curve(1, 3, mark=True), curve(1, 3, name="gain", mark=True), False),
        (curve(1, 3, mark=True), curve(2, 9), False),
        (weights(WEIGHTS), weights(WEIGHTS * 0.999999), True),
        (weights(WEIGHTS), weights(WEIGHTS * 0.98), False),
        (mask(causal), mask(~causal), False),
        (weights(torch.eye(32)), weights(torch.eye(32) * 0.9), False),
    ],
)
def test_a_figure_drawn_again_is_compared_with_the_stored_one(one, two, same):
    assert (not list(differences(one(), two()))) is same


def test_words_for_the_blind_are_no_difference():
    cell = stored().cells[1]
    drawn = svg(show_mask(causal.matrix(5)))
    assert cell.outputs[0].data[FIGURE] != drawn
    assert not list(differences(cell.outputs[0].data[FIGURE], drawn))


@pytest.mark.parametrize(
    ("stored", "drawn", "same"),
    [
        (curve(1, 2, 3), curve(1, 2.001, 3), True),
        (curve(1, 2, 3), curve(1, 2.5, 3), False),
        (curve(1, 3, mark=True), curve(2, 9, 0, mark=True), True),
        (curve(1, 3, mark=True), curve(1, 3, name="gain", mark=True), False),
        (curve(1, 3), lambda: "<p>", False),
    ],
)
def test_nbval_compares_figures_in_this_way(stored, drawn, same):
    """conftest.py teaches it: the method is nbval's own, with its own outputs."""

    def outputs(figure: str) -> list[NotebookNode]:
        data = {FIGURE: figure, "text/plain": "<Figure>"}
        return [new_output("display_data", data=data)]

    assert nbval_finds(outputs(drawn()), outputs(stored())) is same


def nbval_finds(drawn: list[NotebookNode], stored: list[NotebookNode]) -> bool:
    cell = IPyNbCell.__new__(IPyNbCell)
    skipped = ("metadata", "output_type", "execution_count")
    cell.parent = SimpleNamespace(
        skip_compare=skipped, sanitize_patterns=dict(SANITIZE)
    )
    cell.colors = SimpleNamespace(OKBLUE="", FAIL="", ENDC="")
    cell.format_output_compare = lambda *_: None
    return cell.compare_outputs(drawn, stored)


@pytest.mark.parametrize("kind", [repr, lambda table: table._repr_html_()])
def test_measured_texts_are_not_compared_and_others_are(kind):
    def seen(table: object) -> str:
        text = kind(table)
        for pattern, replacement in SANITIZE:
            text = re.sub(pattern, replacement, text)
        return text

    samples = [show_texts({"a": t}, measured=True) for t in ("to be", "not to\nbe <")]
    tables = [show_table(["a"], [[t]], measured=True) for t in ("1", "2")]
    for one, other in (samples, tables):
        assert kind(one) != kind(other)
        assert seen(one) == seen(other) == " MEASURED"
    assert seen(show_texts({"a": "to be"})) != seen(show_texts({"a": "not to be"}))


@pytest.mark.parametrize(
    ("source", "guarded"),
    [
        ("assert loss < 3", True),
        ("if x:\n    assert 0 < min(losses) < 3", True),
        ("assert True", False),
        ("assert 1 < 2", False),
        ("assert loss", False),
        ("loss < 3", False),
    ],
)
def test_what_was_measured_is_guarded(source, guarded):
    table = show_texts({"a": "b"}, measured=True)
    for data in (
        {"text/html": table._repr_html_(), "text/plain": repr(table)},
        {FIGURE: curve(1, 2, mark=True)()},
    ):
        cell = new_code_cell(source, outputs=[new_output("display_data", data=data)])
        assert (not list(unguarded(cell))) is guarded


def test_nobody_prints_the_mark():
    output = new_output("stream", name="stdout", text="As measured:\n12")
    (fault,) = unguarded(new_code_cell("assert x < 1", outputs=[output]))
    assert "would take for a mark" in fault


def test_figures_drawn_by_matplotlib_alone_are_marked_too():
    figure, ax = plt.subplots()
    ax.plot([1, 2])
    plt.close(figure)
    assert "data-measured" in svg(measured(figure))
