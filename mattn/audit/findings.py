"""What an audit has found so far, and the report that is made of it.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool
from torch import Tensor

from mattn.audit.report import Leak, Report

__all__ = ["HIDDEN", "Findings"]

HIDDEN = "perturbation of all hidden keys"
"""The probe of a leak whose key is not known: something moved, not which part."""


class Findings:
    """Leaks and remarks of every mode, beside what was expected and measured."""

    def __init__(self, expected: Bool[Tensor, "R T T"], asked: list[str]):
        self.given, self.asked = expected, asked
        self.hygiene: list[str] = []
        self.leaks: dict[tuple[int, int | None, str, str], Leak] = {}
        self.covered: dict[str, list[str]] = {}
        """Mode → the probes that ran to their end in it."""
        self._notes: dict[str, None] = {}
        self._rounding: dict[str, float] = {}
        self._skipped: dict[str, None] = {}
        self._matrices: dict[int, tuple[Tensor, Tensor]] = {}
        self._left_out: dict[str, list[str]] = {}

    def measured(self, expected: Bool[Tensor, "R T T"]) -> Bool[Tensor, "T T"]:
        """The matrix of links seen at this length, to be filled in."""
        T = expected.shape[-1]
        if T not in self._matrices:
            nothing = torch.zeros(T, T, dtype=torch.bool)
            self._matrices[T] = expected.any(dim=0), nothing
        return self._matrices[T][1]

    def leak(self, new: Leak) -> None:
        """Add a finding; of several sizes of one pair keep the largest."""
        place = (new.query, new.key, new.probe, new.mode)
        old = self.leaks.get(place, new)
        self.leaks[place] = max(old, new, key=lambda leak: leak.size)

    def rounding(self, mode: str, size: float) -> None:
        """A difference of this size was there and shrank with the precision."""
        self._rounding[mode] = max(self._rounding.get(mode, 0.0), size)

    def note(self, text: str) -> None:
        self._notes[text] = None

    def forget_notes(self, mode: str) -> None:
        """Those of a mode, where a better one is to replace them."""
        self._notes = {note: None for note in self._notes if mode not in note}

    def skip(self, text: str) -> None:
        self._skipped[text] = None

    def left_out(self, mode: str, probe: str) -> None:
        """The time was over before the probe was."""
        self._left_out.setdefault(mode, []).append(probe)

    def report(
        self,
        name: str,
        given: Tensor,
        *,
        first_mode: str,
        budget: float | None,
        strict: bool,
    ) -> Report:
        """All of it, of the model of this name and the input that was given."""
        B, T = given.shape[:2]
        self._remark(budget)
        self.skip(f"inputs other than those drawn from the given one, B = {B}, T = {T}")
        expected, measured = self._shown(T)
        covered = [f"{m}: {', '.join(n)}" for m, n in self.covered.items() if n]
        return Report(
            name=name,
            expected=expected,
            measured=measured,
            leaks=self._sorted(),
            missing=self._missing(T, first_mode),
            covered=covered,
            not_covered=list(self._skipped),
            notes=list(self._notes),
            hygiene=self.hygiene,
            nothing_shown=self._nothing_shown(bool(covered)),
            strict=strict,
        )

    def _remark(self, budget: float | None) -> None:
        """What is known only when all modes are done."""
        for mode, size in self._rounding.items():
            self.note(
                f"rounding: differences up to {size:.1g} in {mode} shrank with the "
                "precision and are not counted"
            )
        for mode, names in self._left_out.items():
            self.skip(
                f"{', '.join(names)} in {mode}, or a part: the budget of "
                f"{budget:g} s was used up"
            )

    def _sorted(self) -> list[Leak]:
        """Worst first; of a query whose keys are known, those alone."""
        known = {leak.query for leak in self.leaks.values() if leak.key is not None}
        return sorted(
            (
                leak
                for leak in self.leaks.values()
                if leak.probe != HIDDEN or leak.query not in known
            ),
            # Sizes under enlarged weights do not compare with the others.
            key=lambda leak: ("weights ×" in leak.mode, -leak.size),
        )

    def _at(self, T: int) -> tuple[Tensor, Tensor]:
        """Expected and measured at the given length, if no mode began too."""
        nothing = torch.zeros(T, T, dtype=torch.bool)
        return self._matrices.get(T, (self.given.any(dim=0), nothing))

    def _shown(self, T: int) -> tuple[Tensor, Tensor]:
        """The pair of matrices to show: a leak is shown where it begins."""
        expected, measured = self._at(T)
        if not (measured & ~expected).any():
            for length, (e, m) in self._matrices.items():
                if length > T and (m & ~e).any():
                    return e, m
        return expected, measured

    def _missing(self, T: int, first_mode: str) -> list[tuple[int, int]]:
        """Links (query, key) that are expected and did not show."""
        if "perturbation" not in self.covered.get(first_mode, ()):
            return []
        expected, measured = self._at(T)
        return [(int(i), int(j)) for i, j in (expected & ~measured).nonzero()]

    def _nothing_shown(self, anything: bool) -> str:
        if self.leaks:
            return ""
        if not anything:
            return "no probe ran to its end"
        moves = {"perturbation", "jacobian"} & set(self.asked)
        if moves and not any(m.any() for _, m in self._matrices.values()):
            return (
                "the output did not move for any change of the input: it is constant, "
                "or not the output that was meant"
            )
        return ""
