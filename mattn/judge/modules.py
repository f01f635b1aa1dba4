"""A module of x: its maps are read, and q, k, v computed from their weights.

Which part of a fused map is q, k or v, and whether it goes head by head, is a
convention: each is tried. A room of the judge; chapter 3 derives the heads.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from mattn.judge.formulas import Case, combined
from mattn.judge.judging import SINGLE, Answer, Trial, explanations, rounded
from mattn.judge.manners import manners
from mattn.judge.measured import influenced
from mattn.judge.probes import Probe, allowed_for
from mattn.judge.subject import CouldNotRun, Subject
from mattn.judge.verdict import Verdict
from mattn.masks import Mask

__all__ = ["of_x"]

_HEADS = ("n_heads", "num_heads", "n_head", "nheads", "nhead", "heads", "h", "H")
_AFFIX = r"(to|w|c|fc|in|lin|linear|proj|projection|layer|map|weights?|s)*"
_ROLES = {
    "q": rf"{_AFFIX}(q|query|queries){_AFFIX}",
    "k": rf"{_AFFIX}(k|key|keys){_AFFIX}",
    "v": rf"{_AFFIX}(v|value|values){_AFFIX}",
}


@dataclass(frozen=True)
class Reading:
    """One way to read the maps of a module."""

    said: str
    """Empty for the plainest."""
    parts: Callable[[Tensor], list[Tensor]]
    heads: int
    finish: Callable[[Tensor], Tensor]

    def case(self, x: Tensor, mask: Mask | None) -> Case:
        q, k, v = self.parts(x)
        allowed = allowed_for(mask, x, x)
        return Case(q, k, v, allowed, heads=self.heads, finish=self.finish)


def of_x(name: str, subject: Subject, mask: Mask | None) -> Verdict:
    """The verdict of a module of x, (B, T, C)."""
    module = copy.deepcopy(subject.function).double().eval()
    found = list(_readings(module))
    if not found:
        layers = [n for n, m in module.named_modules() if isinstance(m, nn.Linear)]
        said = (
            "expected linear maps to q, k and v, each or all in one, and at most one "
            f"after them; found {', '.join(layers) or 'none'}. Judge the function of "
            "(q, k, v) inside it."
        )
        return Verdict(name, "could not run", measured=(said,))
    width = _width(module)
    trials: list[Trial] = []
    failed = ""
    for reading in found:
        trial = Trial(subject)
        trial.answers[3] = {}
        for label, batch, T in (("plain", 2, 4), ("long", 1, 7)):
            if mask is not None and mask.batch is not None:
                batch = mask.batch
            draws = torch.Generator().manual_seed(5)
            x = torch.randn(batch, T, width, generator=draws, dtype=torch.float64)
            case = reading.case(x, mask)
            given = case.allowed
            try:
                outs = trials[0].answers[3][label].outs if trials else None
                outs = subject(x, mask=given) if outs is None else outs
            except (CouldNotRun, KeyError) as error:
                failed = failed or f"x of shape {tuple(x.shape)}: {error}"
                continue
            answer = Answer(Probe(label, x, x, x), case, outs, (x,), given)
            trial.answers[3][label] = answer
        trials.append(trial)
    if not trials[0].answers[3]:
        return Verdict(name, "could not run", measured=(failed,))
    return _judged(name, found, trials, mask)


def _judged(
    name: str, found: list[Reading], trials: list[Trial], mask: Mask | None
) -> Verdict:
    if trials[0].subject.dtype != torch.float64 or rounded(trials[0]):
        for trial in trials:
            trial.tolerance = SINGLE
    for reading, trial in zip(found, trials, strict=True):
        if trial.right:
            notes = (reading.said,) if reading.said else ()
            slip = manners(trial)
            if slip:
                return Verdict(name, "named", (slip,), notes=notes)
            return Verdict(name, "right", notes=notes)
    slip = manners(trials[0])
    if slip:
        return Verdict(name, "named", (slip,))
    first = trials[0].all[0]
    seen = tuple(_seen(trials[0].subject, first, mask))
    tolerance = max(trials[0].tolerance, 1e-9)
    for n in (1, 2):
        for reading, trial in zip(found, trials, strict=True):
            names = explanations(trial.all, tolerance, {}, (n,))
            if names:
                notes = (reading.said,) if reading.said else ()
                case = _first_difference(trial.all[0])
                return Verdict(name, "named", tuple(names), case, seen, notes)
            if n == 2:  # of two slips, in the plainest reading alone
                break
    return Verdict(name, "wrong", (), _first_difference(first), seen)


def _seen(subject: Subject, answer: Answer, mask: Mask | None) -> list[str]:
    (x,) = answer.inputs
    allowed = answer.case.allowed
    own = torch.eye(x.shape[1], dtype=torch.bool)  # x is the query, too

    def alone(row: Tensor) -> Tensor:
        batch = row.expand(len(x), *row.shape)
        given = allowed_for(mask, batch, batch)
        return subject(batch, mask=given)[0][0]

    allowed = (allowed[0] if allowed.ndim == 3 else allowed) | own
    with contextlib.suppress(CouldNotRun, RuntimeError, IndexError, ValueError):
        return list(influenced(alone, x[0], allowed, mask))
    return []


def _first_difference(answer: Answer) -> str:
    found, out = combined(answer.case), answer.outs[0]
    assert found is not None  # the formula itself always runs
    right = found[0]
    shape = f"x of shape {tuple(answer.inputs[0].shape)}"
    if out.shape != right.shape:
        return (
            f"for {shape}: it gives {tuple(out.shape)}; right is {tuple(right.shape)}"
        )
    off = ((out - right).abs() > 1e-6) | out.isnan()
    b, i, c = off.nonzero()[0].tolist()
    return (
        f"for {shape}: row {b}, query position {i}, feature {c} is "
        f"{out[b, i, c]:.4g}; right is {right[b, i, c]:.4g}"
    )


def _linears(module: nn.Module) -> dict[str, nn.Linear]:
    return {n: m for n, m in module.named_modules() if isinstance(m, nn.Linear)}


def _width(module: nn.Module) -> int:
    return next(iter(_linears(module).values())).in_features


def _readings(module: nn.Module) -> Iterator[Reading]:
    """Every way to read it, the plainest first."""
    layers = _linears(module)
    roles: dict[str, nn.Linear] = {}
    for name, layer in layers.items():
        short = re.sub("[^a-z]", "", name.rpartition(".")[2].lower())
        for role, pattern in _ROLES.items():
            if re.fullmatch(pattern, short):
                roles.setdefault(role, layer)
    fused = [m for m in layers.values() if m.out_features == 3 * m.in_features][:1]
    if len(roles) == 3:
        used = [roles["q"], roles["k"], roles["v"]]
        if len({m.out_features for m in used}) > 1:
            return
        width = used[0].out_features
    elif fused:
        used, width = fused, fused[0].out_features // 3
    else:
        return
    others = [m for m in layers.values() if not any(m is u for u in used)]
    if len(others) > 1 or (others and others[0].in_features != width):
        return
    finish = others[0] if others else _unchanged
    for heads in _heads(module, width):
        for said, parts in _parts(used, heads):
            yield Reading(said, parts, heads, finish)


def _unchanged(t: Tensor) -> Tensor:
    return t


def _heads(module: nn.Module, width: int) -> list[int]:
    for name in _HEADS:
        value = getattr(module, name, None)
        if type(value) is int and value > 0 and width % value == 0:
            return [value]
    return [n for n in range(1, width + 1) if width % n == 0]


def _parts(
    used: list[nn.Linear], heads: int
) -> Iterator[tuple[str, Callable[[Tensor], list[Tensor]]]]:
    if len(used) == 3:
        yield "", lambda x: [m(x) for m in used]
        swapped = [used[1], used[0], used[2]]
        yield (
            "what it calls keys are queries, and the other way round",
            lambda x: [m(x) for m in swapped],
        )
        return
    fused = used[0]
    for order in permutations(range(3)):
        names = ", ".join("qkv"[order.index(i)] for i in range(3))
        plain = order == (0, 1, 2)
        yield (
            "" if plain else f"its fused map holds {names}",
            functools.partial(_in_order, fused, order),
        )
    for order in permutations(range(3)):
        names = ", ".join("qkv"[order.index(i)] for i in range(3))
        yield (
            f"its fused map holds {names} head by head",
            functools.partial(_by_head, fused, heads, order),
        )


def _in_order(fused: nn.Linear, order: Sequence[int], x: Tensor) -> list[Tensor]:
    thirds = fused(x).chunk(3, -1)
    return [thirds[i] for i in order]


def _by_head(
    fused: nn.Linear, heads: int, order: Sequence[int], x: Tensor
) -> list[Tensor]:
    each = fused(x).unflatten(-1, (heads, 3, -1))
    return [each[..., i, :].flatten(-2) for i in order]
