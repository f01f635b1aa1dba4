"""Muon, and which parameter goes to which optimizer."""

import itertools
import math

import pytest
import torch
from small import V, decoder, draw
from torch import nn

from mattn.losses import evaluate
from mattn.optimizers import Muon, orthogonalised
from mattn.training import Recipe, fit, optimizers


def sequences(n=7, T=6, seed=0):
    return torch.randint(0, V, (n, T), generator=draw(seed))


def polynomial(s, n_steps=5):
    for _ in range(n_steps):
        s = 3.4445 * s - 4.775 * s**3 + 2.0315 * s**5
    return s


@pytest.mark.parametrize("shape", [(3, 4, 7), (2, 7, 4), (1, 5, 5), (2, 1, 6)])
def test_newton_schulz_keeps_u_and_v_and_maps_singular_values(shape):
    x = torch.randn(shape, generator=draw())
    u, s, vh = torch.linalg.svd(x.double(), full_matrices=False)
    s = s / s.norm(dim=-1, keepdim=True)
    expected = (u * polynomial(s)[:, None]) @ vh
    torch.testing.assert_close(orthogonalised(x).double(), expected, rtol=0, atol=2e-5)


def test_newton_schulz_comes_near_the_polar_factor():
    # Singular values from 0.01 to 1 land between 0.68 and 1.14, all of them.
    s = polynomial(torch.linspace(0.01, 1, 10_000, dtype=torch.float64))
    assert 0.68 < s.min() < s.max() < 1.14
    x = torch.randn(1, 20, 60, generator=draw())
    u, _, vh = torch.linalg.svd(x.double(), full_matrices=False)
    polar = (u @ vh)[0]
    got = orthogonalised(x)[0].double()
    cosine = (got * polar).sum() / got.norm() / polar.norm()
    assert cosine > 0.98
    assert (torch.linalg.svdvals(got) > 0.68).all()
    assert (torch.linalg.svdvals(got) < 1.14).all()


def test_newton_schulz_of_zero_is_zero_and_scale_does_not_matter():
    x = torch.randn(2, 3, 5, generator=draw())
    x[1] = 0
    got = orthogonalised(x)
    assert (got[1] == 0).all()
    torch.testing.assert_close(orthogonalised(1e3 * x), got)


def test_muon_step_by_hand():
    tall = nn.Parameter(torch.randn(6, 2, generator=draw()))
    wide = nn.Parameter(torch.randn(2, 6, generator=draw(1)))
    start = [tall.detach().clone(), wide.detach().clone()]
    gradients = [torch.randn(6, 2, generator=draw(2)), torch.randn(2, 6)]
    optimizer = Muon([tall, wide], lr=0.1, momentum=0.9, weight_decay=0.5)
    momenta = [torch.zeros(6, 2), torch.zeros(2, 6)]
    for _ in range(3):
        tall.grad, wide.grad = gradients
        optimizer.step()
        for i, scale in enumerate((math.sqrt(3), 1.0)):
            momenta[i] = 0.9 * momenta[i] + 0.1 * gradients[i]
            update = 0.9 * momenta[i] + 0.1 * gradients[i]
            direction = orthogonalised(update[None])[0]
            start[i] = start[i] * (1 - 0.1 * 0.5) - 0.1 * scale * direction
    torch.testing.assert_close(tall.detach(), start[0])
    torch.testing.assert_close(wide.detach(), start[1])


def test_muon_runs_a_closure_with_gradients_and_returns_its_loss():
    weight = nn.Parameter(torch.eye(3)[:2].clone())
    optimizer = Muon([weight], lr=0.1)

    def closure():
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert optimizer.step(closure) == 2.0
    assert closure() < 2.0
    assert optimizer.step() is None


def test_muon_refuses_what_is_no_matrix():
    with pytest.raises(ValueError, match=r"expected matrices; got shape \(3,\)"):
        Muon([nn.Parameter(torch.zeros(3))], lr=0.1)


def test_each_parameter_has_one_optimizer_and_the_right_one():
    model = decoder(dropout=0.1)
    recipe = Recipe(muon_lr=0.02, head_lr=0.005, weight_decay=0.1)
    adamw, muon = optimizers(model, 0.01, recipe)
    found = {}
    for optimizer in (adamw, muon):
        for group in optimizer.param_groups:
            for p in group["params"]:
                assert id(p) not in found
                found[id(p)] = (type(optimizer), group["lr"], group["weight_decay"])
    for name, p in model.named_parameters():
        if name == "head.weight":
            expected = (torch.optim.AdamW, 0.005, 0.1)
        elif name == "embedding.weight":
            expected = (torch.optim.AdamW, 0.01, 0.1)
        elif p.ndim == 1:
            expected = (torch.optim.AdamW, 0.01, 0.0)
        else:
            expected = (Muon, 0.02, 0.1)
        assert found.pop(id(p)) == expected, name
    assert not found
    (only,) = optimizers(model, 0.01, Recipe())
    assert isinstance(only, torch.optim.AdamW)


def test_muon_learns():
    tokens = (sequences(32, 1) + torch.arange(6)) % V
    model = decoder(zero_head=True)
    fit(
        model,
        itertools.repeat(tokens),
        n_steps=80,
        lr=0.03,
        recipe=Recipe(muon_lr=0.02),
    )
    assert evaluate(model, tokens) < 0.1
