"""What is done with a rendered mask: added to scores, raised to a power.

Chapter 2 adds a mask to scores, chapter 6 derives the power.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

__all__ = ["boolean_power", "described", "is_count", "to_additive"]

_HOLD_INFINITY = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def to_additive(
    allowed: Bool[Tensor, "*batch Tq Tk"], *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*batch Tq Tk"]:
    """What is added to the scores: 0 where ``allowed``, −∞ elsewhere."""
    if allowed.dtype != torch.bool or dtype not in _HOLD_INFINITY:
        raise ValueError(
            "to_additive: expected a bool matrix (True = may attend) and a floating-"
            f"point dtype; got {described(allowed)} and {dtype}. Only floats of 16 "
            "bits or more hold −∞."
        )
    zeros = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
    return zeros.masked_fill(~allowed, -torch.inf)


def boolean_power(allowed: Bool[Tensor, "T T"], n: int) -> Bool[Tensor, "T T"]:
    """What ``n`` layers of the same mask let through: paths of ``n`` steps.

    Entry (i, j) is ``True`` when some chain i → … → j of ``n`` links, each
    allowed by the mask, leads from output i to input j. With a residual
    connection, put ``True`` on the diagonal first. Derived in chapter 6.
    """
    if not is_count(n, least=0):
        raise ValueError(f"boolean_power: expected n >= 0 layers; got {n!r}.")
    if allowed.dtype != torch.bool or allowed.ndim != 2 or len(set(allowed.shape)) > 1:
        raise ValueError(
            "boolean_power: expected a bool matrix (T, T), True = may attend; got "
            f"{described(allowed)}. Render a rule with .matrix(T)."
        )
    power = torch.eye(len(allowed), dtype=torch.bool, device=allowed.device)
    for _ in range(n):
        # Counts of paths are at most T: exact in float32.
        power = (power.float() @ allowed.float()) > 0
    return power


def described(tensor: Tensor) -> str:
    """Dtype and shape, as error messages say them."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"


def is_count(n: Any, *, least: int) -> bool:
    """An int (of Python or NumPy, but no bool) that is not below ``least``."""
    counts = hasattr(n, "__index__") and not isinstance(n, bool | Tensor)
    return counts and bool(n >= least)
