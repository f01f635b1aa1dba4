"""The font that brings the Chinese of the book: whole, small, and asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from roots import ROOT

from book.site import chinese_font
from book.site.chinese_font import CHINESE, FONT, characters

STYLE = (ROOT / "book" / "static" / "mattn.css").read_text(encoding="utf-8")


def test_every_chinese_character_of_the_sources_has_a_shape() -> None:
    from fontTools.ttLib import TTFont

    with TTFont(FONT) as font:
        shapes = {chr(code) for code, name in font.getBestCmap().items()}
    missing = characters() - shapes
    assert not missing, f"run chinese_font again: {''.join(sorted(missing))}"
    assert len(characters()) > 200


def test_characters_are_found_wherever_a_source_can_hold_them(tmp_path: Path) -> None:
    for folder in ("chapters", "exercises", "mattn/data"):
        (tmp_path / folder).mkdir(parents=True)
    escaped = json.dumps({"cells": [{"source": "掩码"}]})
    assert "\\u63a9" in escaped
    (tmp_path / "chapters" / "a.ipynb").write_text(escaped, encoding="utf-8")
    (tmp_path / "chapters" / "b.md").write_text("注意, 力。", encoding="utf-8")
    (tmp_path / "exercises" / "c.ipynb").write_text('{"a": "题"}', encoding="utf-8")
    (tmp_path / "mattn" / "data" / "d.py").write_text("X = '？猫'", encoding="utf-8")
    assert characters(tmp_path) == set("掩码注意力。题？猫")


def test_the_style_sheet_asks_for_the_font_where_it_has_shapes() -> None:
    (face,) = re.findall(r"@font-face \{(.*?)\}", STYLE, re.DOTALL)
    assert f'url("fonts/{FONT.name}")' in face
    ranges = re.findall(r"U\+(\w+)-(\w+)", face)
    stated = "".join(rf"\u{low.lower()}-\u{high.lower()}" for low, high in ranges)
    assert re.compile(f"[{stated}]").pattern == CHINESE.pattern.encode(
        "ascii", "backslashreplace"
    ).decode("ascii")
    (name,) = re.findall(r'font-family: ("[^"]+");', face)
    for stack in ("base", "monospace"):
        (fonts,) = re.findall(rf"--pst-font-family-{stack}: (.*?);", STYLE, re.DOTALL)
        assert name in fonts


def test_the_font_is_small_and_its_licence_lies_beside_it() -> None:
    assert FONT.stat().st_size < 60_000
    licence = (FONT.parent / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL Open Font License, Version 1.1" in licence


def test_it_is_made_from_another_and_says_what_that_lacks(
    tmp_path: Path, monkeypatch
) -> None:
    from fontTools.ttLib import TTFont

    monkeypatch.setattr(chinese_font, "characters", lambda: {"注", "意"})
    out = tmp_path / "two.woff2"
    chinese_font.write(FONT, out)
    with TTFont(out) as font:
        assert set(font.getBestCmap()) == {ord("注"), ord("意")}
    monkeypatch.setattr(chinese_font, "characters", lambda: {"注", "龘"})
    with pytest.raises(SystemExit, match="lacks 龘"):
        chinese_font.write(FONT, out)
