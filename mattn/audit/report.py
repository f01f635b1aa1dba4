"""What an audit found, in a form that a person can act on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool
from matplotlib.figure import Figure
from torch import Tensor

from mattn import plotting

__all__ = ["Leak", "Report"]


class Leak(NamedTuple):
    """One dependency that should not be there.

    ``key`` is ``None`` where the probe cannot tell a position: another row
    of the batch, the length of the input, a cache.
    """

    query: int
    key: int | None
    size: float
    probe: str
    mode: str

    def __str__(self) -> str:
        source = {
            "batch": "another row of the batch",
            "truncation": "the number of positions after it",
        }
        if self.key is not None:
            what = f"depends on key position {self.key}"
        elif self.probe in source:
            what = f"depends on {source[self.probe]}"
        else:
            what = "differs from the run without cache or padding"
        return f"query position {self.query} {what}, by {self.size:.2g}"


@dataclass
class Report:
    """The result of :func:`mattn.audit.audit`.

    It never says that a model is causal: it says what was tried, what was
    found, and what could not be said.
    """

    name: str
    expected: Bool[Tensor, "T T"]
    measured: Bool[Tensor, "T T"]
    leaks: list[Leak] = field(default_factory=list)
    missing: list[tuple[int, int]] = field(default_factory=list)
    covered: list[str] = field(default_factory=list)
    not_covered: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hygiene: list[str] = field(default_factory=list)
    strict: bool = False

    @property
    def ok(self) -> bool:
        """No leak was found (with ``strict``: and no link is missing)."""
        return not self.leaks and not (self.strict and self.missing)

    @property
    def first(self) -> Leak | None:
        """The first offending pair: the earliest query that a key is known for."""
        return min(
            self.leaks,
            key=lambda leak: (leak.key is None, leak.query, leak.key),
            default=None,
        )

    @property
    def diagnosis(self) -> str:
        """The likely class of bug, read off the pattern of leaks and missing links."""
        return diagnose(self)

    def __str__(self) -> str:
        T = len(self.expected)
        lines = [f"Causality audit of {self.name}, T = {T}", ""]
        if self.leaks:
            pairs = {(leak.query, leak.key) for leak in self.leaks}
            first, worst = self.first, self.leaks[0]
            lines += [
                f"LEAK: {len(pairs)} pair{'s' * (len(pairs) > 1)} of positions.",
                f"  first   {first}",
                f"          probe: {first.probe}; mode: {first.mode}",
                f"  worst   {worst}",
                f"          probe: {worst.probe}; mode: {worst.mode}",
                f"  likely  {self.diagnosis}",
            ]
            modes = dict.fromkeys(leak.mode for leak in self.leaks)
            probes = dict.fromkeys(leak.probe for leak in self.leaks)
            lines.append(f"  seen by {', '.join(probes)}; in {', '.join(modes)}")
        else:
            lines.append("No leak found under:")
            lines += [f"  · {what}" for what in self.covered]
        if self.missing:
            shown = ", ".join(f"({i}, {j})" for i, j in self.missing[:6])
            more = ", …" if len(self.missing) > 6 else ""
            severity = "MISSING" if self.strict else "Missing"
            lines += [
                "",
                f"{severity}: {len(self.missing)} expected links (query, key) did not "
                f"show: {shown}{more}",
            ]
            if not self.leaks and self.diagnosis:
                lines.append(f"  likely  {self.diagnosis}")
        for title, entries in (
            ("Notes", self.notes),
            ("Hygiene (not leaks)", self.hygiene),
            ("Not covered", self.not_covered),
        ):
            if entries:
                lines += ["", f"{title}:", *(f"  · {entry}" for entry in entries)]
        return "\n".join(lines)

    def plot(self) -> Figure:
        """Measured dependency matrix against the expected one."""
        return plotting.show_leaks(self.measured, self.expected, title=self.name)


def diagnose(report: Report) -> str:
    """Rules of thumb, most specific first; each names where to look."""
    T = len(report.expected)
    pairs = {(leak.query, leak.key) for leak in report.leaks}
    by_position = {(i, j) for i, j in pairs if j is not None}
    modes = {leak.mode for leak in report.leaks}
    probes = {leak.probe for leak in report.leaks}
    blocked = ~report.expected
    n_blocked = int(blocked.sum())
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    if not report.leaks:
        if not report.measured.any():
            return "the output does not depend on the input at all"
        if report.missing and not (report.measured & ~torch.eye(T).bool()).any():
            return "each position sees itself alone: no attention, or a window of 1"
        if report.missing and all(i - j == T - 1 for i, j in report.missing):
            return "a window one key too small, at this length"
        return "links are missing: a mask too strict, or a window smaller than expected"
    if "batch" in probes and not by_position:
        return "rows of the batch mix: normalisation over the batch, or a wrong reshape"
    if not by_position:
        if any(probe.startswith("cache") for probe in probes):
            return (
                "cached and uncached runs differ: position offset, a mask used only "
                "without cache, or top-left alignment of the mask"
            )
        if "truncation" in probes:
            return (
                "something is computed from the whole length: a mean, a scale, a mask"
            )
        return "padding changes real positions: padding mask or position ids"
    where = ""
    if modes and all(mode.startswith("train") for mode in modes):
        where = "; only in train mode"
    elif "train mode" in report.covered and "train mode" not in modes:
        where = "; only in eval mode"
    if all("random weights" in mode for mode in modes):
        where += "; only with randomised weights, so behind a zero or a gate"
    if all("T = " in mode for mode in modes):
        where += "; only at a longer input: a window, chunk or buffer boundary"
    lost = later & report.expected
    seen_past = report.measured & report.expected & ~torch.eye(T).bool() & ~lost
    if (by_position and not seen_past.any() and T > 2) and len(report.missing) > T:
        return "the mask is inverted: the past is hidden, the future visible" + where
    if all(j - i == 1 for i, j in by_position):
        return (
            "the mask is one diagonal too wide (k ≤ q + 1), or labels not shifted"
            + where
        )
    offsets = {i - j for i, j in by_position}
    if len(offsets) == 1 and next(iter(offsets)) > 0:
        return f"a window one key too wide: it shows keys {offsets.pop()} back" + where
    largest = max(leak.size for leak in report.leaks)
    if largest < 1e-3:
        return (
            "small but real: a finite fill instead of −∞, a leak in the denominator, "
            "or a mask after softmax" + where
        )
    if len(by_position) >= 0.95 * n_blocked:
        return (
            "no mask reaches the scores, or something mixes over time (a norm)" + where
        )
    return (
        "part of the mask is lost: one head, one layer, one document or one branch"
        + where
    )
