"""Attention in several heads at once, between two linear maps.

:class:`MultiHeadAttention` decides what is attended to, and asks
:mod:`mattn.attention` for the output. Derived in chapter 3; its cache in chapter 5.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mattn.attention import align_rows, attention, fused_attention
from mattn.cache import KVCache
from mattn.masks import Mask, full
from mattn.slots import AllOrNothing, Part

__all__ = [
    "MultiHeadAttention",
    "check_features",
    "merge_heads",
    "record_weights",
    "split_heads",
]


class MultiHeadAttention(nn.Module):
    """Attention in ``n_heads`` parallel heads between two linear maps.

    ``forward(x)`` is self-attention; with ``context`` the keys and values
    come from there (cross-attention). The mask is an argument. The fused
    path computes the output, except inside :func:`record_weights`.

    ``n_kv_heads`` shares each key head among several query heads; ``d_head``
    frees the head size from ``d_model / n_heads``; ``rotate(x, positions)``
    is applied to queries and keys (rotary positions, chapter 6); ``norm()``
    makes what is applied to the features of each head before that.
    No biases. Derived in chapter 3.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        rotate: Callable[[Tensor, Tensor], Tensor] | None = None,
        norm: Callable[[], nn.Module] | None = None,
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None:
            if d_model % n_heads:
                raise ValueError(
                    f"expected d_model divisible by n_heads; got {d_model} and "
                    f"{n_heads}. Choose another number of heads, or give d_head."
                )
            d_head = d_model // n_heads
        if n_heads % n_kv_heads:
            raise ValueError(
                f"expected n_heads divisible by n_kv_heads; got {n_heads} and "
                f"{n_kv_heads}: each key head serves the same number of query heads."
            )
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_kv_heads, d_head
        self.query = nn.Linear(d_model, n_heads * d_head, bias=False)
        self.key = nn.Linear(d_model, n_kv_heads * d_head, bias=False)
        self.value = nn.Linear(d_model, n_kv_heads * d_head, bias=False)
        self.output = nn.Linear(n_heads * d_head, d_model, bias=False)
        self.query_norm, self.key_norm = (
            nn.Identity() if norm is None else norm() for _ in range(2)
        )
        self.rotate = rotate
        self._record: Callable[[Tensor], None] | None = None
        #: Takes the place of fused_attention, where keys lie elsewhere too: called
        #: as attend(q, k, v, mask, slots=…, cache=…). See chapter 12.
        self.attend: Callable[..., Tensor] | None = None

    def forward(
        self,
        x: Float[Tensor, "B Tq C"],
        mask: Mask | Bool[Tensor, "... #Tq _"] | None = None,
        *,
        context: Float[Tensor, "B Tk C"] | None = None,
        cache: KVCache | None = None,
        positions: Int[Tensor, "*rows Tq"] | None = None,
        slots: Int[Tensor, "*rows Tq"] | None = None,
    ) -> Float[Tensor, "B Tq C"]:
        """Outputs for the queries ``x``.

        With a ``cache``, ``x`` holds the new tokens only and the cache the
        rest; a cached ``context`` is read once and not again. ``slots``, of
        shape ``(Tq,)`` or ``(B, Tq)``, say which tokens ``x`` holds, for the
        mask and the cache: they grow along a row and are negative where it is
        padded; by default they follow what the cache holds. A boolean tensor as
        ``mask`` speaks of columns: ``ValueError`` where a cache no longer holds
        slot j in column j of every row. ``positions`` say
        where the tokens stand, for ``rotate`` alone: by default in their slots.
        A call that raises leaves the cache as it was.
        """
        check_features("x", x, self.query.in_features)
        if context is not None:
            check_features("context", context, self.query.in_features)
        with AllOrNothing([cache]):
            return self._forward(x, mask, context, cache, positions, slots)

    def _forward(self, x, mask, context, cache, positions, slots) -> Tensor:
        q = self.query_norm(split_heads(self.query(x), self.n_heads))  # (B, H, Tq, D)
        if context is not None:
            k, v = self._context(context, cache)
            return self._merge(q, k, v, mask)
        k = self.key_norm(split_heads(self.key(x), self.n_kv_heads))  # (B, Hkv, Tq, D)
        v = split_heads(self.value(x), self.n_kv_heads)
        given, read = slots, Part() if cache is None else cache
        slots = read.place(given, len(x), x.shape[1], x.device)
        if self.rotate is not None:
            turned = slots if positions is None else positions
            q, k = self.rotate(q, turned), self.rotate(k, turned)
        if self.attend is not None:
            out = self.attend(q, k, v, mask, slots=slots, cache=cache)
            return self.output(merge_heads(out))
        k_slots = slots
        counted = given is None
        if cache is not None:
            k, v, k_slots = cache.extend(k, v, given, checked=True)
            counted = cache.counted
            if isinstance(mask, Tensor) and not counted:
                raise ValueError(
                    "expected a rule of mattn.masks beside a cache that does not hold "
                    "the slots 0, 1, 2, … of every row; got a boolean tensor "
                    f"{tuple(mask.shape)}, whose columns would be places in the cache "
                    "and not tokens. Pass the rule that it was made of, or rule(…) of "
                    "a function of slots."
                )
        if counted or isinstance(mask, Tensor):
            return self._merge(q, k, v, mask)  # the default slots of a rule
        rule = full if mask is None else mask
        return self._merge(q, k, v, align_rows(rule.at(slots, k_slots), 2))

    def _context(self, context: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        if cache is not None and cache.length:
            return cache.contents()[:2]
        k = self.key_norm(split_heads(self.key(context), self.n_kv_heads))
        v = split_heads(self.value(context), self.n_kv_heads)
        if cache is not None:
            cache.extend(k, v)
        return k, v

    def _merge(self, q: Tensor, k: Tensor, v: Tensor, mask) -> Tensor:
        if self._record is None:
            out = fused_attention(q, k, v, mask)
        else:
            group = self.n_heads // self.n_kv_heads
            k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
            out, weights = attention(q, k, v, mask)
            self._record(weights.detach())
        return self.output(merge_heads(out))


def split_heads(x: Float[Tensor, "B T HD"], n_heads: int) -> Float[Tensor, "B H T D"]:
    """Cut each token's features into heads: (B, T, H·D) → (B, H, T, D)."""
    if n_heads < 1 or x.shape[-1] % n_heads:
        raise ValueError(
            f"split_heads: expected features divisible by n_heads, {n_heads}; got "
            f"{x.shape[-1]}."
        )
    return x.unflatten(-1, (n_heads, x.shape[-1] // n_heads)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H T D"]) -> Float[Tensor, "B T HD"]:
    """Lay the heads of each token side by side: the inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)


def layers_of(model: nn.Module) -> dict[str, MultiHeadAttention]:
    """The attention layers of a model by their names in it, in its order."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention)
    }


@contextmanager
def record_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the weights of every :class:`MultiHeadAttention` in ``model``.

    Yields a dictionary, module name → ``(B, H, Tq, Tk)``, filled by each
    forward pass inside the block, which takes the dense path.

    >>> import torch
    >>> layer = MultiHeadAttention(8, 2)
    >>> with record_weights(layer) as weights:
    ...     out = layer(torch.zeros(1, 3, 8))
    >>> weights[""].shape
    torch.Size([1, 2, 3, 3])
    """
    weights: dict[str, Tensor] = {}
    layers = layers_of(model)
    if not layers:
        raise ValueError(
            f"record_weights: {type(model).__name__} holds no MultiHeadAttention."
        )
    before = {name: layer._record for name, layer in layers.items()}
    for name, layer in layers.items():
        layer._record = functools.partial(weights.__setitem__, name)
    try:
        yield weights
    finally:
        for name, layer in layers.items():
            layer._record = before[name]


def check_features(name: str, x: Tensor, n_features: int) -> None:
    """Refuse what is not ``(B, T, n_features)``."""
    if x.ndim != 3 or x.shape[-1] != n_features:
        raise ValueError(
            f"expected {name} (B, T, {n_features}), a row of features for each token; "
            f"got {tuple(x.shape)}."
        )
