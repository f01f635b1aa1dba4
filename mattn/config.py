"""What a model is made of: its sizes, and the choices among its parts.

Who may see whom is not among them: that is the mask's, and an argument of the
model. Derived in chapter 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mattn.rotary import RopeScaling

__all__ = ["Config"]


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
        options = ["n_kv_heads", "d_head", "d_hidden", "context"]
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


def _expect(ok: bool, message: str) -> None:
    if not ok:
        raise ValueError(message)
