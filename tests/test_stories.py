"""The grammar: exact entropy, unambiguous, out of reach of n-grams."""

import itertools
import math
from collections import Counter

import pytest
import torch

from mattn.data import Grammar, stories
from mattn.data.stories import END
from mattn.metrics import NGram


@pytest.fixture(scope="module")
def grammar():
    return stories()


@pytest.fixture(scope="module")
def sample(grammar):
    return grammar.sample(3000, generator=torch.Generator().manual_seed(0))


def mean_and_error(values):
    values = torch.tensor(values, dtype=torch.float64)
    return float(values.mean()), float(values.std() / math.sqrt(len(values)))


def within(values, exact, errors=3):
    mean, error = mean_and_error(values)
    return abs(mean - exact) < errors * error


# --- Entropy ---


def test_entropy_is_the_mean_information_of_stories(grammar, sample):
    assert within([-sum(grammar.log_probs(s)) for s in sample], grammar.entropy)
    assert within([len(s) for s in sample], grammar.expected_tokens)
    characters = [len(grammar.text(s)) + 1 for s in sample]
    assert within(characters, grammar.expected_characters)


def test_entropy_per_token_and_character(grammar):
    per_token = grammar.entropy / grammar.expected_tokens
    assert grammar.entropy_per_token == per_token
    bits = grammar.entropy / grammar.expected_characters / math.log(2)
    assert abs(grammar.entropy_per_character - bits) < 1e-12
    assert 0 < per_token < math.log(len(grammar.vocabulary))


TINY = {
    "START": [(1.0, ("a=WHO", "saw", "BODY", "$a", "$a:verb"))],
    "WHO": [(0.25, ("ann",)), (0.75, ("bob",))],
    "BODY": [(0.4, ("x", "BODY")), (0.6, ())],
}
TABLES = {"verb": {"ann": "ran", "bob": "sat"}}


def every_story(grammar, longest):
    """Each sequence that the grammar can write, found by trying all words."""
    found = {}
    words = range(1, len(grammar.vocabulary))
    for n in range(1, longest + 1):
        for story in itertools.product(words, repeat=n):
            try:
                found[story] = math.exp(sum(grammar.log_probs([*story, 0])))
            except ValueError:
                continue
    return found


def test_brute_force_on_a_small_grammar():
    # 'ann saw x … x ann ran': of at most 6 words, all but 0.4³ of the mass.
    grammar = Grammar(TINY, TABLES)
    found = every_story(grammar, 6)
    assert len(found) == 2 * 3
    assert abs(sum(found.values()) - (1 - 0.4**3)) < 1e-12
    for story, p in found.items():
        words = [grammar.vocabulary[t] for t in story]
        n = words.count("x")
        assert abs(p - (0.25 if words[0] == "ann" else 0.75) * 0.4**n * 0.6) < 1e-12


def test_entropy_by_brute_force_on_a_truncated_grammar():
    # BODY at most twice: a grammar of finitely many stories, summed one by one.
    rules = TINY | {
        "BODY": [(0.4, ("x", "MORE")), (0.6, ())],
        "MORE": [(0.3, ("x",)), (0.7, ())],
    }
    grammar = Grammar(rules, TABLES)
    found = every_story(grammar, 6)
    assert abs(sum(found.values()) - 1) < 1e-12
    entropy = -sum(p * math.log(p) for p in found.values())
    assert abs(grammar.entropy - entropy) < 1e-12
    tokens = sum(p * (len(story) + 1) for story, p in found.items())
    assert abs(grammar.expected_tokens - tokens) < 1e-12
    characters = sum(p * (len(grammar.text(s)) + 1) for s, p in found.items())
    assert abs(grammar.expected_characters - characters) < 1e-12


def test_entropy_of_the_recursive_grammar_by_hand():
    # H(0.25) for the name; a geometric number of x: H(0.4) each of 1/0.6 choices.
    def h(p):
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    grammar = Grammar(TINY, TABLES)
    assert abs(grammar.entropy - (h(0.25) + h(0.4) / 0.6)) < 1e-12
    assert abs(grammar.expected_tokens - (5 + 0.4 / 0.6)) < 1e-12


def test_choices_at_one_place_sum_to_one(grammar):
    # Of many stories every opening occurs: name, then 'lived', then a place.
    stories = grammar.sample(1500, generator=torch.Generator().manual_seed(3))
    for t in (0, 2):
        seen = {}
        for story in stories:
            p = math.exp(grammar.log_probs(story)[t])
            seen.setdefault(tuple(story[:t]), {})[story[t]] = p
        for options in seen.values():
            assert abs(sum(options.values()) - 1) < 1e-12


# --- The language ---


def test_stories_are_read_as_they_are_written(grammar, sample):
    for story in sample[:200]:
        assert grammar.encode(grammar.text(story)) == story
        assert story[-1] == grammar.vocabulary.index(END) == 0
    assert grammar.sample(5, generator=torch.Generator().manual_seed(0)) == sample[:5]


def test_names_and_numbers_come_back(grammar, sample):
    she, he = grammar.vocabulary.index("she"), grammar.vocabulary.index("he")
    for story in sample[:200]:
        words = [grammar.vocabulary[t] for t in story]
        found = words.index("found")
        number, thing = words[found + 1], words[found + 2]
        assert words[-3:-1] == [number, "."]
        assert words[-9] == thing
        assert words[words.index("counted") - 1] == words[0]
        assert (she in story) != (he in story)


def test_a_wrong_reference_or_word_is_refused(grammar, sample):
    story = list(sample[0])
    other = next(s[-3] for s in sample if s[-3] != story[-3])
    assert grammar.accepts(story)
    assert not grammar.accepts([*story[:-3], other, *story[-2:]])
    assert not grammar.accepts([])
    with pytest.raises(ValueError, match=f"at token {len(story) - 3}"):
        grammar.log_probs([*story[:-3], other, *story[-2:]])
    with pytest.raises(ValueError, match="not a story"):
        grammar.log_probs(story[:-1])
    with pytest.raises(ValueError, match="not a story"):
        grammar.log_probs([*story, 0])
    with pytest.raises(ValueError, match="expected tokens 0 to"):
        grammar.log_probs([*story, len(grammar.vocabulary)])
    with pytest.raises(ValueError, match="zebra"):
        grammar.encode("the zebra sang")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"START": [(0.5, ("a",)), (0.5, ("a", "b"))]}, "two options of START"),
        (
            {"START": [(1.0, ("A", "b"))], "A": [(0.5, ("b",)), (0.5, ())]},
            "two options of A can begin with 'b'",
        ),
        (
            {"START": [(0.5, ("A",)), (0.5, ("B",))], "A": [(1, "x")], "B": [(1, "x")]},
            "two options of START can begin with 'x'",
        ),
        ({"START": [(0.5, ("a",)), (0.4, ("b",))]}, "sum to 1"),
        (
            {"START": [(0.6, ("a", "START", "b", "START", "c")), (0.4, ())]},
            "finite mean",
        ),
    ],
)
def test_what_could_be_ambiguous_or_endless_is_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        print(Grammar(rules).entropy)


# --- n-grams cannot reach it ---


def test_a_trigram_loses_at_least_name_thing_and_number(grammar, sample):
    """'at last NAME counted the THING again . there were still NUMBER .'

    The two words before each of the three are the same in every story. Given
    them alone eight words are equally probable: a loss of ln 8 where the
    source has 0, three times a story; nowhere can a trigram make up for it.
    """
    bound = 3 * math.log(8) / grammar.expected_tokens
    for place, before in ((-3, "were still"), (-9, "counted the"), (-12, "at last")):
        pair = [grammar.vocabulary.index(word) for word in before.split()]
        for story in sample[:200]:
            assert story[place - 2 : place] == pair
            assert grammar.log_probs(story)[place] == 0.0
        counts = Counter(story[place] for story in sample)
        assert len(counts) == 8
        even = len(sample) / 8
        # Seven degrees of freedom: exceeded once in 1000.
        assert sum((n - even) ** 2 / even for n in counts.values()) < 24.3
    start = len(grammar.vocabulary)
    train = grammar.sample(1500, generator=torch.Generator().manual_seed(1))
    held_out = sample[:500]
    rows = [[[start, start, *s] for s in part] for part in (train, held_out)]
    trigram = NGram(rows[0], 3, start + 1).mean_loss(rows[1], skip=2)
    true = -sum(sum(grammar.log_probs(s)) for s in held_out)
    true /= sum(len(s) for s in held_out)
    assert trigram.mean - true > bound


def test_vocabulary_is_sorted_and_words_are_words(grammar):
    words = grammar.vocabulary
    assert words[0] == END
    assert words[1:] == sorted(set(words[1:]))
    assert all(not set(w) & set("$=:") for w in words)
