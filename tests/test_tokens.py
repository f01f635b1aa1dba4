"""Characters, windows, padding, batches of stories."""

import itertools

import pytest
import torch

from mattn.data import Characters, padded, random_windows, story_batches, windows


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def test_characters_there_and_back():
    text = "to be, or not to be\n"
    characters = Characters(text)
    assert characters.symbols == sorted(set(text))
    assert len(characters) == len(set(text))
    tokens = characters.encode(text)
    assert tokens.dtype == torch.long
    assert characters.decode(tokens) == text
    assert characters.decode(tokens.tolist()) == text
    assert characters.encode("").shape == (0,)
    with pytest.raises(ValueError, match="'z'"):
        characters.encode("zoo")


def test_windows_cover_the_text_once():
    tokens = torch.arange(23)
    apart = windows(tokens, length=5)
    assert torch.equal(apart.flatten(), torch.arange(20))
    joined = windows(tokens, length=5, overlap=1)
    assert joined[:, 0].tolist() == [0, 4, 8, 12, 16]
    assert joined[:, 1:].flatten().tolist() == list(range(1, 21))


def test_random_windows_are_pieces_of_the_text_and_repeat_with_the_seed():
    tokens = torch.arange(50)
    batches = random_windows(tokens, n_rows=4, length=7, generator=draw())
    first, second = next(batches), next(batches)
    assert first.shape == (4, 7)
    assert (first.diff(dim=1) == 1).all()
    assert not torch.equal(first, second)
    again = random_windows(tokens, n_rows=4, length=7, generator=draw())
    assert torch.equal(next(again), first)
    starts = {
        int(row[0])
        for batch in itertools.islice(
            random_windows(tokens, n_rows=99, length=7, generator=draw()), 20
        )
        for row in batch
    }
    assert starts == set(range(44))  # every place, the last one too


@pytest.mark.parametrize("length", [1, 6])
def test_windows_that_do_not_fit_are_refused(length):
    with pytest.raises(ValueError, match=f"2 to 5 tokens.*got {length}"):
        windows(torch.arange(5), length=length)
    with pytest.raises(ValueError, match="2 to 5"):
        next(random_windows(torch.arange(5), n_rows=1, length=9, generator=draw()))


def test_padded():
    rows, lengths = padded([[1, 2, 3], [4], [5, 6]], filler=0)
    assert rows.tolist() == [[1, 2, 3], [4, 0, 0], [5, 6, 0]]
    assert lengths.tolist() == [3, 1, 2]


def test_story_batches_read_every_story_once_a_pass():
    stories = [[10 + i] * (1 + i % 5) for i in range(11)]
    batches = story_batches(stories, n_rows=4, filler=9, start=8, generator=draw())
    orders = []
    for _ in range(3):
        rows = [row for batch in itertools.islice(batches, 3) for row in batch.tolist()]
        assert all(row[0] == 8 for row in rows)
        read = [[t for t in row[1:] if t != 9] for row in rows]
        assert sorted(read) == sorted(stories)
        orders.append(read)
    assert orders[0] != orders[1] or orders[1] != orders[2]
    padding = sum(row.count(9) for row in rows)
    assert padding <= sum(max(map(len, stories)) for _ in range(4))
