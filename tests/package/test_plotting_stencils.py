"""Stencils: which words lie under a card, and what is written beside them."""

import pytest
import torch
from matplotlib.patches import Rectangle

from mattn import attention, causal, window
from mattn.plotting import ALLOWED, BLOCKED, QUERY, show_masks, show_stencils
from mattn.toy import TOKENS, W_k, W_q, W_v, embed


def row_mat(mask) -> torch.Tensor:
    x = embed()
    return attention(x @ W_q, x @ W_k, x @ W_v, mask)[1][4]


def boxes(figure, colour: str, *, face: bool = True) -> list:
    (ax,) = figure.axes
    want = torch.tensor([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    colours = [p.get_facecolor() if face else p.get_edgecolor() for p in ax.patches]
    return [
        patch
        for patch, rgba in zip(ax.patches, colours, strict=True)
        if rgba[3] and torch.tensor(rgba[:3]).allclose(want)
    ]


def test_a_word_that_a_mask_hides_is_not_shown_and_the_others_show_their_weight():
    rows = {"three": row_mat(causal & window(3)), "all": row_mat(causal)}
    figure = show_stencils(TOKENS, rows, query=4, notes=["−0.33", "+0.79"])
    said = [text.get_text() for text in figure.axes[0].texts]
    assert said == [
        *("three", "on", "0.33", "the", "0.33", "mat", "0.33", "−0.33"),
        *("all", "the", "0.04", "cats", "0.83", "on", "0.04"),
        *("the", "0.04", "mat", "0.04", "+0.79"),
    ]
    assert len(boxes(figure, BLOCKED)) == 3 + 1
    bars = [bar.get_width() for bar in boxes(figure, ALLOWED)]
    assert len(bars) == 3 + 5
    assert max(bars) / min(bars) == pytest.approx(torch.e**3)  # cats against the
    (first, second) = boxes(figure, QUERY, face=False)
    assert first.get_x() == second.get_x() < boxes(figure, BLOCKED)[-1].get_x()


def test_a_row_of_booleans_shows_the_words_alone_and_only_who_asks_is_outlined():
    rows = {"seen": causal.matrix(6)[4], "counted": causal.matrix(6)[2]}
    figure = show_stencils(TOKENS, rows, query={"seen": 4})
    said = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert said == ["seen", *TOKENS[:5], "counted", *TOKENS[:3]]
    assert len(boxes(figure, BLOCKED)) == 1 + 3
    assert not boxes(figure, ALLOWED)
    (outline,) = boxes(figure, QUERY, face=False)
    assert outline.get_y() < boxes(figure, BLOCKED)[-1].get_y()
    with pytest.raises(ValueError, match="from 0 to 5; got 6"):
        show_stencils(TOKENS, rows, query={"seen": 6})


def test_what_does_not_fit_the_sentence_is_refused():
    row = row_mat(causal)
    for given, options, said in (
        ({}, {"query": 4}, "at least one row"),
        ({"all": row}, {"query": 6}, "from 0 to 5; got 6"),
        ({"all": row[:5]}, {"query": 4}, r"got shape \(5,\)"),
        ({"all": row / 0}, {"query": 4}, "expected finite weights"),
        ({"all": row}, {"query": 4, "notes": ["a", "b"]}, "expected 1 notes"),
    ):
        with pytest.raises(ValueError, match=said):
            show_stencils(TOKENS, given, **options)


def test_an_atlas_outlines_one_row_in_all_or_each_its_own():
    def outlined(query):
        figure = show_masks({"a": tick, "b": tick}, query=query)
        return [
            [
                p.get_y() + 0.5
                for p in ax.patches
                if isinstance(p, Rectangle) and p.get_width() == 3
            ]
            for ax in figure.axes[:2]
        ]

    tick = causal.matrix(3)
    assert outlined(None) == [[], []]
    assert outlined(1) == [[1], [1]]
    assert outlined({"b": 2}) == [[], [2]]
    with pytest.raises(ValueError, match="from 0 to 2; got 3"):
        show_masks({"a": tick}, query={"a": 3})
