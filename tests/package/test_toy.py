"""The sentence and its hand-made head: the numbers that chapters 1 to 6 quote."""

from __future__ import annotations

import math

import pytest
import torch

from mattn import attention, causal, documents, full, window
from mattn.checks import same
from mattn.toy import FEATURES, TOKENS, W_k, W_q, W_v, embed, verb

IN_THE_MIDDLE = torch.tensor([0, 0, 0, 1, 1, 1])


def row_mat(mask, words=TOKENS) -> tuple[torch.Tensor, torch.Tensor]:
    """What row 4 hands on, and its weights."""
    x = embed(words)
    out, weights = attention(x @ W_q, x @ W_k, x @ W_v, mask)
    return out[4], weights[4]


def test_both_the_have_equal_features_and_no_two_other_words_have():
    x = embed()
    assert x.shape == (len(TOKENS), len(FEATURES))
    assert torch.equal(x[0], x[3])
    assert len(x.unique(dim=0)) == len(set(TOKENS)) == 5


def test_a_thing_asks_for_whoever_acts():
    x = embed()
    scores = x @ W_q @ (x @ W_k).mT / math.sqrt(4)
    assert scores[4].tolist() == [0, 3, 0, 0, 0, 6]
    assert scores[4, 1] == 3  # mat → cats
    assert scores[1, 4] == 0  # cats → mat: the other way is another question
    assert scores[0, 1] == scores[1, 0] == 1


@pytest.mark.parametrize(
    ("mask", "number"),
    [
        (window(1) & causal, -1.0),
        (causal & window(2), -1 / 2),
        (causal & window(3), -1 / 3),
        (causal & window(4), (math.e**3 - 1) / (math.e**3 + 3)),
        (causal, (math.e**3 - 1) / (math.e**3 + 4)),
        (causal & documents(IN_THE_MIDDLE), -1 / 2),
        (full, (math.e**3 - 1 + math.e**6) / (math.e**3 + 4 + math.e**6)),
    ],
    ids=str,
)
def test_the_mask_alone_decides_which_number_mat_fetches(mask, number):
    same(row_mat(mask)[0][0], torch.tensor(number, dtype=torch.float64))


def test_the_number_follows_the_subject_and_not_the_nearest_noun():
    plural, singular = (
        row_mat(causal, f"the {noun}".split())
        for noun in ("cats on the mat sleep", "cat on the mats sleeps")
    )
    assert round(float(plural[1][1]), 2) == round(float(singular[1][1]), 2) == 0.83
    assert verb(plural[0][0]) == "sleep"
    assert verb(singular[0][0]) == "sleeps"
    same(plural[0][0], -singular[0][0])
    # Without a choice, by an even mean, the two nouns cancel.
    assert embed()[:5, 3].mean() == 0


def test_two_animals_cancel_whichever_comes_first():
    for animals in (("cats", "dog"), ("dog", "cats")):
        x = embed("the {} near the {} by the mat".format(*animals))
        out, weights = attention(x @ W_q, x @ W_k, x @ W_v, causal)
        same(weights[7, [1, 4]], torch.full((2,), math.e**3 / (2 * math.e**3 + 6)))
        same(out[7, 0], torch.tensor(-1 / (2 * math.e**3 + 6)))


def test_what_the_toy_does_not_know_is_refused():
    with pytest.raises(ValueError, match=r"expected words among the, on.*; got 'fox'"):
        embed("the fox")
    assert embed([]).shape == (0, 4)
    for number in (0.0, float("nan")):
        with pytest.raises(ValueError, match="above or below 0; got"):
            verb(number)
