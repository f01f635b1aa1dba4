"""What processes of the tests do: functions that each of them runs."""

from __future__ import annotations

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel

from mattn import Config, Decoder, KVCache, causal, softmax, window
from mattn.parallel import (
    LAYOUTS,
    all_to_all_attention,
    cached_attention,
    checking,
    deal,
    join,
    over_processes,
    ring,
    ring_attention,
    split,
    sum_gradients,
)
from mattn.training import fit

SMALL = Config(n_symbols=11, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2)


def equal_to_one(lengths, dtype, **given):
    return list(checking.differences(lengths, dtype=dtype, **given))


def model():
    torch.manual_seed(0)
    return Decoder(SMALL).double()


def several(folder):
    """One start of processes, many questions: name → answer."""
    return {
        "double": equal_to_one((13,), torch.float64),
        "single": equal_to_one((13,), torch.float32),
        "few": equal_to_one((2,), torch.float64, layouts=["zigzag"]),
        "no row": equal_to_one((9,), torch.float64, B=0, layouts=["striped"]),
        "reached": {a: checking.reached(causal, 9, a) for a in LAYOUTS},
        "work": {a: checking.work(causal, 64, a) for a in LAYOUTS},
        "near": checking.work(causal & window(8), 64, "contiguous"),
        "joined": joined(),
        "decoder": decoder(),
        "cached": cached(),
        "refused": {name: refused(name) for name in WRONG},
        "mutants": mutants(),
        "trained": trained(str(Path(folder, "four")), 4),
    }


def joined():
    found = []
    for n in (0, 3, 8, 11):
        x = torch.arange(2 * n).view(2, n)
        for layout in LAYOUTS:
            part = split(x, layout=layout, dim=1)
            found.append(join(part, layout=layout, dim=1).equal(x))
    return found


def decoder(n=10):
    """Loss and gradients of a decoder over processes, and of one: how far apart."""
    one, many = model(), model()
    tokens = torch.randint(11, (2, n + 1), generator=torch.Generator().manual_seed(1))
    read, targets = tokens[:, :-1], tokens[:, 1:]
    F.cross_entropy(one(read).flatten(0, 1), targets.flatten()).backward()
    found = []
    for layout in LAYOUTS:
        many.zero_grad()
        own = deal(n, dist.get_world_size(), layout)[dist.get_rank()]
        with over_processes(many):
            logits = many(read[:, own], slots=own)
            loss = F.cross_entropy(
                logits.flatten(0, 1), targets[:, own].flatten(), reduction="sum"
            )
            (loss / targets.numel()).backward()
        sum_gradients(many)
        pairs = zip(one.parameters(), many.parameters(), strict=True)
        found.append(max((a.grad - b.grad).abs().max().item() for a, b in pairs))
    return found


def cached(n=9):
    """Decoding over processes: how far its logits are from those of one, and how many
    tokens each process keeps."""
    decode = model()
    tokens = torch.randint(11, (2, n), generator=torch.Generator().manual_seed(2))
    whole, logits = decode(tokens).detach(), []
    cache = decode.new_cache(3)  # of nine tokens
    with over_processes(decode), torch.no_grad():
        for a, b in ((0, 4), (4, 5), (5, 6), (6, 9)):
            slots = torch.arange(a, b)
            logits.append(decode(tokens[:, a:b], cache=cache, slots=slots))
    kept = cache.own[0].contents()[2].tolist() if cache.own[0].length else []
    return (torch.cat(logits, 1) - whole).abs().max().item(), kept


def call(q=None, k=None, v=None, slots=None, attend=ring_attention, mask=causal):
    rank, size = dist.get_rank(), dist.get_world_size()
    x = torch.zeros(1, 4, 2, 4)
    own = deal(2 * size, size, "contiguous")[rank]
    given = [x if t is None else t for t in (q, k, v)]
    return attend(*given, mask, slots=own if slots is None else slots)


def first(wrong, right=None):
    return wrong if dist.get_rank() == 1 else right


WRONG = {
    "overlap": lambda: call(slots=torch.arange(2)),
    "dtype": lambda: call(*[first(torch.zeros(1, 4, 2, 4).double())] * 3),
    "two dtypes": lambda: call(q=first(torch.zeros(1, 4, 2, 4).double())),
    "batch": lambda: call(*[first(torch.zeros(2, 4, 2, 4))] * 3),
    "gradients": lambda: call(q=first(torch.zeros(1, 4, 2, 4, requires_grad=True))),
    "slots": lambda: call(slots=first(torch.arange(3))),
    "tensor": lambda: call(mask=torch.ones(2, 2, dtype=torch.bool)),
    "heads": lambda: call(*[torch.zeros(1, 3, 2, 4)] * 3, attend=all_to_all_attention),
    "new tokens": lambda: cached_attention(
        *[torch.zeros(1, 4, 1, 4)] * 3,
        causal,
        slots=torch.tensor([dist.get_rank()]),
        cache=KVCache(4),
    ),
}


def refused(name):
    try:
        WRONG[name]()
    except ValueError as error:
        return str(error)
    return None


def mutants():
    """Each mistake, and how far from one process it leads: forward, gradients."""
    merge, home, allowed = softmax.merge, ring._travel_home, ring._Round.allowed

    def worst():
        found = checking.differences((13,), dtype=torch.float64, layouts=["zigzag"])
        found = [one for one in found if one.what.startswith("ring")]
        return max(o.forward for o in found), max(o.gradients for o in found)

    def unscaled(a, b):
        return softmax.Partial(torch.maximum(a[0], b[0]), a[1] + b[1], a[2] + b[2])

    def at_home(round_, k, v, learn, dtype):
        home(round_, k, v, learn, dtype)
        return learn(dist.get_rank(), k, v)

    def local(self, part, device):
        own = self.held[dist.get_rank()].slots.shape[-1]
        return self.rule.at(
            torch.arange(own), torch.arange(self.held[part].slots.shape[-1])
        )

    def shifted(self, part, device):
        own = self.held[dist.get_rank()].slots
        return self.rule.at(own, torch.arange(self.held[part].slots.shape[-1]))

    found = {"none": worst()}
    for name, (where, what, mutant, right) in {
        "merge without rescaling": (softmax, "merge", unscaled, merge),
        "gradient not sent home": (ring, "_travel_home", at_home, home),
        "mask by local slots": (ring._Round, "allowed", local, allowed),
        "offset lost": (ring._Round, "allowed", shifted, allowed),
    }.items():
        setattr(where, what, mutant)
        try:
            found[name] = worst()
        finally:
            setattr(where, what, right)
    return found


def trained(path, n_steps, given=None, n_rows=8):
    """A few steps of ``fit``; losses and weights."""
    learner, size = model(), dist.get_world_size()
    draws = torch.Generator().manual_seed(3)
    batches = [torch.randint(11, (n_rows, 7), generator=draws) for _ in range(n_steps)]
    wrapped = DistributedDataParallel(learner) if size > 1 else learner
    try:
        history = fit(wrapped, batches[:given], n_steps=n_steps, checkpoint=path)
    except ValueError as error:
        return str(error)
    return history.losses, [p.detach() for p in learner.parameters()]


def stopped(path):
    return trained(path, 6, given=3), trained(None, 1, n_rows=7)


def dies():
    if dist.get_rank() == 1:
        os._exit(7)
    return call()


def oracle():
    """How far from torch's own ring: output and gradients. ``None``: it has moved."""
    try:
        from torch.distributed.tensor.experimental._context_parallel import (
            _attention as engine,
        )

        there, back = (
            engine._templated_ring_attention,
            engine._templated_ring_attention_backward,
        )
        engine._cp_options.enable_load_balance = False
    except (ImportError, AttributeError) as error:
        return str(error)
    op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    back_op = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    own = deal(16, dist.get_world_size(), "contiguous")[dist.get_rank()]
    *qkv, grad = (
        t[:, :, own].contiguous()
        for t in checking.inputs(16, 2, heads=(4, 4), dtype=torch.float32)
    )
    qkv[2], grad = (F.pad(t, (0, 1)) for t in (qkv[2], grad))  # one size for all
    group = dist.group.WORLD
    out, lse = there(group, 2, op, *qkv, is_causal=True)[:2]
    given = grad, "grad_out", *qkv, out, lse, True
    theirs = out, *back(group, 2, back_op, *given, dropout_p=0.0)[:3]
    parts = [t.clone().requires_grad_() for t in qkv]
    mine = ring_attention(*parts, causal, slots=own)
    ours = mine, *torch.autograd.grad((mine * grad).sum(), parts)
    return max((a - b).abs().max().item() for a, b in zip(theirs, ours, strict=True))
