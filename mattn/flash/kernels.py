"""The kernels, in Triton: forward, and three for the gradients.

Importing this needs Triton, so it is done when a kernel is launched; reading it
needs nothing. What the kernels call is a ``_part``. Arguments in capitals are
known when a kernel is compiled. A matrix is a pointer and its strides along B,
H and T, its features side by side. A block begins with what of the mask it
meets: the two ends of its first row, of its last, and of all. Where
they are ``LISTED``, ``CAUSAL`` only says in which order blocks are started.
Derived in chapter 10.
"""

from collections.abc import Callable
from typing import Any

# There are wheels for Linux alone: elsewhere checkers of types do not find them.
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from triton import knobs  # pyright: ignore[reportMissingImports]

INTERPRETED = knobs.runtime.interpret
"""Whether what stands below runs on a CPU; settled when this is imported."""


def _part(f: Callable[..., Any]) -> Any:
    """A function that kernels call; the interpreter runs it plain, which is several
    times as fast. Triton makes of a plain argument what its annotation says, so
    what may be given is not for Python's types to say.
    """
    return f if INTERPRETED else triton.jit(f)


@_part
def _keys_of(
    i, spans_ptr, Tq, Tk, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    LISTED: tl.constexpr,
):  # fmt: skip
    """The stretch of keys that query i may see (past the end: as the last)."""
    i = tl.minimum(i, Tq - 1)
    if LISTED:
        first = tl.load(spans_ptr + i)
        end = tl.load(spans_ptr + Tq + i)
    else:
        slot = i + (Tk - Tq)  # bottom-right alignment
        first = i * 0
        end = first + Tk
        if CAUSAL:
            end = tl.minimum(end, slot + 1)
        if WINDOW:
            first = tl.maximum(first, slot - window + 1)
    return first, end


@_part
def _queries_of(
    j, spans_ptr, Tq, Tk, window, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    LISTED: tl.constexpr,
):  # fmt: skip
    """The stretch of queries that may see key j: the same, read by columns."""
    j = tl.minimum(j, Tk - 1)
    if LISTED:
        first = tl.load(spans_ptr + j)
        end = tl.load(spans_ptr + Tk + j)
    else:
        first = j * 0
        end = first + Tq
        if CAUSAL:
            first = tl.maximum(first, j - (Tk - Tq))
        if WINDOW:
            end = tl.minimum(end, j - (Tk - Tq) + window)
    return first, end


@_part
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


@_part
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


@_part
def _write(
    ptr, stride, start, size, block, D: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    row, column = tl.arange(0, ROWS), tl.arange(0, COLUMNS)
    ptr += tl.cast(start, tl.int64) * stride
    inside = (start + row < size)[:, None] & (column < D)[None, :]
    at = ptr + row[:, None] * stride + column[None, :]
    tl.store(at, block.to(ptr.dtype.element_ty), mask=inside)


@_part
def _program(T, BLOCK: tl.constexpr):
    """What this program does: block of T, of how many, and matrix (T, D)."""
    n_blocks = (T + BLOCK - 1) // BLOCK
    return tl.program_id(0) % n_blocks, n_blocks, tl.program_id(0) // n_blocks


@_part
def _head(ptr, stride, b, h):
    """Where the matrix (T, D) of batch row b and head h begins."""
    return ptr + tl.cast(b, tl.int64) * stride[0] + tl.cast(h, tl.int64) * stride[1]


@_part
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


# Long because: one kernel; what it works on stays in registers.
@triton.jit
def forward_kernel(
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


@triton.jit
def delta_kernel(
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


@_part
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


# Long because: one kernel; what it works on stays in registers.
@triton.jit
def dk_dv_kernel(
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


@_part
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


# Long because: one kernel; what it works on stays in registers.
@triton.jit
def dq_kernel(
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
