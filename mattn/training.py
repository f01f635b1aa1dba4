"""From a model and batches of tokens to a trained model and a curve."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["History", "evaluate", "fit", "next_token_loss"]


class History(NamedTuple):
    """What :func:`fit` saw: one entry a step, in nats per token."""

    steps: list[int]
    losses: list[float]


def next_token_loss(
    logits: Float[Tensor, "B T V"],
    tokens: Int[Tensor, "B T"],
    *,
    ignore: int | None = None,
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of token t + 1, predicted from tokens ≤ t.

    The shift is made here and nowhere else: pass logits and tokens of the
    same positions. Targets equal to ``ignore`` (padding) do not count.
    """
    if logits.shape[:2] != tokens.shape:
        raise ValueError(
            "next_token_loss: expected logits (B, T, V) for tokens (B, T); got "
            f"{tuple(logits.shape)} and {tuple(tokens.shape)}. Do not shift before."
        )
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        tokens[:, 1:].flatten(),
        ignore_index=-100 if ignore is None else ignore,
    )


def fit(
    model: nn.Module,
    batches: Iterable[Int[Tensor, "B T"]],
    *,
    n_steps: int,
    lr: float = 3e-3,
    loss: Callable[[Tensor, Tensor], Tensor] = next_token_loss,
) -> History:
    """Train ``model`` on ``n_steps`` batches with AdamW; return the curve.

    The rate ``lr`` warms up over the first 5 % of the steps and then falls
    linearly to zero. ``model(tokens)`` gives logits; ``loss(logits, tokens)``
    a scalar. A progress bar shows loss and time left, unless the environment
    sets ``MATTN_PROGRESS=0``.
    """
    from tqdm.auto import tqdm

    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99))
    warm_up = max(1, n_steps // 20)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / warm_up, 1 - step / n_steps),
    )
    history = History([], [])
    model.train()
    silent = os.environ.get("MATTN_PROGRESS") == "0"
    bar = tqdm(
        zip(range(n_steps), batches, strict=False), total=n_steps, disable=silent
    )
    for step, tokens in bar:
        value = loss(model(tokens), tokens)
        if not value.isfinite():
            raise FloatingPointError(
                f"loss is {value.item()} at step {step}: the rate may be too high "
                f"(lr={lr}), or a row of the mask is empty."
            )
        optimizer.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        history.steps.append(step)
        history.losses.append(value.item())
        bar.set_postfix(loss=f"{value.item():.3f}", refresh=False)
    return history


@torch.no_grad()
def evaluate(
    model: nn.Module,
    tokens: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    loss: Callable[[Tensor, Tensor], Tensor] = next_token_loss,
) -> float:
    """Mean loss over all of ``tokens``, in nats per token, in eval mode."""
    was_training = model.training
    model.eval()
    try:
        total = sum(
            loss(model(rows), rows).item() * len(rows)
            for rows in tokens.split(batch_size)
        )
    finally:
        model.train(was_training)
    return total / len(tokens)
