"""What is launched: inputs and device checked, arguments, grid.

Derived in chapter 10.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from mattn.optional import needed

__all__ = [
    "LARGEST_HEAD",
    "PASSES",
    "Call",
    "Tiles",
    "check_device",
    "check_inputs",
    "columns",
    "kernels",
    "run_delta",
    "run_dk_dv",
    "run_dq",
    "run_forward",
]

LARGEST_HEAD = 256
PASSES = ("forward", "dk_dv", "dq")


class Tiles(NamedTuple):
    """How a kernel cuts its work: rows a block, warps, pipeline stages."""

    block_q: int
    block_k: int
    n_warps: int
    n_stages: int


def kernels() -> ModuleType:
    """The module of the kernels; an ``ImportError`` that helps, without Triton."""
    try:
        needed("triton", "gpu", "flash_attention")
    except ImportError as absent:
        raise ImportError(
            f"{absent} (Linux). mattn.fused_attention computes the same without it.",
            name=absent.name,
        ) from None
    from mattn.flash import kernels

    return kernels


def columns(D: int) -> int:
    """The head size filled up to what a matrix product takes: 16, 32, 64, …"""
    return max(16, 1 << (D - 1).bit_length())


def check_inputs(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> None:
    """Shapes, dtypes and devices that the kernels take."""
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape or not q.shape[1]:
        fits = False
    else:
        (B, H, _, D), (Bk, Hkv, _, Dk) = q.shape, k.shape
        fits = Bk == B and Dk == D and Hkv > 0 and H % Hkv == 0
    if not fits:
        raise ValueError(
            "flash_attention: expected q (B, H, Tq, D), k and v (B, Hkv, Tk, D), Hkv "
            f"dividing H; got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}. "
            "Values of another size run in mattn.fused_attention."
        )
    if not 1 <= q.shape[-1] <= LARGEST_HEAD:
        raise ValueError(
            f"flash_attention: expected 1 to {LARGEST_HEAD} features a head; got "
            f"{q.shape[-1]}. Use more heads, or mattn.fused_attention."
        )
    allowed = (torch.float16, torch.bfloat16, torch.float32)
    if q.dtype not in allowed or not q.dtype == k.dtype == v.dtype:
        raise ValueError(
            "flash_attention: expected q, k, v all float16, bfloat16 or float32; got "
            f"{q.dtype}, {k.dtype}, {v.dtype}. Convert them with .to(dtype); float64 "
            "runs in mattn.attention."
        )
    if not q.device == k.device == v.device:
        raise ValueError(
            "flash_attention: expected q, k, v on one device; got "
            f"{q.device}, {k.device}, {v.device}. Move them with .to(device)."
        )
    if scale is not None and scale <= 0:
        raise ValueError(
            f"flash_attention: expected scale > 0; got {scale}. Change the sign of q."
        )


def check_device(q: Tensor) -> None:
    """Where the kernels run, and in which dtypes."""
    if q.device.type == "cpu" and kernels().INTERPRETED:
        if q.dtype == torch.bfloat16:
            raise ValueError(
                "flash_attention: Triton's interpreter multiplies bfloat16 wrongly. "
                "Give it float16 or float32, or run on a GPU."
            )
        return
    if q.device.type != "cuda":
        raise ValueError(
            f"flash_attention: expected tensors on a GPU; got {q.device}. Use "
            "mattn.fused_attention there, or, to try the kernel, set "
            "TRITON_INTERPRET=1 before Triton is imported."
        )
    capability = torch.cuda.get_device_capability(q.device)
    if q.dtype == torch.bfloat16 and capability < (8, 0):
        raise ValueError(
            "flash_attention: bfloat16 needs compute capability 8.0; this GPU has "
            "{}.{}. Use float16 or float32.".format(*capability)
        )


@dataclass(frozen=True, eq=False)
class Call:
    """What all kernels of one call share."""

    q: Tensor
    k: Tensor
    v: Tensor
    by_query: Tensor | None
    by_key: Tensor | None
    causal: bool
    window: int
    scale: float

    def mask(self, listed: Tensor | None) -> dict:
        rows = 0 if listed is None else len(listed)
        return {
            # Not read when nothing is listed, but a pointer is due.
            "spans_ptr": self.q if listed is None else listed,
            "spans_stride": 0 if listed is None or rows <= 1 else listed.stride(0),
            "Tq": self.q.shape[2],
            "Tk": self.k.shape[2],
            "window": self.window,
            "CAUSAL": self.causal,
            "WINDOW": self.window > 0,
            "LISTED": rows > 0,
        }

    def sizes(self) -> dict:
        H, D = self.q.shape[1], self.q.shape[3]
        return {"H": H, "D": D, "COLUMNS": columns(D)}

    def inputs(self) -> dict:
        q, k, v = self.q, self.k, self.v
        scale2 = self.scale * math.log2(math.e)
        group = q.shape[1] // k.shape[1]
        return _matrices(q=q, k=k, v=v) | {"scale2": scale2, "GROUP": group}


def _matrices(**tensors: Tensor) -> dict:
    """``name_ptr`` and ``name_stride`` for each tensor (B, H, T, D)."""
    pointers = {f"{name}_ptr": t for name, t in tensors.items()}
    return pointers | {f"{name}_stride": t.stride()[:3] for name, t in tensors.items()}


def _launch(kernel, n_rows: int, n_heads: int, block: int, arguments: dict):
    grid = _grid(n_rows, n_heads, block)
    if all(grid):
        return kernel[grid](**arguments)
    return None


def _grid(n_rows: int, n_heads: int, block: int) -> tuple[int]:
    """Programs, block after block of each head: all on the first axis, as the
    others of a GPU end at 65,535.
    """
    return (-(-n_rows // block) * n_heads,)


def _cut(tiles: Tiles) -> dict:
    return {
        "BLOCK_Q": tiles.block_q,
        "BLOCK_K": tiles.block_k,
        "num_warps": tiles.n_warps,
        "num_stages": tiles.n_stages,
    }


def run_forward(call: Call, tiles: Tiles) -> tuple[Tensor, Tensor]:
    """The output, and of each query the log-sum-exp, base 2."""
    q = call.q
    B, H, Tq, _ = q.shape
    out = torch.empty_like(q)
    lse = q.new_empty(B, H, Tq, dtype=torch.float32)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_query) | _cut(tiles)
    arguments |= _matrices(out=out) | {"lse_ptr": lse}
    _launch(kernels().forward_kernel, Tq, B * H, tiles.block_q, arguments)
    return out, lse


def run_delta(call: Call, out: Tensor, grad: Tensor, block: int = 64) -> Tensor:
    """Of each query, output times gradient."""
    B, H, Tq, _ = call.q.shape
    delta = out.new_empty(B, H, Tq, dtype=torch.float32)
    arguments = _matrices(out=out, grad=grad) | call.sizes()
    arguments |= {"delta_ptr": delta, "Tq": Tq, "BLOCK_Q": block}
    _launch(kernels().delta_kernel, Tq, B * H, block, arguments)
    return delta


def run_dk_dv(call: Call, grad, lse, delta, tiles: Tiles) -> tuple[Tensor, Tensor]:
    """The gradients of keys and values."""
    dk, dv = torch.empty_like(call.k), torch.empty_like(call.v)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_key) | _cut(tiles)
    arguments |= _matrices(grad=grad, dk=dk, dv=dv) | {"scale": call.scale}
    arguments |= {"lse_ptr": lse, "delta_ptr": delta}
    B, Hkv, Tk, _ = call.k.shape
    _launch(kernels().dk_dv_kernel, Tk, B * Hkv, tiles.block_k, arguments)
    return dk, dv


def run_dq(call: Call, grad, lse, delta, tiles: Tiles) -> Tensor:
    """The gradient of queries."""
    dq = torch.empty_like(call.q)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_query) | _cut(tiles)
    arguments |= _matrices(grad=grad, dq=dq) | {"scale": call.scale}
    arguments |= {"lse_ptr": lse, "delta_ptr": delta}
    B, H, Tq, _ = call.q.shape
    _launch(kernels().dq_kernel, Tq, B * H, tiles.block_q, arguments)
    return dq
