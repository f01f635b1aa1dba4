"""Loss, shift, schedule, fit, evaluate."""

import itertools
import math

import pytest
import torch
from torch import nn

from mattn.losses import evaluate, held_out_losses, next_token_loss, token_losses
from mattn.training import Recipe, fit, schedule

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
    with pytest.raises(ValueError, match="targets to score; got none"):
        next_token_loss(logits, torch.zeros_like(tokens), ignore=0)


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
    with pytest.raises(FloatingPointError, match=r"^step 2: loss is nan.*ignored"):
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


def test_fit_names_weights_that_came_in_broken():
    model = Table()
    model.logits.data[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="A weight is not finite"):
        fit(model, iter([sequences()]), n_steps=1)


def test_fit_names_logits_that_grew_too_large_and_the_rate():
    model = Table()
    huge = nn.Module()
    huge.inner = model
    huge.forward = lambda tokens: model(tokens) * 1e30 * 1e30
    with pytest.raises(FloatingPointError, match=r"logits are not.*lr=0\.5"):
        fit(huge, iter([sequences()]), n_steps=1, lr=0.5)


def test_fit_gives_a_tuple_to_model_and_loss():
    class Two(Table):
        def forward(self, first, second):
            return super().forward(first + second)

    def loss(logits, batch):
        first, second = batch
        return next_token_loss(logits, first + second)

    tokens = (sequences(32, 1) + torch.arange(6)) % V
    batch = (tokens, torch.zeros_like(tokens))
    pair = fit(Two(), itertools.repeat(batch), n_steps=5, loss=loss)
    assert pair == fit(Table(), itertools.repeat(tokens), n_steps=5)


def test_fit_clips_the_gradients_together():
    # One SGD-like step of Muon is scale free; AdamW's first moment is not.
    moves = []
    for clip in (None, 1.0, 0.1):
        model = Table()
        fit(
            model,
            iter([sequences()]),
            n_steps=1,
            recipe=Recipe(clip=clip),
            loss=lambda logits, tokens: 1e3 * next_token_loss(logits, tokens),
        )
        moves.append(model.logits.grad.norm().item())
    assert moves[0] > 10
    assert abs(moves[1] - 1) < 1e-4
    assert abs(moves[2] - 0.1) < 1e-5


def test_progress_shows_loss_speed_and_time_left_or_nothing(monkeypatch, capsys):
    monkeypatch.delenv("MATTN_PROGRESS", raising=False)
    fit(Table(), itertools.repeat(sequences()), n_steps=3)
    shown = capsys.readouterr().err
    assert all(word in shown for word in ("loss=", "tokens/s=", "3/3", "<"))
    monkeypatch.setenv("MATTN_PROGRESS", "0")
    fit(Table(), itertools.repeat(sequences()), n_steps=3)
    assert capsys.readouterr() == ("", "")


# --- Schedule ---


@pytest.mark.parametrize("n_steps", [1, 2, 19, 100])
@pytest.mark.parametrize("recipe", [Recipe(), Recipe(decay="cosine", final=0.1)])
def test_schedule_rises_to_1_then_falls_and_stays_positive(n_steps, recipe):
    rates = [schedule(step, n_steps, recipe) for step in range(n_steps)]
    assert all(recipe.final < rate <= 1 for rate in rates)
    assert max(rates) == 1
    top = rates.index(1)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_schedule_by_hand():
    # 100 steps: 5 up, then 95 down; half of the way down is at step 52.5.
    linear = [schedule(s, 100) for s in (0, 3, 4, 5, 24, 99)]
    torch.testing.assert_close(linear, [0.2, 0.8, 1.0, 1.0, 1 - 19 / 95, 1 / 95])
    cosine = Recipe(warm_up=0.2, decay="cosine", final=0.1)
    assert schedule(20, 100, cosine) == 1
    assert abs(schedule(60, 100, cosine) - 0.55) < 1e-12
    assert abs(schedule(100, 100, cosine) - 0.1) < 1e-12


def test_fit_uses_the_schedule():
    # With a gradient of constant sign AdamW moves each weight by about the rate.
    model = Table()
    model.logits.data.zero_()
    seen = [0.0]

    def loss(logits, tokens):
        seen.append(float(model.logits.detach()[0, 0]))
        return -model.logits.sum()

    recipe = Recipe(weight_decay=0.0)
    batches = iter([sequences()] * 40)
    fit(model, batches, n_steps=40, lr=1e-3, recipe=recipe, loss=loss)
    moves = torch.tensor(seen[2:]).diff()
    expected = torch.tensor([1e-3 * schedule(s, 40) for s in range(1, 39)])
    torch.testing.assert_close(moves, expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"muon_lr": 0.0},
        {"head_lr": -1.0},
        {"betas": (0.9, 1.0)},
        {"weight_decay": -0.1},
        {"warm_up": 1.0},
        {"decay": "cubic"},
        {"final": 2.0},
        {"clip": 0.0},
    ],
)
def test_a_recipe_refuses_what_makes_no_sense(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        Recipe(**wrong)


def test_held_out_losses_are_those_of_one_pass():
    model, tokens = Table(), sequences(7)
    expected = token_losses(model.logits[tokens], tokens)
    assert torch.equal(held_out_losses(model, tokens, batch_size=3), expected)
    assert model.modes == [False] * 3
