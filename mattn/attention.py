"""softmax(QKᵀ/√d_k + Mask)·V: readable, block by block, fused, multi-head.

:func:`attention` is the formula. :func:`blockwise_attention` and
:func:`fused_attention` compute the same without holding all weights; they
are tested equal to it. Derived in chapters 1, 3 and 4.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mattn import softmax
from mattn.cache import AllOrNothing, KVCache, check_positions
from mattn.masks import Causal, Full, Mask, default_positions, full

__all__ = [
    "MultiHeadAttention",
    "attention",
    "blockwise_attention",
    "fused_attention",
    "merge_heads",
    "record_weights",
    "split_heads",
]


def attention(
    q: Float[Tensor, "*batch Tq D"],
    k: Float[Tensor, "*#batch Tk D"],
    v: Float[Tensor, "*#batch Tk Dv"],
    mask: Mask | Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
) -> tuple[Float[Tensor, "*batch Tq Dv"], Float[Tensor, "*batch Tq Tk"]]:
    """Attention(Q, K, V) = softmax(QKᵀ/√d_k + Mask)·V, with its weights.

    ``mask`` is a rule, or a boolean tensor with ``True`` = may attend, or
    ``None``: everything may be seen. Row ``b`` of a rule that tells the rows
    of a batch apart is for ``q[b]``. A row in which nothing may be seen has
    weights, output and gradients of exactly 0. Half precision is computed in
    float32, where scores above 65,504 are no ∞, and rounded at the end.

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
    _check_sizes(q, k, v)
    weights = softmax.masked_softmax(_scores(q, k), _allowed(mask, q, k))
    out = weights @ v.to(weights.dtype)
    return out.to(q.dtype), weights.to(q.dtype)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    """QKᵀ/√D, (…, Tq, Tk), divided before the product, which is the larger."""
    precise = torch.promote_types(q.dtype, torch.float32)
    return q.to(precise) / math.sqrt(q.shape[-1]) @ k.to(precise).mT


def blockwise_attention(
    q: Float[Tensor, "*batch Tq D"],
    k: Float[Tensor, "*#batch Tk D"],
    v: Float[Tensor, "*#batch Tk Dv"],
    mask: Mask | Bool[Tensor, "*#batch #Tq #Tk"] | None = None,
    *,
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
    _check_sizes(q, k, v)
    # The mask is checked once, not block by block: of a rule, one row suffices.
    _allowed(mask, q[..., :1, :] if isinstance(mask, Mask) else q, k)
    recompute = torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v))
    rows = []
    # Not slices: the gradient of each would be as large as the whole.
    for i, q_rows in enumerate(q.split(block, dim=-2)):
        attend = functools.partial(
            _attend_rows,
            mask=mask,
            start=i * block,
            Tq=q.shape[-2],
            block=block,
            skip=skip,
        )
        if recompute:
            rows.append(checkpoint(attend, q_rows, k, v, use_reentrant=False))
        else:
            rows.append(attend(q_rows, k, v))
    return torch.cat(rows, dim=-2)


def _attend_rows(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    mask,
    start: int,
    Tq: int,
    block: int,
    skip: bool,
) -> Tensor:
    """One block of queries, the first of them query ``start`` of ``Tq``."""
    Tk = k.shape[-2]
    q_positions, k_positions = default_positions(Tq, Tk, device=q.device)
    q_positions = q_positions[start : start + block]
    # Begun with no keys: zeros that gradients of exactly 0 flow back from, also
    # when every block is skipped.
    seen = softmax.partial(_scores(q, k[..., :0, :]), v[..., :0, :])
    lo, hi = 0, Tk
    if skip and isinstance(mask, Mask):
        first = Tk - Tq + start
        lo, hi = mask.key_range(first, first + q.shape[-2] - 1, Tk)
    k_blocks, v_blocks = k.split(block, dim=-2), v.split(block, dim=-2)
    for j in range(max(lo, 0) // block, -(-min(hi, Tk) // block)):
        keys = slice(j * block, (j + 1) * block)
        allowed = None
        if isinstance(mask, Mask):
            allowed = mask._render(q_positions, k_positions[keys])
            allowed = _align_rows(allowed, q.ndim - 2)
        elif mask is not None:
            whole = mask.expand(*mask.shape[:-2], Tq, Tk)
            allowed = whole[..., start : start + block, keys]
        if skip and allowed is not None and not allowed.any():
            continue
        part = softmax.partial(_scores(q, k_blocks[j]), v_blocks[j], allowed)
        seen = softmax.merge(seen, part)
    return softmax.finish(seen).to(q.dtype)


def fused_attention(
    q: Float[Tensor, "B H Tq D"],
    k: Float[Tensor, "B Hkv Tk D"],
    v: Float[Tensor, "B Hkv Tk Dv"],
    mask: Mask | Bool[Tensor, "... #Tq _"] | None = None,
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
    if mask is None or isinstance(mask, Full):
        return _sdpa(q, k, v)
    if isinstance(mask, Causal) and Tq in (1, Tk):  # is_causal is top-left aligned
        return _sdpa(q, k, v, is_causal=Tq > 1)
    a_rule = isinstance(mask, Mask) and mask.batch in (None, 1, len(q))
    if not a_rule or not q.numel() or not Tk:
        return _sdpa(q, k, v, _allowed(mask, q, k))
    mask._check_length(Tk)
    # Small chunks leave out more keys; a GPU needs large ones to be busy.
    chunk = min(max(Tq // 4, 64), 256) if q.device.type == "cpu" else Tq

    def keys_of(start: int) -> tuple[int, int]:
        first, last = Tk - Tq + start, min(Tk - Tq + start + chunk, Tk) - 1
        lo, hi = mask.key_range(first, last, Tk)
        lo = min(max(lo, 0), Tk - 1)
        return lo, max(min(hi, Tk), lo + 1)  # at least one key, allowed or not

    ranges = {start: keys_of(start) for start in range(0, Tq, chunk)}
    groups = itertools.groupby(ranges, key=ranges.get)
    firsts = {next(starts): keys for keys, starts in groups}
    rows, keys = list(itertools.pairwise([*firsts, Tq])), list(firsts.values())
    b = mask._rows(3, q.device)
    outs = []
    q_parts, k_parts, v_parts = _parts(q, rows), _parts(k, keys), _parts(v, keys)
    q_positions = torch.arange(Tk - Tq, Tk, device=q.device)[:, None]
    k_positions = torch.arange(Tk, device=q.device)[None]
    for i in range(len(rows)):
        # Not expanded: what is the same for all queries stays one row.
        allowed = mask.allowed(
            b, q_positions[slice(*rows[i])], k_positions[:, slice(*keys[i])]
        )
        allowed = torch.atleast_2d(allowed)
        outs.append(_sdpa(q_parts[i], k_parts[i], v_parts[i], allowed))
    if len(outs) == 1:
        return outs[0]
    # Head after head of each token, as the kernel writes: merging copies nothing.
    return torch.cat([out.transpose(1, 2) for out in outs], dim=1).transpose(1, 2)


def _sdpa(
    q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None = None, is_causal=False
) -> Tensor:
    """PyTorch's kernel, with the rule for empty rows."""
    grouped = q.shape[1] != k.shape[1]
    if not q.numel() or not k.shape[-2]:  # no query, or every row empty
        if grouped:
            group = q.shape[1] // k.shape[1]
            k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
        return q @ k.mT @ v  # zeros; the fused kernels do not agree on it
    sdpa = functools.partial(
        F.scaled_dot_product_attention, q, k, v, is_causal=is_causal, enable_gqa=grouped
    )
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


class MultiHeadAttention(nn.Module):
    """Attention in ``n_heads`` parallel heads between two linear maps.

    ``forward(x)`` is self-attention; with ``context`` the keys and values
    come from there (cross-attention). The mask is an argument. The fused
    path computes the output, except inside :func:`record_weights`.

    ``n_kv_heads`` shares each key head among several query heads; ``d_head``
    frees the head size from ``d_model / n_heads``; ``rotate(x, positions)``
    is applied to queries and keys (rotary positions, chapter 6); ``norm()``
    makes what is applied to the features of each head before that.
    No biases. Derived in chapter 3.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_head: int | None = None,
        rotate: Callable[[Tensor, Tensor], Tensor] | None = None,
        norm: Callable[[], nn.Module] | None = None,
    ):
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_head is None:
            if d_model % n_heads:
                raise ValueError(
                    f"expected d_model divisible by n_heads; got {d_model} and "
                    f"{n_heads}. Choose another number of heads, or give d_head."
                )
            d_head = d_model // n_heads
        if n_heads % n_kv_heads:
            raise ValueError(
                f"expected n_heads divisible by n_kv_heads; got {n_heads} and "
                f"{n_kv_heads}: each key head serves the same number of query heads."
            )
        self.n_heads, self.n_kv_heads, self.d_head = n_heads, n_kv_heads, d_head
        self.query = nn.Linear(d_model, n_heads * d_head, bias=False)
        self.key = nn.Linear(d_model, n_kv_heads * d_head, bias=False)
        self.value = nn.Linear(d_model, n_kv_heads * d_head, bias=False)
        self.output = nn.Linear(n_heads * d_head, d_model, bias=False)
        self.query_norm, self.key_norm = (
            nn.Identity() if norm is None else norm() for _ in range(2)
        )
        self.rotate = rotate
        self._record: Callable[[Tensor], None] | None = None

    def forward(
        self,
        x: Float[Tensor, "B Tq C"],
        mask: Mask | Bool[Tensor, "... #Tq _"] | None = None,
        *,
        context: Float[Tensor, "B Tk C"] | None = None,
        cache: KVCache | None = None,
        positions: Int[Tensor, "*rows Tq"] | None = None,
    ) -> Float[Tensor, "B Tq C"]:
        """Outputs for the queries ``x``.

        With a ``cache``, ``x`` holds the new tokens only and the cache the
        rest; a cached ``context`` is read once and not again. ``positions``
        are those of ``x``, ``(Tq,)`` or ``(B, Tq)``, growing along a row and
        negative where it is padded; by default they follow what the cache holds.
        A call that raises leaves the cache as it was.
        """
        check_features("x", x, self.query.in_features)
        if context is not None:
            check_features("context", context, self.query.in_features)
        with AllOrNothing([cache]):
            return self._forward(x, mask, context, cache, positions)

    def _forward(self, x, mask, context, cache, positions) -> Tensor:
        q = self.query_norm(split_heads(self.query(x), self.n_heads))  # (B, H, Tq, D)
        if context is not None:
            k, v = self._context(context, cache)
            return self._merge(q, k, v, mask)
        k = self.key_norm(split_heads(self.key(x), self.n_kv_heads))  # (B, Hkv, Tq, D)
        v = split_heads(self.value(x), self.n_kv_heads)
        counted = positions is None and (cache is None or cache.counted)
        given = positions
        if given is not None:
            check_positions(given, len(x), x.shape[1])
        elif cache is not None:
            positions = cache.following(x.shape[1], x.device)
        else:
            positions = torch.arange(x.shape[1], device=x.device)
        if self.rotate is not None:
            q, k = self.rotate(q, positions), self.rotate(k, positions)
        k_positions = positions
        if cache is not None:
            k, v, k_positions = cache.extend(k, v, given)
        if isinstance(mask, Tensor) or (counted and (cache is None or not cache.ring)):
            return self._merge(q, k, v, mask)  # the default positions of a rule
        rule = full if mask is None else mask
        return self._merge(q, k, v, _align_rows(rule.at(positions, k_positions), 2))

    def _context(self, context: Tensor, cache: KVCache | None) -> tuple[Tensor, Tensor]:
        if cache is not None and cache.length:
            return cache.contents()[:2]
        k = self.key_norm(split_heads(self.key(context), self.n_kv_heads))
        v = split_heads(self.value(context), self.n_kv_heads)
        if cache is not None:
            cache.extend(k, v)
        return k, v

    def _merge(self, q: Tensor, k: Tensor, v: Tensor, mask) -> Tensor:
        if self._record is None:
            out = fused_attention(q, k, v, mask)
        else:
            group = self.n_heads // self.n_kv_heads
            k, v = (t.repeat_interleave(group, dim=1) for t in (k, v))
            out, weights = attention(q, k, v, mask)
            self._record(weights.detach())
        return self.output(merge_heads(out))


def split_heads(x: Float[Tensor, "B T HD"], n_heads: int) -> Float[Tensor, "B H T D"]:
    """Cut each token's features into heads: (B, T, H·D) → (B, H, T, D)."""
    if n_heads < 1 or x.shape[-1] % n_heads:
        raise ValueError(
            f"split_heads: expected features divisible by n_heads, {n_heads}; got "
            f"{x.shape[-1]}."
        )
    return x.unflatten(-1, (n_heads, x.shape[-1] // n_heads)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "B H T D"]) -> Float[Tensor, "B T HD"]:
    """Lay the heads of each token side by side: the inverse of :func:`split_heads`."""
    return x.transpose(1, 2).flatten(2)


@contextmanager
def record_weights(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Record the weights of every :class:`MultiHeadAttention` in ``model``.

    Yields a dictionary, module name → ``(B, H, Tq, Tk)``, filled by each
    forward pass inside the block, which takes the dense path.

    >>> layer = MultiHeadAttention(8, 2)
    >>> with record_weights(layer) as weights:
    ...     out = layer(torch.zeros(1, 3, 8))
    >>> weights[""].shape
    torch.Size([1, 2, 3, 3])
    """
    weights: dict[str, Tensor] = {}
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention)
    }
    if not layers:
        raise ValueError(
            f"record_weights: {type(model).__name__} holds no MultiHeadAttention."
        )
    before = {name: layer._record for name, layer in layers.items()}
    for name, layer in layers.items():
        layer._record = functools.partial(weights.__setitem__, name)
    try:
        yield weights
    finally:
        for name, layer in layers.items():
            layer._record = before[name]


def check_features(name: str, x: Tensor, n_features: int) -> None:
    """Refuse what is not ``(B, T, n_features)``."""
    if x.ndim != 3 or x.shape[-1] != n_features:
        raise ValueError(
            f"expected {name} (B, T, {n_features}), a row of features for each token; "
            f"got {tuple(x.shape)}."
        )


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
        allowed = _align_rows(mask.matrix(Tq, Tk, device=q.device), len(batch))
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


def _broadcasts(shape: Sequence[int], to: Sequence[int]) -> bool:
    """Whether keys of this batch serve queries of that one."""
    return len(shape) <= len(to) and all(
        n in (1, m) for n, m in zip(reversed(shape), reversed(to), strict=False)
    )


def _align_rows(allowed: Tensor, n_batch_dims: int) -> Tensor:
    """Put a rule's batch dimension first: (B, Tq, Tk) → (B, 1, …, Tq, Tk)."""
    if allowed.ndim == 2:
        return allowed
    B, Tq, Tk = allowed.shape
    return allowed.reshape(B, *(1,) * (n_batch_dims - 1), Tq, Tk)


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    return type(value).__name__
