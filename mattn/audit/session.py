"""An audit in progress: the mode it is in, and the runs that a probe asks for.

A probe is given the session, runs the model through it, and tells it what was
seen. What it cannot say it raises as :class:`NotCovered`.

A room of the auditor, which chapter 9 puts to work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

from mattn.audit.findings import Findings
from mattn.audit.report import Leak, Report
from mattn.audit.subject import Subject
from mattn.checks import TOLERANCE

__all__ = ["Call", "Mode", "NotCovered", "OutOfTime", "Session"]

STACK = 16  # changed copies of the input that share one forward pass
STACK_NUMBERS = 2**24  # outputs that such a pass may hold
SHRINKS = 1e-3  # a float64 difference this much smaller is rounding
PADS = 3  # positions of padding that are added

Call = Callable[[Tensor], Tensor]
"""The model as a function of its input: (B, T) or (B, T, C) → (B, T, features)."""


class NotCovered(Exception):
    """What a probe cannot say about this model, in words."""


class OutOfTime(NotCovered):
    """The time budget was used up."""


class Mode(NamedTuple):
    """A state of the model, and the probes that have something to say in it."""

    name: str
    probes: tuple[str, ...]
    state: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default, never changed
    scales: tuple[float, ...] = (1.0,)
    thorough: bool = False
    drawn: int = 0


class Session:
    """An audit in progress: the mode it is in, its runs, and its findings."""

    mode: str
    expected: Bool[Tensor, "R T T"]
    measured: Bool[Tensor, "T T"]
    """Links seen so far at this length."""
    thorough: bool
    """Whether every position is changed by itself, leak or not."""
    coarse: bool
    """Whether a few of the queries suffice."""
    is_training: bool
    is_double: bool
    scales: tuple[float, ...]
    length: int
    rows: tuple[Tensor, ...]
    """The inputs that are changed in turn, each (1 or B, T, …)."""
    row: Tensor
    """The first of them."""
    unchanged: dict[tuple[int, int], Tensor]
    """(copies, number of the row) → its output, unchanged."""
    size: float
    """The largest output, at least 1: what tolerances are multiplied by."""
    noise: float
    """How far two identical runs differ."""
    copies: int
    """Changed copies of a row that may share a pass."""
    mixing: Tensor | None
    """How far outputs (T,) move with other rows of the batch; ``None``: unknown."""

    def __init__(
        self,
        subject: Subject,
        expected: Bool[Tensor, "R T T"],
        names: list[str],
        budget: float | None,
    ):
        self.subject, self.names, self.given = subject, names, expected
        self.found = Findings(expected, names)
        self.n_given = expected.shape[-1]
        self._reference: Tensor | None = None
        self._budget = budget
        self._deadline = None if budget is None else time.monotonic() + budget
        self._bar: Any = nullcontext()

    def __enter__(self) -> Session:
        try:
            from tqdm import tqdm
        except ImportError:  # the bar is a comfort, not a need
            return self
        silent = os.environ.get("MATTN_PROGRESS") == "0"
        self._bar = tqdm(
            desc="audit", unit=" runs", delay=2, disable=silent, leave=False
        )
        return self

    def __exit__(self, *error: object) -> None:
        if hasattr(self._bar, "close"):
            self._bar.close()

    def enter(self, mode: Mode, x: Tensor, expected: Bool[Tensor, "R T T"]) -> bool:
        """Begin a mode; ``False`` when its outputs cannot say anything."""
        self.mode, self.expected = mode.name, expected
        self.thorough = mode.thorough
        # Tokens have no scale: another try is another draw, and two suffice.
        few = mode.thorough and self.subject.is_tokens
        self.scales = mode.scales[: 2 if few else None]
        self.coarse = mode.drawn > 0
        self.is_training = mode.state.get("train", False)
        self.length = x.shape[1]
        self.measured = self.found.measured(expected)
        self.found.covered[self.mode] = []
        # The rows of the batch are alike to the rule, and each can be alone.
        alone = len(expected) == 1 and self.subject.accepts(x[:1])
        self.rows = self._rows(mode, x) if alone else (x,)
        self.row = self.rows[0]
        self.unchanged = {}
        out = self.subject(self.row)
        if not self._says_something(out):
            return False
        self.noise = 0.0
        self.repeat()
        self.copies = 1
        if self.is_training:
            self._compare_with_eval(out)
        elif self._reference is None:
            self._reference = out
        # Changed copies share a pass where rows are known not to mix.
        self.mixing = self._mixing() if alone else None
        if self.mixing is not None and not self.mixing.any():
            self.copies = max(1, min(STACK, STACK_NUMBERS // max(1, out.numel())))
        return True

    def _rows(self, mode: Mode, x: Tensor) -> tuple[Tensor, ...]:
        """Each try changes another row: of the input, or drawn beside its first."""
        if mode.drawn:
            generator = torch.Generator().manual_seed(23)
            drawn = self.subject.drawn(mode.drawn, self.length, generator)
            x = torch.cat([x[:1], drawn])
        return x.split(1)

    def _says_something(self, out: Tensor) -> bool:
        """Whether there is a finite output before anything is changed."""
        self.is_double = out.dtype == torch.float64
        finite = out.isfinite().all(dim=-1)
        if not finite.all():
            self.skip(
                f"{int((~finite).sum())} of {finite.numel()} outputs in {self.mode}: "
                "not finite before anything is changed"
            )
        if not finite.any():
            return False
        self.size = max(1.0, float(out[finite].abs().max()))
        return True

    def with_seed(self, seed: int, x: Tensor) -> Tensor:
        """The output with other random numbers: equal unless some act."""
        before, self.subject.seed = self.subject.seed, seed
        try:
            return self.subject(x)
        finally:
            self.subject.seed = before

    def _compare_with_eval(self, out: Tensor) -> None:
        if self._reference is None or not out.equal(self.with_seed(1, self.row)):
            return  # dropout acts: then they must differ
        moved = float(distance(out, self._reference).max())
        if moved > 10 * TOLERANCE[torch.float32] * self.size:
            self.found.note(
                f"train and eval mode differ by {moved:.2g}, although nothing random "
                "acts: normalisation over the batch, or two paths that disagree"
            )

    def repeat(self) -> None:
        """Run unchanged twice: what differs then is no leak."""
        a, b = self.subject(self.row), self.subject(self.row)
        noise = float(distance(a, b).nan_to_num(posinf=0.0).max())
        if noise > self.noise:
            self.noise = noise
            self.found.forget_notes(self.mode)
            self.found.note(
                f"not deterministic: two identical, equally seeded runs in {self.mode} "
                f"differ by {noise:.1g}; only ten times larger ones count"
            )

    def _mixing(self) -> Tensor | None:
        """How far each output (T,) moves with other rows; ``None``: unknown.

        The shape stays, so that any difference is one, unless it is rounding.
        """
        row, n = self.row, len(self.row)
        batches = [torch.cat([row, mates]) for mates in self.mates()]
        try:
            first, second = (self.subject(x)[:n] for x in batches)
        except Exception:  # whatever a third-party model raises on another batch
            return None
        moved = distance(first, second)
        leaks = moved > 10 * self.noise
        if leaks.any():
            try:
                with self.subject.double() as call:
                    again = distance(*(call(x)[:n] for x in batches))
                leaks &= persists(moved, again)
            except Exception:  # whatever a third-party model raises in float64
                leaks &= moved > TOLERANCE[torch.float32] * self.size
            self.rounding(moved, (moved > 10 * self.noise) & ~leaks)
        return moved.where(leaks, 0.0).amax(dim=0)

    def mates(self) -> list[Tensor]:
        """Twice two rows that may stand beside the given one, (2, T, …)."""
        generator = torch.Generator().manual_seed(11)
        return [self.subject.drawn(2, self.length, generator) for _ in range(2)]

    def padded(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Side → a batch of two rows, the first of them padded, and what is real."""
        generator = torch.Generator().manual_seed(13)
        filler = self.subject.drawn(1, PADS, generator)
        longer = self.subject.drawn(1, self.length + PADS, generator)
        row = self.row[:1]
        out = {}
        for side, parts in {"right": [row, filler], "left": [filler, row]}.items():
            x = torch.cat([torch.cat(parts, dim=1), longer])
            real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
            real[0, slice(-PADS, None) if side == "right" else slice(PADS)] = False
            out[side] = x, real
        return out

    def must_look_back(self) -> None:
        """``NotCovered`` where an output may see later positions."""
        if not self.expected.tril().equal(self.expected):
            raise NotCovered("an output is expected to see later positions")

    def must_fit_any_row(self) -> None:
        """``NotCovered`` where what is expected is said row by row."""
        if len(self.expected) > 1:
            raise NotCovered("the expected mask belongs to the rows of this batch")

    def probe(self, name: str, run: Callable[[Session], None]) -> None:
        """Run one probe; what it cannot say goes to the report."""
        try:
            self.tick()
            run(self)
        except OutOfTime:
            self.found.left_out(self.mode, name)
        except NotCovered as why:
            self.skip(f"{name}: {why}")
        except Exception as error:  # whatever a third-party model raises
            self.skip(f"{name} in {self.mode}: the model fails ({reason(error)})")
        else:
            self.found.covered[self.mode].append(name)

    def tick(self) -> None:
        """Called before each run of the model: keeps the bar and the budget."""
        if hasattr(self._bar, "update"):
            self._bar.update()
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise OutOfTime

    def leak(self, query: int, key: int | None, size: float, probe: str) -> None:
        """Add a finding of this mode."""
        self.found.leak(Leak(query, key, size, probe, self.mode))

    def differs(self, moved: Tensor, atol: float, probe: str) -> None:
        """Leaks where outputs (B, T) that should agree differ by more."""
        largest = moved.amax(dim=0)
        for query in (largest > atol * self.size).nonzero().flatten().tolist():
            self.leak(query, None, float(largest[query]), probe)

    def rounding(self, moved: Tensor, where: Tensor) -> None:
        """Differences that are not counted, for the report to say so."""
        if where.any():
            self.found.rounding(self.mode, float(moved[where].max()))

    def skip(self, text: str) -> None:
        """Something that this audit does not cover."""
        self.found.skip(text)

    def precisely(self, run: Callable[[Call, float], None]) -> None:
        """Run a probe that changes shapes in float64, else with a tolerance."""
        leaks = dict(self.found.leaks)
        try:
            with self.subject.double() as call:
                run(call, 1e-9)
        except OutOfTime:
            raise
        except Exception as error:  # whatever a third-party model raises in float64
            why = reason(error)
            self.found.leaks = leaks
            run(self.subject, 10 * TOLERANCE[torch.float32])
            self.skip(
                f"differences below {10 * TOLERANCE[torch.float32]:g} where shapes "
                f"change: the model does not run in float64 ({why})"
            )

    def report(self, name: str, *, strict: bool) -> Report:
        """What was found, of the model of this name."""
        return self.found.report(
            name,
            self.subject.x,
            first_mode=self.first_mode,
            budget=self._budget,
            strict=strict,
        )

    @property
    def first_mode(self) -> str:
        """The one that was entered first."""
        return next(iter(self.found.covered), "eval mode")


def persists(moved: Tensor, again: Tensor) -> Tensor:
    """Whether a difference is as good as still there in float64."""
    floor = SHRINKS * moved
    return again > floor.where(moved.isfinite(), TOLERANCE[torch.float64])


def distance(a: Tensor, b: Tensor) -> Tensor:
    """Largest difference over features, (B, T); NaN equals NaN, else it is ∞."""
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    difference = (a - b).abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
    return torch.where(same, 0.0, difference).amax(dim=-1).cpu()


def reason(error: Exception) -> str:
    """An error in one short line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:100]}" if text else type(error).__name__
