"""Keys and values already seen: what a cache holds, and in which slots."""

import pytest
import torch

from mattn import KVCache


def tokens(*numbers: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys (1, 2, T, 3), values (1, 2, T, 5) and positions that carry their number."""
    n = torch.tensor(numbers, dtype=torch.float64)
    k = n[:, None].expand(1, 2, -1, 3).clone()
    v = -n[:, None].expand(1, 2, -1, 5).clone()
    return k, v, torch.tensor(numbers)


def numbers(contents) -> list[int]:
    """The tokens in a cache, in slot order; key, value and position must agree."""
    k, v, positions = contents
    n = positions.tolist()
    expected_k, expected_v, _ = tokens(*n)
    assert torch.equal(k, expected_k)
    assert torch.equal(v, expected_v)
    return n


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
    with pytest.raises(ValueError, match="at most 3 tokens; got 4"):
        cache.extend(*tokens(2, 3))
    assert cache.length == 2
    assert numbers(cache.contents()) == [0, 1]


def test_a_ring_keeps_the_last_tokens():
    cache = KVCache(3, ring=True)
    assert numbers(cache.extend(*tokens(0, 1))) == [0, 1]
    assert numbers(cache.extend(*tokens(2))) == [0, 1, 2]
    assert numbers(cache.extend(*tokens(3))) == [3, 1, 2]
    # The first query of a chunk still sees what the chunk pushes out.
    assert numbers(cache.extend(*tokens(4, 5))) == [3, 1, 2, 4, 5]
    assert numbers(cache.contents()) == [3, 4, 5]
    assert numbers(cache.extend(*tokens(6, 7, 8, 9))) == [3, 4, 5, 6, 7, 8, 9]
    assert numbers(cache.contents()) == [9, 7, 8]
    assert cache.length == 10


def test_a_first_chunk_longer_than_the_ring():
    cache = KVCache(3, ring=True)
    assert numbers(cache.extend(*tokens(0, 1, 2, 3, 4))) == [0, 1, 2, 3, 4]
    assert sorted(numbers(cache.contents())) == [2, 3, 4]
    assert sorted(numbers(cache.extend(*tokens(5)))) == [3, 4, 5]


def test_a_ring_takes_memory_once():
    cache = KVCache(4, ring=True)
    cache.extend(*tokens(0))
    memory = cache.contents()[0].data_ptr()
    for n in range(1, 20):
        cache.extend(*tokens(n))
    assert cache.contents()[0].data_ptr() == memory
    assert cache.contents()[0].shape == (1, 2, 4, 3)


@pytest.mark.parametrize("ring", [False, True])
def test_reorder_moves_rows_with_their_positions(ring):
    cache = KVCache(4, ring=ring)
    k = torch.arange(3.0)[:, None, None, None].expand(3, 2, 2, 5).clone()
    positions = torch.tensor([[0, 1], [-1, 0], [-2, -1]])
    cache.extend(k, -k, positions)
    rows = torch.tensor([2, 0, 0, 1])
    cache.reorder(rows)
    new_k, new_v, new_positions = cache.contents()
    assert torch.equal(new_k, k[rows])
    assert torch.equal(new_v, -k[rows])
    assert torch.equal(new_positions, positions[rows])
    # Copies of a row are independent of each other afterwards.
    step = torch.arange(4.0)[:, None, None, None].expand(4, 2, 1, 5)
    k_seen, _, p_seen = cache.extend(step, step, torch.arange(4)[:, None] + 10)
    assert torch.equal(k_seen[:, :, 2:], step)
    assert p_seen[:, 2].tolist() == [10, 11, 12, 13]


def test_reorder_with_positions_common_to_all_rows():
    cache = KVCache(4)
    k = torch.arange(2.0)[:, None, None, None].expand(2, 1, 3, 5).clone()
    cache.extend(k, k, torch.arange(3))
    cache.reorder(torch.tensor([1]))
    new_k, _, positions = cache.contents()
    assert torch.equal(new_k, k[1:])
    assert positions.tolist() == [0, 1, 2]


def test_no_gradient_flows_through_what_is_kept():
    k, v, positions = tokens(0, 1)
    k.requires_grad_(), v.requires_grad_()
    cache = KVCache(4)
    cache.extend(k * 2, v * 2, positions)
    assert not any(t.requires_grad for t in cache.contents())


def test_the_cache_keeps_copies():
    k, v, positions = tokens(0, 1)
    cache = KVCache(4)
    cache.extend(k, v, positions)
    k.zero_(), v.zero_(), positions.zero_()
    assert numbers(cache.contents()) == [0, 1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_memory_is_of_the_dtype_of_the_keys(dtype):
    k, v, positions = tokens(0, 1)
    cache = KVCache(4)
    cache.extend(k.to(dtype), v.to(dtype), positions)
    assert {t.dtype for t in cache.contents()[:2]} == {dtype}
