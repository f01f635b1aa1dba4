"""What masks_of says, held against models of transformers, cell by cell.

A few families each time; all of them, with the record, in `make test-long`.
Models are tiny, their weights random; nothing is downloaded.
"""

from __future__ import annotations

import sys

import pytest
import torch
from roots import ROOT

from mattn import causal, full, masks_of, window
from mattn.masks.configs import FAMILIES, Layers
from mattn.repro import recorded

transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(ROOT / "benchmarks"))
import configurations as held  # noqa: E402
import layers_seen as seen  # noqa: E402

EVERY_TIME = ["gemma2", "llama4_text", "modernbert", "gemma3, images"]
RECORD = recorded("configurations")
ROWS = {row["name"]: row for row in RECORD["models"]}


def without_words(row: dict) -> dict:
    """What is compared; where another version keeps its lines is told apart."""
    cases = [{k: v for k, v in case.items() if k != "why"} for case in row["cases"]]
    return {**row, "cases": cases}


@pytest.mark.parametrize("name", EVERY_TIME)
def test_rules_are_what_the_model_does(name):
    found = held.compare(name)
    assert without_words(found) == without_words(ROWS[name])
    wrong = {case["given"] for case in found["cases"] if case["differ"]}
    # An encoder's mask takes no notice of documents.
    assert wrong == ({"packed"} if name == "modernbert" else set())


@pytest.mark.parametrize("name", [n for n in held.MODELS if n not in EVERY_TIME])
@pytest.mark.long
def test_the_record_is_true_of_every_family(name):
    assert without_words(held.compare(name)) == without_words(ROWS[name])


def test_the_record_holds_every_model_and_explains_what_differs():
    assert list(ROWS) == list(held.MODELS)
    assert {row["family"] for row in ROWS.values()} == set(FAMILIES) - {"llama4"}
    for row in ROWS.values():
        cases = {case["given"]: case for case in row["cases"]}
        assert {"plain", "left padding", "FlexAttention"} <= cases.keys()
        for how in ("plain", "left padding", "images", "FlexAttention"):
            assert cases.get(how, {"differ": 0})["differ"] == 0, (row["name"], how)
        for how, case in cases.items():
            assert bool(case["differ"]) is ((row["name"], how) in held.WHY)
            assert case.get("why", "") == held.WHY.get((row["name"], how), "")


@pytest.mark.parametrize("name", FAMILIES)
def test_absent_fields_are_what_the_class_of_the_family_says(name):
    config = transformers.AutoConfig.for_model(name)
    said = masks_of({"model_type": name})
    for given in (config, config.to_dict(), config.to_diff_dict()):
        layers = masks_of(given)
        for part in (layers, layers.encoder, layers.cross):
            assert part is not layers or [*map(repr, part)] == [*map(repr, said)]
        assert [*map(repr, layers.encoder)] == [*map(repr, said.encoder)]
        assert [*map(repr, layers.cross)] == [*map(repr, said.cross)]


@pytest.mark.parametrize("wrong", [window(5), window(3), full])
def test_a_rule_that_is_off_by_one_is_noticed(wrong):
    """What is measured of Mistral, held against other windows than its own 4."""
    model = held.build("mistral", fused=False)
    tally = held.Tally()
    for case in seen.cases(model, images=False):
        expected = case.expected(Layers([causal & wrong] * 2))
        held._add(tally, case, expected, seen.by_weights(model, case), "weights")
    assert tally.differ
    assert "layer 0" in tally.first


def first_query_sees_last(model: torch.nn.Module) -> list[bool]:
    """Per layer: does the first output move with the last input?"""
    case = next(c for c in seen.cases(model, images=False) if c.length == 11)
    return [bool(of[0, 0, -1]) for of in seen.by_influence(model, case)["own"]]


def test_a_switch_that_back_ends_read_differently_is_refused(monkeypatch):
    """Gemma, both directions: eager stays causal, sdpa does not; no rule is right."""
    kind, options = held.MODELS["gemma"]
    field = "use_bidirectional_attention"
    monkeypatch.setitem(held.MODELS, "gemma", (kind, options | {field: True}))
    for fused, ahead in ((False, False), (True, True)):
        model = held.build("gemma", fused=fused)
        with pytest.raises(ValueError, match=f"expected {field}"):
            masks_of(model.config)
        assert set(first_query_sees_last(model)) == {ahead}
