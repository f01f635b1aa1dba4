"""Fused attention in Triton, forward and backward.

One fact carries the kernels. Under most rules (causal, a window, packed
documents, padding, a prefix, blocks, chunks) the keys that a query may see are
one stretch, ``first ≤ j < end``, and from one query to the next neither end
moves back. So for a block of queries

* the keys that *some* of them see run from the first query's ``first`` to the
  last query's ``end``: nothing else is loaded;
* the keys that *all* of them see run from the last query's ``first`` to the
  first query's ``end``: there no mask is computed;
* slots are compared only in the blocks between.

Seen from a key, the queries that see it are such a stretch as well, and the
backward pass walks those.

The way of a call: ``operator`` takes it, has the rule read by ``spans`` and the
tiles chosen by ``tuning``; ``launch`` starts what stands in ``kernels``, plain
Triton. ``bridge`` brings models of transformers here. Importing this needs
neither Triton nor a GPU; calling :func:`flash_attention` says what is missing.
With ``TRITON_INTERPRET=1`` set before Triton is imported, the kernels
run on a CPU, slowly. Derived in chapter 10.
"""

from mattn.flash.bridge import register_in_transformers, transformers_attention
from mattn.flash.launch import Tiles
from mattn.flash.operator import flash_attention
from mattn.flash.spans import Stretches, stretches
from mattn.flash.tuning import TILES, tune

__all__ = [
    "TILES",
    "Stretches",
    "Tiles",
    "flash_attention",
    "register_in_transformers",
    "stretches",
    "transformers_attention",
    "tune",
]
