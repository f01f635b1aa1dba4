"""Checkpoints that are not what they say: each is named, or read as it is meant."""

import json

import pytest
import torch
from safetensors.torch import save_file

from mattn import causal, masks
from mattn.config import Config
from mattn.models import Decoder
from mattn.pretrained import _name, load_pretrained, read_config, read_mask

SMALL = Config(
    n_symbols=13, d_model=12, n_layers=2, n_heads=3, d_hidden=10, norm_eps=1e-5
)
FIELDS = {
    "model_type": "llama",
    "vocab_size": 13,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 10,
    "rms_norm_eps": 1e-5,
}
FIRST, SECOND = "model-1.safetensors", "model-2.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.embed_tokens.weight"


def checkpoint(folder, **fields):
    """A random decoder, and its files in ``folder`` under a checkpoint's names."""
    model = Decoder(SMALL).eval()
    tensors = {_name(name): t.clone() for name, t in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(FIELDS | fields))
    return model, tensors


def index(folder, weight_map):
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_of_each_shard_only_that_is_read_which_the_index_says_it_has(tmp_path):
    model, tensors = checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    rest = {name: t for name, t in tensors.items() if name != EMBEDDING}
    stale = {name: torch.randn_like(t) for name, t in tensors.items()}
    tokens = torch.randint(13, (2, 7))
    # The stale copies come last by name, then first; with a stranger among them.
    for kept, other in ((FIRST, SECOND), (SECOND, FIRST)):
        save_file({EMBEDDING: tensors[EMBEDDING]}, tmp_path / kept)
        save_file(
            rest | {EMBEDDING: stale[EMBEDDING], "stranger": torch.ones(2)},
            tmp_path / other,
        )
        where = dict.fromkeys(rest, other) | {EMBEDDING: kept}
        index(tmp_path, where)
        assert torch.equal(load_pretrained(tmp_path)(tokens), model(tokens))
    index(tmp_path, where | {"stranger": other})
    with pytest.raises(ValueError, match="extra: stranger"):
        load_pretrained(tmp_path)
    index(tmp_path, where | {EMBEDDING: other, "model.norm.weight": kept})
    with pytest.raises(ValueError, match=rf"{kept}; missing: model\.norm\.weight"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "expected a weight_map.*got null"),
        ('{"weight_map": {}}', r"expected a weight_map.*got \{\}"),
        ('{"weight_map": ["a"]}', "expected a weight_map"),
        ("[]", "expected fields with names in .*index.json; got list"),
        ('{"weight_map": {"a"', "to be a file of JSON"),
        ("version https://git-lfs.github.com/spec/v1\n", "JSON.*git lfs pull"),
        ('{"weight_map": {"a": "../model.safetensors"}}', r'files in .*got "\.\./mod'),
        ('{"weight_map": {"a": "/model.safetensors"}}', 'files in .*got "/model'),
        ('{"weight_map": {"a": 3}}', "files in .*got 3 for a"),
        ('{"weight_map": {"a": ".."}}', "expected tensors in the file .*found none"),
        ('{"weight_map": {"a": "gone.safetensors"}}', "gone.safetensors; found none"),
        ('{"weight_map": {"a": "model.safetensors"}}', "model.safetensors; missing: a"),
    ],
)
def test_an_index_that_is_none_is_named(tmp_path, text, message):
    checkpoint(tmp_path)
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ValueError, match=rf"^load_pretrained: .*{message}"):
        load_pretrained(tmp_path)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: b"", "0 bytes that cannot be read.*download it again"),
        (lambda data: data[:7], "7 bytes that cannot be read"),
        (lambda data: data[:-1], "cut off or of another format"),
        (lambda data: b"PK\x03\x04" + data, "another format"),
        (lambda data: POINTER, "the pointer of Git LFS.*git lfs pull"),
    ],
    ids=["empty", "no header", "last byte", "zip", "pointer"],
)
def test_a_file_that_holds_no_tensors_is_named(tmp_path, change, message):
    checkpoint(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))
    expected = (
        rf"expected .*model\.safetensors to be a file of safetensors; .*{message}"
    )
    with pytest.raises(ValueError, match=expected):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", POINTER.decode(), "\x00\x01"])
def test_a_configuration_that_is_none_is_named(tmp_path, text):
    checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"expected .*config\.json"):
        load_pretrained(tmp_path)


def test_weights_that_are_no_floats_are_named(tmp_path):
    _, tensors = checkpoint(tmp_path)
    tensors["model.norm.weight"] = torch.ones(12, dtype=torch.int8)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model\.norm\.weight of floating point; got"):
        load_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"floating-point dtype; got torch\.int8"):
        load_pretrained(tmp_path, dtype=torch.int8)


@pytest.mark.parametrize(
    ("field", "neutral", "other"),
    [
        ("final_logit_softcapping", [None], 30.0),
        ("attn_logit_softcapping", [None], 50.0),
        ("logits_scaling", [None, 1, 1.0], 8.0),
        ("embedding_multiplier", [None, 1.0], 12.0),
        ("residual_multiplier", [None, 1.0], 0.22),
        ("attention_multiplier", [None], 0.015),
        ("query_pre_attn_scalar", [None], 256),
        ("rotary_dim", [None, 4], 2),
        ("rotary_pct", [None, 1.0], 0.25),
        ("partial_rotary_factor", [None, 1.0], 0.5),
        ("no_rope_layers", [None, []], [1, 1, 1, 0]),
        ("no_rope_layer_interval", [None], 4),
        ("use_qk_norm", [None, False], True),
        ("clip_qkv", [None], 8.0),
        ("attention_chunk_size", [None], 8192),
        ("hidden_activation", [None, "silu"], "gelu_pytorch_tanh"),
    ],
)
def test_a_field_of_another_model_is_refused_where_it_changes_something(
    field, neutral, other
):
    expected = read_config(FIELDS)
    for value in neutral:
        assert read_config(FIELDS | {field: value}) == expected
    with pytest.raises(ValueError, match=rf"config\.json: {field} = .*not supported"):
        read_config(FIELDS | {field: other})


def test_a_field_of_no_meaning_for_the_logits_is_let_through():
    fields = FIELDS | {"bos_token_id": 1, "torch_dtype": "bfloat16", "use_cache": True}
    assert read_config(fields) == read_config(FIELDS) == SMALL


@pytest.mark.parametrize("value", [None, 0, -1.0, float("nan"), float("inf"), "10000"])
def test_a_base_of_rotary_positions_that_is_none_is_refused(value):
    for fields in (
        {"rope_theta": value},
        {"rope_parameters": {"rope_theta": value, "rope_type": "default"}},
    ):
        with pytest.raises(ValueError, match=r"config\.json: rope_theta = .*> 0"):
            read_config(FIELDS | fields)
    # Where both are there, the newer one counts, as it does for transformers.
    both = {"rope_theta": value, "rope_parameters": {"rope_theta": 77.0}}
    assert read_config(FIELDS | both).rope_theta == 77.0


@pytest.mark.parametrize("name", ["vocab_size", "num_attention_heads"])
@pytest.mark.parametrize("value", [0, -3, 2.5, "13", None, True])
def test_a_size_is_a_whole_number(name, value):
    with pytest.raises(ValueError, match=rf"config\.json: {name} >= 1.*got"):
        read_config(FIELDS | {name: value})


QWEN = FIELDS | {
    "model_type": "qwen3",
    "num_key_value_heads": 3,
    "head_dim": 4,
    "use_sliding_window": True,
    "sliding_window": 5,
    "max_window_layers": 28,
}
SLIDING, FULL = "sliding_attention", "full_attention"


@pytest.mark.parametrize(
    ("fields", "window"),
    [
        ({"layer_types": [SLIDING] * 2}, 5),
        ({"layer_types": [FULL] * 2}, None),
        ({"max_window_layers": 0}, 5),
        ({"use_sliding_window": False}, None),
        ({"sliding_window": None}, None),
        ({}, None),  # of 28 layers without a window these are the first
    ],
)
def test_layer_types_decide_which_layers_have_a_window(fields, window):
    rule = causal if window is None else causal & masks.window(window)
    assert repr(read_mask(QWEN | fields)) == repr(rule)


@pytest.mark.parametrize(
    ("fields", "first", "second"),
    [
        ({"layer_types": [SLIDING, FULL]}, 5, None),
        ({"layer_types": [FULL, SLIDING]}, None, 5),
        ({"layer_types": None, "max_window_layers": 1}, None, 5),
    ],
)
def test_layers_of_two_kinds_have_a_rule_each(fields, first, second):
    rules = [causal & masks.window(w) if w else causal for w in (first, second)]
    assert repr(read_mask(QWEN | fields)) == repr(tuple(rules))
    assert read_config(QWEN | fields).n_layers == 2


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"layer_types": [SLIDING]}, "layer_types of num_hidden_layers = 2.*got 1"),
        ({"layer_types": ["chunked_attention"] * 2}, "layer_types"),
        ({"layer_types": [SLIDING] * 2, "use_sliding_window": False}, "layer_types"),
        ({"layer_types": [SLIDING] * 2, "sliding_window": None}, "layer_types"),
    ],
)
def test_other_kinds_of_layers_are_refused(fields, named):
    with pytest.raises(ValueError, match=named):
        read_config(QWEN | fields)
