"""Two sheets on a desk: what a writer may read, and what it did look at."""

import numpy as np
import pytest

from mattn.plotting import BLOCKED, QUERY, show_desk, show_links


def hex_of(colour) -> str:
    return "#" + "".join(f"{round(255 * part):02X}" for part in colour[:3])


def lines(figure) -> dict[str, float]:
    (ax,) = figure.axes
    return {line.get_gid(): line.get_linewidth() for line in ax.lines}


def test_the_query_reads_the_open_sheet_and_its_own_past():
    figure = show_desk(list("abcd"), list("wxyz"), query=1, n_real=3)
    own = {"own 1 0", "own 1 1"}
    assert set(lines(figure)) == own | {f"link 1 {j}" for j in range(3)}
    (ax,) = figure.axes
    said = {text.get_text() for text in ax.texts}
    # Neither the padding nor what lies under the card is written.
    assert said == {"source: open", "target: covered", *"abc", *"wx"}
    hidden = [p for p in ax.patches if hex_of(p.get_facecolor()) == BLOCKED]
    assert len(hidden) == 1 + 2
    assert all(p.get_hatch() for p in hidden)
    assert sum(hex_of(p.get_edgecolor()) == QUERY for p in ax.patches) == 1


def test_a_desk_needs_words_and_a_query_among_them():
    with pytest.raises(ValueError, match=r"word of the source; got none"):
        show_desk([], ["x"], query=0)
    with pytest.raises(ValueError, match=r"word of the target; got none"):
        show_desk(["a"], [], query=0)
    with pytest.raises(ValueError, match="query position from 0 to 1; got 2"):
        show_desk(["a"], ["x", "y"], query=2)


def test_links_are_as_thick_as_their_weights():
    weights = np.array([[0.1, 0.9], [0.7, 0.3], [0.81, 0.19]])
    drawn = lines(show_links(["a", "b"], ["x", "y", "z"], weights))
    assert set(drawn) == {"link 0 1", "link 1 0", "link 1 1", "link 2 0"}
    assert drawn["link 0 1"] > drawn["link 2 0"] > drawn["link 1 0"]
    assert drawn["link 1 0"] - drawn["link 1 1"] == pytest.approx(3 * 0.4)


def test_links_need_a_word_for_each_row_and_column():
    weights = np.full((3, 2), 0.5)
    with pytest.raises(ValueError, match="expected 3 words of the target"):
        show_links(["a", "b"], ["x"], weights)
    with pytest.raises(ValueError, match="expected 2 words of the source"):
        show_links(["a"], list("xyz"), weights)
