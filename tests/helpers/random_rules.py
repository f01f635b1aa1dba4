"""Random rules for hypothesis: named, packed, padded, plain functions; joined."""

from __future__ import annotations

import torch
from hypothesis import strategies as st

from mattn import Mask, causal, documents, full, padding, prefix, rule, window

T = 7
"""Slots that the rules know of: 0 to T - 1."""


def looked_up(seed: int, batch: int | None) -> Mask:
    """A function of slots without any order."""
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(1, generator=generator)
    table = torch.rand(batch or 1, T, T, generator=generator) < share

    def seen(b, q, k):
        row = 0 if batch is None else b
        return table[row, q.clamp(0), k.clamp(0)] & (q >= 0)

    return rule(seen, batch=batch, name=f"looked up {seed}")


def slanted(behind: int, ahead: int) -> Mask:
    """A band, as a ``mask_mod`` that promises what it is."""
    return rule(
        lambda b, h, q, k: (k - q <= ahead) & (q - k < behind),
        behind=behind,
        ahead=ahead,
    )


ids = st.lists(st.integers(0, 2), min_size=T, max_size=T)
lengths = st.lists(st.integers(0, T), min_size=2, max_size=2)
simple = st.one_of(
    st.sampled_from([full, causal]),
    st.integers(1, T + 1).map(window),
    st.integers(0, T + 1).map(prefix),
    ids.map(documents),
    ids.map(lambda i: documents(i, causal & window(2))),
    ids.map(lambda i: documents(sorted(i), causal & (window(2) | prefix(1)))),
    st.tuples(ids, ids).map(lambda two: documents([sorted(i) for i in two])),
    lengths.map(padding),
    lengths.map(lambda n: padding(n, side="left", width=T)),
    st.builds(looked_up, st.integers(0, 99), st.sampled_from([None, 2])),
    st.builds(slanted, st.integers(1, 4), st.integers(0, 3)),
)
rules = st.recursive(
    simple,
    lambda inner: st.one_of(
        inner.map(lambda a: ~a),
        st.tuples(inner, inner).map(lambda ab: ab[0] & ab[1]),
        st.tuples(inner, inner).map(lambda ab: ab[0] | ab[1]),
    ),
    max_leaves=4,
)
