"""Random tokens that come again: a task whose least loss is known at every token.

Chapter 11 asks how a model knows what followed a token the first time.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.inputs import random_source, whole_number

__all__ = ["repeats"]


def repeats(
    n: int,
    length: int,
    *,
    n_symbols: int,
    periods: tuple[int, int],
    generator: torch.Generator,
) -> tuple[Int[Tensor, "n length"], Int[Tensor, " n"]]:
    """``n`` rows of random tokens, each repeated with a period of its own; the periods.

    The period of a row is drawn from ``periods``, first and last included. Nobody
    can guess a token of the first round with less than ln ``n_symbols`` nats; who
    knows the period needs none for the others. Raises ``ValueError`` for periods that
    are no range within 1 … ``length``.

    >>> repeats(1, 6, n_symbols=9, periods=(3, 3), generator=torch.manual_seed(0))[1]
    tensor([3])
    """
    n = whole_number(n, "repeats: n", least=1)
    length = whole_number(length, "repeats: length", least=1)
    n_symbols = whole_number(n_symbols, "repeats: n_symbols", least=1)
    generator = random_source(generator, "repeats")
    low, high = periods
    if not 1 <= low <= high <= length:
        raise ValueError(
            f"repeats: expected periods (first, last) within 1 … {length}, the length; "
            f"got {periods}. Give longer rows, or shorter periods."
        )
    period = torch.randint(low, high + 1, (n, 1), generator=generator)
    tokens = torch.randint(n_symbols, (n, high), generator=generator)
    return tokens.gather(1, torch.arange(length) % period), period[:, 0]
