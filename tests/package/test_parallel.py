"""Several processes give what one gives, and refuse what is wrong on all of them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import machines
import pytest
import torch
from torch.multiprocessing import ProcessExitedException

from mattn import causal, full, prefix, window
from mattn.parallel import LAYOUTS, collect, deal, plan, ring_attention, run

LAUNCHED = (
    "-m torch.distributed.run --standalone --nproc-per-node 4 -m mattn.parallel --check"
)


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    return run(machines.several, 4, str(folder))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_a_deal_gives_each_token_to_one_and_is_undone(layout, size):
    for n in (0, 1, 5, 14, 23):
        slots = deal(n, size, layout)
        assert sorted(torch.cat(slots).tolist()) == list(range(n))
        assert max(map(len, slots)) - min(map(len, slots)) <= 2
        x = torch.arange(2 * n).view(2, n, 1)
        assert collect([x[:, own] for own in slots], layout).equal(x)


def test_zigzag_takes_from_both_ends_and_stripes_take_turns():
    said = {a: [s.tolist() for s in deal(8, 2, a)] for a in LAYOUTS}
    assert said["contiguous"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert said["zigzag"] == [[0, 1, 6, 7], [2, 3, 4, 5]]
    assert said["striped"] == [[0, 2, 4, 6], [1, 3, 5, 7]]


def test_what_cannot_be_dealt_is_refused():
    with pytest.raises(ValueError, match="expected parts of \\[2, 2\\]"):
        collect([torch.zeros(3, 1), torch.zeros(1, 1)], "striped")
    with pytest.raises(ValueError, match="process group; got none"):
        ring_attention(*[torch.zeros(1, 1, 2, 4)] * 3, slots=torch.arange(2))


def test_the_planner_counts_what_the_chapter_tells():
    costs = {a.layout: a for a in plan(causal, 64, 8)}
    assert costs["contiguous"].pairs.sum(0).tolist() == [36 + 64 * r for r in range(8)]
    assert costs["zigzag"].pairs.sum(0).tolist() == [260] * 8
    assert costs["striped"].pairs.sum(0).tolist() == list(range(232, 289, 8))
    waits = [round(cost.waiting, 2) for cost in plan(causal, 1024, 8)]
    assert waits[:2] == [1.87, 1.0]
    waits = [round(cost.waiting, 2) for cost in plan(causal & window(128), 1024, 8)]
    assert waits[:2] == [1.07, 1.6]
    for rule in (causal, full, causal & window(9), causal | prefix(5)):
        for cost in plan(rule, 30, 4):
            assert cost.pairs.sum() == rule.pairs(30)


@pytest.mark.parametrize(
    ("name", "forward", "gradients"),
    [
        ("double", 1e-12, 1e-11),
        ("single", 1e-5, 1e-4),
        ("few", 1e-12, 1e-11),
        ("no row", 0, 0),
    ],
)
def test_four_processes_give_what_one_gives(four, name, forward, gradients):
    assert len(four[0][name]) >= 5  # rules, in one layout or three
    for one in four[0][name]:
        assert one.forward <= forward, one
        assert one.gradients <= gradients, one


def test_across_processes_nobody_sees_the_future(four):
    for rank in range(4):
        for layout in LAYOUTS:
            assert four[rank]["reached"][layout].equal(causal.matrix(9))


def test_pairs_and_bytes_are_those_of_the_plan(four):
    for cost in plan(causal, 64, 4):
        found = four[0]["work"][cost.layout]
        assert torch.tensor([c.pairs for c in found]).T.equal(cost.pairs)
        assert sum(c.sent for c in found) == cost.hops * 16 * (6 + 5) * 4
    # A window of 8 asks its neighbour alone: three parts are passed on, once each.
    assert [c.messages for c in four[0]["near"]] == [1, 1, 1, 0]


def test_split_and_join_are_inverse(four):
    assert all(len(found["joined"]) == 12 and all(found["joined"]) for found in four)


def test_a_decoder_has_the_gradients_of_one_process(four):
    for found in four:
        assert len(found["decoder"]) == len(LAYOUTS)
        assert max(found["decoder"]) <= 1e-11


def test_a_cache_is_spread_and_decodes_the_same(four):
    for rank, found in enumerate(four):
        off, kept = found["cached"]
        assert off <= 1e-12
        assert kept == list(range(len(range(rank, 9, 4))))  # as counted there


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("overlap", "slot 0 on processes [0, 1, 2, 3]"),
        ("dtype", "expected one dtype on all processes; got 0: torch.float32, 1: "),
        ("two dtypes", "process 1: expected q (B, H, T, D)"),
        ("batch", "expected one shapes of q, k, v but for tokens"),
        ("gradients", "whether gradients are wanted"),
        ("slots", "process 1: expected integer slots (2,) or (1, 2)"),
        ("tensor", "expected a rule of mattn.masks"),
        ("heads", "3 of queries and 3 of keys for 4 processes"),
        ("new tokens", "the same new tokens on all processes"),
    ],
)
def test_wrong_use_is_told_on_every_process(four, name, said):
    assert [said in (found["refused"][name] or "") for found in four] == [True] * 4


@pytest.mark.parametrize(
    ("name", "forward"),
    [
        ("merge without rescaling", True),
        ("gradient not sent home", False),
        ("mask by local slots", True),
        ("offset lost", True),
    ],
)
def test_the_comparison_sees_each_mistake(four, name, forward):
    right, wrong = (four[0]["mutants"][n] for n in ("none", name))
    assert max(right) < 1e-11
    assert wrong[1] > 0.01
    assert (wrong[0] > 0.01) is forward


def test_four_train_as_one_and_a_run_is_taken_up_by_fewer(four, tmp_path):
    (one,) = run(machines.trained, 1, None, 4)
    for losses, weights in (found["trained"] for found in four):
        torch.testing.assert_close(losses, one[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(weights, one[1], rtol=0, atol=1e-12)


@pytest.mark.long
def test_a_checkpoint_of_four_is_taken_up_by_one_and_by_two(tmp_path):
    path = str(tmp_path / "run")
    for words, odd in run(machines.stopped, 4, path):
        assert "expected 6 batches; got 3" in words
        assert "4 processes divide; got a batch (7, 7)" in odd
    (whole,) = run(machines.trained, 1, None, 6)
    for size in (1, 2):
        copy = shutil.copy(path, f"{path}-{size}")
        for losses, weights in run(machines.trained, size, copy, 6):
            torch.testing.assert_close(losses, whole[0], rtol=0, atol=1e-12)
            torch.testing.assert_close(weights, whole[1], rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("size", [1, 2, 3])
def test_any_number_of_processes_gives_what_one_gives(size):
    for found in run(machines.equal_to_one, size, (1, 4, 12, 19), torch.float64):
        for one in found:
            assert one.forward <= 1e-12, one
            assert one.gradients <= 1e-11, one


@pytest.mark.long
def test_torchs_own_ring_gives_the_same():
    off = run(machines.oracle, 2)
    if isinstance(off[0], str):
        pytest.skip(f"torch's private ring has moved: {off[0]}")
    assert max(off) < 2e-6


@pytest.mark.long
def test_a_process_that_dies_ends_all_and_is_named():
    with pytest.raises(ProcessExitedException, match=r"process 1 terminated.*code 7"):
        run(machines.dies, 3, timeout=30.0)


@pytest.mark.long
def test_the_check_of_the_command_line_passes():
    done = subprocess.run(
        [sys.executable, *LAUNCHED.split()],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "4 processes against one" in done.stdout
    assert "WRONG" not in done.stdout
