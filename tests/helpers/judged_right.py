"""Attention that is right in an unusual way: nobody may accuse it."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from judged_wrong import later, scores_of
from torch import nn

RIGHT = {}


def right(**options):
    """Register a function, with the options of its judge."""

    def register(function):
        RIGHT[function.__name__] = (function, options)
        return function

    return register


@right()
def plain(q, k, v):
    return scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@right()
def by_sdpa(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@right()
def query_is_scaled_first(q, k, v):
    s = (q * q.shape[-1] ** -0.5) @ k.mT
    return s.masked_fill(later(q.shape[-2]), -1e9).softmax(-1) @ v


@right()
def both_by_the_fourth_root(q, k, v):
    d = q.shape[-1] ** -0.25
    s = (q * d) @ (k * d).mT
    return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@right()
def least_finite_number(q, k, v):
    s = scores_of(q, k)
    return s.masked_fill(later(q.shape[-2]), torch.finfo(s.dtype).min).softmax(-1) @ v


@right()
def fill_of_minus_1e4(q, k, v):
    return scores_of(q, k).masked_fill(later(q.shape[-2]), -1e4).softmax(-1) @ v


@right()
def naive_exponentials(q, k, v):
    e = torch.tril(scores_of(q, k).exp())
    return e @ v / e.sum(-1, keepdim=True)


@right()
def cut_and_renormalised(q, k, v):
    w = torch.tril(scores_of(q, k).softmax(-1))
    return w / w.sum(-1, keepdim=True) @ v


@right()
def in_numpy(q, k, v):
    q, k, v = (np.asarray(t) for t in (q, k, v))
    s = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True) @ v


@right()
def query_by_query(q, k, v):
    rows = []
    for i in range(q.shape[-2]):
        s = (q[..., i : i + 1, :] * k[..., : i + 1, :]).sum(-1) / q.shape[-1] ** 0.5
        rows.append((s.softmax(-1)[..., None] * v[..., : i + 1, :]).sum(-2))
    return torch.stack(rows, dim=-2)


@right()
def one_sequence_only(q, k, v):
    T, D = q.shape
    out = torch.zeros(T, v.shape[1], dtype=q.dtype)
    for i in range(T):
        w = torch.softmax(k[: i + 1] @ q[i] / D**0.5, dim=0)
        out[i] = w @ v[: i + 1]
    return out


@right()
def online(q, k, v):
    m = torch.full_like(q[..., :1], -math.inf)
    total, out = torch.zeros_like(m), torch.zeros_like(v)
    at = torch.arange(q.shape[-2])[:, None]
    for j in range(k.shape[-2]):
        s = (q * k[..., j : j + 1, :]).sum(-1, keepdim=True) / q.shape[-1] ** 0.5
        s = torch.where(at >= j, s, -math.inf)
        new = torch.maximum(m, s)
        e, shrink = torch.exp(s - new), torch.exp(m - new).nan_to_num()
        total, out = total * shrink + e, out * shrink + e * v[..., j : j + 1, :]
        m = new
    return out / total


@right()
def out_and_weights(q, k, v):
    w = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1)
    return w @ v, w


@right()
def weights_come_first(q, k, v):
    w = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1)
    return {"weights": w, "output": w @ v}


@right()
def tokens_before_heads(q, k, v):
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, T, H, D)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


@right()
def four_axes_and_no_less(q, k, v):
    _, _, T, D = q.shape
    s = torch.einsum("bhqd,bhkd->bhqk", q, k) / D**0.5
    s = s.masked_fill(later(T)[None, None], -math.inf)
    return torch.einsum("bhqk,bhkd->bhqd", s.softmax(-1), v)


@right()
def heads_come_back_merged(q, k, v):
    B, H, T, D = q.shape
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return out.transpose(1, 2).reshape(B, T, H * D)


@right()
def bottom_right(q, k, v):
    Tq, Tk = q.shape[-2], k.shape[-2]
    hide = torch.ones(Tq, Tk, dtype=torch.bool).triu(Tk - Tq + 1)
    return scores_of(q, k).masked_fill(hide, -math.inf).softmax(-1) @ v


@right()
def top_left(q, k, v):
    hide = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).triu(1)
    return scores_of(q, k).masked_fill(hide, -math.inf).softmax(-1) @ v


@right()
def groups_interleaved(q, k, v):
    if q.dim() == 4 and k.shape[1] != q.shape[1]:
        n = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(n, 1), v.repeat_interleave(n, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@right()
def in_float32(q, k, v):
    s = scores_of(q.float(), k.float())
    return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v.float()


@right()
def true_is_hidden(q, k, v, mask):
    return scores_of(q, k).masked_fill(mask, -math.inf).softmax(-1) @ v


@right()
def mask_is_added(q, k, v, mask):
    if mask.dtype == torch.bool:
        raise TypeError("an additive mask, please")
    return (scores_of(q, k) + mask).softmax(-1) @ v


@right()
def mask_is_optional(q, k, v, mask=None):
    s = scores_of(q, k)
    if mask is not None:
        s = s.masked_fill(mask == 0, -1e9)
    return s.softmax(-1) @ v


@right(mask=None)
def sees_everything(q, k, v):
    return scores_of(q, k).softmax(-1) @ v


@right()
def empty_rows_are_zero(q, k, v, mask):
    s = scores_of(q, k).masked_fill(~mask, -math.inf)
    return s.softmax(-1).nan_to_num() @ v


@right()
class DropsInTraining(nn.Module):
    def forward(self, q, k, v):
        w = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1)
        return F.dropout(w, 0.5, self.training) @ v


class Fused(nn.Module):
    """One map in for all three, in an order of its own."""

    n_heads, order = 3, (0, 1, 2)

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(12, 36, bias=False), nn.Linear(12, 12)

    def parts(self, x):
        return [self.qkv(x).chunk(3, -1)[i] for i in self.order]

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (3, 4)).transpose(1, 2) for t in self.parts(x))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(out.transpose(1, 2).flatten(2))


@right()
class FusedInOrder(Fused):
    pass


@right()
class FusedValuesFirst(Fused):
    order = (2, 0, 1)


@right()
class FusedByHead(Fused):
    def parts(self, x):
        each = self.qkv(x).unflatten(-1, (3, 3, 4))  # head, which, feature
        return [each[..., i, :].flatten(-2) for i in range(3)]


@right()
class OneHeadAndNoWayOut(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(6, 5) for _ in range(3))

    def forward(self, x):
        return plain(self.query(x), self.key(x), self.value(x))


@right()
class NamedByLetters(nn.Module):
    def __init__(self):
        super().__init__()
        self.W_q, self.W_k, self.W_v, self.W_o = (nn.Linear(8, 8) for _ in range(4))
        self.num_heads = 2

    def forward(self, x):
        q, k, v = (
            m(x).view(len(x), -1, 2, 4).transpose(1, 2)
            for m in (self.W_q, self.W_k, self.W_v)
        )
        out, w = out_and_weights(q, k, v)
        return self.W_o(out.transpose(1, 2).reshape(x.shape)), w
