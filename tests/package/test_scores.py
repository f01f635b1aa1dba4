"""Scores of translations: sacrebleu's, with intervals of our own, at the edges."""

import random
import sys

import numpy as np
import pytest
import sacrebleu

from mattn.metrics import translation_scores

WORDS = [
    "red",
    "blue",
    "old",
    "cat",
    "dog",
    "sees",
    "the",
    "a",
    ".",
    ",",
    "3.5",
    "über",
]


def sentences(n, seed=0):
    """Hypotheses and references of 0 to 13 words; one in three words differs."""
    draw = random.Random(seed)
    references = [" ".join(draw.choices(WORDS, k=draw.randrange(14))) for _ in range(n)]
    hypotheses = [
        " ".join(w if draw.random() < 0.7 else draw.choice(WORDS) for w in r.split())
        for r in references
    ]
    return hypotheses, references


def theirs(hypotheses, references, n_resamples, **options):
    """Score and interval as sacrebleu computes and prints them: μ ± half a width."""
    found = {}
    for name, metric in {
        "BLEU": sacrebleu.BLEU(force=True, **options),
        "chrF": sacrebleu.CHRF(),
    }.items():
        result = metric.corpus_score(hypotheses, [references], n_bootstrap=n_resamples)
        _, _, interval = result.format(width=6, score_only=True).partition("μ = ")
        mean, half = map(float, interval.rstrip(")").split(" ± "))
        signature = str(metric.get_signature())
        found[name] = (result.score, mean - half, mean + half, signature)
    return found


@pytest.mark.parametrize("n_resamples", [2, 39, 40, 200])
@pytest.mark.parametrize("tokenize", ["13a", "char"])
def test_scores_intervals_and_signatures_are_those_of_sacrebleu(n_resamples, tokenize):
    hypotheses, references = sentences(60)
    hypotheses[3], hypotheses[7] = "", "qqq"
    options = {"tokenize": tokenize}
    found = translation_scores(
        hypotheses, references, n_resamples=n_resamples, **options
    )
    for name, (score, *ends, signature) in theirs(
        hypotheses, references, n_resamples, **options
    ).items():
        assert abs(found[name].score - score) < 1e-9
        # They add in float32 and print six digits.
        np.testing.assert_allclose(found[name][2:4], ends, atol=1e-4)
        assert found[name].signature == signature


@pytest.mark.parametrize("seed", range(5))
def test_one_sentence_has_the_interval_of_one_score(seed):
    # Every test set drawn of one sentence is that sentence: chrF counted by us
    # is chrF by sacrebleu, to rounding.
    for hypothesis, reference in zip(*sentences(12, seed), strict=True):
        for score in translation_scores(
            [hypothesis], [reference], n_resamples=2
        ).values():
            assert score.low == score.high
            assert abs(score.low - score.score) < 1e-9


def test_an_empty_hypothesis_is_a_bad_one():
    references = ["a b c d e", "b c d e f"]
    scores = translation_scores(["", "b c d e f"], references)
    expected = sacrebleu.corpus_chrf(["", "b c d e f"], [references]).score
    assert scores["chrF"].score == pytest.approx(expected, abs=1e-9)
    references.append("x y z w q r s t u v")
    hypotheses = ["a b c d e", "b c d e f", ""]
    for score in translation_scores(hypotheses, references).values():
        assert 0 <= score.low < score.score < score.high <= 100


@pytest.mark.parametrize(
    ("hypotheses", "references"),
    [
        ([""], [""]),
        ([""], ["a b"]),
        (["a b"], [""]),
        (["x y z w"] * 2, ["a b c d"] * 2),
    ],
)
def test_nothing_right_is_0_from_0_to_0(hypotheses, references):
    for score in translation_scores(hypotheses, references, n_resamples=3).values():
        assert score[1:4] == (0, 0, 0)


def test_an_interval_stays_between_0_and_100():
    references = ["the cat sat on the red mat today"] * 4
    hypotheses = [*references[:3], "x y"]
    for score in translation_scores(hypotheses, references).values():
        assert 0 <= score.low < score.score < score.high <= 100


def test_the_interval_is_the_same_every_time_and_touches_no_other_randomness():
    state = np.random.get_state()[1].tolist()
    first = translation_scores(*sentences(9), n_resamples=20)
    assert translation_scores(*sentences(9), n_resamples=20) == first
    assert np.random.get_state()[1].tolist() == state


def test_a_tuple_of_sentences_is_a_list_of_them():
    hypotheses, references = sentences(5)
    expected = translation_scores(hypotheses, references, n_resamples=5)
    found = translation_scores(tuple(hypotheses), tuple(references), n_resamples=5)
    assert found == expected


def test_sacrebleu_is_named_with_its_extra_where_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "sacrebleu", None)
    with pytest.raises(ImportError, match=r"pip install .*mattn\[translation\]"):
        translation_scores(["a"], ["a"])
