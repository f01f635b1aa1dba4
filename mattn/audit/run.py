"""Run the probes under every mode, and beyond the given length.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from mattn.audit.asked import (
    Expected,
    check_budget,
    check_input,
    chosen,
    expected_matrix,
    expected_of,
    name_of,
)
from mattn.audit.probes import PROBES
from mattn.audit.report import Report
from mattn.audit.session import Mode, Session, reason
from mattn.audit.subject import Adapter, Subject, preserved, random_states
from mattn.masks import Mask

__all__ = ["MODES", "assert_causal", "audit", "guarded"]

LARGE = 300.0  # scores grow by its square: past any fill that training can reach

MODES = (
    Mode("eval mode", tuple(PROBES), scales=(1.0, 10.0, 0.1), thorough=True),
    Mode(
        "eval mode, random weights",
        ("perturbation", "jacobian", "truncation", "batch", "cache"),
        {"randomised": True},
        thorough=True,
    ),
    # A finite fill gives way where all scores of a query are low: several inputs.
    Mode(
        f"eval mode, weights × {LARGE:g}",
        ("perturbation",),
        {"enlarged": LARGE},
        scales=(1.0,) * 4,
        drawn=3,
    ),
    # Random numbers of train mode fall differently on other shapes, so only
    # probes that keep the shape.
    Mode("train mode", ("perturbation", "batch"), {"train": True}),
)


# Long because: most of it says what may be passed, with an example.
def audit(
    model: Callable[..., Any],
    tokens: Shaped[Tensor, "B T *features"],
    *,
    expected: Expected = None,
    n_layers: int = 1,
    forward: Callable[[Any, Tensor], Any] | Adapter | None = None,
    probes: Iterable[str] | None = None,
    strict: bool = False,
    budget: float | None = None,
) -> Report:
    """Ask any model whether its outputs see what they must not.

    ``model`` is a callable or module from ``tokens`` (B, T), or features
    (B, T, C), to a tensor (B, T, …), or a tuple, dict or object with one.
    It comes back exactly as it was.

    ``expected`` is what may be seen end to end: by default each output sees
    its own position and those before; a rule of ``mattn.masks`` (of one
    layer, for a model of ``n_layers``) or a boolean matrix says otherwise.
    ``forward(model, x)`` calls a model that takes more than its input; an
    :class:`Adapter` also says how it is fed step by step, padded or packed.
    ``probes`` names a few of ``mattn.audit.PROBES``; ``strict`` makes a missing
    link a failure; ``budget`` is in seconds.

    >>> mean = lambda x: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
    >>> audit(mean, torch.randn(1, 5, 3)).ok
    True
    >>> audit(lambda x: x - x.mean(1, keepdim=True), torch.randn(1, 5, 3)).ok
    False
    """
    check_input(tokens)
    names = chosen(probes, PROBES)
    check_budget(budget)
    matrix = expected_of(tokens, expected, n_layers)
    with guarded(model):
        subject = Subject(model, tokens, forward)
        with subject.mode():
            subject.first_run(tokens)
        with Session(subject, matrix, names, budget) as session:
            _run_modes(session)
            _run_longer(session, expected, n_layers)
    return session.report(name_of(model), strict=strict)


def guarded(model: Any) -> AbstractContextManager:
    """Inside, the model may be changed at will: it comes back as it was."""
    return preserved(model) if isinstance(model, nn.Module) else random_states()


def _run_modes(session: Session) -> None:
    subject = session.subject
    modes: tuple[Mode, ...] = MODES
    if subject.module is None:
        modes = (MODES[0]._replace(name="the function as given"),)
        session.skip("train mode and other weights: the model is a plain function")
    for mode in modes:
        with subject.mode(**mode.state):
            if session.enter(mode, subject.x, session.given):
                for name in session.names:
                    if name in mode.probes:
                        session.probe(name, PROBES[name])


def _run_longer(session: Session, expected: Expected, n_layers: int) -> None:
    """A leak may begin behind the length that was given."""
    names = tuple(n for n in ("perturbation", "cache") if n in session.names)
    if not names:
        return
    subject, T = session.subject, session.n_given
    beyond = f"positions beyond T = {T}"
    window = _window(subject.model)
    length = _longer(session, window)
    if length <= T:
        session.skip(f"{beyond}: the model declares no more")
        return
    try:
        matrix = expected_matrix(expected, length, n_layers)
    except ValueError:
        session.skip(f"{beyond}: expected is given for this length only")
        return
    generator = torch.Generator().manual_seed(17)
    extra = subject.drawn(len(session.row), length - T, generator)
    x = torch.cat([session.row, extra], dim=1)
    with subject.mode():
        try:
            subject(x)
        except Exception as error:  # whatever a third-party model raises
            session.skip(f"{beyond}: the model refuses them ({reason(error)})")
            return
        # Without a declared window the cache has no boundary to cross.
        if window is None or subject.adapter.step is None:
            names = tuple(name for name in names if name != "cache")
        name = f"{session.first_mode}, T = {length}"
        if names and session.enter(Mode(name, names), x, matrix):
            for probe in names:
                session.probe(probe, PROBES[probe])


def _longer(session: Session, window: int | None) -> int:
    """A length past the window, where there is one, and within the model's limit."""
    length = 2 * session.n_given + 3
    if window is not None and length <= window:
        if window > 512:
            session.skip(f"inputs longer than the declared window of {window}")
        else:
            length = window + 8
    limit = _declared(session.subject.model, _LIMITS)
    return length if limit is None else min(length, limit)


def _window(model: Any) -> int | None:
    """The window of a model that declares one."""
    return _declared(model, _WINDOWS) or _window_of(model)


def _window_of(model: Any) -> int | None:
    """The shortest window of a model that says its ``masks``; ``None``: it has none."""
    rules = [r for r in getattr(model, "masks", ()) if isinstance(r, Mask)]
    lengths = [rule.reach().behind for rule in rules]
    shortest = min(lengths, default=math.inf)
    return int(shortest) if 0 < shortest < math.inf else None


_WINDOWS = (
    "sliding_window",
    "window",
    "window_size",
    "attention_window",
    "attention_chunk_size",
    "chunk_size",
)
_LIMITS = ("max_position_embeddings", "n_positions", "max_seq_len", "context")


def _declared(model: Any, names: tuple[str, ...]) -> int | None:
    config = getattr(model, "config", None)
    values = [getattr(config, name, None) for name in names]
    return max((v for v in values if type(v) is int and v > 0), default=None)


def assert_causal(
    model: Callable[..., Any], tokens: Shaped[Tensor, "B T *features"], **options: Any
) -> None:
    """For a test file: ``AssertionError`` names the first offending pair.

    Takes the options of :func:`audit`. Fails too when nothing could be shown.
    """
    report = audit(model, tokens, **options)
    if report.ok and not report.nothing_shown:
        return
    if (first := report.first) is not None:
        head = f"{first}; probe: {first.probe}; {first.mode}"
    elif report.nothing_shown:
        head = f"nothing was shown: {report.nothing_shown}"
    else:
        head = f"expected link (query, key) = {report.missing[0]} is missing"
    raise AssertionError(f"{head}\n\n{report}")
