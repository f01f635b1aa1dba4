"""Rotary positions: where a token stands, written as an angle.

Attention alone does not know the order of the tokens it may see. Rotary
positions turn queries and keys by angles that grow with the position, so
that a score depends on how far apart the two stand. Derived in chapter 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["RopeScaling", "Rotary"]


@dataclass(frozen=True)
class RopeScaling:
    """How rotary frequencies are slowed for contexts longer than first trained.

    ``"linear"`` divides all by ``factor`` (Chen et al. 2023,
    arXiv:2306.15595). ``"llama3"`` divides only those that turn fewer than
    ``low`` times in ``original_context`` tokens, keeps those that turn more
    than ``high`` times, and blends between (Llama 3.1).
    """

    kind: Literal["linear", "llama3"]
    factor: float
    low: float = 1.0
    high: float = 4.0
    original_context: int = 8192

    def __post_init__(self):
        if self.kind not in ("linear", "llama3") or self.factor <= 0:
            raise ValueError(
                'RopeScaling: expected kind "linear" or "llama3" and factor > 0; got '
                f"{self.kind!r} and {self.factor}."
            )
        if not 0 < self.low < self.high or self.original_context < 1:
            raise ValueError(
                "RopeScaling: expected 0 < low < high and original_context >= 1; got "
                f"{self.low}, {self.high} and {self.original_context}."
            )

    def __call__(self, frequencies: Tensor) -> Tensor:
        if self.kind == "linear":
            return frequencies / self.factor
        turns = self.original_context * frequencies / (2 * math.pi)
        keep = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return frequencies * (keep + (1 - keep) / self.factor)


class Rotary:
    """Turn pairs of features by angles that grow with the position.

    Feature m and feature m + D/2 are the two coordinates of a point, turned
    by position · θ^(−2m/D). The product of a turned query and a turned key
    depends on the *difference* of their positions alone.

    Source: Su et al. 2021, arXiv:2104.09864. Derived in chapter 6.
    """

    def __init__(self, d_head: int, theta: float, scaling: RopeScaling | None = None):
        exponents = torch.arange(0, d_head, 2, device="cpu").double() / d_head
        frequencies = theta**-exponents
        # Numbers, not a buffer: model.half() must not round them.
        self.frequencies = (scaling(frequencies) if scaling else frequencies).tolist()

    def __call__(
        self, x: Float[Tensor, "B H T D"], positions: Int[Tensor, "*rows T"]
    ) -> Float[Tensor, "B H T D"]:
        frequencies = torch.tensor(
            self.frequencies, dtype=torch.float64, device=x.device
        )
        angles = positions[..., None] * frequencies  # (T, D/2) or (B, T, D/2)
        if positions.ndim == 2:
            angles = angles[:, None]  # the same for every head
        # (a, b) → (a·cos − b·sin, b·cos + a·sin), both halves at once.
        cos = torch.cat([angles.cos(), angles.cos()], dim=-1).to(x.dtype)
        sin = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(x.dtype)
        return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin
