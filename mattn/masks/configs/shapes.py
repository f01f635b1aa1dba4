"""A rule that configurations of models of images and text name.

Chapter 2 says how a rule of one's own is made.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.named import documents
from mattn.masks.rules import rule

__all__ = ["same_image"]


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
