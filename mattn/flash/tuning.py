"""Which tiles a kernel gets: a table, and what fills it.

Derived in chapter 10.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from mattn.flash.launch import (
    PASSES,
    Call,
    Tiles,
    check_device,
    check_inputs,
    columns,
    kernels,
    run_delta,
    run_dk_dv,
    run_dq,
    run_forward,
)
from mattn.flash.spans import stretches
from mattn.masks import Mask
from mattn.optional import needed

__all__ = ["CHOICES", "INTERPRETER", "TILES", "tiles_for", "tiles_on", "tune"]

TILES: dict[tuple, dict[str, Tiles]] = {}
"""(compute capability, dtype, head size filled up) → pass → :class:`Tiles`.

What is not listed gets a choice that fits every GPU of its generation.
``TILES.update(tune(q, k, v, causal))`` adds what your own GPU likes best.
"""
INTERPRETER: dict[str, Tiles] = dict.fromkeys(PASSES, Tiles(16, 32, 4, 1))


def tiles_for(q: Tensor) -> dict[str, Tiles]:
    """Of each pass, for the device, dtype and head size of ``q``."""
    if kernels().INTERPRETED:
        return INTERPRETER
    capability = torch.cuda.get_device_capability(q.device)
    return tiles_on(capability, q.dtype, columns(q.shape[-1]))


def tiles_on(
    capability: tuple[int, int], dtype: torch.dtype, filled_up: int
) -> dict[str, Tiles]:
    """Of each pass, on a GPU of this compute capability, which need not be there."""
    key = capability, dtype, filled_up
    if key in TILES:
        return TILES[key]
    if dtype == torch.float32 or capability < (8, 0):
        # No tensor cores: products are unrolled, so large blocks would spill.
        rows, keys = 32 if filled_up <= 64 else 16, 32 if filled_up <= 128 else 16
        return dict.fromkeys(PASSES, Tiles(rows, keys, 4, 1))
    if filled_up > 128:
        small = Tiles(32, 32, 4, 1)
        return {"forward": Tiles(64, 32, 4, 2), "dk_dv": small, "dq": small}
    if capability in ((9, 0), (10, 0)):
        forward = Tiles(128, 128 if filled_up <= 64 else 64, 8, 3)
        dq = Tiles(128, 64, 8, 2)
        return {"forward": forward, "dk_dv": Tiles(64, 128, 8, 2), "dq": dq}
    rows = 128 if filled_up <= 64 else 64
    return {
        "forward": Tiles(rows, 64 if filled_up <= 64 else 32, 4, 2),
        "dk_dv": Tiles(32, 64, 4, 2),
        "dq": Tiles(64, 32, 4, 2),
    }


CHOICES = {
    "forward": [
        Tiles(128, 128, 8, 2),
        Tiles(128, 128, 8, 3),
        Tiles(128, 128, 4, 2),
        Tiles(128, 64, 4, 3),
        Tiles(128, 64, 8, 3),
        Tiles(128, 64, 8, 4),
        Tiles(64, 64, 4, 3),
        Tiles(64, 32, 4, 2),
    ],
    "dk_dv": [
        Tiles(64, 128, 8, 2),
        Tiles(64, 128, 8, 3),
        Tiles(32, 128, 8, 2),
        Tiles(32, 128, 8, 3),
        Tiles(64, 128, 4, 2),
        Tiles(64, 64, 4, 2),
        Tiles(32, 64, 4, 2),
    ],
    "dq": [
        Tiles(128, 64, 8, 2),
        Tiles(128, 64, 8, 3),
        Tiles(128, 64, 4, 2),
        Tiles(128, 32, 4, 3),
        Tiles(64, 64, 4, 2),
        Tiles(64, 64, 4, 3),
        Tiles(64, 32, 4, 2),
    ],
}
"""What :func:`tune` tries."""


def tune(
    q: Float[Tensor, "B H Tq D"],
    k: Float[Tensor, "B Hkv Tk D"],
    v: Float[Tensor, "B Hkv Tk D"],
    mask: Mask | None = None,
    *,
    choices: dict[str, list[Tiles]] | None = None,
    measured: dict[str, dict[Tiles, float]] | None = None,
) -> dict[tuple, dict[str, Tiles]]:
    """The fastest of ``CHOICES`` for each pass on this GPU, as ``TILES`` takes it.

    Changes nothing by itself: ``TILES.update(tune(q, k, v, causal))``. A
    choice that does not fit the GPU is left out; ``measured`` receives all
    medians, in milliseconds.
    """
    if q.device.type != "cuda":
        raise ValueError(f"tune: expected tensors on a GPU; got {q.device}.")
    check_inputs(q, k, v, None)
    check_device(q)
    do_bench = needed("triton.testing", "gpu", "tune").do_bench
    choices = CHOICES if choices is None else choices
    measured = {} if measured is None else measured
    found = stretches(mask, q.shape[2], k.shape[2], device=q.device)
    call = Call(
        q, k, v, found.by_query, found.by_key, found.causal, found.window,
        q.shape[-1] ** -0.5,
    )  # fmt: skip
    best = dict(tiles_for(q))
    for name, run in _passes(call).items():
        times = measured.setdefault(name, {})
        for tiles in choices.get(name, []):
            try:
                times[tiles] = do_bench(lambda: run(tiles), return_mode="median")  # noqa: B023
            except Exception as error:
                if "OutOfResources" not in type(error).__name__:
                    raise
        if times:
            best[name] = min(times, key=times.__getitem__)
    capability = torch.cuda.get_device_capability(q.device)
    return {(capability, q.dtype, columns(q.shape[-1])): best}


def _passes(call: Call) -> dict[str, Callable[[Tiles], object]]:
    """What is timed: each pass as a function of its tiles."""
    out, lse = run_forward(call, tiles_for(call.q)["forward"])
    grad = torch.randn_like(out)
    delta = run_delta(call, out, grad)
    return {
        "forward": lambda tiles: run_forward(call, tiles),
        "dk_dv": lambda tiles: run_dk_dv(call, grad, lse, delta, tiles),
        "dq": lambda tiles: run_dq(call, grad, lse, delta, tiles),
    }
