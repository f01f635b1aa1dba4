"""Judges: estimates, n-grams, repetition, translation scores."""

import itertools
import math

import pytest
import torch
from torch import nn

from mattn.losses import evaluate, held_out_losses
from mattn.metrics import (
    Estimate,
    NGram,
    bits_per_character,
    exact_match,
    loss_by_position,
    mean_loss,
    repetition,
    translation_scores,
)


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


class Table(nn.Module):
    def __init__(self, n_symbols=5):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(n_symbols, n_symbols, generator=draw()))

    def forward(self, tokens):
        return self.logits[tokens]


def test_bits_per_character():
    assert bits_per_character(math.log(2)) == 1.0
    assert bits_per_character(2 * math.log(2), characters_per_token=4) == 0.5


def test_mean_loss_is_evaluate_with_an_error():
    model, rows = Table(), torch.randint(5, (40, 9), generator=draw())
    for ignore in (None, 2):
        found = mean_loss(model, rows, batch_size=7, ignore=ignore)
        assert abs(found.mean - evaluate(model, rows, ignore=ignore)) < 1e-6
    rows = rows[:, :2]  # one target a row: the plain standard error
    losses = held_out_losses(model, rows).double()[:, 0]
    found = mean_loss(model, rows)
    assert abs(found.error - float(losses.std()) / math.sqrt(40)) < 1e-12
    assert str(Estimate(1.23456, 0.00789)) == "1.235 ± 0.008"


def test_the_error_is_that_of_independent_rows():
    # Many samples of 50 rows: their means scatter by what each of them claims.
    model, tokens = Table(), torch.randint(5, (200, 50, 9), generator=draw())
    tokens[:, :, 5:] = torch.where(tokens[:, :, :1] > 2, 0, tokens[:, :, 5:])
    found = [mean_loss(model, rows, ignore=0) for rows in tokens]
    spread = torch.tensor([e.mean for e in found]).std()
    claimed = torch.tensor([e.error for e in found]).mean()
    assert 0.85 < spread / claimed < 1.15


def test_loss_by_position():
    model, rows = Table(), torch.randint(5, (40, 9), generator=draw())
    means, errors = loss_by_position(model, rows)
    losses = held_out_losses(model, rows).double()
    torch.testing.assert_close(means, losses.mean(dim=0))
    torch.testing.assert_close(errors, losses.std(dim=0) / math.sqrt(40))
    assert abs(float(means.mean()) - mean_loss(model, rows).mean) < 1e-9


@pytest.mark.parametrize("n", [1, 2, 3])
def test_ngram_probabilities_sum_to_one(n):
    rows = torch.randint(4, (6, 8), generator=draw()).tolist()
    model = NGram(rows, n, 5)
    for context in [[], [1], [0, 3], [4, 4], [1, 2, 3]]:
        total = sum(math.exp(model.log_probs([*context, w])[-1]) for w in range(5))
        assert abs(total - 1) < 1e-12


def test_ngram_by_hand():
    # Counts 0: 2, 1: 1; two distinct: p(0) = (2 + 2/3)/5, p(1) = (1 + 2/3)/5.
    unigram = NGram([[0, 1, 0]], 1, 3)
    p = [math.exp(unigram.log_probs([w])[0]) for w in range(3)]
    expected = [(2 + 2 / 3) / 5, (1 + 2 / 3) / 5, (2 / 3) / 5]
    torch.testing.assert_close(p, expected)
    # After 0 came 1, once: p(1 | 0) = (1 + p(1))/2.
    bigram = NGram([[0, 1, 0]], 2, 3)
    got = math.exp(bigram.log_probs([0, 1])[1])
    assert abs(got - (1 + expected[1]) / 2) < 1e-12
    # A context never seen falls back to the unigram.
    assert abs(math.exp(bigram.log_probs([2, 1])[1]) - expected[1]) < 1e-12


def test_ngram_sees_no_more_than_its_context_and_not_across_rows():
    rows = [[0, 1, 2, 3], [3, 2, 1, 0]]
    trigram = NGram(rows, 3, 4)
    a, b = trigram.log_probs([0, 3, 1, 2])[3], trigram.log_probs([2, 3, 1, 2])[3]
    assert a == b
    assert (3, 3) not in trigram._counts[2]
    with pytest.raises(ValueError, match="n >= 1"):
        NGram(rows, 0, 4)


def test_ngram_mean_loss_skips_the_start():
    rows = [[0, 1, 2], [2, 1]]
    model = NGram(rows, 2, 3)
    terms = list(itertools.chain(*(model.log_probs(row)[1:] for row in rows)))
    assert abs(model.mean_loss(rows, skip=1).mean + sum(terms) / len(terms)) < 1e-12


def test_ngram_of_lists_arrays_and_tensors_is_one_and_so_are_its_edges():
    rows = torch.randint(4, (6, 8), generator=draw())
    by_list = NGram(rows.tolist(), 2, 4)
    for same_rows in (rows, rows.numpy(), list(rows.int())):
        model = NGram(same_rows, 2, 4)
        assert model.mean_loss(same_rows) == by_list.mean_loss(rows.tolist())
    # Rows that `skip` leaves nothing of count nothing, rather than less.
    ragged = [[0, 1, 2, 3], [1], []]
    mean, error = by_list.mean_loss(ragged, skip=2)
    assert mean == by_list.mean_loss(ragged[:1], skip=2).mean
    assert error < 1e-12  # the only row with tokens has their mean
    assert by_list.log_probs([]) == []
    # Nothing was counted: all symbols are alike.
    assert NGram([], 3, 4).log_probs([2]) == [math.log(1 / 4)]
    assert NGram([[0, 0]], 1, 1).log_probs([0, 0]) == [0.0, 0.0]
    assert math.isnan(by_list.mean_loss([[1, 2]]).error)


def test_more_context_is_worth_something_and_then_nothing():
    # An order-1 source: a second token helps, a third does not.
    steps = (torch.rand(400, 30, generator=draw()) < 0.2).long() + 1
    rows = (steps.cumsum(dim=1) % 6).tolist()
    losses = [
        NGram(rows[:300], n, 6).mean_loss(rows[300:], skip=2).mean for n in (1, 2, 3)
    ]
    exact = -0.2 * math.log(0.2) - 0.8 * math.log(0.8)
    assert losses[0] > 1.7
    assert abs(losses[1] - exact) < 0.03
    assert abs(losses[2] - losses[1]) < 0.003


def test_exact_match():
    found = exact_match(["a b", "c", "d", "x"], ["a b", "c", "e", "y"])
    assert found.mean == 0.5
    assert abs(found.error - 0.25) < 1e-12
    with pytest.raises(ValueError, match="1 hypotheses and 2 references"):
        exact_match(["a"], ["a", "b"])


def test_repetition():
    assert repetition([1, 2, 3, 4, 5]) == 0.0
    assert repetition([1] * 5) == 0.5
    assert repetition([1, 2] * 50, n=2) > 0.97
    assert repetition([1, 2]) == repetition([]) == 0.0
    assert repetition(torch.ones(5, dtype=torch.int32)) == 0.5


REFERENCES = [
    f"sentence {i} is about {word} things today"
    for i, word in enumerate(["red", "blue", "old", "new", "big"] * 8)
]


def test_translation_scores_are_those_of_sacrebleu():
    import sacrebleu

    hypotheses = [
        r.replace("things", "stuff") if i % 2 else r for i, r in enumerate(REFERENCES)
    ]
    scores = translation_scores(hypotheses, REFERENCES, n_resamples=200)
    plain = sacrebleu.corpus_bleu(hypotheses, [REFERENCES]).score
    chrf = sacrebleu.corpus_chrf(hypotheses, [REFERENCES]).score
    assert abs(scores["BLEU"].score - plain) < 1e-9
    assert abs(scores["chrF"].score - chrf) < 1e-9
    for score in scores.values():
        assert score.low < score.score < score.high
        assert "version" in score.signature
    assert "BLEU" in str(scores["BLEU"])


def test_translation_scores_at_the_ends():
    perfect = translation_scores(REFERENCES, REFERENCES, n_resamples=20)
    assert all(abs(s.score - 100) < 1e-6 for s in perfect.values())
    assert all(s.low == s.high for s in perfect.values())


def test_chinese_needs_its_own_tokenizer():
    chinese = ["我们今天在北京看见了三本新书", "他昨天没有来学校上课"] * 5
    other = ["我们昨天在北京看见了三本新书", "他昨天没有来学校上课"] * 5
    plain = translation_scores(other, chinese, n_resamples=10)["BLEU"].score
    zh = translation_scores(other, chinese, tokenize="zh", n_resamples=10)["BLEU"].score
    assert zh > 80 > plain
