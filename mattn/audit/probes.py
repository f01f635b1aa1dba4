"""The probes: each asks in another way whether the future is seen.

What each finds and misses is in chapter 9. A probe takes the audit in
progress, adds to it, and raises :class:`NotCovered` for what it cannot say.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from mattn.audit.subject import Subject, preserved, tensor_of
from mattn.checks import TOLERANCE

__all__ = ["HIDDEN", "PROBES", "NotCovered"]

HIDDEN = "perturbation of all hidden keys"
SHRINKS = 1e-3  # a float64 difference this much smaller is rounding
PADS = 3  # positions of padding that are added


class NotCovered(Exception):
    """What a probe cannot say about this model, in words."""


def perturbation(audit) -> None:
    """Change what is hidden and look whether an output moves, by anything at all.

    For each query all hidden keys at once (with a causal mask: every cut
    position), then every position alone, which gives the dependency matrix.
    The shapes stay, so a correct model moves by exactly nothing. A difference
    is repeated in float64 and is rounding only if it shrinks.
    """
    whole: dict[int, float] = {}
    for seed, scale in enumerate(audit.scales):
        for query, size in _hidden(audit, scale, seed).items():
            whole[query] = max(size, whole.get(query, 0.0))
    explained: set[int] = set()
    unseen = bool((audit.expected.any(dim=0) & ~audit.measured).any())
    first = audit.thorough and len(audit.scales) > 1
    if whole or first or (audit.thorough and unseen):
        for seed, scale in enumerate(audit.scales[:2]):
            explained |= _singles(audit, scale, seed)
    # One change alone can stay below a rounding or a threshold.
    for query in sorted(whole.keys() - explained):
        audit.leak(query, None, whole[query], HIDDEN)


def _hidden(audit, scale: float, seed: int) -> dict[int, float]:
    """Query → how far it moves when the keys hidden from some query change."""
    hidden = ~audit.expected  # (R, T, T)
    queries = hidden.any(dim=-1).any(dim=0).nonzero().flatten()
    if audit.length > audit.n_given:
        # What a cut shows, its neighbour mostly shows too: every other one beyond
        # the given length, every eighth before.
        every = torch.where(queries < audit.n_given - 1, 8, 2)
        queries = queries[queries % every == 0]
    elif audit.coarse:
        queries = queries[:: max(1, len(queries) // 8)]
    if not len(queries):
        return {}
    where = hidden[:, queries].transpose(0, 1)  # (n, R, T)
    reaches = torch.einsum("nrk,rqk->nrq", where.float(), audit.expected.float()) > 0
    leaks, moved = _unexpected(audit, where, reaches, scale, seed=100 + seed)
    sizes = moved.where(leaks, 0.0).amax(dim=(0, 1))
    return {q: float(sizes[q]) for q in sizes.nonzero().flatten().tolist()}


def _singles(audit, scale: float, seed: int) -> set[int]:
    """The dependency matrix, one position at a time; queries with a leak."""
    where = torch.eye(audit.length, dtype=torch.bool)[:, None]  # (T, 1, T)
    expected = audit.expected.permute(2, 0, 1)  # (key, R, query)
    leaks, moved = _unexpected(audit, where, expected, scale, seed)
    links = (moved > 10 * audit.noise) & expected
    audit.measured |= (links | leaks).any(dim=1).T
    sizes = moved.where(leaks, 0.0).amax(dim=1)  # (key, query)
    for key, query in leaks.any(dim=1).nonzero().tolist():
        audit.leak(query, key, float(sizes[key, query]), "perturbation")
    return {query for _, query in leaks.any(dim=1).nonzero().tolist()}


def _unexpected(
    audit, where: Tensor, expected: Tensor, scale: float, seed: int
) -> tuple[Tensor, Tensor]:
    """Which outputs move against expectation, (n, B, T), and how far all do."""
    moved = _moved(audit, where, scale, seed, audit.subject)
    suspects = (moved > 0) & ~expected
    if not suspects.any():
        return suspects, moved
    audit.repeat()  # is the unchanged run the same again?
    suspects &= moved > 10 * audit.noise
    if audit.is_double:
        leaks = suspects & (moved > TOLERANCE[torch.float64] * audit.size)
    elif not suspects.any():
        return suspects, moved
    else:
        stacks = suspects.flatten(1).any(dim=1)
        try:
            with audit.subject.double() as call:
                again = _moved(audit, where, scale, seed, call, only=stacks)
            leaks = suspects & _persists(moved, again)
        except OutOfTime:
            raise
        except Exception as error:  # whatever a third-party model raises in float64
            audit.skip(
                f"differences below {TOLERANCE[torch.float32]:g}: the model does not "
                f"run in float64 ({reason(error)})"
            )
            leaks = suspects & (moved > TOLERANCE[torch.float32] * audit.size)
    audit.rounding(moved, suspects & ~leaks)
    return leaks, moved


def _persists(moved: Tensor, again: Tensor) -> Tensor:
    """Whether a difference is as good as still there in float64."""
    floor = SHRINKS * moved
    return again > floor.where(moved.isfinite(), TOLERANCE[torch.float64])


def _moved(
    audit,
    where: Tensor,
    scale: float,
    seed: int,
    call: Callable[[Tensor], Tensor],
    only: Tensor | None = None,
) -> Tensor:
    """How far each output moves, (n, B, T), for each of n changes.

    ``where`` (n, R, T) is ``True`` at the changed positions; R is 1 or B.
    Changes go through the model in stacks; of these, ``only`` those needed.
    """
    T, number = audit.length, seed % len(audit.rows)
    x = audit.rows[number]
    B, size = len(x), min(audit.copies, len(where))
    moved = torch.zeros(len(where), B, T, dtype=torch.float64)
    # The unchanged run has the same shape, so that rounding is the same.
    unchanged = audit.unchanged if call is audit.subject else {}
    for first in range(0, len(where), size):
        some = slice(first, first + size)
        if only is not None and not only[some].any():
            continue
        audit.tick()
        stack = x.repeat(size, *(1,) * (x.ndim - 1))
        rows = torch.zeros(size, B, T, dtype=torch.bool)
        n = len(where[some])  # the last stack may be filled up with unchanged copies
        rows[:n] = where[some]
        generator = torch.Generator().manual_seed(1000 * seed + first)
        rows = rows.flatten(0, 1).to(x.device)
        changed = audit.subject.other(stack, rows, generator, scale)
        if (size, number) not in unchanged:
            unchanged[size, number] = call(stack)
        far = distance(unchanged[size, number], call(changed))
        moved[some] = far.reshape(size, B, T)[:n]
    return moved


def jacobian(audit) -> None:
    """∂ output i / ∂ input j by automatic differentiation, absolute maximum.

    Under a random projection of the output; for tokens, through the
    embedding. Blind to what has no gradient: rounding, top-k, detach.
    """
    subject: Subject = audit.subject
    if subject.is_tokens and subject.embedding is None:
        raise NotCovered("no embedding module takes the tokens")
    expected = audit.expected  # (R, T, T)
    rows = audit.row
    reach = _reach(audit, rows, range(audit.length))  # (B, query, key)
    suspects = (reach > 0) & ~expected
    leaks = suspects
    if suspects.any() and not audit.is_double:
        queries = suspects.any(dim=-1).any(dim=0).nonzero().flatten().tolist()
        again = torch.zeros_like(reach)
        try:
            with subject.double():
                exact = rows if subject.is_tokens else rows.double()
                again[:, queries] = _reach(audit, exact, queries)
            leaks = suspects & _persists(reach, again)
        except (RuntimeError, NotImplementedError):
            leaks = suspects & (reach > TOLERANCE[torch.float32] * reach.max())
        audit.rounding(reach, suspects & ~leaks)
    audit.measured |= ((reach > 0) & (expected | leaks)).any(dim=0)
    sizes = reach.where(leaks, 0.0).amax(dim=0)
    for query, key in leaks.any(dim=0).nonzero().tolist():
        audit.leak(query, key, float(sizes[query, key]), "jacobian")


def _reach(audit, x: Tensor, queries) -> Tensor:
    """Largest |∂ output / ∂ input| over features: (B, queries, keys)."""
    subject: Subject = audit.subject
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
                audit.tick()
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


def truncation(audit) -> None:
    """Cut the input after n positions: outputs that see only those must stay.

    Shapes change, so sums are taken in another order: float64, 1e-9.
    """
    _looks_back(audit)
    _fits_any_row(audit)

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        whole = call(audit.row)
        T = audit.length
        # Every cut of a short input, 20 of a long one: changes tell them all.
        for n in sorted({1, 2, 3, T - 1, *range(1, T, max(1, T // 16))} & {*range(T)}):
            audit.tick()
            part = distance(call(audit.row[:, :n]), whole[:, :n])
            audit.differs(part, atol, "truncation")

    audit.precisely(run)


def batch(audit) -> None:
    """Other rows of the batch must change nothing: exchange them, leave them out."""
    _fits_any_row(audit)
    if len(audit.row) > 1:
        raise NotCovered("the model takes no other number of rows than the given")
    if audit.mixing is None:
        raise NotCovered("the model refuses other rows beside the given one")
    for query in audit.mixing.nonzero().flatten().tolist():
        audit.leak(query, None, float(audit.mixing[query]), "batch")
    if audit.mixing.any() or audit.is_training:  # there randomness depends on shape
        return
    rows = torch.cat([audit.row, *_mates(audit)[:1]])

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        alone = distance(call(rows)[:1], call(audit.row))
        audit.differs(alone, atol, "batch")

    audit.precisely(run)


def mixing(audit) -> Tensor | None:
    """How far each output (T,) moves with other rows of the batch; ``None``: unknown.

    The shape stays, so that any difference is one, unless it is rounding.
    """
    row, n = audit.row, len(audit.row)
    batches = [torch.cat([row, mates]) for mates in _mates(audit)]
    try:
        first, second = (audit.subject(x)[:n] for x in batches)
    except Exception:  # whatever a third-party model raises on another batch
        return None
    moved = distance(first, second)
    leaks = moved > 10 * audit.noise
    if leaks.any():
        try:
            with audit.subject.double() as call:
                again = distance(*(call(x)[:n] for x in batches))
            leaks &= _persists(moved, again)
        except Exception:  # whatever a third-party model raises in float64
            leaks &= moved > TOLERANCE[torch.float32] * audit.size
        audit.rounding(moved, (moved > 10 * audit.noise) & ~leaks)
    return moved.where(leaks, 0.0).amax(dim=0)


def _mates(audit) -> list[Tensor]:
    generator = torch.Generator().manual_seed(11)
    return [audit.subject.drawn(2, audit.length, generator) for _ in range(2)]


def cache(audit) -> None:
    """Step by step and in chunks through the model's cache = all at once."""
    step = audit.subject.adapter.step
    if step is None:
        raise NotCovered("no cache was found; say how to feed it: Adapter(step=…)")
    _looks_back(audit)
    _fits_any_row(audit)
    T = audit.length
    middle = max(1, (T - 1) // 2)
    splits = {
        "step by step": [1] * T,
        f"chunks of 1, {middle}, rest": [1, middle, T - 1 - middle],
        f"chunk of {T - 1}, then 1": [T - 1, 1],
    }

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        whole = call(audit.row)
        x = audit.row if audit.subject.is_tokens else audit.row.to(whole.dtype)
        for name, sizes in splits.items():
            state, outputs = None, []
            for chunk in x.split([n for n in sizes if n], dim=1):
                audit.tick()
                with torch.no_grad():
                    out, state = step(audit.subject.model, chunk, state, T)
                outputs.append(tensor_of(out, *chunk.shape[:2]))
            moved = distance(torch.cat(outputs, dim=1), whole)
            audit.differs(moved, atol, f"cache, {name}")

    audit.precisely(run)


def padding(audit) -> None:
    """Padding to the right and to the left must change no real position.

    In a batch with a row that has no padding: each as if it were alone.
    """
    pad = audit.subject.adapter.pad
    if pad is None:
        raise NotCovered("no attention_mask was found; say how: Adapter(pad=…)")
    _fits_any_row(audit)

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        for side, (x, real) in padded(audit).items():
            audit.tick()
            with torch.no_grad():
                out = tensor_of(pad(audit.subject.model, x, real), *x.shape[:2])
            for row, tokens, keep in zip(out, x, real, strict=True):
                alone = call(tokens[keep][None])
                moved = distance(row[keep][None], alone)
                audit.differs(moved, atol, f"padding, {side}")

    audit.precisely(run)


def padded(audit) -> dict[str, tuple[Tensor, Tensor]]:
    """Side → a batch of two rows, the first of them padded, and what is real."""
    generator = torch.Generator().manual_seed(13)
    filler = audit.subject.drawn(1, PADS, generator)
    longer = audit.subject.drawn(1, audit.length + PADS, generator)
    row = audit.row[:1]
    out = {}
    for side, parts in {"right": [row, filler], "left": [filler, row]}.items():
        x = torch.cat([torch.cat(parts, dim=1), longer])
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        real[0, slice(-PADS, None) if side == "right" else slice(PADS)] = False
        out[side] = x, real
    return out


def packed(audit) -> None:
    """Several documents in one row = each document alone."""
    pack = audit.subject.adapter.packed
    if pack is None:
        raise NotCovered("document isolation; say how to pack: Adapter(packed=…)")
    _fits_any_row(audit)
    if audit.length < 3:
        raise NotCovered("two documents need 3 positions or more")
    first = audit.length // 3
    sizes = [first, audit.length - first]
    ids = torch.repeat_interleave(torch.arange(2), torch.tensor(sizes))

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        x = audit.row[:1]
        x = x if audit.subject.is_tokens else x.to(call(x).dtype)
        with torch.no_grad():
            out = pack(audit.subject.model, x, ids[None].to(x.device))
        whole = tensor_of(out, *x.shape[:2])
        alone = torch.cat([call(document) for document in x.split(sizes, 1)], 1)
        audit.differs(distance(whole, alone), atol, "packed")

    audit.precisely(run)


def finite(audit) -> None:
    """Hygiene: finite outputs and gradients, with padding, large, in float16."""
    subject: Subject = audit.subject
    row, pad, module = audit.row, subject.adapter.pad, subject.module

    def hears(
        what: str, forward: Callable[[], Tensor], real: Tensor | None = None
    ) -> None:
        audit.tick()
        with torch.enable_grad():
            out = forward()
            seen = out if real is None else out[real]
            if not out.isfinite().all():
                audit.hygiene.append(f"outputs not finite {what}")
            leaves = [p for p in _parameters(subject) if p.requires_grad]
            if not seen.requires_grad or not leaves:
                return
            if not seen.isfinite().all():
                return
            gradients = torch.autograd.grad(
                seen.float().mean(), leaves, allow_unused=True
            )
            if not all(g is None or g.isfinite().all() for g in gradients):
                audit.hygiene.append(
                    f"gradients not finite {what}, though the outputs scored are"
                )

    hears("for the given input", lambda: subject.run(row))
    moved = distance(subject(row), audit.with_seed(1, row))
    if (moved > 10 * audit.noise).any():
        audit.hygiene.append(f"random numbers act in {audit.mode}")
    if pad is not None:
        for side, (x, real) in padded(audit).items():

            def run(x: Tensor = x, real: Tensor = real) -> Tensor:
                return tensor_of(pad(subject.model, x, real), *x.shape[:2])

            _attempt(
                audit,
                f"finite outputs with padding ({side})",
                partial(hears, f"with padding on the {side}", run, real),
            )
    if subject.embedding is not None or not subject.is_tokens:
        for scale in (1e2, 1e4):

            def scaled(scale: float = scale) -> Tensor:
                if not subject.is_tokens:
                    return subject.run(row * scale)
                with subject.embedded(lambda embedded: embedded * scale):
                    return subject.run(row)

            _attempt(
                audit,
                f"embedded inputs × {scale:g}",
                partial(hears, f"for inputs × {scale:g}", scaled),
            )
    if module is None or row.is_cuda:
        return

    def half() -> None:
        with preserved(module):
            module.half()
            x = row if subject.is_tokens else row.half()
            hears("in float16", lambda: subject.run(x))
            if pad is not None and subject.is_tokens:
                for side, (x, real) in padded(audit).items():
                    out = pad(subject.model, x, real)
                    if not tensor_of(out, *x.shape[:2])[real].isfinite().all():
                        audit.hygiene.append(
                            f"outputs not finite in float16 with padding on the {side}"
                        )

    _attempt(audit, "float16", half)


def _attempt(audit, what: str, do: Callable[[], None]) -> None:
    try:
        do()
    except OutOfTime:
        raise
    except Exception as error:  # many operators lack float16 on a CPU
        audit.skip(f"{what}: {reason(error)}")


def _parameters(subject: Subject) -> list[Tensor]:
    return [] if subject.module is None else list(subject.module.parameters())


def nan(audit) -> None:
    """Hygiene: NaN at the last position; does it reach earlier outputs?

    Dense attention multiplies the blocked NaN by 0, which is NaN: a matter
    of hygiene (padding, unused cache slots), never counted as a leak.
    """
    subject: Subject = audit.subject
    if audit.expected[:, :-1, -1].any():
        raise NotCovered("other outputs may depend on the last position")
    if subject.is_tokens and subject.embedding is None:
        raise NotCovered("no embedding module takes the tokens")

    def poison(x: Tensor) -> Tensor:
        x = x.clone()
        x[:, -1] = torch.nan
        return x

    if subject.is_tokens:
        with subject.embedded(poison):
            out = subject(audit.row)
    else:
        out = subject(poison(audit.row))
    reached = out[0, :-1].isnan().any(dim=-1).sum()
    if reached:
        audit.hygiene.append(
            f"a NaN at the last position reaches {int(reached)} earlier outputs "
            "(0·NaN = NaN in a dense product)"
        )


def _looks_back(audit) -> None:
    if not audit.expected.tril().equal(audit.expected):
        raise NotCovered("an output is expected to see later positions")


def _fits_any_row(audit) -> None:
    if len(audit.expected) > 1:
        raise NotCovered("the expected mask belongs to the rows of this batch")


class OutOfTime(NotCovered):
    """The time budget was used up."""


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


PROBES: dict[str, Callable] = {
    "perturbation": perturbation,
    "jacobian": jacobian,
    "truncation": truncation,
    "batch": batch,
    "cache": cache,
    "padding": padding,
    "packed": packed,
    "finite": finite,
    "nan": nan,
}
"""Every probe by name, in the order in which an audit runs them."""
