"""What can be measured of attention without a hypothesis.

Two keys and values that are the rows of an identity: then the output *is* the
weights, and three numbers follow: the factor on the scores, what a hidden
score counts as, the sum of a row. Who sees whom is asked of the auditor, and
seven properties hold for every right one. A room of the judge; chapters 1 to 4
derive what is measured.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mattn.audit.run import audit
from mattn.checks import influence
from mattn.judge.probes import Probe, allowed_for
from mattn.judge.subject import CouldNotRun
from mattn.masks import Mask

__all__ = ["Measured", "limits", "measure"]

Call = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Queries, keys, values (…, T, D) to the output (…, Tq, D)."""


@dataclass
class Measured:
    """Numbers, and what they say."""

    factors: dict[int, float] = field(default_factory=dict)
    """Head size → factor on the scores."""
    hidden: float | None = None
    """What a hidden score counts as, where it is replaced."""
    shift: float | None = None
    """What is added to a hidden score, where it is not replaced."""
    row_sums: tuple[float, ...] = ()
    says: list[str] = field(default_factory=list)


def measure(call: Call, rank: int, mask: Mask | None, plain: Probe) -> Measured:
    """All that can be measured; what cannot is left out."""
    found = Measured()
    for ask in (_factor, _hidden, _row_sums):
        with contextlib.suppress(CouldNotRun, RuntimeError, IndexError, ValueError):
            ask(found, call, rank, mask)
    with contextlib.suppress(CouldNotRun, RuntimeError, IndexError, ValueError):
        found.says += who_sees_whom(call, mask, plain)
    found.says += _properties(call, mask, plain)
    return found


def _shaped(t: Tensor, rank: int) -> Tensor:
    """(T, D) with as many axes as the function takes."""
    return t.double()[(None,) * (rank - 2)]


def two_keys(
    q: tuple[float, float], k: tuple[float, float], d: int, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores before scaling are q_i·k_j; the first two features of the output are
    the weights of keys 0 and 1."""
    queries, keys = torch.zeros(2, d), torch.zeros(2, d)
    queries[:, 0], keys[:, 0] = torch.tensor(q), torch.tensor(k)
    queries, keys = queries.double(), keys.double()
    values = torch.eye(2, d)
    return _shaped(queries, rank), _shaped(keys, rank), _shaped(values, rank)


def _weights(
    call: Call,
    rank: int,
    query: int,
    q: tuple[float, float],
    k: tuple[float, float],
    d: int,
) -> tuple[float, float]:
    """The weights that one of the two queries gives to the two keys."""
    out = call(*two_keys(q, k, d, rank)).reshape(-1, 2, d)[0, query, :2]
    return float(out[0]), float(out[1])


def _log_ratio(a: float, b: float) -> float:
    if a == b == 0 or min(a, b) < 0 or not math.isfinite(a + b):
        raise ValueError("no weights")
    return math.inf if b == 0 else -math.inf if a == 0 else math.log(a / b)


def _sees(mask: Mask | None, query: int) -> tuple[bool, bool]:
    matrix = torch.ones(2, 2).bool() if mask is None else mask.matrix(2)
    a, b = (matrix if matrix.ndim == 2 else matrix[0])[query].tolist()
    return a, b


def _factor(found: Measured, call: Call, rank: int, mask: Mask | None) -> None:
    if not all(_sees(mask, 1)):
        return
    for d in (4, 16):
        pair = _weights(call, rank, 1, (0.0, 1.0), (1.0, 0.0), d)
        found.factors[d] = _log_ratio(*pair)
    small, large = found.factors[4], found.factors[16]
    if not all(math.isfinite(f) for f in (small, large)):
        return
    rest = f"measured {small:.4g} for d = 4 and {large:.4g} for d = 16"
    if abs(small - 0.5) < 1e-4 and abs(large - 0.25) < 1e-4:
        return
    found.says.append(f"the factor on the scores is not 1/√d: {rest}")


def _hidden(found: Measured, call: Call, rank: int, mask: Mask | None) -> None:
    if _sees(mask, 0) != (True, False):
        return
    at_zero = _log_ratio(*_weights(call, rank, 0, (0.0, 0.0), (0.0, 0.0), 4))
    if at_zero == math.inf:  # nothing gets through
        return
    # Does the number replace a score of 4·factor, or is it added?
    above = _log_ratio(*_weights(call, rank, 0, (2.0, 0.0), (0.0, 2.0), 4))
    value = -at_zero
    if abs(value) < 1e-15:
        value = 0.0
    if abs(at_zero - above) < 1e-6 * max(1.0, abs(at_zero)):
        found.hidden = value
        found.says.append(f"a hidden key counts as one with a score of {value:.4g}")
    elif math.isfinite(value):
        found.shift = value
        if value:
            said = f"a hidden key counts, with {value:+.4g} on its score"
        else:
            said = "a hidden key counts like any other"
        found.says.append(said)


def _row_sums(found: Measured, call: Call, rank: int, mask: Mask | None) -> None:
    sums = [sum(_weights(call, rank, i, (0.0, 1.0), (1.0, 0.0), 4)) for i in (0, 1)]
    found.row_sums = tuple(sums)
    empty = [not any(_sees(mask, i)) for i in (0, 1)]
    off = [s for s, e in zip(sums, empty, strict=True) if not e and abs(s - 1) > 1e-4]
    if off:
        said = " and ".join(f"{s:.4g}" for s in sums)
        found.says.append(f"rows of weights add up to {said}, not to 1")


def who_sees_whom(call: Call, mask: Mask | None, plain: Probe) -> Iterator[str]:
    """Keys and values against the rule, with the queries held fixed."""
    T = plain.q.shape[-2]
    d = plain.q.shape[-1]
    draws = torch.Generator().manual_seed(3)
    base = torch.randn(64, d, generator=draws, dtype=torch.float64)
    fixed = plain.q.reshape(-1, T, d)[0]

    def alone(x: Tensor) -> Tensor:  # (T, 2D) → (T, D), in a batch of one's own
        n = len(x)
        q = fixed if n == T else base[:n]
        batch = plain.q.shape[:-2]
        given = (t.double().expand(*batch, n, d) for t in (q, *x.split(d, -1)))
        return call(*given).reshape(-1, n, d)[0]

    x = torch.cat([t.reshape(-1, T, d)[0] for t in (plain.k, plain.v)], dim=-1)
    allowed = allowed_for(mask, plain.q, plain.k).reshape(-1, T, T)[0]
    yield from influenced(alone, x, allowed, mask)


def influenced(
    alone: Callable[[Tensor], Tensor], x: Tensor, allowed: Tensor, mask: Mask | None
) -> Iterator[str]:
    """The first pair that is seen and is not to be, and the first that is missing."""
    if mask is None or mask.batch is None:
        report = audit(
            lambda rows: torch.stack([alone(row) for row in rows]),
            x[None],
            expected=allowed,
            probes=("perturbation",),
        )
        seen = report.measured
    else:
        seen = influence(alone, x, n_tries=1)
    for query, key in (seen & ~allowed).nonzero().tolist()[:1]:
        yield f"query position {query} sees key position {key}, which is hidden from it"
    for query, key in (allowed & ~seen).nonzero().tolist()[:1]:
        yield f"query position {query} does not see key position {key}"


# Long because: six properties, each with its words and its two sides.
def _properties(call: Call, mask: Mask | None, plain: Probe) -> list[str]:
    """Which of the properties of every right attention do not hold."""
    q, k, v = plain.q, plain.k, plain.v
    draws = torch.Generator().manual_seed(9)
    w = torch.randn(v.shape, generator=draws, dtype=torch.float64)
    one = torch.randn(v.shape[-1], generator=draws, dtype=torch.float64)
    allowed = allowed_for(mask, q, k)
    mean = allowed.double() / allowed.sum(-1, keepdim=True)
    other = torch.cat([v[:1], w[1:]]) if plain.rank > 2 else v
    checks: list[tuple[str, Callable[[], tuple[Tensor, Tensor]]]] = [
        (
            "equal values do not come back unchanged",
            lambda: (call(q, k, one.expand_as(v)), one.expand_as(q)),
        ),
        (
            "the output is not linear in v",
            lambda: (call(q, k, 2 * v + w), 2 * call(q, k, v) + call(q, k, w)),
        ),
        (
            "adding one vector to all keys changes the output",
            lambda: (call(q, k + one, v), call(q, k, v)),
        ),
        (
            "doubling q is not doubling k",
            lambda: (call(2 * q, k, v), call(q, 2 * k, v)),
        ),
        (
            "rows of a batch are not independent",
            lambda: (call(q, k, other)[:1], call(q, k, v)[:1]),
        ),
        (
            "q = 0 does not give the mean of the values that are seen",
            lambda: (call(0 * q, k, v), mean @ v),
        ),
    ]
    seen = allowed.any(-1, keepdim=True).expand(*q.shape[:-1], v.shape[-1])
    failed = []
    for said, sides in checks:
        try:
            a, b = sides()
            look = seen[: len(a)]
            if not bool(((a - b).abs() <= 1e-4)[look].all()):
                failed.append(said)
        except (CouldNotRun, RuntimeError, IndexError):
            continue
    return failed


def limits(call: Call, rank: int, mask: Mask | None) -> list[str]:
    """Scores at which a right function breaks: overflow, and a finite fill."""
    found = []

    def lost(s: float) -> bool:
        side = math.sqrt(s)
        out = call(*two_keys((0.0, side), (side, 0.0), 4, rank)).reshape(-1, 2, 4)
        return not abs(float(out[0, 1, 0]) - 1) < 1e-3

    def low(s: float) -> tuple[float, float]:
        side = math.sqrt(s)
        return _weights(call, rank, 0, (side, 0.0), (-side, 0.0), 4)

    with contextlib.suppress(CouldNotRun, RuntimeError, IndexError):
        if all(_sees(mask, 1)) and (at := _first(lost)):
            found.append(f"it breaks at a score of about {at / 2:.4g}: exp overflows")
        if _sees(mask, 0) == (True, False):
            if at := _first(lambda s: low(s)[1] > 1e-3):
                found.append(
                    "the mask gives way where all that a query sees scores below "
                    f"about −{at / 2:.4g}: a finite fill"
                )
            elif at := _first(lambda s: not abs(low(s)[0] - 1) < 1e-3):
                found.append(
                    f"it breaks where all scores are below about −{at / 2:.4g}: their "
                    "exp is 0"
                )
    return found


def _first(breaks: Callable[[float], bool]) -> float | None:
    """The least size at which it breaks, to three digits, up to 10¹²."""
    low, high = 32.0, 32.0
    while not breaks(high):
        low, high = high, 32 * high
        if high > 1e12:
            return None
    if low == high:
        return high
    for _ in range(14):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if breaks(middle) else (middle, high)
    return high
