"""The atlas: every entry runs, its pairs are counted, and what is missing is said."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from jsonschema import Draft202012Validator
from pybtex.database import parse_file
from roots import ROOT
from torch.nn import functional as F
from torch.nn.attention.flex_attention import create_mask

from mattn import causal, window
from mattn.masks import Mask, conform, from_mask_mod
from mattn.masks.__main__ import main
from mattn.masks.atlas import ENTRIES, atlas
from mattn.masks.cases import schema
from mattn.masks.entry import LARGE, Entry

CITED = parse_file(ROOT / "chapters" / "references.bib").entries
IDS = [entry.key for entry in ENTRIES]
MASKS = [entry for entry in ENTRIES if not entry.instead]


def missing(entry: Entry) -> list[str]:
    """What an entry does not say, or says wrongly."""
    texts = ("key", "title", "rule", "why", "who", "source", "pairs")
    found = [f"{entry.key}: no {name}" for name in texts if not getattr(entry, name)]
    if not entry.why.endswith(".") or (entry.instead and entry.instead[-1] != "."):
        found.append(f"{entry.key}: why and instead are sentences")
    keys = entry.source.split(" (")[0].split(", ")
    found += [
        f"{entry.key}: {k} is not in references.bib" for k in keys if k not in CITED
    ]
    if not isinstance(entry.mask(entry.step * 8), Mask):
        found.append(f"{entry.key}: its rule is no rule")
    for T in (n for n in (1, 2, 5, 8, 12, 16) if n % entry.step == 0):
        counted, said = entry.mask(T).pairs(T), entry.n_pairs(T)
        if counted != said:
            found.append(
                f"{entry.key}: {counted} pairs at {T}, its formula says {said}"
            )
    if unknown := (set(entry.large) | set(entry.tries)) - set(entry.given):
        found.append(f"{entry.key}: {unknown} is not among what is given")
    for said, rule in entry.slips.items():
        slip = entry.read(rule, 8, entry.parameters(8))
        if torch.equal(slip.matrix(8), entry.mask(8).matrix(8)):
            found.append(f"{entry.key}: {said!r} is the same mask")
    return found


@pytest.mark.parametrize("entry", ENTRIES, ids=IDS)
def test_an_entry_is_complete_and_true(entry):
    assert missing(entry) == []


def test_entries_differ():
    assert len(set(IDS)) == len(IDS) >= 43
    assert len({entry.title for entry in ENTRIES}) == len(IDS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"source": "nobody2020nothing"}, "nobody2020nothing is not in references.bib"),
        ({"pairs": "T * T"}, "1024 pairs at 8, its formula says"),
        ({"who": ""}, "no who"),
        ({"slips": {"it is itself": "causal & window(w)"}}, "is the same mask"),
        ({"tries": {"v": (1,)}}, "{'v'} is not among what is given"),
    ],
)
def test_what_is_missing_is_said(change, said):
    given = {name: getattr(atlas("window"), name) for name in Entry.__annotations__}
    faults = missing(Entry(**(given | change)))
    assert any(said.replace("1024", "21") in fault for fault in faults), faults


def test_what_is_computed_by_hand():
    entry = atlas("window")
    assert entry.kept == "512 keys"
    # A query block of 128 sees its own block and the four before: 5 of 32.
    assert entry.skipped == (1024 - sum(min(i + 1, 5) for i in range(32)), 1024)
    assert [entry.seen_after(n) for n in (1, 2, 4)] == [3, 5, 9]
    assert atlas("sinks").kept == "516 keys"
    assert atlas("causal").kept == "all"
    assert atlas("near").kept == "looks 64 ahead"
    assert atlas("full").kept == f"looks {LARGE - 1:,} ahead"
    assert atlas("chunked").seen_after(5) == 1  # slot 63 begins a chunk of 3
    with pytest.raises(ValueError, match=r"expected one of causal, .*; got 'casual'"):
        atlas("casual")


# ------------------------------------------------------------- somebody's mask


def sdpa_window(n_queries, n_keys, w):
    """As people build an additive mask for scaled_dot_product_attention."""
    ones = torch.ones(n_queries, n_keys, dtype=torch.bool)
    late = n_keys - n_queries
    seen = ones.tril(late) & ~ones.tril(late - w)
    return torch.zeros(n_queries, n_keys).masked_fill(~seen, -1e9)


def test_an_additive_mask_conforms_and_is_what_sdpa_takes():
    assert conform(sdpa_window, "window").ok
    q = torch.randn(1, 1, 5, 4, generator=torch.Generator().manual_seed(0))
    ours = F.scaled_dot_product_attention(q, q, q, (causal & window(2)).matrix(5))
    theirs = F.scaled_dot_product_attention(q, q, q, sdpa_window(5, 5, 2))
    assert torch.allclose(ours, theirs)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (lambda q, k, w: (k <= q) & (q - k <= w),
         "for w = 1, query 1 also sees key 0: the window holds w + 1 keys"),
        (lambda q, k, w: (k <= q) & (q - k < max(1, w - 1)),
         "for w = 2, query 1 does not see key 0: the window holds w - 1 keys"),
        (lambda q, k, w: q - k < w,
         "for w = 3, query 0 also sees key 1: it looks ahead, too: the window has no "
         "causal mask"),
        (lambda q, k, w: (k <= q) & (q - k < 5),
         "for w = 1, query 1 also sees key 0"),
    ],
)  # fmt: skip
def test_a_window_that_differs_is_told_apart(seen, said):
    given = from_mask_mod(lambda w: lambda b, h, q, k: seen(q, k, w))
    found = conform(given, "window")
    assert not found.ok
    assert str(found) == said


def test_alignment_is_told_apart():
    def top_left(n_queries, n_keys):
        return torch.ones(n_queries, n_keys, dtype=torch.bool).tril()

    found = conform(top_left, "causal")
    assert str(found) == (
        "of 1 queries and 2 keys, query 1 does not see key 1: fewer queries than keys "
        "are aligned top-left"
    )
    assert conform(top_left, "causal", align="top-left").ok


def test_flex_attention_and_its_alignment():
    def given(n_queries, n_keys, w):
        mod = (causal & window(w)).predicate(n_queries, n_keys)
        made = lambda b, h, q, k: mod(b, h, q, k)  # noqa: E731
        return create_mask(made, 1, 1, n_queries, n_keys, device="cpu")

    q = [given(a, b, 2)[0, 0] for a, b in ((1, 3), (3, 3))]
    assert torch.equal(q[0], (causal & window(2)).matrix(1, 3))
    assert torch.equal(q[1], (causal & window(2)).matrix(3))
    # Its own functions count queries from 0.
    plain = from_mask_mod(lambda: lambda b, h, q, k: k <= q, shift=False)
    assert conform(plain, "causal", align="top-left").ok
    assert not conform(plain, "causal").ok


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("causal", lambda t: lambda: t.causal_mask_function),
        ("full", lambda t: lambda: t.bidirectional_mask_function),
        ("window", lambda t: t.sliding_window_causal_mask_function_of),
        ("chunked", lambda t: t.chunked_of),
    ],
)
def test_the_mask_functions_of_transformers(key, make):
    t = pytest.importorskip("transformers.masking_utils")
    t.sliding_window_causal_mask_function_of = lambda w: (
        t.sliding_window_causal_mask_function(w)
    )
    pad = torch.zeros(1, dtype=torch.long)
    t.chunked_of = lambda c: t.chunked_causal_mask_function(c, pad)
    found = conform(from_mask_mod(make(t)), key)
    assert found.ok, found


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (lambda a, b: torch.ones(a, b), r"got float32 \(1, 1\) from 1 to 1. Of ones"),
        (lambda a, b: torch.ones(a, b).long(), "expected bool, True = may attend, or"),
        (lambda a, b: torch.zeros(a, b + 1), r"a matrix \(1, 1\); got float32 \(1, 2"),
    ],
)
def test_what_is_no_mask_is_refused(cells, message):
    with pytest.raises(ValueError, match=message):
        conform(cells, "causal")


@pytest.mark.long
def test_every_rule_conforms_to_itself_and_no_slip_does():
    for entry in (
        atlas(key) for key in ("causal", "padding", "window", "images", "wait")
    ):

        def given(n_queries, n_keys, rule=entry.rule, entry=entry, **parameters):
            mask = entry.read(rule, n_keys, parameters)
            cells = mask.matrix(n_queries, n_keys)
            return cells if cells.ndim == 2 else cells[0]

        assert conform(given, entry.key).ok, entry.key
        for said, slip in entry.slips.items():

            def wrong(n_queries, n_keys, slip=slip, given=given, **parameters):
                return given(n_queries, n_keys, rule=slip, **parameters)

            found = conform(wrong, entry.key)
            assert found.slip == said, (entry.key, found)


# ------------------------------------------------------------------ as data


def test_what_is_exported_fits_its_schema(tmp_path, capsys):
    assert main(["--export", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{len(MASKS) + 1} files in {tmp_path}\n"
    files = {file.stem: file for file in tmp_path.glob("*.json")}
    assert set(files) == {"schema", *(entry.key for entry in MASKS)}
    check = Draft202012Validator(schema())
    assert json.loads(files.pop("schema").read_text("utf-8")) == schema()
    size = 0
    for key, file in files.items():
        data = json.loads(file.read_text("utf-8"))
        assert list(check.iter_errors(data)) == [], key
        packed = json.dumps(data["cases"], ensure_ascii=False, separators=(",", ":"))
        assert data["sha256"] == hashlib.sha256(packed.encode()).hexdigest()
        for case in data["cases"]:
            assert len(case["bits"]) == len(case["query_slots"]) == case["n_queries"]
            assert {len(row) for row in case["bits"]} == {case["n_keys"]}
        size += file.stat().st_size
    assert size < 2e6
    window_of_3 = json.loads(files["window"].read_text("utf-8"))["cases"]
    (case,) = (
        c for c in window_of_3
        if c["parameters"] == {"w": 3} and (c["n_queries"], c["n_keys"]) == (2, 4)
    )  # fmt: skip
    assert case["bits"] == ["1110", "0111"]


def test_a_case_that_is_no_case_is_refused():
    data = {"format": 1, "name": "a", "title": "a", "rule": "causal", "cross": False}
    case = {"parameters": {}, "n_queries": 1, "n_keys": 1, "query_slots": [0]}
    data |= {"sha256": "0" * 64, "cases": [case | {"key_slots": [0], "bits": ["1"]}]}
    check = Draft202012Validator(schema())
    assert check.is_valid(data)
    data["cases"][0]["bits"] = ["2"]
    assert not check.is_valid(data)


def test_the_command_refuses_both_and_neither(capsys):
    for arguments in ([], ["a", "--export", "b"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        assert "expected a configuration, or --export DIR" in capsys.readouterr().err
