"""Audit each attention module of a model by itself: where does a leak begin?

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mattn.audit.asked import Expected, check_input
from mattn.audit.report import Report
from mattn.audit.run import audit
from mattn.audit.subject import Subject, preserved

__all__ = ["audit_layers"]


def audit_layers(
    model: nn.Module,
    tokens: Shaped[Tensor, "B T *features"],
    *,
    layers: Callable[[str, nn.Module], bool] | None = None,
    forward: Callable[[Any, Tensor], Any] | None = None,
    expected: Expected = None,
) -> dict[str, Report]:
    """Audit each attention module by itself: name → report.

    A module counts as attention when its class is named so; ``layers(name,
    module)`` chooses others. Each is called again as the model called it,
    with its first three-dimensional input (hidden states) changed.
    """
    check_input(tokens)
    choose = layers or _looks_like_attention
    chosen = {name: m for name, m in model.named_modules() if choose(name, m)}
    if not chosen:
        raise ValueError(
            f"audit_layers: found no attention module in {type(model).__name__}. "
            "Pass layers=lambda name, module: … to choose them."
        )
    calls: dict[str, tuple[tuple, dict]] = {}
    with preserved(model):
        model.eval()
        for name, module in chosen.items():
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: (
                    calls.setdefault(name, (args, kwargs)) and None
                ),
                with_kwargs=True,
            )
        with torch.no_grad():
            Subject(model, tokens, forward).first_run(tokens)
    return {
        name: _audit_layer(name, module, *calls[name], expected)
        for name, module in chosen.items()
        if name in calls
    }


def _audit_layer(
    name: str, module: nn.Module, args: tuple, kwargs: dict, expected: Expected
) -> Report:
    hidden = [v for v in (*args, *kwargs.values()) if _is_hidden(v)]
    if not hidden:
        raise ValueError(
            f"audit_layers: expected hidden states (B, T, C) among the inputs of "
            f"{name}; got none. Choose other modules with layers=."
        )
    x = hidden[0]

    def call(module: nn.Module, changed: Tensor) -> Any:
        def new(value: Any) -> Any:
            return changed if value is x else _matching(value, changed, x)

        return module(*map(new, args), **{k: new(v) for k, v in kwargs.items()})

    names = ["perturbation", "jacobian"]
    report = audit(module, x.detach(), forward=call, expected=expected, probes=names)
    report.name = f"{name} ({type(module).__name__})"
    if any(value is not x for value in hidden):
        report.not_covered.append("its other inputs of three dimensions: kept as given")
    return report


def _looks_like_attention(name: str, module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    holds_another = any(
        "attention" in type(m).__name__.lower() for m in list(module.modules())[1:]
    )
    return "attention" in kind and not holds_another


def _is_hidden(value: object) -> bool:
    return (
        isinstance(value, Tensor) and value.ndim == 3 and value.dtype.is_floating_point
    )


def _matching(value: Any, changed: Tensor, x: Tensor) -> Any:
    """Companions of ``x`` follow the batch size and precision of the changed input."""
    if isinstance(value, tuple):
        return tuple(_matching(v, changed, x) for v in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.dtype.is_floating_point:
        value = value.to(changed.dtype)
    B, T = x.shape[:2]
    if len(value) != B or B == 1 or value.shape == (T, T):
        return value  # of no batch: a mask (T, T), positions
    copies = -(-len(changed) // B)
    return value.repeat(copies, *(1,) * (value.ndim - 1))[: len(changed)]
