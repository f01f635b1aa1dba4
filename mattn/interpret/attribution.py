"""What each part of a decoder adds to the logit of one token.

Derived in chapter 11.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mattn.checks import same
from mattn.interpret.patching import record_outputs
from mattn.models import Decoder

__all__ = ["Attribution", "attribution"]


class Attribution(NamedTuple):
    """Direct contributions to one logit at each position; they sum to ``logit``."""

    embedding: Float[Tensor, "B T"]
    heads: dict[str, Float[Tensor, "B H T"]]
    """Layer → what each of its heads adds."""
    mlps: Float[Tensor, "L B T"]
    logit: Float[Tensor, "B T"]


@torch.no_grad()
def attribution(
    model: Decoder, tokens: Int[Tensor, "B T"], target: Int[Tensor, "B T"], **given
) -> Attribution:
    """Split the logit of ``target`` at each position by what wrote it.

    The residual stream is a sum and the head is linear; between them stands the
    last norm, whose factor at each position is held as it is. Direct means what
    reaches the logit without a later layer in between. ``given`` goes to the
    model (``mask``, ``context``). The sum is asserted. ``ValueError`` for a model in
    training mode, as dropout would have the parts differ from run to run.
    """
    if model.training or not isinstance(model, Decoder):
        raise ValueError(
            "attribution: expected a Decoder in eval mode; got "
            f"{type(model).__name__}{' in training mode' * model.training}. Call "
            "model.eval()."
        )
    seen: dict[str, Tensor] = {}
    mlps: list[Tensor] = []
    with ExitStack() as hooks:
        outputs = hooks.enter_context(record_outputs(model))
        first = model.blocks[0].register_forward_pre_hook(
            lambda module, args: seen.update(x=args[0])
        )
        last = model.norm.register_forward_pre_hook(
            lambda module, args: seen.update(last=args[0])
        )
        hooks.enter_context(first)
        hooks.enter_context(last)
        blocks: Any = model.blocks
        for block in blocks:
            keep = block.mlp.register_forward_hook(lambda m, a, out: mlps.append(out))
            hooks.enter_context(keep)
        logits = model(tokens, **given)
    logit = logits.gather(-1, target[..., None])[..., 0]
    matrix = (model.head or model.embedding).weight
    size = seen["last"].square().mean(dim=-1, keepdim=True) + model.config.norm_eps
    reads = matrix[target] * model.norm.weight * size.rsqrt()  # (B, T, C)
    heads = {
        name: _of_heads(model.get_submodule(name), out, reads)
        for name, out in outputs.items()
    }
    of_mlps = torch.stack([(out * reads).sum(-1) for out in mlps])
    found = Attribution((seen["x"] * reads).sum(-1), heads, of_mlps, logit)
    total = found.embedding + sum(h.sum(1) for h in heads.values()) + of_mlps.sum(0)
    same(total, logit, atol=1e-4 * max(1.0, float(logit.abs().max())))
    return found


def _of_heads(layer, out: Tensor, reads: Tensor) -> Tensor:
    """(B, H, T): the share of each head in what the layer's output map writes."""
    weight = layer.output.weight.unflatten(1, (layer.n_heads, layer.d_head))
    return torch.einsum("bhtd,chd,btc->bht", out, weight, reads)
