"""Where two masks first differ, how much they allow, and the judge of masks."""

import numpy as np
import pytest
import torch

from mattn import causal, documents, full, judge, padding, prefix, rule, window
from mattn.masks import difference

third = rule(lambda b, q, k: (q - k) % 3 == 0)
MASKS = [
    causal,
    full,
    ~causal,
    third,
    causal & window(3),
    causal | prefix(2),
    causal & third,
    causal & prefix(0),
    causal & padding([3, 5]),
    documents([0, 0, 1, 1, 0, 2, 2, 2, 1]),
]


@pytest.mark.parametrize("mask", MASKS, ids=repr)
@pytest.mark.parametrize(("Tq", "Tk"), [(9, 9), (4, 9), (9, 4)])
def test_pairs_are_counted_exactly(mask, Tq, Tk):
    cells = mask.matrix(Tq, Tk).reshape(-1, Tq, Tk)
    for block in (1, 2, 4, 20):
        touched = sum(
            bool(row[i : i + block, j : j + block].any())
            for row in cells
            for i in range(0, Tq, block)
            for j in range(0, Tk, block)
        )
        assert mask.pairs(Tq, Tk, block=block) == touched, block


def test_long_counts_are_arithmetic():
    n = 100_000
    assert causal.pairs(n) == n * (n + 1) // 2
    assert (causal & window(512)).pairs(n) == 512 * n - 512 * 511 // 2
    with pytest.raises(ValueError, match="blocks of >= 1; got 0"):
        causal.pairs(4, block=0)


@pytest.mark.parametrize("mask", MASKS, ids=repr)
def test_one_pair_is_the_cell_of_the_matrix(mask):
    cells = mask.matrix(6)
    for q, k in ((0, 0), (2, 5), (5, 2), (4, 4)):
        seen = mask[q, k]
        if mask.batch is None:
            assert seen is bool(cells[q, k])
        else:
            assert torch.equal(seen, cells[:, q, k])
    assert not np.any(np.asarray(mask[3, -1]))
    assert type(causal[np.int64(2), 1]) is bool


def test_what_is_no_pair_is_refused():
    for pair in (3, (1, 2, 3)):
        with pytest.raises(
            ValueError, match=r"expected a query and a key, mask\[q, k\]"
        ):
            causal[pair]
    with pytest.raises(TypeError):
        list(causal)


@pytest.mark.parametrize(
    ("mask", "other", "said"),
    [
        (causal & window(4), causal & window(5), "query 4 also sees key 0, 4 behind"),
        (
            causal & window(5),
            causal & window(4),
            "query 4 does not see key 0, 4 behind",
        ),
        (causal, full, "query 0 also sees key 1, 1 ahead"),
        (causal, ~causal, "query 0 does not see key 0, its own"),
        (causal, causal | prefix(3), "query 0 also sees key 1, 1 ahead"),
        (
            causal & padding([9, 3]),
            causal,
            "in row 1, query 3 also sees key 3, its own",
        ),
    ],
)
def test_the_smallest_case_is_told_in_words(mask, other, said):
    found = difference(mask, other, 9)
    assert str(found) == said
    matrices = difference(mask, other.matrix(9), 9)
    assert matrices == found
    by_length = difference(mask, other.matrix, 9)
    assert by_length == found
    # It is the smallest: a token less shows nothing.
    assert difference(mask, other, found.length) is not None
    if found.length > 1:
        assert difference(mask, other, found.length - 1) is None
    a, b = torch.broadcast_tensors(mask.matrix(9), other.matrix(9))
    assert found.more == int((b & ~a).sum())
    assert found.fewer == int((a & ~b).sum())


def test_equal_masks_do_not_differ():
    assert difference(causal, ~~causal, 7) is None
    assert difference(causal, lambda n: torch.ones(n, n).tril() == 1, 7) is None


def test_a_slip_at_one_length_alone_is_found():
    def odd(n):
        return torch.ones(n, n).tril(1 if n == 5 else 0) == 1

    found = difference(causal, odd, 9)
    assert (found.length, found.query, found.key) == (2, 0, 1)
    assert (found.more, found.fewer) == (0, 0)  # with 9 tokens there is none


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (torch.ones(4, 4), "expected a boolean matrix"),
        (torch.ones(3, 4).bool(), r"expected a matrix \(4, 4\)"),
        (lambda n: [[True]], "expected a boolean matrix.*got list"),
    ],
)
def test_what_is_no_mask_is_refused(other, message):
    with pytest.raises(ValueError, match=message):
        difference(causal, other, 4)


def later(n):
    return torch.ones(n, n, dtype=torch.bool).triu(1)


RIGHT = {
    "ones": (lambda n: torch.ones(n, n).tril(), "1 = may attend"),
    "True hides": (later, "True = hidden"),
    "added": (lambda n: np.triu(np.full((n, n), -np.inf), 1), "added to the scores"),
    "finite": (lambda n: torch.zeros(n, n).masked_fill(later(n), -1e9), "finite"),
    "sizes": (lambda Tq, Tk: torch.ones(Tq, Tk).tril(), "aligned top-left"),
    "slots": (lambda b, h, q_idx, kv_idx: q_idx >= kv_idx, ""),
    "numbers": (lambda i, j: True if j <= i else False, ""),  # noqa: SIM210
    "axes before": (lambda n: ~later(n)[None, None], ""),
    "a rule": (causal, ""),
    "a matrix": (causal.matrix(6), ""),
}
WRONG = {
    "one ahead": (lambda n: torch.ones(n, n).tril(1), "sees one ahead"),
    "no self": (lambda n: torch.ones(n, n).tril(-1), "hides self"),
    "on its side": (lambda n: torch.ones(n, n).triu(), "upper triangle"),
    "nothing hidden": (lambda n: torch.ones(n, n), "mask forgotten"),
    "minus ten": (lambda n: torch.zeros(n, n).masked_fill(later(n), -10), "weak fill"),
    "tiny": (lambda n: torch.zeros(n, n).masked_fill(later(n), 1e-9), "tiny fill"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_mask_is_right_in_any_form(name):
    given, note = RIGHT[name]
    found = judge.mask(given)
    assert found.ok, str(found)
    assert any(note in said for said in found.notes) or not note


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_mask_is_named(name):
    given, said = WRONG[name]
    found = judge.mask(given)
    assert found.kind == "named", str(found)
    assert said in found.names
    if "fill" not in said:
        assert "pairs more" in found.case


def test_a_window_too_wide_or_too_narrow_is_named():
    wide = judge.mask((causal & window(5)).matrix, causal & window(4))
    assert wide.names == ("one key too many",)
    assert wide.case.startswith("query 4 also sees key 0, 4 behind")
    narrow = judge.mask((causal & window(3)).matrix, causal & window(4))
    assert narrow.names == ("one key too few",)


def test_what_no_slip_explains_is_wrong_and_what_does_not_run_is_not():
    found = judge.mask(lambda n: third.matrix(n))
    assert (found.kind, found.names) == ("wrong", ())
    assert "query 1 does not see key 0" in found.case
    found = judge.mask(lambda n: torch.ones(n))
    assert found.kind == "could not run"
    assert "expected a matrix (1, 1); got (1,)" in found.measured[0]


def test_a_stated_meaning_of_true_is_held_to():
    assert judge.mask(later, true="hidden").ok
    assert judge.mask(later, true="may attend").names == ("inverted",)
    with pytest.raises(ValueError, match="expected a matrix, a rule, or a function"):
        judge.mask(3)
