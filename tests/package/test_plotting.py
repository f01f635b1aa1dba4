"""The visual language: a colour means one thing, and never stands alone."""

import io
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mattn import causal, masked_softmax, window
from mattn.plotting import (
    ALLOWED,
    BLOCKED,
    LEAK,
    QUERY,
    show_attention,
    show_blocks,
    show_curves,
    show_decoder,
    show_leaks,
    show_mask,
    show_masks,
    show_reach,
    show_roofline,
    show_running,
    show_scaling,
    show_scores,
    show_table,
    show_weights,
)

TOKENS = ["the", "cat", "sat", "on"]
MASK = causal.matrix(3, 4)


def cells(figure: Figure, ax: int = 0) -> dict[tuple[int, int], Rectangle]:
    """(row, column) → the filled cell there."""
    patches = [p for p in figure.axes[ax].patches if p.get_fill()]
    return {(round(p.get_y() + 0.5), round(p.get_x() + 0.5)): p for p in patches}


def colour(cell: Rectangle) -> str:
    return to_hex(cell.get_facecolor()).upper()


def printed(figure: Figure, ax: int = 0) -> dict[tuple[int, int], str]:
    return {
        (round(y), round(x)): text.get_text()
        for text in figure.axes[ax].texts
        for x, y in [text.get_position()]
    }


def dashes(figure: Figure, lines: list[Line2D]) -> set[str]:
    """The kinds of dashes with which the lines are drawn; whole lines have none."""
    file = io.StringIO()
    for line in lines:
        line.set_gid("a line")
    figure.savefig(file, format="svg")
    drawn = re.findall(r'<g id="a line">.*?style="(.*?)"', file.getvalue(), re.S)
    assert len(drawn) == len(lines)
    return {"".join(re.findall("stroke-dasharray: [^;]*", style)) for style in drawn}


def labels(figure: Figure) -> tuple[list[str], list[str]]:
    ax = figure.axes[0]
    return tuple(
        [tick.get_text() for tick in ticks]
        for ticks in (ax.get_yticklabels(), ax.get_xticklabels())
    )


def outlines(figure: Figure) -> list[tuple]:
    return [
        (to_hex(p.get_edgecolor()).upper(), p.get_x(), p.get_y(), p.get_width())
        for p in figure.axes[0].patches
        if not p.get_fill()
    ]


def test_allowed_is_blue_and_blocked_is_grey_and_hatched():
    figure = show_mask(MASK, TOKENS)
    drawn = cells(figure)
    assert len(drawn) == 12
    for where, cell in drawn.items():
        assert colour(cell) == (ALLOWED if MASK[where] else BLOCKED)
        assert bool(cell.get_hatch()) == (not MASK[where])
        assert printed(figure).get(where) == ("✓" if MASK[where] else None)


def test_rows_go_down_and_labels_stand_on_top():
    figure = show_mask(MASK, TOKENS)
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    assert low > high
    for tick in ax.xaxis.get_major_ticks():
        assert tick.label2.get_visible()  # above
        assert not tick.label1.get_visible()  # below
    # Three queries of four tokens stand at the end.
    assert labels(figure) == (TOKENS[1:], TOKENS)


def test_the_query_in_question_is_outlined():
    for figure in (
        show_mask(MASK, query=1),
        show_weights(masked_softmax(torch.zeros(3, 4), MASK), query=1),
    ):
        assert outlines(figure) == [(QUERY, -0.5, 0.5, 4)]


def test_leaks_and_missing_links():
    measured = torch.tensor([[True, True], [False, True]])
    figure = show_leaks(measured, torch.tensor([[True, False], [True, True]]))
    drawn = {where: colour(c) for where, c in cells(figure).items()}
    expected = {(0, 0): ALLOWED, (0, 1): LEAK, (1, 0): BLOCKED, (1, 1): ALLOWED}
    assert drawn == expected
    assert printed(figure) == {(0, 1): "✕"}
    assert [o[0] for o in outlines(figure)] == [ALLOWED]


def test_weights_show_their_values_and_blocked_is_not_small():
    weights = torch.tensor([[1.0, 0.0, 0.0], [0.25, 0.75, 0.0], [0.0, 0.5, 0.5]])
    allowed = causal.matrix(3)
    figure = show_weights(weights, allowed=allowed)
    assert printed(figure) == {
        (i, j): f"{weights[i, j]:.2f}" for i in range(3) for j in range(i + 1)
    }
    drawn = cells(figure)
    assert drawn[2, 0].get_hatch() is None  # small, not blocked
    assert drawn[0, 1].get_hatch()
    cividis = plt.get_cmap("cividis")
    assert colour(drawn[1, 1]) == to_hex(cividis(0.75)).upper()
    assert colour(drawn[2, 0]) == to_hex(cividis(0.0)).upper()
    assert cells(show_weights(weights))[2, 0].get_hatch()  # without it, zeros are


def test_scores_are_coloured_symmetrically_about_zero():
    scores = torch.tensor([[2.0, -math.inf], [-1.0, 0.0]])
    figure = show_scores(scores)
    drawn, puor = cells(figure), plt.get_cmap("PuOr")
    assert colour(drawn[0, 0]) == to_hex(puor(1.0)).upper()
    assert colour(drawn[1, 0]) == to_hex(puor(0.25)).upper()
    assert colour(drawn[1, 1]) == to_hex(puor(0.5)).upper()
    assert colour(drawn[0, 1]) == BLOCKED
    assert printed(figure) == {(0, 0): "2.00", (1, 0): "−1.00", (1, 1): "0.00"}
    hidden = show_scores(scores, allowed=torch.tensor([[True, False], [False, True]]))
    assert colour(cells(hidden)[1, 0]) == BLOCKED


def test_large_grids_print_no_values():
    big = causal.matrix(9)
    for figure in (
        show_mask(big),
        show_weights(masked_softmax(torch.zeros(9, 9), big)),
    ):
        assert not printed(figure)


def test_an_atlas_names_its_masks():
    figure = show_masks({"a": MASK, "b": ~MASK}, n_columns=3)
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", ""]
    assert colour(cells(figure, 1)[0, 0]) == BLOCKED
    assert not figure.axes[2].axison


def test_curves_differ_by_more_than_colour_and_show_the_floor():
    x = [0, 1, 2]
    curves = {str(n): (x, [n, n, n]) for n in range(6)}
    figure = show_curves(curves, floor=1.1, floor_label="entropy", y_label="nats")
    *lines, floor = figure.axes[0].lines
    assert len(dashes(figure, lines)) == 6
    assert len({line.get_color() for line in lines}) == 6
    assert list(floor.get_ydata()) == [1.1, 1.1]
    assert [t.get_text() for t in figure.axes[0].texts] == ["entropy"]
    legend = figure.axes[0].get_legend().get_texts()
    assert [t.get_text() for t in legend] == list(curves)
    assert figure.axes[0].get_ylabel() == "nats"


WEIGHTS = masked_softmax(torch.randn(6, 6), causal.matrix(6))
FIGURES = {
    "show_attention": lambda: show_attention(
        WEIGHTS, causal.matrix(6), WEIGHTS, tokens=list("abcdef")
    ),
    "show_blocks": lambda: show_blocks((causal & window(9)).matrix(40), 5),
    "show_curves": lambda: show_curves({"a": ([0, 1], [1, 2])}),
    "show_decoder": lambda: show_decoder(TOKENS, causal.matrix(4), n_layers=2),
    "show_leaks": lambda: show_leaks(causal.matrix(16), causal.matrix(16)),
    "show_mask": lambda: show_mask(causal.matrix(6), list("abcdef"), title="causal"),
    "show_masks": lambda: show_masks({str(n): causal.matrix(6) for n in range(4)}),
    "show_reach": lambda: show_reach(causal.matrix(6), 3, query=5),
    "show_roofline": lambda: show_roofline(1e12, 1e10, {"a": 3.0, "b": 900.0}),
    "show_running": lambda: show_running([0, 2, -1], [0, 2, 2], np.ones(3)),
    "show_scaling": lambda: show_scaling({"a": ([1, 2], [3, 9])}, y_label="ms"),
    "show_scores": lambda: show_scores(torch.randn(6, 6)),
    "show_weights": lambda: show_weights(WEIGHTS),
}


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_returned_closed_and_small(name, tmp_path):
    open_before = plt.get_fignums()
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == open_before  # a notebook would show it twice
    width, height = figure.get_size_inches()
    assert width <= 6
    assert height <= 4.5
    file = tmp_path / "figure.png"
    figure.savefig(file, dpi=72)
    assert file.stat().st_size < 60_000


def test_blocks_are_whole_cut_or_not_read():
    figure = show_blocks(causal.matrix(6), 2)
    kinds = {(i, j): colour(c) for (i, j), c in cells(figure).items()}
    for i, j in np.ndindex(3, 3):
        expected = ALLOWED if j < i else BLOCKED if j > i else "#9CCAE6"
        assert kinds[i, j] == expected
    assert printed(figure) == {(1, 0): "✓", (2, 0): "✓", (2, 1): "✓"}
    assert len(figure.axes[0].lines) == 3  # the cut ones carry a line


def test_scaling_draws_what_there_is_and_says_if_there_is_nothing():
    ax = show_scaling({"a": ([1, 2], [3, 9])}, y_label="ms").axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert ax.lines[0].get_ydata().tolist() == [3, 9]
    empty = show_scaling({}, y_label="ms").axes[0]
    assert not empty.lines
    assert [t.get_text() for t in empty.texts] == ["no record yet"]


def test_the_roof_is_the_smaller_of_the_two_bounds():
    ax = show_roofline(4e12, 1e12, {"slow": 1.0, "fast": 100.0}).axes[0]
    points = {line.get_label(): float(line.get_ydata()[0]) for line in ax.lines[2:]}
    assert points == {"slow": 1.0, "fast": 4.0}
    assert ax.lines[1].get_xdata()[0] == 4.0  # the ridge


def test_what_is_drawn_is_not_changed():
    values, allowed = torch.randn(3, 4), MASK.clone()
    show_scores(values, allowed=allowed)
    show_weights(values.abs(), allowed=allowed)
    show_mask(allowed)
    assert values._version == allowed._version == 0


def test_a_table_shows_text_in_any_script():
    table = show_table(["English", "Chinese"], [("a < b", "猫"), (1, 2)])
    assert repr(table).splitlines() == ["English | Chinese", "a < b | 猫", "1 | 2"]
    html = table._repr_html_()
    assert html.count("<tr>") == html.count("</tr>") == 3
    assert html.count('scope="col"') == html.count("</th>") == 2
    assert "a &lt; b</td>" in html
    assert "猫</td>" in html
    with pytest.raises(ValueError, match="2 cells"):
        show_table(["a", "b"], [("only one",)])
