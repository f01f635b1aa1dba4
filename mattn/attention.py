"""softmax(QKᵀ/√d_k + Mask)·V: readable, block by block, fused.

:func:`attention` is the formula. :func:`blockwise_attention` and
:func:`fused_attention` compute the same without holding all weights; they
are tested equal to it. Derived in chapters 1, 3 and 4.
"""

from __future__ import annotations

import functools
import itertools
import math
import weakref
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mattn import softmax
from mattn.masks import Mask, Spans

__all__ = ["align_rows", "attention", "blockwise_attention", "fused_attention"]


def attention(
    q: Float[Tensor, "*batch Tq D"],
    k: Float[Tensor, "... Tk D"],
    v: Float[Tensor, "... Tk Dv"],
    mask: Mask | Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
    *,
    bias: Float[Tensor, "*#batch #Tq #Tk"] | None = None,
    scale: float | None = None,
) -> tuple[Float[Tensor, "*batch Tq Dv"], Float[Tensor, "*batch Tq Tk"]]:
    """Attention(Q, K, V) = softmax(QKᵀ/√d_k + Mask)·V, with its weights.

    ``mask`` is a rule, or a boolean tensor with ``True`` = may attend, or
    ``None``: everything may be seen. Row ``b`` of a rule that tells the rows
    of a batch apart is for ``q[b]``. A row in which nothing may be seen has
    weights, output and gradients of exactly 0. Half precision is computed in
    float32, where scores above 65,504 are no ∞, and rounded at the end.

    ``bias`` is added to the scores and blocks nothing; it may be learned. ``scale``
    multiplies QKᵀ in place of 1/√d_k. With four axes, ``Hkv`` heads of keys and
    values may serve ``H`` heads of queries, if ``Hkv`` divides ``H``.

    Raises ``ValueError`` for a mask that is not boolean or does not fit. A tensor
    has two axes, ``(Tq, Tk)``, or as many as the scores: with heads, one mask for
    each row of the batch is ``mask[:, None]``, one of its keys, (B, Tk),
    ``mask[:, None, None]``.

    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> from mattn import causal
    >>> attention(x, x, x, causal)[1]
    tensor([[1.0000, 0.0000],
            [0.3302, 0.6698]])

    Source: Vaswani et al. 2017, arXiv:1706.03762, equation 1.
    Derived in chapters 1 and 3.
    """
    k, v = _for_each_head(q, k, v)
    allowed = _allowed(mask, q, k)
    scores = _scores(q, k, scale)
    if bias is not None:
        scores = scores + _fitting(bias, q, k)
    weights = softmax.masked_softmax(scores, allowed)
    out = weights @ v.to(weights.dtype)
    return out.to(q.dtype), weights.to(q.dtype)


def _scores(q: Tensor, k: Tensor, scale: float | None) -> Tensor:
    """QKᵀ/√D, (…, Tq, Tk), divided before the product, which is the larger."""
    precise = torch.promote_types(q.dtype, torch.float32)
    q, k = q.to(precise), k.to(precise)
    q = q / math.sqrt(q.shape[-1]) if scale is None else q * _finite(scale)
    return q @ k.mT


# Long because: a third is the docstring; the loop over blocks is one thought.
def blockwise_attention(
    q: Float[Tensor, "*batch Tq D"],
    k: Float[Tensor, "... Tk D"],
    v: Float[Tensor, "... Tk Dv"],
    mask: Mask | Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
    *,
    bias: Float[Tensor, "*#batch #Tq #Tk"] | None = None,
    scale: float | None = None,
    block: int = 128,
    skip: bool = True,
) -> Float[Tensor, "*batch Tq Dv"]:
    """The output of :func:`attention` in memory linear in T.

    Queries and keys are read ``block`` at a time and merged by the online
    softmax; blocks in which nothing is allowed are not computed (unless
    ``skip=False``, to measure what that saves). The backward pass computes
    each block of rows again instead of keeping it. Derived in chapter 4.
    """
    if not hasattr(block, "__index__") or block < 1:
        raise ValueError(f"blockwise_attention: expected block >= 1; got {block!r}.")
    k, v = _for_each_head(q, k, v)
    # The mask is checked once, not block by block: of a rule, one row suffices.
    rule = mask if isinstance(mask, Mask) else None
    _allowed(mask, q if rule is None else q[..., :1, :], k)
    Tq, Tk = q.shape[-2], k.shape[-2]
    if bias is not None:
        bias = _fitting(bias, q, k)
    ranges = [(0, Tk)] * max(1, -(-Tq // block))
    if skip and rule is not None:
        ranges = list(_ranges(rule.hull(Tq, Tk), block))
    learned = [t for t in (q, k, v, bias) if t is not None and t.requires_grad]
    recompute = torch.is_grad_enabled() and bool(learned)
    rows = []
    # Not slices: the gradient of each would be as large as the whole.
    for i, q_rows in enumerate(q.split(block, dim=-2)):
        attend = functools.partial(
            _attend_rows,
            bias=None if bias is None else bias[..., i * block : (i + 1) * block, :],
            scale=scale,
            cells=functools.partial(_cells, mask, (Tq, Tk), i * block, q.device),
            keys=ranges[i],
            block=block,
            skip=skip,
        )
        if recompute:
            rows.append(checkpoint(attend, q_rows, k, v, use_reentrant=False))
        else:
            rows.append(attend(q_rows, k, v))
    return torch.cat(rows, dim=-2)


def _cells(
    mask: Mask | Tensor | None,
    sizes: tuple[int, int],
    start: int,
    device: torch.device,
    n: int,
    keys: slice,
    n_batch_dims: int,
) -> Tensor | None:
    """What the queries ``start … start + n − 1`` may see of some keys."""
    if mask is None:
        return None
    if isinstance(mask, Mask):
        queries = slice(start, start + n)
        allowed = mask.matrix(*sizes, queries=queries, keys=keys, device=device)
        return align_rows(allowed, n_batch_dims)
    whole = mask.expand(*mask.shape[:-2], *sizes)
    return whole[..., start : start + n, keys]


def _ranges(hull: Spans, block: int) -> Iterator[tuple[int, int]]:
    """For each ``block`` of queries the keys that any of them may see, in any row."""
    seen = hull.end > hull.first
    blocks = max(1, -(-seen.shape[-1] // block))
    if not len(seen):  # no row of the batch
        yield from [(0, 0)] * blocks
        return
    fill = (0, blocks * block - seen.shape[-1])  # the last block may not be full
    first = F.pad(hull.first.masked_fill(~seen, _FAR), fill, value=_FAR)
    end = F.pad(hull.end.masked_fill(~seen, 0), fill)
    first, end = (t.unflatten(-1, (blocks, block)) for t in (first, end))
    firsts, ends = first.amin(dim=(0, 2)).tolist(), end.amax(dim=(0, 2)).tolist()
    for lo, hi in zip(firsts, ends, strict=True):
        yield (lo, hi) if hi else (0, 0)


_FAR = 2**62


def _attend_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    bias: Tensor | None,
    scale: float | None,
    cells: Callable[[int, slice, int], Tensor | None],
    keys: tuple[int, int],
    block: int,
    skip: bool,
) -> Tensor:
    """One block of queries, over the blocks that hold its ``keys``."""
    # Begun with no keys: zeros that gradients of exactly 0 flow back from, also
    # when every block is skipped.
    seen = softmax.partial(_scores(q, k[..., :0, :], scale), v[..., :0, :])
    k_blocks, v_blocks = k.split(block, dim=-2), v.split(block, dim=-2)
    for j in range(keys[0] // block, -(-keys[1] // block)):
        columns = slice(j * block, (j + 1) * block)
        allowed = cells(q.shape[-2], columns, q.ndim - 2)
        if skip and allowed is not None and not allowed.any():
            continue
        scores = _scores(q, k_blocks[j], scale)
        if bias is not None:
            scores = scores + bias[..., columns]
        seen = softmax.merge(seen, softmax.partial(scores, v_blocks[j], allowed))
    return softmax.finish(seen).to(q.dtype)


# Long because: half of it is signature and docstring.
def fused_attention(
    q: Float[Tensor, "B H Tq D"],
    k: Float[Tensor, "B Hkv Tk D"],
    v: Float[Tensor, "B Hkv Tk Dv"],
    mask: Mask | Bool[Tensor, "... #Tq _"] | None = None,
    *,
    bias: Float[Tensor, "... #Tq _"] | None = None,
    scale: float | None = None,
) -> Float[Tensor, "B H Tq Dv"]:
    """The output of :func:`attention` by PyTorch's fused kernel.

    Chooses the cheapest arguments of ``scaled_dot_product_attention`` that
    mean the same as ``mask``, and keeps the rule for empty rows (output 0),
    on which its back ends differ. On a CPU a rule is applied to some queries
    at a time, with the keys that these may see: a window of w keys costs
    T·w, not T². ``H`` query heads may share ``Hkv`` key heads when ``Hkv``
    divides ``H`` (Ainslie et al. 2023, arXiv:2305.13245).

    Keys and values have to be finite, hidden ones too: where a NaN is hidden the
    kernels do not agree on whom it reaches.
    """
    _check_sizes(q, k, v, grouped=True)
    Tq, Tk = q.shape[-2], k.shape[-2]
    scale = None if scale is None else _finite(scale)
    bias = None if bias is None else _fitting(bias, q, k).to(q.dtype)
    nothing = not q.numel() or not Tk
    if not isinstance(mask, Mask) or mask.batch not in (None, 1, len(q)) or nothing:
        return _sdpa(q, k, v, _allowed(mask, q, k), bias=bias, scale=scale)
    ahead, behind = mask.bound.ahead, mask.bound.behind
    if mask.band and Tk <= behind and Tq - 1 <= ahead:
        return _sdpa(q, k, v, bias=bias, scale=scale)
    if mask.band and Tk <= behind and ahead == 0 and Tq == Tk and bias is None:
        return _sdpa(q, k, v, scale=scale, is_causal=True)  # top-left aligned
    rows, keys = _pieces(mask, Tq, Tk, small=q.device.type == "cpu")
    parts = zip(_parts(q, rows), _parts(k, keys), _parts(v, keys), strict=True)
    outs = []
    for i, (q_part, k_part, v_part) in enumerate(parts):
        cut = {"queries": slice(*rows[i]), "keys": slice(*keys[i])}
        allowed = mask.matrix(Tq, Tk, **cut, device=q.device)
        if allowed.stride(-2) == 0:  # the same for all queries: one row of it
            allowed = allowed[..., :1, :]
        cells = align_rows(allowed, 2)
        near = None if bias is None else bias[..., slice(*rows[i]), slice(*keys[i])]
        outs.append(_sdpa(q_part, k_part, v_part, cells, bias=near, scale=scale))
    if len(outs) == 1:
        return outs[0]
    # Head after head of each token, as the kernel writes: merging copies nothing.
    return torch.cat([out.transpose(1, 2) for out in outs], dim=1).transpose(1, 2)


def _pieces(
    mask: Mask, Tq: int, Tk: int, *, small: bool
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Queries cut where the keys that they may see change: of each piece its
    queries, and its keys.
    """
    # Each layer of a model asks the same, and a rule never changes its hull.
    asked = (Tq, Tk, small)
    last = _LAST.get(mask)
    if last is not None and last[0] == asked:
        return last[1]
    # Small pieces leave out more keys; a GPU needs large ones to be busy.
    size = min(max(Tq // 4, 64), 256) if small else Tq
    ranges = {
        i * size: (min(lo, Tk - 1), max(hi, min(lo, Tk - 1) + 1))  # at least one key
        for i, (lo, hi) in enumerate(_ranges(mask.hull(Tq, Tk), size))
    }
    groups = itertools.groupby(ranges, key=lambda start: ranges[start])
    firsts = {next(starts): keys for keys, starts in groups}
    pieces = list(itertools.pairwise([*firsts, Tq])), list(firsts.values())
    _LAST[mask] = asked, pieces
    return pieces


# Of each rule that is still in use, what was asked last, and the answer.
_LAST: weakref.WeakKeyDictionary[Mask, tuple] = weakref.WeakKeyDictionary()


def _sdpa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    allowed: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    scale: float | None = None,
    is_causal: bool = False,
) -> Tensor:
    """PyTorch's kernel, with the rule for empty rows."""
    grouped = q.shape[1] != k.shape[1]
    if not q.numel() or not k.shape[-2]:  # no query, or every row empty
        if grouped:
            group = q.shape[1] // k.shape[1]
            k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
        return q @ k.mT @ v  # zeros; the fused kernels do not agree on it
    sdpa = functools.partial(
        F.scaled_dot_product_attention,
        *(q, k, v),
        is_causal=is_causal,
        scale=scale,
        enable_gqa=grouped,
    )
    if bias is not None:  # to add −∞ is to block
        seen = bias > -torch.inf if allowed is None else allowed & (bias > -torch.inf)
        empty = ~seen.any(dim=-1, keepdim=True)
        added = bias.masked_fill(~seen, -torch.inf).masked_fill(empty, 0.0)
        return sdpa(attn_mask=added).masked_fill(empty, 0.0)
    if allowed is None:
        return sdpa()
    # Largest, then least: what any() and all() say of bools, but vectorised.
    seen = allowed.view(torch.uint8).amax(dim=-1, keepdim=True)
    if seen.min():
        return sdpa(attn_mask=allowed)
    empty = seen == 0
    return sdpa(attn_mask=allowed | empty).masked_fill(empty, 0.0)


def _parts(t: Tensor, ranges: list[tuple[int, int]]) -> Sequence[Tensor]:
    """``t`` at the positions of each range; ranges may overlap."""
    if ranges == [(0, t.shape[-2])]:
        return [t]
    return (_Parts.apply if t.requires_grad else _Parts.forward)(t, ranges)


class _Parts(torch.autograd.Function):
    """Slices whose gradients are added up in one tensor.

    The gradient of an ordinary slice is as large as the whole it was cut
    from: the backward pass of a window would be quadratic in T.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(t, ranges):
        return tuple(t[..., start:stop, :] for start, stop in ranges)

    @staticmethod
    def setup_context(ctx, inputs, output):
        t, ctx.ranges = inputs
        ctx.save_for_backward(t)

    @staticmethod
    def backward(ctx, *grads):
        total = torch.zeros_like(*ctx.saved_tensors)
        for (start, stop), grad in zip(ctx.ranges, grads, strict=True):
            total[..., start:stop, :] += grad
        return total, None


def _for_each_head(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values for each head of queries, where several share one."""
    grouped = q.ndim == k.ndim == 4 and k.shape[1] not in (1, q.shape[1])
    _check_sizes(q, k, v, grouped=grouped)
    if grouped:
        group = q.shape[1] // k.shape[1]
        k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
    return k, v


def _check_sizes(q: Tensor, k: Tensor, v: Tensor, *, grouped: bool = False) -> None:
    batch = q.shape[:-2]
    if grouped:  # (B, H): each key head serves the same number of query heads
        fits = (
            q.ndim == k.ndim == v.ndim == 4
            and k.shape[:2] == v.shape[:2]
            and q.shape[0] == k.shape[0]
            and q.shape[1] % (k.shape[1] or q.shape[1] + 1) == 0
        )
    else:
        fits = min(q.ndim, k.ndim, v.ndim) >= 2 and all(
            _broadcasts(t.shape[:-2], batch) for t in (k, v)
        )
    if not fits or not 0 < q.shape[-1] == k.shape[-1] or k.shape[-2] != v.shape[-2]:
        sizes = ("B, H", "B, Hkv") if grouped else ("…", "…")
        raise ValueError(
            "expected q ({0}, Tq, D), k ({1}, Tk, D), v ({1}, Tk, Dv); ".format(*sizes)
            + f"got {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}. Queries and "
            "keys need the same features, keys and values the same positions, "
            + ("and Hkv divides H." if grouped else "all the same batch.")
        )
    if not q.dtype == k.dtype == v.dtype or not q.dtype.is_floating_point:
        raise ValueError(
            "expected q, k, v of one floating-point dtype; got "
            f"{q.dtype}, {k.dtype}, {v.dtype}. Convert them with .to(dtype)."
        )


def _allowed(mask: Mask | Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """The boolean tensor that ``mask`` means for these queries and keys."""
    batch, Tq, Tk = q.shape[:-2], q.shape[-2], k.shape[-2]
    if mask is None:
        return None
    if isinstance(mask, Mask):
        allowed = align_rows(mask.matrix(Tq, Tk, device=q.device), len(batch))
    else:
        allowed = mask
    expected = f"(…, {Tq}, {Tk})"
    if not isinstance(allowed, Tensor) or allowed.dtype != torch.bool:
        raise ValueError(
            "mask must be a rule of mattn.masks or a bool tensor (True = may attend) "
            f"of shape {expected}; got {_describe(allowed)}. An additive mask becomes "
            "boolean by `mask == 0`; one of 0 and 1 by `mask == 1`, if 1 means keep."
        )
    if allowed.ndim < 2 or not softmax.broadcasts(allowed, (*batch, Tq, Tk)):
        raise ValueError(
            f"mask must be bool (True = may attend) of shape {expected}, to fit q "
            f"{tuple(q.shape)} and k {tuple(k.shape)}; got {_describe(allowed)}. It "
            "has two axes, or as many as the scores: for each row of a batch with "
            "heads (B, 1, Tq, Tk), mask[:, None]."
        )
    return allowed


def _fitting(bias: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """``bias``, expanded to every query and key: (…, Tq, Tk)."""
    shape = (*q.shape[:-1], k.shape[-2])
    if not isinstance(bias, Tensor) or not bias.dtype.is_floating_point:
        raise ValueError(
            f"bias must be a floating-point tensor, added to scores {shape}; got "
            f"{_describe(bias)}. What says who may be seen is a mask: mask=."
        )
    if bias.ndim < 2 or not softmax.broadcasts(bias, shape):
        raise ValueError(
            f"bias must have two axes, or as many as the scores {shape}, each of their "
            f"size or 1; got {_describe(bias)}. One number for each head is "
            "bias[None, :, None, None]."
        )
    return bias.expand(*bias.shape[:-2], *shape[-2:])


def _finite(scale: float) -> float:
    if isinstance(scale, bool) or not math.isfinite(scale):
        raise ValueError(
            f"scale must be a finite number; got {scale!r}. None means 1/√D."
        )
    return float(scale)


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether keys of this batch serve queries of that one."""
    return len(shape) <= len(to) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False)
    )


def align_rows(allowed: Tensor, n_batch_dims: int) -> Tensor:
    """Put a rule's batch dimension first: (B, Tq, Tk) → (B, 1, …, Tq, Tk)."""
    if allowed.ndim == 2:
        return allowed
    B, Tq, Tk = allowed.shape
    return allowed.reshape(B, *(1,) * (n_batch_dims - 1), Tq, Tk)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
