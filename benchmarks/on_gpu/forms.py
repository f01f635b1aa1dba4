"""What is compared: the masks, at each length, and the methods."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import (
    BlockMask,
    create_block_mask,
    flex_attention,
)

from mattn import Mask, causal, documents, flash, window
from on_gpu.bench import Bench, Sizes

FORWARD, BOTH = "forward", "forward and backward"
MASKS = "causal", "window", "documents"
SDPA = {
    "sdpa math": SDPBackend.MATH,
    "sdpa efficient": SDPBackend.EFFICIENT_ATTENTION,
    "sdpa flash": SDPBackend.FLASH_ATTENTION,
    "sdpa cudnn": SDPBackend.CUDNN_ATTENTION,
}


class Case(NamedTuple):
    mask: str
    T: int
    D: int

    def rule(self, sizes: Sizes, device: torch.device | str = "cpu") -> Mask:
        if self.mask == "causal":
            return causal
        if self.mask == "window":
            return causal & window(sizes.window)
        return causal & documents(packed(self.T).to(device))

    def n_pairs(self, sizes: Sizes) -> int:
        """Allowed pairs of query and key in one head of one sequence."""
        rule, n, step = self.rule(sizes), 0, 1024
        positions = torch.arange(self.T)
        for start in range(0, self.T, step):
            n += int(rule.at(positions[start : start + step], positions).sum())
        return n


def packed(T: int) -> Tensor:
    """Ids of eight documents of unequal lengths, the same for every run."""
    shares = torch.tensor([1, 5, 2, 8, 3, 1, 7, 5]).cumsum(0)
    ends = shares[:-1] * T // int(shares[-1])
    return torch.bucketize(torch.arange(T), ends, right=True)


Form = Callable[[Tensor, Tensor, Tensor], Tensor]


def naive(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor) -> Tensor:
    """The formula, operation by operation, each in the inputs' dtype."""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return torch.softmax(scores.masked_fill(~allowed, -torch.inf), dim=-1) @ v


def run_sdpa(name: str, q: Tensor, k: Tensor, v: Tensor, **told: Any) -> Tensor:
    """One back end of PyTorch's attention."""
    with sdpa_kernel(SDPA[name]):
        return F.scaled_dot_product_attention(q, k, v, **told)


def compiled(bench: Bench, run: Callable) -> Callable:
    """Anew, for the shapes of one case; as it is where there is no compiler."""
    if bench.smoke:
        return run
    torch.compiler.reset()
    return torch.compile(run, dynamic=False)


def forms(bench: Bench, case: Case) -> dict[str, Callable[[], Form]]:
    """Method → what prepares it and returns the function that is timed."""
    rule = case.rule(bench.sizes, bench.device)

    def dense() -> Tensor:
        return rule.matrix(case.T, device=bench.device)

    def plain() -> Form:
        return functools.partial(naive, allowed=dense())

    def sdpa(name: str) -> Form:
        told = {"is_causal": True} if case.mask == "causal" else {"attn_mask": dense()}
        return functools.partial(run_sdpa, name, **told)

    def flex() -> Form:
        blocks = block_mask(bench, rule, case.T)
        return functools.partial(compiled(bench, flex_attention), block_mask=blocks)

    def ours() -> Form:
        seen = flash.stretches(rule, case.T, device=bench.device)
        return functools.partial(flash.flash_attention, mask=seen)

    found = {
        "mattn": ours,
        "naive": plain,
        "naive compiled": lambda: compiled(bench, plain()),
    }
    found |= {name: functools.partial(sdpa, name) for name in SDPA}
    found["flex"] = flex
    # Given a dense matrix, it takes the same time whatever that holds.
    if bench.smoke or case.mask != "causal":
        del found["naive compiled"]
    return found


def block_mask(bench: Bench, rule: Mask, T: int) -> BlockMask:
    return create_block_mask(
        rule.predicate(T), None, None, T, T, device=bench.device.type
    )
