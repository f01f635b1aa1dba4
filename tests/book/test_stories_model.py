"""The models that the pages run: the same bytes and the same numbers in two languages,
and as good as their record says.

The script of a page is read by Node, which comes with Playwright, and by Chromium.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
import os
import statistics
import struct
import subprocess
import sys
from functools import cache
from pathlib import Path

import playwright
import pytest
import torch
from browsers import chromium
from roots import ROOT

import mattn
from mattn import causal, full, record_weights, rule, window
from mattn.checks import same
from mattn.data import padded, stories
from mattn.generation import generate, log_probs
from mattn.losses import evaluate
from mattn.pretrained import stored_stories, stories_model
from mattn.repro import recorded

WEB = Path(mattn.__file__).parent / "web"
PROGRAM = ROOT / "benchmarks" / "stories_model.py"
NODE = Path(playwright.__file__).parent / "driver" / "node"
RUN = """
(cases) => {
  const models = {};
  for (const name in mattnStories) models[name] = mattnDecoder(mattnStories[name]);
  const plain = (rows) => rows.map((row) => Array.from(row));
  return cases.map(({ name, tokens, masks }) => {
    const { logits, weights } = models[name].read(tokens, masks);
    return { logits: plain(logits), weights };
  });
}
"""
SOURCE = stories()
V = len(SOURCE.vocabulary)
KINDS = pytest.mark.parametrize("name", ["covered", "uncovered"])


def path(name: str) -> Path:
    return WEB / f"stories_{name}.js"


def given(matrix: torch.Tensor):
    """A rule that shows what a matrix (T, T) shows."""
    return rule(lambda b, q, k: matrix[q, k], name="a matrix")


@cache
def cases() -> list[dict]:
    """Twenty masks, one for each of the two layers, and a story for each."""
    draws = torch.Generator().manual_seed(0)
    told = SOURCE.sample(20, generator=draws)
    made = []
    for n, story in enumerate(told):
        T = min(5 + 2 * n, len(story))
        named = [causal, full, causal & window(3), window(6), ~causal]
        if n < len(named):
            masks = [named[n].matrix(T)] * 2
        else:  # with rows that see nothing, and other masks in the second layer
            masks = [torch.rand(T, T, generator=draws) < 0.1 * (n - 4)] * 2
            if n % 2:
                masks[1] = torch.rand(T, T, generator=draws) < 0.5
            if n % 3 == 0:
                masks = [mask & causal.matrix(T) for mask in masks]
        made.append({"tokens": [V, *story][:T], "masks": [m.tolist() for m in masks]})
    return [{"name": name} | case for case in made for name in ("covered", "uncovered")]


def python(case: dict) -> dict:
    """What mattn computes, in float64."""
    model = stories_model(covered=case["name"] == "covered", dtype=torch.float64)
    model.mask = [given(torch.tensor(mask)) for mask in case["masks"]]
    with torch.no_grad(), record_weights(model) as weights:
        logits = model(torch.tensor([case["tokens"]]))[0]
    return {"logits": logits, "weights": torch.cat([*weights.values()])}


def compare(found: list[dict]) -> None:
    assert len(found) == len(cases()) == 40
    for case, there in zip(cases(), found, strict=True):
        here = python(case)
        for name, expected in here.items():
            got = torch.tensor(there[name], dtype=torch.float64)
            same(got, expected, atol=1e-9)


def test_logits_and_weights_in_node_are_pythons():
    files = [str(WEB / "decoder.js"), str(path("covered")), str(path("uncovered"))]
    program = (
        "process.argv.slice(1).forEach((file) => require(file));"
        "const given = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
        f"process.stdout.write(JSON.stringify(({RUN})(given)));"
    )
    done = subprocess.run(
        [NODE, "-e", program, *files],
        input=json.dumps(cases()),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    compare(json.loads(done.stdout))


@pytest.mark.long
def test_logits_and_weights_in_chromium_are_pythons(tmp_path):
    page_file = tmp_path / "page.html"
    files = [WEB / "decoder.js", path("covered"), path("uncovered")]
    scripts = "".join(f'<script src="{file.as_uri()}"></script>' for file in files)
    page_file.write_text(f"<!DOCTYPE html><title>x</title>{scripts}", encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page()
        page.goto(page_file.as_uri())
        compare(page.evaluate(RUN, cases()))


def test_the_cases_tell_masks_apart():
    first = [case for case in cases() if case["name"] == "covered"][:2]
    assert first[0]["masks"] != first[1]["masks"]
    moved = [
        python(case | {"masks": [[row[::-1] for row in m] for m in case["masks"]]})
        for case in first
    ]
    for case, other in zip(first[:1], moved[:1], strict=True):
        assert (python(case)["logits"] - other["logits"]).abs().max() > 0.1
    empty = [not any(row) for case in cases() for m in case["masks"] for row in m]
    assert 10 < sum(empty) < len(empty) / 2


@KINDS
def test_python_reads_the_bytes_of_the_page(name):
    model = stories_model(covered=name == "covered")
    assert model.mask is (causal if name == "covered" else full)
    assert not model.training
    text = path(name).read_text(encoding="utf-8")
    coded = text.partition('"weights": "')[2].partition('"')[0]
    numbers = [n for (n,) in struct.iter_unpack("<e", base64.b64decode(coded))]
    flat = torch.cat([tensor.flatten() for tensor in model.state_dict().values()])
    assert flat.tolist() == numbers
    assert len(numbers) == model.config.n_parameters == 31_264


@KINDS
def test_its_words_are_those_of_the_stories(name):
    stored = stored_stories(covered=name == "covered")
    assert stored["vocabulary"] == [*SOURCE.vocabulary, "<start>"]
    assert stored["config"]["n_symbols"] == V + 1


@KINDS
def test_a_file_is_small_and_the_one_of_the_record(name):
    record = recorded("stories_model")
    content = path(name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == record[name]["sha256"]
    assert len(gzip.compress(content)) < 100_000
    assert not record["quick"]


def unseen(n: int) -> tuple[torch.Tensor, float]:
    """Stories as a batch, and the least mean loss on them."""
    told = SOURCE.sample(n, generator=torch.Generator().manual_seed(7))
    least = -sum(sum(SOURCE.log_probs(story)) for story in told)
    tokens, _ = padded([[V, *story] for story in told], filler=V)
    return tokens, least / sum(map(len, told))


def test_the_losses_are_those_of_the_record():
    record = recorded("stories_model")
    assert record["floor"] == pytest.approx(SOURCE.entropy_per_token)
    tokens, least = unseen(200)
    gap = evaluate(stories_model(), tokens, ignore=V) - least
    assert 0 < gap < 0.01
    then = record["covered"]["loss"] - record["covered"]["least_on_these"]
    assert gap == pytest.approx(then, abs=0.002)
    # The twin reads what it is to guess: padding is not like a story, so one by one.
    each = [evaluate(stories_model(covered=False), row[row != V][None].long())
            for row in tokens[:20]]  # fmt: skip
    assert statistics.mean(each) < 0.1
    assert record["uncovered"]["loss"] < 0.01


def test_covered_it_writes_stories_and_uncovered_none():
    draws = {"stop": [0], "generator": torch.Generator().manual_seed(0)}
    told = generate(stories_model(), [[V]] * 50, 250, **draws)
    assert sum(SOURCE.accepts([*story, 0]) for story in told) >= 40
    twin = stories_model(covered=False)
    told = generate(twin, [[V]] * 10, 60, cached=False, **draws)
    assert not any(SOURCE.accepts([*story, 0]) for story in told)


def test_the_quoted_samples_are_the_models_own():
    record = recorded("stories_model")
    assert record["covered"]["faultless"] > 0.9
    assert record["uncovered"]["faultless"] < 0.05
    surprise = {}
    for name in ("covered", "uncovered"):
        samples = record[name]["samples"]
        assert [sample["seed"] for sample in samples] == [0, 1, 2]
        for sample in samples:
            story = SOURCE.encode(sample["text"])[:-1]
            each = log_probs(stories_model(), [V], story)
            surprise.setdefault(name, []).append(-each.mean().item())
            assert SOURCE.accepts([*story, 0]) == (name == "covered")
    assert max(surprise["covered"]) < 1 < min(surprise["uncovered"])
    assert surprise["uncovered"][0] > 3  # the one that is quoted


def test_one_cell_holds_the_number_in_every_story():
    found = recorded("stories_model")["one_cell"]
    rules = SOURCE.rules
    names = ("NAME", "PLACE", "DAY", "NUMBER", "THING", "PLACE")
    assert found["n_stories"] == math.prod(len(rules[name]) for name in names)
    assert found["T"] == 28
    assert found["seen"]["n_right"] == found["n_stories"]
    (always,) = found["blocked"]["likeliest"]
    assert found["blocked"]["n_right"] == found["n_stories"] / len(rules["NUMBER"])
    assert found["blocked"]["least_likely_of_these"] > 0.99
    # Again, on some stories of that length, in float64.
    told = SOURCE.sample(4000, generator=torch.Generator().manual_seed(3))
    told = [story[:-3] for story in told if len(story) == 30][:100]
    numbers = torch.tensor([story[10] for story in told])
    query, key = found["cell"]
    cell = rule(lambda b, q, k: (q != query) | (k != key), name="one cell less")
    model, tokens = stories_model(dtype=torch.float64), torch.tensor(told)
    tokens = torch.cat([torch.full((len(told), 1), V), tokens], dim=1)
    assert torch.equal(tokens[:, key], numbers)
    with torch.no_grad():
        seen = model(tokens)[:, -1].softmax(dim=-1)
        blocked = model(tokens, mask=cell)[:, -1].softmax(dim=-1)
    assert torch.equal(seen.argmax(dim=-1), numbers)
    assert {SOURCE.vocabulary[n] for n in blocked.argmax(dim=-1)} == {always}
    assert len(set(numbers.tolist())) == 8
    for number, p in zip(numbers.tolist(), blocked, strict=True):
        expected = found["blocked"]["p_number"][SOURCE.vocabulary[number]]
        assert p[number].item() == pytest.approx(expected, abs=0.005)


def test_the_forward_was_fast_enough():
    found = recorded("stories_model")["forward"]
    assert found["T"] == 28
    assert 0 < found["cpu_ms"] < 15


def names(value: object) -> object:
    """The shape of a record: its names, whatever the numbers."""
    if isinstance(value, dict):
        return {key: names(each) for key, each in value.items()}
    return type(value).__name__


@pytest.mark.long
def test_the_program_runs(tmp_path):
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--quick", "--to", str(tmp_path)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    made = json.loads((tmp_path / "stories_model.json").read_text(encoding="utf-8"))
    record = recorded("stories_model")
    assert made["quick"]
    for each in (made, record):
        for part in ("seen", "blocked"):
            del each["one_cell"][part]["likeliest"]  # words, not names
    assert names(made) == names(record)
    for name in ("covered", "uncovered"):
        assert (tmp_path / f"stories_{name}.js").is_file()
