"""The multi-head module: heads, paths, caches, and what it lets through."""

import math

import pytest
import torch
from oracles import KINDS, close, compositions, kinds_of_mask, rendered

from mattn import (
    KVCache,
    MultiHeadAttention,
    Reach,
    attention,
    causal,
    documents,
    full,
    padding,
    prefix,
    record_weights,
    window,
)
from mattn.checks import influence, sensitivity
from mattn.heads import merge_heads, split_heads

every_kind = pytest.mark.parametrize("kind", KINDS)


def layer_of(*, n_kv_heads=None, rotate=None, d_head=4) -> MultiHeadAttention:
    layer = MultiHeadAttention(
        10, 6, n_kv_heads=n_kv_heads, d_head=d_head, rotate=rotate
    )
    return layer.double()


def rotate(x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """A stand-in for rotary positions: turns pairs of features by the position."""
    angle = positions.double()[..., :, None] * torch.tensor([1.0, 0.1]).double()
    if angle.ndim == 3:
        angle = angle[:, None]  # over heads
    a, b = x.chunk(2, dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)


def squared() -> torch.nn.Module:
    """A stand-in for the normalisation of queries and keys."""

    class Squared(torch.nn.Module):
        def forward(self, x):
            return x**2

    return Squared()


def inputs(B=2, T=7, C=10) -> torch.Tensor:
    return torch.randn(B, T, C, dtype=torch.float64)


# --- Heads -------------------------------------------------------------------


def test_heads_are_consecutive_features_of_a_token():
    x = torch.arange(2 * 3 * 8.0).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    for h in range(4):
        assert torch.equal(heads[:, h], x[..., 2 * h : 2 * h + 2])
    assert torch.equal(merge_heads(heads), x)


@pytest.mark.parametrize("n_kv_heads", [1, 2, 3, 6])
@every_kind
def test_equals_its_definition_head_by_head(kind, n_kv_heads):
    layer, x, mask = layer_of(n_kv_heads=n_kv_heads), inputs(), kinds_of_mask(7)[kind]
    q, k, v = (linear(x) for linear in (layer.query, layer.key, layer.value))
    heads = []
    for h in range(6):
        shared = h // (6 // n_kv_heads)
        own = slice(4 * h, 4 * h + 4), slice(4 * shared, 4 * shared + 4)
        heads.append(attention(q[..., own[0]], k[..., own[1]], v[..., own[1]], mask)[0])
    close(layer(x, mask), layer.output(torch.cat(heads, dim=-1)))


def test_queries_and_keys_are_normalised_then_rotated_and_values_are_not():
    layer = MultiHeadAttention(10, 6, d_head=4, rotate=rotate, norm=squared).double()
    x, positions = inputs(), torch.arange(7)
    q, k, v = (split_heads(f(x), 6) for f in (layer.query, layer.key, layer.value))
    q, k = (rotate(t**2, positions) for t in (q, k))
    out, _ = attention(q, k, v, causal)
    close(layer(x, causal), layer.output(merge_heads(out)))
    # Only differences of positions count.
    close(layer(x, causal, positions=positions + 5), layer(x, causal))


def test_the_keys_of_a_context_are_normalised_too():
    layer = MultiHeadAttention(10, 6, d_head=4, norm=squared).double()
    x, context = inputs(T=4), inputs(T=9)
    q = split_heads(layer.query(x), 6)
    k, v = (split_heads(f(context), 6) for f in (layer.key, layer.value))
    out, _ = attention(q**2, k**2, v)
    close(layer(x, context=context), layer.output(merge_heads(out)))


def test_grouped_query_equals_repeated_key_heads():
    shared, own = layer_of(n_kv_heads=2), layer_of()
    with torch.no_grad():
        for name in ("query", "output"):
            getattr(own, name).weight.copy_(getattr(shared, name).weight)
        for name in ("key", "value"):
            heads = getattr(shared, name).weight.reshape(2, 4, 10)
            repeated = heads.repeat_interleave(3, dim=0).reshape(24, 10)
            getattr(own, name).weight.copy_(repeated)
    x = inputs()
    close(shared(x, causal), own(x, causal))


@pytest.mark.parametrize("shape", [(2, 0, 10), (0, 7, 10), (2, 1, 10)])
def test_nothing_in_nothing_out(shape):
    layer, x = layer_of(n_kv_heads=2), torch.randn(shape, dtype=torch.float64)
    assert layer(x, causal).shape == shape
    with record_weights(layer) as weights:
        assert layer(x, causal).shape == shape
    B, T, _ = shape
    assert weights[""].shape == (B, 6, T, T)


def test_sizes():
    layer = MultiHeadAttention(12, 3)
    assert layer.d_head == 4
    assert sum(p.numel() for p in layer.parameters()) == 4 * 12 * 12
    layer = MultiHeadAttention(12, 6, n_kv_heads=2, d_head=5)
    assert sum(p.numel() for p in layer.parameters()) == 12 * 5 * (6 + 2 + 2 + 6)


# --- One forward: the fused path and the recorded one ------------------------


@every_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recording_changes_nothing_but_the_path(kind, dtype):
    layer, mask = layer_of(n_kv_heads=3).to(dtype), kinds_of_mask(7)[kind]
    x = inputs().to(dtype).requires_grad_()
    fused = layer(x, mask)
    (gradient,) = torch.autograd.grad(fused.sum(), x)
    with record_weights(layer) as weights:
        recorded = layer(x, mask)
    close(fused, recorded)
    close(gradient, torch.autograd.grad(recorded.sum(), x)[0])
    allowed = rendered(mask, 7, 7, 2).expand(2, 6, 7, 7)
    assert torch.equal(weights[""] == 0, ~allowed)
    close(weights[""].sum(dim=-1), allowed.any(dim=-1).to(dtype))
    assert not weights[""].requires_grad


@every_kind
def test_a_rule_and_its_matrix_mean_the_same(kind):
    layer, x, mask = layer_of(), inputs(), kinds_of_mask(7)[kind]
    expected = layer(x, mask)
    matrix = (full if mask is None else mask).matrix(7)
    close(layer(x, matrix[:, None] if matrix.ndim == 3 else matrix), expected)


def test_the_recorded_weights_are_those_of_the_output():
    layer, x = layer_of(n_kv_heads=2), inputs()
    with record_weights(layer) as weights:
        out = layer(x, causal)
    v = split_heads(layer.value(x), 2).repeat_interleave(3, dim=1)
    close(layer.output(merge_heads(weights[""] @ v)), out)


def test_recording_names_layers_and_ends_with_the_block():
    model = torch.nn.ModuleDict({"a": layer_of(), "b": layer_of()})
    x = inputs()
    with record_weights(model) as weights:
        model["a"](x, causal)
        assert list(weights) == ["a"]
        model["b"](model["a"](x), causal)
    assert list(weights) == ["a", "b"]
    before = weights["a"]
    model["a"](x, causal)
    assert weights["a"] is before


def test_recording_ends_after_an_exception_too():
    layer = layer_of()
    with pytest.raises(RuntimeError, match="stop"), record_weights(layer):
        raise RuntimeError("stop")
    assert layer._record is None
    # Inside another recording, the outer one goes on.
    with record_weights(layer) as outer:
        with pytest.raises(RuntimeError, match="stop"), record_weights(layer) as inner:
            raise RuntimeError("stop")
        layer(inputs())
    assert list(outer) == [""]
    assert not inner
    assert layer._record is None


# --- Influence = mask --------------------------------------------------------

ONE_ROW = {
    name: mask
    for name, mask in kinds_of_mask(7, batch=1).items()
    if name != "documents by row"
} | {"padding": padding([5]), "left padding": padding([5], side="left", width=7)}


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("n_kv_heads", [2, 6])
@pytest.mark.parametrize("name", ONE_ROW)
def test_influence_of_a_layer_is_its_mask(name, n_kv_heads, recorded):
    layer, mask = layer_of(n_kv_heads=n_kv_heads), ONE_ROW[name]
    allowed = rendered(mask, 7, 7, 1).reshape(7, 7)
    # A query reaches its own output, unless one key or none is visible.
    expected = allowed | (torch.eye(7) * allowed.sum(-1, keepdim=True) > 1)

    def out(x):
        if not recorded:
            return layer(x[None], mask)[0]
        with record_weights(layer):
            return layer(x[None], mask)[0]

    x = inputs()[0]
    assert torch.equal(influence(out, x), expected)
    # A weight of 1 has no gradient; what is left of two sums that cancel is rounding.
    assert torch.equal(sensitivity(out, x) > 1e-12, expected)


def test_rows_of_a_batch_do_not_mix():
    layer = layer_of()

    def rows(x):  # one input position is one row of the batch
        return layer(x, causal)

    assert torch.equal(influence(rows, inputs(B=4)), torch.eye(4).bool())


# --- Caches ------------------------------------------------------------------


def in_chunks(layer, x, mask, cuts, cache, slots=None) -> torch.Tensor:
    outs, start = [], 0
    for n in cuts:
        chunk = slice(start, start + n)
        where = None if slots is None else slots[..., chunk]
        rule = mask(start + n) if callable(mask) else mask
        outs.append(layer(x[:, chunk], rule, cache=cache, slots=where))
        start += n
    return torch.cat(outs, dim=1)


@pytest.mark.parametrize("cuts", compositions(6), ids=str)
def test_cached_equals_uncached_for_every_split(cuts):
    for turn in (None, rotate):
        layer, x = layer_of(n_kv_heads=2, rotate=turn), inputs(T=6)
        for mask in (causal, causal & window(2), causal & padding([6, 3])):
            cache = KVCache(6)
            close(in_chunks(layer, x, mask, cuts, cache), layer(x, mask))
            assert cache.length == 6


@pytest.mark.parametrize("capacity", [3, 4])
@pytest.mark.parametrize("cuts", compositions(6), ids=str)
def test_a_ring_equals_the_whole_for_a_window_that_fits(cuts, capacity):
    layer, x = layer_of(n_kv_heads=2, rotate=rotate), inputs(T=6)
    mask = causal & window(3)
    cache = KVCache(reach=Reach(capacity, 0))
    close(in_chunks(layer, x, mask, cuts, cache), layer(x, mask))


def test_a_ring_goes_on_for_long():
    layer, x = layer_of(rotate=rotate), inputs(T=40)
    mask = causal & window(4) & documents([0] * 17 + [1] * 23)
    cuts = [11, 1, 1, 1, 9, *[1] * 13, 4]
    out = in_chunks(layer, x, mask, cuts, KVCache(reach=mask.reach()))
    close(out, layer(x, mask))


@pytest.mark.parametrize("cuts", [(7,), (3, 4), (5, 1, 1), (1,) * 7], ids=str)
@pytest.mark.parametrize("capacity", [7, 5, None])
def test_left_padded_rows_are_what_they_are_alone(cuts, capacity):
    """Slots count tokens from 0; a negative one is a place without a token."""
    layer, lengths = layer_of(n_kv_heads=3, rotate=rotate), [7, 4, 1]
    mask = causal & window(5)
    alone = [inputs(B=1, T=n) for n in lengths]
    batch = torch.cat(
        [torch.cat([inputs(B=1, T=7 - x.shape[1]), x], dim=1) for x in alone]
    )
    slots = torch.arange(7) - 7 + torch.tensor(lengths)[:, None]
    cache = KVCache(capacity, reach=mask.reach())
    out = in_chunks(layer, batch, mask, cuts, cache, slots)
    for row, x in enumerate(alone):
        close(out[row, 7 - lengths[row] :], layer(x, mask)[0])
    close(layer(batch, mask, slots=slots), out)


def test_documents_grow_with_the_cache():
    ids = [0, 0, 1, 1, 1, 2]
    layer, x = layer_of(), inputs(T=6)

    def so_far(n):
        return causal & documents(ids[:n])

    out = in_chunks(layer, x, so_far, (2, 3, 1), KVCache(6))
    close(out, layer(x, so_far(6)))
    # All ids may be given at once, too.
    out = in_chunks(layer, x, causal & documents(ids), (2, 3, 1), KVCache(6))
    close(out, layer(x, so_far(6)))


@every_kind
def test_slots_written_out_mean_the_default(kind):
    layer, x, mask = layer_of(rotate=rotate), inputs(), kinds_of_mask(7)[kind]
    expected = layer(x, mask)
    for slots in (torch.arange(7), torch.arange(7).expand(2, 7)):
        close(layer(x, mask, slots=slots), expected)
        close(layer(x, mask, slots=slots, positions=slots), expected)


def test_a_tensor_whose_columns_are_no_slots_is_refused():
    layer, x = layer_of(), inputs()
    slots = torch.tensor([[-1, -1, 0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5, 6]])
    tensor, cache = causal.matrix(7), KVCache(7)
    told = r"expected a rule .* got a boolean tensor \(7, 7\).* Pass the rule"
    with pytest.raises(ValueError, match=told):
        layer(x, tensor, cache=cache, slots=slots)
    assert cache.length == 0
    layer(x, causal, cache=cache, slots=slots)
    # Where column j holds slot j of every row, a tensor says the same as a rule.
    out = layer(x, tensor, cache=KVCache(7), slots=torch.arange(7))
    close(out, layer(x, causal))


@pytest.mark.parametrize("recorded", [False, True])
def test_one_cached_query_needs_no_mask(recorded):
    layer, x = layer_of(rotate=rotate), inputs()
    expected = layer(x, causal)[:, 6:]
    for mask in (causal, None):
        cache = KVCache(7)
        layer(x[:, :6], causal, cache=cache)
        if recorded:
            with record_weights(layer) as weights:
                out = layer(x[:, 6:], mask, cache=cache)
            assert weights[""].shape == (2, 6, 1, 7)
        else:
            out = layer(x[:, 6:], mask, cache=cache)
        close(out, expected)


def test_reordered_rows_go_on_as_their_parents():
    layer, x = layer_of(rotate=rotate), inputs(B=3)
    cache, rows = KVCache(7), torch.tensor([2, 0, 2, 1])
    layer(x[:, :4], causal, cache=cache)
    cache.reorder(rows)
    close(layer(x[rows, 4:], causal, cache=cache), layer(x[rows], causal)[:, 4:])


# --- Cross-attention ---------------------------------------------------------


def test_cross_attention_reads_keys_and_values_from_the_context():
    layer, x, context = layer_of(n_kv_heads=2), inputs(T=4), inputs(T=9)
    q = split_heads(layer.query(x), 6)
    k, v = (split_heads(f(context), 2) for f in (layer.key, layer.value))
    k, v = (t.repeat_interleave(3, dim=1) for t in (k, v))
    for mask in (None, full, padding([9, 5]), prefix(3)):
        out, _ = attention(q, k, v, mask)
        close(layer(x, mask, context=context), layer.output(merge_heads(out)))


@pytest.mark.parametrize("mask", [None, padding([9, 5])], ids=repr)
def test_a_cached_context_is_read_once(mask):
    layer, x, context = layer_of(), inputs(T=4), inputs(T=9)
    expected, cache = layer(x, mask, context=context), KVCache(9)
    steps = [
        # After the first step the context is not read, so it may be anything.
        layer(
            x[:, t, None], mask, context=context if t == 0 else 0 * context, cache=cache
        )
        for t in range(4)
    ]
    close(torch.cat(steps, dim=1), expected)
    assert cache.length == 9


def test_every_query_sees_the_whole_context_and_no_other_query():
    layer, x, context = layer_of(), inputs(T=4)[0], inputs(T=9)[0]

    def by_context(c):
        return layer(x[None], context=c[None])[0]

    def by_query(q):
        return layer(q[None], context=context[None])[0]

    assert influence(by_context, context).all()
    assert torch.equal(influence(by_query, x), torch.eye(4).bool())


# --- Manners -----------------------------------------------------------------


def test_neither_input_nor_mask_nor_positions_are_changed():
    layer, x, positions = layer_of(rotate=rotate), inputs(), torch.arange(7)
    mask = causal.matrix(7)
    for cache in (None, KVCache(7), KVCache(reach=Reach(7))):
        layer(x, mask, cache=cache)
        layer(x, causal, positions=positions)
        layer(x[:, :3], causal, context=x)
    assert x._version == positions._version == mask._version == 0


def test_outputs_are_those_of_pytorchs_own_module():
    layer, x = MultiHeadAttention(12, 3).double(), inputs(C=12)
    theirs = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(
            torch.cat([m.weight for m in (layer.query, layer.key, layer.value)])
        )
        theirs.out_proj.weight.copy_(layer.output.weight)
    # There, True means hidden.
    expected, weights = theirs(
        x, x, x, attn_mask=~causal.matrix(7), average_attn_weights=False
    )
    close(layer(x, causal), expected)
    with record_weights(layer) as recorded:
        layer(x, causal)
    close(recorded[""], weights)


def test_scores_are_scaled_by_the_size_of_a_head():
    layer, x = layer_of(d_head=9), inputs()
    with record_weights(layer) as weights:
        layer(x)
    q, k = (split_heads(f(x), 6) for f in (layer.query, layer.key))
    close(weights[""], torch.softmax(q @ k.mT / math.sqrt(9), dim=-1))
