"""From a model and batches of tokens to a trained model and a curve."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["History", "evaluate", "fit", "next_token_loss", "schedule", "token_losses"]


class History(NamedTuple):
    """What :func:`fit` saw: one entry a step, in nats per token."""

    steps: list[int]
    losses: list[float]


def token_losses(
    logits: Float[Tensor, "B T V"], tokens: Int[Tensor, "B T"]
) -> Float[Tensor, "B T-1"]:
    """Cross-entropy in nats of each token t + 1, predicted from tokens ≤ t.

    The shift is made here and nowhere else: pass logits and tokens of the
    same positions. Column t holds the loss of ``tokens[:, t + 1]`` under
    ``logits[:, t]``; the last logits have no target. Derived in chapter 5.
    """
    if logits.shape[:-1] != tokens.shape:
        raise ValueError(
            "expected logits (B, T, V) and tokens (B, T) of the same positions; got "
            f"{tuple(logits.shape)} and {tuple(tokens.shape)}. Do not shift before."
        )
    targets = tokens[:, 1:]
    losses = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), targets.flatten(), reduction="none"
    )
    return losses.reshape(targets.shape)


def next_token_loss(
    logits: Float[Tensor, "B T V"],
    tokens: Int[Tensor, "B T"],
    *,
    ignore: int | None = None,
) -> Float[Tensor, ""]:
    """Mean of :func:`token_losses`; targets equal to ``ignore`` do not count.

    ``ignore`` is the loss mask: give it the padding symbol. Where no target
    is left there is no mean, and the loss is NaN.
    """
    losses = token_losses(logits, tokens)
    if ignore is None:
        return losses.mean()
    counted = tokens[:, 1:] != ignore
    return losses.masked_fill(~counted, 0.0).sum() / counted.sum()


def schedule(step: int, n_steps: int) -> float:
    """Share of the learning rate at ``step``: up over 5 % of the steps, then down.

    Linear both ways, positive at every step from 0 to ``n_steps − 1``.
    """
    warm_up = max(1, n_steps // 20)
    return min((step + 1) / warm_up, 1 - step / n_steps)


def fit(
    model: nn.Module,
    batches: Iterable[Int[Tensor, "B T"]],
    *,
    n_steps: int,
    lr: float = 3e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = next_token_loss,
) -> History:
    """Train ``model`` on ``n_steps`` batches with AdamW; return the curve.

    The rate is ``lr`` times :func:`schedule`. ``model(tokens)`` gives logits;
    ``loss(logits, tokens)`` a scalar. Leaves the model in training mode. A
    progress bar shows loss and time left, unless the environment sets
    ``MATTN_PROGRESS=0``.

    Raises ``FloatingPointError``, before the weights change, when loss or
    gradient is not finite, and ``ValueError`` when the batches run out.
    """
    from tqdm import tqdm

    if n_steps < 1:
        raise ValueError(f"fit: expected n_steps >= 1; got {n_steps}.")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: schedule(step, n_steps)
    )
    history = History([], [])
    model.train()
    silent = os.environ.get("MATTN_PROGRESS") == "0"
    bar = tqdm(
        zip(range(n_steps), batches, strict=False), total=n_steps, disable=silent
    )
    for step, tokens in bar:
        value = loss(model(tokens), tokens)
        number = value.item()
        optimizer.zero_grad()
        value.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0).item()
        if not (math.isfinite(number) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step}: loss is {number}, gradient norm {norm}. The rate may "
                f"be too high (lr={lr}), a row of the mask empty, or every target "
                "ignored."
            )
        optimizer.step()
        scheduler.step()
        history.steps.append(step)
        history.losses.append(number)
        bar.set_postfix(loss=f"{number:.3f}", refresh=False)
    if len(history.steps) < n_steps:
        raise ValueError(
            f"fit: expected {n_steps} batches; got {len(history.steps)}. The rate had "
            "not come down yet: give more batches, or ask for fewer steps."
        )
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tokens: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> float:
    """Mean next-token loss over all of ``tokens``, in nats, in eval mode.

    Every target that is not ``ignore`` counts the same, whatever the batches.
    """
    was_training = model.training
    model.eval()
    total, n = 0.0, 0
    try:
        for rows in tokens.split(batch_size):
            counted = torch.ones_like(rows[:, 1:], dtype=torch.bool)
            if ignore is not None:
                counted = rows[:, 1:] != ignore
            total += token_losses(model(rows), rows)[counted].double().sum().item()
            n += int(counted.sum())
    finally:
        model.train(was_training)
    if n == 0:
        raise ValueError(
            f"evaluate: expected targets to score; got none in {tuple(tokens.shape)}. "
            "A sequence of one token has no next token."
        )
    return total / n
