"""What processes say to each other before and while they compute.

Everything here is ordinary ``torch.distributed``. A wrong call is told to every
process, so that all of them raise and none waits for another. Derived in chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from mattn.masks.matrices import described
from mattn.slots import is_integer

__all__ = ["Counts", "Held", "agree", "agree_on_queries", "exchange", "ranks", "told"]


@dataclass
class Counts:
    """What one process did: filled by the functions that are given it."""

    pairs: list[int] = field(default_factory=list)
    """Allowed pairs of query and key that it computed, one entry for each step."""
    sent: int = 0
    """Bytes of keys, values and their gradients that it sent."""
    messages: int = 0


class Held(NamedTuple):
    """What a process says of the part that it holds."""

    q: tuple[int, ...]
    k: tuple[int, ...]
    v: tuple[int, ...]
    dtype: str
    learns: bool
    slots: Tensor


def ranks(group: Any = None) -> tuple[int, int]:
    """The own number in the group, and how many there are; ``ValueError`` where
    there is no process group.
    """
    if not (dist.is_available() and dist.is_initialized()):
        raise ValueError(
            "expected a process group; got none. Start the program with torchrun and "
            'call torch.distributed.init_process_group("gloo") first ("nccl" on GPUs).'
        )
    return dist.get_rank(group), dist.get_world_size(group)


def told(say: Callable[[], Any], group: Any = None) -> list[Any]:
    """What ``say()`` gives in each process, in all of them.

    Where it raises ``ValueError`` in one, all raise it, and name the process.
    """
    rank, size = ranks(group)
    try:
        said, wrong = say(), None
    except ValueError as error:
        said, wrong = None, str(error)
    heard: list[Any] = [None] * size
    try:
        dist.all_gather_object(heard, (said, wrong), group=group)
    except RuntimeError as error:
        raise RuntimeError(
            f"process {rank}: expected word from all of {size} processes; one is gone, "
            f"or was silent until the group's timeout ({error})."
        ) from error
    faults = [f"process {i}: {fault}" for i, (_, fault) in enumerate(heard) if fault]
    if faults:
        raise ValueError("; ".join(faults))
    return [said for said, _ in heard]


def agree(
    q: Tensor, k: Tensor, v: Tensor, slots: Tensor, group: Any = None
) -> list[Held]:
    """What each process holds, checked: one shape, one dtype, no token twice."""
    held = told(lambda: _own(q, k, v, slots), group)
    for name, said in {
        "shapes of q, k, v but for tokens": [_without_tokens(part) for part in held],
        "dtype": [part.dtype for part in held],
        "answer to whether gradients are wanted": [part.learns for part in held],
        "number of axes of slots": [part.slots.ndim for part in held],
    }.items():
        if any(other != said[0] for other in said):
            listed = ", ".join(f"{i}: {other}" for i, other in enumerate(said))
            raise ValueError(f"expected one {name} on all processes; got {listed}.")
    _check_once(held)
    return held


def agree_on_queries(q: Tensor, slots: Tensor, group: Any = None) -> None:
    """All processes ask for the same tokens."""

    def own() -> tuple[tuple[int, ...], list[int]]:
        if slots.shape != q.shape[2:3] or not is_integer(slots) or (slots < 0).any():
            raise ValueError(
                f"expected slots ({q.shape[2]},) >= 0 of the new tokens, alike for all "
                f"rows; got {described(slots)}."
            )
        return tuple(q.shape), slots.tolist()

    said = told(own, group)
    if any(other != said[0] for other in said):
        raise ValueError(
            "expected the same new tokens on all processes; got queries and slots "
            + ", ".join(f"{i}: {other}" for i, other in enumerate(said))
            + "."
        )


def _own(q: Tensor, k: Tensor, v: Tensor, slots: Tensor) -> Held:
    fits = (
        q.ndim == k.ndim == v.ndim == 4
        and k.shape[:3] == v.shape[:3]
        and (q.shape[0], q.shape[2]) == (k.shape[0], k.shape[2])
        and 0 < q.shape[3] == k.shape[3]
        and q.shape[1] % (k.shape[1] or q.shape[1] + 1) == 0
    )
    if not fits or not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
        raise ValueError(
            "expected q (B, H, T, D), k (B, Hkv, T, D), v (B, Hkv, T, Dv) of one "
            "floating-point dtype, T the tokens of this process, Hkv dividing H; got "
            f"{described(q)}, {described(k)}, {described(v)}."
        )
    B, T = q.shape[0], q.shape[2]
    if not is_integer(slots) or tuple(slots.shape) not in ((T,), (B, T)):
        raise ValueError(
            f"expected integer slots ({T},) or ({B}, {T}), which tokens of the whole "
            f"sequence these are; got {described(slots)}. deal(n, size, layout)[rank] "
            "says them."
        )
    learns = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    at = slots.detach().cpu().long()
    shapes = tuple(q.shape), tuple(k.shape), tuple(v.shape)
    return Held(*shapes, str(q.dtype), learns, at)


def _without_tokens(part: Held) -> list[tuple[int, ...]]:
    return [shape[:2] + shape[3:] for shape in (part.q, part.k, part.v)]


def _check_once(held: list[Held]) -> None:
    """No slot on two processes, or twice on one, in any row."""
    for row in torch.atleast_2d(torch.cat([part.slots for part in held], dim=-1)):
        real = row[row >= 0]
        found, n = real.unique(return_counts=True)
        if (n > 1).any():
            twice = int(found[n > 1][0])
            who = [i for i, part in enumerate(held) if (part.slots == twice).any()]
            raise ValueError(
                f"expected each slot once; got slot {twice} on processes {who}. Slots "
                "count the tokens of the whole sequence, not those of a process."
            )


def exchange(
    out: list[tuple[Tensor, int]],
    into: list[tuple[Tensor, int]],
    group: Any = None,
    counts: Counts | None = None,
) -> Callable[[], None]:
    """Begin to send and to receive, (tensor, process) each; call to wait.

    Who sends and who receives have to agree; what holds nothing is left out.
    """
    rank, _ = ranks(group)
    ops, peers = [], []
    for kind, several in ((dist.isend, out), (dist.irecv, into)):
        for tensor, peer in several:
            if tensor.numel():
                at = peer if group is None else dist.get_global_rank(group, peer)
                ops.append(dist.P2POp(kind, tensor, at, group))
                peers.append(peer)
    if counts is not None:
        full = [tensor for tensor, _ in out if tensor.numel()]
        counts.sent += sum(t.numel() * t.element_size() for t in full)
        counts.messages += len(full)
    try:
        works = dist.batch_isend_irecv(ops) if ops else []
    except RuntimeError as error:
        raise _gone(rank, sorted(set(peers)), error) from error

    def wait() -> None:
        for i, work in enumerate(works):
            try:
                work.wait()
            except RuntimeError as error:
                # One work may stand for all, as it does where nccl batches them.
                near = [peers[i]] if len(works) == len(peers) else sorted(set(peers))
                raise _gone(rank, near, error) from error

    return wait


def _gone(rank: int, peers: list[int], error: Exception) -> RuntimeError:
    names = " or ".join(map(str, peers))
    return RuntimeError(
        f"process {rank}: expected process {names} to send and to receive; it is gone, "
        f"or was silent until the group's timeout ({error})."
    )
