"""The book's figures: one visual language for masks, scores and weights.

Rows are queries, downwards; columns are keys, their labels on top. A colour
has one meaning everywhere and never stands alone: blocked cells are hatched,
small grids print their values. Every ``show_…`` function returns the figure, and
``svg`` writes any figure as the book shows it.
"""

from mattn.plotting.bars import show_bars
from mattn.plotting.clocks import show_clocks
from mattn.plotting.curves import show_curves, show_roofline, show_running, show_scaling
from mattn.plotting.desk import show_desk, show_links
from mattn.plotting.diagrams import show_decoder, show_reach
from mattn.plotting.heads import show_heads
from mattn.plotting.jugs import show_jugs
from mattn.plotting.kept import show_cache
from mattn.plotting.machine import show_fences, show_memory
from mattn.plotting.matrices import (
    show_attention,
    show_blocks,
    show_leaks,
    show_mask,
    show_masks,
    show_probes,
    show_scores,
    show_weights,
)
from mattn.plotting.plane import show_plane
from mattn.plotting.ruler import show_ruler
from mattn.plotting.sentence import show_sentence
from mattn.plotting.shadow import show_shadow
from mattn.plotting.shares import show_shares
from mattn.plotting.stencils import show_stencils
from mattn.plotting.style import ALLOWED, BLOCKED, LEAK, QUERY, measured
from mattn.plotting.svg import show_as_svg, svg

__all__ = [
    "ALLOWED",
    "BLOCKED",
    "LEAK",
    "QUERY",
    "measured",
    "show_as_svg",
    "show_attention",
    "show_bars",
    "show_blocks",
    "show_cache",
    "show_clocks",
    "show_curves",
    "show_decoder",
    "show_desk",
    "show_fences",
    "show_heads",
    "show_jugs",
    "show_leaks",
    "show_links",
    "show_mask",
    "show_masks",
    "show_memory",
    "show_plane",
    "show_probes",
    "show_reach",
    "show_roofline",
    "show_ruler",
    "show_running",
    "show_scaling",
    "show_scores",
    "show_sentence",
    "show_shadow",
    "show_shares",
    "show_stencils",
    "show_weights",
    "svg",
]
