"""Attention over a sequence of which every process holds a part.

Queries stay, keys and values go round. Each process merges what comes by with what
it has, as chapter 4 merges blocks; the gradients of keys and values travel with them
and are sent home at the end. Derived in chapter 12.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor

from mattn import softmax
from mattn.attention import align_rows
from mattn.masks import Mask, full
from mattn.parallel.talk import Counts, Held, agree, exchange, ranks

__all__ = ["as_rule", "partial_of", "ring_attention"]

_ROWS = 1024  # queries at once: their scores with one part are held in memory


# Long because: of its lines half are signature and docstring.
def ring_attention(
    q: Float[Tensor, "B H T D"],
    k: Float[Tensor, "B Hkv T D"],
    v: Float[Tensor, "B Hkv T Dv"],
    mask: Mask | None = None,
    *,
    slots: Int[Tensor, "*rows T"],
    group: Any = None,
    counts: Counts | None = None,
) -> Float[Tensor, "B H T Dv"]:
    """The output of attention at the tokens of this process; all call it together.

    ``slots``, (T,) or (B, T), say which tokens of the whole sequence these are, so
    the rule means the same as on one process; negative ones hold no token. T may
    differ between processes and may be 0. A part that the rule hides from a process is
    not computed there, and goes no further round than somebody needs it. Backward is
    a second round, which all processes have to begin, too. ``counts`` is filled.

    Raises ``ValueError`` on *every* process where one holds the wrong thing, and
    ``RuntimeError`` that names the neighbour where one is gone.

    Source: Liu et al. 2023, arXiv:2310.01889. Derived in chapter 12.
    """
    held = agree(q, k, v, slots, group)
    rule = as_rule(mask)
    round_ = _Round(rule, held, _route(rule, held, q.device, group), group, counts)
    return _Ring.apply(q, k, v, round_)


class _Round(NamedTuple):
    """Who holds what, and how far round each part has to go."""

    rule: Mask
    held: list[Held]
    far: list[int]
    group: Any
    counts: Counts | None

    def allowed(self, part: int, device: torch.device) -> Tensor:
        """What the own queries may see of a part: (…, T, its tokens)."""
        own = self.held[ranks(self.group)[0]].slots.to(device)
        return self.rule.at(own, self.held[part].slots.to(device))


def as_rule(mask: Mask | None) -> Mask:
    """The rule that is meant; ``ValueError`` for a tensor, which has no slots."""
    if mask is None:
        return full
    if not isinstance(mask, Mask):
        raise ValueError(
            "expected a rule of mattn.masks, which can be asked about any slots; got "
            f"{type(mask).__name__}. Make one of a function of slots with rule(…)."
        )
    return mask


def _route(rule: Mask, held: list[Held], device: torch.device, group: Any) -> list[int]:
    """For each part, how many places round the ring the last process sits that has a
    use for it. Each process asks the rule for its own queries alone.
    """
    rank, size = ranks(group)
    own = held[rank].slots.to(device)
    needs = torch.zeros(size, dtype=torch.long, device=device)
    for part, other in enumerate(held):
        if rule.at(own, other.slots.to(device)).any():
            needs[part] = (rank - part) % size
    dist.all_reduce(needs, dist.ReduceOp.MAX, group=group)
    return needs.tolist()


class _Ring(torch.autograd.Function):
    """Forward is one round, backward a second in which gradients travel, too."""

    @staticmethod
    def forward(ctx, q, k, v, round_):
        device, parts = q.device, _travel(round_, k, v)
        seen = [_nothing(rows, v) for rows in q.split(_ROWS, dim=2)]
        pairs = [0] * len(round_.held)
        for step, part, keys, values in parts:
            allowed = round_.allowed(part, device)
            pairs[step] = int(allowed.sum())
            if pairs[step]:
                for i, rows in enumerate(q.split(_ROWS, dim=2)):
                    here = allowed[..., i * _ROWS : (i + 1) * _ROWS, :]
                    new = partial_of(rows, keys, values, here)
                    seen[i] = softmax.merge(seen[i], new)
        if round_.counts is not None:
            round_.counts.pairs.extend(pairs)
        out = torch.cat([softmax.finish(rows) for rows in seen], dim=2)
        # log Σ exp(score): +∞ for an empty row, whose weights then come back as 0.
        lse = torch.cat([rows.maximum + rows.total.log() for rows in seen], dim=2)
        lse = lse.masked_fill(lse == -math.inf, math.inf)
        ctx.round_ = round_
        ctx.save_for_backward(q, k, v, out, lse)
        return out.to(q.dtype)

    @staticmethod
    def backward(ctx, *grads):
        q, k, v, out, lse = ctx.saved_tensors
        grad = grads[0].to(out.dtype)
        delta = (grad * out).sum(dim=-1, keepdim=True)
        dq = torch.zeros(q.shape, dtype=out.dtype, device=q.device)

        def learn(part: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
            dk, dv = (torch.zeros_like(t, dtype=out.dtype) for t in (keys, values))
            allowed = ctx.round_.allowed(part, q.device)
            if allowed.any():
                for i in range(0, q.shape[2], _ROWS):
                    at = (slice(None), slice(None), slice(i, i + _ROWS))
                    some = q[at], keys, values, allowed[..., i : i + _ROWS, :]
                    told = lse[at], grad[at], delta[at]
                    for total, new in zip(
                        (dq[at], dk, dv), _gradients(*some, *told), strict=True
                    ):
                        total += new
            return dk, dv

        dk, dv = _travel_home(ctx.round_, k, v, learn, out.dtype)
        return dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype), None


def _travel(round_: _Round, k: Tensor, v: Tensor):
    """Yield (step, part, keys, values), the own first.

    What is to be passed on is on its way while it is computed with.
    """
    rank, size = ranks(round_.group)
    held, far = round_.held, round_.far
    packed = _pack(k, v)
    for step in range(size):
        part, coming = (rank - step) % size, (rank - 1 - step) % size
        out, into, buffer = [], [], None
        if step + 1 < size:
            if far[part] > step:
                out = [(packed, (rank + 1) % size)]
            if far[coming] > step:
                buffer = packed.new_empty(_numel(held[coming]))
                into = [(buffer, (rank - 1) % size)]
        wait = exchange(out, into, round_.group, round_.counts)
        if far[part] >= step:
            yield step, part, *_unpack(packed, held[part])
        wait()
        if buffer is not None:
            packed = buffer


# Long because: one round, of which each step sends two things.
def _travel_home(round_: _Round, k: Tensor, v: Tensor, learn, dtype: torch.dtype):
    """The gradients of the own keys and values, collected all the way round."""
    rank, size = ranks(round_.group)
    held, far, group, counts = round_.held, round_.far, round_.group, round_.counts
    before, after = (rank - 1) % size, (rank + 1) % size
    packed = _pack(k, v)
    gathered = torch.zeros_like(packed, dtype=dtype)
    home = gathered
    for step in range(max(far) + 1):
        part, coming = (rank - step) % size, (before - step) % size
        here, goes, comes = far[part] >= step, far[part] > step, far[coming] > step
        buffers = [
            packed.new_empty(_numel(held[coming]) if comes else 0, dtype=kind)
            for kind in (packed.dtype, dtype)
        ]
        out = [(packed, after)] if goes else []
        wait = exchange(out, [(buffers[0], before)], group, counts)
        if here:
            gathered = gathered + _pack(*learn(part, *_unpack(packed, held[part])))
        wait()
        out, into = [(gathered, after)] if goes else [], [(buffers[1], before)]
        if here and not goes:
            if step:
                out.append((gathered, part))
            else:
                home = gathered
        if step and far[rank] == step:
            home = packed.new_empty(_numel(held[rank]), dtype=dtype)
            into.append((home, (rank + step) % size))
        exchange(out, into, group, counts)()
        packed, gathered = buffers
    return _unpack(home, held[rank])


def _pack(k: Tensor, v: Tensor) -> Tensor:
    return torch.cat([k.reshape(-1), v.reshape(-1)])


def _numel(part: Held) -> int:
    return math.prod(part.k) + math.prod(part.v)


def _unpack(packed: Tensor, part: Held) -> tuple[Tensor, Tensor]:
    k, v = packed.split([math.prod(part.k), math.prod(part.v)])
    return k.view(part.k), v.view(part.v)


def _nothing(q: Tensor, v: Tensor) -> softmax.Partial:
    """Before any key."""
    scores = q.new_zeros((*q.shape[:3], 0))
    return softmax.partial(scores, v.new_zeros((*q.shape[:2], 0, v.shape[-1])))


def _scores(q: Tensor, k: Tensor) -> Tensor:
    precise = torch.promote_types(q.dtype, torch.float32)
    return q.to(precise) / math.sqrt(q.shape[-1]) @ k.to(precise).mT


def _for_each_head(t: Tensor, n_heads: int) -> Tensor:
    return t.repeat_interleave(n_heads // max(t.shape[1], 1), dim=1)


def partial_of(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> softmax.Partial:
    """Attention to some keys, in the form that chapter 4 merges."""
    k, v = (_for_each_head(t, q.shape[1]) for t in (k, v))
    return softmax.partial(_scores(q, k), v, align_rows(allowed, 2))


def _gradients(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor,
    lse: Tensor,
    grad: Tensor,
    delta: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Of one part, as chapter 10 computes them: nothing but lse is remembered."""
    H, kv_shapes = q.shape[1], (k.shape, v.shape)
    k, v = (_for_each_head(t, H).to(grad.dtype) for t in (k, v))
    scores = _scores(q, k).masked_fill(~align_rows(allowed, 2), -math.inf)
    p = torch.exp(scores - lse)
    ds = p * (grad @ v.mT - delta) / math.sqrt(q.shape[-1])
    dk, dv = (
        t.unflatten(1, (shape[1], -1)).sum(dim=2)
        for t, shape in zip(
            (ds.mT @ q.to(grad.dtype), p.mT @ grad), kv_shapes, strict=True
        )
    )
    return ds @ k, dk, dv
