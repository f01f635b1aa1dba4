"""What the auditor is shown of the package: a name → what it saw, per probe.

Every expected matrix is written by hand. The auditor of the mutated copy runs;
of mattn it knows only masks, and its default is written out in it.
"""

from __future__ import annotations

import torch
from torch import Tensor

V, C, T = 11, 8, 7


# Long because: mattn, whose copy is broken, may be imported no earlier than here, and
# the parts share what is drawn first.
def look() -> dict[str, list[str]]:
    """Part of the package → probes that found a leak, or what else was seen."""
    import mattn
    from mattn.attention import attention, blockwise_attention, fused_attention
    from mattn.audit import Adapter, audit, audit_beam, audit_labels
    from mattn.generation import beam_search
    from mattn.heads import merge_heads, split_heads
    from mattn.losses import next_token_loss

    torch.set_num_threads(1)
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, T, C, generator=generator)
    tokens = torch.randint(0, V, (2, T), generator=generator)
    reach = torch.arange(T)[:, None] - torch.arange(T)  # i − j
    past = reach >= 0
    ids = torch.tensor([[0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1, 1]])
    own = past & (ids[:, :, None] == ids[:, None, :])
    w = 3
    sizes = {"n_symbols": V, "d_model": C, "n_layers": 2, "n_heads": 2}

    def heads(form, mask):
        def run(x: Tensor) -> Tensor:
            q = split_heads(x, 2)
            # Keys that differ from the queries, so that scores take both signs.
            out = form(q, q.roll(1, -1) - q, q, mask)
            return merge_heads(out[0] if isinstance(out, tuple) else out)

        return run

    def blockwise(q, k, v, mask):
        return blockwise_attention(q, k, v, mask, block=3)

    def pad(model, x, real):
        side = "left" if not bool(real[:, 0].all()) else "right"
        lengths, width = real.sum(dim=1), real.shape[1]
        options = {"side": side} | ({"width": width} if side == "left" else {})
        return model(x, mask=mattn.padding(lengths, **options))

    def packed(model, x, ids):
        return model(x, mask=mattn.documents(ids))

    def by_row(model, x):
        return model(x, mask=mattn.documents(ids))

    fast = ["perturbation", "jacobian", "truncation"]
    small = mattn.Decoder(mattn.Config(**sizes)).eval()

    def dense():
        return audit(heads(attention, mattn.causal), x, strict=True, probes=fast)

    def in_blocks():
        return audit(heads(blockwise, mattn.causal), x, strict=True, probes=fast)

    def fused():
        mask = mattn.causal & mattn.window(w)
        band = past & (reach < w)
        form = heads(fused_attention, mask)
        return audit(form, x, expected=band, strict=True, probes=fast)

    def whole():
        decoder = mattn.Decoder(mattn.Config(**sizes, dropout=0.1))
        adapter = Adapter(pad=pad, packed=packed)
        return audit(decoder, tokens, strict=True, forward=adapter)

    def in_windows():
        windowed = mattn.Decoder(mattn.Config(**sizes), mattn.causal & mattn.window(w))
        band = past & (reach <= 2 * (w - 1))
        names = ["perturbation", "jacobian", "truncation", "cache"]
        return audit(windowed, tokens, expected=band, strict=True, probes=names)

    def documents():
        names = ["perturbation", "jacobian"]
        return audit(small, tokens, expected=own, forward=by_row, probes=names)

    def beam():
        prompt = [1, 2, 3]
        return audit_beam(small, prompt, beam_search(small, [prompt], 6, n_beams=4)[0])

    def labels():
        return audit_labels(next_token_loss)

    parts = {
        "attention": dense,
        "blockwise_attention": in_blocks,
        "fused_attention": fused,
        "Decoder": whole,
        "Decoder with a window": in_windows,
        "Decoder with documents": documents,
        "beam_search": beam,
        "next_token_loss": labels,
    }
    seen = {}
    for name, part in parts.items():
        try:
            report = part()
        except Exception as error:  # a mutant may break whatever it touches
            seen[name] = [f"fails: {type(error).__name__}"]
            continue
        probes = {leak.probe.split(",")[0] for leak in report.leaks}
        probes = {"perturbation" if "perturbation" in p else p for p in probes}
        if report.missing and report.strict:
            probes.add("missing link")
        if [line for line in report.hygiene if "NaN at the last" not in line]:
            probes.add("hygiene")
        if probes:
            seen[name] = sorted(probes)
    return seen
