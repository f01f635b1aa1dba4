"""The visual language: a colour means one thing, and never stands alone."""

import io
import math
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from every_figure import FIGURES
from matplotlib.colors import rgb_to_hsv, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.path import Path

from mattn import causal, masked_softmax
from mattn.plotting import (
    ALLOWED,
    BLOCKED,
    LEAK,
    QUERY,
    show_blocks,
    show_curves,
    show_leaks,
    show_mask,
    show_masks,
    show_roofline,
    show_scaling,
    show_scores,
    show_weights,
)
from mattn.plotting.style import CUT, HATCH, MEANINGS, WEIGHTS, ink_on

TOKENS = ["the", "cat", "sat", "on"]
MASK = causal.matrix(3, 4)


def cells(figure: Figure, ax: int = 0) -> dict[tuple[int, int], str]:
    """(row, column) → the colour that the middle of the cell has."""
    ax = figure.axes[ax]
    rows, columns = (int(max(lim) + 0.5) for lim in (ax.get_ylim(), ax.get_xlim()))
    return {
        (i, j): to_hex(patch.get_facecolor()).upper()
        for patch in ax.patches
        if patch.get_fill()
        for i, j in np.ndindex(rows, columns)
        if drawn(patch).contains_point((j, i), radius=1e-9)
    }


def drawn(patch: Patch) -> Path:
    return patch.get_patch_transform().transform_path(patch.get_path())


def hatched(figure: Figure, ax: int = 0) -> set[tuple[int, int]]:
    """The cells through whose middle a line goes from corner to corner."""
    found = set()
    for patch in figure.axes[ax].patches:
        if patch.get_fill() or to_hex(patch.get_edgecolor()).upper() != HATCH:
            continue
        for (x0, y0), (x1, y1) in patch.get_path().vertices.reshape(-1, 2, 2):
            assert x1 - x0 == y0 - y1 > 0
            if (x0 + y0) % 1 == 0:  # not one of those beside it
                xs = np.arange(x0 + 0.5, x1, 1)
                found |= {(round(x0 + y0 - x), round(x)) for x in xs}
    return found


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
        if isinstance(p, Rectangle) and not p.get_fill()
    ]


def test_allowed_is_blue_and_blocked_is_grey_and_hatched():
    figure = show_mask(MASK, TOKENS)
    drawn = cells(figure)
    assert len(drawn) == 12
    for where, colour in drawn.items():
        assert colour == (ALLOWED if MASK[where] else BLOCKED)
        assert (where in hatched(figure)) == (not MASK[where])
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
    drawn = cells(figure)
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
    assert hatched(figure) == {(0, 1), (0, 2), (1, 2)}  # (2, 0) is small, not blocked
    assert drawn[1, 1] == to_hex(WEIGHTS(0.75)).upper()
    assert drawn[2, 0] == to_hex(WEIGHTS(0.0)).upper()
    assert (2, 0) in hatched(show_weights(weights))  # without it, zeros are


def test_weights_have_one_hue_from_white_and_readable_numbers():
    shares = np.linspace(0, 1, 256)
    colours = WEIGHTS(shares)[:, :3]
    assert np.abs(colours[0] - 1).max() < 0.01
    assert np.abs(colours[-1] - to_rgb(ALLOWED)).max() < 0.01
    light = luminance(colours)
    assert (np.diff(light) < 0).all()  # the more, the darker
    hues = [rgb_to_hsv(colour)[0] for colour in colours[8:]]
    assert np.ptp(hues) < 0.02
    # As light as what is blocked, a weight is still blue, and has no hatching.
    alike = np.abs(light - luminance(np.array([to_rgb(BLOCKED)]))).argmin()
    assert np.ptp(colours[alike]) > 0.1 > np.ptp(to_rgb(BLOCKED))
    for colour, bright in zip(colours, light, strict=True):
        ink = luminance(np.array([to_rgb(ink_on(colour))]))[0]
        assert (max(ink, bright) + 0.05) / (min(ink, bright) + 0.05) > 4.5
    # No style sheet may change a cell, as its number has the colour for this ground.
    assert not {to_hex(c).upper() for c in colours} & set(MEANINGS)


def luminance(colours: np.ndarray) -> np.ndarray:
    """Of WCAG 2, for colours (n, 3)."""
    linear = np.where(
        colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4
    )
    return linear @ (0.2126, 0.7152, 0.0722)


def test_scores_are_coloured_symmetrically_about_zero():
    scores = torch.tensor([[2.0, -math.inf], [-1.0, 0.0]])
    figure = show_scores(scores)
    drawn, puor = cells(figure), plt.get_cmap("PuOr")
    assert drawn[0, 0] == to_hex(puor(1.0)).upper()
    assert drawn[1, 0] == to_hex(puor(0.25)).upper()
    assert drawn[1, 1] == to_hex(puor(0.5)).upper()
    assert drawn[0, 1] == BLOCKED
    assert printed(figure) == {(0, 0): "2.00", (1, 0): "−1.00", (1, 1): "0.00"}
    hidden = show_scores(scores, allowed=torch.tensor([[True, False], [False, True]]))
    assert cells(hidden)[1, 0] == BLOCKED


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
    assert cells(figure, 1)[0, 0] == BLOCKED
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


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_returned_closed_and_small(name):
    open_before = plt.get_fignums()
    figure = FIGURES[name]()
    assert isinstance(figure, Figure)
    assert plt.get_fignums() == open_before  # a notebook would show it twice
    width, height = figure.get_size_inches()
    assert width <= 6.2
    assert height <= 4.5


def test_blocks_are_whole_cut_or_not_read():
    figure = show_blocks(causal.matrix(6), 2)
    kinds = cells(figure)
    for i, j in np.ndindex(3, 3):
        expected = ALLOWED if j < i else BLOCKED if j > i else CUT
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
