"""Numbers between 0 and 1, one after the other, for what is drawn by weights.

The stories of chapter 7 and the sentences of chapter 8 are drawn so.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

__all__ = ["uniform_draws"]


def uniform_draws(generator: torch.Generator) -> Iterator[float]:
    """Uniform numbers in [0, 1) without end, in float64, drawn 4,096 at a time."""
    while True:
        yield from torch.rand(4096, generator=generator, dtype=torch.float64).tolist()
