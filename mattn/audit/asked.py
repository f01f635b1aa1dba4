"""What an audit is asked: the input and what is expected, or an error that helps.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from mattn.masks import Mask, boolean_power

__all__ = [
    "check_budget",
    "check_input",
    "chosen",
    "expected_matrix",
    "expected_of",
    "name_of",
]

Expected = Mask | Bool[Tensor, "*B T T"] | None
"""What may be seen, as a caller says it; ``None``: itself and what is before."""


def check_input(tokens: Tensor) -> None:
    """``ValueError`` unless these are tokens (B, T) or features (B, T, C), T ≥ 2."""
    if not isinstance(tokens, Tensor) or tokens.ndim not in (2, 3):
        shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens)
        raise ValueError(
            f"expected tokens (B, T) or features (B, T, C); got {shape}. "
            "Add a batch dimension with tokens[None]."
        )
    if tokens.ndim == 3 and not tokens.dtype.is_floating_point:
        raise ValueError(
            f"expected floating-point features (B, T, C); got {tokens.dtype}. "
            "Convert them with .float(), or pass tokens (B, T)."
        )
    if tokens.ndim == 2 and (
        tokens.dtype.is_floating_point or tokens.dtype == torch.bool
    ):
        raise ValueError(
            f"expected integer tokens (B, T); got {tokens.dtype}. "
            "Features need a third dimension: (B, T, C)."
        )
    if tokens.shape[1] < 2 or len(tokens) < 1:
        raise ValueError(
            "expected at least 2 positions, as one has no other to see; got shape "
            f"{tuple(tokens.shape)}."
        )


def chosen(probes: Iterable[str] | None, known: Iterable[str]) -> list[str]:
    """The names of the probes to run; ``ValueError`` unless they are ``known``."""
    known = list(known)
    names = known if probes is None else list(probes)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise ValueError(
            f"audit: expected probes out of {', '.join(known)}; got "
            f"{unknown or 'none'}."
        )
    return names


def check_budget(budget: float | None) -> None:
    """``ValueError`` unless it is a number of seconds, or ``None``."""
    if budget is not None and not budget >= 0:  # also when it is NaN
        raise ValueError(
            f"audit: expected a budget of 0 seconds or more; got {budget}. Leave it "
            "out for as long as it takes."
        )


def expected_of(
    tokens: Tensor, expected: Expected, n_layers: int
) -> Bool[Tensor, "R T T"]:
    """What may be seen end to end in this batch, (1 or B, T, T)."""
    matrix = expected_matrix(expected, tokens.shape[1], n_layers)
    if len(matrix) not in (1, len(tokens)):
        raise ValueError(
            f"audit: expected a rule for the {len(tokens)} rows of this batch; got "
            f"one for {len(matrix)}. Build both from the same batch."
        )
    return matrix


def expected_matrix(expected: Expected, T: int, n_layers: int) -> Bool[Tensor, "R T T"]:
    """What may be seen end to end, (1 or B, T, T)."""
    if not isinstance(n_layers, int) or n_layers < 1:
        raise ValueError(
            f"audit: expected n_layers >= 1, an integer; got {n_layers!r}. It is the "
            "number of layers that the rule passes through."
        )
    if expected is None:
        # Written out: an auditor does not trust the rule that it may audit.
        return (torch.arange(T)[None, :] <= torch.arange(T)[:, None])[None]
    matrix = expected.matrix(T) if isinstance(expected, Mask) else expected
    if not isinstance(matrix, Tensor) or matrix.dtype != torch.bool:
        raise ValueError(
            "audit: expected= must be a rule of mattn.masks or a boolean matrix (True "
            f"= may depend); got {type(matrix).__name__} of "
            f"{getattr(matrix, 'dtype', 'no dtype')}."
        )
    if matrix.shape[-2:] != (T, T) or matrix.ndim not in (2, 3):
        raise ValueError(
            f"audit: expected= must have shape ({T}, {T}), queries × keys; got "
            f"{tuple(matrix.shape)}."
        )
    matrix = matrix.reshape(-1, T, T).cpu()
    if n_layers > 1:
        # The residual connection carries each position to itself.
        own = torch.eye(T, dtype=torch.bool)
        matrix = torch.stack([boolean_power(m | own, n_layers) for m in matrix])
    return matrix


def name_of(model: Any) -> str:
    """What the report calls the model."""
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", type(model).__name__)
