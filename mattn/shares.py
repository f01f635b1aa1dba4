"""Training by several processes: who trains on which rows, and what all agree on.

What :func:`~mattn.training.fit` asks where its model is a
``DistributedDataParallel``: torch averages the gradients, and no more is needed than
that each process takes its rows. Told in chapter 12.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

__all__ = ["Alone", "Shares", "shares_of"]


class Alone:
    """One process, which takes whole batches."""

    first = True

    def __init__(self, model: nn.Module):
        self.model = model

    def rows(self, batch: Any) -> Any:
        """The rows of a batch to train on."""
        return batch

    def mean(self, value: float) -> float:
        """The mean over all processes."""
        return value

    def wait(self) -> None:
        """Until all have come so far."""


class Shares(Alone):
    """One of several processes, each with as many rows of every batch."""

    def __init__(self, model: nn.Module, group: Any):
        super().__init__(model)
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.first = self.rank == 0

    def rows(self, batch: Any) -> Any:
        """The own stretch of rows, of each tensor.

        Raises ``ValueError`` where the processes do not divide them: a mean of means
        would not be that of all.
        """
        if isinstance(batch, tuple | list):
            return [self.rows(part) for part in batch]
        if not isinstance(batch, Tensor):
            return batch
        if batch.ndim == 0 or len(batch) % self.size:
            raise ValueError(
                f"fit: expected rows of a batch that {self.size} processes divide; got "
                f"a batch {tuple(batch.shape)}. Give whole batches of as many rows for "
                "each."
            )
        return batch.chunk(self.size)[self.rank]

    def mean(self, value: float) -> float:
        """The mean of what each process has."""
        device = next(self.model.parameters()).device
        dtype = torch.float64 if device.type == "cpu" else torch.float32
        total = torch.tensor(value, device=device, dtype=dtype)
        dist.all_reduce(total, group=self.group)
        return total.item() / self.size

    def wait(self) -> None:
        """Until all have come so far."""
        dist.barrier(self.group)


def shares_of(model: nn.Module) -> Alone:
    """How the rows of a batch are dealt: as the model's wrapper has it.

    Raises ``ValueError`` for a model of ``fully_shard``: on two CPU processes its
    weights left those of one process, by 0.02 after 20 steps, so no run is promised.
    """
    if not dist.is_available():
        return Alone(model)
    if isinstance(model, nn.parallel.DistributedDataParallel):
        return Shares(model.module, model.process_group)
    if any(hasattr(p, "full_tensor") for p in model.parameters()):
        raise ValueError(
            "fit: expected a whole model, or DistributedDataParallel of one; got one "
            "of fully_shard. Train that with a loop of its own."
        )
    return Alone(model)
