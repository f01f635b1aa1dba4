"""What an audit found, in a form that a person can act on.

A room of the auditor, which chapter 9 puts to work.
"""

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
        if self.key is not None:
            what = f"depends on key position {self.key}"
        elif self.probe.startswith("cache"):
            what = "differs between cached and uncached runs"
        elif self.probe.startswith("padding"):
            what = "differs between padded and unpadded runs"
        else:
            source = {
                "batch": "another row of the batch",
                "truncation": "how many positions follow",
                "packed": "another document of its row",
            }
            hidden = "positions hidden from it, when all of them change"
            what = f"depends on {source.get(self.probe, hidden)}"
        return f"query position {self.query} {what}, by {self.size:.2g}"


@dataclass
class Report:
    """The result of :func:`mattn.audit.audit`.

    It never says that a model is causal: it says what was tried, what was
    found, and what could not be said.
    """

    name: str
    expected: Bool[Tensor, "Q K"]
    measured: Bool[Tensor, "Q K"]
    leaks: list[Leak] = field(default_factory=list)
    """Worst first."""
    missing: list[tuple[int, int]] = field(default_factory=list)
    """Links (query, key) that ``expected`` has and the model lacks."""
    covered: list[str] = field(default_factory=list)
    not_covered: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    hygiene: list[str] = field(default_factory=list)
    nothing_shown: str = ""
    """Why the audit shows nothing at all; empty when it shows something."""
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
        lines = [f"Causality audit of {self.name}, T = {len(self.expected)}", ""]
        first = self.first
        if first is not None:
            n_pairs = int((self.measured & ~self.expected).sum())
            queries = {leak.query for leak in self.leaks}
            worst = self.leaks[0]
            modes = dict.fromkeys(leak.mode for leak in self.leaks)
            probes = dict.fromkeys(leak.probe for leak in self.leaks)
            count = (
                f"{n_pairs} pair{'s' * (n_pairs > 1)} of positions"
                if n_pairs
                else f"{len(queries)} query position{'s' * (len(queries) > 1)}"
            )
            lines += [
                f"LEAK: {count}.",
                f"  first   {first}",
                f"          probe: {first.probe}; mode: {first.mode}",
                f"  worst   {worst}",
                f"          probe: {worst.probe}; mode: {worst.mode}",
                f"  likely  {self.diagnosis}",
                f"  seen by {', '.join(probes)}",
                f"  in      {'; '.join(modes)}",
            ]
        elif self.nothing_shown:
            lines.append(f"NOTHING SHOWN: {self.nothing_shown}.")
        else:
            lines.append("No leak found under:")
            lines += [f"  · {what}" for what in self.covered]
        if self.missing and not self.nothing_shown:
            shown = ", ".join(f"({i}, {j})" for i, j in self.missing[:6])
            more = ", …" if len(self.missing) > 6 else ""
            lines += [
                "",
                f"{'MISSING' if self.strict else 'Missing'}: {len(self.missing)} "
                f"expected links (query, key) did not show: {shown}{more}",
            ]
            if not self.leaks:
                lines.append(f"  likely  {self.diagnosis}")
        return "\n".join(lines + self._remarks())

    def _remarks(self) -> list[str]:
        lines = []
        for title, entries in (
            ("Notes", self.notes),
            ("Hygiene (not leaks)", self.hygiene),
            ("Not covered", self.not_covered),
        ):
            if entries:
                lines += ["", f"{title}:", *(f"  · {entry}" for entry in entries)]
        return lines

    def plot(self) -> Figure:
        """Measured dependency matrix against the expected one."""
        return plotting.show_leaks(self.measured, self.expected, title=self.name)


def diagnose(report: Report) -> str:
    """Rules of thumb, most specific first; each names where to look."""
    if not report.leaks:
        return _of_missing(report) if report.missing else ""
    probes = {leak.probe for leak in report.leaks}
    by_position = [leak for leak in report.leaks if leak.key is not None]
    if "batch" in probes:
        what = "rows of the batch mix: normalisation over the batch, or a wrong reshape"
    elif not by_position:
        what = _of_runs(probes)
    else:
        what = _of_pairs(report, by_position)
    return what + _where(report)


def _of_missing(report: Report) -> str:
    T = len(report.expected)
    others = ~torch.eye(T, dtype=torch.bool)
    absent = report.expected & ~report.measured
    if not report.measured.any():
        return "the output does not depend on the input at all"
    if not (report.measured & others).any():
        return "each position sees itself alone: no attention, or a window of 1"
    if absent.any() and not (absent & others).any():
        return "no position sees itself: k < q instead of k <= q, without a residual"
    lengths = {i - j for i, j in absent.nonzero().tolist()}
    if min(lengths) > 0 and all(
        report.expected.diagonal(-d).equal(absent.diagonal(-d)) for d in lengths
    ):
        return f"a window that shows the last {min(lengths)} positions only"
    return "a mask too strict: a row, a document, a head, or a window too small"


def _of_runs(probes: set[str]) -> str:
    """No position to name: what two runs that should agree differ in."""
    cache = {probe.removeprefix("cache, ") for probe in probes if "cache" in probe}
    if cache and all("chunk" in split for split in cache):
        return (
            "a chunk read through the cache sees too much or too little: the mask's "
            "alignment or offset, or a state that the second chunk starts without"
        )
    if cache:
        return (
            "cached and uncached runs differ: the positions of cached steps, the "
            "mask's offset, or a rule (a window) that only one of them applies"
        )
    if "packed" in probes:
        return (
            "documents of a row see each other, or their positions are not counted "
            "from the start of each"
        )
    padding = sorted(probe.removeprefix("padding, ") for probe in probes)
    if any("padding" in probe for probe in probes):
        if padding == ["left"]:
            return (
                "padding on the left changes real positions: position ids that count "
                "the padding, or a padding mask on the wrong axis"
            )
        return "padding changes real positions: the padding mask, or positions"
    if "truncation" in probes:
        return "something is computed from the whole length: a mean, a scale, a mask"
    return "several hidden positions act together: a threshold, a rounding, a count"


def _of_pairs(report: Report, leaks: list[Leak]) -> str:
    T = len(report.expected)
    pairs = report.measured & ~report.expected
    expected = report.expected
    past = torch.ones(T, T, dtype=torch.bool).tril(-1) & expected
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    modes = {leak.mode for leak in leaks}
    if all("weights ×" in mode for mode in modes):
        return "a finite fill instead of −∞: large scores get past it"
    if past.any() and not (report.measured & past).any():
        return "the mask is inverted: the past is hidden, the future visible"
    if diagonals := _of_diagonals(pairs):
        return diagonals
    if max(leak.size for leak in leaks if "weights ×" not in leak.mode) < 1e-3:
        return (
            "small but real: a finite fill instead of −∞, or a mask after softmax "
            "(blocked keys still count in the sum)"
        )
    probes = {leak.probe for leak in report.leaks}
    gradient = any("jacobian" in what for what in report.covered)
    blind = "; no gradient carries it: rounding, top-k, detach" if gradient else ""
    blind = "" if "jacobian" in probes or all("train" in m for m in modes) else blind
    if (pairs | expected | ~later).all():
        return (
            "every later position is seen: no mask reaches the scores, it comes after "
            "softmax, or something mixes over time (a norm, a mean)" + blind
        )
    keys = pairs.any(dim=0).nonzero().flatten().tolist()
    queries = pairs.any(dim=1).nonzero().flatten().tolist()
    if len(keys) <= T // 4 and (pairs | expected)[:, keys].all():
        return f"a few keys are seen by all (first: key {keys[0]}): padding, a prefix"
    if queries[0] > 0:
        return f"from query {queries[0]} on: a boundary of a chunk, buffer or window"
    return "part of the mask is lost: one head, one layer or one branch" + blind


def _of_diagonals(pairs: Tensor) -> str:
    """The bug that whole diagonals, or pairs in the past alone, tell of."""
    T, offsets = len(pairs), {j - i for i, j in pairs.nonzero().tolist()}
    if not offsets:
        return ""
    n, whole = len(offsets), all(pairs.diagonal(d).all() for d in offsets)
    if whole and offsets == set(range(1, n + 1)) and n < T - 1:
        return f"{n} diagonal{'s' * (n > 1)} too many over all layers: k <= q + 1"
    if whole and max(offsets) < 0:
        return f"a window {n} key{'s' * (n > 1)} too wide over all layers: q − k <= w"
    if max(offsets) < 0:
        return (
            "documents of a row see each other: a causal mask without a document mask"
        )
    return ""


def _where(report: Report) -> str:
    modes = {leak.mode for leak in report.leaks}
    covered = " ".join(report.covered)
    where = ""
    if all(mode.startswith("train") for mode in modes):
        where = "; only in train mode"
    elif "train mode: perturbation" in covered and not any(
        mode.startswith("train") for mode in modes
    ):
        shown = {leak.mode for leak in report.leaks if leak.key is not None}
        if "eval mode" in shown:
            where = "; only in eval mode"
    if all("random weights" in mode for mode in modes):
        where += "; only with randomised weights, so behind a zero or a gate"
    if all("T = " in mode for mode in modes):
        where += "; only at a longer input: a boundary of a window, chunk or buffer"
    return where
