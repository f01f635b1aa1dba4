"""Attention as people get it wrong: functions of (q, k, v), causal.

Each is registered with the names that a judge may give it; where two mistakes
cannot be told apart from outside, both are listed. Written before the judge.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

WRONG = {}


def wrong(*names, **options):
    """Register a function under the names that may be said of it."""

    def register(function):
        WRONG[function.__name__] = (function, set(names), options)
        return function

    return register


def later(T):
    return torch.ones(T, T, dtype=torch.bool).triu(1)


def scores_of(q, k):
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


@wrong("no scale")
def scale_left_out(q, k, v):
    s = torch.einsum("...qd,...kd->...qk", q, k)
    s = s.masked_fill(later(q.shape[-2]), float("-inf"))
    return torch.einsum("...qk,...kd->...qd", s.softmax(-1), v)


@wrong("divided by d")
def root_left_out(q, k, v):
    s = q @ k.mT / q.size(-1)
    return s.masked_fill(later(q.size(-2)), -math.inf).softmax(-1) @ v


@wrong("divided by d")
def sdpa_of_a_scaled_query(q, k, v):
    q = q * q.shape[-1] ** -0.5
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


@wrong("multiplied by √d")
def times_the_root(q, k, v):
    s = (q @ k.mT) * math.sqrt(k.shape[-1])
    return s.masked_fill(later(q.shape[-2]), -torch.inf).softmax(-1) @ v


@wrong("divided by the root of the length")
def root_of_the_wrong_axis(q, k, v):
    s = q @ k.mT / k.shape[-2] ** 0.5
    return s.masked_fill(later(q.shape[-2]), -torch.inf).softmax(-1) @ v


@wrong("scaled by a constant")
def root_of_64_for_all(q, k, v):
    s = q @ k.mT / 8.0
    return s.masked_fill(later(q.shape[-2]), -torch.inf).softmax(-1) @ v


@wrong("scaled after softmax")
def scale_comes_late(q, k, v):
    s = (q @ k.mT).masked_fill(later(q.shape[-2]), -torch.inf)
    return (s.softmax(-1) / math.sqrt(q.shape[-1])) @ v


@wrong("tiny fill")
def fill_that_lost_its_sign(q, k, v):
    return scores_of(q, k).masked_fill(later(q.shape[-2]), 1e-9).softmax(-1) @ v


@wrong("tiny fill")
def fill_of_minus_1e_20(q, k, v):
    s = scores_of(q, k)
    return torch.where(later(q.shape[-2]), -1e-20, s).softmax(-1) @ v


@wrong("weak fill")
def fill_of_minus_ten(q, k, v):
    return scores_of(q, k).masked_fill(later(q.shape[-2]), -10.0).softmax(-1) @ v


@wrong("large positive fill")
def fill_of_plus_1e9(q, k, v):
    s = scores_of(q, k) + later(q.shape[-2]) * 1e9
    return torch.softmax(s, dim=-1) @ v


@wrong("mask forgotten")
def result_thrown_away(q, k, v):
    s = scores_of(q, k)
    s.masked_fill(later(q.shape[-2]), float("-inf"))
    return F.softmax(s, dim=-1) @ v


@wrong("inverted", "upper triangle")
def minus_infinity_below(q, k, v):
    s = scores_of(q, k)
    seen = torch.ones_like(s).tril()
    return s.masked_fill(seen == 1, float("-inf")).softmax(-1) @ v


@wrong("inverted")
def true_meant_hidden(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=later(q.shape[-2]))


@wrong("upper triangle")
def triu_for_tril(q, k, v):
    s = scores_of(q, k)
    keep = torch.triu(torch.ones(q.shape[-2], k.shape[-2]))
    return s.masked_fill(keep == 0, -math.inf).softmax(-1) @ v


@wrong("sees one ahead")
def one_diagonal_too_many(q, k, v):
    s = scores_of(q, k)
    hide = torch.ones(s.shape[-2:]).triu(2).bool()
    return s.masked_fill(hide, -math.inf).softmax(-1) @ v


@wrong("hides self")
def diagonal_is_hidden(q, k, v):
    s = scores_of(q, k)
    hide = torch.ones(s.shape[-2:], dtype=torch.bool).triu(0)
    return s.masked_fill(hide, -1e9).softmax(-1) @ v


@wrong("0 and 1 added")
def ones_are_added(q, k, v):
    s = scores_of(q, k) + torch.tril(torch.ones(q.shape[-2], k.shape[-2])).to(q)
    return s.softmax(-1) @ v


@wrong("fill of 0")
def ones_are_multiplied(q, k, v):
    s = scores_of(q, k) * torch.tril(torch.ones(q.shape[-2], k.shape[-2])).to(q)
    return s.softmax(-1) @ v


@wrong("a score of 0 is hidden")
def zeros_become_infinite(q, k, v):
    s = torch.tril(scores_of(q, k))
    return s.masked_fill(s == 0, float("-inf")).softmax(-1) @ v


@wrong("mask after softmax")
def weights_are_cut(q, k, v):
    w = scores_of(q, k).softmax(-1)
    return torch.tril(w) @ v


@wrong("−∞ after softmax", "mask after softmax")
def weights_are_filled(q, k, v):
    w = scores_of(q, k).softmax(-1)
    return w.masked_fill(later(q.shape[-2]), float("-inf")) @ v


@wrong("softmax over queries")
def columns_add_up(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf)
    return F.softmax(s, dim=-2) @ v


@wrong("softmax over axis 1")
def softmax_dim_1(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -1e9)
    return F.softmax(s, dim=1) @ v


@wrong("softmax over axis 0")
def softmax_dim_0(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -1e30)
    return F.softmax(s, dim=0) @ v


@wrong("softmax over everything")
def one_sum_for_the_matrix(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf)
    w = s.flatten(-2).softmax(-1).view_as(s)
    return w @ v


@wrong("no softmax")
def raw_scores(q, k, v):
    return torch.tril(scores_of(q, k)) @ v


@wrong("divided by the sum")
def scores_over_their_sum(q, k, v):
    s = torch.tril(scores_of(q, k))
    return s / s.sum(dim=-1, keepdim=True) @ v


@wrong("exp without a sum")
def exponentials_alone(q, k, v):
    return torch.tril(scores_of(q, k).exp()) @ v


@wrong("softmax twice")
def log_then_softmax_again(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf)
    return s.softmax(-1).softmax(-1) @ v


@wrong("plus one in the sum")
def quiet_softmax(q, k, v):
    e = torch.tril(scores_of(q, k).exp())
    return e / (1 + e.sum(-1, keepdim=True)) @ v


@wrong("sum without keepdims")
def numpy_without_keepdims(q, k, v):
    q, k, v = (np.asarray(t) for t in (q, k, v))
    if q.ndim != 2:
        raise ValueError("one sequence only")
    s = q @ k.T / np.sqrt(q.shape[-1])
    e = np.tril(np.exp(s))
    return e / e.sum(axis=-1) @ v


@wrong("k·q")
def key_asks_query(q, k, v):
    s = k @ q.mT / q.shape[-1] ** 0.5
    return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@wrong("q·q")
def query_twice(q, k, v):
    return scores_of(q, q).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@wrong("weights·k")
def keys_for_values(q, k, v):
    return F.scaled_dot_product_attention(q, k, k, is_causal=True)


@wrong("weights transposed")
def weights_on_their_side(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf)
    return torch.einsum("...qk,...qd->...kd", s.softmax(-1), v)


@wrong("cosine")
def cosine_scores(q, k, v):
    s = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT / q.shape[-1] ** 0.5
    return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@wrong("dropout acts")
def dropout_always(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, dropout_p=0.2, is_causal=True)


@wrong("changes its input")
def writes_into_q(q, k, v):
    q *= q.shape[-1] ** -0.5
    return (q @ k.mT).masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@wrong("half precision inside")
def through_float16(q, k, v):
    s = scores_of(q, k).to(torch.float16).to(q.dtype)
    w = s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1)
    return w.half().to(q.dtype) @ v


@wrong("one row of the batch", mask="rows")
def mask_of_the_first_row(q, k, v, mask):
    s = scores_of(q, k)
    return s.masked_fill(~mask[:1], -math.inf).softmax(-1) @ v


@wrong("hides rows, not columns", "mask transposed", mask="rows")
def padding_on_rows(q, k, v, mask):
    s = scores_of(q, k)
    return s.masked_fill(~mask.transpose(-2, -1), -1e9).softmax(-1) @ v


@wrong("repeat for interleave", mask="rows")
def mask_repeated_for_heads(q, k, v, mask):
    B, H, T, D = q.shape
    many = mask[:, 0].repeat(H, 1, 1)
    s = scores_of(q, k).view(B * H, T, T).masked_fill(~many, -1e9)
    return (s.softmax(-1) @ v.reshape(B * H, T, D)).view(B, H, T, D)


@wrong("no mask in eval()")
class HidesInTrainingOnly(torch.nn.Module):
    def forward(self, q, k, v):
        s = scores_of(q, k)
        if self.training:
            s = s.masked_fill(later(q.shape[-2]), -math.inf)
        return s.softmax(-1) @ v


@wrong("mask kept from the first call")
class KeepsItsFirstMask(torch.nn.Module):
    mask = None

    def forward(self, q, k, v):
        T = q.shape[-2]
        if self.mask is None:
            self.mask = later(T)
        hide = torch.zeros(T, T, dtype=torch.bool)
        n = min(T, len(self.mask))
        hide[:n, :n] = self.mask[:n, :n]
        return scores_of(q, k).masked_fill(hide, -math.inf).softmax(-1) @ v


@wrong("no scale and mask forgotten")
def nothing_but_softmax(q, k, v):
    return (q @ k.mT).softmax(-1) @ v


@wrong("divided by d and sees one ahead")
def two_slips(q, k, v):
    s = q @ k.mT / q.shape[-1]
    hide = torch.ones(s.shape[-2:]).triu(2).bool()
    return s.masked_fill(hide, -math.inf).softmax(-1) @ v


@wrong("no scale and softmax over queries")
def two_other_slips(q, k, v):
    s = (q @ k.mT).masked_fill(later(q.shape[-2]), -math.inf)
    return s.softmax(dim=-2) @ v


@wrong("repeat for interleave")
def groups_are_tiled(q, k, v):
    if q.dim() == 4:
        n = q.shape[1] // k.shape[1]
        k, v = k.repeat(1, n, 1, 1), v.repeat(1, n, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


# Of these nobody has a name in mind: that they are told is what is asked.


@wrong()
def squared_distance(q, k, v):
    s = -torch.cdist(q, k).square() / q.shape[-1] ** 0.5
    return s.masked_fill(later(q.shape[-2]), -math.inf).softmax(-1) @ v


@wrong()
def relu_for_softmax(q, k, v):
    w = torch.tril(scores_of(q, k).relu()) + 1e-6
    return w / w.sum(-1, keepdim=True) @ v


@wrong()
def tanh_on_the_scores(q, k, v):
    s = torch.tanh(scores_of(q, k)).masked_fill(later(q.shape[-2]), -math.inf)
    return s.softmax(-1) @ v


@wrong("query added")
def adds_the_query(q, k, v):
    s = scores_of(q, k).masked_fill(later(q.shape[-2]), -math.inf)
    return s.softmax(-1) @ v + q
