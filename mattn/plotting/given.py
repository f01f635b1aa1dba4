"""What is given to be drawn: taken as NumPy arrays, or refused by name."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mattn.inputs import whole_number

__all__ = [
    "boolean_matrix",
    "check_finite",
    "check_labels",
    "check_query",
    "check_some",
    "curve_points",
    "matrix",
    "row",
    "weights_row",
]


def matrix(values: Tensor | np.ndarray) -> np.ndarray:
    """One matrix (Tq, Tk), as it is given."""
    values = _numpy(values)
    if values.ndim != 2 or not values.size:
        raise ValueError(
            f"expected one matrix (Tq, Tk) to draw; got shape {values.shape}. "
            "Pick a batch row and a head first: x[0, 0]."
        )
    return values


def boolean_matrix(
    allowed: Tensor | np.ndarray, shape: tuple | None = None
) -> np.ndarray:
    """A boolean matrix, of this shape; nobody knows what a 0.0 would mean."""
    allowed = matrix(allowed)
    shape = allowed.shape if shape is None else shape
    if allowed.dtype != bool or allowed.shape != shape:
        raise ValueError(
            f"expected a matrix of bool (True = may attend) and of shape {shape}; got "
            f"{allowed.dtype} {allowed.shape}. Of an additive mask, draw mask == 0."
        )
    return allowed


def check_finite(what: str, shown: np.ndarray) -> None:
    """``ValueError`` for NaN or ∞ in what is shown."""
    if len(wrong := shown[~np.isfinite(shown)]):
        raise ValueError(
            f"expected finite {what} in every cell that is not blocked; got {wrong[0]}."
            " Look for what made it before you draw it."
        )


def row(what: str, values: ArrayLike, n: int) -> np.ndarray:
    """One finite number for each of n labels."""
    values = _numpy(values)
    if values.shape != (n,):
        raise ValueError(
            f"expected {n} {what}, one for each label; got shape {values.shape}. "
            "Pick one row first: weights[i]."
        )
    check_finite(what, values)
    return values


def weights_row(weights: ArrayLike, n: int) -> np.ndarray:
    """A row of n weights: not negative, and together 1."""
    weights = row("weights", weights, n)
    if (weights < 0).any() or abs(weights.sum() - 1) > 1e-3:
        raise ValueError(
            f"expected weights of 0 or more that add up to 1; got {weights.min():.3g} "
            f"at least and {weights.sum():.3g} in all. Apply softmax first."
        )
    return weights


def curve_points(
    name: str, x: ArrayLike, y: ArrayLike, *, positive: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A curve: one number y for each number x, and at least one."""
    x, y = _numpy(x), _numpy(y)
    if x.ndim != 1 or x.shape != y.shape or not x.size:
        raise ValueError(
            f"{name!r}: expected x and y of one length, at least 1; got shapes "
            f"{x.shape} and {y.shape}. Leave out what was not measured."
        )
    if positive and len(wrong := (both := np.concatenate([x, y]))[~(both > 0)]):
        raise ValueError(
            f"{name!r}: expected x and y above 0 on logarithmic axes; got "
            f"{wrong[0]}. Leave out what was not measured."
        )
    return x, y


def check_some(things: Collection, expected: str) -> None:
    """``ValueError`` where there is nothing to draw."""
    if not things:
        raise ValueError(f"{expected}; got none. There is nothing to draw.")


def check_query(query: int, T: int) -> None:
    """``ValueError`` for a query that is no row of T."""
    if whole_number(query, "query", least=0) >= T:
        raise ValueError(
            f"expected a query position from 0 to {T - 1}; got {query}. Rows are "
            "counted from the top, from 0 on."
        )


def check_labels(what: str, labels: Sequence[str], n: int) -> None:
    """``ValueError`` unless there is a label for each of n positions."""
    if len(labels) != n:
        raise ValueError(
            f"expected {n} {what}, one for each position; got {len(labels)}. Cut the "
            "text to what is drawn."
        )


def _numpy(values: Tensor | ArrayLike) -> np.ndarray:
    if isinstance(values, Tensor):
        # NumPy has no bfloat16.
        half = values.dtype == torch.bfloat16
        values = values.detach().cpu().to(torch.float32 if half else values.dtype)
    return np.asarray(values)
