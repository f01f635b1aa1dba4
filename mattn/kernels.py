"""Fused attention in Triton, forward and backward.

One fact carries the kernels. Under a causal rule, a window, packed documents,
padding, or any of these combined by ``&``, the keys that a query may see are
one stretch, ``first ≤ j < end``, and from one query to the next neither end
moves back. So for a block of queries

* the keys that *some* of them see run from the first query's ``first`` to the
  last query's ``end``: nothing else is loaded;
* the keys that *all* of them see run from the last query's ``first`` to the
  first query's ``end``: there no mask is computed;
* positions are compared only in the blocks between.

Seen from a key, the queries that see it are such a stretch as well, and the
backward pass walks those. Importing this module needs neither Triton nor a
GPU; calling :func:`flash_attention` says what is missing. With
``TRITON_INTERPRET=1`` set before Triton is imported, the kernels run on a
CPU, slowly. Derived in chapter 10.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from mattn.masks import And, Causal, Documents, Full, Mask, Padding, Window
from mattn.optional import needed

__all__ = [
    "TILES",
    "Spans",
    "Tiles",
    "flash_attention",
    "register_in_transformers",
    "spans",
    "transformers_attention",
    "tune",
]

LARGEST_HEAD = 256
_KERNELS: list[Callable] = []


def _kernel(f: Callable) -> Callable:
    """Mark what Triton compiles; :func:`_load` does it at the first call."""
    _KERNELS.append(inspect.unwrap(f))
    return f


# ---------------------------------------------------------------- the mask


class Spans(NamedTuple):
    """A mask as the kernels read it: of which rules it is made, for one size.

    ``by_query[b, :, i]`` are the first key that query ``i`` may see and the
    one after the last, ``by_key[b, :, j]`` likewise the queries that see key
    ``j``; both leave out ``causal`` and ``window`` (0: none), which the
    kernels work out from positions.
    """

    Tq: int
    Tk: int
    causal: bool = False
    window: int = 0
    by_query: Int[Tensor, "rows 2 Tq"] | None = None
    by_key: Int[Tensor, "rows 2 Tk"] | None = None


def spans(
    mask: Mask | None,
    n_queries: int,
    n_keys: int | None = None,
    *,
    device: torch.device | str | None = None,
) -> Spans:
    """Take a rule apart into the stretch of keys that each query may see.

    Worth keeping for packed documents and padding, when many layers share
    them; of causal and window it holds two numbers.

    >>> from mattn import causal, documents
    >>> spans(causal & documents([0, 0, 1]), 3).by_query[0]
    tensor([[0, 0, 2],
            [2, 2, 3]], dtype=torch.int32)
    """
    n_keys = n_queries if n_keys is None else n_keys
    is_causal, window, listed = False, 0, []
    for rule in _parts(mask):
        if isinstance(rule, Causal):
            is_causal = True
        elif isinstance(rule, Window):
            window = rule.w if window == 0 else min(window, rule.w)
        elif isinstance(rule, Documents):
            listed.append(_document_spans(rule, n_queries, n_keys, device))
        elif isinstance(rule, Padding):
            listed.append(_padding_spans(rule, n_queries, n_keys, device))
        elif not isinstance(rule, Full):
            raise ValueError(
                "flash_attention: expected causal, window, documents and padding, "
                f"combined by &; got {rule!r}. Any other rule runs in PyTorch's "
                "FlexAttention: create_block_mask(rule.predicate(Tq, Tk), …)."
            )
    if not listed:
        return Spans(n_queries, n_keys, is_causal, window)
    rows = {len(first) for first, _ in listed} - {1}
    if len(rows) > 1:
        raise ValueError(
            f"flash_attention: {mask!r} holds rules for {sorted(rows)} rows of a "
            "batch. Build all of them from the same batch."
        )
    first, end = listed[0]
    for other_first, other_end in listed[1:]:
        first, end = torch.maximum(first, other_first), torch.minimum(end, other_end)
    # A key is seen from the first query whose stretch ends after it to the
    # last whose stretch begins no later: both ends are sorted.
    keys = torch.arange(n_keys, device=device).expand(len(first), -1).contiguous()
    seen_from = torch.searchsorted(end.contiguous(), keys, right=True)
    seen_until = torch.searchsorted(first.contiguous(), keys, right=True)
    return Spans(
        n_queries,
        n_keys,
        is_causal,
        window,
        torch.stack([first, end], dim=1).int(),
        torch.stack([seen_from, seen_until], dim=1).int(),
    )


def _parts(mask: Mask | None) -> list[Mask]:
    """The rules that ``&`` combined."""
    if mask is None:
        return []
    if isinstance(mask, And):
        return _parts(mask.left) + _parts(mask.right)
    if not isinstance(mask, Mask):
        raise ValueError(
            "flash_attention: expected a rule of mattn.masks, Spans or None; got "
            f"{type(mask).__name__}. A boolean matrix runs in mattn.fused_attention."
        )
    return [mask]


def _document_spans(rule: Documents, Tq: int, Tk: int, device) -> tuple[Tensor, Tensor]:
    rule._check_length(Tk)
    ids = rule.ids[:, :Tk].to(device)
    rows = len(ids)
    starts = torch.ones(rows, Tk, dtype=torch.bool, device=device)
    starts[:, 1:] = ids[:, 1:] != ids[:, :-1]
    ordered = ids.sort(dim=-1).values
    different = 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(-1)
    if Tk and not torch.equal(starts.sum(-1), different):
        raise ValueError(
            "flash_attention: expected each document in one piece; got an id that "
            "comes again after another. Number every piece anew, or use FlexAttention."
        )
    position = torch.arange(Tk, device=device).expand(rows, -1)
    first = torch.where(starts, position, 0).cummax(-1).values if Tk else position
    ends = torch.ones_like(starts)
    ends[:, :-1] = starts[:, 1:]
    end = torch.where(ends, position + 1, Tk).flip(-1)
    end = end.cummin(-1).values.flip(-1) if Tk else position
    # Queries before position 0 (Tq > Tk) are in no document.
    before = torch.zeros(rows, max(Tq - Tk, 0), dtype=torch.long, device=device)
    last = min(Tq, Tk)
    return tuple(torch.cat([before, t[:, Tk - last :]], -1) for t in (first, end))


def _padding_spans(rule: Padding, Tq: int, Tk: int, device) -> tuple[Tensor, Tensor]:
    ends = (rule.first, rule.end)
    return tuple(t.to(device).clamp(0, Tk)[:, None].expand(-1, Tq).long() for t in ends)


@_kernel
def _keys_of(
    i, spans_ptr, Tq, Tk, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    LISTED: tl.constexpr,
):  # fmt: skip
    """The stretch of keys that query i may see (past the end: as the last)."""
    i = tl.minimum(i, Tq - 1)
    position = i + (Tk - Tq)  # bottom-right alignment
    first = i * 0
    end = first + Tk
    if LISTED:
        first = tl.load(spans_ptr + i)
        end = tl.load(spans_ptr + Tq + i)
    if CAUSAL:
        end = tl.minimum(end, position + 1)
    if WINDOW:
        first = tl.maximum(first, position - window + 1)
    return first, end


@_kernel
def _queries_of(
    j, spans_ptr, Tq, Tk, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    LISTED: tl.constexpr,
):  # fmt: skip
    """The stretch of queries that may see key j: the same, read by columns."""
    j = tl.minimum(j, Tk - 1)
    first = j * 0
    end = first + Tq
    if LISTED:
        first = tl.load(spans_ptr + j)
        end = tl.load(spans_ptr + Tk + j)
    if CAUSAL:
        first = tl.maximum(first, j - (Tk - Tq))
    if WINDOW:
        end = tl.minimum(end, j - (Tk - Tq) + window)
    return first, end


@_kernel
def _phases(first_a, end_a, first_z, end_z, BLOCK: tl.constexpr):
    """Cut what a block must read into blocks: some see, all see, some see.

    ``a`` is the block's first row, ``z`` its last. Returns ``start ≤ whole ≤
    rest`` and ``end``: masked from start to whole, unmasked from whole to
    rest, masked from rest to end.
    """
    end = tl.maximum(end_z, 0)
    last = (end + BLOCK - 1) // BLOCK * BLOCK
    start = tl.maximum(first_a, 0) // BLOCK * BLOCK
    start = tl.where(first_a < end_z, start, last)  # nobody sees anything
    whole = (tl.maximum(first_z, 0) + BLOCK - 1) // BLOCK * BLOCK
    whole = tl.minimum(whole, last)
    rest = tl.maximum(tl.maximum(end_a, 0) // BLOCK * BLOCK, whole)
    return start, whole, rest, end


# ---------------------------------------------------------------- the kernels


@_kernel
def _read(
    ptr, stride, start, size, D: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, CHECKED: tl.constexpr,
):  # fmt: skip
    """ROWS rows from ``start`` of a matrix (size, D), D filled up to COLUMNS.

    Every block of q, k, v and of the output's gradient is read here.
    """
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    ptr += tl.cast(start, tl.int64) * stride  # 64 bits once, 32 for each entry
    at = ptr + row[:, None] * stride + column[None, :]
    if CHECKED:
        inside = (start + row < size)[:, None] & (column < D)[None, :]
        block = tl.load(at, mask=inside, other=0.0)
    elif COLUMNS > D:
        block = tl.load(at, mask=(column < D)[None, :], other=0.0)
    else:
        block = tl.load(at)
    return block


@_kernel
def _write(
    ptr, stride, start, size, block, D: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    ptr += tl.cast(start, tl.int64) * stride
    inside = (start + row < size)[:, None] & (column < D)[None, :]
    at = ptr + row[:, None] * stride + column[None, :]
    tl.store(at, block.to(ptr.dtype.element_ty), mask=inside)


@_kernel
def _program(T, BLOCK: tl.constexpr):
    """What this program does: block of T, of how many, and matrix (T, D)."""
    n_blocks = (T + BLOCK - 1) // BLOCK
    return tl.program_id(0) % n_blocks, n_blocks, tl.program_id(0) // n_blocks


@_kernel
def _head(ptr, stride, b, h):
    """Where the matrix (T, D) of batch row b and head h begins."""
    return ptr + tl.cast(b, tl.int64) * stride[0] + tl.cast(h, tl.int64) * stride[1]


@_kernel
def _merge_keys(
    weighted, maximum, total, q, k_ptr, k_stride, v_ptr, v_stride, first, end,
    start, stop, Tk, scale2, D: tl.constexpr, BLOCK_K: tl.constexpr,
    COLUMNS: tl.constexpr, LEFT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """The online softmax of chapter 4 over the keys ``start`` to ``stop``.

    Scores count in powers of two: exp(x) = 2^(x·log₂e), and the factor is
    folded into the scale.
    """
    for j in range(start, stop, BLOCK_K):
        k = _read(k_ptr, k_stride, j, Tk, D, BLOCK_K, COLUMNS, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        if MASKED:
            key = (j + tl.arange(0, BLOCK_K))[None, :]
            allowed = key < end[:, None]
            if LEFT:
                allowed &= first[:, None] <= key
            scores = tl.where(allowed, scores, float("-inf"))
        new = tl.maximum(maximum, tl.max(scores, 1) * scale2)
        finite = tl.where(new == float("-inf"), 0.0, new)  # so far nothing seen
        e = tl.math.exp2(scores * scale2 - finite[:, None])
        shrink = tl.math.exp2(maximum - finite)
        total = total * shrink + tl.sum(e, 1)
        v = _read(v_ptr, v_stride, j, Tk, D, BLOCK_K, COLUMNS, MASKED)
        weighted = weighted * shrink[:, None]
        weighted = tl.dot(e.to(v.dtype), v, weighted, input_precision="ieee")
        maximum = new
    return weighted, maximum, total


@_kernel
def _forward_kernel(
    q_ptr, q_stride, k_ptr, k_stride, v_ptr, v_stride, out_ptr, out_stride,
    lse_ptr, spans_ptr, spans_stride, H, Tq, Tk, window, scale2,
    GROUP: tl.constexpr, D: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: its output and log-sum-exp."""
    block, n_blocks, row = _program(Tq, BLOCK_Q)
    b, h = row // H, row % H
    if CAUSAL:  # the last queries see most keys: they go first
        block = n_blocks - 1 - block
    start = block * BLOCK_Q
    LEFT: tl.constexpr = WINDOW or LISTED
    spans_ptr += b * spans_stride
    i = start + tl.arange(0, BLOCK_Q)
    first, end = _keys_of(i, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED)
    first_a, end_a = _keys_of(start, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED)
    first_z, end_z = _keys_of(
        start + BLOCK_Q - 1, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED
    )
    begin, whole, rest, stop = _phases(first_a, end_a, first_z, end_z, BLOCK_K)

    q_ptr = _head(q_ptr, q_stride, b, h)
    k_ptr = _head(k_ptr, k_stride, b, h // GROUP)
    v_ptr = _head(v_ptr, v_stride, b, h // GROUP)
    q = _read(q_ptr, q_stride[2], start, Tq, D, BLOCK_Q, COLUMNS, True)
    maximum = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_Q], tl.float32)
    weighted = tl.zeros([BLOCK_Q, COLUMNS], tl.float32)
    if LEFT:
        weighted, maximum, total = _merge_keys(
            weighted, maximum, total, q, k_ptr, k_stride[2], v_ptr, v_stride[2],
            first, end, begin, whole, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, True,
        )  # fmt: skip
    weighted, maximum, total = _merge_keys(
        weighted, maximum, total, q, k_ptr, k_stride[2], v_ptr, v_stride[2],
        first, end, whole, rest, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, False,
    )  # fmt: skip
    weighted, maximum, total = _merge_keys(
        weighted, maximum, total, q, k_ptr, k_stride[2], v_ptr, v_stride[2],
        first, end, rest, stop, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, True,
    )  # fmt: skip

    empty = total == 0.0
    out = weighted / tl.where(empty, 1.0, total)[:, None]
    out_ptr = _head(out_ptr, out_stride, b, h)
    _write(out_ptr, out_stride[2], start, Tq, out, D, BLOCK_Q, COLUMNS)
    # +∞ for an empty row: the backward pass then finds 2^(score − ∞) = 0.
    lse = maximum + tl.math.log2(tl.where(empty, 1.0, total))
    lse = tl.where(empty, float("inf"), lse)
    lse_ptr += tl.cast(row, tl.int64) * Tq
    tl.store(lse_ptr + i, lse, mask=i < Tq)


@_kernel
def _delta_kernel(
    out_ptr, out_stride, grad_ptr, grad_stride, delta_ptr, H, Tq,
    D: tl.constexpr, COLUMNS: tl.constexpr, BLOCK_Q: tl.constexpr,
):  # fmt: skip
    """delta i = Σ over features of output × gradient: once for each query."""
    block, _, row = _program(Tq, BLOCK_Q)
    b, h = row // H, row % H
    start = block * BLOCK_Q
    i = start + tl.arange(0, BLOCK_Q)
    out_ptr = _head(out_ptr, out_stride, b, h)
    grad_ptr = _head(grad_ptr, grad_stride, b, h)
    out = _read(out_ptr, out_stride[2], start, Tq, D, BLOCK_Q, COLUMNS, True)
    grad = _read(grad_ptr, grad_stride[2], start, Tq, D, BLOCK_Q, COLUMNS, True)
    delta = tl.sum(out.to(tl.float32) * grad.to(tl.float32), 1)
    delta_ptr += tl.cast(row, tl.int64) * Tq
    tl.store(delta_ptr + i, delta, mask=i < Tq)


@_kernel
def _add_queries(
    dk, dv, k, v, q_ptr, q_stride, grad_ptr, grad_stride, lse_ptr, delta_ptr,
    first, end, start, stop, Tq, scale2, D: tl.constexpr, BLOCK_Q: tl.constexpr,
    COLUMNS: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """What the queries ``start`` to ``stop`` send to one block of keys.

    All is kept transposed, keys downwards, so that no matrix is turned.
    """
    for start_q in range(start, stop, BLOCK_Q):
        i = start_q + tl.arange(0, BLOCK_Q)
        q = _read(q_ptr, q_stride, start_q, Tq, D, BLOCK_Q, COLUMNS, MASKED)
        grad = _read(grad_ptr, grad_stride, start_q, Tq, D, BLOCK_Q, COLUMNS, MASKED)
        if MASKED:
            lse = tl.load(lse_ptr + i, mask=i < Tq, other=float("inf"))
            delta = tl.load(delta_ptr + i, mask=i < Tq, other=0.0)
        else:
            lse = tl.load(lse_ptr + i)
            delta = tl.load(delta_ptr + i)
        scores = tl.dot(k, tl.trans(q), input_precision="ieee")
        weights = tl.math.exp2(scores * scale2 - lse[None, :])
        if MASKED:
            seen = (first[:, None] <= i[None, :]) & (i[None, :] < end[:, None])
            weights = tl.where(seen, weights, 0.0)
        dv = tl.dot(weights.to(grad.dtype), grad, dv, input_precision="ieee")
        d_weights = tl.dot(v, tl.trans(grad), input_precision="ieee")
        d_scores = weights * (d_weights - delta[None, :])
        dk = tl.dot(d_scores.to(q.dtype), q, dk, input_precision="ieee")
    return dk, dv


@_kernel
def _dk_dv_kernel(
    q_ptr, q_stride, k_ptr, k_stride, v_ptr, v_stride, grad_ptr, grad_stride,
    dk_ptr, dk_stride, dv_ptr, dv_stride, lse_ptr, delta_ptr,
    spans_ptr, spans_stride, H, Tq, Tk, window, scale, scale2,
    GROUP: tl.constexpr, D: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """One block of keys of one key head: its gradients, from all its queries."""
    block, _, row = _program(Tk, BLOCK_K)
    n_heads = H // GROUP  # of keys
    b, h = row // n_heads, row % n_heads
    start = block * BLOCK_K
    spans_ptr += b * spans_stride
    j = start + tl.arange(0, BLOCK_K)
    first, end = _queries_of(j, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED)
    first_a, end_a = _queries_of(
        start, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED
    )
    first_z, end_z = _queries_of(
        start + BLOCK_K - 1, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED
    )
    begin, whole, rest, stop = _phases(first_a, end_a, first_z, end_z, BLOCK_Q)

    k_ptr = _head(k_ptr, k_stride, b, h)
    v_ptr = _head(v_ptr, v_stride, b, h)
    k = _read(k_ptr, k_stride[2], start, Tk, D, BLOCK_K, COLUMNS, True)
    v = _read(v_ptr, v_stride[2], start, Tk, D, BLOCK_K, COLUMNS, True)
    dk = tl.zeros([BLOCK_K, COLUMNS], tl.float32)
    dv = tl.zeros([BLOCK_K, COLUMNS], tl.float32)
    for g in range(GROUP):  # the query heads that share this key head
        head = h * GROUP + g
        first_q = (tl.cast(b, tl.int64) * H + head) * Tq
        q_head = _head(q_ptr, q_stride, b, head)
        grad_head = _head(grad_ptr, grad_stride, b, head)
        if CAUSAL or WINDOW or LISTED:
            dk, dv = _add_queries(
                dk, dv, k, v, q_head, q_stride[2], grad_head, grad_stride[2],
                lse_ptr + first_q, delta_ptr + first_q, first, end, begin, whole, Tq,
                scale2, D, BLOCK_Q, COLUMNS, True,
            )  # fmt: skip
        dk, dv = _add_queries(
            dk, dv, k, v, q_head, q_stride[2], grad_head, grad_stride[2],
            lse_ptr + first_q, delta_ptr + first_q, first, end, whole, rest, Tq,
            scale2, D, BLOCK_Q, COLUMNS, False,
        )  # fmt: skip
        dk, dv = _add_queries(
            dk, dv, k, v, q_head, q_stride[2], grad_head, grad_stride[2],
            lse_ptr + first_q, delta_ptr + first_q, first, end, rest, stop, Tq,
            scale2, D, BLOCK_Q, COLUMNS, True,
        )  # fmt: skip
    dk_ptr, dv_ptr = _head(dk_ptr, dk_stride, b, h), _head(dv_ptr, dv_stride, b, h)
    _write(dk_ptr, dk_stride[2], start, Tk, dk * scale, D, BLOCK_K, COLUMNS)
    _write(dv_ptr, dv_stride[2], start, Tk, dv, D, BLOCK_K, COLUMNS)


@_kernel
def _add_keys(
    dq, q, grad, lse, delta, k_ptr, k_stride, v_ptr, v_stride, first, end,
    start, stop, Tk, scale2, D: tl.constexpr, BLOCK_K: tl.constexpr,
    COLUMNS: tl.constexpr, LEFT: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """What the keys ``start`` to ``stop`` send to one block of queries."""
    for j in range(start, stop, BLOCK_K):
        k = _read(k_ptr, k_stride, j, Tk, D, BLOCK_K, COLUMNS, MASKED)
        v = _read(v_ptr, v_stride, j, Tk, D, BLOCK_K, COLUMNS, MASKED)
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        weights = tl.math.exp2(scores * scale2 - lse[:, None])
        if MASKED:
            key = (j + tl.arange(0, BLOCK_K))[None, :]
            allowed = key < end[:, None]
            if LEFT:
                allowed &= first[:, None] <= key
            weights = tl.where(allowed, weights, 0.0)
        d_weights = tl.dot(grad, tl.trans(v), input_precision="ieee")
        d_scores = weights * (d_weights - delta[:, None])
        dq = tl.dot(d_scores.to(k.dtype), k, dq, input_precision="ieee")
    return dq


@_kernel
def _dq_kernel(
    q_ptr, q_stride, k_ptr, k_stride, v_ptr, v_stride, grad_ptr, grad_stride,
    dq_ptr, dq_stride, lse_ptr, delta_ptr, spans_ptr, spans_stride,
    H, Tq, Tk, window, scale, scale2,
    GROUP: tl.constexpr, D: tl.constexpr, COLUMNS: tl.constexpr,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr, LISTED: tl.constexpr,
):  # fmt: skip
    """One block of queries of one head: its gradient, from all its keys."""
    block, n_blocks, row = _program(Tq, BLOCK_Q)
    b, h = row // H, row % H
    if CAUSAL:
        block = n_blocks - 1 - block
    start = block * BLOCK_Q
    LEFT: tl.constexpr = WINDOW or LISTED
    spans_ptr += b * spans_stride
    i = start + tl.arange(0, BLOCK_Q)
    first, end = _keys_of(i, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED)
    first_a, end_a = _keys_of(start, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED)
    first_z, end_z = _keys_of(
        start + BLOCK_Q - 1, spans_ptr, Tq, Tk, window, CAUSAL, WINDOW, LISTED
    )
    begin, whole, rest, stop = _phases(first_a, end_a, first_z, end_z, BLOCK_K)

    q_ptr, grad_ptr = _head(q_ptr, q_stride, b, h), _head(grad_ptr, grad_stride, b, h)
    k_ptr = _head(k_ptr, k_stride, b, h // GROUP)
    v_ptr = _head(v_ptr, v_stride, b, h // GROUP)
    first_q = tl.cast(row, tl.int64) * Tq
    lse = tl.load(lse_ptr + first_q + i, mask=i < Tq, other=float("inf"))
    delta = tl.load(delta_ptr + first_q + i, mask=i < Tq, other=0.0)
    q = _read(q_ptr, q_stride[2], start, Tq, D, BLOCK_Q, COLUMNS, True)
    grad = _read(grad_ptr, grad_stride[2], start, Tq, D, BLOCK_Q, COLUMNS, True)
    dq = tl.zeros([BLOCK_Q, COLUMNS], tl.float32)
    if LEFT:
        dq = _add_keys(
            dq, q, grad, lse, delta, k_ptr, k_stride[2], v_ptr, v_stride[2],
            first, end, begin, whole, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, True,
        )  # fmt: skip
    dq = _add_keys(
        dq, q, grad, lse, delta, k_ptr, k_stride[2], v_ptr, v_stride[2],
        first, end, whole, rest, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, False,
    )  # fmt: skip
    dq = _add_keys(
        dq, q, grad, lse, delta, k_ptr, k_stride[2], v_ptr, v_stride[2],
        first, end, rest, stop, Tk, scale2, D, BLOCK_K, COLUMNS, LEFT, True,
    )  # fmt: skip
    dq_ptr = _head(dq_ptr, dq_stride, b, h)
    _write(dq_ptr, dq_stride[2], start, Tq, dq * scale, D, BLOCK_Q, COLUMNS)


# ---------------------------------------------------------------- launching


class Tiles(NamedTuple):
    """How a kernel cuts its work: rows a block, warps, pipeline stages."""

    block_q: int
    block_k: int
    n_warps: int
    n_stages: int


PASSES = ("forward", "dk_dv", "dq")
TILES: dict[tuple, dict[str, Tiles]] = {}
"""(compute capability, dtype, head size filled up) → pass → :class:`Tiles`.

What is not listed gets a choice that fits every GPU of its generation.
``TILES.update(tune(q, k, v, causal))`` adds what your own GPU likes best.
"""
_INTERPRETED = dict.fromkeys(PASSES, Tiles(16, 32, 4, 1))


def _tiles(q: Tensor) -> dict[str, Tiles]:
    columns = _columns(q.shape[-1])
    if _interpreted():
        return _INTERPRETED
    capability = torch.cuda.get_device_capability(q.device)
    key = capability, q.dtype, columns
    if key in TILES:
        return TILES[key]
    if q.dtype == torch.float32 or capability < (8, 0):
        # No tensor cores: products are unrolled, so large blocks would spill.
        rows, keys = 32 if columns <= 64 else 16, 32 if columns <= 128 else 16
        return dict.fromkeys(PASSES, Tiles(rows, keys, 4, 1))
    if columns > 128:
        small = Tiles(32, 32, 4, 1)
        return {"forward": Tiles(64, 32, 4, 2), "dk_dv": small, "dq": small}
    if capability in ((9, 0), (10, 0)):
        forward = Tiles(128, 128 if columns <= 64 else 64, 8, 3)
        dq = Tiles(128, 64, 8, 2)
        return {"forward": forward, "dk_dv": Tiles(64, 128, 8, 2), "dq": dq}
    rows = 128 if columns <= 64 else 64
    return {
        "forward": Tiles(rows, 64 if columns <= 64 else 32, 4, 2),
        "dk_dv": Tiles(32, 64, 4, 2),
        "dq": Tiles(64, 32, 4, 2),
    }


def _columns(D: int) -> int:
    """The head size filled up to what a matrix product takes: 16, 32, 64, …"""
    return max(16, 1 << (D - 1).bit_length())


def _load() -> None:
    """Import Triton and hand it the kernels; once."""
    if "tl" in globals():
        return
    try:
        triton = needed("triton", "gpu", "flash_attention")
    except ImportError as absent:
        raise ImportError(
            f"{absent} (Linux). mattn.fused_attention computes the same without it.",
            name=absent.name,
        ) from None
    import triton.language as tl

    interpreted = triton.knobs.runtime.interpret
    for f in _KERNELS:
        # The interpreter takes the parts of a kernel as plain functions, and is
        # several times as fast with them.
        if f.__name__.endswith("_kernel") or not interpreted:
            globals()[f.__name__] = triton.jit(f)
    globals()["tl"] = tl


def _interpreted() -> bool:
    import triton

    return not isinstance(_forward_kernel, triton.runtime.JITFunction)


def _check_device(q: Tensor) -> None:
    if q.device.type == "cpu" and _interpreted():
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


class _Call(NamedTuple):
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
            "spans_stride": 0 if rows <= 1 else listed.stride(0),
            "Tq": self.q.shape[2],
            "Tk": self.k.shape[2],
            "window": self.window,
            "CAUSAL": self.causal,
            "WINDOW": self.window > 0,
            "LISTED": rows > 0,
        }

    def sizes(self) -> dict:
        H, D = self.q.shape[1], self.q.shape[3]
        return {"H": H, "D": D, "COLUMNS": _columns(D)}

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


def _run_forward(call: _Call, tiles: Tiles) -> tuple[Tensor, Tensor]:
    q = call.q
    B, H, Tq, _ = q.shape
    out = torch.empty_like(q)
    lse = q.new_empty(B, H, Tq, dtype=torch.float32)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_query) | _cut(tiles)
    arguments |= _matrices(out=out) | {"lse_ptr": lse}
    _launch(_forward_kernel, Tq, B * H, tiles.block_q, arguments)
    return out, lse


def _run_delta(call: _Call, out: Tensor, grad: Tensor, block: int = 64) -> Tensor:
    B, H, Tq, _ = call.q.shape
    delta = out.new_empty(B, H, Tq, dtype=torch.float32)
    arguments = _matrices(out=out, grad=grad) | call.sizes()
    arguments |= {"delta_ptr": delta, "Tq": Tq, "BLOCK_Q": block}
    _launch(_delta_kernel, Tq, B * H, block, arguments)
    return delta


def _run_dk_dv(call: _Call, grad, lse, delta, tiles: Tiles) -> tuple[Tensor, Tensor]:
    dk, dv = torch.empty_like(call.k), torch.empty_like(call.v)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_key) | _cut(tiles)
    arguments |= _matrices(grad=grad, dk=dk, dv=dv) | {"scale": call.scale}
    arguments |= {"lse_ptr": lse, "delta_ptr": delta}
    B, Hkv, Tk, _ = call.k.shape
    _launch(_dk_dv_kernel, Tk, B * Hkv, tiles.block_k, arguments)
    return dk, dv


def _run_dq(call: _Call, grad, lse, delta, tiles: Tiles) -> Tensor:
    dq = torch.empty_like(call.q)
    arguments = call.inputs() | call.sizes() | call.mask(call.by_query) | _cut(tiles)
    arguments |= _matrices(grad=grad, dq=dq) | {"scale": call.scale}
    arguments |= {"lse_ptr": lse, "delta_ptr": delta}
    B, H, Tq, _ = call.q.shape
    _launch(_dq_kernel, Tq, B * H, tiles.block_q, arguments)
    return dq


# ---------------------------------------------------------------- the operator


_RULE = "Tensor? by_query, Tensor? by_key, bool causal, int window, float scale"
# Schemas in full: PyTorch cannot read annotations that a type checker wrapped.


@torch.library.custom_op(
    "mattn::flash_attention",
    mutates_args=(),
    schema=f"(Tensor q, Tensor k, Tensor v, {_RULE}) -> (Tensor, Tensor)",
)
def _flash(q, k, v, by_query, by_key, causal, window, scale):
    """Output and log-sum-exp (base 2), as PyTorch's dispatcher calls it."""
    _load()
    _check_device(q)
    call = _Call(q, k, v, by_query, by_key, causal, window, scale)
    return _run_forward(call, _tiles(q)["forward"])


@_flash.register_fake
def _(q, k, v, by_query, by_key, causal, window, scale):
    return torch.empty_like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.custom_op(
    "mattn::flash_attention_backward",
    mutates_args=(),
    schema="(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, "
    f"{_RULE}) -> (Tensor, Tensor, Tensor)",
)
def _flash_backward(grad, q, k, v, out, lse, by_query, by_key, causal, window, scale):
    _load()
    grad = grad if grad.stride(-1) == 1 else grad.contiguous()
    call = _Call(q, k, v, by_query, by_key, causal, window, scale)
    tiles = _tiles(q)
    delta = _run_delta(call, out, grad)
    dk, dv = _run_dk_dv(call, grad, lse, delta, tiles["dk_dv"])
    return _run_dq(call, grad, lse, delta, tiles["dq"]), dk, dv


@_flash_backward.register_fake
def _(grad, q, k, v, out, lse, by_query, by_key, causal, window, scale):
    return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _keep(ctx, inputs, output) -> None:
    q, k, v, by_query, by_key, *ctx.rest = inputs
    out, lse = output
    ctx.mark_non_differentiable(lse)
    ctx.save_for_backward(q, k, v, out, lse, by_query, by_key)


def _differentiate(ctx, grad, _):
    gradients = _flash_backward(grad, *ctx.saved_tensors, *ctx.rest)
    return *gradients, None, None, None, None, None


_flash.register_autograd(_differentiate, setup_context=_keep)


def flash_attention(
    q: Float[Tensor, "B H Tq D"],
    k: Float[Tensor, "B Hkv Tk D"],
    v: Float[Tensor, "B Hkv Tk D"],
    mask: Mask | Spans | None = None,
    *,
    scale: float | None = None,
) -> Float[Tensor, "B H Tq D"]:
    """The output of :func:`mattn.attention` by one Triton kernel, in O(T) memory.

    ``mask`` is any and-combination of ``causal``, ``window``, ``documents``
    (each in one piece) and ``padding``; or what :func:`spans` made of one,
    to be used by many calls. ``scale`` is 1/√D unless given. ``H`` query heads
    may share ``Hkv`` key heads. float16, float32 and, from compute capability
    8.0 on, bfloat16; heads of up to 256 features. An empty row has output 0
    and gradients 0. Twice the same inputs give twice the same bits.

    Raises ``ValueError`` for any other rule, device, dtype or shape, and
    ``ImportError`` without Triton.

    Source: Dao et al. 2022, arXiv:2205.14135; Dao 2023, arXiv:2307.08691.
    Derived in chapter 10.
    """
    _check(q, k, v, scale)
    if not isinstance(mask, Spans):
        mask = spans(mask, q.shape[2], k.shape[2], device=q.device)
    _check_spans(mask, q, k)
    q, k, v = (t if t.stride(-1) == 1 else t.contiguous() for t in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out, _ = _flash(
        q, k, v, mask.by_query, mask.by_key, mask.causal, mask.window, scale
    )
    return out


def _check(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> None:
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


def _check_spans(mask: Spans, q: Tensor, k: Tensor) -> None:
    if (mask.Tq, mask.Tk) != (q.shape[2], k.shape[2]):
        raise ValueError(
            f"flash_attention: spans for {mask.Tq} queries and {mask.Tk} keys; got q "
            f"{tuple(q.shape)} and k {tuple(k.shape)}. Build them for these sizes."
        )
    if mask.by_query is None:
        return
    if len(mask.by_query) not in (1, len(q)):
        raise ValueError(
            f"flash_attention: the mask holds {len(mask.by_query)} rows of a batch; "
            f"got q {tuple(q.shape)}. Build mask and q from the same batch."
        )
    if mask.by_query.device != q.device:
        raise ValueError(
            f"flash_attention: spans on {mask.by_query.device}; got q on {q.device}. "
            "Build them with spans(mask, Tq, Tk, device=q.device)."
        )


# ---------------------------------------------------------------- tuning

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
    _load()
    if q.device.type != "cuda":
        raise ValueError(f"tune: expected tensors on a GPU; got {q.device}.")
    _check(q, k, v, None)
    _check_device(q)
    from triton.testing import do_bench

    choices = CHOICES if choices is None else choices
    measured = {} if measured is None else measured
    mask = spans(mask, q.shape[2], k.shape[2], device=q.device)
    call = _Call(
        q, k, v, mask.by_query, mask.by_key, mask.causal, mask.window,
        q.shape[-1] ** -0.5,
    )  # fmt: skip
    out, lse = _run_forward(call, _tiles(q)["forward"])
    grad = torch.randn_like(out)
    delta = _run_delta(call, out, grad)
    passes = {
        "forward": lambda tiles: _run_forward(call, tiles),
        "dk_dv": lambda tiles: _run_dk_dv(call, grad, lse, delta, tiles),
        "dq": lambda tiles: _run_dq(call, grad, lse, delta, tiles),
    }
    best = dict(_tiles(q))
    for name, run in passes.items():
        times = measured.setdefault(name, {})
        for tiles in choices.get(name, []):
            try:
                times[tiles] = do_bench(lambda: run(tiles), return_mode="median")  # noqa: B023
            except Exception as error:
                if "OutOfResources" not in type(error).__name__:
                    raise
        if times:
            best[name] = min(times, key=times.get)
    capability = torch.cuda.get_device_capability(q.device)
    return {(capability, q.dtype, _columns(q.shape[-1])): best}


# ---------------------------------------------------------------- transformers


def transformers_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **options,
) -> tuple[Tensor, None]:
    """:func:`flash_attention` with the signature that ``transformers`` calls.

    ``attention_mask`` is ``None`` or ``(B, S)``, 1 at tokens and 0 at padding,
    which stands on one side; S < Tk where a static cache has slots to spare.
    Packed documents are told apart by ``cu_seq_lens_q`` or by ``position_ids``
    (B, T), which begin anew with each. Raises ``ValueError`` for what it cannot
    tell: packed documents that go on in a cache, a bidirectional window.
    """
    unknown = [name for name in ("softcap", "s_aux") if options.get(name) is not None]
    if dropout or unknown:
        raise ValueError(
            f"mattn in transformers: dropout {dropout}, {unknown or 'no option'}; it "
            'has no dropout, softcap or sinks. Use attn_implementation="sdpa".'
        )
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if sliding_window is not None and not is_causal:
        raise ValueError(
            "mattn in transformers: expected a causal mask with sliding_window; got a "
            "bidirectional one, whose window ends on both sides. Use "
            'attn_implementation="sdpa".'
        )
    mask = Causal() if is_causal else Full()
    if sliding_window is not None:
        mask = mask & Window(sliding_window)
    real = None if attention_mask is None else _real(attention_mask, query, key)
    if real is not None:
        key, value = (t[:, :, : real.shape[1]] for t in (key, value))
        mask = mask & _padding_of(real)
    documents = _packed(query, key, real, is_causal, options)
    if documents is not None:
        mask = mask & documents
    out = flash_attention(query, key, value, mask, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def _real(attention_mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Which keys are tokens, (B, S), S being those that a cache holds."""
    B, Tk = len(query), key.shape[2]
    shape = tuple(attention_mask.shape)
    if len(shape) != 2 or shape[0] != B or shape[1] > Tk:
        raise ValueError(
            f"mattn in transformers: expected a mask ({B}, {Tk}) of tokens, or of the "
            f"first of these; got {shape}. Call register_in_transformers() first."
        )
    return attention_mask != 0


def _padding_of(real: Tensor) -> Padding:
    first, length = _first(real), real.sum(-1)
    position = torch.arange(real.shape[1], device=real.device)
    inside = (first[:, None] <= position) & (position < (first + length)[:, None])
    if not torch.equal(inside, real):
        raise ValueError(
            "mattn in transformers: expected the tokens of a row in one piece; got "
            "padding between them. Pad on one side."
        )
    return Padding(first, first + length)


def _first(real: Tensor) -> Tensor:
    return real.int().argmax(-1) if real.shape[1] else real.sum(-1)


def _packed(
    query: Tensor, key: Tensor, real: Tensor | None, is_causal: bool, options: dict
) -> Documents | None:
    """The documents that a row is packed of; ``None``: one."""
    (B, _, Tq, _), Tk = query.shape, key.shape[2]
    ends, positions = options.get("cu_seq_lens_q"), options.get("position_ids")
    if ends is not None:
        ends_k = options.get("cu_seq_lens_k")
        one_row = B == 1 and Tq == Tk == int(ends[-1]) and int(ends[0]) == 0
        if not one_row or not (ends_k is None or torch.equal(ends, ends_k)):
            raise ValueError(
                "mattn in transformers: expected cu_seq_lens from 0 to all of the "
                "tokens of one row, the same for queries and keys; got "
                f"{ends.tolist()} for {B} rows of {Tq} queries and {Tk} keys."
            )
        ids = torch.arange(len(ends) - 1, device=ends.device)
        return Documents(ids.repeat_interleave(ends.diff())[None], batched=False)
    if positions is None or not Tq or (Tq != Tk and not is_causal):
        return None
    if positions.ndim != 2 or len(positions) not in (1, B) or positions.shape[1] != Tq:
        raise ValueError(
            f"mattn in transformers: expected position_ids ({B}, {Tq}) or (1, {Tq}); "
            f"got {tuple(positions.shape)}."
        )
    begins = positions.diff(dim=-1) != 1
    if Tq == Tk:
        if not begins.any():
            return None
        ids = F.pad(begins.long().cumsum(-1), (1, 0))
        return Documents(ids, batched=len(ids) > 1)
    # With a cache a row has to be one document, whose queries stand where their
    # keys do, counted from its first token.
    slots = torch.arange(Tk - Tq, Tk, device=positions.device)
    first = 0 if real is None else _first(real)[:, None]
    is_token = True if real is None else real[:, Tk - Tq :]
    if ((positions < slots - first) & is_token).any():
        raise ValueError(
            "mattn in transformers: expected one document in each row of a cache; got "
            f"position_ids {positions.tolist()} for the last {Tq} of {Tk} keys. Call "
            "register_in_transformers() for a static cache; decode packed documents "
            "one by one."
        )
    return None


def register_in_transformers(name: str = "mattn") -> None:
    """After this, ``attn_implementation="mattn"`` runs a model on this kernel."""
    transformers = needed("transformers", "gpu", "register_in_transformers")
    transformers.AttentionInterface.register(name, transformers_attention)
    transformers.AttentionMaskInterface.register(name, _transformers_mask)


def _transformers_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    attention_mask: Tensor | None = None,
    device: torch.device | str | None = None,
    **rest,
) -> Tensor | None:
    """Which slots of a cache hold a token: the mask as the kernel is given it."""
    first, seen = int(kv_offset), int(q_offset) + q_length
    seen = min(seen, first + kv_length)
    if attention_mask is not None:
        # From the right: transformers calls this a second time with what it gave.
        return attention_mask[:, :seen][:, -(seen - first) :]
    if seen == first + kv_length:
        return None
    return torch.ones(batch_size, seen - first, dtype=torch.bool, device=device)
