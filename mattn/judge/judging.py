"""Right, named or wrong: measures first, names second.

A room of the judge, which exercises of chapters 3 and 4 put to work.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mattn.judge.formulas import (
    Case,
    Option,
    Slips,
    added,
    combined,
    filled,
    slips,
)
from mattn.judge.measured import Measured
from mattn.judge.probes import Probe, agrees, allowed_for, probes
from mattn.judge.subject import CouldNotRun, Subject
from mattn.masks import Mask

__all__ = ["Answer", "Trial", "explanations", "handed", "rounded", "suggested", "tried"]

EXACT, SINGLE = 1e-11, 2e-5
FINITE = Option("", filled(-1e9))
BASE = ("plain", "long", "scores of exactly 0")


@dataclass(frozen=True)
class Answer:
    """What came back for a probe, and what the formula makes of it."""

    probe: Probe
    case: Case
    outs: list[Tensor]
    inputs: tuple[Tensor, ...]
    handed: Tensor
    """The mask as it was handed over, to who takes one."""

    def agrees(self, which: Slips, tolerance: float) -> bool:
        """Whether these slips, and nothing else, give what came back."""
        axes = {axis for axis, _ in which}
        variants = [which]
        if "softmax" in axes and "hidden" not in axes:
            # Over another axis a column may be all hidden: a finite fill shows there.
            variants.append((*which, ("hidden", FINITE)))
        for case in self.cases:
            for variant in variants:
                found = combined(case, variant)
                if found and any(agrees(o, *found, tolerance) for o in self.outs):
                    return True
        return False

    @property
    def cases(self) -> list[Case]:
        """As asked; and for fewer queries than keys, aligned top-left."""
        Tq, Tk = self.probe.q.shape[-2], self.probe.k.shape[-2]
        if Tq == Tk:
            return [self.case]
        return [self.case, replace(self.case, top_left=True)]


@dataclass
class Trial:
    """One way of calling a function, and all of its answers."""

    subject: Subject
    answers: dict[int, dict[str, Answer]] = field(default_factory=dict)
    failed: list[tuple[Probe, str]] = field(default_factory=list)
    tolerance: float = EXACT

    @property
    def right(self) -> int | None:
        """The number of axes for which every plain answer is right."""
        for rank, found in self.answers.items():
            base = [found[name] for name in BASE if name in found]
            if base and all(a.agrees((), self.tolerance) for a in base):
                return rank
        return None

    @property
    def all(self) -> list[Answer]:
        """Every answer but those with fewer heads of keys, the plain ones first."""
        return [
            answer
            for found in self.answers.values()
            for name, answer in found.items()
            if name != "fewer heads of keys"
        ]


def tried(subject: Subject, mask: Mask | None, axes: int | None = None) -> Trial:
    """Everything asked, in three axes and four; in two where neither works."""
    trial = Trial(subject)
    for rank in (3, 4, 2) if axes is None else (axes,):
        if axes is None and rank == 2 and trial.answers:
            break
        found = {}
        for probe in probes(rank, mask):
            allowed = allowed_for(mask, probe.q, probe.k)
            try:
                inputs, mask_given = (probe.q, probe.k, probe.v), handed(allowed)
                outs = subject(*inputs, mask=mask_given)
            except CouldNotRun as error:
                trial.failed.append((probe, str(error)))
                continue
            merged = rank == 4 and all(t.ndim == 3 for t in outs[:1])
            square = allowed_for(mask, probe.k, probe.k)
            if len(square) and square.ndim == 4:
                square = square[:, :1].expand(-1, probe.q.shape[1], -1, -1)
            case = Case(probe.q, probe.k, probe.v, square, merged=merged)
            found[probe.name] = Answer(probe, case, outs, inputs, mask_given)
        if any(name in found for name in BASE):
            trial.answers[rank] = found
    if subject.dtype != torch.float64:
        trial.tolerance = SINGLE
    return trial


def handed(allowed: Tensor) -> Tensor:
    """A mask as it is handed over: one for all heads, (B, 1, Tq, Tk)."""
    return allowed[:, :1].contiguous() if allowed.ndim == 4 else allowed


def suggested(found: Measured) -> dict[str, list[Option]]:
    """Choices that the measured numbers suggest."""
    more: dict[str, list[Option]] = {}
    factors = [*found.factors.values()]
    if len(factors) == 2 and abs(factors[0] - factors[1]) < 1e-6:
        factor = factors[0]
        if abs(factor - 1) > 1e-6:
            scale = Option("scaled by a constant", lambda c, q, k: (factor, 1.0))
            more["scale"] = [scale]
    fills = []
    if found.hidden is not None and abs(found.hidden) < 1e6:
        fills.append(Option(_fill_name(found.hidden), filled(found.hidden)))
    if found.shift and abs(found.shift + 1) > 1e-6 and abs(found.shift) < 1e6:
        fills.append(Option(_fill_name(found.shift), added(found.shift)))
    more["hidden"] = fills
    return more


def _fill_name(value: float) -> str:
    if 0 < abs(value) < 1e-3:
        return "tiny fill"
    if value <= -3:
        return "weak fill"
    if value >= 20:
        return "large positive fill"
    return f"fill of {value:.3g}"


def explanations(
    answers: list[Answer],
    tolerance: float,
    more: dict[str, list[Option]],
    counts: tuple[int, ...] = (1, 2),
) -> list[str]:
    """The fewest slips, of these counts, that give every answer; several cannot be
    told apart."""
    first, rest = answers[0], answers[1:]
    for n in counts:
        names = [
            " and ".join(option.name for _, option in which)
            for which in slips(n, first.case, more)
            if all(a.agrees(which, tolerance) for a in (first, *rest))
        ]
        if names:
            return list(dict.fromkeys(names))
    return []


def rounded(trial: Trial) -> bool:
    """Whether a change far below single precision moves next to nothing."""
    answer = trial.all[0]
    first, *others = answer.inputs
    with contextlib.suppress(CouldNotRun):
        moved = trial.subject(first * (1 + 1e-10), *others, mask=answer.handed)[0]
        same = moved == answer.outs[0]
        return bool(same[..., 1:, :].double().mean() > 0.5)
    return False
