"""Rows of weights, shadows, heads: what is drawn is what was given."""

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import FancyArrowPatch

from mattn.plotting import (
    ALLOWED,
    QUERY,
    show_heads,
    show_jugs,
    show_shadow,
    show_shares,
)

ROWS = {"one": [0.1, 0.7, 0.2], "two": [0.5, 0.25, 0.25]}


def test_each_row_of_weights_has_its_bars_and_its_largest_number():
    figure = show_shares(ROWS, "ABC", n_columns=3)
    first, second, empty = figure.axes
    assert not empty.axison
    for ax, (name, row) in zip((first, second), ROWS.items(), strict=True):
        assert ax.get_title() == name
        assert [bar.get_height() for bar in ax.patches] == row
        assert [t.get_text() for t in ax.get_xticklabels()] == list("ABC")
        assert [t.get_text() for t in ax.texts] == [f"{max(row):.2f}"]
    assert first.get_ylim() == second.get_ylim()  # heights can be compared


def test_what_is_no_row_of_weights_is_not_drawn():
    with pytest.raises(ValueError, match="expected at least one row"):
        show_shares({}, "ABC")
    with pytest.raises(ValueError, match=r"add up to 1; got .* 2 in all"):
        show_shares({"scores": [1.0, 0.0, 1.0]}, "ABC")
    with pytest.raises(ValueError, match=r"expected 2 weights.*\(3,\)"):
        show_shares(ROWS, "AB")


def test_a_shadow_ends_where_the_dot_product_says():
    query, keys = np.array([3.0, 4.0]), {"along": [6.0, 8.0], "back": [-4.0, -2.0]}
    ax = show_shadow(query, keys, name="asks").axes[0]
    assert {t.get_text() for t in ax.texts} >= {"asks", "along: 50", "back: −20"}
    dotted = [line for line in ax.lines if line.get_linestyle() == ":"]
    for line, key in zip(dotted, keys.values(), strict=True):
        tip, foot = line.get_xydata()
        assert np.allclose(tip, key)
        assert np.isclose((tip - foot) @ query, 0)  # at right angles
        assert np.isclose(foot @ query, key @ query)
        assert np.isclose(foot[0] * query[1], foot[1] * query[0])  # on its line
    colours = [to_hex(t.arrow_patch.get_edgecolor()) for t in ax.texts if t.arrow_patch]
    assert colours == [QUERY.lower(), ALLOWED.lower(), ALLOWED.lower()]


def test_a_query_without_direction_casts_no_shadow():
    with pytest.raises(ValueError, match=r"not \(0, 0\)"):
        show_shadow([0.0, 0.0], {"key": [1.0, 1.0]})
    with pytest.raises(ValueError, match="expected 2 numbers of the key 'k'"):
        show_shadow([1.0, 0.0], {"k": [1.0, 1.0, 1.0]})
    with pytest.raises(ValueError, match="expected at least one key"):
        show_shadow([1.0, 0.0], {})


def test_each_head_has_its_own_arrows_over_the_same_words():
    heads = {"near": np.array([0, 0, 1.0, 0]), "far": np.array([0.75, 0.25, 0, 0])}
    figure = show_heads("abcd", heads, query=2, card=3)
    assert [ax.get_title() for ax in figure.axes] == list(heads)
    for ax, row in zip(figure.axes, heads.values(), strict=True):
        arrows = [p for p in ax.patches if isinstance(p, FancyArrowPatch)]
        assert [int(a.get_gid().split()[-1]) for a in arrows] == [
            j for j, weight in enumerate(row) if weight > 0
        ]
        assert {"a", "b", "c"} <= {t.get_text() for t in ax.texts}
    with pytest.raises(ValueError, match="expected at least one head"):
        show_heads("abcd", {}, query=2)


def test_the_pieces_of_a_jug_stand_on_one_another_and_add_up():
    jugs = {"own": {"a": 0.25, "b": 1.0}, "both": {"a": 0.25, "b": 1.0, "c": 0.5}}
    ax = show_jugs(jugs, lowered=("c",)).axes[0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["own", "both"]
    bottoms = [(bar.get_y(), bar.get_height()) for bar in ax.patches]
    assert bottoms == [(0, 0.25), (0.25, 1), (0, 0.25), (0.25, 1), (1.25, 0.5)]
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False] * 4 + [True]
    bold = [t.get_text() for t in ax.texts if t.get_weight() == "bold"]
    assert bold == ["1.25", "1.75"]


def test_a_jug_holds_something_and_nothing_below_zero():
    for jugs in ({}, {"x": {}}):
        with pytest.raises(ValueError, match="expected at least one"):
            show_jugs(jugs)
    for wrong, said in ((float("nan"), "expected finite"), (-1.0, "of 0 or more")):
        with pytest.raises(ValueError, match=said):
            show_jugs({"x": {"a": wrong}})
