"""The probes: each asks in another way whether the future is seen.

What each finds and misses was measured on planted leaks; the table is in
chapter 9. A probe takes the :class:`Audit` in progress and adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mattn.audit.subject import Subject, parameters, tensor_of
from mattn.checks import TOLERANCE

__all__ = ["PROBES"]

STACK = 32  # changed copies of the input that share one forward pass
SHRINKS = 1e-3  # a float64 difference this much smaller is rounding


def perturbation(audit) -> None:
    """Change one position, look which outputs move; then all hidden ones at once.

    Same shapes, so a correct model moves by exactly nothing. A difference
    is repeated in float64 and is rounding only if it shrinks.
    """
    for tries, scale in enumerate(audit.scales):
        for positions in _single(audit.length):
            _perturb(audit, positions, scale, seed=tries)
        # One change alone can stay below a rounding or a threshold.
        _perturb_hidden(audit, scale, seed=tries)


def _single(T: int) -> Iterator[Tensor]:
    """Every position alone, in stacks: (copies, T), ``True`` = changed."""
    yield from torch.eye(T, dtype=torch.bool).split(STACK)


def _perturb(audit, where: Tensor, scale: float, *, seed: int) -> None:
    moved = _moved(audit, where, scale, seed)  # (copies, B, T)
    if moved is None:
        return
    keys = where.int().argmax(dim=1)
    audit.measured[:, keys] |= (moved > 0).any(dim=1).T
    hidden = ~audit.expected[:, :, keys].permute(2, 0, 1)  # (copies, B or 1, T)
    leaks = _confirmed(audit, moved, hidden, where, scale, seed)
    for copy, _, query in leaks.nonzero().tolist():
        size = float(moved[copy, :, query].max())
        audit.leak(query, int(keys[copy]), size, "perturbation")


def _perturb_hidden(audit, scale: float, *, seed: int) -> None:
    # One set of expected keys for each query: rows of rules that tell the rows
    # of a batch apart share their hidden keys here.
    hidden_from = ~audit.expected.any(dim=0)  # (T, T)
    queries = hidden_from.any(dim=1).nonzero().flatten()
    for some in queries.split(STACK):
        where = hidden_from[some]
        moved = _moved(audit, where, scale, seed)
        if moved is None:
            return
        own = torch.zeros_like(moved, dtype=torch.bool)
        own[torch.arange(len(some)), :, some] = True
        leaks = _confirmed(audit, moved, own, where, scale, seed)
        for copy, _, query in leaks.nonzero().tolist():
            if any(leak.query == query for leak in audit.leaks):
                continue
            key = int(where[copy].int().argmax())
            size = float(moved[copy, :, query].max())
            audit.leak(query, key, size, "perturbation of all hidden keys")


def _moved(
    audit,
    where: Tensor,
    scale: float,
    seed: int,
    call: Callable[[Tensor], Tensor] | None = None,
) -> Tensor | None:
    """How far each output moves, (copies, B, T); ``None`` when time is up."""
    if audit.out_of_time("perturbation"):
        return None
    call = call or audit.subject
    copies = audit.stack(len(where))
    moved = []
    generator = torch.Generator().manual_seed(1000 + seed)
    for some in where.split(copies):
        n, B = len(some), len(audit.x)
        x = audit.x.repeat(n, *(1,) * (audit.x.ndim - 1))
        rows = some.repeat_interleave(B, dim=0).to(x.device)
        changed = audit.subject.other(x, rows, generator, scale)
        before, after = call(x), call(changed)
        moved.append(_distance(before, after).reshape(n, B, -1))
        audit.progress()
    return torch.cat(moved)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Largest difference over features, (B, T); NaN equals NaN, else it is ∞."""
    a, b = a.double(), b.double()
    same = (a == b) | (a.isnan() & b.isnan())
    difference = (a - b).abs().nan_to_num(nan=torch.inf, posinf=torch.inf)
    return torch.where(same, 0.0, difference).amax(dim=-1).cpu()


def _confirmed(
    audit, moved: Tensor, hidden: Tensor, where: Tensor, scale: float, seed: int
) -> Tensor:
    """The forbidden movements that are not rounding and not chance."""
    suspects = (moved > 10 * audit.noise) & hidden
    if not suspects.any():
        return suspects
    if audit.is_double:
        return suspects & (moved > TOLERANCE[torch.float64] * audit.size)
    copies = suspects.flatten(1).any(dim=1)
    again = torch.zeros_like(moved)
    try:
        with audit.subject.double() as call:
            # The same draws as before: the generator starts from the same seed.
            again[copies] = _moved_some(audit, where, copies, scale, seed, call)
    except Exception as error:  # whatever a third-party model raises in float64
        audit.skip(f"repeating a difference in float64 ({_reason(error)})")
        return suspects & (moved > TOLERANCE[torch.float32] * audit.size)
    leaks = suspects & (again > SHRINKS * moved)
    if (suspects & ~leaks).any():
        audit.note(
            "rounding: a difference of at most "
            f"{float(moved[suspects & ~leaks].max()):.1g} in {audit.mode} shrank with "
            "the precision and is not counted"
        )
    return leaks


def _moved_some(audit, where, copies, scale, seed, call) -> Tensor:
    moved = _moved(audit, where, scale, seed, call)
    if moved is None:
        raise TimeoutError("the time budget was used up")
    return moved[copies]


def jacobian(audit) -> None:
    """∂ output i / ∂ input j by automatic differentiation, absolute maximum.

    Under random projections of the output; for tokens, through the
    embedding. Blind to what has no gradient: rounding, top-k, detach.
    """
    subject: Subject = audit.subject
    if subject.is_tokens and subject.embedding is None:
        audit.skip("Jacobian: no embedding module takes the tokens")
        return
    leaf: list[Tensor] = []

    def as_leaf(module, args, output):
        leaf.append(output.detach().requires_grad_())
        return leaf[-1]

    x = audit.x[:1]
    expected = audit.expected[0]
    generator = torch.Generator().manual_seed(7)
    try:
        with torch.enable_grad():
            if subject.is_tokens:
                handle = subject.embedding.register_forward_hook(as_leaf)
                try:
                    out = subject.run(x)
                finally:
                    handle.remove()
            else:
                leaf.append(x.detach().clone().requires_grad_())
                out = subject.run(leaf[0])
            if not out.requires_grad:
                audit.skip("Jacobian: the output has no gradient")
                return
            projection = torch.randn(out.shape[-1], generator=generator).to(out)
            projected = out[0] @ projection
            for query in range(audit.length):
                if audit.out_of_time("Jacobian"):
                    return
                (gradient,) = torch.autograd.grad(
                    projected[query], leaf[0], retain_graph=True, allow_unused=True
                )
                audit.progress()
                if gradient is None:
                    continue
                reach = gradient[0].abs().amax(dim=-1).nan_to_num(nan=torch.inf)
                reach = reach.double().cpu()
                audit.measured[query] |= reach > 0
                for key in ((reach > 0) & ~expected[query]).nonzero().flatten():
                    audit.leak(query, int(key), float(reach[key]), "jacobian")
    except (RuntimeError, NotImplementedError) as error:
        audit.skip(f"Jacobian: {_reason(error)}")


def truncation(audit) -> None:
    """Cut the input after n positions: outputs that see only those must stay.

    Shapes change, so sums are taken in another order: float64, 1e-9.
    """
    expected = audit.expected
    if not expected.tril().equal(expected) or len(expected) > 1:
        audit.skip("truncation: the expected dependency is not a causal one")
        return

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        x = audit.x[:1]
        whole = call(x)
        for n in range(1, audit.length):
            if audit.out_of_time("truncation"):
                return
            distance = _distance(call(x[:, :n]), whole[:, :n])[0]
            audit.progress()
            for query in (distance > atol * audit.size).nonzero().flatten().tolist():
                audit.leak(query, None, float(distance[query]), "truncation")

    audit.precisely("truncation", run)


def batch(audit) -> None:
    """Other rows of the batch must change nothing: exchange them."""
    if len(audit.expected) > 1:
        audit.skip("batch invariance: the expected mask belongs to this batch")
        return
    x = audit.x[:1]
    generator = torch.Generator().manual_seed(11)
    try:
        first, second = (
            torch.cat([x, audit.subject.drawn(2, audit.length, generator)])
            for _ in range(2)
        )
        distance = _distance(audit.subject(first)[:1], audit.subject(second)[:1])[0]
    except Exception as error:  # whatever a third-party model raises
        audit.skip(f"batch invariance: the model refuses 3 rows ({_reason(error)})")
        return
    suspects = distance > 10 * audit.noise
    if suspects.any():
        try:
            with audit.subject.double() as call:
                again = _distance(call(first)[:1], call(second)[:1])[0]
            leaks = suspects & (again > SHRINKS * distance)
        except Exception:
            leaks = suspects & (distance > TOLERANCE[torch.float32] * audit.size)
        audit.rows_mix |= bool(leaks.any())
        for query in leaks.nonzero().flatten().tolist():
            audit.leak(query, None, float(distance[query]), "batch")
    audit.progress()


def cache(audit) -> None:
    """Step by step and in chunks through the model's cache = all at once.

    Knows ``past_key_values`` and ``model.new_cache(capacity)`` with
    ``model(x, cache=…)``; otherwise pass ``step=``.
    """
    step = audit.step or _default_step(audit.subject.model)
    if step is None:
        audit.skip("cached decoding: no cache was found; pass step= to audit one")
        return
    T = audit.length
    middle = max(1, (T - 1) // 2)
    splits = {
        "step by step": [1] * T,
        f"chunks 1, {middle}, rest": [1, middle, max(0, T - 1 - middle)],
        f"chunk {T - 1}, then 1": [T - 1, 1],
    }

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        x = audit.x[:1]
        whole = call(x)
        x = x if audit.subject.is_tokens else x.to(whole.dtype)
        for name, sizes in splits.items():
            if audit.out_of_time("cached decoding"):
                return
            state, outputs = None, []
            for chunk in x.split([n for n in sizes if n], dim=1):
                with torch.no_grad():
                    out, state = step(audit.subject.model, chunk, state, T)
                outputs.append(tensor_of(out, *chunk.shape[:2]))
            distance = _distance(torch.cat(outputs, dim=1), whole)[0]
            audit.progress()
            for query in (distance > atol * audit.size).nonzero().flatten().tolist():
                audit.leak(query, None, float(distance[query]), f"cache, {name}")

    audit.precisely("cached decoding", run)


def _default_step(model) -> Callable | None:
    """How to feed a chunk: ``(model, chunk, state, capacity) → (output, state)``."""
    if "past_key_values" in parameters(model):

        def step(model, chunk, state, capacity):
            out = model(chunk, past_key_values=state, use_cache=True)
            return out, out.past_key_values

        return step
    if "cache" in parameters(model) and hasattr(model, "new_cache"):

        def step(model, chunk, state, capacity):
            state = model.new_cache(capacity) if state is None else state
            return model(chunk, cache=state), state

        return step
    return None


def padding(audit) -> None:
    """Padding to the right and to the left must change no real position.

    Knows ``attention_mask`` (and ``position_ids``); otherwise pass ``pad=``.
    """
    pad = audit.pad or _default_pad(audit.subject.model)
    if pad is None:
        audit.skip("padding: no attention_mask was found; pass pad= to audit it")
        return
    n_pads = 3
    generator = torch.Generator().manual_seed(13)
    filler = audit.subject.drawn(1, n_pads, generator)

    def run(call: Callable[[Tensor], Tensor], atol: float) -> None:
        x = audit.x[:1]
        whole = call(x)
        T = audit.length
        for side in ("right", "left"):
            parts = [x, filler] if side == "right" else [filler, x]
            real = torch.zeros(1, T + n_pads, dtype=torch.long, device=x.device)
            first = 0 if side == "right" else n_pads
            real[:, first : first + T] = 1
            with torch.no_grad():
                out = pad(audit.subject.model, torch.cat(parts, dim=1), real)
            out = tensor_of(out, 1, T + n_pads)[:, first : first + T]
            distance = _distance(out, whole)[0]
            audit.progress()
            for query in (distance > atol * audit.size).nonzero().flatten().tolist():
                audit.leak(query, None, float(distance[query]), f"padding, {side}")

    audit.precisely("padding", run)


def _default_pad(model) -> Callable | None:
    known = parameters(model)
    if "attention_mask" not in known or "input_ids" not in known:
        return None

    def pad(model, x, real):
        options = {"attention_mask": real}
        if "position_ids" in known:
            options["position_ids"] = (real.cumsum(dim=-1) - 1).clamp(min=0)
        if "use_cache" in known:
            options["use_cache"] = False
        return model(x, **options)

    return pad


def finite(audit) -> None:
    """Hygiene: finite outputs in half precision and at large magnitude."""
    subject: Subject = audit.subject
    if not subject.is_tokens:
        for scale in (1e2, 1e4):
            if not subject(audit.x[:1] * scale).isfinite().all():
                audit.hygiene.append(f"outputs not finite for inputs × {scale:g}")
                break
    if subject.module is None:
        return
    from mattn.audit.subject import preserved

    try:
        with preserved(subject.module):
            subject.module.half()
            x = audit.x[:1] if subject.is_tokens else audit.x[:1].half()
            if not subject(x).isfinite().all():
                audit.hygiene.append("outputs not finite in float16")
    except Exception as error:  # many operators lack float16 on a CPU
        audit.skip(f"float16: {_reason(error)}")


def nan(audit) -> None:
    """Hygiene: NaN at the last position; does it reach earlier outputs?

    Dense attention multiplies the blocked NaN by 0, which is NaN: a matter
    of hygiene (padding, unused cache slots), never counted as a leak.
    """
    subject: Subject = audit.subject
    if not audit.expected[0, :-1, -1].any() and not (
        subject.is_tokens and subject.embedding is None
    ):

        def poison(module, args, output):
            output = output.clone()
            output[:, -1] = torch.nan
            return output

        x = audit.x[:1]
        try:
            if subject.is_tokens:
                handle = subject.embedding.register_forward_hook(poison)
                try:
                    out = subject(x)
                finally:
                    handle.remove()
            else:
                x = x.clone()
                x[:, -1] = torch.nan
                out = subject(x)
        except Exception as error:  # whatever a third-party model raises
            audit.skip(f"NaN hygiene: {_reason(error)}")
            return
        reached = out[0, :-1].isnan().any(dim=-1).sum()
        if reached:
            audit.hygiene.append(
                f"a NaN at the last position reaches {int(reached)} earlier outputs "
                "(0·NaN = NaN in a dense product)"
            )


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:80]}" if text else type(error).__name__


PROBES: dict[str, Callable] = {
    "perturbation": perturbation,
    "jacobian": jacobian,
    "truncation": truncation,
    "batch": batch,
    "cache": cache,
    "padding": padding,
    "finite": finite,
    "nan": nan,
}
"""Every probe by name, in the order in which an audit runs them."""
