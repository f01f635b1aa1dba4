"""A rule as the kernels read it: both ends, and which blocks follow from them."""

from __future__ import annotations

import inspect
import itertools

import pytest
import torch
from flash_cases import GPU, RULES, cases, draw, rules
from hypothesis import given
from hypothesis import strategies as st

from mattn import causal, full, prefix, rule, window
from mattn.flash import Stretches, flash_attention, launch, stretches, tuning


def read_back(s: Stretches) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask that the lists say, or the numbers of a band: by rows, by columns."""
    i, j = torch.arange(s.Tq)[:, None], torch.arange(s.Tk)
    if s.by_query is None:
        seen = (j <= i + s.Tk - s.Tq) | torch.tensor(not s.causal)
        seen &= (j > i + s.Tk - s.Tq - s.window) | torch.tensor(not s.window)
        return seen, seen
    first, end = s.by_query[:, 0, :, None], s.by_query[:, 1, :, None]
    by_row = (first <= j) & (j < end)
    first, end = s.by_key[:, 0, None], s.by_key[:, 1, None]
    return by_row, (first <= i) & (i < end)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize(("Tq", "Tk"), [(21, 34), (34, 21), (1, 21), (21, 21)])
def test_a_rule_read_by_rows_and_by_columns(name, Tq, Tk):
    mask = rules(Tq, Tk)[name]
    s = stretches(mask, Tq, Tk)
    for seen in read_back(s):
        expected = (full if mask is None else mask).matrix(Tq, Tk)
        assert torch.equal(seen, expected.expand_as(seen))
    bands = ("none", "full", "causal", "causal window", "window", "causal window of 1")
    assert (s.by_query is None) == (name in bands)
    for ends in () if s.by_query is None else (s.by_query, s.by_key):
        assert (ends.diff(dim=-1) >= 0).all()


@given(cases())
def test_rules_combined_read_by_rows_and_by_columns(case):
    Tq, Tk, *_, mask = case
    for seen in read_back(stretches(mask, Tq, Tk)):
        assert torch.equal(seen, mask.matrix(Tq, Tk).expand_as(seen))


@st.composite
def tables(draw_):
    """A boolean matrix; often, each row is one stretch."""
    Tq, Tk = draw_(st.integers(1, 5)), draw_(st.integers(1, 5))
    ends = st.tuples(st.integers(0, Tk), st.integers(0, Tk))
    rows = draw_(st.lists(ends, min_size=Tq, max_size=Tq))
    rows = sorted(rows) if draw_(st.booleans()) else rows
    table = torch.tensor([[i <= j < end for j in range(Tk)] for i, end in rows])
    if draw_(st.booleans()):
        cell = draw_(st.integers(0, Tq - 1)), draw_(st.integers(0, Tk - 1))
        table[cell] = ~table[cell]
    return table


def is_one_stretch(seen: torch.Tensor) -> bool:
    at = seen.nonzero().flatten().tolist()
    return not at or at == list(range(at[0], at[-1] + 1))


@given(tables())
def test_a_rule_is_taken_if_and_only_if_the_kernel_gets_it_right(table):
    (Tq, Tk), late = table.shape, table.shape[1] - table.shape[0]
    mask = rule(lambda b, q, k: table[q - late, k])
    ends = [row.nonzero()[[0, -1]].flatten() for row in table if row.any()]
    in_order = all((two >= one).all() for one, two in itertools.pairwise(ends))
    if in_order and all(map(is_one_stretch, [*table, *table.T])):
        for seen in read_back(stretches(mask, Tq, Tk)):
            assert torch.equal(seen[0], table)
    else:
        with pytest.raises(ValueError, match="one stretch of keys"):
            stretches(mask, Tq, Tk)


REFUSED = {
    "a gap": (causal & (window(2) | prefix(1)), 5, "on both sides of one"),
    "moves back": (rule(lambda b, q, k: q + k < 5), 5, "query 1 moves back"),
    "moves back in one row": (
        rule(lambda b, q, k: (k <= q) | (q + k < 4 * b), batch=2),
        5,
        r"query 1 moves back \(row 1 of the batch\)",
    ),
    "too large to look at": (
        rule(lambda b, q, k: k <= q, name="mine"),
        8193,
        "got mine: 67125249 pairs are too many",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_rule_that_is_not_sorted_stretches_is_refused_by_name(name):
    mask, T, fault = REFUSED[name]
    with pytest.raises(ValueError, match=rf"{fault}.*FlexAttention.*fused_attention"):
        stretches(mask, T)


def test_a_promise_lets_a_long_rule_be_looked_at():
    near = rule(lambda b, q, k: (k <= q) & (q - k < 4), behind=4, ahead=0)
    found, expected = stretches(near, 9000), (causal & window(4)).spans(9000)
    assert torch.equal(found.by_query[:, 0], expected.first.int())
    assert torch.equal(found.by_query[:, 1], expected.end.int())


# Long because: what is spied on and what is expected of it are read side by side.
@pytest.mark.skipif(GPU, reason="looks into the interpreter")
@pytest.mark.parametrize("name", [n for n in RULES if n != "an empty row of the batch"])
def test_only_blocks_that_are_seen_are_read_and_only_cut_ones_masked(name, monkeypatch):
    """Forward, by rows, and dk/dv, by columns, against the mask itself."""
    Tq, Tk = 40, 70
    mask = rules(Tq, Tk)[name]
    q, k, v = draw(H=1, Tq=Tq, Tk=Tk, D=16)
    kernels = launch.kernels()
    visits = {"_merge_keys": {}, "_add_queries": {}, "_add_keys": {}}

    def spied(part):
        original = getattr(kernels, part)
        where = inspect.signature(original).parameters

        def spy(*args):
            given_ = dict(zip(where, args, strict=False))
            size = given_["BLOCK_Q" if part == "_add_queries" else "BLOCK_K"]
            seen = visits[part].setdefault(int(kernels.tl.program_id(0)), {})
            for block in range(int(given_["start"]), int(given_["stop"]), int(size)):
                assert block not in seen, "a block read twice"
                seen[block] = bool(given_["MASKED"])
            return original(*args)

        monkeypatch.setattr(kernels, part, spy)

    for part in visits:
        spied(part)
    flash_attention(q, k, v, mask).sum().backward()

    tiles = tuning.INTERPRETER["forward"]
    allowed = (full if mask is None else mask).matrix(Tq, Tk).expand(2, Tq, Tk)
    for part, seen in visits.items():
        by_column = part == "_add_queries"
        own, other = tiles[:2][::-1] if by_column else tiles[:2]
        heads = allowed.mT if by_column else allowed
        n_blocks = -(-heads.shape[1] // own)
        assert {program // n_blocks for program in seen} == {0, 1}
        for program, blocks in seen.items():
            b, block = divmod(program, n_blocks)  # block after block of each head
            if not by_column and stretches(mask, Tq, Tk).causal:
                block = n_blocks - 1 - block  # heavy blocks first
            rows = heads[b, block * own : (block + 1) * own]
            parts = {
                start: rows[:, start : start + other]
                for start in range(0, rows.shape[1], other)
            }
            needed = {s for s, part in parts.items() if part.any()}
            assert set(blocks) == needed
            whole = {
                s for s, part in parts.items() if part.all() and part.shape[1] == other
            }
            assert {s for s, masked in blocks.items() if not masked} == whole
