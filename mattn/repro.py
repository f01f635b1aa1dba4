"""One call that makes a notebook give the same numbers every time."""

from __future__ import annotations

import random

import numpy as np
import torch

__all__ = ["start"]


def start(seed: int, *, n_threads: int = 1) -> torch.Generator:
    """Seed every source of randomness, fix threads and print options.

    Returns a generator with the same seed, for the functions that take one.
    One thread by default: with more, sums are taken in another order, and
    on a busy machine the threads wait for each other.
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    torch.set_printoptions(precision=3, sci_mode=False, linewidth=75)
    np.set_printoptions(precision=3, suppress=True, linewidth=75)
    return torch.Generator().manual_seed(seed)
