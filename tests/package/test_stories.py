"""The grammar: exact entropy, unambiguous, out of reach of n-grams."""

import itertools
import math
from collections import Counter

import numpy as np
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
    with pytest.raises(ValueError, match="expected a token of 0 to"):
        grammar.log_probs([*story, len(grammar.vocabulary)])
    with pytest.raises(ValueError, match="zebra"):
        grammar.encode("the zebra sang")


def reads(grammar, items, words, memory):
    """Whether ``items`` can be expanded to ``words``: every option is tried, none
    is chosen by looking ahead as the grammar itself does."""
    if not items:
        return not words
    item, *rest = items
    name, _, symbol = item.rpartition("=")
    if symbol in grammar.rules:
        return any(
            reads(
                grammar,
                [*option, *rest],
                words,
                memory | ({name: option[0]} if name else {}),
            )
            for p, option in grammar.rules[symbol]
            if p > 0
        )
    if item.startswith("$"):
        name, _, table = item[1:].partition(":")
        item = grammar.tables[table][memory[name]] if table else memory[name]
    return words[:1] == [item] and reads(grammar, rest, words[1:], memory)


def edits(story, n_symbols, draw):
    """Each deletion and swap of neighbours; at each place an insertion and another
    token instead, at random."""
    for i in range(len(story)):
        yield "deletion", [*story[:i], *story[i + 1 :]]
        for kind, after in ("insertion", story[i:]), ("substitution", story[i + 1 :]):
            new = int(torch.randint(n_symbols, (), generator=draw))
            yield kind, [*story[:i], new, *after]
        if i:
            swapped = [*story[: i - 1], story[i], story[i - 1], *story[i + 1 :]]
            yield "swap", swapped


def test_an_edited_story_is_accepted_only_if_it_is_one(grammar, sample):
    draw = torch.Generator().manual_seed(5)
    counts = Counter()
    for story in [s for s in sample if len(s) < 50][:20]:
        for kind, edited in edits(story, len(grammar.vocabulary), draw):
            words = [grammar.vocabulary[t] for t in edited]
            right = reads(grammar, ["START"], words[:-1], {}) and words[-1] == END
            assert grammar.accepts(edited) == right, (kind, " ".join(words))
            counts[kind, right] += 1
    # Of each kind many are no stories; a cat for a dog, or one word twice, is one.
    assert all(counts[kind, False] > 300 for kind in ("deletion", "insertion", "swap"))
    assert counts["substitution", True] > 5


def test_the_language_of_a_small_grammar_is_what_its_rules_write():
    # All texts of up to four words and an end, against those written out by hand.
    grammar = Grammar(TINY, TABLES)
    written = {("ann", "saw", "ann", "ran"), ("bob", "saw", "bob", "sat")}
    words = grammar.vocabulary
    for n in range(5):
        for text in itertools.product(range(len(words)), repeat=n):
            spoken = tuple(words[t] for t in text)
            assert grammar.accepts([*text, 0]) == (spoken in written)
            assert not grammar.accepts(text) or text[-1] == 0


@pytest.mark.parametrize("story", [[], [0], [0, 0], [1], "the", [0.5], [-1], [999]])
def test_no_story_at_all_is_refused(grammar, story):
    assert not grammar.accepts(story)
    with pytest.raises(ValueError, match="expected"):
        grammar.log_probs(story)


def test_stories_come_as_arrays_and_tensors(grammar, sample):
    story = sample[0]
    for kind in (torch.tensor, np.array, tuple):
        assert grammar.log_probs(kind(story)) == grammar.log_probs(story)
        assert grammar.text(kind(story)) == grammar.text(story)
        assert grammar.accepts(kind(story))
    for wrong in (-1, len(grammar.vocabulary)):
        with pytest.raises(ValueError, match=f"expected a token of 0 to.*got {wrong}"):
            grammar.text([wrong])
    with pytest.raises(ValueError, match="<end>"):
        grammar.encode("anna <end>")


def test_an_option_of_probability_0_is_never_written():
    grammar = Grammar({"START": [(1.0, ("a",)), (0.0, ("b",))]})
    assert grammar.accepts(grammar.encode("a"))
    assert not grammar.accepts(grammar.encode("b"))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"A": [(1.0, ("a",))]}, "a rule START"),
        ({"START": []}, "START to be at least 0 and to sum to 1"),
        ({"START": [(1.5, ("a",)), (-0.5, ("b",))]}, "START to be at least 0"),
        ({"START": [(1.0, ("$a",))]}, r"\$a to stand for a word.*'a'"),
        ({"START": [(1.0, ("a=A", "$a:t"))], "A": [(1.0, ("x",))]}, "no 't'"),
        ({"START": [(1.0, ("a=A",))], "A": [(1.0, ("x", "y"))]}, "A to be one word"),
        ({"START": [(1.0, ("a=A",))], "A": [(1.0, ())]}, "A to be one word"),
        ({"START": [(1.0, ("a=A",))]}, "A to be one word"),
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


X = [(1.0, ("x",))]


@pytest.mark.parametrize(
    ("rules", "where"),
    [
        ({"START": [(1.0, ("$a", "a=A"))]}, r"'\$a a=A' in START"),
        ({"START": [(1.0, ("$a:t", "a=A"))]}, r"every \$a:t"),
        ({"START": [(1.0, ("B", "a=A"))], "B": [(1.0, ("$a",))]}, r"'\$a' in B"),
        (
            {"START": [(1.0, ("B", "$a"))], "B": [(0.5, ("a=A",)), (0.5, ("y",))]},
            r"'B \$a' in START",
        ),
    ],
    ids=["after it", "of a table", "in a rule that is used too early", "by chance"],
)
def test_a_word_that_comes_back_before_it_was_chosen_is_refused(rules, where):
    message = rf"expected a=… before .*{where}.*Choose a in what always comes first"
    with pytest.raises(ValueError, match=message):
        Grammar(rules | {"A": X}, {"t": {"x": "z"}})


def test_a_word_that_every_option_chooses_may_come_back_after_them():
    both = [(0.5, ("a=A", "again")), (0.5, ("once", "a=A"))]
    grammar = Grammar(
        {"START": [(1.0, ("B", "C"))], "B": both, "C": [(1.0, ("$a",))]} | {"A": X}
    )
    assert grammar.accepts(grammar.encode("x again x"))
    assert grammar.accepts(grammar.encode("once x x"))


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
