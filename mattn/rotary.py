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


_HAVE_FLOAT64 = ("cpu", "cuda", "meta")


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
        if self.kind not in ("linear", "llama3") or not 0 < self.factor < math.inf:
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
        if d_head < 2 or d_head % 2 or not 0 < theta < math.inf:
            raise ValueError(
                "Rotary: expected an even d_head >= 2, as features are turned in "
                f"pairs, and theta > 0; got {d_head} and {theta}."
            )
        exponents = torch.arange(0, d_head, 2, device="cpu").double() / d_head
        frequencies = theta**-exponents
        # Numbers, not a buffer: model.half() must not round them.
        self.frequencies = (scaling(frequencies) if scaling else frequencies).tolist()

    def __call__(
        self, x: Float[Tensor, "B H T D"], positions: Int[Tensor, "*rows T"]
    ) -> Float[Tensor, "B H T D"]:
        self._check(x, positions)
        # In float64: at position 10⁶ an angle in float32 is off by 0.06. Apple's
        # GPUs, among others, have none; for them the CPU computes the angles.
        device = positions.device
        device = device if device.type in _HAVE_FLOAT64 else torch.device("cpu")
        frequencies = torch.tensor(self.frequencies, dtype=torch.float64, device=device)
        angles = positions.to(device)[..., None] * frequencies  # (T, D/2), (B, T, D/2)
        if positions.ndim == 2:
            angles = angles[:, None]  # the same for every head
        # (a, b) → (a·cos − b·sin, b·cos + a·sin), both halves at once.
        cos = torch.cat([angles.cos(), angles.cos()], dim=-1).to(x.dtype).to(x.device)
        sin = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(x.dtype).to(x.device)
        return x * cos + x.roll(x.shape[-1] // 2, dims=-1) * sin

    def _check(self, x: Tensor, positions: Tensor) -> None:
        if x.ndim != 4 or x.shape[-1] != 2 * len(self.frequencies):
            raise ValueError(
                f"Rotary: expected features (B, H, T, {2 * len(self.frequencies)}); "
                f"got {tuple(x.shape)}."
            )
        B, _, T, _ = x.shape
        dtype = positions.dtype
        whole = not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool)
        if not whole or tuple(positions.shape) not in ((T,), (1, T), (B, T)):
            raise ValueError(
                f"Rotary: expected integer positions ({T},) or ({B}, {T}), one for "
                f"each token; got {dtype} {tuple(positions.shape)}. In floats of 16 "
                "bits, positions past 256 are no longer told apart."
            )
