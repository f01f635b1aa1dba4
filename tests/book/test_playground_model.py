"""The trained decoder in the playground says what mattn says, cached or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from nodes import node
from words_read import WORDS, edited, python, state

from mattn import causal
from mattn.checks import same


@pytest.mark.parametrize("later", [False, True])
def test_logits_are_mattns_whatever_is_changed(later):
    made = [edited(seed, later=later) for seed in range(3)]
    masks = node([["masksOf", one] for one in made])
    found = node([["modelled", one, False] for one in made])
    for one, pair, there in zip(made, masks, found, strict=True):
        assert pair[0] != pair[1]
        logits = torch.tensor(there["logits"], dtype=torch.float64)
        same(logits, python(one, pair), atol=1e-9)


def test_the_cache_changes_no_number_of_a_mask_that_looks_back():
    made = [edited(seed, later=False) for seed in range(3)]
    calls = [["modelled", one, cached] for one in made for cached in (False, True)]
    found = node(calls)
    for whole, steps in zip(found[::2], found[1::2], strict=True):
        for part in ("logits", "weights"):
            a, b = (torch.tensor(x[part], dtype=torch.float64) for x in (whole, steps))
            same(a, b, atol=1e-12)
    leaky = edited(0, later=True)
    whole, steps = node([["modelled", leaky, cached] for cached in (False, True)])
    a, b = (torch.tensor(x["logits"]) for x in (whole, steps))
    assert (a - b).abs().max() > 0.1


def test_shares_and_entropy_are_those_of_the_logits():
    one = state() | {"temperature": 1.7}
    (found,) = node([["guessed", one, 20]])
    p = (python(one, [causal.matrix(28)] * 2)[20] / 1.7).softmax(dim=-1)
    assert [each["word"] for each in found["words"][:3]] == [
        WORDS[n] for n in p.topk(3).indices.tolist()
    ]
    shares = torch.tensor([each["p"] for each in found["words"]], dtype=torch.float64)
    same(shares, p.sort(descending=True).values, atol=1e-9)
    expected = -(p * p.log()).sum().item()
    assert found["entropy"] == pytest.approx(expected, abs=1e-9)


def test_what_a_word_hangs_on_is_what_a_blocked_cell_costs():
    one = state()
    (drops,) = node([["hanging", one, 27, "nine"]])
    nine = WORDS.index("nine")
    mask = causal.matrix(28)
    now = python(one, [mask] * 2)[-1].softmax(dim=-1)[nine].item()
    for j in (0, 11, 27):
        less = mask.clone()
        less[27, j] = False
        then = python(one, [less] * 2)[-1].softmax(dim=-1)[nine].item()
        assert drops[j] == pytest.approx(now - then, abs=1e-9)
    assert max(drops) == drops[11] > 0.99


def test_dice_fall_the_same_for_everybody_and_evenly():
    thrown = node([["dice", 3, place] for place in range(2000)])
    assert thrown == node([["dice", 3, place] for place in range(2000)])
    assert thrown != node([["dice", 4, place] for place in range(2000)])
    counts = np.histogram(thrown, bins=10, range=(0, 1))[0]
    assert counts.min() > 140
    words = [{"word": "a", "p": 0.25}, {"word": "b", "p": 0.75}]
    calls = [["nextWord", {"words": words}, 3, place] for place in range(400)]
    assert 60 < node(calls).count("a") < 140
    assert node([["nextWord", {"words": words}, 0, 1]]) == ["a"]
