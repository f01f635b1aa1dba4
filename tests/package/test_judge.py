"""The judge of attention, on a set that was written before it."""

import math

import pytest
import torch
from judged import HALVES, figures, verdict
from judged_right import RIGHT
from judged_wrong import WRONG, later, scores_of

from mattn import causal, full, judge, window
from mattn.judge.__main__ import main


def test_the_set_is_large_enough():
    assert len(WRONG) >= 40
    assert len(RIGHT) >= 25


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_one_is_told_and_never_by_a_wrong_name(name):
    found, names = verdict(name)
    assert found.kind in ("named", "wrong"), str(found)
    assert not found.ok
    assert bool(found.names) is (found.kind == "named")
    if found.names:
        assert names & {*found.names}, str(found)
    else:
        assert found.case, str(found)


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_one_is_not_accused(name):
    found, _ = verdict(name)
    assert found.ok, str(found)
    assert not found.names


@pytest.mark.parametrize("which", HALVES)
def test_most_are_named_in_either_half(which):
    told, n, named, n_names = figures(which)
    assert told == n
    assert n_names >= 20
    assert named >= 0.7 * n_names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scale_left_out", "measured 1 for d = 4 and 1 for d = 16"),
        ("scale_left_out", "it gives 1, 1.731; right is 1, 1.622"),
        ("root_left_out", "measured 0.25 for d = 4 and 0.0625 for d = 16"),
        ("fill_that_lost_its_sign", "a hidden key counts as one with a score of 1e-09"),
        ("fill_of_minus_ten", "a hidden key counts as one with a score of -10"),
        ("ones_are_added", "it gives 1.269, 1.5; right is 1, 1.5"),
        ("result_thrown_away", "it gives 1.5, 1.5; right is 1, 1.5"),
        ("result_thrown_away", "query position 0 sees key position 1"),
        ("scale_comes_late", "rows of weights add up to 0.5 and 0.5, not to 1"),
        ("diagonal_is_hidden", "query position 1 does not see key position 1"),
        ("adds_the_query", "equal values do not come back unchanged"),
        ("keys_for_values", "doubling q is not doubling k"),
        ("columns_add_up", "it gives 0.5, 2.5; right is 1, 1.5"),
        ("zeros_become_infinite", "T = 1, q = k = 0 and v = 1: it gives nan"),
    ],
)
def test_what_was_measured_is_said(name, said):
    assert said in str(verdict(name)[0])


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("fill_of_minus_1e4", "a finite fill"),
        ("naive_exponentials", "it breaks at a score of about 709.9"),
        ("tokens_before_heads", "(B, T, H, D)"),
        ("true_is_hidden", "True = hidden"),
        ("top_left", "aligned top-left"),
        ("in_float32", "it computes in float32"),
        ("FusedValuesFirst", "its fused map holds k, v, q"),
    ],
)
def test_a_convention_is_a_note(name, note):
    found, _ = verdict(name)
    assert any(note in said for said in found.notes), found.notes


def test_what_cannot_run_is_not_wrong():
    def two_only(q, k):
        return q @ k.mT

    def refuses(q, k, v):
        raise ValueError("not today")

    def slow(q, k, v):
        while True:
            pass

    for function, why in (
        (two_only, "TypeError"),
        (refuses, "q, k, v of shape (2, 4, 5): ValueError: not today"),
        (lambda q, k, v: "a string", "expected a tensor of floats; got str"),
    ):
        found = judge.attention(function)
        assert found.kind == "could not run"
        assert why in str(found)
    found = judge.attention(slow, seconds=0.02)
    assert found.kind == "could not run"
    assert "no answer within" in str(found)


def test_another_rule_is_another_verdict():
    def sees_all(q, k, v):
        return scores_of(q, k).softmax(-1) @ v

    def two_keys(q, k, v):
        hide = later(q.shape[-2]) | (torch.ones(2 * q.shape[-2:-1]).tril(-2) == 1)
        return scores_of(q, k).masked_fill(hide, -math.inf).softmax(-1) @ v

    assert judge.attention(sees_all, mask=full).ok
    assert judge.attention(sees_all).names[0] == "mask forgotten"
    assert judge.attention(two_keys, mask=causal & window(2)).ok
    found = judge.attention(two_keys, mask=causal & window(3))
    assert found.kind == "wrong"
    assert not judge.attention(two_keys).ok


def test_what_is_judged_comes_back_unchanged():
    layer = RIGHT["NamedByLetters"][0]().train()
    before = {n: p.clone() for n, p in layer.state_dict().items()}
    random = torch.get_rng_state()
    judge.attention(layer)
    assert layer.training
    assert all(torch.equal(p, before[n]) for n, p in layer.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)


def test_a_module_whose_maps_cannot_be_read_could_not_run():
    class Strange(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.b(self.a(x))

    found = judge.attention(Strange())
    assert found.kind == "could not run"
    assert "expected linear maps to q, k and v" in found.measured[0]


def test_a_verdict_is_no_truth_value():
    found, _ = verdict("plain")
    with pytest.raises(TypeError, match=r"ask verdict\.ok"):
        bool(found)


def test_the_command_says_it_and_ends_with_a_code(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "import torch\n"
        "def right(q, k, v):\n"
        "    sdpa = torch.nn.functional.scaled_dot_product_attention\n"
        "    return sdpa(q, k, v, is_causal=True)\n"
        "def tril(n):\n"
        "    return torch.ones(n, n).tril(-1)\n"
    )

    assert main([f"{file}:right"]) == 0
    assert capsys.readouterr().out.startswith("right: right")
    assert main([f"{file}:tril", "--mask"]) == 1
    assert "hides self" in capsys.readouterr().out
    for arguments, said in (
        ([f"{file}:nobody"], "expected a function or class nobody"),
        (["nowhere.py:right"], "expected FILE.py:NAME of a file that is there"),
        ([f"{file}:right", "--rule", "3"], "expected a rule such as"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert said in capsys.readouterr().err
