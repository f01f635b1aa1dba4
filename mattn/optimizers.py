"""Muon: momentum whose update moves all directions of a matrix at one rate.

Chapter 7 trains the matrices of its decoder with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from jaxtyping import Float

# Loops over many tensors, as torch's own optimisers have them: not public yet.
from torch import (
    Tensor,
    _foreach_add_,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_lerp_,  # pyright: ignore[reportPrivateImportUsage]
    _foreach_mul_,  # pyright: ignore[reportPrivateImportUsage]
)

from mattn.inputs import whole_number

__all__ = ["Muon", "orthogonalised"]

_QUINTIC = (3.4445, -4.775, 2.0315)


def orthogonalised(
    x: Float[Tensor, "N rows columns"], *, n_steps: int = 5
) -> Float[Tensor, "N rows columns"]:
    """Each matrix U·S·Vᵀ of the stack as about U·Vᵀ, by matrix products alone.

    Newton–Schulz iteration x ← a·x + b·(x·xᵀ)·x + c·(x·xᵀ)²·x, from a norm of
    1. It applies an odd polynomial to each singular value and leaves U and V
    as they are. The coefficients are Jordan's, steep at 0: after five steps
    singular values from 0.01 to 1 lie between 0.68 and 1.14.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """
    n_steps = whole_number(n_steps, "orthogonalised: n_steps", least=0)
    if x.ndim != 3:
        raise ValueError(
            "orthogonalised: expected a stack of matrices (N, rows, columns); got "
            f"{tuple(x.shape)}. Of one matrix, make x[None]."
        )
    a, b, c = _QUINTIC
    dtype, wide = x.dtype, x.shape[1] <= x.shape[2]
    x = x if wide else x.mT  # x·xᵀ is then the smaller of the two products
    x = x.float() if dtype.itemsize < 4 else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(n_steps):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a
        )
    return (x if wide else x.mT).to(dtype)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is :func:`orthogonalised`: for hidden matrices.

    All directions of a matrix move at the same rate, the rare ones too. The
    update has singular values near √max(1, rows / columns) times ``lr``.
    Matrices of one shape are treated as one stack.

    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon.
    """

    def __init__(
        self,
        parameters: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ):
        super().__init__(
            parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        )
        for group in self.param_groups:
            rate, share = group["lr"], group["momentum"]
            if not (0 < rate < math.inf and 0 <= share < 1):
                raise ValueError(
                    "Muon: expected finite lr > 0 and momentum of at least 0, below 1; "
                    f"got {rate} and {share}."
                )
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(
                        f"Muon: expected matrices; got shape {tuple(p.shape)}. Leave "
                        "gains, biases and embeddings to AdamW."
                    )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Nesterov momentum, orthogonalised, times the rate.

        ``closure`` computes loss and gradients anew, as in all of torch's optimisers;
        its loss is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[tuple, list[Tensor]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    alike.setdefault((p.shape, p.dtype, p.device), []).append(p)
            for ((rows, columns), *_), matrices in alike.items():
                # Each has a momentum of its own: another time others have gradients.
                for p in matrices:
                    if "momentum" not in self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                momenta = [self.state[p]["momentum"] for p in matrices]
                gradients = [p.grad for p in matrices if p.grad is not None]
                _foreach_lerp_(momenta, gradients, 1 - group["momentum"])
                gradient, momentum = torch.stack(gradients), torch.stack(momenta)
                update = orthogonalised(gradient.lerp(momentum, group["momentum"]))
                rate = group["lr"] * math.sqrt(max(1, rows / columns))
                _foreach_mul_(matrices, 1 - group["lr"] * group["weight_decay"])
                _foreach_add_(matrices, list(update.unbind()), alpha=-rate)
        return loss
