"""States in which the playground reads words, and what mattn makes of them."""

from __future__ import annotations

import json

import numpy as np
import torch
from bs4 import BeautifulSoup
from nodes import node

from mattn import rule
from mattn.data import stories
from mattn.playground import playground
from mattn.pretrained import stories_model

WORDS = [*stories().vocabulary, "<start>"]


def state(address: str = "w=model") -> dict:
    html = playground("a b")._repr_html_()
    config = json.loads(BeautifulSoup(html, "lxml").div["data-config"])
    return node([["visit", address, config]])[0]["state"]


def given(mask: torch.Tensor):
    return rule(lambda b, q, k: mask[q, k], name="given")


def python(state: dict, masks: list) -> torch.Tensor:
    model = stories_model(dtype=torch.float64)
    model.mask = [given(torch.as_tensor(mask)) for mask in masks]
    tokens = torch.tensor([[WORDS.index(word) for word in state["tokens"]]])
    with torch.no_grad():
        return model(tokens)[0]


def edited(seed: int, *, later: bool) -> dict:
    """A state with cells changed at random in each layer."""
    rng = np.random.default_rng(seed)
    made = state()
    T = len(made["tokens"])
    cells = [
        int(c)
        for c in rng.choice(T * T, size=90, replace=False)
        if later or c % T <= c // T
    ]
    parts = np.array_split(cells, 3)
    names = ("flips", "flips1", "flips2")
    lists = [sorted(int(c) for c in part) for part in parts]
    return made | dict(zip(names, lists, strict=True))
