"""Figures as SVG: their text is text, their colours are the page's."""

import functools
import re
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from every_figure import FIGURES
from IPython.core.interactiveshell import InteractiveShell

from mattn import causal
from mattn.plotting import show_mask, show_weights, svg
from mattn.plotting.style import MEANINGS
from mattn.plotting.svg import ALONE
from mattn.repro import start

TOKENS = ["the", "cats", "on", "the", "mat", "sleep"]
COLOUR = re.compile(r"#[0-9a-fA-F]{6}\b")


@functools.cache
def text_of(name: str) -> str:
    torch.manual_seed(0)
    return svg(FIGURES[name]())


@pytest.mark.parametrize("name", FIGURES)
def test_no_ground_and_ink_of_the_page(name):
    """Every black is `currentColor`, every meaning a variable with its colour."""
    text = text_of(name)
    root = ElementTree.fromstring(text)
    assert root.get("fill") == "currentColor"
    assert root.get("role") == "img"
    assert root.get("color") == ALONE  # an attribute: any style sheet comes first
    alone = COLOUR.findall(re.sub(r"var\([^)]*\)", "", text))
    assert not {"#000000", *map(str.lower, MEANINGS)} & set(map(str.lower, alone))
    for variable, colour in re.findall(r"var\((--[a-z-]+), (#\w+)\)", text):
        assert variable == f"--mattn-{MEANINGS[colour]}"
    assert "<style" not in text
    assert "<metadata" not in text


@pytest.mark.parametrize(("ground", "least"), [(1.0, 4.5), (0.0056, 4.0)])
def test_ink_that_no_page_speaks_for_is_read_on_white_and_on_black(ground, least):
    channels = np.array([int(ALONE[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    light = ((channels + 0.055) / 1.055) ** 2.4 @ (0.2126, 0.7152, 0.0722)
    low, high = sorted((light, ground))
    assert (high + 0.05) / (low + 0.05) > least


def test_text_is_text():
    root = ElementTree.fromstring(
        svg(show_mask(causal.matrix(6), TOKENS, title="a & b"))
    )
    words = ["".join(e.itertext()) for e in root.iter() if e.tag.endswith("text")]
    assert words.count("✓") == 21
    assert set(words) >= {*TOKENS, "query", "key", "a & b"}


@pytest.mark.parametrize("name", FIGURES)
def test_the_same_figure_is_the_same_text(name):
    first = text_of(name)
    torch.manual_seed(0)
    assert svg(FIGURES[name]()) == first


def test_ids_are_those_of_one_figure_and_all_are_used():
    texts = [svg(FIGURES[name]()) for name in ("show_curves", "show_scaling")]
    ids = [re.findall(r' id="([^"]+)"', text) for text in texts]
    assert ids[0]
    assert ids[1]
    assert not set(ids[0]) & set(ids[1])
    for text, own in zip(texts, ids, strict=True):
        used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text)
        assert {a or b for a, b in used} == set(own)


def test_a_large_map_is_one_picture_under_text():
    weights = torch.rand(64, 64).tril()
    text = svg(show_weights(weights))
    assert text.count("<image") == 1
    assert len(text) < 60_000
    assert len(svg(show_mask(torch.rand(64, 64) > 0.5))) < 60_000


def test_a_figure_of_matplotlib_alone_is_at_home_too():
    figure, ax = plt.subplots()
    ax.plot([1, 2], "k")
    ax.bar([0], [1], hatch="//", color="#0072B2")
    plt.close(figure)
    text = svg(figure)
    assert "currentColor" in text
    assert "var(--mattn-allowed, #0072B2)" in text
    ElementTree.fromstring(text)


def test_numbers_have_two_decimals():
    figure, ax = plt.subplots()
    ax.plot(np.linspace(0, 1, 50), np.random.default_rng(0).random(50))
    plt.close(figure)
    assert not re.search(r"\d\.\d{3}", svg(figure))


def test_start_makes_a_notebook_show_svg():
    shell = InteractiveShell.instance()
    try:
        start(0)
        figure = show_mask(causal.matrix(3))
        data, _ = shell.display_formatter.format(figure)
        assert data["image/svg+xml"] == svg(figure)
        assert "image/png" not in data
    finally:
        InteractiveShell.clear_instance()
