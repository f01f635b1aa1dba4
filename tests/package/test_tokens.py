"""Characters, windows, padding, batches of stories.

What is refused runs in a process of its own, without the checks of shapes: this
file, executed as a program.
"""

import itertools
import json
import re

import numpy as np
import pytest
import torch
from refusals import messages, printed

from mattn.data import (
    BytePairs,
    Characters,
    MarkovSource,
    Words,
    padded,
    pair_batches,
    random_windows,
    story_batches,
    windows,
)
from mattn.data.translation.numerals import (
    chinese_number,
    english_ordinal,
    english_year,
)


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


def test_a_filler_that_a_row_contains_is_refused():
    # Padding and a real target, here the end of each text, would look alike.
    with pytest.raises(ValueError, match=r"filler that no row contains; got 0.*row 0"):
        padded([[1, 2, 0], [1, 2, 3, 4, 0]], filler=0)
    # The first token is no target: what begins each row may also fill it.
    rows, lengths = padded([[9, 1, 2], [9]], filler=9)
    assert rows.tolist() == [[9, 1, 2], [9, 9, 9]]
    assert lengths.tolist() == [3, 1]
    # A number that is no token at all, as some losses take it.
    assert padded([[1], [1, 2]], filler=-100)[0].tolist() == [[1, -100], [1, 2]]


def test_a_filler_that_a_story_contains_is_refused_at_once():
    given = {"n_rows": 2, "start": 9, "generator": draw()}
    with pytest.raises(ValueError, match=r"got 1, which row 1"):
        story_batches([[2, 3], [1]], filler=1, **given)
    with pytest.raises(ValueError, match="got 9"):
        story_batches([[2, 9]], filler=9, **given)
    batch = next(story_batches([[2, 3], [1]], filler=9, **given))
    assert batch.tolist() == [[9, 1, 9], [9, 2, 3]]


@pytest.mark.parametrize("kind", [np.array, torch.tensor, tuple])
def test_rows_of_every_kind(kind):
    rows, lengths = padded([kind([1, 2, 3]), kind([4])], filler=0)
    assert rows.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert lengths.tolist() == [3, 1]
    assert {rows.dtype, lengths.dtype} == {torch.long}


def test_padding_of_nothing():
    for rows, shape in ((([]), (0, 0)), ([[]], (1, 0)), ([[], [5]], (2, 1))):
        got, lengths = padded(rows, filler=0)
        assert got.shape == shape
        assert lengths.tolist() == [len(row) for row in rows]
        assert {got.dtype, lengths.dtype} == {torch.long}


def text(**given):
    return lambda: windows(**{"tokens": torch.arange(9), "length": 3} | given)


def drawn(**given):
    whole = {"tokens": torch.arange(9), "n_rows": 2, "length": 3, "generator": draw()}
    return lambda: random_windows(**whole | given)


def told(**given):
    whole = {"stories": [[1, 2]], "n_rows": 1, "filler": 0, "start": 9}
    return lambda: story_batches(**whole | {"generator": draw()} | given)


def paired(pairs=(([4], [5]),), n_tokens=9):
    return lambda: pair_batches(pairs, n_tokens=n_tokens, generator=draw())


letters, words = Characters("abc"), Words(["one", "two"])

# Each is refused where it is called, also by what yields batches later.
REFUSED = {
    "no stories": (told(stories=[]), "at least one story; got none"),
    "no rows of stories": (told(n_rows=0), "n_rows >= 1; got 0"),
    "half a row": (told(n_rows=1.5), "n_rows >= 1; got 1.5"),
    "a negative start": (told(start=-1), "start: expected a token"),
    "a story in words": (told(stories=["ab"]), "story 0: expected"),
    "floats as a story": (told(stories=[[1.0]]), "story 0: expected a token"),
    "no rows of windows": (drawn(n_rows=0), "n_rows >= 1; got 0"),
    "windows too long": (drawn(length=10), "2 to 9 tokens.*got 10"),
    "windows of a word": (drawn(length="3"), "length >= 0; got '3'"),
    "a text of floats": (drawn(tokens=torch.ones(9)), "integer dtype and 1 axes"),
    "a text of two axes": (text(tokens=torch.ones(3, 3).long()), "and 1 axes"),
    "a negative text": (text(tokens=[-1, 2, 3]), "tokens 0 and more; got -1 to 3"),
    "an empty text": (text(tokens=[]), "the length of the text; got 3"),
    "overlap of all": (text(overlap=3), "overlap < length, 3; got 3"),
    "overlap of more": (text(overlap=4), "overlap < length, 3; got 4"),
    "negative overlap": (text(overlap=-1), "overlap >= 0; got -1"),
    "negative rows": (lambda: padded([[-1]], filler=0), "row 0: expected a token"),
    "a flat list": (lambda: padded([1, 2], filler=0), "row 0: .*got 1.*brackets"),
    "a float to fill": (lambda: padded([[1]], filler=0.0), "filler"),
    "a letter -1": (lambda: letters.decode([-1]), "a token of 0 to 2; got -1"),
    "a letter V": (lambda: letters.decode(torch.tensor([3])), "0 to 2; got 3"),
    "half a letter": (lambda: letters.decode([0.5]), "a token.*got 0.5"),
    "a word -1": (lambda: words.decode([4, -1]), "a token of 0 to 5; got -1"),
    "a word V": (lambda: words.decode([6]), "a token of 0 to 5; got 6"),
    "one string": (lambda: Words("one two"), "a list of str; got 'one two'"),
    "a special word": (lambda: Words(["a", "<pad>"]), r"got \['<pad>'\]"),
    "a number as a word": (lambda: words.encode([1]), "a list of str"),
    "no sentences": (lambda: BytePairs("abc", 99), "a list of str"),
    "no pairs": (paired(pairs=()), "pairs with at least one source token"),
    "an empty source": (paired(pairs=[([], [5])]), "at least one source token"),
    "no pair": (paired(pairs=[([4],)]), r"pairs \(source, target\); got"),
    "padding in a pair": (paired(pairs=[([4], [5, 0])]), "no padding, token 0"),
    "floats in a pair": (paired(pairs=[([4.0], [5])]), "pair 0: expected a token"),
    "no room": (paired(n_tokens=0), "n_tokens >= 1; got 0"),
    "NaN": (lambda: MarkovSource(concentration=float("nan")), "concentration > 0"),
    "endless": (lambda: MarkovSource(concentration=float("inf")), "concentration > 0"),
    "too many": (lambda: MarkovSource(1000, 3), r"<= 10000.*got 1000 \*\* 3"),
    "float symbols": (lambda: MarkovSource(8.0), "n_symbols >= 2; got 8.0"),
    "a negative number": (lambda: english_ordinal(-1), "99,999"),
    "half a number": (lambda: chinese_number(0.5), "99,999.*got 0.5"),
    "no number": (lambda: chinese_number(True), "99,999.*got True"),
    "an early year": (lambda: english_year(84), "110 to 9999"),
    "a late year": (lambda: english_year(19_984), "110 to 9999"),
}


@pytest.fixture(scope="module")
def raised():
    return printed(__file__)


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_at_once(raised, name):
    kind, message = raised[name]
    assert kind == "ValueError", message
    assert re.search(REFUSED[name][1], message), message
    assert "expected" in message


def test_ordinals_of_tens():
    tens = [" ".join(english_ordinal(n)) for n in range(20, 100, 10)]
    assert tens == [
        *("twentieth", "thirtieth", "fortieth", "fiftieth"),
        *("sixtieth", "seventieth", "eightieth", "ninetieth"),
    ]
    assert english_ordinal(44) == ["forty", "fourth"]
    assert english_ordinal(140)[-1] == "fortieth"
    assert english_ordinal(100) == ["one", "hundredth"]


def test_markov_of_other_kinds_and_of_nothing():
    source = MarkovSource(3, 2)
    tokens = source.sample(5, 6, generator=draw())
    for other in (tokens.to(torch.uint8), tokens.short(), tokens.T.contiguous().T):
        assert torch.equal(source.log_probs(other), source.log_probs(tokens))
    assert source.sample(0, 4, generator=draw()).shape == (0, 4)
    assert source.log_probs(torch.zeros(0, 4).long()).shape == (0, 4)
    assert source.log_probs(torch.zeros(2, 0).long()).shape == (2, 0)


if __name__ == "__main__":
    print(json.dumps(messages({name: call for name, (call, _) in REFUSED.items()})))
