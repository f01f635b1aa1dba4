"""Hygiene: numbers that are not finite, and where they get to. Never a leak.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from mattn.audit.session import NotCovered, OutOfTime, Session, distance, reason
from mattn.audit.subject import preserved, tensor_of

__all__ = ["finite", "nan"]


def finite(session: Session) -> None:
    """Hygiene: finite outputs and gradients, with padding, large, in float16."""
    subject, row = session.subject, session.row
    _hears(session, "for the given input", lambda: subject.run(row))
    moved = distance(subject(row), session.with_seed(1, row))
    if (moved > 10 * session.noise).any():
        session.found.hygiene.append(f"random numbers act in {session.mode}")
    if subject.adapter.pad is not None:
        for side in session.padded():
            _attempt(session, f"finite outputs with padding ({side})", _beside(side))
    if subject.embedding is not None or not subject.is_tokens:
        for scale in (1e2, 1e4):
            _attempt(session, f"embedded inputs × {scale:g}", _scaled(scale))
    if subject.module is not None and not row.is_cuda:
        _attempt(session, "float16", _half)


def _hears(
    session: Session,
    what: str,
    forward: Callable[[], Tensor],
    real: Tensor | None = None,
) -> None:
    """Notes outputs, or gradients of the ``real`` ones, that are not finite."""
    session.tick()
    with torch.enable_grad():
        out = forward()
        seen = out if real is None else out[real]
        if not out.isfinite().all():
            session.found.hygiene.append(f"outputs not finite {what}")
        module = session.subject.module
        weights = () if module is None else module.parameters()
        leaves = [p for p in weights if p.requires_grad]
        if not seen.requires_grad or not leaves or not seen.isfinite().all():
            return
        gradients = torch.autograd.grad(seen.float().mean(), leaves, allow_unused=True)
        if not all(g is None or g.isfinite().all() for g in gradients):
            session.found.hygiene.append(
                f"gradients not finite {what}, though the outputs scored are"
            )


def _beside(side: str) -> Callable[[Session], None]:
    """With padding on this side."""

    def do(session: Session) -> None:
        x, real = session.padded()[side]
        _hears(
            session, f"with padding on the {side}", lambda: _run(session, x, real), real
        )

    return do


def _scaled(scale: float) -> Callable[[Session], None]:
    """With features, or embedded tokens, times ``scale``."""

    def do(session: Session) -> None:
        subject, row = session.subject, session.row

        def run() -> Tensor:
            if not subject.is_tokens:
                return subject.run(row * scale)
            with subject.embedded(lambda embedded: embedded * scale):
                return subject.run(row)

        _hears(session, f"for inputs × {scale:g}", run)

    return do


def _half(session: Session) -> None:
    """In float16, without padding and with it."""
    subject = session.subject
    assert subject.module is not None
    with preserved(subject.module):
        subject.module.half()
        x = session.row if subject.is_tokens else session.row.half()
        _hears(session, "in float16", lambda: subject.run(x))
        if subject.adapter.pad is None or not subject.is_tokens:
            return
        for side, (x, real) in session.padded().items():
            if not _run(session, x, real)[real].isfinite().all():
                session.found.hygiene.append(
                    f"outputs not finite in float16 with padding on the {side}"
                )


def _run(session: Session, x: Tensor, real: Tensor) -> Tensor:
    """The output of a padded batch, as the adapter calls it."""
    pad = session.subject.adapter.pad
    assert pad is not None
    return tensor_of(pad(session.subject.model, x, real), *x.shape[:2])


def _attempt(session: Session, what: str, do: Callable[[Session], None]) -> None:
    try:
        do(session)
    except OutOfTime:
        raise
    except Exception as error:  # many operators lack float16 on a CPU
        session.skip(f"{what}: {reason(error)}")


def nan(session: Session) -> None:
    """Hygiene: NaN at the last position; does it reach earlier outputs?

    Dense attention multiplies the blocked NaN by 0, which is NaN: a matter
    of hygiene (padding, unused cache slots), never counted as a leak.
    """
    subject = session.subject
    if session.expected[:, :-1, -1].any():
        raise NotCovered("other outputs may depend on the last position")
    if subject.is_tokens and subject.embedding is None:
        raise NotCovered("no embedding module takes the tokens")

    def poison(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, -1] = torch.nan
        return x

    if subject.is_tokens:
        with subject.embedded(poison):
            out = subject(session.row)
    else:
        out = subject(poison(session.row))
    reached = out[0, :-1].isnan().any(dim=-1).sum()
    if reached:
        session.found.hygiene.append(
            f"a NaN at the last position reaches {int(reached)} earlier outputs "
            "(0·NaN = NaN in a dense product)"
        )
