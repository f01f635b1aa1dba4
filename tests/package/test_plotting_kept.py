"""A cache that fills: what is kept, what is new, and what is gone."""

import pytest

from mattn.plotting import ALLOWED, QUERY, show_cache
from mattn.plotting.style import INK
from mattn.toy import TOKENS


def hex_of(colour) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in colour[:3])


def test_each_step_asks_once_and_meets_all_columns_so_far():
    figure = show_cache(TOKENS[:3])
    (ax,) = figure.axes
    said = [text.get_text() for text in ax.texts if text.get_text()]
    assert said == [
        *("step 0", "q the", "k the", "v the"),
        *("step 1", "q cats", "k the", "v the", "k cats", "v cats"),
        *("step 2", "q on", "k the", "v the", "k cats", "v cats", "k on", "v on"),
    ]
    asking = [p for p in ax.patches if hex_of(p.get_edgecolor()) == QUERY]
    assert len(asking) == 3
    cells = [p for p in ax.patches if hex_of(p.get_facecolor()) == ALLOWED]
    assert len(cells) == 2 * (1 + 2 + 3)


def test_the_newest_column_has_a_thick_edge_and_stands_apart():
    figure = show_cache(TOKENS[:3])
    cells = [p for p in figure.axes[0].patches if hex_of(p.get_facecolor()) == ALLOWED]
    new = [p for p in cells if hex_of(p.get_edgecolor()) == INK]
    assert len(new) == 2 * 3
    assert min(p.get_linewidth() for p in new) > 1
    lefts = sorted({round(p.get_x(), 6) for p in cells[-6:]})
    assert lefts[2] - lefts[1] > lefts[1] - lefts[0]


def test_without_words_there_is_nothing_to_draw():
    with pytest.raises(ValueError, match="expected at least one token; got none"):
        show_cache([])
