"""What the auditor refuses, in a process without the shape checks of these tests."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

import pytest
import torch
from refusals import messages, printed

import mattn.audit

X = "torch.randn(2, 5, 3)"
BAD = {
    "not a tensor": ("audit(F, [[1, 2]])", "expected tokens (B, T) or features"),
    "one dimension": ("audit(F, torch.zeros(4).long())", "tokens[None]"),
    "integer features": ("audit(F, torch.zeros(2, 5, 3).long())", "floating-point"),
    "float tokens": ("audit(F, torch.zeros(2, 5))", "expected integer tokens"),
    "bool tokens": ("audit(F, torch.zeros(2, 5).bool())", "expected integer tokens"),
    "one position": ("audit(F, torch.zeros(2, 1, 3))", "at least 2 positions"),
    "no rows": ("audit(F, torch.zeros(0, 4, 3))", "at least 2 positions"),
    "other length": (f"audit(lambda x: x[:, 1:], {X})", "one output for each input"),
    "no tensor": (f"audit(lambda x: 'text', {X})", "expected an output that is"),
    "fails": (
        f"audit(lambda x: x @ torch.ones(4), {X})",
        "the model fails on the given",
    ),
    "token out of range": (
        "audit(torch.nn.Embedding(3, 4), torch.full((1, 5), 7))",
        "the model fails on the given tokens",
    ),
    "vocabulary of one": (
        "audit(torch.nn.Embedding(1, 4), torch.zeros(1, 5).long())",
        "at least 2 symbols",
    ),
    "expected of another length": (
        f"audit(F, {X}, expected=torch.ones(4, 4).bool())",
        "shape (5, 5)",
    ),
    "float expected": (f"audit(F, {X}, expected=torch.ones(5, 5))", "boolean matrix"),
    "expected for other rows": (
        f"audit(F, {X}, expected=torch.ones(3, 5, 5).bool())",
        "the 2 rows of this batch",
    ),
    "no layers": (f"audit(F, {X}, n_layers=0)", "n_layers >= 1"),
    "unknown probe": (f"audit(F, {X}, probes=['magic'])", "['magic']"),
    "no probe": (f"audit(F, {X}, probes=[])", "got none"),
    "no attention": (
        f"audit_layers(torch.nn.Linear(3, 3), {X})",
        "found no attention module",
    ),
    "layer without states": (
        "audit_layers(torch.nn.Embedding(9, 3), torch.zeros(1, 5).long(), "
        "layers=lambda name, module: True)",
        "expected hidden states",
    ),
    "loss not a scalar": (
        "audit_labels(lambda logits, tokens: logits)",
        "expected a scalar loss",
    ),
    "no hypothesis": ("audit_beam(F, [1], [])", "a prompt and hypotheses"),
    "empty hypothesis": ("audit_beam(F, [1], [([], 0.0)])", "a prompt and hypotheses"),
}


def calls() -> dict[str, Callable]:
    names = {name: getattr(mattn.audit, name) for name in mattn.audit.__all__}
    names |= {"torch": torch, "F": lambda x: x.cumsum(1)}
    return {
        name: functools.partial(eval, call, names) for name, (call, _) in BAD.items()
    }


@pytest.fixture(scope="module")
def raised() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_a_clear_error(raised, name):
    kind, message = raised[name]
    assert kind == "ValueError", message
    assert BAD[name][1] in message


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages(calls())))
