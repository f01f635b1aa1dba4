"""Places where numbers lie, two fences over a mask, and blocks in reading order."""

import numpy as np
import pytest

from mattn import causal, window
from mattn.plotting import ALLOWED, BLOCKED, show_blocks, show_fences, show_memory


def test_each_place_is_smaller_than_the_one_before_and_its_size_stands_in_it():
    levels = {"memory": "80 GB", "cache": "50 MB", "chip": "228 KB"}
    figure = show_memory(levels, ["3.2 TB/s", "faster"])
    (ax,) = figure.axes
    sides = [patch.get_width() for patch in ax.patches]
    assert sides == sorted(sides, reverse=True)
    assert len(set(sides)) == 3
    said = [text.get_text() for text in ax.texts]
    assert {*levels, *levels.values(), "3.2 TB/s", "faster"} == {*said} - {""}
    place = {text.get_text(): text.get_position()[0] for text in ax.texts}
    assert place["80 GB"] < place["3.2 TB/s"] < place["50 MB"] < place["faster"]
    assert all(place[name] == place[size] for name, size in levels.items())


def test_fences_enclose_the_mask_and_are_told_apart_without_colour():
    allowed = (causal & window(2)).matrix(4).numpy()
    first, end = [0, 0, 1, 2], [1, 2, 3, 4]
    (ax,) = show_fences(first, end, 4).axes
    left, right = ax.lines[-2:]
    assert (left.get_linestyle(), right.get_linestyle()) == ("-", "--")
    for line, fence in ((left, first), (right, end)):
        # Down along query i the fence stands before key fence[i].
        x, y = line.get_xdata() + 0.5, line.get_ydata() + 0.5
        assert x.reshape(4, 2).tolist() == [[j, j] for j in fence]
        assert y.reshape(4, 2).tolist() == [[i, i + 1] for i in range(4)]
    seen = {c: area(ax, c) for c in (ALLOWED, BLOCKED)}
    assert seen == {ALLOWED: allowed.sum(), BLOCKED: (~allowed).sum()}


def area(ax, colour: str) -> int:
    """How many cells are filled with a colour."""
    want = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    filled = [p for p in ax.patches if np.allclose(p.get_facecolor()[:3], want)]
    return sum(int((p.get_path().codes == 79).sum()) for p in filled)


def test_a_block_that_is_read_carries_its_step_and_the_others_nothing():
    (ax,) = show_blocks((causal & window(3)).matrix(8), 2, order=True).axes
    steps = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text()
             for t in ax.texts}  # fmt: skip
    row = {(0, 0): "1", (1, 0): "1", (1, 1): "2", (2, 1): "1", (2, 2): "2"}
    assert steps == row | {(3, 2): "1", (3, 3): "2"}


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (lambda: show_memory({}, []), "at least one level"),
        (lambda: show_memory({"a": "1", "b": "2"}, []), "expected 1 links"),
        (lambda: show_fences([0, 0], [1], 2), r"end.*got shape \(1,\)"),
        (lambda: show_fences([0], [1], 0), "n_keys >= 1"),
    ],
)
def test_what_does_not_fit_is_refused(draw, said):
    with pytest.raises(ValueError, match=said):
        draw()
