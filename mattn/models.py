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
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.attention import MultiHeadAttention, check_features
from mattn.cache import AllOrNothing, KVCache
from mattn.embedding import NGrams, embed
from mattn.masks import Mask, causal, full, padding, within
from mattn.rotary import RopeScaling, Rotary

__all__ = ["MLP", "Block", "Config", "Decoder", "EncoderDecoder", "Stack"]


@dataclass(frozen=True)
class Config:
    """What a model is made of; wrong or contradicting values are refused.

    >>> Config(n_symbols=65, d_model=64, n_layers=4, n_heads=2).n_parameters
    209600
    """

    n_symbols: int
    """Size V of the vocabulary."""
    d_model: int
    """Width C of the residual stream."""
    n_layers: int
    n_heads: int
    n_kv_heads: int | None = None
    """Key heads, each shared by n_heads / n_kv_heads query heads; ``None``: n_heads."""
    d_head: int | None = None
    """Features D of one head; ``None``: d_model / n_heads."""
    d_hidden: int | None = None
    """Features of the MLP's hidden layer; ``None``: see :attr:`mlp_size`."""
    activation: Literal["swiglu", "squared_relu"] = "swiglu"
    window: int | None = None
    """Sliding window: the mask becomes ``mask & window(w)``, which hides keys
    far back; a mask that shows keys far ahead is refused."""
    context: int | None = None
    """Tokens the model is meant for: the default capacity of a cache. Rotary
    positions set no limit of their own."""
    rope_theta: float | None = 10_000.0
    """Base of the rotary frequencies; ``None``: no positions."""
    rope_scaling: RopeScaling | None = None
    qk_norm: bool = False
    """RMSNorm over the features of each query and key head."""
    tied: bool = False
    """The head reads logits with the embedding's own matrix."""
    zero_head: bool = False
    """An untied head that starts at zero: the first loss is exactly ln V."""
    dropout: float = 0.0
    """On the embeddings and on what each part adds, while training."""
    norm_eps: float = 1e-6
    n_grams: int = 1
    """Embeddings of the n-grams that end with a token, for n from 2 to this one,
    are added to its own (:class:`mattn.embedding.NGrams`); 1: none."""
    n_gram_rows: int = 16_384
    """Rows of each table of n-grams, at most."""

    def __post_init__(self):
        sizes = ["n_symbols", "d_model", "n_layers", "n_heads"]
        options = ["n_kv_heads", "d_head", "d_hidden", "window", "context"]
        options += ["n_grams", "n_gram_rows"]
        for name in sizes + [o for o in options if getattr(self, o) is not None]:
            value = getattr(self, name)
            _expect(
                type(value) is int and value >= 1,
                f"Config: expected {name} >= 1, an int; got {value!r}.",
            )
        theta = self.rope_theta
        rules = {
            "d_model divisible by n_heads, or d_head given": (
                self.d_head is not None or self.d_model % self.n_heads == 0
            ),
            "n_heads divisible by n_kv_heads": self.n_heads % self.key_heads == 0,
            'activation "swiglu" or "squared_relu"': (
                self.activation in ("swiglu", "squared_relu")
            ),
            "rope_theta > 0 or None": theta is None or 0 < theta < math.inf,
            "an even d_head, as rotary positions turn features in pairs": (
                theta is None or self.head_size % 2 == 0
            ),
            "a rope_theta to go with rope_scaling": (
                theta is not None or self.rope_scaling is None
            ),
            "zero_head only where tied=False": not (self.tied and self.zero_head),
            "0 <= dropout < 1": 0 <= self.dropout < 1,
            "norm_eps > 0": self.norm_eps > 0,
        }
        for expected, holds in rules.items():
            _expect(holds, f"Config: expected {expected}; got {self}.")

    @property
    def key_heads(self) -> int:
        """``n_kv_heads`` or its default."""
        return self.n_heads if self.n_kv_heads is None else self.n_kv_heads

    @property
    def head_size(self) -> int:
        """``d_head`` or its default."""
        return self.d_model // self.n_heads if self.d_head is None else self.d_head

    @property
    def mlp_size(self) -> int:
        """``d_hidden`` or its default: 8/3 · d_model for SwiGLU's three matrices,
        to a multiple of 8, or 4 · d_model for two; 8 · d_model² weights either way.
        """
        if self.d_hidden is not None:
            return self.d_hidden
        if self.activation == "squared_relu":
            return 4 * self.d_model
        return 8 * math.ceil(self.d_model / 3)

    @property
    def n_matrix_parameters(self) -> int:
        """Weights that multiply one token's features: all matrices and the head."""
        attention = 2 * self.d_model * self.head_size * (self.n_heads + self.key_heads)
        n_mlp = 3 if self.activation == "swiglu" else 2
        mlp = n_mlp * self.d_model * self.mlp_size
        return self.n_layers * (attention + mlp) + self.n_symbols * self.d_model

    @property
    def n_parameters(self) -> int:
        """Learned numbers of ``Decoder(config)``."""
        norms = (2 * self.n_layers + 1) * self.d_model
        qk_norms = 2 * self.n_layers * self.head_size if self.qk_norm else 0
        embedding = 0 if self.tied else self.n_symbols * self.d_model
        n_rows, base = self.n_gram_rows, self.n_symbols + 1
        n_rows = sum(min(n_rows, base**n) for n in range(2, self.n_grams + 1))
        tables = n_rows * self.d_model
        return self.n_matrix_parameters + norms + qk_norms + embedding + tables

    def flops_per_token(self, n_tokens: int) -> int:
        """Operations of a forward pass over ``n_tokens``, divided by ``n_tokens``.

        Two for each matrix weight (multiply, add), and 4·T·H·D a layer for
        scores and weighted values, blocked pairs included, as dense attention
        computes them. Forward and backward together: three times as many.
        """
        pairs = 4 * self.n_layers * n_tokens * self.n_heads * self.head_size
        return 2 * self.n_matrix_parameters + pairs


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
        out = self.attention(read, mask, cache=own, positions=positions)
        x = x + self.dropout(out)
        if self.cross is not None:
            read = self.cross_norm(x)
            out = self.cross(read, context_mask, context=context, cache=other)
            x = x + self.dropout(out)
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class Stack(nn.Module):
    """Blocks one after the other and a last norm; the encoder of chapter 8."""

    def __init__(self, config: Config, mask: Mask, *, cross: bool = False):
        super().__init__()
        _expect(
            isinstance(mask, Mask),
            f"expected a mask rule of mattn.masks; got {type(mask).__name__}.",
        )
        self.config = config
        self.mask = mask if config.window is None else within(mask, config.window)
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

    def run(
        self,
        x: Float[Tensor, "B T C"],
        *,
        mask: Mask | None = None,
        cache: list[KVCache] | None = None,
        **given,
    ) -> Float[Tensor, "B T C"]:
        """From embeddings to the features that the head reads.

        ``mask`` is a further rule for this batch, such as its padding; what
        else is ``given`` goes to every block.
        """
        check_features("embeddings", x, self.config.d_model)
        n = len(self.blocks)
        caches = [*(cache or [None] * n), *[None] * n][: 2 * n]
        _expect(
            cache is None or len(cache) in (n, 2 * n),
            f"expected a cache for each attention layer of {n} blocks; got "
            f"{len(cache or [])}. Make it with new_cache().",
        )
        rule = self.mask if mask is None else self.mask & mask
        x = self.dropout(x)
        with AllOrNothing(caches):
            for block, *both in zip(self.blocks, caches[:n], caches[n:], strict=True):
                x = block(x, rule, cache=tuple(both), **given)
        return self.norm(x)


class Decoder(Stack):
    """Tokens to logits of the next token; what it may see is an argument.

    >>> config = Config(n_symbols=11, d_model=8, n_layers=2, n_heads=2)
    >>> Decoder(config)(Tensor([[3, 1, 4]]).long()).shape
    torch.Size([1, 3, 11])

    Derived in chapter 6.
    """

    def __init__(self, config: Config, mask: Mask = causal, *, cross: bool = False):
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
        cache: list | None = None,
        positions: Int[Tensor, "*rows T"] | None = None,
        context: Float[Tensor, "B S C"] | None = None,
        context_mask: Mask | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits: entry (b, t) scores the token after ``tokens[b, t]``.

        With a ``cache`` (:meth:`new_cache`), ``tokens`` are the new ones
        only; that is the same as reading all at once where the mask lets no
        token see a later one. A call that raises leaves all caches as they
        were. ``positions`` of the tokens, ``(T,)`` or ``(B, T)``: negative
        where a row is padded on the left, and growing from token to token, as
        they also tell the mask which key is which; by default they follow what
        the cache holds. ``mask`` is a further rule for this batch (documents,
        padding). ``context``: see :class:`EncoderDecoder`.
        """
        x = embed(self.embedding, tokens)
        recent = cache[0] if self.n_grams is not None and cache else None
        cache = cache if recent is None else cache[1:]
        given = {"context": context, "context_mask": context_mask}
        with AllOrNothing([recent]):
            if self.n_grams is not None:
                rule = self.mask if mask is None else self.mask & mask
                x = x + self.n_grams(tokens, rule, positions, recent)
            x = self.run(x, mask=mask, cache=cache, positions=positions, **given)
        return F.linear(x, (self.head or self.embedding).weight)

    def new_cache(self, capacity: int | None = None, *, ring: bool = False) -> list:
        """An empty cache for each layer, for ``capacity`` tokens; that of n-grams
        before them, if there are any.

        With ``ring=True`` and a window w in the configuration, each holds the
        last w tokens in constant memory, however many are read.
        """
        _expect(
            not ring or self.config.window is not None,
            "new_cache: expected a window in the configuration for ring=True; got "
            "none. A token may see all before it, so all are kept.",
        )
        if ring or capacity is None:
            capacity = self.config.window if ring else self.config.context
        _expect(
            capacity is not None,
            "new_cache: expected a capacity in tokens, as the configuration names "
            "no context; got None.",
        )
        caches = [KVCache(capacity, ring=ring) for _ in self.blocks]
        return [self.n_grams.new_cache(), *caches] if self.n_grams else caches


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
        cache: list | None = None,
        positions: Int[Tensor, "*rows T"] | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits, as :meth:`forward`; with a ``cache``, ``tokens`` are the new
        ones only, and keys of ``memory`` are computed in the first call alone.
        """
        return self.decoder(
            tokens,
            cache=cache,
            positions=positions,
            context=memory,
            context_mask=None if source_lengths is None else padding(source_lengths),
        )

    def new_cache(self, capacity: int, source_capacity: int) -> list:
        """Empty caches: self-attention of each layer, then cross-attention of each."""
        cross = [KVCache(source_capacity) for _ in self.decoder.blocks]
        return self.decoder.new_cache(capacity) + cross


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
