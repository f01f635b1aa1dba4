"""Run the probes under every mode and collect what they saw."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor, nn

from mattn.audit.probes import (
    HIDDEN,
    PROBES,
    NotCovered,
    OutOfTime,
    distance,
    mixing,
    reason,
)
from mattn.audit.report import Leak, Report
from mattn.audit.subject import Adapter, Subject, preserved, random_states
from mattn.checks import TOLERANCE
from mattn.masks import Mask, boolean_power

__all__ = ["assert_causal", "audit", "audit_layers"]

STACK = 16  # changed copies of the input that share one forward pass
STACK_NUMBERS = 2**24  # outputs that such a pass may hold
LARGE = 300.0  # scores grow by its square: past any fill that training can reach


class Mode(NamedTuple):
    """A state of the model, and the probes that have something to say in it."""

    name: str
    probes: tuple[str, ...]
    state: dict[str, Any] = {}  # noqa: RUF012 - a tuple's default, never changed
    scales: tuple[float, ...] = (1.0,)
    thorough: bool = False
    drawn: int = 0


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


def audit(
    model: Callable[..., Any],
    tokens: Shaped[Tensor, "B T *features"],
    *,
    expected: Mask | Bool[Tensor, "*B T T"] | None = None,
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
    names = list(PROBES) if probes is None else list(probes)
    unknown = [name for name in names if name not in PROBES]
    if unknown or not names:
        raise ValueError(
            f"audit: expected probes out of {', '.join(PROBES)}; got "
            f"{unknown or 'none'}."
        )
    if budget is not None and not budget >= 0:  # also when it is NaN
        raise ValueError(
            f"audit: expected a budget of 0 seconds or more; got {budget}. Leave it "
            "out for as long as it takes."
        )
    matrix = expected_matrix(expected, tokens.shape[1], n_layers)
    if len(matrix) not in (1, len(tokens)):
        raise ValueError(
            f"audit: expected a rule for the {len(tokens)} rows of this batch; got "
            f"one for {len(matrix)}. Build both from the same batch."
        )
    with guarded(model):
        subject = Subject(model, tokens, forward)
        with subject.mode():
            subject.first_run(tokens)
        with Audit(subject, matrix, names, budget) as running:
            _run_modes(running)
            _run_longer(running, expected, n_layers)
    return running.report(name_of(model), strict=strict)


def guarded(model: Any) -> AbstractContextManager:
    """Inside, the model may be changed at will: it comes back as it was."""
    return preserved(model) if isinstance(model, nn.Module) else random_states()


def _run_modes(running: Audit) -> None:
    subject = running.subject
    modes: tuple[Mode, ...] = MODES
    if subject.module is None:
        modes = (MODES[0]._replace(name="the function as given"),)
        running.skip("train mode and other weights: the model is a plain function")
    for mode in modes:
        with subject.mode(**mode.state):
            if running.enter(mode, subject.x, running.given):
                for name in running.names:
                    if name in mode.probes:
                        running.probe(name)


def _run_longer(running: Audit, expected, n_layers: int) -> None:
    """A leak may begin behind the length that was given."""
    names = tuple(n for n in ("perturbation", "cache") if n in running.names)
    if not names:
        return
    subject, T = running.subject, running.n_given
    config = getattr(subject.model, "config", None)
    length = 2 * T + 3
    window = _declared(config, _WINDOWS) or _window_of(subject.model)
    if window is not None and length <= window:
        if window > 512:
            running.skip(f"inputs longer than the declared window of {window}")
        else:
            length = window + 8
    limit = _declared(config, _LIMITS)
    length = length if limit is None else min(length, limit)
    beyond = f"positions beyond T = {T}"
    if length <= T:
        running.skip(f"{beyond}: the model declares no more")
        return
    try:
        matrix = expected_matrix(expected, length, n_layers)
    except ValueError:
        running.skip(f"{beyond}: expected is given for this length only")
        return
    generator = torch.Generator().manual_seed(17)
    extra = subject.drawn(len(running.row), length - T, generator)
    x = torch.cat([running.row, extra], dim=1)
    with subject.mode():
        try:
            subject(x)
        except Exception as error:  # whatever a third-party model raises
            running.skip(f"{beyond}: the model refuses them ({reason(error)})")
            return
        # Without a declared window the cache has no boundary to cross.
        if window is None or subject.adapter.step is None:
            names = tuple(name for name in names if name != "cache")
        name = f"{running.first_mode}, T = {length}"
        if names and running.enter(Mode(name, names), x, matrix):
            for probe in names:
                running.probe(probe)


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


def _declared(config: Any, names: tuple[str, ...]) -> int | None:
    values = [getattr(config, name, None) for name in names]
    return max((v for v in values if type(v) is int and v > 0), default=None)


class Audit:
    """An audit in progress: the mode it is in and what it has found so far."""

    def __init__(
        self,
        subject: Subject,
        expected: Bool[Tensor, "R T T"],
        names: list[str],
        budget: float | None,
    ):
        self.subject, self.names = subject, names
        self.given = expected
        self.n_given = expected.shape[-1]
        self.hygiene: list[str] = []
        self._leaks: dict[tuple, Leak] = {}
        self._notes: dict[str, None] = {}
        self._rounding: dict[str, float] = {}
        self._skipped: dict[str, None] = {}
        self._covered: dict[str, list[str]] = {}
        self._matrices: dict[int, tuple[Tensor, Tensor]] = {}
        self._left_out: dict[str, list[str]] = {}
        self._reference: Tensor | None = None
        self._budget = budget
        self._deadline = None if budget is None else time.monotonic() + budget
        self._bar: Any = nullcontext()

    def __enter__(self) -> Audit:
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

    @property
    def first_mode(self) -> str:
        return next(iter(self._covered), MODES[0].name)

    def enter(self, mode: Mode, x: Tensor, expected: Bool[Tensor, "R T T"]) -> bool:
        """Begin a mode; ``False`` when its outputs cannot say anything."""
        subject = self.subject
        self.mode, self.expected = mode.name, expected
        self.thorough = mode.thorough
        # Tokens have no scale: another try is another draw, and two suffice.
        self.scales = mode.scales[: 2 if mode.thorough and subject.is_tokens else None]
        self.coarse = mode.drawn > 0
        self.is_training = mode.state.get("train", False)
        self.length = x.shape[1]
        if self.length not in self._matrices:
            measured = torch.zeros(self.length, self.length, dtype=torch.bool)
            self._matrices[self.length] = expected.any(dim=0), measured
        self.measured = self._matrices[self.length][1]
        self._covered[self.mode] = []
        free = len(expected) == 1  # the rows of the batch are alike to the rule
        alone = free and subject.accepts(x[:1])
        # Each try changes another row; rows that cannot be alone go together.
        if alone and mode.drawn:
            generator = torch.Generator().manual_seed(23)
            x = torch.cat([x[:1], subject.drawn(mode.drawn, self.length, generator)])
        self.rows = x.split(1) if alone else (x,)
        self.row = self.rows[0]
        self.unchanged: dict[tuple[int, int], Tensor] = {}
        out = subject(self.row)
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
        self.noise = 0.0
        self.repeat()
        self.copies = 1
        if self.is_training:
            self._compare_with_eval(out)
        elif self._reference is None:
            self._reference = out
        # Changed copies share a pass where rows are known not to mix.
        self.mixing = mixing(self) if alone else None
        if self.mixing is not None and not self.mixing.any():
            self.copies = max(1, min(STACK, STACK_NUMBERS // max(1, out.numel())))
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
            self.note(
                f"train and eval mode differ by {moved:.2g}, although nothing random "
                "acts: normalisation over the batch, or two paths that disagree"
            )

    def repeat(self) -> None:
        """Run unchanged twice: what differs then is no leak."""
        a, b = self.subject(self.row), self.subject(self.row)
        noise = float(distance(a, b).nan_to_num(posinf=0.0).max())
        if noise > self.noise:
            self.noise = noise
            self._notes = {n: None for n in self._notes if self.mode not in n}
            self.note(
                f"not deterministic: two identical, equally seeded runs in {self.mode} "
                f"differ by {noise:.1g}; only ten times larger ones count"
            )

    def probe(self, name: str) -> None:
        """Run one probe; what it cannot say goes to the report."""
        try:
            self.tick()
            PROBES[name](self)
        except OutOfTime:
            self._left_out.setdefault(self.mode, []).append(name)
        except NotCovered as why:
            self.skip(f"{name}: {why}")
        except Exception as error:  # whatever a third-party model raises
            self.skip(f"{name} in {self.mode}: the model fails ({reason(error)})")
        else:
            self._covered[self.mode].append(name)

    def tick(self) -> None:
        """Called before each run of the model: keeps the bar and the budget."""
        if hasattr(self._bar, "update"):
            self._bar.update()
        if self._deadline is not None and time.monotonic() > self._deadline:
            raise OutOfTime

    def leak(self, query: int, key: int | None, size: float, probe: str) -> None:
        """Add a finding; of several sizes of one pair keep the largest."""
        new = Leak(query, key, size, probe, self.mode)
        place = (query, key, probe, self.mode)
        old = self._leaks.get(place, new)
        self._leaks[place] = max(old, new, key=lambda leak: leak.size)

    def differs(self, moved: Tensor, atol: float, probe: str) -> None:
        """Leaks where outputs (B, T) that should agree differ by more."""
        largest = moved.amax(dim=0)
        for query in (largest > atol * self.size).nonzero().flatten().tolist():
            self.leak(query, None, float(largest[query]), probe)

    def rounding(self, moved: Tensor, where: Tensor) -> None:
        if where.any():
            known = self._rounding.get(self.mode, 0.0)
            self._rounding[self.mode] = max(known, float(moved[where].max()))

    def note(self, text: str) -> None:
        self._notes[text] = None

    def skip(self, text: str) -> None:
        self._skipped[text] = None

    def precisely(self, run: Callable[[Callable, float], None]) -> None:
        """Run a probe that changes shapes in float64, else with a tolerance."""
        leaks = dict(self._leaks)
        try:
            with self.subject.double() as call:
                run(call, 1e-9)
        except OutOfTime:
            raise
        except Exception as error:  # whatever a third-party model raises in float64
            why = reason(error)
            self._leaks = leaks
            run(self.subject, 10 * TOLERANCE[torch.float32])
            self.skip(
                f"differences below {10 * TOLERANCE[torch.float32]:g} where shapes "
                f"change: the model does not run in float64 ({why})"
            )

    def report(self, name: str, *, strict: bool) -> Report:
        B, T = self.subject.x.shape[:2]
        known = {leak.query for leak in self._leaks.values() if leak.key is not None}
        leaks = sorted(
            (
                k
                for k in self._leaks.values()
                if k.probe != HIDDEN or k.query not in known
            ),
            # Sizes under enlarged weights do not compare with the others.
            key=lambda leak: ("weights ×" in leak.mode, -leak.size),
        )
        expected, measured = self._matrices.get(
            T, (self.given.any(dim=0), torch.zeros(T, T, dtype=torch.bool))
        )
        missing: list[tuple[int, int]] = []
        if "perturbation" in self._covered.get(self.first_mode, ()):
            missing = [(int(i), int(j)) for i, j in (expected & ~measured).nonzero()]
        longer = [pair for n, pair in self._matrices.items() if n > T]
        further = [(e, m) for e, m in longer if (m & ~e).any()]
        if further and not (measured & ~expected).any():
            expected, measured = further[0]  # a leak is shown where it begins
        for mode, size in self._rounding.items():
            self.note(
                f"rounding: differences up to {size:.1g} in {mode} shrank with the "
                "precision and are not counted"
            )
        for mode, names in self._left_out.items():
            self.skip(
                f"{', '.join(names)} in {mode}, or a part: the budget of "
                f"{self._budget:g} s was used up"
            )
        self.skip(f"inputs other than those drawn from the given one, B = {B}, T = {T}")
        covered = [f"{m}: {', '.join(n)}" for m, n in self._covered.items() if n]
        return Report(
            name=name,
            expected=expected,
            measured=measured,
            leaks=leaks,
            missing=missing,
            covered=covered,
            not_covered=list(self._skipped),
            notes=list(self._notes),
            hygiene=self.hygiene,
            nothing_shown=self._nothing_shown(bool(covered)),
            strict=strict,
        )

    def _nothing_shown(self, anything: bool) -> str:
        if self._leaks:
            return ""
        if not anything:
            return "no probe ran to its end"
        asked = {"perturbation", "jacobian"} & set(self.names)
        if asked and not any(m.any() for _, m in self._matrices.values()):
            return (
                "the output did not move for any change of the input: it is constant, "
                "or not the output that was meant"
            )
        return ""


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


def audit_layers(
    model: nn.Module,
    tokens: Shaped[Tensor, "B T *features"],
    *,
    layers: Callable[[str, nn.Module], bool] | None = None,
    forward: Callable[[Any, Tensor], Any] | None = None,
    expected: Mask | Bool[Tensor, "*B T T"] | None = None,
) -> dict[str, Report]:
    """Audit each attention module by itself: name → report.

    A module counts as attention when its class is named so; ``layers(name,
    module)`` chooses others. Each is called again as the model called it,
    with its first three-dimensional input (hidden states) changed.
    """
    check_input(tokens)
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
        for name, module in chosen.items():
            module.register_forward_pre_hook(
                lambda _, args, kwargs, name=name: (
                    calls.setdefault(name, (args, kwargs)) and None
                ),
                with_kwargs=True,
            )
        with torch.no_grad():
            Subject(model, tokens, forward).first_run(tokens)
    return {
        name: _audit_layer(name, module, *calls[name], expected)
        for name, module in chosen.items()
        if name in calls
    }


def _audit_layer(
    name: str, module: nn.Module, args: tuple, kwargs: dict, expected
) -> Report:
    hidden = [v for v in (*args, *kwargs.values()) if _is_hidden(v)]
    if not hidden:
        raise ValueError(
            f"audit_layers: expected hidden states (B, T, C) among the inputs of "
            f"{name}; got none. Choose other modules with layers=."
        )
    x = hidden[0]

    def call(module: nn.Module, changed: Tensor):
        def new(value):
            return changed if value is x else _matching(value, changed, x)

        return module(*map(new, args), **{k: new(v) for k, v in kwargs.items()})

    names = ["perturbation", "jacobian"]
    report = audit(module, x.detach(), forward=call, expected=expected, probes=names)
    report.name = f"{name} ({type(module).__name__})"
    if any(value is not x for value in hidden):
        report.not_covered.append("its other inputs of three dimensions: kept as given")
    return report


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


def _matching(value: Any, changed: Tensor, x: Tensor) -> Any:
    """Companions of ``x`` follow the batch size and precision of the changed input."""
    if isinstance(value, tuple):
        return tuple(_matching(v, changed, x) for v in value)
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    if value.dtype.is_floating_point:
        value = value.to(changed.dtype)
    B, T = x.shape[:2]
    if len(value) != B or B == 1 or value.shape == (T, T):
        return value  # of no batch: a mask (T, T), positions
    copies = -(-len(changed) // B)
    return value.repeat(copies, *(1,) * (value.ndim - 1))[: len(changed)]


def check_input(tokens: Tensor) -> None:
    """``ValueError`` unless these are tokens (B, T) or features (B, T, C), T ≥ 2."""
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
    if tokens.ndim == 2 and (
        tokens.dtype.is_floating_point or tokens.dtype == torch.bool
    ):
        raise ValueError(
            f"expected integer tokens (B, T); got {tokens.dtype}. "
            "Features need a third dimension: (B, T, C)."
        )
    if tokens.shape[1] < 2 or len(tokens) < 1:
        raise ValueError(
            "expected at least 2 positions, as one has no other to see; got shape "
            f"{tuple(tokens.shape)}."
        )


def expected_matrix(expected, T: int, n_layers: int) -> Bool[Tensor, "R T T"]:
    """What may be seen end to end, (1 or B, T, T)."""
    if not isinstance(n_layers, int) or n_layers < 1:
        raise ValueError(
            f"audit: expected n_layers >= 1, an integer; got {n_layers!r}. It is the "
            "number of layers that the rule passes through."
        )
    if expected is None:
        # Written out: an auditor does not trust the rule that it may audit.
        return (torch.arange(T)[None, :] <= torch.arange(T)[:, None])[None]
    matrix = expected.matrix(T) if isinstance(expected, Mask) else expected
    if not isinstance(matrix, Tensor) or matrix.dtype != torch.bool:
        raise ValueError(
            "audit: expected= must be a rule of mattn.masks or a boolean matrix (True "
            f"= may depend); got {type(matrix).__name__} of "
            f"{getattr(matrix, 'dtype', 'no dtype')}."
        )
    if matrix.shape[-2:] != (T, T) or matrix.ndim not in (2, 3):
        raise ValueError(
            f"audit: expected= must have shape ({T}, {T}), queries × keys; got "
            f"{tuple(matrix.shape)}."
        )
    matrix = matrix.reshape(-1, T, T).cpu()
    if n_layers > 1:
        # The residual connection carries each position to itself.
        own = torch.eye(T, dtype=torch.bool)
        matrix = torch.stack([boolean_power(m | own, n_layers) for m in matrix])
    return matrix


def name_of(model: Any) -> str:
    """What the report calls the model."""
    if isinstance(model, nn.Module):
        return type(model).__name__
    return getattr(model, "__name__", type(model).__name__)
