"""From a model and batches of tokens to a trained model and a curve."""

from __future__ import annotations

import collections
import itertools
import json
import math
import os
import time
import zlib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mattn.files import stored_tensors
from mattn.inputs import whole_number
from mattn.losses import (
    NoTargetsError,
    evaluate,
    held_out_losses,
    next_token_loss,
    token_losses,
    translation_loss,
)
from mattn.optional import needed

__all__ = [
    "History",
    "Muon",
    "Recipe",
    "evaluate",
    "fit",
    "held_out_losses",
    "next_token_loss",
    "optimizers",
    "orthogonalised",
    "schedule",
    "token_losses",
    "translation_loss",
]


@dataclass(frozen=True)
class Recipe:
    """How :func:`fit` changes the weights; the rate itself is its argument.

    The defaults are AdamW, up over 5 % of the steps and linearly down to 0.
    """

    muon_lr: float | None = None
    """Rate of :class:`Muon` for the matrices inside the model; ``None``: AdamW."""
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


_QUINTIC = (3.4445, -4.775, 2.0315)


def orthogonalised(
    x: Float[Tensor, "N rows columns"], *, n_steps: int = 5
) -> Float[Tensor, "N rows columns"]:
    """Each matrix U·S·Vᵀ of the stack as about U·Vᵀ, by matrix products alone.

    Newton–Schulz iteration x ← a·x + b·(x·xᵀ)·x + c·(x·xᵀ)²·x, from a norm of
    1. It applies an odd polynomial to each singular value and leaves U and V
    as they are. The coefficients are Jordan's, steep at 0: after five steps
    singular values from 0.01 to 1 lie between 0.68 and 1.14.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    n_steps = whole_number(n_steps, "orthogonalised: n_steps", least=0)
    if x.ndim != 3:
        raise ValueError(
            "orthogonalised: expected a stack of matrices (N, rows, columns); got "
            f"{tuple(x.shape)}. Of one matrix, make x[None]."
        )
    a, b, c = _QUINTIC
    dtype, wide = x.dtype, x.shape[1] <= x.shape[2]
    x = x if wide else x.mT  # x·xᵀ is then the smaller of the two products
    x = x.float() if dtype.itemsize < 4 else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(n_steps):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a
        )
    return (x if wide else x.mT).to(dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is :func:`orthogonalised`: for hidden matrices.

    All directions of a matrix move at the same rate, the rare ones too. The
    update has singular values near √max(1, rows / columns) times ``lr``.
    Matrices of one shape are treated as one stack.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )
        for group in self.param_groups:
            rate, share = group["lr"], group["momentum"]
            if not (0 < rate < math.inf and 0 <= share < 1):
                raise ValueError(
                    "Muon: expected finite lr > 0 and momentum of at least 0, below 1; "
                    f"got {rate} and {share}."
                )
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(
                        f"Muon: expected matrices; got shape {tuple(p.shape)}. Leave "
                        "gains, biases and embeddings to AdamW."
                    )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Nesterov momentum, orthogonalised, times the rate."""
        for group in self.param_groups:
            alike: dict[tuple, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((p.shape, p.dtype, p.device), []).append(p)
            for ((rows, columns), *_), matrices in alike.items():
                # Each has a momentum of its own: another time others have gradients.
                for p in matrices:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                momenta = [self.state[p]["momentum"] for p in matrices]
                gradients = [p.grad for p in matrices]
                torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                gradient, momentum = torch.stack(gradients), torch.stack(momenta)
                update = orthogonalised(gradient.lerp(momentum, group["momentum"]))
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                torch._foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(update.unbind()), alpha=-rate)


def optimizers(
    model: nn.Module, lr: float, recipe: Recipe
) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon if the recipe wants it, each with its own parameters.

    Muon gets the weights of ``nn.Linear``, but for those of a module named
    ``head``. Decay is for parameters of two or more axes.
    """
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
        if p in linear and linear[p] != "head" and recipe.muon_lr is not None:
            groups["muon"].append(p)
        elif p.ndim < 2:
            groups["gains"].append(p)
        else:
            groups["head" if linear.get(p) == "head" else "tables"].append(p)
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
    if groups["muon"]:
        found.append(Muon(groups["muon"], recipe.muon_lr, weight_decay=decay))
    for optimizer in found:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return found


class History(NamedTuple):
    """What :func:`fit` saw: one entry a step, in nats per token."""

    steps: list[int]
    losses: list[float]


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

    Raises ``FloatingPointError``, before the weights change, when loss or
    gradient is not finite or no target is left, and ``ValueError`` when the
    batches run out or the checkpoint is not of this run, which is then left as
    it is, and the model too.
    """
    from tqdm import tqdm

    n_steps = whole_number(n_steps, "fit: n_steps", least=1)
    if not 0 < lr < math.inf:  # NaN fails it too
        raise ValueError(f"fit: expected a finite lr > 0; got {lr}.")
    recipe = recipe or Recipe()
    asked = {"n_steps": n_steps, "lr": float(lr)} | asdict(recipe)
    run = _Run(model, optimizers(model, lr, recipe), asked, History([], []))
    batches = iter(batches)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None:
        needed("safetensors.torch", "pretrained", "checkpoint")
        if path.is_dir() or not path.parent.is_dir():
            raise ValueError(
                "fit: expected checkpoint to be a file in a folder that is there; got "
                f"{path}. Make the folder before."
            )
        if path.is_file():
            run.load(path, batches)
    model.train()
    silent = os.environ.get("MATTN_PROGRESS") == "0"
    first = len(run.history.steps)
    steps = range(first, n_steps)
    began, n_read = time.perf_counter(), 0
    bar = tqdm(
        zip(steps, batches, strict=False), total=n_steps, initial=first, disable=silent
    )
    try:
        for step, batch in bar:
            share = schedule(step, n_steps, recipe)
            run.step(step, batch, loss, share, recipe.clip)
            if not silent:
                n_read += _tokens(batch).numel()
                speed = n_read / (time.perf_counter() - began)
                shown = {"loss": f"{run.history.losses[-1]:.3f}"}
                shown["tokens/s"] = f"{speed:,.0f}"
                bar.set_postfix(shown, refresh=False)
            done = step + 1
            if path and (done % max(1, n_steps // 20) == 0 or done == n_steps):
                run.save(path, batch)
    except KeyboardInterrupt as stopped:
        if path is not None and path.is_file():
            stopped.add_note(f"{path.name} is kept: the same call goes on from there.")
        raise
    finally:
        bar.close()
    if len(run.history.steps) < n_steps:
        raise ValueError(
            f"fit: expected {n_steps} batches; got {len(run.history.steps)}. The rate "
            "had not come down yet: give more batches, or ask for fewer steps."
        )
    return run.history


_FORMAT = "mattn checkpoint 2"  # another one when what a checkpoint holds changes


@dataclass
class _Run:
    """All that changes from step to step."""

    model: nn.Module
    optimizers: list[torch.optim.Optimizer]
    asked: dict[str, Any]
    history: History

    def step(self, step: int, batch, loss, share: float, clip: float | None) -> None:
        several = isinstance(batch, tuple | list)
        logits = self.model(*batch) if several else self.model(batch)
        try:
            value = loss(logits, batch)
        except NoTargetsError as error:
            raise FloatingPointError(
                f"step {step}: loss is nan: was every target ignored? {error}"
            ) from error
        self.model.zero_grad()
        value.backward()
        number = value.item()
        norm = nn.utils.clip_grad_norm_(
            self.model.parameters(), math.inf if clip is None else clip
        ).item()
        if not (math.isfinite(number) and math.isfinite(norm)):
            raise FloatingPointError(
                f"step {step}: loss is {number}, gradient norm {norm}. "
                + _cause(self.model, logits, number, self.asked)
            )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = share * group["peak"]
            optimizer.step()
        self.history.steps.append(step)
        self.history.losses.append(number)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        found = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        found = {f"model.{name}": tensor for name, tensor in found.items()}
        for i, optimizer in enumerate(self.optimizers):
            for p, state in optimizer.state_dict()["state"].items():
                for name, tensor in state.items():
                    found[f"optimizer.{i}.{p}.{name}"] = tensor
        found["losses"] = torch.tensor(self.history.losses, dtype=torch.float64)
        found["random"] = torch.get_rng_state()
        return {name: tensor.detach().contiguous() for name, tensor in found.items()}

    def save(self, path: Path, batch) -> None:
        """Write the checkpoint beside its place, then move it there: all or nothing."""
        metadata = {
            "format": _FORMAT,
            "asked": json.dumps(self.asked),
            "last_batch": str(_digest(batch)),
        }
        unfinished = path.with_name(path.name + ".part")
        save_file = needed("safetensors.torch", "pretrained", "checkpoint").save_file
        try:
            save_file(self.tensors(), unfinished, metadata)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    def load(self, path: Path, batches) -> None:
        """Take up a checkpoint, and read past the batches it has used.

        Nothing of the run changes before all of it is known to fit.
        """
        found, metadata = stored_tensors(path, extra="pretrained", by="fit")
        if metadata.get("format") != _FORMAT:
            raise ValueError(
                f"fit: expected {path.name} to be a checkpoint of this version of "
                "mattn; got another file of safetensors. Delete it, or give another "
                "name, to begin anew."
            )
        before = json.loads(metadata["asked"])
        now = json.loads(json.dumps(self.asked))
        changed = sorted(name for name in now if before.get(name) != now[name])
        own, theirs = (
            {k: (v.shape, v.dtype) for k, v in of.items() if k.startswith("model.")}
            for of in (self.tensors(), found)
        )
        if changed or own != theirs:
            raise ValueError(
                f"fit: expected {path.name} to be of this run; got one of another "
                f"{', '.join(changed) or 'model'}. Delete it to begin anew."
            )
        losses = found.pop("losses").tolist()
        used = collections.deque(itertools.islice(batches, len(losses)), maxlen=1)
        if not used or str(_digest(used[0])) != metadata["last_batch"]:
            raise ValueError(
                f"fit: expected the batches that {path.name} was trained on, from "
                "their beginning; got others. Build them anew with the same seed; or "
                "they draw from the global generator, as dropout does: give what "
                "shuffles them, such as a DataLoader, a generator of its own."
            )
        self.history.steps.extend(range(len(losses)))
        self.history.losses.extend(losses)
        targets = self.tensors()
        with torch.no_grad():
            for name in own:
                targets[name].copy_(found[name])
        for i, optimizer in enumerate(self.optimizers):
            state: dict[int, dict[str, Tensor]] = {}
            for name, tensor in found.items():
                kind, *where = name.split(".")
                if kind == "optimizer" and int(where[0]) == i:
                    state.setdefault(int(where[1]), {})[where[2]] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": state, "param_groups": groups})
        torch.set_rng_state(found["random"])


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


def _tensors(batch: Any) -> list[Tensor]:
    several = batch if isinstance(batch, tuple | list) else (batch,)
    return [t for t in several if isinstance(t, Tensor)]


def _tokens(batch: Any) -> Tensor:
    """What is counted as read: the tokens, or the last rows of tokens of a tuple."""
    tensors = _tensors(batch)
    return ([t for t in tensors if t.ndim > 1] or tensors)[-1]


def _digest(batch: Any) -> int:
    value = 0
    for tensor in _tensors(batch):
        flat = tensor.detach().cpu().reshape(-1)
        value = zlib.crc32(flat.view(torch.uint8).numpy().tobytes(), value)
    return value
