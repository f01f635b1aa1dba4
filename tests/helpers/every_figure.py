"""Every kind of figure that mattn.plotting draws, once."""

from __future__ import annotations

import numpy as np
import torch

from mattn import causal, masked_softmax, window
from mattn.plotting import (
    show_attention,
    show_bars,
    show_blocks,
    show_cache,
    show_clocks,
    show_curves,
    show_decoder,
    show_desk,
    show_fences,
    show_heads,
    show_jugs,
    show_leaks,
    show_links,
    show_mask,
    show_masks,
    show_memory,
    show_plane,
    show_probes,
    show_reach,
    show_roofline,
    show_ruler,
    show_running,
    show_scaling,
    show_scores,
    show_sentence,
    show_shadow,
    show_shares,
    show_stencils,
    show_weights,
)


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


WEIGHTS = masked_softmax(noise(6, 6), causal.matrix(6))
ROW = np.array([0.75, 0.25, 0.0])
FIGURES = {
    "show_attention": lambda: show_attention(
        WEIGHTS, causal.matrix(6), WEIGHTS, tokens=list("abcdef")
    ),
    "show_blocks": lambda: show_blocks((causal & window(9)).matrix(40), 5),
    "show_cache": lambda: show_cache(["the", "cats", "on"]),
    "show_clocks": lambda: show_clocks("abc", [1.0, 0.1], query=1),
    "show_curves": lambda: show_curves({"a": ([0, 1], [1, 2])}),
    "show_decoder": lambda: show_decoder(list("abcd"), causal.matrix(4), n_layers=2),
    "show_desk": lambda: show_desk(list("abc"), list("xyz"), query=1, n_real=2),
    "show_fences": lambda: show_fences([0, 0, 1, 2], [1, 2, 3, 4], 4),
    "show_leaks": lambda: show_leaks(causal.matrix(16), causal.matrix(16)),
    "show_links": lambda: show_links(list("ab"), list("xyz"), np.full((3, 2), 0.5)),
    "show_mask": lambda: show_mask(causal.matrix(6), list("abcdef"), title="causal"),
    "show_masks": lambda: show_masks({str(n): causal.matrix(6) for n in range(4)}),
    "show_memory": lambda: show_memory({"archive": "80 GB", "desk": "1 MB"}, ["slow"]),
    "show_reach": lambda: show_reach(causal.matrix(6), 3, query=5),
    "show_roofline": lambda: show_roofline(1e12, 1e10, {"a": 3.0, "b": 900.0}),
    "show_ruler": lambda: show_ruler({"a": 1.0, "b": 3.0, "leak": 0.2}, floor=0.5),
    "show_probes": lambda: show_probes({"f": ["a"], "g": ["b"]}, ["a", "b"]),
    "show_running": lambda: show_running([0, 2, -1], [0, 2, 2], np.ones(3)),
    "show_scaling": lambda: show_scaling({"a": ([1, 2], [3, 9])}, y_label="ms"),
    "show_scores": lambda: show_scores(noise(6, 6)),
    "show_bars": lambda: show_bars("ab", {"x": [1, 2], "y": [2, -1]}, floor=[1, 1]),
    "show_heads": lambda: show_heads("abc", {"x": ROW, "y": ROW}, query=1, card=2),
    "show_jugs": lambda: show_jugs({"x": {"a": 1.0, "b": 0.25}}, lowered=("b",)),
    "show_plane": lambda: show_plane(noise(3, 2), "abc", weights={"mean": ROW}),
    "show_sentence": lambda: show_sentence("abc", ROW, query=1, card=2),
    "show_shadow": lambda: show_shadow([0, 3], {"a": [0, 2], "b": [1, 1]}),
    "show_shares": lambda: show_shares({"x": ROW, "y": ROW}, "abc"),
    "show_stencils": lambda: show_stencils("abc", {"x": ROW, "y": ROW}, query=1),
    "show_weights": lambda: show_weights(WEIGHTS),
}
