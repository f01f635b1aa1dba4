"""Losses at the edges: which targets count, in which precision, and none at all."""

import functools
import math

import pytest
import torch
from torch import nn

from mattn.data import padded
from mattn.losses import (
    evaluate,
    held_out_losses,
    next_token_loss,
    token_losses,
    translation_loss,
)
from mattn.metrics import loss_by_position, mean_loss
from mattn.training import fit

V = 7
HALVES = [torch.float16, torch.bfloat16]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


class Table(nn.Module):
    """The next token from the last one; ids that are no tokens are read as 6."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        logits = torch.randn(V, V, generator=draw(), dtype=torch.float64)
        self.logits = nn.Parameter(logits.to(dtype))

    def forward(self, tokens):
        return self.logits[torch.where((tokens < 0) | (tokens >= V), 6, tokens)]


def in_full(logits, tokens, ignore=None, smoothing=0.0):
    """The mean over targets that count, one by one, in float64."""
    log_p = logits.detach().double().log_softmax(dim=-1)
    terms = [
        (1 - smoothing) * log_p[b, t, after] + smoothing * log_p[b, t].mean()
        for b, row in enumerate(tokens.tolist())
        for t, after in enumerate(row[1:])
        if after != ignore
    ]
    return -torch.stack(terms).mean()


FORMS = {
    "token_losses": lambda logits, t, ignore: token_losses(logits, t, ignore=ignore),
    "next_token_loss": lambda logits, t, ignore: next_token_loss(
        logits, t, ignore=ignore
    ),
    "translation_loss": lambda logits, t, ignore: translation_loss(
        logits, (t, t, t), ignore=-5 if ignore is None else ignore
    ),
    "held_out_losses": lambda _, t, ignore: held_out_losses(Table(), t, ignore=ignore),
    "evaluate": lambda _, t, ignore: evaluate(Table(), t, ignore=ignore),
    "mean_loss": lambda _, t, ignore: mean_loss(Table(), t, ignore=ignore).mean,
    "loss_by_position": lambda _, t, ignore: loss_by_position(
        Table(), t, ignore=ignore
    )[0],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("wrong", [-100, -1, V, 2**40])
def test_a_target_outside_the_vocabulary_is_refused_or_ignored(form, wrong):
    tokens = torch.tensor([[1, 2, wrong, 3, 4], [6, 5, 4, 3, 0]])
    logits = Table()(tokens)
    expected = rf"targets of 0 to 6, or ignore = \S+; got {wrong}\. Give the padding"
    with pytest.raises(ValueError, match=expected):
        FORMS[form](logits, tokens, None)
    with pytest.raises(ValueError, match=expected):
        FORMS[form](logits, tokens, 3)
    known = torch.where(tokens == wrong, 6, tokens)  # 6 is no other target
    for a, b in zip(
        torch.as_tensor(FORMS[form](logits, tokens, wrong)).flatten(),
        torch.as_tensor(FORMS[form](logits, known, 6)).flatten(),
        strict=True,
    ):
        assert a == b or (a.isnan() and b.isnan())


def test_an_ignored_target_has_no_loss_and_the_mean_is_over_the_others():
    logits, tokens = torch.randn(2, 4, V), torch.tensor([[1, 2, -100, 3], [2, 1, 1, 0]])
    losses = token_losses(logits, tokens, ignore=-100)
    assert losses.isnan().tolist() == [[False, True, False], [False] * 3]
    found = next_token_loss(logits, tokens, ignore=-100)
    torch.testing.assert_close(found, losses.nanmean())
    torch.testing.assert_close(found.double(), in_full(logits, tokens, -100))


@pytest.mark.parametrize("dtype", HALVES)
def test_sums_of_half_precision_logits_are_those_of_float32(dtype):
    # 16,384 targets of 4.6 nats: their sum, 75,450, is no number of float16.
    logits = torch.zeros(32, 513, 100, dtype=dtype)
    tokens = torch.ones(32, 513, dtype=torch.long)
    for ignore in (None, 0):
        loss = next_token_loss(logits, tokens, ignore=ignore)
        assert loss.dtype == torch.float32
        assert abs(loss.item() - math.log(100)) < 1e-5
    loss = translation_loss(logits, (tokens, tokens, tokens))
    assert abs(loss.item() - math.log(100)) < 1e-5


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
def test_losses_of_each_dtype_are_exact_for_the_logits_that_came(dtype):
    tokens = torch.randint(V, (5, 9), generator=draw(1))
    logits = Table(dtype).logits[tokens].detach().requires_grad_()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    for ignore in (None, 2):
        loss = next_token_loss(logits, tokens, ignore=ignore)
        assert abs(loss.item() - in_full(logits, tokens, ignore)) < tolerance
    loss = translation_loss(logits, (tokens,) * 3, ignore=2, smoothing=0.3)
    assert abs(loss.item() - in_full(logits, tokens, 2, 0.3)) < tolerance
    loss.backward()
    assert logits.grad.dtype == dtype
    model = Table(dtype)
    expected = in_full(model.logits[tokens], tokens)
    assert held_out_losses(model, tokens).dtype == (
        torch.float64 if dtype == torch.float64 else torch.float32
    )
    assert abs(evaluate(model, tokens, batch_size=2) - expected) < tolerance
    assert abs(mean_loss(model, tokens, batch_size=3).mean - expected) < tolerance


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32])
def test_tokens_of_any_integer_dtype_and_strides_are_the_same_tokens(dtype):
    tokens = torch.randint(V, (9, 5), generator=draw(1))
    logits = Table().logits[tokens]
    for ignore in (None, 2, -100):
        expected = next_token_loss(logits, tokens, ignore=ignore)
        assert next_token_loss(logits, tokens.to(dtype), ignore=ignore) == expected
        turned = tokens.t().contiguous().t()
        spread = logits.transpose(0, 2).contiguous().transpose(0, 2)
        assert not turned.is_contiguous()
        assert next_token_loss(spread, turned, ignore=ignore) == expected


def test_a_logit_of_minus_infinity_costs_what_it_says():
    logits = torch.tensor([[[0.0, 0.0, -torch.inf], [0.0] * 3]])
    assert token_losses(logits, torch.tensor([[0, 1]])).item() == pytest.approx(
        math.log(2)
    )
    assert token_losses(logits, torch.tensor([[0, 2]])).item() == math.inf


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.parametrize("ignore", [None, 2, -100])
def test_evaluate_mean_loss_and_loss_by_position_agree(batch_size, ignore):
    model, rows = Table(), torch.randint(V, (8, 6), generator=draw(3))
    rows[:3, 4:] = 2
    if ignore is not None:
        rows[rows == 2] = ignore
    options = {"batch_size": batch_size, "ignore": ignore}
    whole = evaluate(model, rows, **options)
    means, _ = loss_by_position(model, rows, **options)
    counts = torch.full((5,), 8) if ignore is None else (rows[:, 1:] != ignore).sum(0)
    assert counts.min() > 0
    assert abs(mean_loss(model, rows, **options).mean - whole) < 1e-12
    assert abs(float((means * counts).sum() / counts.sum()) - whole) < 1e-12
    assert abs(whole - in_full(model(rows), rows, ignore)) < 1e-6


def test_errors_of_positions_are_those_of_the_rows_that_have_a_target_there():
    model, rows = Table(), torch.randint(1, V, (6, 5), generator=draw(3))
    rows[2:, 3], rows[1:, 4] = 0, 0
    means, errors = loss_by_position(model, rows, ignore=0)
    for t, n in enumerate((6, 6, 2)):
        expected_mean, expected_error = loss_by_position(model, rows[:n])
        torch.testing.assert_close(means[t], expected_mean[t])
        torch.testing.assert_close(errors[t], expected_error[t])
    assert means[3].isfinite()
    assert errors[3].isnan()  # one row says nothing of how much rows differ
    rows[0, 4] = 0
    assert loss_by_position(model, rows, ignore=0)[0].isnan().tolist() == [
        *[False] * 3,
        True,
    ]


MEANS = ["next_token_loss", "translation_loss", "evaluate", "mean_loss"]


@pytest.mark.parametrize("form", [*MEANS, "loss_by_position"])
@pytest.mark.parametrize(
    "tokens",
    [
        torch.full((2, 3), 4),
        torch.tensor([[1, 4]]),
        torch.ones(3, 1).long(),
        torch.ones(0, 5).long(),
        torch.ones(0, 1).long(),
    ],
    ids=["all ignored", "one, ignored", "no next token", "no rows", "nothing"],
)
def test_a_mean_of_no_targets_is_one_error_everywhere(form, tokens):
    logits = torch.zeros(*tokens.shape, V)
    with pytest.raises(ValueError, match=rf"^{form}: expected targets.*got none"):
        FORMS[form](logits, tokens, 4)


def test_losses_of_no_rows_and_of_one_token_are_none():
    assert token_losses(torch.zeros(0, 4, V), torch.zeros(0, 4).long()).shape == (0, 3)
    assert token_losses(torch.zeros(2, 1, V), torch.zeros(2, 1).long()).shape == (2, 0)
    assert held_out_losses(Table(), torch.zeros(0, 4).long()).shape == (0, 3)


def test_fit_says_so_before_the_weights_move_when_every_target_is_ignored():
    model = Table()
    batches = [torch.ones(2, 3).long(), torch.zeros(2, 3).long()]
    with pytest.raises(
        FloatingPointError, match=r"step 1: .*every target ignored"
    ) as e:
        fit(
            model, batches, n_steps=2, loss=functools.partial(next_token_loss, ignore=0)
        )
    assert "next_token_loss: expected targets" in str(e.value)
    after_one = Table()
    with pytest.raises(ValueError, match="expected 2 batches; got 1"):
        fit(after_one, batches[:1], n_steps=2)
    assert torch.equal(model.logits, after_one.logits)


def test_evaluation_leaves_each_module_in_its_own_mode():
    model = nn.Sequential(Table(), nn.Dropout(0.5)).train()
    model[1].eval()
    for function in (evaluate, mean_loss, held_out_losses):
        function(model, torch.ones(2, 3).long())
        assert [m.training for m in model.modules()] == [True, True, False]


@pytest.mark.parametrize("smoothing", [-0.1, 1.1, math.nan])
def test_smoothing_is_a_share(smoothing):
    tokens = torch.ones(1, 3).long()
    with pytest.raises(ValueError, match="smoothing from 0 to 1; got"):
        translation_loss(torch.zeros(1, 3, V), (tokens,) * 3, smoothing=smoothing)


def test_padding_counts_no_target_and_leaves_out_none():
    rows = [[1, 2, 5], [1, 2, 3, 4, 5]]  # both end in 5, and 0 only pads
    tokens, lengths = padded(rows, filler=0)
    logits = torch.randn(2, 5, V, generator=draw())
    each = token_losses(logits, tokens)
    real = [each[i, : n - 1] for i, n in enumerate(lengths.tolist())]
    found = next_token_loss(logits, tokens, ignore=0)
    torch.testing.assert_close(found, torch.cat(real).mean())
    batch = (tokens, tokens, lengths)
    torch.testing.assert_close(translation_loss(logits, batch, smoothing=0.0), found)
