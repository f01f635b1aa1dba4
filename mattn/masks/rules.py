"""Any function of slots as a rule, with what its author promises of it.

Chapter 2 writes its own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from mattn.masks.algebra import UNTOLD, Mask
from mattn.masks.matrices import described
from mattn.masks.spans import Spans
from mattn.reach import Reach

__all__ = ["Rule", "rule"]


# eq=False: rules hold tensors, so a rule is equal to itself and nothing else.
@dataclass(frozen=True, eq=False, repr=False)
class Rule(Mask):
    """A function of slots, with what is known of it."""

    function: Callable[..., Any]
    name: str
    batch: int | None = None
    n_slots: int | None = None
    bound: Reach = field(default_factory=Reach)
    shape: Callable[[Tensor, int], Spans] | None = None
    band: bool = False

    def allowed(self, b: Any, q: Tensor, k: Tensor) -> Tensor:
        return self.function(b, q, k)

    def _hull(self, q: Tensor, n_keys: int) -> Spans:
        return super()._hull(q, n_keys) if not self.shape else self.shape(q, n_keys)

    def __repr__(self) -> str:
        return self.name


# Long because: the code is eleven lines, the rest says what a rule may be.
def rule(
    function: Callable[..., Any],
    *,
    batch: int | None = None,
    behind: float = math.inf,
    ahead: float = math.inf,
    sinks: int = 0,
    name: str | None = None,
) -> Mask:
    """A mask of any function ``(b, q, k) → bool``, or of a FlexAttention
    ``mask_mod(b, h, q, k)``.

    It is called with index tensors that broadcast, so it is written with
    ``&``, ``|`` and comparisons. A function that depends on the row of the
    batch says so with ``batch=B``; used without, ``b`` raises. A rule is the
    same for every head, so ``h`` always raises. ``behind``, ``ahead`` and
    ``sinks`` promise how far it looks (:class:`~mattn.reach.Reach`), so that
    caches and blocks need not find out. A promise is checked wherever the rule
    is rendered.

    Every second of the last 6:

    >>> def dilated(b, q, k):
    ...     return (k <= q) & (q - k < 6) & ((q - k) % 2 == 0)
    >>> rule(dilated, behind=6, ahead=0).matrix(1, 8)
    tensor([[False, False, False,  True, False,  True, False,  True]])

    Raises ``ValueError`` for a function of other arguments, for a result that
    is not boolean, and for a promise that does not hold.
    """
    n_arguments = _count_arguments(function)
    name = name or _name_of(function)
    bound = Reach(behind, ahead, sinks)

    def checked(b: Any, q: Tensor, k: Tensor) -> Tensor:
        row = UNTOLD if batch is None else b
        arguments = (row, q, k) if n_arguments == 3 else (row, UNTOLD, q, k)
        allowed = _boolean(function(*arguments), name, q, k)
        return _promised(allowed, bound, name, q, k)

    return Rule(checked, name, batch=batch, bound=bound)


def _count_arguments(function: Callable[..., Any]) -> int:
    # Those with defaults are what a closure binds: lambda b, q, k, w=w: …
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    names = [p.name for p in parameters if p.kind in kinds and p.default is p.empty]
    if len(names) not in (3, 4):
        raise ValueError(
            "rule: expected a function of (b, q, k), or of (b, h, q, k); got "
            f"{_name_of(function)} of ({', '.join(names)})."
        )
    return len(names)


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__name__", "<lambda>")
    return "rule(…)" if name == "<lambda>" else name


def _boolean(allowed: Any, name: str, q: Tensor, k: Tensor) -> Tensor:
    if isinstance(allowed, bool):
        allowed = torch.tensor(allowed, device=q.device).expand_as(q == k)
    if not isinstance(allowed, Tensor) or allowed.dtype != torch.bool:
        got = described(allowed) if isinstance(allowed, Tensor) else repr(allowed)
        raise ValueError(
            f"{name}: expected a function that gives bools, True = may attend; got "
            f"{got}. Compare slots, as in `k <= q`, and combine with &, | and ~."
        )
    return allowed


def _promised(allowed: Tensor, bound: Reach, name: str, q: Tensor, k: Tensor) -> Tensor:
    """The same cells, if no query of the sequence sees farther than promised."""
    if bound == Reach() or is_functorch_wrapped_tensor(allowed):
        return allowed
    outside = (k - q > bound.ahead) | ((q - k >= bound.behind) & (k >= bound.sinks))
    wrong = allowed & outside & (q >= 0) & (k >= 0)
    if allowed.device.type != "meta" and wrong.any():
        at = wrong.nonzero()[0]
        i, j = (int(t.expand(wrong.shape)[tuple(at)]) for t in (q, k))
        raise ValueError(
            f"{name}: expected what it promises, behind={bound.behind}, ahead="
            f"{bound.ahead}, sinks={bound.sinks}; got query slot {i} that sees key "
            f"slot {j}. Promise more, or leave the promise out."
        )
    return allowed
