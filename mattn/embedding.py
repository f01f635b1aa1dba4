"""From tokens to features: a row for each token, and for the n-grams it ends.

Embeddings are looked up, not multiplied, so that rows cost no arithmetic:
rows for pairs, triples and longer runs of tokens tell a small model at once
what its attention would have to put together. Measured in chapter 7.
"""

from __future__ import annotations

import copy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from mattn.masks import Mask
from mattn.slots import Part, check_rows, is_integer

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


class RecentTokens(Part):
    """The last tokens of each row: the part of a cache that :class:`NGrams` reads.

    It gives back the last ``n_back``, and holds ``room`` of them, by default no
    more, so that a draft can be taken back (:meth:`crop`).
    """

    def __init__(self, n_back: int, room: int | None = None):
        if not hasattr(n_back, "__index__") or n_back < 1:
            raise ValueError(
                f"RecentTokens: expected n_back >= 1 tokens; got {n_back!r}."
            )
        super().__init__()
        self.n_back = n_back
        self.room = max(n_back, room or 0)
        self._kept: tuple[Tensor, Tensor] | None = None

    def extend(
        self,
        tokens: Int[Tensor, "B T"],
        slots: Int[Tensor, "*rows T"] | None = None,
    ) -> tuple[Int[Tensor, "B S"], Int[Tensor, "*rows S"]]:
        """The last ``n_back``, then the new ones; slot −1 where there is none.

        ``slots`` as in :meth:`mattn.cache.KVCache.extend`.
        """
        if tokens.ndim != 2 or not is_integer(tokens):
            raise ValueError(
                "RecentTokens: expected tokens (B, T) of an integer dtype; got "
                f"{tokens.dtype} {tuple(tokens.shape)}."
            )
        (B, T), n = tokens.shape, self.n_back
        if self._kept is not None and len(self._kept[0]) != B:
            raise ValueError(
                f"RecentTokens: expected {len(self._kept[0])} rows, as before; got "
                f"{B}. A cache serves one batch."
            )
        slots = self.place(slots, B, T, tokens.device)
        if self._kept is None:
            kept = (
                tokens.new_zeros(B, n, dtype=torch.long),
                slots.new_full((*slots.shape[:-1], n), -1),
            )
        else:
            kept = self._kept[0], self._kept[1].expand(*slots.shape[:-1], -1)
        held = torch.cat([kept[0], tokens.long()], dim=-1)
        at = torch.cat([kept[1], slots], dim=-1)
        if self._guards:
            self._before = self._last, self._n_read, self._kept
        self._kept = held[..., -self.room :], at[..., -self.room :]
        self._advance(slots)
        first = held.shape[-1] - n - T
        return held[..., first:], at[..., first:]

    def reorder(self, rows: Int[Tensor, " N"]) -> None:
        """Make row ``i`` of the batch a copy of what row ``rows[i]`` was."""
        if self._kept is None:
            raise ValueError(
                "RecentTokens: expected tokens; got none yet. Call extend first."
            )
        tokens, slots = self._kept
        check_rows(rows, len(tokens))
        if slots.ndim == 2:
            slots = slots[rows]
        if self._last is not None:  # None: rows of their own slots, none of them read
            self._last = self._last[rows]
        self._kept, self._before = (tokens[rows], slots), None

    def crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Forget the slots from ``n`` on, or from ``n[b]`` on in row ``b``."""
        self.check_crop(n)
        if self._kept is None:
            return
        tokens, slots = self._kept
        ends = torch.as_tensor(n, device=slots.device)
        slots = slots.masked_fill(slots >= ends[..., None], -1)
        # What is left of a row stands at its end.
        order = slots.sort(dim=-1, stable=True).indices
        tokens = tokens.gather(-1, order.expand_as(tokens))
        self._kept = tokens, slots.gather(-1, order)
        self._cut(ends)

    def check_crop(self, n: int | Int[Tensor, " B"]) -> None:
        """Raise what :meth:`crop` would raise."""
        ends = self._ends(n, 1 if self._kept is None else len(self._kept[0]))
        if self._kept is None:
            return
        slots = self._kept[1].cpu()
        left = ((slots >= 0) & (slots < ends[..., None])).sum(dim=-1)
        cut = (slots >= ends[..., None]).any(dim=-1)
        if (cut & (left < ends.clamp(max=self.n_back))).any():
            raise ValueError(
                f"crop: expected to keep tokens before which {self.n_back} are still "
                f"held; got {n!r}. Copy the cache before it reads a draft, or read "
                "the sequence anew."
            )

    def copy(self) -> RecentTokens:
        """A part that goes its own way from here."""
        twin = copy.copy(self)
        twin._before, twin._guards = None, 0
        return twin

    def undo(self) -> None:
        self._last, self._n_read, self._kept = self._before


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
        tables = [nn.Embedding(size, d_model) for size in sizes]
        for table in tables:
            nn.init.zeros_(table.weight)
        self.tables, self._sizes = nn.ModuleList(tables), sizes

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        rule: Mask,
        slots: Int[Tensor, "*rows T"] | None = None,
        recent: RecentTokens | None = None,
    ) -> Float[Tensor, "B T C"]:
        """``slots`` as in the decoder; ``recent``: the tokens read before."""
        T, n = tokens.shape[1], len(self.tables)
        if rule.batch not in (None, 1, len(tokens)):
            raise ValueError(
                f"expected a mask for the {len(tokens)} rows of the batch; got "
                f"{rule!r} for {rule.batch}. Build both from the same batch."
            )
        recent = self.new_cache() if recent is None else recent
        tokens, at = recent.extend(tokens, slots)
        here = at[..., n:]
        visible = torch.ones_like(here, dtype=torch.bool)
        code = tokens[:, n:] + 1
        out = here.new_zeros(())
        tables = zip(self.tables, self._sizes, strict=True)
        for back, (table, size) in enumerate(tables, start=1):
            exact = self._is_exact(back + 1, size)
            earlier = slice(n - back, n - back + T)
            visible = visible & rule[here, at[..., earlier]]
            # 32 bits of the code count. By an odd factor no symbol is pushed out
            # of them; by an even one the newest, which comes first, would be.
            factor = self.base if exact else self.base | 1
            code = code * factor + (tokens[:, earlier] + 1) * visible
            out = out + table(self._row(code, back + 1, size))
        return out

    def new_cache(self, room: int | None = None) -> RecentTokens:
        """As many tokens as an n-gram looks back, held among ``room``."""
        return RecentTokens(len(self.tables), room)

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
