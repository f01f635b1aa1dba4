"""Keys and values already seen: what a cache holds, and in which slots."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mattn import (
    Config,
    Decoder,
    KVCache,
    MultiHeadAttention,
    Reach,
    causal,
    documents,
    prefix,
    rule,
    window,
)
from mattn.checks import same


def tokens(*numbers: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys (1, 2, T, 3), values (1, 2, T, 5) and slots that carry their number."""
    n = torch.tensor(numbers, dtype=torch.float64)
    k = n[:, None].expand(1, 2, -1, 3).clone()
    v = -n[:, None].expand(1, 2, -1, 5).clone()
    return k, v, torch.tensor(numbers)


def numbers(contents) -> list[int]:
    """The tokens in a cache as they lie; key, value and slot must agree."""
    k, v, slots = contents
    n = slots.tolist()
    expected_k, expected_v, _ = tokens(*n)
    assert torch.equal(k, expected_k)
    assert torch.equal(v, expected_v)
    return n


def ring(behind: int, sinks: int = 0) -> KVCache:
    return KVCache(reach=Reach(behind, 0, sinks))


def test_a_plain_cache_keeps_everything_in_order():
    cache = KVCache(5)
    assert numbers(cache.extend(*tokens(0, 1))) == [0, 1]
    assert numbers(cache.extend(*tokens(2))) == [0, 1, 2]
    assert numbers(cache.extend(*tokens(3, 4))) == [0, 1, 2, 3, 4]
    assert numbers(cache.contents()) == [0, 1, 2, 3, 4]
    assert cache.length == 5


def test_a_plain_cache_refuses_what_it_cannot_hold_and_stays_as_it_was():
    cache = KVCache(3)
    cache.extend(*tokens(0, 1))
    for slots in (tokens(2, 3), tokens(2, 3)[:2]):
        with pytest.raises(ValueError, match="at most 3 tokens; got 4"):
            cache.extend(*slots)
    assert cache.length == 2
    assert numbers(cache.contents()) == [0, 1]


def test_a_ring_keeps_the_last_tokens():
    cache = ring(3)
    assert numbers(cache.extend(*tokens(0, 1))) == [0, 1]
    assert numbers(cache.extend(*tokens(2))) == [0, 1, 2]
    assert numbers(cache.extend(*tokens(3))) == [3, 1, 2]
    # The first query of a chunk still sees what the chunk pushes out.
    assert numbers(cache.extend(*tokens(4, 5))) == [3, 1, 2, 4, 5]
    assert numbers(cache.contents()) == [3, 4, 5]
    assert numbers(cache.extend(*tokens(6, 7, 8, 9))) == [3, 4, 5, 6, 7, 8, 9]
    assert numbers(cache.contents()) == [9, 7, 8]
    assert cache.length == 10


def test_sinks_stay():
    cache = ring(2, sinks=2)
    for n in range(9):
        seen = numbers(cache.extend(*tokens(n)[:2]))
    assert seen == [0, 1, 8, 7]
    assert numbers(cache.extend(*tokens(9, 10, 11))) == [0, 1, 8, 7, 9, 10, 11]
    assert numbers(cache.contents()) == [0, 1, 10, 11]


def test_a_first_chunk_longer_than_the_ring():
    cache = ring(3)
    assert numbers(cache.extend(*tokens(0, 1, 2, 3, 4))) == [0, 1, 2, 3, 4]
    assert sorted(numbers(cache.contents())) == [2, 3, 4]
    assert sorted(numbers(cache.extend(*tokens(5)))) == [3, 4, 5]


def test_a_ring_takes_memory_once():
    cache = ring(4)
    cache.extend(*tokens(0))
    memory = cache.contents()[0].data_ptr()
    for n in range(1, 20):
        cache.extend(*tokens(n))
    assert cache.contents()[0].data_ptr() == memory
    assert cache.contents()[0].shape == (1, 2, 4, 3)


def test_a_reach_within_the_capacity_needs_no_more():
    assert KVCache(100, reach=Reach(4, 0, 1)).n_held == 5
    assert KVCache(5, reach=Reach(8, 0)).n_held == 5
    assert KVCache(5).n_held == 5


def padded() -> tuple[torch.Tensor, torch.Tensor]:
    """Keys (3, 2, 2, 5) of rows of 2, 1 and no tokens, and their slots."""
    k = torch.arange(6.0).view(3, 1, 2, 1).expand(3, 2, 2, 5).clone()
    return k, torch.tensor([[0, 1], [-1, 0], [-1, -1]])


@pytest.mark.parametrize("cache", [KVCache(4), ring(4), ring(2, sinks=2)])
def test_rows_of_different_lengths_lie_by_their_slots(cache):
    k, slots = padded()
    seen_k, seen_v, seen = cache.copy().extend(k, -k, slots)
    real = {(b, s): k[b, :, t] for b, row in enumerate(slots.tolist())
            for t, s in enumerate(row) if s >= 0}  # fmt: skip
    found = {(b, s): (seen_k[b, :, t], seen_v[b, :, t])
             for b, row in enumerate(seen.tolist())
             for t, s in enumerate(row) if s >= 0}  # fmt: skip
    assert found.keys() == real.keys()
    for place, (key, value) in found.items():
        assert torch.equal(key, real[place])
        assert torch.equal(value, -real[place])


@pytest.mark.parametrize("cache", [KVCache(14), ring(4)])
def test_reorder_moves_rows_with_their_slots(cache):
    cache = cache.copy()
    k, slots = padded()
    cache.extend(k, -k, slots)
    before = cache.contents()
    rows = torch.tensor([2, 0, 0, 1])
    cache.reorder(rows)
    for now, was in zip(cache.contents(), before, strict=True):
        assert torch.equal(now, was[rows])
    # Copies of a row are independent of each other afterwards.
    step = torch.arange(4.0)[:, None, None, None].expand(4, 2, 1, 5)
    seen_k, _, seen = cache.extend(step, step, torch.arange(4)[:, None] + 10)
    for b in range(4):
        assert torch.equal(seen_k[b][:, seen[b] == 10 + b], step[b])


def test_reorder_with_slots_common_to_all_rows():
    cache = KVCache(4)
    k = torch.arange(2.0)[:, None, None, None].expand(2, 1, 3, 5).clone()
    cache.extend(k, k, torch.arange(3))
    cache.reorder(torch.tensor([1]))
    new_k, _, slots = cache.contents()
    assert torch.equal(new_k, k[1:])
    assert slots.tolist() == [0, 1, 2]


def test_no_gradient_flows_through_what_is_kept():
    k, v, slots = tokens(0, 1)
    k.requires_grad_(), v.requires_grad_()
    cache = KVCache(4)
    cache.extend(k * 2, v * 2, slots)
    assert not any(t.requires_grad for t in cache.contents())


def test_the_cache_keeps_copies():
    k, v, slots = tokens(0, 1)
    cache = KVCache(4)
    cache.extend(k, v, slots)
    k.zero_(), v.zero_(), slots.zero_()
    assert numbers(cache.contents()) == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_memory_is_of_the_dtype_of_the_keys(dtype):
    k, v, slots = tokens(0, 1)
    cache = KVCache(4)
    cache.extend(k.to(dtype), v.to(dtype), slots)
    assert {t.dtype for t in cache.contents()[:2]} == {dtype}


# --- Whatever the rule ---------------------------------------------------------

T = 12
bounded = st.tuples(st.integers(1, 5), st.integers(0, 3))
RULES = st.one_of(
    st.just(causal),
    st.integers(0, 4).map(lambda n: causal & documents([0] * n + [1] * (T - n))),
    bounded.map(lambda b: causal & (window(b[0]) | prefix(b[1]))),
    bounded.map(
        lambda b: rule(
            lambda b_, q, k: (k <= q) & ((q - k < b[0]) & (k % 2 < 1) | (k < b[1])),
            behind=b[0],
            ahead=0,
            sinks=b[1],
        )
    ),
    st.integers(0, 4).map(lambda n: causal | prefix(n)),
)


@given(RULES, st.sampled_from([1, 3, 7]), st.booleans())
def test_a_cache_that_knows_a_reach_equals_the_whole_and_holds_no_more(
    mask, step, by_row
):
    layer = MultiHeadAttention(8, 2).double()
    x = torch.randn(2, T, 8, dtype=torch.float64)
    cache, outs, start = KVCache(T, reach=mask.reach()), [], 0
    while start < T:
        # A prefix is read at once: its queries wait for all of it.
        stop = min(T, start + step)
        while mask.waits(stop, T):
            stop += 1
        slots = torch.arange(start, stop)
        slots = slots.expand(2, -1) if by_row else None
        outs.append(layer(x[:, start:stop], mask, cache=cache, slots=slots))
        start = stop
    same(torch.cat(outs, dim=1), layer(x, mask))
    assert cache.contents()[0].shape[2] <= min(mask.reach().size, T)


# --- Drafts ------------------------------------------------------------------

SIZES = {"n_symbols": 11, "d_model": 16, "n_layers": 2, "n_heads": 2}


def model_of(mask, **options):
    model = Decoder(Config(**SIZES, **options), mask).double().eval()
    for table in model.n_grams.tables if model.n_grams else ():
        torch.nn.init.normal_(table.weight)
    return model


MASKS = [causal, causal & window(5), (causal, causal & window(3) | prefix(1) & causal)]


@torch.no_grad()
@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize("n_grams", [1, 3])
@pytest.mark.parametrize("by_row", [False, True])
def test_a_draft_is_taken_back_or_refused_as_a_whole(mask, n_grams, by_row):
    model = model_of(mask, n_grams=n_grams)
    x, cache = torch.randint(11, (2, 9)), None
    slots = torch.arange(9) - torch.tensor([[0], [1]]) if by_row else None

    def at(*where):
        return None if slots is None else slots[:, slice(*where)].clamp(min=-1)

    cache = model.new_cache(14)
    model(x[:, :4], cache=cache, slots=at(4))
    before = cache.copy()
    model(torch.randint(11, (2, 3)), cache=cache)
    ends = torch.tensor([4, 3]) if by_row else 4
    if any(part.wraps for part in cache.own):
        with pytest.raises(ValueError, match="Copy the cache before"):
            cache.crop(ends)
        assert {part.length for part in cache.parts} == {7}
        cache = before
    else:
        cache.crop(ends)
    out = model(x[:, 4:], cache=cache)
    same(out, model(x, slots=at(None))[:, 4:])


@torch.no_grad()
def test_slots_that_are_left_out_are_seen_no_more():
    model, x = model_of(causal), torch.randint(11, (1, 8))
    cache = model.new_cache(8)
    model(x[:, :6], cache=cache)
    cache.keep(torch.tensor([0, 4, 5]))
    out = model(x[:, 6:], cache=cache)

    # The first queries see as before; those of slots 6 and 7 miss 1, 2 and 3.
    mask = causal & rule(lambda b, q, k: (q < 6) | (k < 1) | (k > 3))
    same(out, model_as(model, mask)(x)[:, 6:])
    assert (out - model(x)[:, 6:]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="slots that are held"):
        cache.keep(torch.tensor([1]))


def model_as(model, mask):
    """The same weights under another rule."""
    other = Decoder(model.config, mask).double().eval()
    other.load_state_dict(model.state_dict())
    return other
