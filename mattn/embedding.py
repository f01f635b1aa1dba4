"""From tokens to features: a row for each token, and for the n-grams it ends.

Embeddings are looked up, not multiplied, so that rows cost no arithmetic:
rows for pairs, triples and longer runs of tokens tell a small model at once
what its attention would have to put together. Measured in chapter 7.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.cache import Cache, check_rows, is_integer
from mattn.masks import Mask

__all__ = ["NGrams", "RecentTokens", "embed"]


def embed(embedding: nn.Embedding, tokens: Int[Tensor, "B T"]) -> Tensor:
    """Rows of the embedding (B, T, C), or an error that names the wrong token."""
    if tokens.ndim != 2:
        raise ValueError(
            f"expected tokens of shape (B, T); got {tuple(tokens.shape)}. One sequence "
            "is a batch of one: tokens[None]."
        )
    if not is_integer(tokens):
        raise ValueError(
            f"expected tokens of an integer dtype; got {tokens.dtype}. Tokens number "
            "the symbols of a vocabulary: convert them with .long()."
        )
    try:
        return embedding(tokens.long())
    except IndexError:
        raise ValueError(
            f"expected tokens from 0 to {embedding.num_embeddings - 1}; got "
            f"{int(tokens.min())} to {int(tokens.max())}."
        ) from None


class RecentTokens(Cache):
    """The last ``capacity`` tokens of each row: the cache of :class:`NGrams`."""

    def __init__(self, capacity: int):
        if not hasattr(capacity, "__index__") or capacity < 1:
            raise ValueError(
                f"RecentTokens: expected capacity >= 1 tokens; got {capacity!r}."
            )
        super().__init__()
        self.capacity = capacity
        self._kept: tuple[Tensor, Tensor] | None = None

    def extend(
        self,
        tokens: Int[Tensor, "B T"],
        positions: Int[Tensor, "*rows T"] | None = None,
    ) -> tuple[Int[Tensor, "B S"], Int[Tensor, "*rows S"]]:
        """Those kept, then the new ones; position −1 where there is none.

        ``positions`` as in :meth:`mattn.cache.KVCache.extend`.
        """
        if tokens.ndim != 2 or not is_integer(tokens):
            raise ValueError(
                "RecentTokens: expected tokens (B, T) of an integer dtype; got "
                f"{tokens.dtype} {tuple(tokens.shape)}."
            )
        (B, T), n, given = tokens.shape, self.capacity, positions is not None
        placed = self._place(positions, B, T, tokens.device)
        if self._kept is None:
            kept = (
                tokens.new_zeros(B, n, dtype=torch.long),
                placed.new_full((*placed.shape[:-1], n), -1),
            )
        else:
            kept = self._kept
            if len(kept[0]) != B or kept[1].ndim != placed.ndim:
                raise ValueError(
                    f"RecentTokens: expected {len(kept[0])} rows and positions of "
                    f"{kept[1].ndim} axes, as before; got {B} and {placed.ndim}. A "
                    "cache serves one batch."
                )
        pairs = zip(kept, (tokens.long(), placed), strict=True)
        seen = tuple(torch.cat(pair, dim=-1) for pair in pairs)
        if self._guards:
            self._before = self.length, self._last, self._kept
        self._kept = tuple(part[..., part.shape[-1] - n :] for part in seen)
        self._advance(placed, given)
        return seen

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was."""
        if self._kept is None:
            raise ValueError(
                "RecentTokens: expected tokens; got none yet. Call extend first."
            )
        tokens, positions = self._kept
        check_rows(rows, len(tokens))
        if positions.ndim == 2:
            positions, self._last = positions[rows], self._last[rows]
        self._kept, self._before = (tokens[rows], positions), None

    def undo(self) -> None:
        self.length, self._last, self._kept = self._before


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
        if not (n_symbols >= 1 and d_model >= 1 and n >= 2 and n_rows >= 1):
            raise ValueError(
                "NGrams: expected n_symbols, d_model and n_rows >= 1, and n >= 2, as a "
                f"token by itself has its embedding; got {n_symbols}, {d_model}, "
                f"{n_rows} and {n}."
            )
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
        if rule.batch not in (None, 1, len(tokens)):
            raise ValueError(
                f"expected a mask for the {len(tokens)} rows of the batch; got "
                f"{rule!r} for {rule.batch}. Build both from the same batch."
            )
        recent = self.new_cache() if recent is None else recent
        if not isinstance(recent, RecentTokens):
            raise ValueError(
                "expected the cache of n-grams, before those of the layers; got "
                f"{type(recent).__name__}. Make all of them with new_cache()."
            )
        tokens, at = recent.extend(tokens, positions)
        here = at[..., n:]
        visible = torch.ones_like(here, dtype=torch.bool)
        code = tokens[:, n:] + 1
        out: Tensor | float = 0.0
        for back, table in enumerate(self.tables, start=1):
            exact = self._is_exact(back + 1, table.num_embeddings)
            earlier = slice(n - back, n - back + T)
            visible = visible & rule.pairs(here, at[..., earlier])
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
