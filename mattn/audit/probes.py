"""The probes: each asks in another way whether the future is seen.

What each finds and misses is in chapter 9. A probe takes the audit in
progress, adds to it, and raises :class:`NotCovered` for what it cannot say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from mattn.audit import hygiene
from mattn.audit.findings import HIDDEN
from mattn.audit.session import (
    Call,
    NotCovered,
    OutOfTime,
    Session,
    distance,
    persists,
    reason,
)
from mattn.audit.subject import tensor_of
from mattn.checks import TOLERANCE

__all__ = ["PROBES"]


def perturbation(session: Session) -> None:
    """Change what is hidden and look whether an output moves, by anything at all.

    For each query all hidden keys at once (with a causal mask: every cut
    position), then every position alone, which gives the dependency matrix.
    The shapes stay, so a correct model moves by exactly nothing. A difference
    is repeated in float64 and is rounding only if it shrinks.
    """
    whole: dict[int, float] = {}
    for seed, scale in enumerate(session.scales):
        for query, size in _hidden(session, scale, seed).items():
            whole[query] = max(size, whole.get(query, 0.0))
    explained: set[int] = set()
    unseen = bool((session.expected.any(dim=0) & ~session.measured).any())
    first = session.thorough and len(session.scales) > 1
    if whole or first or (session.thorough and unseen):
        for seed, scale in enumerate(session.scales[:2]):
            explained |= _singles(session, scale, seed)
    # One change alone can stay below a rounding or a threshold.
    for query in sorted(whole.keys() - explained):
        session.leak(query, None, whole[query], HIDDEN)


def _hidden(session: Session, scale: float, seed: int) -> dict[int, float]:
    """Query → how far it moves when the keys hidden from some query change."""
    hidden = ~session.expected  # (R, T, T)
    queries = hidden.any(dim=-1).any(dim=0).nonzero().flatten()
    if session.length > session.n_given:
        # What a cut shows, its neighbour mostly shows too: every other one beyond
        # the given length, every eighth before.
        every = torch.where(queries < session.n_given - 1, 8, 2)
        queries = queries[queries % every == 0]
    elif session.coarse:
        queries = queries[:: max(1, len(queries) // 8)]
    if not len(queries):
        return {}
    where = hidden[:, queries].transpose(0, 1)  # (n, R, T)
    reaches = torch.einsum("nrk,rqk->nrq", where.float(), session.expected.float()) > 0
    leaks, moved = _unexpected(session, where, reaches, scale, seed=100 + seed)
    sizes = moved.where(leaks, 0.0).amax(dim=(0, 1))
    return {q: float(sizes[q]) for q in sizes.nonzero().flatten().tolist()}


def _singles(session: Session, scale: float, seed: int) -> set[int]:
    """The dependency matrix, one position at a time; queries with a leak."""
    where = torch.eye(session.length, dtype=torch.bool)[:, None]  # (T, 1, T)
    expected = session.expected.permute(2, 0, 1)  # (key, R, query)
    leaks, moved = _unexpected(session, where, expected, scale, seed)
    links = (moved > 10 * session.noise) & expected
    session.measured |= (links | leaks).any(dim=1).T
    sizes = moved.where(leaks, 0.0).amax(dim=1)  # (key, query)
    for key, query in leaks.any(dim=1).nonzero().tolist():
        session.leak(query, key, float(sizes[key, query]), "perturbation")
    return {query for _, query in leaks.any(dim=1).nonzero().tolist()}


def _unexpected(
    session: Session, where: Tensor, expected: Tensor, scale: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Which outputs move against expectation, (n, B, T), and how far all do."""
    moved = _moved(session, where, scale, seed, session.subject)
    suspects = (moved > 0) & ~expected
    if not suspects.any():
        return suspects, moved
    session.repeat()  # is the unchanged run the same again?
    suspects &= moved > 10 * session.noise
    if session.is_double:
        leaks = suspects & (moved > TOLERANCE[torch.float64] * session.size)
    elif not suspects.any():
        return suspects, moved
    else:
        stacks = suspects.flatten(1).any(dim=1)
        try:
            with session.subject.double() as call:
                again = _moved(session, where, scale, seed, call, only=stacks)
            leaks = suspects & persists(moved, again)
        except OutOfTime:
            raise
        except Exception as error:  # whatever a third-party model raises in float64
            session.skip(
                f"differences below {TOLERANCE[torch.float32]:g}: the model does not "
                f"run in float64 ({reason(error)})"
            )
            leaks = suspects & (moved > TOLERANCE[torch.float32] * session.size)
    session.rounding(moved, suspects & ~leaks)
    return leaks, moved


def _moved(
    session: Session,
    where: Tensor,
    scale: float,
    seed: int,
    call: Call,
    only: Tensor | None = None,
) -> Tensor:
    """How far each output moves, (n, B, T), for each of n changes.

    ``where`` (n, R, T) is ``True`` at the changed positions; R is 1 or B.
    Changes go through the model in stacks; of these, ``only`` those needed.
    """
    T, number = session.length, seed % len(session.rows)
    x = session.rows[number]
    B, size = len(x), min(session.copies, len(where))
    moved = torch.zeros(len(where), B, T, dtype=torch.float64)
    # The unchanged run has the same shape, so that rounding is the same.
    unchanged = session.unchanged if call is session.subject else {}
    for first in range(0, len(where), size):
        some = slice(first, first + size)
        if only is not None and not only[some].any():
            continue
        session.tick()
        stack = x.repeat(size, *(1,) * (x.ndim - 1))
        rows = torch.zeros(size, B, T, dtype=torch.bool)
        n = len(where[some])  # the last stack may be filled up with unchanged copies
        rows[:n] = where[some]
        generator = torch.Generator().manual_seed(1000 * seed + first)
        rows = rows.flatten(0, 1).to(x.device)
        changed = session.subject.other(stack, rows, generator, scale)
        if (size, number) not in unchanged:
            unchanged[size, number] = call(stack)
        far = distance(unchanged[size, number], call(changed))
        moved[some] = far.reshape(size, B, T)[:n]
    return moved


def jacobian(session: Session) -> None:
    """∂ output i / ∂ input j by automatic differentiation, absolute maximum.

    Under a random projection of the output; for tokens, through the
    embedding. Blind to what has no gradient: rounding, top-k, detach.
    """
    subject = session.subject
    if subject.is_tokens and subject.embedding is None:
        raise NotCovered("no embedding module takes the tokens")
    expected = session.expected  # (R, T, T)
    rows = session.row
    reach = _reach(session, rows, range(session.length))  # (B, query, key)
    suspects = (reach > 0) & ~expected
    leaks = suspects
    if suspects.any() and not session.is_double:
        queries = suspects.any(dim=-1).any(dim=0).nonzero().flatten().tolist()
        again = torch.zeros_like(reach)
        try:
            with subject.double():
                exact = rows if subject.is_tokens else rows.double()
                again[:, queries] = _reach(session, exact, queries)
            leaks = suspects & persists(reach, again)
        except (RuntimeError, NotImplementedError):
            leaks = suspects & (reach > TOLERANCE[torch.float32] * reach.max())
        session.rounding(reach, suspects & ~leaks)
    session.measured |= ((reach > 0) & (expected | leaks)).any(dim=0)
    sizes = reach.where(leaks, 0.0).amax(dim=0)
    for query, key in leaks.any(dim=0).nonzero().tolist():
        session.leak(query, key, float(sizes[query, key]), "jacobian")


def _reach(session: Session, x: Tensor, queries: Iterable[int]) -> Tensor:
    """Largest |∂ output / ∂ input| over features: (B, queries, keys)."""
    subject = session.subject
    leaf: list[Tensor] = []

    def as_leaf(embedded: Tensor) -> Tensor:
        leaf.append(embedded.detach().requires_grad_())
        return leaf[0]

    try:
        with torch.enable_grad():
            if subject.is_tokens:
                with subject.embedded(as_leaf):
                    out = subject.run(x)
            else:
                as_leaf(x)
                out = subject.run(leaf[0])
            if not out.requires_grad or not leaf:
                raise NotCovered("the output has no gradient")
            generator = torch.Generator().manual_seed(7)
            projected = out @ torch.randn(out.shape[-1], generator=generator).to(out)
            reach = []
            for query in queries:
                session.tick()
                (gradient,) = torch.autograd.grad(
                    projected[:, query].sum(),
                    leaf[0],
                    retain_graph=True,
                    allow_unused=True,
                )
                if gradient is None:
                    gradient = torch.zeros_like(leaf[0])
                gradient = gradient.abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
                reach.append(gradient.flatten(2).amax(dim=-1).double().cpu())
    except (RuntimeError, NotImplementedError) as error:
        raise NotCovered(reason(error)) from error
    return torch.stack(reach, dim=1)


def truncation(session: Session) -> None:
    """Cut the input after n positions: outputs that see only those must stay.

    Shapes change, so sums are taken in another order: float64, 1e-9.
    """
    session.must_look_back()
    session.must_fit_any_row()

    def run(call: Call, atol: float) -> None:
        whole = call(session.row)
        T = session.length
        # Every cut of a short input, 20 of a long one: changes tell them all.
        for n in sorted({1, 2, 3, T - 1, *range(1, T, max(1, T // 16))} & {*range(T)}):
            session.tick()
            part = distance(call(session.row[:, :n]), whole[:, :n])
            session.differs(part, atol, "truncation")

    session.precisely(run)


def batch(session: Session) -> None:
    """Other rows of the batch must change nothing: exchange them, leave them out."""
    session.must_fit_any_row()
    if len(session.row) > 1:
        raise NotCovered("the model takes no other number of rows than the given")
    if session.mixing is None:
        raise NotCovered("the model refuses other rows beside the given one")
    for query in session.mixing.nonzero().flatten().tolist():
        session.leak(query, None, float(session.mixing[query]), "batch")
    if session.mixing.any() or session.is_training:  # there randomness depends on shape
        return
    rows = torch.cat([session.row, *session.mates()[:1]])

    def run(call: Call, atol: float) -> None:
        alone = distance(call(rows)[:1], call(session.row))
        session.differs(alone, atol, "batch")

    session.precisely(run)


def cache(session: Session) -> None:
    """Step by step and in chunks through the model's cache = all at once."""
    step = session.subject.adapter.step
    if step is None:
        raise NotCovered("no cache was found; say how to feed it: Adapter(step=…)")
    session.must_look_back()
    session.must_fit_any_row()
    T = session.length
    middle = max(1, (T - 1) // 2)
    splits = {
        "step by step": [1] * T,
        f"chunks of 1, {middle}, rest": [1, middle, T - 1 - middle],
        f"chunk of {T - 1}, then 1": [T - 1, 1],
    }

    def run(call: Call, atol: float) -> None:
        whole = call(session.row)
        x = session.row if session.subject.is_tokens else session.row.to(whole.dtype)
        for name, sizes in splits.items():
            state, outputs = None, []
            for chunk in x.split([n for n in sizes if n], dim=1):
                session.tick()
                with torch.no_grad():
                    out, state = step(session.subject.model, chunk, state, T)
                outputs.append(tensor_of(out, *chunk.shape[:2]))
            moved = distance(torch.cat(outputs, dim=1), whole)
            session.differs(moved, atol, f"cache, {name}")

    session.precisely(run)


def padding(session: Session) -> None:
    """Padding to the right and to the left must change no real position.

    In a batch with a row that has no padding: each as if it were alone.
    """
    pad = session.subject.adapter.pad
    if pad is None:
        raise NotCovered("no attention_mask was found; say how: Adapter(pad=…)")
    session.must_fit_any_row()

    def run(call: Call, atol: float) -> None:
        for side, (x, real) in session.padded().items():
            session.tick()
            with torch.no_grad():
                out = tensor_of(pad(session.subject.model, x, real), *x.shape[:2])
            for row, tokens, keep in zip(out, x, real, strict=True):
                alone = call(tokens[keep][None])
                moved = distance(row[keep][None], alone)
                session.differs(moved, atol, f"padding, {side}")

    session.precisely(run)


def packed(session: Session) -> None:
    """Several documents in one row = each document alone."""
    pack = session.subject.adapter.packed
    if pack is None:
        raise NotCovered("document isolation; say how to pack: Adapter(packed=…)")
    session.must_fit_any_row()
    if session.length < 3:
        raise NotCovered("two documents need 3 positions or more")
    first = session.length // 3
    sizes = [first, session.length - first]
    ids = torch.repeat_interleave(torch.arange(2), torch.tensor(sizes))

    def run(call: Call, atol: float) -> None:
        x = session.row[:1]
        x = x if session.subject.is_tokens else x.to(call(x).dtype)
        with torch.no_grad():
            out = pack(session.subject.model, x, ids[None].to(x.device))
        whole = tensor_of(out, *x.shape[:2])
        alone = torch.cat([call(document) for document in x.split(sizes, 1)], 1)
        session.differs(distance(whole, alone), atol, "packed")

    session.precisely(run)


PROBES: dict[str, Callable[[Session], None]] = {
    "perturbation": perturbation,
    "jacobian": jacobian,
    "truncation": truncation,
    "batch": batch,
    "cache": cache,
    "padding": padding,
    "packed": packed,
    "finite": hygiene.finite,
    "nan": hygiene.nan,
}
"""Every probe by name, in the order in which an audit runs them."""
