"""From a model and batches of tokens to a trained model and a curve.

Chapter 5 trains with ``fit``, chapters 7 and 8 with a ``Recipe``.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mattn.checkpoint import Run, batch_tensors
from mattn.inputs import whole_number
from mattn.losses import NoTargetsError, next_token_loss
from mattn.optimizers import Muon
from mattn.optional import needed
from mattn.shares import Alone, shares_of

__all__ = ["History", "Recipe", "fit", "optimizers", "schedule"]


@dataclass(frozen=True)
class Recipe:
    """How :func:`fit` changes the weights; the rate itself is its argument.

    The defaults are AdamW, up over 5 % of the steps and linearly down to 0.
    """

    muon_lr: float | None = None
    """Rate of :class:`~mattn.optimizers.Muon` for the matrices inside the model;
    ``None``: AdamW."""
    head_lr: float | None = None
    """AdamW's rate for the head; ``None``: that of :func:`fit`."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    """For matrices and embeddings: they shrink by rate · decay a step."""
    warm_up: float = 0.05
    """Share of the steps in which the rate rises."""
    decay: Literal["linear", "cosine"] = "linear"
    final: float = 0.0
    """Share of the rate that is left at the end."""
    clip: float | None = 1.0
    """Gradients of a larger norm, all together, are scaled down to it."""

    def __post_init__(self):
        muon_lr, head_lr, betas = self.muon_lr, self.head_lr, self.betas
        rules = {  # each is False for NaN
            "finite muon_lr > 0, or None": muon_lr is None or 0 < muon_lr < math.inf,
            "finite head_lr > 0, or None": head_lr is None or 0 < head_lr < math.inf,
            "two betas of at least 0, below 1": len(betas) == 2
            and all(0 <= b < 1 for b in betas),
            "finite weight_decay >= 0": 0 <= self.weight_decay < math.inf,
            "0 <= warm_up < 1": 0 <= self.warm_up < 1,
            'decay "linear" or "cosine"': self.decay in ("linear", "cosine"),
            "0 <= final <= 1": 0 <= self.final <= 1,
            "clip > 0 or None": self.clip is None or self.clip > 0,
        }
        for expected, holds in rules.items():
            if not holds:
                raise ValueError(f"Recipe: expected {expected}; got {self}.")


def schedule(step: int, n_steps: int, recipe: Recipe | None = None) -> float:
    """Share of the learning rate at ``step``: up to 1, then down to ``final``.

    The way up is linear, the way down linear or a half period of a cosine;
    ``final`` would be reached at step ``n_steps``, so that every step counts.
    Raises ``ValueError`` for a step outside 0 … ``n_steps``.
    """
    recipe = recipe or Recipe()
    n_steps = whole_number(n_steps, "schedule: n_steps", least=1)
    if not 0 <= step <= n_steps:
        raise ValueError(
            f"schedule: expected a step from 0 to n_steps = {n_steps}; got {step}. Ask "
            "for as many steps as are made in all."
        )
    if step == n_steps:  # also where all of them are warm-up
        return recipe.final
    warm_up = max(1, round(recipe.warm_up * n_steps))
    if step < warm_up:
        return (step + 1) / warm_up
    gone = (step - warm_up) / (n_steps - warm_up)
    left = 1 - gone if recipe.decay == "linear" else (1 + math.cos(math.pi * gone)) / 2
    return recipe.final + (1 - recipe.final) * left


def optimizers(
    model: nn.Module, lr: float, recipe: Recipe
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon if the recipe wants it, each with its own parameters.

    Muon gets the weights of ``nn.Linear``, but for those of a module named
    ``head``. Decay is for parameters of two or more axes.
    """
    groups = _groups(model, muon=recipe.muon_lr is not None)
    decay = recipe.weight_decay
    adamw = [
        {"params": groups["gains"], "weight_decay": 0.0},
        {"params": groups["tables"], "weight_decay": decay},
        {"params": groups["head"], "weight_decay": decay, "lr": recipe.head_lr or lr},
    ]
    adamw = [group for group in adamw if group["params"]]
    found: list[torch.optim.Optimizer] = []
    if adamw:
        found.append(torch.optim.AdamW(adamw, lr=lr, betas=recipe.betas, fused=True))
    if groups["muon"] and recipe.muon_lr is not None:
        found.append(Muon(groups["muon"], recipe.muon_lr, weight_decay=decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


def _groups(model: nn.Module, *, muon: bool) -> dict[str, list[Tensor]]:
    """The parameters by what changes them."""
    linear = {
        module.weight: name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    groups: dict[str, list[Tensor]] = {
        "gains": [],
        "tables": [],
        "head": [],
        "muon": [],
    }
    for p in model.parameters():
        if p in linear and linear[p] != "head" and muon:
            groups["muon"].append(p)
        elif p.ndim < 2:
            groups["gains"].append(p)
        else:
            groups["head" if linear.get(p) == "head" else "tables"].append(p)
    return groups


class History(NamedTuple):
    """What :func:`fit` saw: one entry a step, in nats per token."""

    steps: list[int]
    losses: list[float]


# Long because: half of it says what is raised, and what a checkpoint keeps.
def fit(
    model: nn.Module,
    batches: Iterable[Any],
    *,
    n_steps: int,
    lr: float = 3e-3,
    recipe: Recipe | None = None,
    loss: Callable[[Tensor, Any], Tensor] = next_token_loss,
    checkpoint: str | Path | None = None,
) -> History:
    """Train ``model`` on ``n_steps`` batches; return the curve.

    A batch is tokens (B, T), or a tuple or list of what the model takes. ``model``
    gives logits; ``loss(logits, batch)`` a scalar. The rate is ``lr`` times
    :func:`schedule`, the optimisers are those of the ``recipe``. Leaves the
    model in training mode. A progress bar shows loss, tokens a second and
    time left, unless the environment sets ``MATTN_PROGRESS=0``.

    ``checkpoint`` names a file (safetensors) that is written twenty times on
    the way. If it is there, the run goes on from it: the same call with the
    same batches *from their beginning* ends in the same weights, bit for bit
    on a CPU, as if it had never stopped. Ctrl-C leaves the last one.

    Started by ``torchrun`` with a ``DistributedDataParallel`` of a model, each process
    is given the same whole batches and takes its share of the rows, which should have
    as many targets each. Losses are means over all; the first process alone shows the
    bar and writes the checkpoint, which any number of processes takes up.

    Raises ``FloatingPointError``, before the weights change, when loss or
    gradient is not finite or no target is left, and ``ValueError`` when the
    batches run out or the checkpoint is not of this run, which is then left as
    it is, and the model too.
    """
    n_steps = whole_number(n_steps, "fit: n_steps", least=1)
    if not 0 < lr < math.inf:  # NaN fails it too
        raise ValueError(f"fit: expected a finite lr > 0; got {lr}.")
    recipe = recipe or Recipe()
    asked = {"n_steps": n_steps, "lr": float(lr)} | asdict(recipe)
    shares = shares_of(model)
    run = Run(shares.model, optimizers(shares.model, lr, recipe), asked)
    batches = iter(batches)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        _take_up(run, path, batches)
    shares.wait()  # until all have read what the first will write over
    model.train()
    steps = _shown(run, batches, n_steps, quiet=not shares.first)
    try:
        for step, batch in steps:
            share = schedule(step, n_steps, recipe)
            _step(run, step, batch, loss, share, forward=model, shares=shares)
            done = step + 1
            due = done % max(1, n_steps // 20) == 0 or done == n_steps
            if path and due and shares.first:
                run.save(path, batch)
    except KeyboardInterrupt as stopped:
        if path is not None and path.is_file():
            stopped.add_note(f"{path.name} is kept: the same call goes on from there.")
        raise
    finally:
        steps.close()
    shares.wait()
    if len(run.steps) < n_steps:
        raise ValueError(
            f"fit: expected {n_steps} batches; got {len(run.steps)}. The rate "
            "had not come down yet: give more batches, or ask for fewer steps."
        )
    return History(run.steps, run.losses)


def _take_up(run: Run, path: Path, batches: Iterator[Any]) -> None:
    """Go on from the checkpoint, if it is there."""
    needed("safetensors.torch", "pretrained", "checkpoint")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(
            "fit: expected checkpoint to be a file in a folder that is there; got "
            f"{path}. Make the folder before."
        )
    if path.is_file():
        run.load(path, batches)


def _shown(
    run: Run, batches: Iterator[Any], n_steps: int, *, quiet: bool
) -> Generator[tuple[int, Any], None, None]:
    """The steps that are left, with their batches; a bar shows how it goes."""
    from tqdm import tqdm

    silent = quiet or os.environ.get("MATTN_PROGRESS") == "0"
    first = len(run.steps)
    steps = zip(range(first, n_steps), batches, strict=False)
    began, n_read = time.perf_counter(), 0
    with tqdm(steps, total=n_steps, initial=first, disable=silent) as bar:
        for step, batch in bar:
            yield step, batch
            if not silent:
                n_read += _tokens(batch).numel()
                speed = n_read / (time.perf_counter() - began)
                shown = {"loss": f"{run.losses[-1]:.3f}"}
                shown["tokens/s"] = f"{speed:,.0f}"
                bar.set_postfix(shown, refresh=False)


def _step(
    run: Run,
    step: int,
    batch: Any,
    loss: Callable[[Tensor, Any], Tensor],
    share: float,
    *,
    forward: nn.Module,
    shares: Alone,
) -> None:
    batch, clip = shares.rows(batch), run.asked["clip"]
    logits = forward(*batch) if isinstance(batch, tuple | list) else forward(batch)
    try:
        value = loss(logits, batch)
    except NoTargetsError as error:
        raise FloatingPointError(
            f"step {step}: loss is nan: was every target ignored? {error}"
        ) from error
    run.model.zero_grad()
    value.backward()
    number = shares.mean(value.item())
    norm = nn.utils.clip_grad_norm_(
        run.model.parameters(), math.inf if clip is None else clip
    ).item()
    if not (math.isfinite(number) and math.isfinite(norm)):
        raise FloatingPointError(
            f"step {step}: loss is {number}, gradient norm {norm}. "
            + _cause(run.model, logits, number, run.asked)
        )
    for optimizer in run.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = share * group["peak"]
        optimizer.step()
    run.steps.append(step)
    run.losses.append(number)


def _cause(model: nn.Module, logits: Tensor, number: float, asked: dict) -> str:
    """The likely reason of a loss or gradient that is not finite."""
    rates = {name: asked[name] for name in ("lr", "muon_lr", "head_lr") if asked[name]}
    lower = f"try lower rates than {', '.join(f'{n}={r}' for n, r in rates.items())}."
    if not all(p.isfinite().all() for p in model.parameters()):
        return "A weight is not finite, since before this step."
    if not logits.isfinite().all():
        return (
            "The weights are finite, the logits are not: a row of an additive mask is "
            f"−∞ throughout, or activations grew too large; {lower}"
        )
    if not math.isfinite(number):
        return "The logits are finite, the loss is not: was every target ignored?"
    return (
        "The loss is finite, a derivative is not: of a root or logarithm at 0 or a "
        f"division by 0; or gradients grew too large; {lower}"
    )


def _tokens(batch: Any) -> Tensor:
    """What is counted as read: the tokens, or the last rows of tokens of a tuple."""
    tensors = batch_tensors(batch)
    return ([t for t in tensors if t.ndim > 1] or tensors)[-1]
