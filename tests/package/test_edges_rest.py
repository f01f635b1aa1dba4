"""The edges of what draws, plays, audits and translates: right, or refused by name.

The checks of shapes would speak first, so the cases run in a process without them:
this file, executed as a program.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from refusals import messages, printed

from mattn import causal, padding, plotting, tables
from mattn.audit import audit, audit_beam, audit_labels, audit_layers
from mattn.data.translation import (
    english_text,
    english_words,
    split_pairs,
    translation_grammar,
)
from mattn.losses import next_token_loss
from mattn.playground import embed, playground, project

MASK = causal.matrix(3, 4)
SQUARE = causal.matrix(4)
ONE = torch.ones(1, 1)
NAN = torch.tensor([[0.5, math.nan]])
GRAMMAR = translation_grammar(depth=0)


def one_hot(tokens: torch.Tensor) -> torch.Tensor:
    """A model (B, T) → (B, T, 5)."""
    return torch.nn.functional.one_hot(tokens, 5).float()


# Name → what is called, and what its message must contain, in this order.
CASES: dict[str, tuple[Callable, list[str]]] = {
    "mask of floats": (
        lambda: plotting.show_mask(causal.additive(3)),
        ["bool", "(3, 3)", "got float32", "mask == 0"],
    ),
    "mask of integers": (lambda: plotting.show_mask(MASK.int()), ["bool", "int32"]),
    "mask without cells": (lambda: plotting.show_mask(MASK[:0]), ["got shape (0, 4)"]),
    "mask, a row": (lambda: plotting.show_mask(MASK[0]), ["(Tq, Tk)", "(4,)"]),
    "query past the end": (
        lambda: plotting.show_mask(MASK, query=3),
        ["query position from 0 to 2", "got 3"],
    ),
    "query before 0": (lambda: plotting.show_mask(MASK, query=-1), ["query", "-1"]),
    "query 1.0": (lambda: plotting.show_mask(MASK, query=1.0), ["query", "1.0"]),
    "too few tokens": (
        lambda: plotting.show_mask(MASK, ["a", "b", "c"]),
        ["expected 4 tokens", "got 3"],
    ),
    "too many tokens": (
        lambda: plotting.show_weights(ONE, ["a", "b"]),
        ["expected 1 tokens", "got 2"],
    ),
    "no masks": (lambda: plotting.show_masks({}), ["at least one mask", "got none"]),
    "no columns": (
        lambda: plotting.show_masks({"a": MASK}, n_columns=0),
        ["n_columns >= 1", "got 0"],
    ),
    "leaks of two sizes": (
        lambda: plotting.show_leaks(SQUARE, MASK),
        ["shape (4, 4)", "got bool (3, 4)"],
    ),
    "leaks as numbers": (lambda: plotting.show_leaks(ONE, ONE), ["bool", "float32"]),
    "score NaN": (lambda: plotting.show_scores(NAN), ["finite scores", "got nan"]),
    "score ∞": (lambda: plotting.show_scores(ONE * math.inf), ["finite", "got inf"]),
    "score −∞ allowed": (
        lambda: plotting.show_scores(ONE * -math.inf, allowed=ONE.bool()),
        ["finite scores", "got -inf"],
    ),
    "allowed of another size": (
        lambda: plotting.show_scores(ONE, allowed=MASK),
        ["shape (1, 1)", "got bool (3, 4)"],
    ),
    "weight NaN": (lambda: plotting.show_weights(NAN), ["finite weights", "got nan"]),
    "weight ∞": (
        lambda: plotting.show_weights(ONE / 0, allowed=ONE.bool()),
        ["finite weights", "got inf"],
    ),
    "keys": (
        lambda: plotting.show_weights(ONE, keys=["a", "b"]),
        ["expected 1 keys", "got 2"],
    ),
    "no curves": (lambda: plotting.show_curves({}), ["at least one curve"]),
    "curve of two lengths": (
        lambda: plotting.show_curves({"a": ([1, 2], [1])}),
        ["'a'", "(2,) and (1,)"],
    ),
    "curve of nothing": (
        lambda: plotting.show_curves({"a": ([], [])}),
        ["at least 1", "(0,)"],
    ),
    "running of two lengths": (
        lambda: plotting.show_running([0.0, 1.0], [0.0], [1.0, 2.0]),
        ["'maximum'", "(2,) and (1,)"],
    ),
    "running of nothing": (lambda: plotting.show_running([], [], []), ["'scores'"]),
    "reach of no square": (
        lambda: plotting.show_reach(MASK, 2, query=0),
        ["shape (3, 3)", "(3, 4)"],
    ),
    "reach, no layer": (
        lambda: plotting.show_reach(SQUARE, 0, query=0),
        ["n_layers >= 1", "got 0"],
    ),
    "reach, query": (
        lambda: plotting.show_reach(SQUARE, 1, query=4),
        ["from 0 to 3", "got 4"],
    ),
    "reach, tokens": (
        lambda: plotting.show_reach(SQUARE, 1, query=0, tokens=["a"]),
        ["expected 4 tokens", "got 1"],
    ),
    "decoder of two sizes": (
        lambda: plotting.show_decoder(["a"], SQUARE, n_layers=1),
        ["shape (1, 1)", "(4, 4)"],
    ),
    "decoder, no layer": (
        lambda: plotting.show_decoder(["a"], ONE.bool(), n_layers=0),
        ["n_layers >= 1"],
    ),
    "no texts": (lambda: tables.show_texts({}), ["at least one text"]),
    "table without columns": (lambda: tables.show_table([], []), ["got none"]),
    "block 0": (lambda: plotting.show_blocks(SQUARE, 0), ["block >= 1", "got 0"]),
    "a time of 0": (
        lambda: plotting.show_scaling({"a": ([1, 2], [0, 1])}, y_label="ms"),
        ["'a'", "above 0", "got 0"],
    ),
    "a time that is NaN": (
        lambda: plotting.show_scaling({"a": ([1], [math.nan])}, y_label="ms"),
        ["above 0", "got nan"],
    ),
    "roofline of nothing": (
        lambda: plotting.show_roofline(1.0, 1.0, {}),
        ["at least one point", "got no point"],
    ),
    "bandwidth 0": (
        lambda: plotting.show_roofline(1.0, 0.0, {"a": 1.0}),
        ["above 0", "bandwidth 0.0"],
    ),
    "intensity NaN": (
        lambda: plotting.show_roofline(1.0, 1.0, {"a": math.nan}),
        ["above 0", "a nan"],
    ),
    "no faults": (lambda: plotting.show_probes({}, ["a"]), ["at least one fault"]),
    "no probes": (lambda: plotting.show_probes({"f": []}, []), ["one probe"]),
    "play nothing": (lambda: playground(""), ["1 to 10 tokens", "got ()"]),
    "play too much": (lambda: playground(["a"] * 11), ["1 to 10 tokens"]),
    "play numbers": (lambda: playground([1, 2]), ["each a str", "(1, 2)"]),
    "play query": (lambda: playground("a b", query=2), ["0 to 1", "got 2"]),
    "play query −1": (lambda: playground("a b", query=-1), ["0 to 1", "got -1"]),
    "play query 0.5": (lambda: playground("a b", query=0.5), ["query", "got 0.5"]),
    "play mask": (
        lambda: playground("a b", torch.zeros(2, 2)),
        ["bool", "(2, 2)", "float32"],
    ),
    "play a batch": (
        lambda: playground("a b", padding([1, 2])),
        ["one sequence", "(2, 2, 2)"],
    ),
    "play without v": (
        lambda: playground("a", q=ONE, k=ONE),
        ["all three", "v None"],
    ),
    "play NaN": (
        lambda: playground("a b", q=NAN.mT, k=NAN.mT, v=NAN.mT),
        ["finite", "NaN"],
    ),
    "embed numbers": (lambda: embed([1]), ["str", "got 1"]),
    "audit nothing": (
        lambda: audit(torch.relu, ONE[:0]),
        ["integer tokens", "float32"],
    ),
    "audit one position": (
        lambda: audit(torch.relu, ONE[None]),
        ["at least 2 positions", "(1, 1, 1)"],
    ),
    "audit no rows": (
        lambda: audit(torch.relu, torch.ones(0, 3, 2)),
        ["at least 2 positions", "(0, 3, 2)"],
    ),
    "audit for NaN seconds": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), budget=math.nan),
        ["budget of 0 seconds or more", "got nan"],
    ),
    "audit for −1 second": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), budget=-1),
        ["budget", "got -1"],
    ),
    "audit of no layer": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), n_layers=0),
        ["n_layers >= 1", "got 0"],
    ),
    "audit of 1.5 layers": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), n_layers=1.5),
        ["n_layers >= 1", "got 1.5"],
    ),
    "audit by numbers": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), expected=torch.ones(3, 3)),
        ["boolean matrix", "Tensor of torch.float32"],
    ),
    "audit by another length": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), expected=SQUARE),
        ["(3, 3)", "got (4, 4)"],
    ),
    "audit without probes": (
        lambda: audit(torch.relu, torch.ones(1, 3, 2), probes=[]),
        ["probes out of", "got none"],
    ),
    "audit without layers": (
        lambda: audit_layers(torch.nn.Linear(2, 2), torch.ones(1, 3, 2)),
        ["no attention module", "layers="],
    ),
    "labels of 6 symbols": (
        lambda: audit_labels(next_token_loss, n_symbols=6),
        ["n_symbols >= 7", "got 6"],
    ),
    "labels of one": (
        lambda: audit_labels(next_token_loss, length=1),
        ["length >= 2", "got 1"],
    ),
    "labels of none": (
        lambda: audit_labels(next_token_loss, batch=0),
        ["batch >= 1", "got 0"],
    ),
    "beam of nothing": (
        lambda: audit_beam(one_hot, [], [([1], 0.0)]),
        ["a prompt", "0 tokens"],
    ),
    "beams, none": (lambda: audit_beam(one_hot, [1], []), ["0 hypotheses"]),
    "beam of floats": (
        lambda: audit_beam(one_hot, [0.5], [([1], 0.0)]),
        ["integer tokens", "float32"],
    ),
    "beam to NaN": (
        lambda: audit_beam(one_hot, [1], [([1], 0.0)], atol=math.nan),
        ["atol >= 0", "got nan"],
    ),
    "grammar of depth 3": (lambda: translation_grammar(depth=3), ["0, 1 or 2", "3"]),
    "grammar of depth −1": (lambda: translation_grammar(depth=-1), ["depth", "-1"]),
    "grammar of depth ½": (lambda: translation_grammar(depth=0.5), ["depth", "0.5"]),
    "sentence of no words": (lambda: GRAMMAR.pair(" "), ["an empty one"]),
    "sentence of bytes": (lambda: GRAMMAR.pair(b"No."), ["a str", "got bytes"]),
    "sentence unknown": (lambda: GRAMMAR.pair("Zzz."), ["words of the grammar", "zzz"]),
    "sentence unended": (lambda: GRAMMAR.pair("He has"), ["not a sentence", "He has"]),
    "sample of a seed": (
        lambda: GRAMMAR.sample(generator=0),
        ["torch.Generator", "got"],
    ),
    "pairs of a seed": (
        lambda: split_pairs({"train": 1}, generator=0),
        ["torch.Generator"],
    ),
    "fewer pairs than none": (
        lambda: split_pairs({"train": -1}, generator=torch.Generator()),
        ["'train' >= 0", "got -1"],
    ),
    "half a pair": (
        lambda: split_pairs({"new": 0.5}, generator=torch.Generator()),
        ["'new' >= 0", "got 0.5"],
    ),
    "pairs of no split": (
        lambda: split_pairs({"test": 1}, generator=torch.Generator()),
        ["train, valid", "['test']"],
    ),
}


@pytest.fixture(scope="module")
def refused() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", CASES)
def test_refused(name: str, refused: dict[str, list[str]]) -> None:
    kind, message = refused[name]
    assert kind == "ValueError", message
    at = 0
    for part in CASES[name][1]:
        at = message.find(part, at)
        assert at >= 0, (part, message)


HALF = {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}


@pytest.mark.parametrize("dtype", HALF.values(), ids=HALF)
def test_what_is_drawn_may_have_any_precision(dtype: torch.dtype) -> None:
    values = torch.tensor([[1.0, 0.0], [0.25, 0.75]], dtype=dtype)
    for draw in (plotting.show_weights, plotting.show_scores):
        texts = draw(values, allowed=SQUARE[:2, :2]).axes[0].texts
        assert [text.get_text() for text in texts] == ["1.00", "0.25", "0.75"]


def test_the_smallest_of_everything_is_drawn() -> None:
    """One position, one layer, one point: without a warning."""
    one = np.ones((1, 1), dtype=bool)
    for figure in (
        plotting.show_mask(one, ["a"], query=0),
        plotting.show_masks({"a": one}, ["a"], n_columns=1),
        plotting.show_leaks(one, one),
        plotting.show_scores(np.zeros((1, 1))),
        plotting.show_weights(ONE.int(), keys=["a"], query=0),
        plotting.show_attention(ONE, ONE.bool(), ONE, ["a"]),
        plotting.show_curves({"a": ([1], ONE[0].requires_grad_())}),
        plotting.show_running([1.0], [1.0], [1.0]),
        plotting.show_reach(one, 1, query=0),
        plotting.show_decoder(["a"], one, n_layers=1),
        plotting.show_blocks(one, 2),
        plotting.show_scaling({"a": ([1], [1])}, y_label="ms"),
        plotting.show_roofline(1.0, 1.0, {"a": 1.0}),
        plotting.show_probes({"f": []}, ["p"]),
    ):
        figure.canvas.draw()


def test_a_whole_number_is_a_weight_and_no_colour_index() -> None:
    whole, real = (plotting.show_weights(t) for t in (ONE.int(), ONE))
    colours = [f.axes[0].patches[0].get_facecolor() for f in (whole, real)]
    assert colours[0] == colours[1]


def test_what_is_blocked_may_hold_anything() -> None:
    allowed = torch.tensor([[True, False]])
    for draw in (plotting.show_scores, plotting.show_weights):
        texts = draw(NAN, allowed=allowed).axes[0].texts
        assert [text.get_text() for text in texts] == ["0.50"]


def test_a_sentence_of_no_words_has_no_rows() -> None:
    assert embed([]).shape == (0, 4)
    assert {name: x.shape for name, x in project([]).items()} == dict.fromkeys(
        "qkv", (0, 4)
    )


def test_no_pairs_of_each_split() -> None:
    generator = torch.Generator().manual_seed(0)
    assert split_pairs({}, generator=generator) == {}
    assert split_pairs({"train": 0, "new": 0}, generator=generator) == {
        "train": [],
        "new": [],
    }


def test_no_words_are_no_sentence() -> None:
    assert english_words("") == []
    assert english_text([]) == ""
    assert GRAMMAR.parses([]) == []


def test_an_audit_of_the_smallest_input() -> None:
    """Two positions of one row; every probability of a beam is found again."""
    assert audit(torch.relu, torch.randn(1, 2, 1)).ok
    claimed = math.log(math.e / (math.e + 4))
    assert audit_beam(one_hot, [1], [([1], claimed)]).ok
    assert not audit_beam(one_hot, [1], [([1], math.nan)]).ok
    assert not audit_beam(one_hot, [1], [([1], -math.inf)]).ok
    assert audit_labels(next_token_loss, n_symbols=7, length=2, batch=1).ok


def test_a_playground_may_see_nothing() -> None:
    made = playground("a b", torch.zeros(2, 2, dtype=torch.bool))
    assert not made.weights.any()
    assert not made.out.any()


if __name__ == "__main__":
    json.dump(messages({name: call for name, (call, _) in CASES.items()}), sys.stdout)
