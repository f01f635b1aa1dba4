"""Messages of errors: what was expected, what came, what to do.

The shape checks of the other tests would raise before mattn does, so the cases
run in a process of their own, without them: this file, executed as a program.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from refusals import messages, printed, refused_with

from mattn import (
    KVCache,
    MultiHeadAttention,
    Reach,
    attention,
    blockwise_attention,
    boolean_power,
    causal,
    documents,
    full,
    fused_attention,
    masked_softmax,
    padding,
    prefix,
    record_weights,
    to_additive,
    window,
)
from mattn.checks import influence
from mattn.data.translation.numerals import english_number
from mattn.heads import split_heads
from mattn.plotting import show_mask, show_scores, show_weights


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape)


def qkv(form: Callable, mask=None) -> Callable:
    return lambda: form(randn(2, 3, 4, 5), randn(2, 3, 6, 5), randn(2, 3, 6, 7), mask)


def filled_cache(**options) -> KVCache:
    cache = KVCache(4, **options)
    cache.extend(randn(2, 3, 2, 5), randn(2, 3, 2, 5), torch.arange(2))
    return cache


# Name → what is called, and what its message must contain, in this order.
CASES: dict[str, tuple[Callable, list[str]]] = {
    "window 0": (lambda: window(0), ["w >= 1", "got 0", "window(1)"]),
    "window -2": (lambda: window(-2), ["w >= 1", "got -2", "window(1)"]),
    "prefix -1": (lambda: prefix(-1), ["n >= 0", "got -1", "prefix(0)"]),
    "float ids": (
        lambda: documents(torch.zeros(4)),
        ["integer ids of shape (T,) or (B, T)", "float32 (4,)", "Number the documents"],
    ),
    "bool ids": (
        lambda: documents(torch.zeros(4, dtype=torch.bool)),
        ["integer ids", "bool (4,)", "Number the documents"],
    ),
    "ids of three axes": (
        lambda: documents(torch.zeros(2, 3, 4, dtype=torch.long)),
        ["(T,) or (B, T)", "int64 (2, 3, 4)", "Number the documents"],
    ),
    "too few ids": (
        lambda: documents([0, 0, 1]).matrix(5),
        ["an id for each of 5 slots", "got 3 ids", "Give an id for every token"],
    ),
    "too few ids, predicate": (
        lambda: documents([0, 0, 1]).predicate(5),
        ["an id for each of 5 slots", "got 3 ids", "Give an id for every token"],
    ),
    "a slot without an id": (
        lambda: documents([0, 0, 1]).at(torch.tensor([3]), torch.tensor([0, 1])),
        ["an id for each of 4 slots", "got 3", "Give an id for every token"],
    ),
    "float lengths": (
        lambda: padding(torch.tensor([2.0, 3.0])),
        ["integer lengths", "float32 (2,)", "boolean matrix"],
    ),
    "a boolean matrix for lengths": (
        lambda: padding(torch.ones(2, 3, dtype=torch.bool)),
        ["integer lengths", "bool (2, 3)", "take its sum"],
    ),
    "a negative length": (lambda: padding([2, -1]), ["length >= 0", "[2, -1]"]),
    "lengths of two axes": (lambda: padding([[2], [1]]), ["shape (B,)", "[[2], [1]]"]),
    "side": (
        lambda: padding([2], side="top"),
        ['"left" or "right"', "got 'top'"],
    ),
    "width": (
        lambda: padding([2, 5], side="left", width=4),
        ["width >= the longest row, 5", "got 4"],
    ),
    "a rule and a tensor": (
        lambda: causal & causal.matrix(3),
        ["a mask rule", "got Tensor", ".matrix(Tq, Tk)"],
    ),
    "a rule or a number": (lambda: causal | 1, ["a mask rule", "got int", ".matrix"]),
    "rules for other batches": (
        lambda: (padding([1, 2]) & padding([1, 2, 3])).matrix(4),
        ["the same rows of a batch", "got 2 and 3", "the same batch"],
    ),
    "rules for fewer slots": (
        lambda: (documents([0, 0]) | documents([0, 0, 0])).matrix(3),
        ["an id for each of 3 slots", "got 2 ids", "Give an id"],
    ),
    "slots of another batch": (
        lambda: padding([1, 2]).at(torch.arange(3), torch.zeros(3, 4).long()),
        ["for 2 rows", "got query slots (3,) and key slots (3, 4)", "the same"],
    ),
    "slots of two batches": (
        lambda: causal.at(torch.zeros(2, 3).long(), torch.zeros(4, 3).long()),
        [
            "for one batch",
            "got query slots (2, 3) and key slots (4, 3)",
            "same",
        ],
    ),
    "a negative size": (lambda: causal.matrix(-1), ["sizes >= 0", "got -1 queries"]),
    "additive of floats": (
        lambda: to_additive(torch.ones(3, 3)),
        ["a bool matrix (True = may attend)", "got float32 (3, 3)"],
    ),
    "additive of integers": (
        lambda: causal.additive(3, dtype=torch.int64),
        ["a floating-point dtype", "got bool (3, 3) and torch.int64", "−∞"],
    ),
    "power of floats": (
        lambda: boolean_power(torch.ones(3, 3), 2),
        ["a bool matrix (T, T)", "got float32 (3, 3)", ".matrix(T)"],
    ),
    "power of an oblong": (
        lambda: boolean_power(causal.matrix(2, 3), 2),
        ["a bool matrix (T, T)", "got bool (2, 3)", ".matrix(T)"],
    ),
    "power -1": (lambda: boolean_power(causal.matrix(3), -1), ["n >= 0", "got -1"]),
    "softmax, float mask": (
        lambda: masked_softmax(randn(3, 4), torch.zeros(3, 4)),
        ["allowed to be bool (True = may attend)", "float32 (3, 4)", "mask == 0"],
    ),
    "softmax, integer mask": (
        lambda: masked_softmax(randn(3, 4), torch.ones(3, 4, dtype=torch.long)),
        ["allowed to be bool", "int64 (3, 4)", "mask == 0"],
    ),
    "block 0": (
        lambda: blockwise_attention(randn(3, 4), randn(3, 4), randn(3, 4), block=0),
        ["block >= 1", "got 0"],
    ),
    "heads that do not divide": (
        lambda: MultiHeadAttention(10, 4),
        ["d_model divisible by n_heads", "got 10 and 4", "or give d_head"],
    ),
    "key heads that do not divide": (
        lambda: MultiHeadAttention(12, 6, n_kv_heads=4),
        ["n_heads divisible by n_kv_heads", "got 6 and 4", "the same number"],
    ),
    "split of odd features": (
        lambda: split_heads(randn(2, 3, 10), 4),
        ["features divisible by n_heads, 4", "got 10"],
    ),
    "key heads, fused": (
        lambda: fused_attention(
            randn(2, 6, 3, 5), randn(2, 4, 3, 5), randn(2, 4, 3, 5)
        ),
        ["(B, Hkv, Tk, D)", "got (2, 6, 3, 5), (2, 4, 3, 5)", "Hkv divides H"],
    ),
    "three axes, fused": (
        lambda: fused_attention(randn(6, 3, 5), randn(6, 3, 5), randn(6, 3, 5)),
        ["q (B, H, Tq, D)", "got (6, 3, 5)", "Hkv divides H"],
    ),
    "nothing to record": (
        lambda: record_weights(torch.nn.Linear(2, 2)).__enter__(),
        ["Linear holds no MultiHeadAttention"],
    ),
    "a mask of the wrong shape, in the module": (
        lambda: MultiHeadAttention(8, 2)(randn(3, 5, 8), torch.ones(4, 5).bool()),
        ["(True = may attend) of shape (…, 5, 5)", "got bool (4, 5)", "(B, 1, Tq, Tk)"],
    ),
    "capacity 0": (lambda: KVCache(0), ["capacity >= 1", "got 0"]),
    "full cache": (
        lambda: filled_cache().extend(randn(2, 3, 3, 5), randn(2, 3, 3, 5)),
        [
            "at most 4 tokens",
            "got 5",
            "Make the cache larger, or use a rule of bounded reach",
        ],
    ),
    "another batch in the cache": (
        lambda: filled_cache(reach=Reach(3, 0)).extend(
            randn(1, 3, 1, 5), randn(1, 3, 1, 5), torch.arange(1)
        ),
        ["(2, 3) rows and heads", "got (1, 3)", "one layer and one batch"],
    ),
    "one slot for two tokens": (
        lambda: filled_cache().extend(
            randn(2, 3, 2, 5), randn(2, 3, 2, 5), torch.arange(1)
        ),
        ["slots (T,) or (B, T)", "(2, 3, 2, 5)", "and (1,)", "one of each"],
    ),
    "contents of an empty cache": (
        lambda: KVCache(3).contents(),
        ["expected tokens", "got none", "extend"],
    ),
    "reorder an empty cache": (
        lambda: KVCache(3).reorder(torch.tensor([0])),
        ["expected tokens", "got none", "extend"],
    ),
    "influence of tokens": (
        lambda: influence(lambda t: t, torch.arange(3)),
        ["n_symbols >= 2", "got None", "vocabulary"],
    ),
    "influence of one symbol": (
        lambda: influence(lambda t: t, torch.zeros(3).long(), n_symbols=1),
        ["n_symbols >= 2", "got 1", "vocabulary"],
    ),
}

for name, draw in {
    "show_mask": show_mask,
    "show_scores": show_scores,
    "show_weights": show_weights,
}.items():
    CASES[f"a batch, {name}"] = (
        lambda draw=draw: draw(np.ones((2, 3, 4))),
        ["one matrix (Tq, Tk)", "got shape (2, 3, 4)", "x[0, 0]"],
    )

ones = torch.ones
for name, form in {
    "dense": attention,
    "blocks": blockwise_attention,
    "fused": fused_attention,
}.items():
    for what, mask, got in (
        ("float mask", ones(4, 6), "float32 (4, 6)"),
        ("additive mask", causal.additive(4, 6), "float32 (4, 6)"),
        ("integer mask", ones(4, 6, dtype=torch.long), "int64 (4, 6)"),
        ("NumPy mask", np.ones((4, 6), bool), "ndarray"),
    ):
        CASES[f"{what}, {name}"] = (
            qkv(form, mask),
            [
                "rule of mattn.masks or a bool tensor (True = may attend)",
                "(…, 4, 6)",
                f"got {got}",
                "`mask == 0`",
                "`mask == 1`",
            ],
        )
    for what, mask, got in (
        ("transposed mask", causal.matrix(6, 4), "bool (6, 4)"),
        ("mask by row without heads", ones(2, 4, 6).bool(), "bool (2, 4, 6)"),
        ("mask of another batch", ones(5, 1, 4, 6).bool(), "bool (5, 1, 4, 6)"),
        ("mask of too many axes", ones(1, 2, 3, 4, 6).bool(), "bool (1, 2, 3, 4, 6)"),
    ):
        CASES[f"{what}, {name}"] = (
            qkv(form, mask),
            [
                "mask must be bool (True = may attend) of shape (…, 4, 6)",
                "q (2, 3, 4, 5) and k (2, 3, 6, 5)",
                f"got {got}",
                "(B, 1, Tq, Tk)",
            ],
        )
    CASES[f"rule of another batch, {name}"] = (
        qkv(form, padding([1, 2, 3])),
        ["mask must be bool (True = may attend)", "got bool (3, 1, ", "(B, 1, Tq, Tk)"],
    )
    CASES[f"too few ids, {name}"] = (
        qkv(form, documents([0] * 5)),
        ["an id for each of 6 slots", "got 5 ids", "Give an id"],
    )
    for what, shapes in {
        "other features": [(2, 3, 4, 5), (2, 3, 6, 8), (2, 3, 6, 5)],
        "other positions": [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 7, 5)],
        "other batch": [(2, 3, 4, 5), (4, 3, 6, 5), (4, 3, 6, 5)],
        "one axis": [(5,), (6, 5), (6, 5)],
    }.items():
        CASES[f"{what}, {name}"] = (
            lambda form=form, shapes=shapes: form(*(randn(*s) for s in shapes)),
            ["expected q (", "got " + ", ".join(map(str, shapes)), "same features"],
        )
    CASES[f"two dtypes, {name}"] = (
        lambda form=form: form(
            randn(1, 1, 4, 5), randn(1, 1, 6, 5).double(), randn(1, 1, 6, 5)
        ),
        ["one floating-point dtype", "float32, torch.float64, torch.float32", ".to("],
    )
    CASES[f"integers, {name}"] = (
        lambda form=form: form(*(ones(1, 1, 4, 5, dtype=torch.long),) * 3),
        ["one floating-point dtype", "got torch.int64", ".to("],
    )


@pytest.fixture(scope="module")
def raised() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", CASES)
def test_message(raised, name):
    refused_with(raised[name], CASES[name][1])


def test_these_tests_run_with_shapes_checked_and_the_cases_without(raised):
    from jaxtyping import TypeCheckError

    wrong_mask = CASES["float mask, dense"][0]
    with pytest.raises(TypeCheckError):
        wrong_mask()
    # Where no signature names a shape, the types alone.
    with pytest.raises(TypeError, match="violates type hint"):
        english_number("3")
    assert "TypeCheckError" not in {kind for kind, _ in raised.values()}


def test_nothing_is_refused_that_is_right():
    for form in (attention, blockwise_attention, fused_attention):
        for mask in (None, full, padding([1, 6]), ones(4, 6).bool(), ones(4, 1).bool()):
            qkv(form, mask)()


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages({name: call for name, (call, _) in CASES.items()})))
