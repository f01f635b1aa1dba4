"""What a configuration says of who sees whom: by hand, for every family.

The pairs were written from the papers and the code of each family, not from
what masks_of gives.
"""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mattn
from mattn import causal, full, masks_of, window
from mattn.masks import describe
from mattn.masks.__main__ import main
from mattn.masks.configs import FAMILIES, comparisons
from mattn.masks.configs.described import groups, runs
from mattn.masks.configs.shapes import same_image
from mattn.masks.patterns import chunks, near
from mattn.repro import recorded

FAR = 40_000
#: (layer, query, key, seen)
BACK = [(0, 0, 0, 1), (0, 5, 0, 1), (0, 5, 6, 0), (1, 5, 5, 1), (1, FAR, 0, 1)]
BOTH = [(0, 0, 0, 1), (0, 0, 9, 1), (0, 9, 0, 1), (1, 5, 6, 1), (1, FAR, 0, 1)]
WIDE = [
    (0, 4095, 0, 1),
    (0, 4096, 0, 0),
    (0, 4096, 1, 1),
    (1, 9000, 4904, 0),
    (1, 9000, 4905, 1),
]
LOCAL_FIRST = [
    (0, 4095, 0, 1),
    (0, 4096, 0, 0),
    (0, 7, 8, 0),
    (1, 4096, 0, 1),
    (1, 7, 8, 0),
]
W8 = {"sliding_window": 8}
ON = W8 | {"use_sliding_window": True}
IN_8 = [(0, 7, 0, 1), (0, 8, 0, 0), (0, 8, 1, 1), (0, 8, 9, 0), (1, 9, 2, 1)]
THREE_OF_FOUR = [
    (0, 8, 0, 0),
    (2, 8, 1, 1),
    (2, 8, 0, 0),
    (3, 8, 0, 1),
    (3, 8, 9, 0),
]
#: model_type → what its file says besides, and five pairs
PAIRS: dict[str, tuple[dict, list[tuple[int, int, int, int]]]] = {
    **{
        name: ({}, BACK)
        for name in FAMILIES
        if name.startswith(("gpt", "olmo2", "t5", "mt5", "bart", "mbart", "pegasus"))
        and name not in ("gpt_neo", "gpt_oss")
    },
    **{name: ({}, BACK) for name in ("m2m_100", "marian", "codegen", "bloom", "opt")},
    **{name: ({}, BACK) for name in ("falcon", "biogpt", "xglm", "llama", "phi")},
    **{name: ({}, BACK) for name in ("cohere", "olmo", "stablelm", "granite")},
    **{name: ({}, BACK) for name in ("nanochat", "gemma", "mixtral", "phi3")},
    **{name: ({}, BOTH) for name in ("bert", "roberta", "xlm-roberta", "camembert")},
    **{name: ({}, BOTH) for name in ("electra", "distilbert")},
    "mistral": ({}, WIDE),
    "ministral": ({}, WIDE),
    "starcoder2": (W8, IN_8),
    "qwen3_moe": (ON, IN_8),
    "qwen2": (
        ON | {"max_window_layers": 2},
        [(1, 8, 0, 1), (2, 7, 0, 1), (2, 8, 0, 0), (2, 8, 1, 1), (31, 8, 0, 0)],
    ),
    "qwen3": (
        ON | {"max_window_layers": 31},
        [(0, 8, 0, 1), (30, 8, 0, 1), (31, 8, 0, 0), (31, 8, 1, 1), (31, 8, 9, 0)],
    ),
    "qwen2_moe": (  # windows in even layers before it, unlike Qwen 2
        ON | {"max_window_layers": 3},
        [(0, 8, 0, 0), (1, 8, 0, 1), (2, 8, 0, 0), (2, 8, 1, 1), (4, 8, 0, 1)],
    ),
    "smollm3": (  # windows where there is no rotation: every fourth
        ON,
        [(0, 8, 0, 1), (2, 8, 0, 1), (3, 8, 0, 0), (3, 8, 1, 1), (7, 8, 0, 0)],
    ),
    "gemma2": ({}, LOCAL_FIRST),
    "cohere2": (W8, THREE_OF_FOUR),
    "olmo3": (W8, THREE_OF_FOUR),
    "gpt_oss": (
        {},
        [(0, 127, 0, 1), (0, 128, 0, 0), (0, 128, 1, 1), (1, 128, 0, 1), (1, 3, 4, 0)],
    ),
    "gemma3_text": (
        {},
        [
            (4, 4096, 0, 0), (4, 4096, 1, 1), (5, 4096, 0, 1), (6, 4096, 0, 0),
            (5, 1, 2, 0),
        ],
    ),
    "gemma3": (
        {"text_config": {"sliding_window": 1024, "num_hidden_layers": 34}},
        [
            (4, 1024, 0, 0), (4, 1024, 1, 1), (5, FAR, 0, 1), (6, 1024, 0, 0),
            (33, 1, 2, 0),
        ],
    ),
    "llama4_text": (
        {"attention_chunk_size": 8},
        [(0, 7, 0, 1), (0, 8, 7, 0), (2, 15, 8, 1), (3, 15, 0, 1), (3, 8, 9, 0)],
    ),
    "llama4": (
        {"text_config": {}},
        [
            (0, 8191, 0, 1), (0, 8192, 8191, 0), (2, 9000, 8192, 1), (3, FAR, 0, 1),
            (0, 1, 2, 0),
        ],
    ),
    "gpt_neo": (
        {},
        [(0, 256, 0, 1), (1, 255, 0, 1), (1, 256, 0, 0), (1, 256, 1, 1), (1, 5, 6, 0)],
    ),
    "modernbert": (  # 64 to either side
        {},
        [(0, 0, FAR, 1), (1, 64, 0, 1), (1, 65, 0, 0), (1, 0, 64, 1), (1, 0, 65, 0)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_five_pairs_of_each_family_are_as_written_by_hand(name):
    said, pairs = PAIRS[name]
    layers = masks_of({"model_type": name, **said})
    assert layers.family == name
    assert len(pairs) == 5
    for layer, q, k, seen in pairs:
        assert layers[layer][q, k] is bool(seen), (layer, q, k)


def test_a_model_of_two_halves_has_three_masks():
    layers = masks_of({"model_type": "t5", "num_layers": 3, "num_decoder_layers": 2})
    assert (len(layers.encoder), len(layers), len(layers.cross)) == (3, 2, 2)
    assert layers.encoder == [full] * 3
    assert layers == [causal] * 2
    assert layers.cross == [full] * 2
    bart = masks_of({"model_type": "bart", "encoder_layers": 1, "decoder_layers": 4})
    assert (len(bart.encoder), len(bart)) == (1, 4)


def test_an_encoder_that_is_told_to_decode_looks_back():
    assert set(masks_of({"model_type": "bert", "is_decoder": True})) == {causal}
    told = {"model_type": "bert", "is_decoder": True, "add_cross_attention": True}
    assert masks_of(told).cross == [full] * 12


def test_images_are_seen_in_both_directions_within_the_window():
    config = {"model_type": "gemma3", "text_config": {"sliding_window": 3}}
    ids = torch.tensor([-1, 0, 0, 0, 0, 1, 1, -1])
    local, whole = masks_of(config, images=ids)[4:6]
    assert whole[1, 4]  # ahead, in the same image
    assert not whole[4, 5]  # another image
    assert not whole[0, 1]  # from text
    assert local[1, 4]  # the window bounds what is behind, not what is ahead
    assert local[4, 2]
    assert not local[4, 1]  # the same image, but three slots behind
    assert not local[7, 4]
    batched = masks_of(config, images=ids.expand(2, -1))[5]
    assert batched.matrix(8).shape == (2, 8, 8)


def test_both_directions_halve_the_window_of_gemma_3():
    said = {"model_type": "gemma3_text", "use_bidirectional_attention": True, **W8}
    local, whole = masks_of(said)[4:6]
    assert [local[9, k] for k in (4, 5, 13, 14)] == [False, True, True, False]
    assert whole[0, 99]


# ------------------------------------------------------------------- refusals

LAYERS_2 = {"num_hidden_layers": 2}
REFUSED = {
    "window 0": ({"model_type": "mistral", "sliding_window": 0}, "sliding_window", "0"),
    "window −1": (
        {"model_type": "gemma2", "sliding_window": -1},
        "sliding_window",
        "-1",
    ),
    "window true": ({"model_type": "phi3", "sliding_window": True}, "slid", "True"),
    "window of text": ({"model_type": "phi3", "sliding_window": "8"}, "slid", "'8'"),
    "types too few": (
        {"model_type": "qwen3", "layer_types": ["full_attention"]} | LAYERS_2,
        "layer_types of 1",
        r"\['full_attention'\]",
    ),
    "type unknown": (
        {"model_type": "olmo3", "layer_types": ["full_attention", "conv"]} | LAYERS_2,
        r"layer_types\[1\]",
        "'conv'",
    ),
    "model unknown": ({"model_type": "lama"}, "model_type", "'lama'.*llama"),
    "no model": ({"num_hidden_layers": 2}, "model_type", "None"),
    "no layers": ({"model_type": "llama", "num_hidden_layers": 0}, "num_hidden", "0"),
    "a window elsewhere": ({"model_type": "llama", **W8}, "sliding_window", "8"),
    "a chunk elsewhere": (
        {"model_type": "gpt2", "attention_chunk_size": 8},
        "attention_chunk_size",
        "8",
    ),
    "something sparse": (
        {"model_type": "llama", "sparse_attention": {"top": 8}},
        "sparse_attention",
        "{'top': 8}",
    ),
    "types of Mistral": (
        {"model_type": "mistral", "layer_types": ["full_attention"] * 32},
        "layer_types",
        r"\['full_attention'",
    ),
    "a window in one layer": (
        {"model_type": "mistral", "per_layer_config": {"1": {"sliding_window": 2}}},
        "per_layer_config",
        "{'1'",
    ),
    "no window for local layers": (
        {"model_type": "gemma2", "sliding_window": None},
        "sliding_window",
        "None",
    ),
    "switched off, yet local": (
        {"model_type": "qwen2", "layer_types": ["sliding_attention"] * 2} | LAYERS_2,
        "use_sliding_window",
        "no such field",
    ),
    "a pattern against types": (
        {"model_type": "cohere2", "sliding_window_pattern": 1} | LAYERS_2
        | {"layer_types": ["sliding_attention", "full_attention"]},
        "sliding_window_pattern",
        "1",
    ),
    "pattern 0": (
        {"model_type": "gemma3_text", "sliding_window_pattern": 0},
        "sliding_window_pattern",
        "0",
    ),
    "rotation of few": (
        {"model_type": "llama4_text", "no_rope_layers": [1, 0]},
        "no_rope_layers of 2",
        r"\[1, 0\]",
    ),
    "local, for too few": (
        {"model_type": "gpt_neo", "attention_types": [[["local"], 3]]},
        "attention_types for 3 layers",
        r"\[\[\['local'\], 3\]\]",
    ),
    "two counts": (
        {"model_type": "gpt2", "n_layer": 2, "num_hidden_layers": 3},
        "num_hidden_layers",
        "3",
    ),
    "not causal": ({"model_type": "llama", "is_causal": False}, "is_causal", "False"),
    "Gemma, both directions": (
        {"model_type": "gemma", "use_bidirectional_attention": True},
        "use_bidirectional_attention",
        "True",
    ),
    "half a model": ({"model_type": "bart", "is_decoder": True}, "is_decoder", "True"),
    "crossed encoder": (
        {"model_type": "bert", "add_cross_attention": True},
        "add_cross_attention",
        "True",
    ),
    "another text": (
        {"model_type": "gemma3", "text_config": {"model_type": "llama"}},
        "text_config.model_type",
        "'llama'",
    ),
    "in the text": (
        {"model_type": "llama4", "text_config": {"window_size": 3}},
        "window_size",
        "3",
    ),
    "at the root": (
        {"model_type": "gemma3", "text_config": {}, "sliding_window": 3},
        "sliding_window",
        "3",
    ),
    "a string": ({"model_type": "qwen2", "use_sliding_window": "no"}, "use_sl", "'no'"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_understood_is_refused_by_field_and_value(case):
    config, field, value = REFUSED[case]
    with pytest.raises(ValueError, match=f"(?s)expected {field}.*; got {value}"):
        masks_of(config)


def test_what_is_no_configuration_is_refused(tmp_path):
    for wrong in (None, 3, [], torch.nn.Linear(1, 1), dict):
        with pytest.raises(ValueError, match="expected a configuration"):
            masks_of(wrong)
    with pytest.raises(ValueError, match=r"expected a folder with config\.json"):
        masks_of(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="to hold a JSON object; got list"):
        masks_of(tmp_path)
    with pytest.raises(ValueError, match="images"):
        masks_of({"model_type": "llama"}, images=torch.zeros(3, dtype=torch.long))
    with pytest.raises(ValueError, match="images as an integer tensor"):
        masks_of({"model_type": "gemma3"}, images=torch.zeros(3))


def test_what_is_off_or_harmless_is_let_through():
    idle = {"sliding_window": None, "layer_types": None, "attention_dropout": 0.1}
    idle |= {"num_local_experts": 8, "use_sparse_attention": False, "_chunk": 3}
    assert set(masks_of({"model_type": "llama", **idle})) == {causal}


# ---------------------------------------------------------- any configuration


def types_or_none(n: int) -> st.SearchStrategy:
    kinds = st.sampled_from(["full_attention", "sliding_attention"])
    return st.none() | st.lists(kinds, min_size=n, max_size=n)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), name=st.sampled_from(["gemma2", "cohere2", "olmo3", "gpt_oss"]))
def test_layers_are_what_the_types_say_or_the_familys_pattern(data, name):
    n = data.draw(st.integers(1, 9))
    w = data.draw(st.none() | st.integers(1, 2**40))
    types = data.draw(types_or_none(n))
    config = {"model_type": name, "num_hidden_layers": n, "layer_types": types}
    config |= {} if w is None else {"sliding_window": w}
    every = {"gemma2": 2, "gpt_oss": 2, "cohere2": 4, "olmo3": 4}[name]
    keys = w or {"gpt_oss": 128}.get(name, 4096)
    layers = masks_of(config)
    assert len(layers) == n
    for i, rule in enumerate(layers):
        local = types[i] == "sliding_attention" if types else (i + 1) % every != 0
        assert rule.reach().size == (keys if local else torch.inf)
        assert rule[keys + 1, 1] is not local
        assert rule[keys, 1]


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(sorted(FAMILIES)),
    field=st.sampled_from(
        ["window", "local_window_size", "chunk_size", "attention_pattern", "attn_sinks"]
    ),
    value=st.integers(0, 9) | st.text(min_size=1) | st.lists(st.just(1), min_size=1),
)
def test_a_field_that_may_say_who_sees_whom_is_never_passed_over(name, field, value):
    with pytest.raises(ValueError, match=f"expected {field} not to be there"):
        masks_of({"model_type": name, field: value})


@settings(max_examples=40, deadline=None)
@given(c=st.integers(1, 7), w=st.integers(0, 7), n=st.integers(1, 12), data=st.data())
def test_the_rules_of_this_room_know_their_shape(c, w, n, data):
    m = data.draw(st.integers(n, 14))
    for rule in (chunks(c), near(w), causal & chunks(c)):
        spans, dense = rule.spans(n, m), rule.matrix(n, m)
        keys = torch.arange(m)
        inside = (spans.first[0, :, None] <= keys) & (keys < spans.end[0, :, None])
        assert spans.exact
        assert torch.equal(inside, dense)
        behind, ahead, _ = rule.bound
        q, k = dense.nonzero().T
        assert ((k - (q + m - n)) <= ahead).all()
        assert ((q + m - n - k) < behind).all()
    image = same_image(torch.tensor([-1] + [0] * 13))
    assert int(image.matrix(m).sum()) == (m - 1) ** 2


def test_a_hundred_thousand_layers_share_two_rules():
    config = {"model_type": "gemma2", "num_hidden_layers": 100_000}
    layers = masks_of(config | {"sliding_window": 10**12})
    assert len(layers) == 100_000
    assert len(groups(layers)) == 2
    assert layers[0].matrix(5).equal(causal.matrix(5))
    said = describe(config, length=64)
    assert "0, 2, 4, 6, … (50,000)" in said
    assert len(said) < 600


# --------------------------------------------------------------------- one screen


def test_the_screen_counts_what_the_rules_say():
    said = describe(
        {"model_type": "cohere2", "sliding_window": 8} | LAYERS_2, length=20
    )
    rule = causal & window(8)
    seen, whole = 2 * int(rule.matrix(20).sum()), 2 * 210
    assert f"in all: {seen} of {whole} pairs, {1 - seen / whole:.1%}"[:-1] in said
    assert "16 of 40 keys kept" in said
    assert "0–1" in said
    halves = describe({"model_type": "t5"}, length=4)
    assert [line.split()[0] for line in halves.splitlines()[2:5]] == [
        "encoder",
        "decoder",
        "cross",
    ]
    assert "no cache" in halves
    with pytest.raises(ValueError, match="length >= 1"):
        describe({"model_type": "t5"}, length=0)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_is_one_screen_for_every_family(name):
    lines = describe({"model_type": name}, length=1000).splitlines()
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 100


def test_runs_of_layers_are_written_short():
    assert runs([3]) == "3"
    assert runs([0, 1, 3, 4, 5, 9]) == "0–1, 3–5, 9"


def test_the_shell_prints_it_and_refuses_with_a_status(tmp_path, capsys):
    config = {"model_type": "gpt_oss", "num_hidden_layers": 2}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config))
    assert main([str(tmp_path), "--length", "300"]) == 0
    assert capsys.readouterr().out.strip() == describe(file, length=300)
    file.write_text(json.dumps(config | {"sliding_window": 0}))
    assert main([str(file)]) == 2
    said = capsys.readouterr()
    assert not said.out
    assert "sliding_window" in said.err


def test_mattn_has_it_by_name_and_brings_no_transformers():
    code = (
        "import mattn, sys; mattn.masks_of({'model_type': 'llama'}); "
        "print('transformers' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
    assert mattn.masks_of is masks_of


def test_the_rows_for_a_page_come_from_the_record():
    rows = comparisons(recorded("configurations"))
    assert {row["family"] for row in rows} >= set(FAMILIES) - {"llama4"}
    assert all(row["why"] for row in rows if row["differ"])
    assert all(row["cells"] > 0 for row in rows)
