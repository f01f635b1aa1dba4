"""From tokens to features: a row for each token, and for the n-grams it ends.

Embeddings are looked up, not multiplied, so that rows cost no arithmetic:
rows for pairs, triples and longer runs of tokens tell a small model at once
what its attention would have to put together. Measured in chapter 7.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.masks import Mask

__all__ = ["NGrams", "RecentTokens", "embed"]


def embed(embedding: nn.Embedding, tokens: Int[Tensor, "B T"]) -> Tensor:
    """Rows of the embedding (B, T, C), or an error that names the wrong token."""
    if tokens.ndim != 2:
        raise ValueError(
            f"expected tokens of shape (B, T); got {tuple(tokens.shape)}. One sequence "
            "is a batch of one: tokens[None]."
        )
    try:
        return embedding(tokens)
    except IndexError:
        raise ValueError(
            f"expected tokens from 0 to {embedding.num_embeddings - 1}; got "
            f"{int(tokens.min())} to {int(tokens.max())}."
        ) from None


class RecentTokens:
    """The last ``capacity`` tokens of each row: the cache of :class:`NGrams`."""

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.length = 0
        """Tokens read so far."""
        self._kept: tuple[Tensor, Tensor] | None = None

    def extend(
        self, tokens: Int[Tensor, "B T"], positions: Int[Tensor, "*rows T"]
    ) -> tuple[Int[Tensor, "B S"], Int[Tensor, "*rows S"]]:
        """Those kept, then the new ones; position −1 where there is none."""
        n = self.capacity
        if self._kept is None:
            self._kept = (
                tokens.new_zeros(*tokens.shape[:-1], n),
                positions.new_full((*positions.shape[:-1], n), -1),
            )
        pairs = zip(self._kept, (tokens, positions), strict=True)
        seen = tuple(torch.cat(pair, dim=-1) for pair in pairs)
        self._kept = tuple(part[..., part.shape[-1] - n :] for part in seen)
        self.length += tokens.shape[-1]
        return seen

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was."""
        tokens, positions = self._kept
        positions = positions[rows] if positions.ndim == 2 else positions
        self._kept = tokens[rows], positions


class NGrams(nn.Module):
    """What the 2-gram … n-gram that end with a token add to its embedding.

    One table for each length, its row found by hashing, so that n-grams can
    share a row; where a table has a row for each n-gram, none is shared. An
    n-gram is cut before the last token that the mask hides from the one it
    ends with. Rows start at zero: nothing is added.

    Source: Pagnoni et al. 2024, arXiv:2412.09871, section 3.2.
    """

    def __init__(self, n_symbols: int, d_model: int, n: int, n_rows: int):
        super().__init__()
        self.base = n_symbols + 1  # one digit more: no token
        sizes = [min(n_rows, self.base**m) for m in range(2, n + 1)]
        self.tables = nn.ModuleList(nn.Embedding(size, d_model) for size in sizes)
        for table in self.tables:
            nn.init.zeros_(table.weight)

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        rule: Mask,
        positions: Int[Tensor, "*rows T"] | None = None,
        recent: RecentTokens | None = None,
    ) -> Float[Tensor, "B T C"]:
        """``positions`` as in the decoder; ``recent``: the tokens read before."""
        T, n = tokens.shape[1], len(self.tables)
        recent = recent or self.new_cache()
        if positions is None:
            start = recent.length
            positions = torch.arange(start, start + T, device=tokens.device)
        tokens, at = recent.extend(tokens, positions)
        b = torch.zeros(1, 1, dtype=torch.long, device=tokens.device)
        if rule.batch is not None:
            b = torch.arange(rule.batch, device=tokens.device)[:, None]
        visible = torch.ones_like(positions, dtype=torch.bool)
        code = tokens[:, n:] + 1
        out: Tensor | float = 0.0
        for back, table in enumerate(self.tables, start=1):
            exact = self._is_exact(back + 1, table.num_embeddings)
            earlier = slice(n - back, n - back + T)
            k = at[..., earlier]
            may_see = rule.allowed(b, positions.clamp(min=0), k.clamp(min=0))
            visible = visible & may_see & (k >= 0)
            # 32 bits of the code count. By an odd factor no symbol is pushed out
            # of them; by an even one the newest, which comes first, would be.
            factor = self.base if exact else self.base | 1
            code = code * factor + (tokens[:, earlier] + 1) * visible
            out = out + table(self._row(code, back + 1, table.num_embeddings))
        return out

    def new_cache(self) -> RecentTokens:
        """As many tokens as an n-gram looks back."""
        return RecentTokens(len(self.tables))

    def _is_exact(self, n: int, n_rows: int) -> bool:
        """Whether a table has a row for each n-gram."""
        return n_rows == self.base**n

    def _row(self, code: Tensor, n: int, n_rows: int) -> Tensor:
        if self._is_exact(n, n_rows):
            return code
        # Each bit of the code moves every bit of the hash (MurmurHash3, fmix32);
        # its upper bits choose the row.
        code = code % 2**32
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
            code = (code ^ code >> shift) * factor % 2**32
        return (code ^ code >> 16) * n_rows >> 32
