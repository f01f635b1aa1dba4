"""Losses: how surprised a model is by the token that follows, in nats.

Which token is the target of which logits, and which targets count, is said
here and nowhere else.

Chapter 5 derives the loss and its shift, chapter 8 that of a translation.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mattn.inputs import whole_number

__all__ = [
    "evaluate",
    "held_out_losses",
    "next_token_loss",
    "token_losses",
    "translation_loss",
]

_NO_TARGET = -1  # in the place of `ignore`, once all others are known to be >= 0


class NoTargetsError(ValueError):
    """A mean over no targets was asked for."""


def token_losses(
    logits: Float[Tensor, "B T V"],
    tokens: Int[Tensor, "B T"],
    *,
    ignore: int | None = None,
) -> Float[Tensor, "B T-1"]:
    """Cross-entropy in nats of each token t + 1, predicted from tokens ≤ t.

    The shift is made here and nowhere else: pass logits and tokens of the
    same positions. Column t holds the loss of ``tokens[:, t + 1]`` under
    ``logits[:, t]``; the last logits have no target. A target equal to
    ``ignore`` has no loss: NaN stands in its place.

    In float32 at least, whatever the logits are. Raises ``ValueError`` for a
    target that is neither of 0 … V − 1 nor ``ignore``. Derived in chapter 5.
    """
    rows, targets = _predictions(logits, tokens, ignore)
    losses = F.cross_entropy(
        rows, targets.flatten(), ignore_index=_NO_TARGET, reduction="none"
    )
    return losses.reshape(targets.shape).masked_fill(targets == _NO_TARGET, math.nan)


def next_token_loss(
    logits: Float[Tensor, "B T V"],
    tokens: Int[Tensor, "B T"],
    *,
    ignore: int | None = None,
) -> Float[Tensor, ""]:
    """Mean of :func:`token_losses`; targets equal to ``ignore`` do not count.

    ``ignore`` is the loss mask: give it a symbol that is padding and nothing
    else. Where no target is left there is no mean, which is a ``ValueError``.
    """
    losses = token_losses(logits, tokens, ignore=ignore)
    counted = counted_targets(tokens, ignore, "next_token_loss")
    if ignore is None:
        return losses.mean()
    return losses.masked_fill(~counted, 0.0).sum() / counted.sum()


def translation_loss(
    logits: Float[Tensor, "B T V"],
    batch: tuple[Tensor, Int[Tensor, "B T"], Tensor],
    *,
    ignore: int = 0,
    smoothing: float = 0.1,
) -> Float[Tensor, ""]:
    """Mean loss of the targets in a batch (source, target, source lengths).

    The loss mask leaves out targets equal to ``ignore``: a symbol that is
    padding and nothing else. With ``smoothing`` ε the right token is asked for
    with 1 − ε + ε/V, each other one with ε/V. Errors are those of
    :func:`next_token_loss`. Source: Szegedy et al. 2016, arXiv:1512.00567.
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(
            f"translation_loss: expected smoothing from 0 to 1; got {smoothing}."
        )
    tokens = batch[1]
    rows, targets = _predictions(logits, tokens, ignore)
    counted_targets(tokens, ignore, "translation_loss")
    return F.cross_entropy(
        rows, targets.flatten(), ignore_index=_NO_TARGET, label_smoothing=smoothing
    )


def counted_targets(
    tokens: Int[Tensor, "N T"], ignore: int | None, by: str
) -> Bool[Tensor, "N T-1"]:
    """Which of ``tokens[:, 1:]`` enter a mean; an error in the name of ``by`` if none.

    The one place that says what a loss mask is, for training and for metrics.
    """
    if not _are_tokens(tokens):
        raise ValueError(
            f"{by}: expected integer tokens (N, T), T >= 1; got {_kind(tokens)}. Pad "
            "rows of several lengths and give the padding as `ignore`."
        )
    after = tokens[:, 1:].long()
    counted = torch.ones_like(after, dtype=torch.bool)
    if ignore is not None:
        counted = after != ignore
    if not counted.any():
        raise NoTargetsError(
            f"{by}: expected targets to score; got none in tokens "
            f"{tuple(tokens.shape)} with ignore = {ignore}. A sequence of one token "
            "has no next token: leave out rows and batches without a target."
        )
    return counted


@torch.no_grad()
def held_out_losses(
    model: nn.Module,
    tokens: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> Float[Tensor, "N T-1"]:
    """:func:`token_losses` of all of ``tokens``, in eval mode, without gradient."""
    batch_size = whole_number(batch_size, "held_out_losses: batch_size", least=1)
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        losses = [
            token_losses(model(rows), rows, ignore=ignore)
            for rows in tokens.split(batch_size)
        ]
    finally:
        for module, was_training in modes:
            module.training = was_training
    return torch.cat(losses)


def evaluate(
    model: nn.Module,
    tokens: Int[Tensor, "N T"],
    *,
    batch_size: int = 256,
    ignore: int | None = None,
) -> float:
    """Mean next-token loss over all of ``tokens``, in nats, in eval mode.

    Every target that is not ``ignore`` counts the same, whatever the batches;
    a ``ValueError`` if there is none.
    """
    counted = counted_targets(tokens, ignore, "evaluate")
    losses = held_out_losses(model, tokens, batch_size=batch_size, ignore=ignore)
    return losses[counted].double().mean().item()


def _predictions(
    logits: Tensor, tokens: Tensor, ignore: int | None
) -> tuple[Float[Tensor, "N V"], Int[Tensor, "B targets"]]:
    """Logits, in float32 at least, and their targets; those ignored are −1."""
    if (
        not _are_tokens(tokens)
        or not logits.is_floating_point()
        or logits.shape[:-1] != tokens.shape
    ):
        raise ValueError(
            "expected floating-point logits (B, T, V) and integer tokens (B, T) of the "
            f"same positions, T >= 1; got {_kind(logits)} and {_kind(tokens)}. Do not "
            "shift before."
        )
    targets = tokens[:, 1:]
    targets, n_symbols = targets.long(), logits.shape[-1]
    outside = (targets < 0) | (targets >= n_symbols)
    if ignore is not None:
        outside &= targets != ignore
    if outside.any():
        raise ValueError(
            f"expected targets of 0 to {n_symbols - 1}, or ignore = {ignore}; got "
            f"{targets[outside][0]}. Give the padding as `ignore`, and encode with "
            "the vocabulary of the model."
        )
    if ignore is not None:
        targets = targets.masked_fill(targets == ignore, _NO_TARGET)
    rows = logits[:, :-1].flatten(0, 1)
    return rows.float() if rows.dtype.itemsize < 4 else rows, targets


def _are_tokens(tokens: Any) -> bool:
    return (
        isinstance(tokens, Tensor)
        and tokens.ndim == 2
        and tokens.shape[1] > 0
        and not (tokens.is_floating_point() or tokens.is_complex())
        and tokens.dtype != torch.bool
    )


def _kind(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
