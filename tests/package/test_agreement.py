"""The language of 1,024 sentences: counted again, by other means."""

import itertools
import math

import pytest
import torch

from mattn import Mask, causal, full, rule, window
from mattn.data import agreement
from mattn.toy import TOKENS


def test_eight_times_four_times_eight_times_four():
    sentences = agreement.sentences()
    assert len(sentences) == len(set(sentences)) == 8 * 4 * 8 * 4 == 2**10
    assert [len({s[t] for s in sentences}) for t in range(6)] == [1, 8, 4, 1, 8, 8]
    assert len(agreement.WORDS) == len(set(agreement.WORDS)) == 25
    assert TOKENS in sentences


def test_the_verb_agrees_with_the_animal_and_with_nothing_else():
    many = {"cats", "dogs", "foxes", "birds", "mats", "boxes"}
    verbs = {"sleep", "wait", "eat", "play"}
    for _, animal, _, _, _, verb in agreement.sentences():
        assert (animal in many) == (verb in verbs)
    # The noun next to the verb says nothing about it.
    for number in (True, False):
        after = {
            s[5] in verbs for s in agreement.sentences() if (s[4] in many) == number
        }
        assert after == {True, False}


def test_a_sentence_is_told_from_its_neighbours():
    """Every change of one word is judged as the list of all sentences judges it."""
    for text in ("the foxes near the boxes eat", "the bird by the cats plays"):
        words = text.split()
        assert agreement.is_sentence(text)
        for t, word in itertools.product(range(6), agreement.WORDS):
            changed = (*words[:t], word, *words[t + 1 :])
            assert agreement.is_sentence(changed) == (changed in agreement.sentences())
        assert not agreement.is_sentence(words[:5])
        assert not agreement.is_sentence([*words, "the"])
        assert not agreement.is_sentence(["the", *words[2:1:-1], words[1], *words[3:]])
    assert not agreement.is_sentence("the foxes on the dogs sleeps")
    assert not agreement.is_sentence("")


def test_words_and_numbers():
    tokens = agreement.encode("the cats on the mat sleep")
    assert tokens.dtype == torch.long
    assert agreement.decode(tokens) == "the cats on the mat sleep"
    assert len(set(tokens.tolist())) == 5  # "the" twice
    for sentence in agreement.sentences():
        assert agreement.decode(agreement.encode(sentence)) == " ".join(sentence)
    with pytest.raises(ValueError, match="got 'lion'"):
        agreement.encode("the lion on the mat sleeps")
    with pytest.raises(ValueError, match="25"):
        agreement.decode([25])


def test_draws_are_sentences_and_all_are_equally_likely():
    draws = agreement.sample(20_000, generator=torch.Generator().manual_seed(1))
    texts = [agreement.decode(row) for row in draws]
    assert draws.shape == (20_000, 6)
    assert all(map(agreement.is_sentence, texts))
    counts = [texts.count(" ".join(s)) for s in agreement.sentences()]
    expected = 20_000 / 1024
    chi2 = sum((n - expected) ** 2 / expected for n in counts)
    assert abs(chi2 - 1023) < 5 * math.sqrt(2 * 1023)


def floors(mask: Mask) -> list[float]:
    return agreement.floors(mask.matrix(6))


def test_floors_by_counting():
    assert floors(causal) == [3, 2, 0, 3, 2]
    assert floors(causal & window(1)) == [3, 2, 0, 3, 3]
    assert floors(causal & window(4)) == [3, 2, 0, 3, 2]  # cats … mat
    assert floors(causal & window(3)) == [3, 2, 0, 3, 3]  # cats out of sight
    assert floors(full) == [0] * 5
    assert floors(window(1)) == [0] * 5  # not causal: it sees what follows
    # Who sees the verb at every place knows the number of the animal before its word.
    assert floors(causal | rule(lambda b, q, k: k == 5)) == [2, 2, 0, 3, 0]
