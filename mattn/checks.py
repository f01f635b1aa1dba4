"""Checks that chapters, tests and audits share: equality and influence.

*Influence* is the matrix of which inputs reach which outputs, measured on
any function by changing one input at a time. For one attention layer, with its
queries held fixed and no weight rounded away, it equals the mask. Used from
chapter 1 on; derived in chapter 5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = ["TOLERANCE", "influence", "same", "sensitivity"]

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
"""Largest allowed difference from a float64 reference, by dtype."""


# Long because: of its lines half are the docstring; it is one comparison.
def same(
    a: Tensor | ArrayLike,
    b: Tensor | ArrayLike,
    *,
    atol: float | None = None,
) -> None:
    """Raise ``AssertionError`` unless ``a`` and ``b`` have equal shape and values.

    ``atol`` is the largest difference allowed, by default that of
    :data:`TOLERANCE` for the less precise of the two dtypes, and 0 for
    integers and booleans. NaN equals nothing, −∞ equals −∞. ``ValueError`` for
    an ``atol`` that is no number of 0 and more.

    >>> same(torch.tensor([1.0, 2.0]), [1.0, 2.5])
    Traceback (most recent call last):
        ...
    AssertionError: values differ by 0.5 at (1,): 2.0 and 2.5 (allowed: 1e-05)
    """
    a, b = _tensor(a), _tensor(b)
    if a.shape != b.shape:
        raise AssertionError(f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}")
    if atol is None:
        atol = max(_tolerance(a), _tolerance(b))
    if not atol >= 0:
        raise ValueError(f"same: expected atol >= 0; got {atol}. 0 asks for equality.")
    a, b = a.detach().cpu(), b.detach().cpu()  # not every device has float64
    if _is_exact(a) and _is_exact(b):
        # Integers beyond 2⁵³ may be equal in float64 and are not: they differ by 1.
        equal, a, b = a.long() == b.long(), a.double(), b.double()
        difference = torch.where(equal, 0.0, (a - b).abs().clamp(min=1))
    else:
        wide = torch.complex128 if a.is_complex() or b.is_complex() else torch.float64
        a, b = a.to(wide), b.to(wide)
        # ∞ − ∞ is NaN: equal entries differ by 0, whatever they are.
        difference = torch.where(a == b, 0.0, (a - b).abs())
    wrong = ~(difference <= atol)
    if wrong.any():
        worst = difference.masked_fill(difference.isnan(), torch.inf).argmax()
        where = tuple(int(i) for i in np.unravel_index(int(worst), a.shape))
        raise AssertionError(
            f"values differ by {difference.flatten()[worst]:.3g} at {where}: "
            f"{a[where]} and {b[where]} (allowed: {atol:g})"
        )


# Long because: of its lines half are the signature and the docstring.
def influence(
    function: Callable[[Tensor], Tensor],
    x: Shaped[Tensor, "T *features"],
    *,
    n_symbols: int | None = None,
    n_tries: int = 3,
    generator: torch.Generator | None = None,
) -> Bool[Tensor, "To T"]:
    """Which inputs reach which outputs: entry (i, j), measured.

    Changes input position ``j`` and looks which outputs of ``function``
    differ at all, exact comparison, over ``n_tries`` changes. ``x`` is one
    sequence: finite features ``(T, C)``, which get noise of their size, or
    integer tokens ``(T,)``, each replaced by another below ``n_symbols``.

    A ``True`` is a proof; a ``False`` says that no try showed a difference.
    Raises ``ValueError`` for input of which nothing could be changed.

    >>> influence(lambda x: x.cumsum(0), torch.randn(3, 2))
    tensor([[ True, False, False],
            [ True,  True, False],
            [ True,  True,  True]])
    """
    size = _vocabulary(x, n_symbols)
    _check_tries(n_tries)
    if generator is None:
        generator = torch.Generator(device=x.device).manual_seed(0)
    with torch.no_grad():
        # Copies: the function may write into its input, or return one buffer always.
        before = function(x.clone()).clone()
        if before.ndim == 0:
            raise ValueError(
                "influence: expected an output for each position, (To, …); got a "
                "scalar. Give what comes before it is summed."
            )
        reached = torch.zeros(len(before), len(x), dtype=torch.bool)
        for j in range(len(x)):
            for _ in range(n_tries):
                changed = x.clone()
                changed[j] = _another(x[j], size, generator)
                after = function(changed)
                # NaN differs from itself: equal means equal or both NaN.
                equal = (after == before) | (after.isnan() & before.isnan())
                reached[:, j] |= ~equal[..., None].flatten(1).all(dim=1).cpu()
    return reached


def _vocabulary(x: Tensor, n_symbols: int | None) -> int | None:
    """Its size, or None for features, which have none.

    ``ValueError`` for what cannot be changed into something else.
    """
    if not x.dtype.is_floating_point:
        if n_symbols is None or n_symbols < 2:
            raise ValueError(
                "influence: expected n_symbols >= 2 for integer tokens; got "
                f"{n_symbols}. It is the size of the vocabulary."
            )
        return n_symbols
    if not x.isfinite().all():
        raise ValueError(
            "influence: expected finite features; got NaN or ∞, which noise does not "
            "change. Give other input."
        )
    return None


def _check_tries(n_tries: int) -> None:
    if n_tries < 1:
        raise ValueError(
            f"influence: expected n_tries >= 1; got {n_tries}. Without a try nothing "
            "is known."
        )


def _another(x: Tensor, size: int | None, generator: torch.Generator) -> Tensor:
    """Another token of ``size``, or these features with noise as large as they are."""
    if size is not None:
        step = torch.randint(1, size, (), generator=generator, device=x.device)
        return (x + step) % size
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    return x + noise * x.abs().clamp(min=1)


def sensitivity(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "T C"]
) -> Float[Tensor, "To T"]:
    """How strongly: entry (i, j) is the largest ``|∂ output i / ∂ input j|``.

    The absolute maximum over features, by automatic differentiation; never
    a signed sum, which can cancel to zero. ``ValueError`` for an ``x`` that is
    no sequence of features.
    """
    if x.ndim != 2 or x.numel() == 0 or not x.is_floating_point():
        raise ValueError(
            "sensitivity: expected floating-point features (T, C), T and C >= 1; got "
            f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}. Take one row of "
            "a batch, and the embeddings of tokens."
        )
    jacobian = torch.autograd.functional.jacobian(function, x)  # (To, …, T, C)
    n_out = jacobian.shape[0]
    by_input = jacobian.abs().amax(dim=-1).reshape(n_out, -1, len(x))
    return by_input.amax(dim=1)


def _tensor(value: Tensor | ArrayLike) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(np.array(value))


def _is_exact(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex())


def _tolerance(tensor: Tensor) -> float:
    if _is_exact(tensor):
        return 0.0
    return TOLERANCE.get(tensor.real.dtype, 1e-3)
