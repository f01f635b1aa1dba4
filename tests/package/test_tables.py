"""Tables and samples: text that can be selected, searched and read aloud."""

import pytest
from bs4 import BeautifulSoup

from mattn.tables import show_table, show_texts


def html(table: object) -> BeautifulSoup:
    return BeautifulSoup(table._repr_html_(), "html.parser")


def test_a_table_shows_text_in_any_script():
    table = show_table(["English", "Chinese"], [("a < b", "猫"), (1, 2)])
    assert repr(table).splitlines() == ["English | Chinese", "a < b | 猫", "1 | 2"]
    page = html(table)
    assert [th.get_text() for th in page.select("thead th[scope=col]")] == [
        "English",
        "Chinese",
    ]
    rows = [[td.get_text() for td in tr("td")] for tr in page.select("tbody tr")]
    assert rows == [["a < b", "猫"], ["1", "2"]]
    assert "a &lt; b" in str(page)


def test_chinese_is_marked_as_such_and_nothing_else_is():
    page = html(show_table(["English", "中文"], [("the cat", "这只猫"), ("café", "3")]))
    assert [e.get_text() for e in page.select("[lang=zh-Hans]")] == ["中文", "这只猫"]


def test_texts_stand_behind_their_names_with_their_own_lines():
    table = show_texts({"prompt": "ROMEO:\nO", "hot & cold": "<b>"}, title="From plays")
    assert repr(table) == "From plays\nprompt:\nROMEO:\nO\n\nhot & cold:\n<b>\n"
    page = html(table)
    assert page.table.caption.get_text() == "From plays"
    names = [th.get_text() for th in page.select("tbody th[scope=row]")]
    assert names == ["prompt", "hot & cold"]
    prompt, cold = page.select("td")
    assert prompt.get_text() == "ROMEO:\nO"
    assert "pre-wrap" in prompt["style"]
    assert cold.get_text() == "<b>"
    assert not page.select("b")


def test_measured_text_is_marked_in_both_forms():
    for table, marked in (
        (show_texts({"a": "b"}, measured=True), True),
        (show_table(["a"], [["b"]], measured=True), True),
        (show_texts({"a": "b"}), False),
        (show_table(["a"], [["b"]]), False),
    ):
        assert html(table).table.has_attr("data-measured") is marked
        assert repr(table).startswith("As measured:\n") is marked


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="2 cells"):
        show_table(["a", "b"], [("only one",)])
