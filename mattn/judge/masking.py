"""Somebody's mask against a rule: which form it has, where it differs first.

A room of the judge, which exercises of chapters 2 and 3 put to work.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mattn.audit.subject import random_states
from mattn.judge.formulas import KEPT
from mattn.judge.subject import CouldNotRun
from mattn.judge.verdict import Verdict
from mattn.masks import Mask, causal, difference, full, window

__all__ = ["mask"]

_SLOTS = {"q", "k", "i", "j", "q_idx", "k_idx", "kv_idx", "query", "key", "row", "col"}
#: A number above this is no fill that scores stay clear of.
_FAR = -1000.0


@dataclass(frozen=True)
class _Form:
    """How a matrix says what is allowed."""

    said: str
    allowed: Callable[[Tensor], Tensor]


_TRUE = _Form("", lambda m: m != 0)
_HIDES = _Form("True = hidden", lambda m: m == 0)
_ONE = _Form("1 = may attend", lambda m: m != 0)
_ONE_HIDES = _Form("1 = hidden", lambda m: m == 0)
_ADDED = _Form("it is added to the scores", lambda m: m == 0)


# Long because: half of it says what may be judged, and how.
def mask(
    given: Any,
    expected: Mask | None = causal,
    *,
    T: int = 12,
    true: Literal["may attend", "hidden"] | None = None,
) -> Verdict:
    """Judge somebody's mask against a rule, up to ``T`` tokens.

    ``given`` is a matrix (T, T), a rule, or a function: of the number of tokens,
    of the numbers of queries and keys, or of slots, as ``(q, k)``, ``(b, q, k)``
    or ``(b, h, q, k)``. What comes back may be of booleans, of 0 and 1, or of
    numbers to add to the scores. ``true`` says which of its two values ``True``
    and 1 are; by default either is accepted, and noted. ``expected=None``:
    everything may be seen.

    >>> def window_of_3(n):
    ...     q, k = torch.arange(n)[:, None], torch.arange(n)
    ...     return (k <= q) & (q - k <= 3)
    >>> from mattn import causal, window
    >>> print(mask(window_of_3, causal & window(3)))
    window_of_3: named. one key too many
      query 3 also sees key 0, 3 behind; with 12 tokens it allows 9 pairs more, 0 fewer

    Raises ``ValueError`` for what is neither a matrix nor callable.
    """
    rule = full if expected is None else expected
    name = getattr(given, "__name__", type(given).__name__)
    if isinstance(given, Tensor):
        T = given.shape[-1]
    elif not isinstance(given, Mask) and not callable(given):
        raise ValueError(
            "expected a matrix, a rule, or a function of the number of tokens or of "
            f"slots; got {type(given).__name__}."
        )
    try:
        found = {n: _rendered(given, n) for n in ([T] if _whole(given) else _up_to(T))}
    except CouldNotRun as error:
        return Verdict(name, "could not run", measured=(str(error),))
    forms = [f for f in _forms(found[T]) if true is None or _fits(f, true)]
    for form in forms:
        allowed = {n: form.allowed(m) for n, m in found.items()}
        if all(_same(rule, allowed[n]) for n in allowed):
            return _right(name, form, found[T], rule, given)
    return _wrong(name, rule, found, T, forms)


def _up_to(T: int) -> range:
    return range(1, T + 1)


def _whole(given: Any) -> bool:
    """Whether there is one matrix only, of a size of its own."""
    return isinstance(given, Tensor)


def _fits(form: _Form, true: str) -> bool:
    hides = form in (_HIDES, _ONE_HIDES)
    return form is _ADDED or hides is (true == "hidden")


def _forms(matrix: Tensor) -> list[_Form]:
    """What the numbers of the longest matrix can mean, the likeliest first."""
    if matrix.dtype == torch.bool:
        return [_TRUE, _HIDES]
    values = {float(v) for v in matrix.unique().tolist()}
    if values <= {0.0, 1.0}:
        return [_ONE, _ONE_HIDES]
    return [_ADDED]


def _same(rule: Mask, allowed: Tensor) -> bool:
    matrix = rule.matrix(allowed.shape[-1])
    try:
        matrix, allowed = torch.broadcast_tensors(matrix, allowed)
    except RuntimeError:
        return False
    return torch.equal(matrix, allowed)


def _right(name: str, form: _Form, matrix: Tensor, rule: Mask, given: Any) -> Verdict:
    notes = [form.said] if form.said else []
    if form is _ADDED:
        fill = float(matrix[matrix != 0].max())
        if not fill <= _FAR:
            said = "large positive fill" if fill > 1 else "tiny fill"
            said = "weak fill" if fill < -1e-3 else said
            why = f"a hidden score gets {fill:+.4g}: it still has weight"
            return Verdict(name, "named", (said,), measured=(why,))
        if fill > -torch.inf:
            notes.append(f"the fill is finite, {fill:g}: right while scores stay above")
            return Verdict(name, "right, with limits", notes=tuple(notes))
    notes += _of_two_sizes(given, form, rule)
    return Verdict(name, "right", notes=tuple(notes))


def _of_two_sizes(given: Any, form: _Form, rule: Mask) -> list[str]:
    """How fewer queries than keys are aligned, where a function says."""
    if isinstance(given, Mask) or not callable(given) or _arity(given) != "sizes":
        return []
    try:
        allowed = form.allowed(_matrix(given(3, 5), (3, 5)))
    except Exception:  # whatever somebody's function raises: sizes are all it has
        return []
    if torch.equal(allowed, rule.matrix(3, 5)):
        return []
    if torch.equal(allowed, rule.matrix(5)[..., :3, :]):
        return ["fewer queries than keys are aligned top-left"]
    return ["fewer queries than keys: it gives something else"]


def _wrong(
    name: str, rule: Mask, found: dict[int, Tensor], T: int, forms: list[_Form]
) -> Verdict:
    if found[T].ndim > 3:
        shape = tuple(found[T].shape)
        why = f"expected a matrix ({T}, {T}) or (B, {T}, {T}); got {shape}"
        return Verdict(name, "could not run", measured=(why,))
    names = []
    for form in forms:
        allowed = {n: form.allowed(m) for n, m in found.items()}
        otherwise = f", if {form.said}" if form is not forms[0] else ""
        names += [said + otherwise for said in _slips(rule, allowed)]
    allowed = {n: forms[0].allowed(m) for n, m in found.items()}
    first = None
    if len(allowed) > 1:
        first = difference(rule, lambda n: allowed[n], T)
    first = first or difference(rule, allowed[T], T)
    assert first is not None  # it differs in every form
    case = (
        f"{first}; with {T} tokens it allows {first.more} pairs more, "
        f"{first.fewer} fewer"
    )
    notes = (f"read as: {forms[0].said}",) if forms[0].said else ()
    return Verdict(name, "named" if names else "wrong", tuple(names), case, (), notes)


def _slips(rule: Mask, allowed: dict[int, Tensor]) -> list[str]:
    """Names of what gives these matrices at every length."""
    names = [
        option.name
        for option in KEPT[1:]
        if all(_equal(option.what(rule.matrix(n)), m) for n, m in allowed.items())
    ]
    behind = rule.bound.behind
    if 1 < behind < math.inf:
        narrow = rule & window(int(behind) - 1)
        if all(_equal(narrow.matrix(n), m) for n, m in allowed.items()):
            names.append("one key too few")
    return names


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a, b)


def _rendered(given: Any, n: int) -> Tensor:
    """The matrix for n tokens."""
    if isinstance(given, Tensor):
        return _matrix(given, (n, n))
    if isinstance(given, Mask):
        return given.matrix(n)
    try:
        with random_states():
            return _matrix(_called(given, n), (n, n))
    except Exception as error:  # whatever somebody's function raises
        said = f"{type(error).__name__}: {error}".split("\n")[0]
        raise CouldNotRun(f"{n} tokens: {said}") from error


def _arity(given: Callable[..., Any]) -> str:
    """What it takes: "length", "sizes" or "slots"."""
    parameters = inspect.signature(given).parameters.values()
    names = [p.name for p in parameters if p.default is p.empty]
    if len(names) == 1:
        return "length"
    if len(names) == 2 and not set(names) <= _SLOTS:
        return "sizes"
    return "slots"


def _called(given: Callable[..., Any], n: int) -> Any:
    kind = _arity(given)
    if kind == "length":
        return given(n)
    if kind == "sizes":
        return given(n, n)
    count = len(inspect.signature(given).parameters)
    zeros = (0,) * (min(count, 4) - 2)
    q, k = torch.arange(n)[:, None], torch.arange(n)
    try:
        out = torch.as_tensor(given(*zeros, q, k))
        return out.expand(n, n)
    except (ValueError, RuntimeError, TypeError):  # of numbers, not of tensors
        cells = [[bool(given(*zeros, i, j)) for j in range(n)] for i in range(n)]
        return torch.tensor(cells)


def _matrix(out: Any, sizes: tuple[int, int]) -> Tensor:
    """As a tensor, without axes of size 1 before its two."""
    m = out if isinstance(out, Tensor) else torch.as_tensor(np.asarray(out))
    while m.ndim > 2 and m.shape[0] == 1:
        m = m[0]
    if m.ndim == 4 and m.shape[1] == 1:
        m = m[:, 0]
    if m.ndim < 2 or m.shape[-2:] != sizes:
        raise ValueError(f"expected a matrix {sizes}; got {tuple(m.shape)}")
    return m
