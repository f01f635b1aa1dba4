"""What is asked of the judge: about a function or a module of (q, k, v), or of x.

A room of the judge, which exercises of chapters 3 and 4 put to work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mattn.judge.formulas import Case, combined
from mattn.judge.judging import (
    BASE,
    SINGLE,
    Answer,
    Trial,
    explanations,
    handed,
    rounded,
    suggested,
    tried,
)
from mattn.judge.manners import manners
from mattn.judge.measured import limits, measure
from mattn.judge.modules import of_x
from mattn.judge.probes import Probe, agrees, allowed_for
from mattn.judge.subject import FORMS, CouldNotRun, Subject
from mattn.judge.verdict import Kind, Verdict
from mattn.masks import Mask, causal

__all__ = ["attention"]

Layout = Literal["BHTD", "BTHD"]


# Long because: half of it says what may be judged, and how.
def attention(
    function: Callable[..., Any],
    *,
    mask: Mask | None = causal,
    layout: Layout | None = None,
    axes: int | None = None,
    seconds: float = 10.0,
) -> Verdict:
    """Judge somebody's attention, a function or module of (q, k, v), or a module
    of x, against softmax(QKᵀ/√d_k + Mask)·V.

    ``mask`` is the rule that it is to follow, ``None``: everything may be seen. A
    function with an argument for a mask is handed that rule as a matrix, in the
    form that it takes; any other is expected to build its own. ``layout`` says
    how four axes stand; by default both ways are tried. ``axes`` is how many its
    tensors have, 2, 3 or 4; by default 3 and 4 are asked, and 2 where neither
    runs. A call that takes longer than ``seconds`` counts as one that could not
    run.

    Conventions are not mistakes: they are noted. The input comes back unchanged,
    and so do modules and random states.

    >>> def no_scale(q, k, v):
    ...     later = torch.ones(q.shape[-2], k.shape[-2]).triu(1) == 1
    ...     scores = (q @ k.mT).masked_fill(later, -torch.inf)
    ...     return scores.softmax(-1) @ v
    >>> print(attention(no_scale))
    no_scale: named. no scale
      for T = 2, d = 4, q₁ = k₁ = (1, 0, 0, 0), else 0, and v = (1, 2): it gives \
1, 1.731; right is 1, 1.622
      measured: the factor on the scores is not 1/√d: measured 1 for d = 4 and 1 \
for d = 16
      note: judged with 3 and 4 axes

    Raises ``ValueError`` for what cannot be called with (q, k, v) or x.
    """
    if axes not in (None, 2, 3, 4):
        raise ValueError(f"expected axes 2, 3 or 4; got {axes!r}.")
    if not callable(function):
        raise ValueError(
            "expected a function or module of (q, k, v), or a module of x; got "
            f"{type(function).__name__}."
        )
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, nn.Module):
        subject = Subject(function, layout="BHTD", seconds=seconds)
        if subject.of_x:
            return of_x(name, subject, mask)
    trials = []
    for how in [layout] if layout else ["BHTD", "BTHD"]:
        for form in FORMS:
            subject = Subject(function, layout=how, seconds=seconds)
            subject.form = form
            trial = tried(subject, mask, axes)
            trials.append(trial)
            if trial.right or not subject.takes_mask or mask is None:
                break
        if trials[-1].right:
            break
    ran = [trial for trial in trials if trial.answers]
    if not ran:
        return _could_not(name, trials[0])
    right = [trial for trial in ran if trial.right]
    trial = (right or ran)[0]
    _loosen(trial)
    if trial.right:
        return _of_right(name, trial, mask)
    return _of_wrong(name, trial, mask)


def _could_not(name: str, trial: Trial) -> Verdict:
    said = [f"{p.said}: {why}" for p, why in trial.failed if p.name == "plain"]
    return Verdict(name, "could not run", measured=tuple(dict.fromkeys(said)))


def _loosen(trial: Trial) -> None:
    """Single precision inside shows in outputs that a tiny change does not move."""
    if trial.tolerance < SINGLE and rounded(trial):
        trial.tolerance = SINGLE


def _of_right(name: str, trial: Trial, mask: Mask | None) -> Verdict:
    """Right where it was asked; does it stay so?"""
    rank = trial.right or 3
    notes = _conventions(trial, mask)
    slip = manners(trial) or _shared(trial.answers, trial.tolerance)
    if slip:
        return Verdict(name, "named", (slip,), notes=tuple(notes))
    broken = limits(_caller(trial, mask), rank, mask)
    kind: Kind = "right, with limits" if broken else "right"
    return Verdict(name, kind, notes=(*broken, *notes))


def _shared(answers: dict[int, dict[str, Answer]], tolerance: float) -> str | None:
    """What it does where queries have more heads than keys."""
    answer = answers.get(4, {}).get("fewer heads of keys")
    if answer is None or answer.agrees((), tolerance):
        return None
    said = explanations([answer], tolerance, {}, (1,))
    return "repeat for interleave" if "repeat for interleave" in said else None


def _conventions(trial: Trial, mask: Mask | None) -> list[str]:
    subject, rank = trial.subject, trial.right or 3
    notes = []
    if subject.takes_mask and mask is not None and subject.form != "True = may attend":
        notes.append(f"its mask means: {subject.form}")
    if subject.layout == "BTHD":
        notes.append("its four axes are (B, T, H, D)")
    if subject.dtype != torch.float64:
        notes.append(f"it computes in {str(subject.dtype).removeprefix('torch.')}")
    others = [r for r in trial.answers if r != rank]
    notes += [
        f"judged with {rank} axes; with {r} it gives something else"
        for r in others
        if not all(
            a.agrees((), trial.tolerance)
            for n, a in trial.answers[r].items()
            if n in BASE
        )
    ]
    cache = trial.answers[rank].get("cache")
    if cache and mask is not None:
        rights = [combined(case) for case in cache.cases]
        bottom, top = (
            right is not None
            and any(agrees(o, *right, trial.tolerance) for o in cache.outs)
            for right in rights
        )
        if top and not bottom:
            notes.append("fewer queries than keys are aligned top-left")
        elif not bottom:
            notes.append("fewer queries than keys: it gives something else")
    notes += [
        f"did not run with {p.said}: {why}"
        for p, why in trial.failed
        if p.rank == rank and p.name in ("plain", "long")
    ]
    return notes


def _caller(trial: Trial, mask: Mask | None) -> Callable[..., Tensor]:
    """The function of (q, k, v) alone: its output, with the mask handed over."""

    def call(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        allowed = allowed_for(mask, q, k)
        outs = trial.subject(q, k, v, mask=handed(allowed))
        shape = (*q.shape[:-1], v.shape[-1])
        fitting = [t for t in outs if t.shape == shape]
        if not fitting and q.ndim == 4:  # heads that came back side by side
            merged = [
                t
                for t in outs
                if t.shape == (len(q), q.shape[2], v.shape[-1] * q.shape[1])
            ]
            fitting = [
                t.unflatten(-1, (q.shape[1], -1)).transpose(1, 2) for t in merged
            ]
        if not fitting:
            raise CouldNotRun(f"no output of shape {shape}")
        return fitting[0]

    return call


def _of_wrong(name: str, trial: Trial, mask: Mask | None) -> Verdict:
    subject, rank = trial.subject, min(trial.answers, key=lambda r: abs(r - 3.1))
    call = _caller(trial, mask)
    slip = manners(trial)
    if slip and slip != "mask kept from the first call":
        return Verdict(name, "named", (slip,), notes=tuple(_form_notes(trial)))
    plain: Probe = trial.all[0].probe
    found = measure(call, rank, mask, plain)
    names = explanations(trial.all, max(trial.tolerance, 1e-9), suggested(found))
    case = smallest_case(call, rank, mask)
    if (
        subject.is_module
        and names == ["mask forgotten"]
        and _right_in_train(trial, mask)
    ):
        names = ["no mask in eval()"]
    if not names and _is_half(trial):
        names = ["half precision inside"]
    kind: Kind = "named" if names else "wrong"
    return Verdict(
        name, kind, tuple(names), case, tuple(found.says), tuple(_form_notes(trial))
    )


def _form_notes(trial: Trial) -> list[str]:
    axes = sorted(trial.answers)
    return [f"judged with {' and '.join(map(str, axes))} axes"]


def _right_in_train(trial: Trial, mask: Mask | None) -> bool:
    old = trial.subject
    subject = Subject(old.function, layout=old.layout, seconds=old.seconds)
    subject.form, subject.training = old.form, True
    return bool(tried(subject, mask).right)


def _is_half(trial: Trial) -> bool:
    """Near the right answer, and moved in steps alone."""
    near = all(answer.agrees((), 3e-3) for answer in trial.all)
    return near and rounded(trial)


def smallest_case(call: Callable[..., Tensor], rank: int, mask: Mask | None) -> str:
    """The smallest of a few cases in which it differs, in words."""
    e, zero = (1.0, 0.0, 0.0, 0.0), (0.0,) * 4
    ladder = [
        ("T = 1, q = k = 0 and v = 1", [zero], [zero], [1.0]),
        ("T = 2, q = k = 0 and v = (1, 2)", [zero] * 2, [zero] * 2, [1.0, 2.0]),
        (
            "T = 2, d = 4, q₁ = k₁ = (1, 0, 0, 0), else 0, and v = (1, 2)",
            [zero, e],
            [zero, e],
            [1.0, 2.0],
        ),
        (
            "T = 3, d = 4, q = (0, 1, 2) and k = (2, 0, 1) in their first feature, "
            "else 0, and v = (1, 2, 4)",
            [zero, e, (2.0, 0.0, 0.0, 0.0)],
            [(2.0, 0.0, 0.0, 0.0), zero, e],
            [1.0, 2.0, 4.0],
        ),
    ]
    for words, *rows in ladder:
        q, k = (torch.tensor(r, dtype=torch.float64) for r in rows[:2])
        v = torch.tensor(rows[2], dtype=torch.float64)[:, None].expand(-1, 4)
        batch = (1,) * (rank - 2)
        if rank > 2 and mask is not None and mask.batch is not None:
            batch = (mask.batch, *batch[1:])
        q, k, v = (t.expand(*batch, *t.shape).contiguous() for t in (q, k, v))
        right = combined(Case(q, k, v, allowed_for(mask, k, k)))
        assert right is not None  # the formula itself always runs
        with contextlib.suppress(CouldNotRun, RuntimeError, IndexError):
            out = call(q, k, v)
            got, exact = out[..., 0], right[0][..., 0]
            if not agrees(got, exact, right[1][..., 0], 1e-6):
                row = _first_row(got, exact)
                return f"for {words}: it gives {row[0]}; right is {row[1]}"
    return ""


def _first_row(got: Tensor, exact: Tensor) -> tuple[str, str]:
    a, b = got.reshape(-1, got.shape[-1]), exact.reshape(-1, exact.shape[-1])
    for x, y in zip(a, b, strict=True):
        if not torch.allclose(x, y, rtol=1e-6, atol=1e-9):
            return _numbers(x), _numbers(y)
    return _numbers(a[0]), _numbers(b[0])


def _numbers(t: Tensor) -> str:
    return ", ".join(f"{n:.4g}" for n in t.tolist())
