"""Loss, shift, schedule, fit, evaluate."""

import itertools
import math

import pytest
import torch
from torch import nn

from mattn.training import evaluate, fit, next_token_loss, schedule, token_losses

V = 5


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def sequences(n=7, T=6, seed=0):
    return torch.randint(0, V, (n, T), generator=draw(seed))


def oracle(tokens, ahead):
    """Logits at t that are sure of token t + ahead (of nothing, past the end)."""
    logits = torch.zeros(*tokens.shape, V)
    shifted = tokens[:, ahead:]
    logits[:, : shifted.shape[1]] = 50.0 * nn.functional.one_hot(shifted, V).float()
    return logits


class Table(nn.Module):
    """The next token from the last one: a table of logits, causal by nature."""

    def __init__(self, seed=0):
        super().__init__()
        self.logits = nn.Parameter(torch.randn(V, V, generator=draw(seed)))
        self.modes = []

    def forward(self, tokens):
        self.modes.append(self.training)
        return self.logits[tokens]


def test_the_shift_is_one_to_the_right():
    tokens = sequences(40)
    # No two neighbours equal, and none equal at distance 2: no oracle is lucky.
    tokens = (tokens[:, :1] + torch.arange(6)) % V
    assert next_token_loss(oracle(tokens, 1), tokens) < 1e-6
    assert next_token_loss(oracle(tokens, 0), tokens) > 10  # the shift is missing
    assert next_token_loss(oracle(tokens, 2), tokens) > 10  # it is doubled


def test_hand_computed_loss():
    # Uniform over 5, then sure of the wrong one by log 3 against four zeros.
    logits = torch.zeros(1, 3, V)
    logits[0, 1, 0] = math.log(3)
    logits[0, 2] = torch.tensor([1e4, -1e4, 0, 0, 0])  # has no target
    tokens = torch.tensor([[4, 1, 2]])
    expected = torch.tensor([[math.log(5), math.log(7)]])
    torch.testing.assert_close(token_losses(logits, tokens), expected)
    torch.testing.assert_close(next_token_loss(logits, tokens), expected.mean())


def test_first_token_is_no_target_and_last_logits_do_not_count():
    logits, tokens = torch.randn(2, 4, V, generator=draw()), sequences(2, 4)
    before = next_token_loss(logits, tokens)
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % V
    assert next_token_loss(logits, changed) == before
    changed = logits.clone()
    changed[:, -1] += 7.0
    assert next_token_loss(changed, tokens) == before
    for t in range(3):
        changed = logits.clone()
        changed[:, t] = -changed[:, t]
        assert next_token_loss(changed, tokens) != before


def test_ignored_targets_do_not_count_and_send_no_gradient():
    logits = torch.randn(2, 4, V, generator=draw(), requires_grad=True)
    tokens = torch.tensor([[1, 2, 3, 4], [3, 1, 0, 0]])  # 0 is padding
    loss = next_token_loss(logits, tokens, ignore=0)
    log_p = logits.log_softmax(dim=-1)
    terms = [log_p[0, 0, 2], log_p[0, 1, 3], log_p[0, 2, 4], log_p[1, 0, 1]]
    torch.testing.assert_close(loss, -torch.stack(terms).mean())
    loss.backward()
    assert (logits.grad[1, 1:] == 0).all()
    assert (logits.grad[0, :3] != 0).all()
    assert next_token_loss(logits, torch.zeros_like(tokens), ignore=0).isnan()


def test_wrong_shapes_are_refused():
    tokens = sequences(2, 4)
    with pytest.raises((ValueError, TypeError)):  # TypeError: jaxtyping's hook
        next_token_loss(torch.zeros(2, 3, V), tokens)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 100])
@pytest.mark.parametrize("ignore", [None, 2])
def test_evaluate_is_the_mean_over_the_whole_split(batch_size, ignore):
    model, tokens = Table(), sequences(7)
    tokens[4, 1:] = 2  # a row with nothing to score when 2 is ignored
    terms = []
    for row in tokens.tolist():
        for now, after in itertools.pairwise(row):
            if after != ignore:
                terms.append(-model.logits[now].log_softmax(dim=-1)[after].item())
    got = evaluate(model, tokens, batch_size=batch_size, ignore=ignore)
    assert abs(got - sum(terms) / len(terms)) < 1e-6


def test_evaluate_runs_in_eval_mode_and_restores_it():
    model = Table()
    for mode in (True, False):
        model.train(mode)
        evaluate(model, sequences())
        assert model.training is mode
    assert model.modes == [False, False]
    with pytest.raises(ValueError, match="got none"):
        evaluate(model, sequences(3, 1))


def test_fit_lowers_the_loss_and_is_deterministic():
    tokens = (sequences(32, 1) + torch.arange(6)) % V  # always the next symbol
    runs = []
    for _ in range(2):
        model = Table()
        history = fit(model, iter([tokens] * 60), n_steps=60, lr=0.1)
        runs.append((history, model.logits.detach().clone()))
    (history, weights), (again, weights_again) = runs
    assert history == again
    assert torch.equal(weights, weights_again)
    assert history.steps == list(range(60))
    assert history.losses[-1] < 0.2 < history.losses[0]
    assert evaluate(model, tokens) < 0.2


def test_fit_takes_another_loss_and_trains_in_training_mode():
    model = Table().eval()
    fit(
        model,
        iter([sequences()] * 3),
        n_steps=3,
        loss=lambda logits, tokens: logits.square().mean(),
    )
    assert model.modes == [True] * 3


def test_fit_stops_at_a_non_finite_loss_with_step_and_cause():
    def loss(logits, tokens):
        value = next_token_loss(logits, tokens)
        return value * torch.nan if len(tokens) == 2 else value

    model = Table()
    batches = [sequences(3), sequences(3), sequences(2), sequences(3)]
    with pytest.raises(FloatingPointError, match=r"^step 2: loss is nan.*lr=0\.05"):
        fit(model, iter(batches), n_steps=4, lr=0.05, loss=loss)
    assert model.logits.isfinite().all()


def test_fit_stops_at_a_non_finite_gradient_before_the_weights_change():
    model = Table()
    before = model.logits.detach().clone()
    with pytest.raises(FloatingPointError, match=r"step 0: .*gradient norm"):
        # The root is 0, its derivative there infinite, and ∞ · 0 is NaN.
        fit(
            model,
            iter([sequences()]),
            n_steps=1,
            loss=lambda logits, tokens: (logits * 0).sum().sqrt(),
        )
    assert torch.equal(model.logits, before)


def test_fit_refuses_too_few_batches_and_steps():
    with pytest.raises(ValueError, match="expected 5 batches; got 2"):
        fit(Table(), iter([sequences()] * 2), n_steps=5)
    with pytest.raises(ValueError, match="n_steps >= 1"):
        fit(Table(), iter([]), n_steps=0)


@pytest.mark.parametrize("n_steps", [1, 2, 19, 100])
def test_schedule_rises_then_falls_and_stays_positive(n_steps):
    rates = [schedule(step, n_steps) for step in range(n_steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_schedule_by_hand():
    # 100 steps: 5 of warm-up, then 1 − step/100.
    assert [round(schedule(s, 100), 10) for s in (0, 3, 4, 50, 99)] == [
        0.2,
        0.8,
        0.96,
        0.5,
        0.01,
    ]


def test_fit_uses_the_schedule():
    # With a gradient of constant sign AdamW moves each weight by about the rate.
    model = Table()
    model.logits.data.zero_()
    seen = [0.0]

    def loss(logits, tokens):
        seen.append(float(model.logits.detach()[0, 0]))
        return -model.logits.sum()

    fit(model, iter([sequences()] * 40), n_steps=40, lr=1e-3, loss=loss)
    moves = torch.tensor(seen[2:]).diff()
    expected = torch.tensor([1e-3 * schedule(s, 40) for s in range(1, 39)])
    torch.testing.assert_close(moves, expected, rtol=1e-2, atol=1e-6)
