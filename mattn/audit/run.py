"""Run the probes under every mode and collect what they saw."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from mattn.audit.probes import PROBES
from mattn.audit.report import Leak, Report
from mattn.audit.subject import Subject, preserved, random_states
from mattn.checks import TOLERANCE
from mattn.masks import Mask, boolean_power

__all__ = ["assert_causal", "audit", "audit_labels", "audit_layers"]

EVAL, TRAIN, RANDOM = "eval mode", "train mode", "eval mode, random weights"


def audit(
    model: Callable[..., Any],
    tokens: Shaped[Tensor, "B T *features"],
    *,
    expected: Mask | Bool[Tensor, "T T"] | None = None,
    n_layers: int = 1,
    forward: Callable[[Any, Tensor], Any] | None = None,
    probes: Iterable[str] | None = None,
    strict: bool = False,
    budget: float | None = None,
    step: Callable | None = None,
    pad: Callable | None = None,
) -> Report:
    """Ask any model whether its outputs see what they must not.

    ``model`` is a callable or module from ``tokens`` (B, T), or features
    (B, T, C), to a tensor (B, T, …), or a tuple, dict or object with one.
    It comes back exactly as it was.

    ``expected`` is what may be seen end to end: by default each output sees
    its own position and those before; a rule of ``mattn.masks`` (of one
    layer, for a model of ``n_layers``) or a boolean matrix says otherwise.
    ``forward(model, x)`` calls a model that takes more than its input;
    ``step(model, chunk, state, capacity) → (output, state)`` feeds its
    cache, ``pad(model, x, real)`` runs it on padded input.
    ``probes`` names a few of :data:`PROBES`; ``strict`` makes a missing
    link a failure; ``budget`` is in seconds.

    >>> mean = lambda x: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None]
    >>> audit(mean, torch.randn(1, 5, 3)).ok
    True
    >>> audit(lambda x: x - x.mean(1, keepdim=True), torch.randn(1, 5, 3)).ok
    False
    """
    _check_input(tokens)
    names = list(PROBES) if probes is None else list(probes)
    unknown = [name for name in names if name not in PROBES]
    if unknown:
        raise ValueError(f"expected probes out of {', '.join(PROBES)}; got {unknown}.")
    matrix = _expected_matrix(expected, tokens.shape[1], n_layers)
    if len(matrix) not in (1, len(tokens)):
        raise ValueError(
            f"expected: a rule for {len(matrix)} rows does not fit a batch of "
            f"{len(tokens)}."
        )
    guard = preserved(model) if isinstance(model, nn.Module) else random_states()
    with guard:
        subject = Subject(model, tokens, forward=forward)
        subject.first_run()
        running = Audit(subject, matrix, budget=budget, step=step, pad=pad)
        with running:
            _run_modes(running, names, expected, n_layers)
    return running.report(_name_of(model), names, strict=strict)


def _run_modes(running: Audit, names: list[str], expected, n_layers: int) -> None:
    subject = running.subject
    modes = {EVAL: {}}
    if subject.module is not None:
        modes |= {RANDOM: {"randomised": True}, TRAIN: {"train": True}}
    else:
        running.skip("other modes and weights: the model is a plain function")
    for mode, options in modes.items():
        with subject.mode(**options):
            running.enter(mode, subject.x, running.expected)
            # Whether rows mix decides if changed copies can share a pass.
            order = sorted(names, key=lambda name: name != "batch")
            once = {"finite", "nan"} | ({"jacobian"} if mode == TRAIN else set())
            for name in order:
                if mode != EVAL and name in once:
                    continue
                # Random numbers of train mode fall differently on other shapes.
                if mode == TRAIN and name in {"truncation", "cache", "padding"}:
                    continue
                # Random absolute positions need not be shift-invariant.
                if mode == RANDOM and name == "padding":
                    continue
                PROBES[name](running)
    if "perturbation" in names:
        _run_longer(running, expected, n_layers)


def _run_longer(running: Audit, expected, n_layers: int) -> None:
    """A leak may begin behind the length that was given."""
    subject, T = running.subject, running.length
    config = getattr(subject.model, "config", None)
    window = getattr(config, "sliding_window", None) or getattr(config, "window", None)
    longer = 2 * T + 3
    if isinstance(window, int) and longer <= window:
        if window + 8 <= 512:
            longer = window + 8
        else:
            running.skip(f"inputs longer than the declared window of {window}")
    mode = f"{EVAL}, T = {longer}"
    try:
        matrix = _expected_matrix(expected, longer, n_layers)
    except ValueError:
        running.skip(
            f"positions beyond T = {T}: expected is given for this length only"
        )
        return
    generator = torch.Generator().manual_seed(17)
    extra = subject.drawn(1, longer - T, generator)
    x = torch.cat([subject.x[:1], extra], dim=1)
    with subject.mode():
        try:
            subject(x)
        except Exception as error:  # whatever a third-party model raises
            reason = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
            running.skip(f"positions beyond T = {T}: the model refuses more ({reason})")
            return
        running.enter(mode, x, matrix)
        running.scales = (1.0,)
        PROBES["perturbation"](running)


class Audit:
    """An audit in progress: the mode it is in and what it has found so far."""

    def __init__(
        self,
        subject: Subject,
        expected: Bool[Tensor, "R T T"],
        *,
        budget: float | None,
        step: Callable | None,
        pad: Callable | None,
    ):
        self.subject, self.step, self.pad = subject, step, pad
        self.leaks: list[Leak] = []
        self.hygiene: list[str] = []
        self.rows_mix = False
        self.scales: tuple[float, ...] = (
            (1.0, 10.0) if not subject.is_tokens else (1, 1)
        )
        self._notes: dict[str, None] = {}
        self._skipped: dict[str, None] = {}
        self._covered: list[str] = []
        self._measured: Tensor | None = None
        self._given = expected
        self._deadline = None if budget is None else time.monotonic() + budget
        self._bar: Any = nullcontext()
        self.enter(EVAL, subject.x, expected, quiet=True)

    def __enter__(self) -> Audit:
        try:
            from tqdm.auto import tqdm
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

    def enter(
        self, mode: str, x: Tensor, expected: Bool[Tensor, "R T T"], *, quiet=False
    ) -> None:
        """Begin a mode; measure whether the unchanged run repeats itself."""
        self.mode, self.x, self.expected = mode, x, expected
        self.length = x.shape[1]
        self.measured = torch.zeros(self.length, self.length, dtype=torch.bool)
        if self._measured is None:
            self._measured = self.measured
        elif self.length == len(self._measured):
            self.measured = self._measured
        self.noise = 0.0
        if quiet:
            return
        self.stackable = len(expected) == 1 and self._accepts(x.repeat_interleave(2, 0))
        out, again = self.subject(x), self.subject(x)
        self.is_double = out.dtype == torch.float64
        finite = out[out.isfinite()]
        self.size = max(1.0, float(finite.abs().max())) if finite.numel() else 1.0
        difference = (out.double() - again.double()).abs().nan_to_num(nan=0.0)
        self.noise = float(difference.max())
        if self.noise > 0:
            self.note(
                f"not deterministic: two identical, equally seeded runs in {mode} "
                f"differ by {self.noise:.1g}; only ten times larger ones count"
            )
        self._covered.append(mode)

    def stack(self, copies: int) -> int:
        """Changed copies that may share a pass: one if rows are not independent."""
        return copies if self.stackable and not self.rows_mix else 1

    def _accepts(self, x: Tensor) -> bool:
        try:
            self.subject(x)
        except Exception:  # whatever a third-party model raises on another batch
            return False
        return True

    def leak(self, query: int, key: int | None, size: float, probe: str) -> None:
        """Add a finding; of several sizes of one pair keep the largest."""
        new = Leak(query, key, size, probe, self.mode)
        for index, old in enumerate(self.leaks):
            if (old.query, old.key, old.probe, old.mode) == (
                query,
                key,
                probe,
                self.mode,
            ):
                self.leaks[index] = max(old, new, key=lambda leak: leak.size)
                return
        self.leaks.append(new)

    def note(self, text: str) -> None:
        self._notes[text] = None

    def skip(self, text: str) -> None:
        self._skipped[text] = None

    def progress(self) -> None:
        if hasattr(self._bar, "update"):
            self._bar.update()

    def out_of_time(self, probe: str) -> bool:
        over = self._deadline is not None and time.monotonic() > self._deadline
        if over:
            self.skip(f"{probe} in {self.mode}: the time budget was used up")
        return over

    def precisely(self, what: str, run: Callable[[Callable, float], None]) -> None:
        """Run a probe that changes shapes in float64, else with a tolerance."""
        n_leaks = len(self.leaks)
        try:
            with self.subject.double() as call:
                run(call, 1e-9)
            return
        except Exception:  # whatever a third-party model raises in float64
            del self.leaks[n_leaks:]
        try:
            run(self.subject, 10 * TOLERANCE[torch.float32])
            self.note(f"{what} in {self.mode}: float64 failed, so with a tolerance")
        except Exception as error:
            del self.leaks[n_leaks:]
            reason = f"{type(error).__name__}: {str(error).splitlines()[:1]}"
            self.skip(f"{what} in {self.mode}: the model refuses it ({reason})")

    def report(self, name: str, probes: list[str], *, strict: bool) -> Report:
        expected = self._given
        measured = self._measured
        missing: list[tuple[int, int]] = []
        if "perturbation" in probes:
            absent = expected.any(dim=0) & ~measured
            missing = [(int(i), int(j)) for i, j in absent.nonzero()]
        if not measured.any() and {"perturbation", "jacobian"} & set(probes):
            self.note(
                "WARNING: the output did not move for any change of the input: "
                "constant, or not the right output; nothing was shown"
            )
        B, T = self.subject.x.shape[:2]
        self.skip(f"inputs other than those drawn from the given one, B = {B}, T = {T}")
        covered = [f"probes: {', '.join(probes)}", *self._covered]
        return Report(
            name=name,
            expected=expected.any(dim=0),
            measured=measured,
            leaks=sorted(self.leaks, key=lambda leak: -leak.size),
            missing=missing,
            covered=covered,
            not_covered=list(self._skipped),
            notes=list(self._notes),
            hygiene=self.hygiene,
            strict=strict,
        )


def assert_causal(
    model: Callable[..., Any], tokens: Shaped[Tensor, "B T *features"], **options: Any
) -> None:
    """For a test file: ``AssertionError`` names the first offending pair.

    Takes the options of :func:`audit`.
    """
    report = audit(model, tokens, **options)
    if not report.ok:
        first = report.first
        head = (
            f"{first}; probe: {first.probe}; {first.mode}"
            if first is not None
            else f"expected link (query, key) = {report.missing[0]} is missing"
        )
        raise AssertionError(f"{head}\n\n{report}")


def audit_layers(
    model: nn.Module,
    tokens: Shaped[Tensor, "B T *features"],
    *,
    layers: Callable[[str, nn.Module], bool] | None = None,
    forward: Callable[[Any, Tensor], Any] | None = None,
    expected: Mask | Bool[Tensor, "T T"] | None = None,
) -> dict[str, Report]:
    """Audit each attention module by itself: name → report.

    A module counts as attention when its class is named so; ``layers(name,
    module)`` chooses others. Each is called again as the model called it,
    with its first three-dimensional input (hidden states) changed.
    """
    _check_input(tokens)
    choose = layers or _looks_like_attention
    chosen = {name: m for name, m in model.named_modules() if choose(name, m)}
    if not chosen:
        raise ValueError(
            f"audit_layers: found no attention module in {type(model).__name__}. "
            "Pass layers=lambda name, module: … to choose them."
        )
    calls: dict[str, tuple[tuple, dict]] = {}
    with preserved(model):
        model.eval()
        handles = [
            m.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: (
                    calls.setdefault(name, (args, kwargs)) and None
                ),
                with_kwargs=True,
            )
            for name, m in chosen.items()
        ]
        try:
            Subject(model, tokens, forward=forward).first_run()
        finally:
            for handle in handles:
                handle.remove()
    reports = {}
    for name, module in chosen.items():
        if name not in calls:
            continue
        args, kwargs = calls[name]
        x = next(v for v in (*args, *kwargs.values()) if _is_hidden(v))

        def call(module, changed, args=args, kwargs=kwargs, x=x):
            new_args = [changed if a is x else _matching(a, changed) for a in args]
            new = {
                k: changed if v is x else _matching(v, changed)
                for k, v in kwargs.items()
            }
            return module(*new_args, **new)

        names = ["perturbation", "jacobian"]
        report = audit(
            module, x.detach(), forward=call, expected=expected, probes=names
        )
        report.name = f"{name} ({type(module).__name__})"
        reports[name] = report
    return reports


def _looks_like_attention(name: str, module: nn.Module) -> bool:
    kind = type(module).__name__.lower()
    holds_another = any(
        "attention" in type(m).__name__.lower() for m in list(module.modules())[1:]
    )
    return "attention" in kind and not holds_another


def _is_hidden(value: object) -> bool:
    return (
        isinstance(value, Tensor) and value.ndim == 3 and value.dtype.is_floating_point
    )


def _matching(value: Any, changed: Tensor) -> Any:
    """Companion tensors follow the batch size and precision of the input."""
    if isinstance(value, tuple):
        return tuple(_matching(v, changed) for v in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.dtype.is_floating_point:
        value = value.to(changed.dtype)
    copies, rest = divmod(len(changed), len(value))
    if value.ndim > 1 and len(value) > 1 and copies > 1 and rest == 0:
        value = value.repeat(copies, *(1,) * (value.ndim - 1))
    return value


def audit_labels(
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    n_symbols: int = 11,
    length: int = 9,
    batch: int = 2,
) -> Report:
    """Ask a loss which token it rewards the output at position t for.

    ``loss(logits, tokens)`` is given logits (B, T, V) and tokens (B, T) of
    the same positions. Its gradient is most negative at the class that it
    wants: that must be token t + 1. Wanting token t is a missing shift, the
    model is taught to copy what it sees; wanting t + 2 is a double shift.
    """
    generator = torch.Generator().manual_seed(0)
    # Neighbouring tokens all differ, so that each shift can be told apart.
    first = torch.randint(n_symbols, (batch, 1), generator=generator)
    steps = torch.randint(1, 4, (batch, length - 1), generator=generator)
    tokens = torch.cat([first, first + steps.cumsum(1)], dim=1) % n_symbols
    logits = torch.zeros(batch, length, n_symbols, requires_grad=True)
    value = loss(logits, tokens)
    if value.ndim != 0:
        raise ValueError(
            f"audit_labels: expected a scalar loss; got shape {tuple(value.shape)}."
        )
    (gradient,) = torch.autograd.grad(value, logits)
    counted = gradient.abs().amax(dim=-1) > 0  # (B, T): positions that are scored
    wanted = gradient.argmin(dim=-1)
    measured = torch.zeros(length, length, dtype=torch.bool)
    leaks, missing = [], []
    expected = torch.diag(torch.ones(length - 1, dtype=torch.bool), 1)
    for t in range(length):
        if not counted[:, t].any():
            if t < length - 1:
                missing.append((t, t + 1))
            continue
        fits = [s for s in range(length) if (wanted[:, t] == tokens[:, s]).all()]
        near = min(fits, key=lambda s: abs(s - t - 1), default=None)
        if near is None:
            leaks.append(Leak(t, None, float("nan"), "labels", "loss"))
            continue
        measured[t, near] = True
        if near != t + 1:
            size = float(gradient[:, t].abs().max())
            leaks.append(Leak(t, near, size, "labels", "loss"))
    return LabelReport(
        name="the loss",
        expected=expected,
        measured=measured,
        leaks=leaks,
        missing=missing,
        covered=["labels"],
        not_covered=["labels that are shifted before the loss is called"],
    )


class LabelReport(Report):
    """The report of :func:`audit_labels`: rows are outputs, columns targets."""

    @property
    def diagnosis(self) -> str:
        shifts = {leak.key - leak.query for leak in self.leaks if leak.key is not None}
        if shifts == {0}:
            return "labels not shifted: position t is taught token t, which it sees"
        if shifts == {2}:
            return "labels shifted twice: position t is taught token t + 2"
        return f"position t is taught token t + {sorted(shifts)} instead of t + 1"

    def __str__(self) -> str:
        if self.leaks:
            return f"Label audit: LEAK\n  likely  {self.diagnosis}"
        lines = "Label audit: position t is taught token t + 1, as it should."
        if self.missing:
            lines += (
                f"\n  Positions that are not scored: {[t for t, _ in self.missing]}"
            )
        return lines


def _check_input(tokens: Tensor) -> None:
    if not isinstance(tokens, Tensor) or tokens.ndim not in (2, 3):
        shape = tuple(tokens.shape) if isinstance(tokens, Tensor) else type(tokens)
        raise ValueError(
            f"expected tokens (B, T) or features (B, T, C); got {shape}. "
            "Add a batch dimension with tokens[None]."
        )
    if tokens.ndim == 3 and not tokens.dtype.is_floating_point:
        raise ValueError(
            f"expected floating-point features (B, T, C); got {tokens.dtype}. "
            "Convert them with .float(), or pass tokens (B, T)."
        )
    if tokens.ndim == 2 and tokens.dtype.is_floating_point:
        raise ValueError(
            f"expected integer tokens (B, T); got {tokens.dtype}. "
            "Features need a third dimension: (B, T, C)."
        )
    if tokens.shape[1] < 2 or len(tokens) < 1:
        raise ValueError(
            f"expected at least 2 positions, as one cannot see another's future; got "
            f"shape {tuple(tokens.shape)}."
        )


def _expected_matrix(expected, T: int, n_layers: int) -> Bool[Tensor, "R T T"]:
    """What may be seen end to end, (1 or B, T, T)."""
    if expected is None:
        # Written out: an auditor does not trust the rule that it may audit.
        return (torch.arange(T)[None, :] <= torch.arange(T)[:, None])[None]
    if isinstance(expected, Mask):
        matrix = expected.matrix(T)
    else:
        matrix = expected
        if not isinstance(matrix, Tensor) or matrix.dtype != torch.bool:
            raise ValueError(
                "expected: a rule of mattn.masks or a boolean matrix (True = may "
                f"depend); got {getattr(matrix, 'dtype', type(matrix).__name__)}."
            )
    if matrix.shape[-2:] != (T, T) or matrix.ndim not in (2, 3):
        raise ValueError(
            f"expected: a boolean matrix of shape ({T}, {T}), queries × keys; got "
            f"{tuple(matrix.shape)}."
        )
    matrix = matrix.reshape(-1, T, T).cpu()
    if n_layers < 1:
        raise ValueError(f"expected n_layers >= 1; got {n_layers}.")
    if n_layers > 1:
        # The residual connection carries each position to itself.
        own = torch.eye(T, dtype=torch.bool)
        matrix = torch.stack([boolean_power(m | own, n_layers) for m in matrix])
    return matrix


def _name_of(model: Any) -> str:
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", type(model).__name__)
