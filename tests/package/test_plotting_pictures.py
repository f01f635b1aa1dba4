"""Sentences with arrows, values in a plane, bars: what is drawn is what was given."""

import numpy as np
import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from mattn import attention, causal, full
from mattn.plotting import (
    ALLOWED,
    BLOCKED,
    LEAK,
    QUERY,
    show_bars,
    show_clocks,
    show_plane,
    show_ruler,
    show_sentence,
)
from mattn.toy import TOKENS, W_k, W_q, W_v, embed

X = embed()
CAUSAL, FULL = (
    attention(X @ W_q, X @ W_k, X @ W_v, mask)[1][4] for mask in (causal, full)
)


def colour(rgba) -> str:
    return to_hex(rgba).upper()


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def arrows(figure: Figure) -> dict[int, FancyArrowPatch]:
    """Key position → the arrow that ends there."""
    found = [p for p in figure.axes[0].patches if isinstance(p, FancyArrowPatch)]
    return {int(p.get_gid().split()[-1]): p for p in found}


def boxes(figure: Figure) -> list[Rectangle]:
    return [p for p in figure.axes[0].patches if isinstance(p, Rectangle)]


def test_arrows_are_as_thick_as_their_weights():
    figure = show_sentence(TOKENS, CAUSAL, query=4, card=5)
    drawn = arrows(figure)
    assert list(drawn) == [0, 1, 2, 3, 4]
    widths = [arrow.get_linewidth() for arrow in drawn.values()]
    slopes = np.diff(widths) / np.where(
        np.diff(CAUSAL[:5]) == 0, 1, np.diff(CAUSAL[:5])
    )
    assert np.allclose(slopes, [5, 5, 0, 0])
    assert {colour(arrow.get_edgecolor()) for arrow in drawn.values()} == {ALLOWED}


def test_arrows_lead_from_the_query_to_the_key():
    for j, arrow in arrows(show_sentence(TOKENS, CAUSAL, query=4)).items():
        (start, _), *_, (end, _) = arrow._path_original.vertices
        assert abs(start - 4) < 0.2
        assert abs(end - j) < 0.2


def test_the_largest_weight_is_written_once():
    assert texts(show_sentence(TOKENS, CAUSAL, query=4)) == [*TOKENS, "0.83"]
    even = np.array([0.25] * 4 + [0, 0])
    assert texts(show_sentence(TOKENS, even, query=3)) == [*TOKENS, "0.25"]


def test_the_card_covers_the_words_from_it_on():
    figure = show_sentence(TOKENS, CAUSAL, query=4, card=5)
    assert texts(figure) == [*TOKENS[:5], "0.83"]
    *open_boxes, card = boxes(figure)
    assert card.get_hatch()
    assert colour(card.get_facecolor()) == BLOCKED
    assert not any(box.get_hatch() or box.get_facecolor()[3] for box in open_boxes)
    assert [colour(box.get_edgecolor()) == QUERY for box in open_boxes] == [
        False, False, False, False, True,
    ]  # fmt: skip


def test_nobody_looks_under_the_card():
    with pytest.raises(ValueError, match=r"which the card covers; got 0\.94"):
        show_sentence(TOKENS, FULL, query=4, card=5)
    with pytest.raises(ValueError, match="card"):
        show_sentence(TOKENS, CAUSAL, query=4, card=4)


def test_a_look_ahead_is_vermillion():
    drawn = arrows(show_sentence(TOKENS, FULL, query=4))
    assert colour(drawn[5].get_edgecolor()) == LEAK
    assert {colour(drawn[j].get_edgecolor()) for j in drawn if j < 5} == {ALLOWED}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (CAUSAL[:5], "expected 6 weights"),
        (CAUSAL * 2, "add up to 1"),
        (torch.tensor([2.0, -1, 0, 0, 0, 0]), "0 or more"),
        (torch.full((6,), torch.nan), "finite weights"),
    ],
)
def test_weights_are_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        show_sentence(TOKENS, weights, query=4)
    with pytest.raises(ValueError, match=message):
        show_plane(X @ W_v, TOKENS, weights={"out": weights})


def test_a_mean_lies_where_its_weights_put_it():
    weights = {"mean": [0.2] * 5, "output": CAUSAL[:5]}
    figure = show_plane((X @ W_v)[:5], TOKENS[:5], weights=weights)
    marks = {
        line.get_label(): line.get_xydata()[0]
        for line in figure.axes[0].lines
        if line.get_marker() == "D"
    }
    assert np.allclose(marks["mean"], [0, 0.2])
    assert np.allclose(marks["output"], [0.7924, 0.8340], atol=1e-3)
    # Lines lead to the five values, as thick as the weights.
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "None"]
    thick = max(lines, key=lambda line: line.get_linewidth())
    assert np.allclose(thick.get_xydata()[1], [1, 1])  # cats
    assert len(lines) == 10


def test_values_on_one_spot_share_their_label():
    figure = show_plane((X @ W_v)[:5], TOKENS[:5])
    assert sorted(texts(figure)) == ["cats", "mat", "the, on, the"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [colour(point.get_markerfacecolor()) for point in points] == [ALLOWED] * 3


def test_a_plane_has_two_dimensions():
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        show_plane(X, TOKENS)
    with pytest.raises(ValueError, match="expected 6 labels"):
        show_plane(X @ W_v, TOKENS[:3])
    with pytest.raises(ValueError, match=r"path of shape \(n, 2\)"):
        show_plane(X @ W_v, TOKENS, path=X)
    way = np.array([[0, 0.2], [0.5, 0.5]])
    drawn = show_plane(X @ W_v, TOKENS, path=way).axes[0].lines
    assert any(np.array_equal(line.get_xydata(), way) for line in drawn)


def test_bars_are_as_high_as_their_numbers():
    values = {"past": [3, 2.04], "everything": [0.25, -1]}
    ax = show_bars(["a", "b"], values, floor=[3, 2]).axes[0]
    first, second = ax.containers
    assert [bar.get_height() for bar in first] == [3, 2.04]
    assert [bar.get_height() for bar in second] == [0.25, -1]
    assert [text.get_text() for text in ax.texts] == ["3.0", "2.0", "0.2", "−1.0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["a", "b"]
    # Told apart by more than colour; bars of one label stand next to each other.
    assert first[0].get_hatch() != second[0].get_hatch()
    for x, (one, other) in enumerate(zip(first, second, strict=True)):
        assert x - 0.5 < one.get_x() < other.get_x() < x + 0.5
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(names) == ["everything", "floor", "past"]
    floors = [line.get_ydata()[0] for line in ax.lines]
    assert floors[:2] == [3, 2]


def test_one_row_of_bars_needs_no_legend():
    ax = show_bars(["a", "b", "c"], torch.tensor([1.0, 2, 3]), digits=2).axes[0]
    assert ax.get_legend() is None
    assert [text.get_text() for text in ax.texts] == ["1.00", "2.00", "3.00"]


@pytest.mark.parametrize(
    ("labels", "values", "floor", "message"),
    [
        (["a"], [1, 2], None, "expected 1 values"),
        (["a"], {}, None, "at least one group"),
        ([], [], None, "at least one label"),
        (["a"], [np.nan], None, "finite values"),
        (["a"], [1], [1, 2], "expected 1 floors"),
    ],
)
def test_bars_are_refused_by_name(labels, values, floor, message):
    with pytest.raises(ValueError, match=message):
        show_bars(labels, values, floor=floor)


def test_a_hand_turns_with_its_speed_and_its_position():
    ax = show_clocks("abc", [1.0, 0.1], query=2).axes[0]
    hands = {line.get_gid(): line for line in ax.lines}
    for level, speed in enumerate((1.0, 0.1)):
        for p in range(3):
            hand = hands[f"hand {level} {p}"]
            x, y = np.diff(hand.get_xydata(), axis=0)[0] / 0.4
            assert np.allclose([x, y], [np.cos(speed * p), np.sin(speed * p)])
            assert colour(hand.get_color()) == (QUERY if p == 2 else ALLOWED)
    words = [text.get_text() for text in ax.texts]
    assert words == ["1", "0.1", "a", "b", "c"]


@pytest.mark.parametrize(
    ("tokens", "speeds", "message"),
    [("", [1.0], "at least one word"), ("ab", [np.nan], "finite speeds")],
)
def test_clocks_need_words_and_speeds(tokens, speeds, message):
    with pytest.raises(ValueError, match=message):
        show_clocks(tokens, speeds)


def test_a_ruler_has_a_flag_for_each_mark_and_shows_what_is_below_the_floor():
    marks = {"5-gram": 0.6, "no mask": -0.01, "uniform": 3.9}
    axes = show_ruler(marks, floor=0.492, floor_label="entropy").axes[0]
    assert [t.get_text() for t in axes.texts] == [
        "uniform 3.90",
        "5-gram 0.60",
        "no mask −0.01",
    ]
    poles = [line for line in axes.lines if len(set(line.get_xdata())) == 1]
    poles = [
        line for line in poles if list(line.get_ydata()) != [0, 1]
    ]  # not the floor
    at = {float(line.get_xdata()[0]): colour(line.get_color()) for line in poles}
    assert at == {3.9: ALLOWED, 0.6: ALLOWED, -0.01: LEAK}
    tops = [max(p.get_ydata()) for p in poles if len(p.get_xdata()) == 2]
    assert tops == sorted(tops)  # the leftmost flag flies highest
    assert axes.get_title() == "entropy 0.49"


def test_a_ruler_refuses_what_has_no_place_on_it():
    with pytest.raises(ValueError, match="at least one mark"):
        show_ruler({})
    with pytest.raises(ValueError, match="finite numbers"):
        show_ruler({"a": float("nan")})
