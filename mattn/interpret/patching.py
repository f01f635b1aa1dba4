"""One mechanism to change what a layer of attention does, and to undo it.

A change hooks on to the public parts of :class:`~mattn.heads.MultiHeadAttention`
(its forward, its ``query``, ``key``, ``value`` and ``output`` maps), so the forward
that runs is the model's own. Derived in chapter 11.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from mattn.heads import MultiHeadAttention, layers_of, split_heads
from mattn.masks import Mask, full
from mattn.models import Stack

__all__ = [
    "Change",
    "attention_layers",
    "freeze",
    "knockout",
    "patched",
    "path",
    "record_outputs",
    "replace",
]

Change = Callable[[nn.Module, ExitStack], None]
"""Hooks on to a model; the stack takes every hook off again."""
Layer = int | str


def attention_layers(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """The attention layers by their names in the model, in its order.

    Where a ``layer`` is asked for, it is one of these names, or its number: in a
    decoder without cross-attention, that of the block. ``ValueError`` for a model
    that has none.
    """
    found = layers_of(model)
    if not found:
        raise ValueError(
            "expected a model with layers of mattn.MultiHeadAttention; got "
            f"{type(model).__name__}, which has none."
        )
    return found


def _layer(model: nn.Module, layer: Layer) -> MultiHeadAttention:
    found = attention_layers(model)
    names = list(found)
    if isinstance(layer, int) and 0 <= layer < len(names):
        layer = names[layer]
    if layer not in found:
        raise ValueError(
            f"expected a layer 0 … {len(names) - 1}, or a name among "
            f"{', '.join(map(repr, names))}; got {layer!r}."
        )
    return found[str(layer)]


def _head(layer: MultiHeadAttention, head: int) -> slice:
    """The features of one head among those of all."""
    if not 0 <= head < layer.n_heads:
        raise ValueError(
            f"expected a head 0 … {layer.n_heads - 1} of this layer; got {head}."
        )
    return slice(head * layer.d_head, (head + 1) * layer.d_head)


@contextmanager
def patched(model: nn.Module, *changes: Change) -> Iterator[None]:
    """The model with these changes; without them again at the end, whatever happens.

    >>> import torch
    >>> from mattn import Config, Decoder
    >>> model = Decoder(Config(n_symbols=7, d_model=8, n_layers=2, n_heads=2))
    >>> with patched(model, replace(0, 1)):
    ...     logits = model(torch.zeros(1, 3, dtype=torch.long))

    Changes of one place act in the order given. Derived in chapter 11.
    """
    with ExitStack() as hooks:
        for change in changes:
            change(model, hooks)
        yield


def knockout(layer: Layer, edges: Mask) -> Change:
    """Forbid the edges that a rule allows: ``mask & ~edges`` in one layer.

    All heads of the layer lose them. A query that may see nothing then has
    output 0. A rule with rows (``batch``) is for one batch.
    """

    def change(model: nn.Module, hooks: ExitStack) -> None:
        def without(module, args, given):
            x, *rest = args
            mask = given.pop("mask", None) if not rest else rest.pop(0)
            if mask is None or isinstance(mask, Mask):
                left = (full if mask is None else mask) & ~edges
            else:
                cut = edges.matrix(*mask.shape[-2:], device=mask.device)
                heads = cut.ndim == 3 and mask.ndim == 4
                left = mask & ~(cut[:, None] if heads else cut)
            return (x, left, *rest), given

        target = _layer(model, layer)
        hooks.enter_context(target.register_forward_pre_hook(without, with_kwargs=True))

    return change


def replace(
    layer: Layer, head: int, output: Float[Tensor, "*#B #T #D"] | float = 0.0
) -> Change:
    """A head hands over ``output`` instead of its own, before the output map.

    0 removes it; its mean, ``(D,)``, takes only what it says of this text away;
    ``(B, T, D)`` of another run (:func:`record_outputs`) is activation patching.
    """

    def change(model: nn.Module, hooks: ExitStack) -> None:
        target = _layer(model, layer)
        own = _head(target, head)

        def other(module, args):
            (heads,) = args
            heads = heads.clone()
            heads[..., own] = output
            return (heads,)

        hooks.enter_context(target.output.register_forward_pre_hook(other))

    return change


def freeze(
    layer: Layer, head: int, weights: Mask | Float[Tensor, "*#B Tq Tk"]
) -> Change:
    """A head attends with ``weights``, whatever its queries and keys say.

    A rule stands for equal weights on all that it allows. Its values are its own.
    """

    def change(model: nn.Module, hooks: ExitStack) -> None:
        target = _layer(model, layer)
        own = _head(target, head)
        group = target.n_heads // target.n_kv_heads
        values: list[Tensor] = []

        def keep(module, args, out):
            values[:] = [split_heads(out, target.n_kv_heads)[:, head // group]]

        def other(module, args):
            (heads,) = args
            (v,) = values  # (B, Tk, D)
            shares = weights
            if isinstance(shares, Mask):
                cells = shares.matrix(heads.shape[1], v.shape[1], device=v.device)
                shares = cells / cells.sum(dim=-1, keepdim=True).clamp(min=1)
            heads = heads.clone()
            heads[..., own] = shares.to(v.dtype) @ v
            return (heads,)

        hooks.enter_context(target.value.register_forward_hook(keep))
        hooks.enter_context(target.output.register_forward_pre_hook(other))

    return change


# Long because: its hooks share what one of them saw, so they stand together.
def path(
    source: int,
    outputs: Mapping[int, Float[Tensor, "*#B #T #D"] | float],
    into: tuple[int, int, str],
) -> Change:
    """``replace`` along one path: only what one later head reads is changed.

    ``source`` is the block of the heads that are replaced, head → output; ``into``
    is (block, head, part), part one of ``"query"``, ``"key"``, ``"value"``. All
    else in the model, the MLPs between included, hears the heads as they were. Where
    query heads share a key head, all of them read the change. Of two paths into one
    place the later stands. Source: Wang et al. 2022, arXiv:2211.00593.
    """
    later, reader, part = into
    if part not in ("query", "key", "value") or later <= source:
        raise ValueError(
            "path: expected a part query, key or value of a later block; got "
            f"{part!r} of block {later}, from block {source}."
        )

    def change(model: nn.Module, hooks: ExitStack) -> None:
        blocks: Any = _stack(model).blocks
        writes, reads = blocks[source].attention, blocks[later].attention
        owns = [(_head(writes, head), output) for head, output in outputs.items()]
        place = _head(reads, reader)
        if part != "query":  # several heads of queries may share it
            first = reader * reads.n_kv_heads // reads.n_heads * reads.d_head
            place = slice(first, first + reads.d_head)
        norm = blocks[later].attention_norm
        seen: dict[str, Tensor] = {}

        def difference(module, args):
            changed = args[0].clone()
            for own, output in owns:
                changed[..., own] = output
            seen["written"] = nn.functional.linear(changed - args[0], module.weight)

        def stream(module, args):
            seen["x"] = args[0]

        def read(module, args, out):
            # Not norm(x): its hooks, also those of other paths, are for the stream.
            x = norm.forward(seen["x"] + seen["written"])
            out = out.clone()
            out[..., place] = nn.functional.linear(x, module.weight)[..., place]
            return out

        hooks.enter_context(writes.output.register_forward_pre_hook(difference))
        hooks.enter_context(norm.register_forward_pre_hook(stream))
        hooks.enter_context(getattr(reads, part).register_forward_hook(read))

    return change


def _stack(model: nn.Module) -> Stack:
    if not isinstance(model, Stack):
        raise ValueError(
            "expected a Decoder, or another Stack of mattn.models, whose norms and "
            f"blocks are known; got {type(model).__name__}."
        )
    return model


@contextmanager
def record_outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """What every head hands over, before the output map: name → (B, H, T, D).

    Filled by each forward inside the block, changes of :func:`patched` included if
    they were made before it.
    """
    outputs: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for name, layer in attention_layers(model).items():

            def keep(module, args, name=name, layer=layer):
                outputs[name] = split_heads(args[0].detach(), layer.n_heads)

            hooks.enter_context(layer.output.register_forward_pre_hook(keep))
        yield outputs
