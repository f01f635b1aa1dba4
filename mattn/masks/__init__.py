"""Masks as rules.

A mask answers one question: *may the query in slot q see the key in slot k?*
Any function of slots is a rule (:func:`rule`); rules combine with ``&`` (and),
``|`` (or) and ``~`` (not). Everything that asks about a mask asks the rule:

* for a boolean matrix, ``True`` = may attend      — :meth:`Mask.matrix`,
* for an additive matrix, 0 = may attend, −∞ = not — :meth:`Mask.additive`,
* for the predicate that FlexAttention takes       — :meth:`Mask.predicate`,
* for the cells of explicit slots, as a cache has them — :meth:`Mask.at`,
* for one pair, ``mask[q, k]``, and for how many      — :meth:`Mask.pairs`,
* for the stretch of keys that each query may see  — :meth:`Mask.spans`,
* for how far behind and ahead it looks            — :meth:`Mask.reach`.

All come from one function of slots, so they cannot disagree. A slot says
which token of its sequence this is; where the token *stands* for its
embedding (a position) is another matter, and no rule sees it.
Derived in chapter 2.
"""

from mattn.masks.algebra import Mask, default_slots
from mattn.masks.cases import Conformed, conform, export, from_mask_mod
from mattn.masks.compared import Difference, difference
from mattn.masks.configs import Layers, describe, masks_of
from mattn.masks.listed import (
    cumulative,
    global_tokens,
    groups,
    intervals,
    permutation,
    shared_prefix,
    tree,
)
from mattn.masks.matrices import boolean_power, to_additive
from mattn.masks.named import causal, documents, full, padding, prefix, window
from mattn.masks.patterns import (
    block_causal,
    block_diffusion,
    chunks,
    dilated,
    draft,
    near,
    neighbourhood,
    random_blocks,
    tiles,
    wait,
)
from mattn.masks.rules import rule
from mattn.masks.spans import Spans
from mattn.reach import Reach

__all__ = [
    "Conformed",
    "Difference",
    "Layers",
    "Mask",
    "Reach",
    "Spans",
    "block_causal",
    "block_diffusion",
    "boolean_power",
    "causal",
    "chunks",
    "conform",
    "cumulative",
    "default_slots",
    "describe",
    "difference",
    "dilated",
    "documents",
    "draft",
    "export",
    "from_mask_mod",
    "full",
    "global_tokens",
    "groups",
    "intervals",
    "masks_of",
    "near",
    "neighbourhood",
    "padding",
    "permutation",
    "prefix",
    "random_blocks",
    "rule",
    "shared_prefix",
    "tiles",
    "to_additive",
    "tree",
    "wait",
    "window",
]
