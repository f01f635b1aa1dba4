"""The decoder, and the encoder–decoder, from one block.

The architecture of today's open decoders: RMSNorm before each part, rotary
positions, SwiGLU, optional grouped-query heads, no biases. The mask is an
argument: ``Decoder(config)`` is causal, ``Decoder(config, mask=full)`` is an
encoder with the same weights. One forward serves training, attention maps
and cached decoding. Derived in chapter 6; the encoder–decoder in chapter 8.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.cache import Cache, KVCache
from mattn.config import Config
from mattn.embedding import NGrams, embed
from mattn.heads import MultiHeadAttention, check_features
from mattn.masks import Mask, causal, full, padding
from mattn.rotary import Rotary
from mattn.slots import AllOrNothing

__all__ = ["MLP", "Block", "Decoder", "EncoderDecoder", "Stack"]


class MLP(nn.Module):
    """Each token by itself: down(silu(gate(x)) · up(x)), or down(relu(up(x))²).

    Sources: Shazeer 2020, arXiv:2002.05202 (SwiGLU); So et al. 2021,
    arXiv:2109.08668 (squared ReLU).
    """

    def __init__(self, config: Config):
        super().__init__()
        C, hidden = config.d_model, config.mlp_size
        gated = config.activation == "swiglu"
        self.gate = nn.Linear(C, hidden, bias=False) if gated else None
        self.up = nn.Linear(C, hidden, bias=False)
        self.down = nn.Linear(hidden, C, bias=False)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        if self.gate is None:
            return self.down(F.relu(self.up(x)).square())
        return self.down(F.silu(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """x + attention(norm(x)), then (with ``cross``) + attention to a context,
    then + MLP(norm(x)).

    Each part reads the residual stream through a norm and adds to it.
    """

    def __init__(self, config: Config, *, cross: bool = False):
        super().__init__()
        C, rotate = config.d_model, None
        if config.rope_theta is not None:
            rotate = Rotary(config.head_size, config.rope_theta, config.rope_scaling)
        self.attention_norm = nn.RMSNorm(C, eps=config.norm_eps)
        self.attention = _attention(config, rotate)
        # Positions of source and target are not comparable: cross has no rotate.
        self.cross_norm = nn.RMSNorm(C, eps=config.norm_eps) if cross else None
        self.cross = _attention(config, None) if cross else None
        self.mlp_norm = nn.RMSNorm(C, eps=config.norm_eps)
        self.mlp = MLP(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Float[Tensor, "B T C"],
        mask: Mask | None,
        *,
        cache: tuple[KVCache | None, KVCache | None] = (None, None),
        positions: Int[Tensor, "*rows T"] | None = None,
        slots: Int[Tensor, "*rows T"] | None = None,
        context: Float[Tensor, "B S C"] | None = None,
        context_mask: Mask | None = None,
    ) -> Float[Tensor, "B T C"]:
        """``cache``: that of self-attention and that of cross-attention."""
        _expect(
            (context is None) == (self.cross is None),
            "expected a context where the block has cross-attention, and only there; "
            f"got context {'None' if context is None else tuple(context.shape)}.",
        )
        read, (own, other) = self.attention_norm(x), cache
        out = self.attention(read, mask, cache=own, positions=positions, slots=slots)
        x = x + self.dropout(out)
        if self.cross is not None and self.cross_norm is not None:
            read = self.cross_norm(x)
            out = self.cross(read, context_mask, context=context, cache=other)
            x = x + self.dropout(out)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Stack(nn.Module):
    """Blocks one after the other and a last norm; the encoder of chapter 8.

    ``mask`` is one rule for all layers, or one for each; ``masks`` says it layer
    by layer. Setting ``mask`` makes the same weights see otherwise.
    """

    def __init__(
        self, config: Config, mask: Mask | Sequence[Mask], *, cross: bool = False
    ):
        super().__init__()
        self.config = config
        self.mask = mask
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config, cross=cross) for _ in range(config.n_layers)
        )
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        n_writes = (3 if cross else 2) * config.n_layers
        # 1/√fan_in keeps the size of what passes; the matrices that write to
        # the residual stream are smaller, so that all writes together add a
        # variance of order 1, whatever the depth.
        for name, module in self.blocks.named_modules():
            if isinstance(module, nn.Linear):
                std = module.in_features**-0.5
                if name.endswith((".output", ".down")):
                    std /= math.sqrt(n_writes)
                nn.init.normal_(module.weight, std=std)

    @property
    def mask(self) -> Mask | tuple[Mask, ...]:
        """The rule of all layers, or that of each."""
        return self.masks[0] if len(set(self.masks)) == 1 else self.masks

    @mask.setter
    def mask(self, mask: Mask | Sequence[Mask]) -> None:
        n = self.config.n_layers
        masks = (mask,) * n if isinstance(mask, Mask) else tuple(mask)
        _expect(
            len(masks) == n and all(isinstance(rule, Mask) for rule in masks),
            f"expected a mask rule of mattn.masks, or one for each of {n} layers; got "
            f"{mask!r}. Make a rule of a function with mattn.masks.rule.",
        )
        self.masks = masks

    def run(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        slots: Int[Tensor, "*rows T"] | None = None,
        **given,
    ) -> Float[Tensor, "B T C"]:
        """From embeddings to the features that the head reads.

        ``mask`` is a further rule for this batch, such as its padding; what
        else is ``given`` goes to every block.
        """
        check_features("embeddings", x, self.config.d_model)
        rules = self.rules(mask)
        n = len(self.blocks)
        own: Sequence[KVCache | None] = [None] * n
        other: Sequence[KVCache | None] = [None] * n
        if cache is not None:
            self._check_cache(cache)
            own, other = cache.own, cache.cross or other
            looking_ahead = {rule for rule in rules if rule.bound.ahead > 0}
            if looking_ahead:
                arrivals = cache.own[0].arrivals(x.shape[1], slots)
                _check_nothing_waits(looking_ahead, arrivals)
        x = self.dropout(x)
        with AllOrNothing([*own, *other]):
            layers = zip(self.blocks, rules, own, other, strict=True)
            for block, rule, *both in layers:
                x = block(x, rule, cache=tuple(both), slots=slots, **given)
        return self.norm(x)

    def rules(self, mask: Mask | None = None) -> list[Mask]:
        """The rule of each layer, and ``mask`` with it; layers share what is equal."""
        if mask is None:
            return list(self.masks)
        both = {id(rule): rule & mask for rule in self.masks}
        return [both[id(rule)] for rule in self.masks]

    def _check_cache(self, cache: Cache | None) -> None:
        n = len(self.blocks)
        fits = isinstance(cache, Cache) and len(cache.own) == n
        _expect(
            cache is None or fits,
            f"expected a cache for the {n} layers of this model; got "
            f"{type(cache).__name__}. Make it with new_cache().",
        )


def _check_nothing_waits(rules: set[Mask], arrivals: set[tuple[int, int]]) -> None:
    """A query that was read may see no key that comes only now."""
    for rule in rules:
        for n_read, n_total in arrivals:
            pair = rule.waits(n_read, n_total)
            query, key = pair or (None, None)
            _expect(
                pair is None,
                f"expected tokens that no query waits for; got slot {key}, which by "
                f"{rule!r} the query of slot {query} sees, and that was read without "
                "it. Read both at once, or without a cache.",
            )


class Decoder(Stack):
    """Tokens to logits of the next token; what it may see is an argument.

    >>> config = Config(n_symbols=11, d_model=8, n_layers=2, n_heads=2)
    >>> Decoder(config)(Tensor([[3, 1, 4]]).long()).shape
    torch.Size([1, 3, 11])

    Derived in chapter 6.
    """

    def __init__(
        self,
        config: Config,
        mask: Mask | Sequence[Mask] = causal,
        *,
        cross: bool = False,
    ):
        super().__init__(config, mask, cross=cross)
        V, C = config.n_symbols, config.d_model
        self.embedding = nn.Embedding(V, C)
        # Tied, a row also reads a logit, which must not start with size √C.
        nn.init.normal_(self.embedding.weight, std=C**-0.5 if config.tied else 1.0)
        n, n_rows = config.n_grams, config.n_gram_rows
        self.n_grams = NGrams(V, C, n, n_rows) if n > 1 else None
        self.head = None if config.tied else nn.Linear(C, V, bias=False)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0 if config.zero_head else C**-0.5)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        *,
        mask: Mask | None = None,
        cache: Cache | None = None,
        positions: Int[Tensor, "*rows T"] | None = None,
        slots: Int[Tensor, "*rows T"] | None = None,
        context: Float[Tensor, "B S C"] | None = None,
        context_mask: Mask | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits: entry (b, t) scores the token after ``tokens[b, t]``.

        With a ``cache`` (:meth:`new_cache`), ``tokens`` are the new ones only;
        that is the same as reading all at once, and where it would not be, as a
        query that was read may see a token that comes now, it is refused. A call
        that raises leaves the cache as it was.

        ``slots`` of the tokens, ``(T,)`` or ``(B, T)``, say which token of its row
        each is, for the mask and the cache: growing along a row, negative where it
        is padded; by default they follow what the cache holds. ``positions``, of
        the same shapes, say where the tokens stand, for the embedding alone: by
        default in their slots; in packed documents they may restart. ``mask`` is a
        further rule for this batch (documents, padding). ``context``: see
        :class:`EncoderDecoder`.
        """
        x = embed(self.embedding, tokens)
        self._check_cache(cache)
        recent = None if cache is None else cache.recent
        given = {"context": context, "context_mask": context_mask}
        with AllOrNothing([recent]):
            if self.n_grams is not None:
                x = x + self.n_grams(tokens, self.rules(mask)[0], slots, recent)
            x = self.run(
                x, mask=mask, cache=cache, positions=positions, slots=slots, **given
            )
        return F.linear(x, (self.head or self.embedding).weight)

    def new_cache(self, capacity: int | None = None) -> Cache:
        """An empty cache, for ``capacity`` tokens of a row.

        A layer whose rule has a bounded reach holds no more than that, in constant
        memory, however many tokens are read; if all layers have, no capacity is
        needed.
        """
        capacity = self.config.context if capacity is None else capacity
        reaches = [rule.reach() for rule in self.masks]
        _expect(
            capacity is not None or all(reach.size < math.inf for reach in reaches),
            "new_cache: expected a capacity in tokens, as the configuration names "
            "no context, and a query may see all before it; got None.",
        )
        own = [KVCache(capacity, reach=reach) for reach in reaches]
        room = None if any(part.wraps for part in own) else capacity
        recent = None if self.n_grams is None else self.n_grams.new_cache(room)
        return Cache(own, recent=recent)


class EncoderDecoder(nn.Module):
    """Source tokens to logits of target tokens: three masks in one model.

    Encoder: ``full & padding``; decoder: ``causal``; cross-attention, which
    takes keys and values from the encoder: ``padding`` of the source.
    ``source`` is the encoder's configuration; without it source and target
    share configuration and embedding; its ``context``, if any, is the most
    tokens a source may have. Derived in chapter 8.
    """

    def __init__(self, config: Config, source: Config | None = None):
        super().__init__()
        self.source_embedding = None  # shared with the target
        if source is not None:
            _expect(
                source.d_model == config.d_model,
                "EncoderDecoder: expected equal d_model in both configurations; got "
                f"{config.d_model} and {source.d_model}.",
            )
            self.source_embedding = nn.Embedding(source.n_symbols, source.d_model)
        self.encoder = Stack(source or config, full)
        self.decoder = Decoder(config, cross=True)

    def forward(
        self,
        source: Int[Tensor, "B S"],
        tokens: Int[Tensor, "B T"],
        source_lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits of the token after each target token, the source being known.

        ``source_lengths`` counts the tokens of each source; what stands to
        their right is padding and changes nothing. Padding to the right of a
        target is hidden by the causal mask.
        """
        return self.decode(tokens, self.encode(source, source_lengths), source_lengths)

    def encode(
        self,
        source: Int[Tensor, "B S"],
        source_lengths: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B S C"]:
        """The encoder's features, which cross-attention reads."""
        longest = self.encoder.config.context
        _expect(
            longest is None or source.shape[1] <= longest,
            f"EncoderDecoder: expected sources of at most {longest} tokens, the "
            f"context of the source's configuration; got {source.shape[1]}. Divide "
            "the text into sentences.",
        )
        x = embed(self.source_embedding or self.decoder.embedding, source)
        mask = None if source_lengths is None else padding(source_lengths)
        return self.encoder.run(x, mask=mask)

    def decode(
        self,
        tokens: Int[Tensor, "B T"],
        memory: Float[Tensor, "B S C"],
        source_lengths: Int[Tensor, " B"] | None = None,
        *,
        cache: Cache | None = None,
        positions: Int[Tensor, "*rows T"] | None = None,
        slots: Int[Tensor, "*rows T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits, as :meth:`forward`; with a ``cache``, ``tokens`` are the new
        ones only, and keys of ``memory`` are computed in the first call alone.
        """
        return self.decoder(
            tokens,
            cache=cache,
            positions=positions,
            slots=slots,
            context=memory,
            context_mask=None if source_lengths is None else padding(source_lengths),
        )

    def new_cache(self, capacity: int, source_capacity: int) -> Cache:
        """An empty cache for the target's tokens, and for those of the source."""
        cache = self.decoder.new_cache(capacity)
        cache.cross = [KVCache(source_capacity) for _ in self.decoder.blocks]
        return cache


def _attention(config: Config, rotate: Rotary | None) -> MultiHeadAttention:
    norm = functools.partial(nn.RMSNorm, config.head_size, eps=config.norm_eps)
    return MultiHeadAttention(
        config.d_model,
        config.n_heads,
        n_kv_heads=config.key_heads,
        d_head=config.head_size,
        rotate=rotate,
        norm=norm if config.qk_norm else None,
    )


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
