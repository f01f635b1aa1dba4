"""How somebody's function is called: precision, arrays, axes, masks, state.

None of these is a mistake, so each is tried until one works. What cannot be
called says with which shapes it was tried. A room of the judge, which
exercises of chapters 3 and 4 put to work.
"""

from __future__ import annotations

import copy
import functools
import inspect
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mattn.audit.subject import random_states

__all__ = ["FORMS", "CouldNotRun", "Subject"]

#: Ways to hand over a boolean mask in which True = may attend.
FORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "True = may attend": lambda m: m,
    "True = hidden": lambda m: ~m,
    "0 and −∞ that are added": lambda m: torch.zeros(
        m.shape, dtype=torch.float64
    ).masked_fill(~m, -torch.inf),
    "1 = may attend": lambda m: m.long(),
}

KINDS = ("float64", "float32", "numpy")


class CouldNotRun(Exception):
    """The function raised, or gave nothing that can be compared."""


class Subject:
    """Somebody's function or module, called in the one way that works.

    ``layout`` says how four axes stand: ``"BHTD"`` or ``"BTHD"``. Inputs are
    given as float64 tensors (…, T, D) and heads before tokens; outputs come
    back so.
    """

    def __init__(self, function: Callable[..., Any], *, layout: str, seconds: float):
        self.function: Any = function
        self.layout, self.seconds = layout, seconds
        self.kind: str | None = None
        self.form = "True = may attend"
        self.training = False
        self.is_module = isinstance(function, nn.Module)
        self.names = _parameters(function)
        self.takes_mask = _takes_mask(self.names)
        #: A module of x, with maps to q, k and v of its own.
        self.of_x = self.is_module and _needed(self.names) == 1
        self.changed: set[str] = set()
        self.dtype, self.n_calls = torch.float64, 0
        #: None: a fresh copy for each call, so that nothing is remembered.
        self.kept: Any = None

    def __call__(self, *inputs: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """All tensors that came back, in float64; which of them is meant is open.

        Raises :class:`CouldNotRun` with what the function raised.
        """
        reasons = []
        for kind in KINDS if self.kind is None else (self.kind,):
            try:
                out = self._call(kind, inputs, mask)
            except Exception as error:  # whatever somebody's function raises
                reasons.append(f"{type(error).__name__}: {error}".split("\n")[0])
                continue
            self.kind = kind
            return out
        raise CouldNotRun(reasons[0])

    def _call(self, kind: str, inputs: tuple, mask: Tensor | None) -> list[Tensor]:
        four = self.layout == "BTHD" and inputs[0].ndim == 4
        given = [t.transpose(1, 2).contiguous() if four else t.clone() for t in inputs]
        given = [_as(kind, t) for t in given]
        before = [_tensor(t).clone() for t in given]
        function = self.fresh(kind) if self.kept is None else self.kept
        options: dict[str, Any] = {}
        if self.takes_mask and mask is not None:
            ready = FORMS[self.form](mask)
            ready = ready.to(torch.float32) if _is_float(ready, kind) else ready
            name = self.takes_mask
            options[name] = ready.numpy() if kind == "numpy" else ready
        if "is_causal" in self.names and not self.takes_mask:
            options["is_causal"] = mask is not None
        with torch.no_grad(), random_states(), _limited(self.seconds):
            self.n_calls += 1  # who draws random numbers draws others each time
            torch.default_generator.manual_seed(self.n_calls)
            out = function(*given, **options)
        for name, was, now in zip("qkv", before, given, strict=False):
            if not torch.equal(was, _tensor(now)):
                self.changed.add(name if len(inputs) > 1 else "x")
        outs = [t for t in _tensors(out) if t.is_floating_point()]
        if not outs:
            raise TypeError(f"expected a tensor of floats; got {type(out).__name__}")
        self.dtype = outs[0].dtype
        outs = [t.double() for t in outs]
        return [t.transpose(1, 2) if four and t.ndim == 4 else t for t in outs]

    def fresh(self, kind: str | None = None) -> Any:
        """A copy that has never been called; a plain function is itself."""
        if not self.is_module:
            return self.function
        copied = copy.deepcopy(self.function)
        copied.train(self.training)
        return copied.double() if (kind or self.kind) == "float64" else copied.float()

    @contextmanager
    def remembering(self) -> Iterator[None]:
        """Inside, all calls go to one copy."""
        self.kept = self.fresh()
        try:
            yield
        finally:
            self.kept = None


def _as(kind: str, t: Tensor) -> Any:
    if kind == "numpy":
        return t.numpy()
    return t.to(getattr(torch, kind))


def _is_float(mask: Tensor, kind: str) -> bool:
    return kind == "float32" and mask.is_floating_point()


def _tensor(value: Any) -> Tensor:
    return value if isinstance(value, Tensor) else torch.as_tensor(np.asarray(value))


def _tensors(out: Any) -> list[Tensor]:
    """Every tensor in what came back, in order."""
    if isinstance(out, Tensor):
        return [out.detach()]
    if isinstance(out, np.ndarray):
        return [torch.as_tensor(np.ascontiguousarray(out))]
    if isinstance(out, Mapping):
        out = list(out.values())
    if isinstance(out, tuple | list):
        return [t for part in out for t in _tensors(part)]
    return []


def _parameters(function: Callable[..., Any]) -> dict[str, bool]:
    """Name of each parameter → whether it must be given."""
    called = function.forward if isinstance(function, nn.Module) else function
    try:
        found = inspect.signature(called).parameters.values()
    except (TypeError, ValueError):  # built in
        return {"q": True, "k": True, "v": True}
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return {p.name: p.default is p.empty for p in found if p.kind not in kinds}


def _takes_mask(names: Mapping[str, bool]) -> str | None:
    """The name of the parameter that takes a mask."""
    after = list(names)[1 if _needed(names) <= 2 else 3 :]
    said = [n for n in after if "mask" in n.lower()]
    return next(iter(said or [n for n in after if names[n]]), None)


def _needed(names: Mapping[str, bool]) -> int:
    return sum(needed and "mask" not in n.lower() for n, needed in names.items())


def _stop(seconds: float, number: int, frame: Any) -> None:
    raise TimeoutError(f"no answer within {seconds:g} seconds")


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """``TimeoutError`` after so long, where the system can interrupt a call."""
    here = threading.current_thread() is threading.main_thread()
    if not here or not hasattr(signal, "setitimer"):
        yield
        return

    before = signal.signal(signal.SIGALRM, functools.partial(_stop, seconds))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
