"""Rules that configurations name and that no chapter derives, each in a few lines.

Chapter 2 says how a rule of one's own is made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.named import documents
from mattn.masks.rules import Rule, rule
from mattn.masks.spans import Spans
from mattn.reach import Reach

__all__ = ["chunk", "near", "same_image"]


def chunk(c: int) -> Mask:
    """Keys of the query's own chunk of ``c`` slots: ``q // c = k // c``.

    >>> from mattn import causal
    >>> (causal & chunk(2)).matrix(4)
    tensor([[ True, False, False, False],
            [ True,  True, False, False],
            [False, False,  True, False],
            [False, False,  True,  True]])
    """

    def shape(q: Tensor, n_keys: int) -> Spans:
        start = q // c * c
        first, end = (t.clamp(0, n_keys)[None] for t in (start, start + c))
        return Spans(first, end, exact=True)

    bound = Reach(behind=c, ahead=c - 1)
    return Rule(
        lambda b, q, k: q // c == k // c, f"chunk({c})", None, None, bound, shape
    )


def near(w: int) -> Mask:
    """Keys at most ``w`` slots from the query, on either side: ``|q − k| <= w``.

    >>> near(1).matrix(3)
    tensor([[ True,  True, False],
            [ True,  True,  True],
            [False,  True,  True]])
    """

    def shape(q: Tensor, n_keys: int) -> Spans:
        first, end = (t.clamp(0, n_keys)[None] for t in (q - w, q + w + 1))
        return Spans(first, end, exact=True)

    def function(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (k >= q - w) & (k <= q + w)

    bound = Reach(behind=w + 1, ahead=w)
    return Rule(function, f"near({w})", None, None, bound, shape, band=True)


def same_image(ids: Tensor) -> Mask:
    """Keys of the image that the query is a part of; ``ids`` number the images,
    a negative id is text, which this rule shows nothing.

    >>> same_image(torch.tensor([-1, 0, 0])).matrix(3)
    tensor([[False, False, False],
            [False,  True,  True],
            [False,  True,  True]])
    """
    table = torch.atleast_2d(ids)
    batch = len(table) if ids.ndim == 2 else None

    def in_image(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        row = 0 if batch is None else b
        of_query = table.to(q.device)[row, q.clamp(0, table.shape[-1] - 1)] >= 0
        return of_query & (k >= 0)

    return documents(ids) & rule(in_image, batch=batch, name="in_image")
