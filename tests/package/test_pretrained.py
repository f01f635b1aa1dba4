"""The book's decoder against an independent implementation, same weights."""

import functools
import hashlib
import http.server
import json
import sys
import threading

import pytest
import torch
from safetensors.torch import load_file, save_file

from mattn import pretrained
from mattn.pretrained import fetch_pretrained, load_pretrained, read_config

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()

SMALL = {
    "vocab_size": 53,
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 96,
    "attn_implementation": "eager",
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.5}
SHAPES = {
    "plain": ("llama", {}),
    "tied": ("llama", {"tie_word_embeddings": True}),
    "grouped": ("llama", {"num_key_value_heads": 2}),
    "one key head": ("llama", {"num_key_value_heads": 1, "rms_norm_eps": 1e-2}),
    "wide heads": ("llama", {"head_dim": 10, "num_key_value_heads": 2}),
    "theta": ("llama", {"rope_parameters": {"rope_theta": 77.0}}),
    "linear": ("llama", {"rope_parameters": LINEAR}),
    "llama3": ("llama", {"rope_parameters": LLAMA3, "num_key_value_heads": 2}),
    "window": ("mistral", {"sliding_window": 5, "num_key_value_heads": 2}),
    "no window": ("mistral", {"sliding_window": None}),
    "normed heads": ("qwen3", {"head_dim": 8, "tie_word_embeddings": True}),
    "layers that decide": (
        "qwen3",  # where max_window_layers, 28 by default, would leave none
        {
            "head_dim": 8,
            "use_sliding_window": True,
            "sliding_window": 5,
            "layer_types": ["sliding_attention"] * 3,
        },
    ),
}


def make(folder, kind="llama", *, max_shard_size="1GB", **options):
    """A random model of transformers, saved to ``folder``."""
    config = transformers.AutoConfig.for_model(kind, **{**SMALL, **options})
    torch.manual_seed(7)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)  # norms too: a lost weight must show
    model.save_pretrained(folder, max_shard_size=max_shard_size)
    return model


def edit(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize("name", SHAPES)
def test_logits_and_greedy_tokens_equal_those_of_transformers(tmp_path, name):
    kind, options = SHAPES[name]
    theirs = make(tmp_path, kind, **options)
    ours = load_pretrained(tmp_path)
    tokens = torch.randint(53, (2, 70))
    with torch.no_grad():
        expected = theirs(tokens).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(tokens), expected, atol=1e-4, rtol=0)
        # Greedy, theirs by generate(), ours with the cache, 40 tokens.
        prompt = tokens[:1, :6]
        chosen = theirs.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=40,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        cache, new, written = ours.new_cache(64), prompt, [prompt]
        for _ in range(40):
            new = ours(new, cache=cache)[:, -1:].argmax(dim=-1)
            written.append(new)
    assert torch.equal(torch.cat(written, dim=1), chosen)
    assert ours.config.n_parameters == theirs.num_parameters()


@pytest.mark.parametrize("name", ["llama3", "linear", "theta"])
def test_both_spellings_of_the_rope_settings_mean_the_same(tmp_path, name):
    make(tmp_path, **SHAPES[name][1])
    newer = read_config(json.loads((tmp_path / "config.json").read_text()))
    fields = json.loads((tmp_path / "config.json").read_text())
    rope = fields.pop("rope_parameters")
    fields["rope_theta"] = rope.pop("rope_theta")
    fields["rope_scaling"] = rope if rope.get("rope_type") != "default" else None
    assert read_config(fields) == newer
    if fields["rope_scaling"]:  # an older spelling still
        rope["type"] = rope.pop("rope_type")
        assert read_config(fields) == newer
    assert newer.rope_theta != 10_000.0 or newer.rope_scaling is not None


def test_scaling_changes_the_logits(tmp_path):
    make(tmp_path, rope_parameters=LLAMA3)
    scaled = load_pretrained(tmp_path)
    edit(tmp_path, rope_parameters={"rope_theta": 500.0})
    plain = load_pretrained(tmp_path)
    tokens = torch.randint(53, (1, 70))
    assert (scaled(tokens) - plain(tokens)).abs().max() > 1e-2


def test_shards_give_the_same_model(tmp_path):
    make(tmp_path / "one")
    make(tmp_path / "many", max_shard_size="8KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    tokens = torch.randint(53, (1, 9))
    one, many = load_pretrained(tmp_path / "one"), load_pretrained(tmp_path / "many")
    assert torch.equal(one(tokens), many(tokens))


def test_half_precision_weights_become_float32(tmp_path):
    make(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    save_file({k: v.bfloat16() for k, v in tensors.items()}, path)
    model = load_pretrained(tmp_path)
    weight = tensors["model.embed_tokens.weight"]
    assert model.embedding.weight.dtype == torch.float32
    assert torch.equal(model.embedding.weight, weight.bfloat16().float())
    assert load_pretrained(tmp_path, dtype=torch.float64).norm.weight.dtype == (
        torch.float64
    )


def test_a_loaded_model_can_be_trained(tmp_path):
    make(tmp_path)
    model = load_pretrained(tmp_path)
    assert not model.training
    model(torch.randint(53, (1, 5))).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"model_type": "gpt2"}, "model_type"),
        ({"model_type": None}, "model_type"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rope_type"),
        (
            {"rope_parameters": None, "rope_scaling": {"type": "dynamic"}},
            "rope_scaling.rope_type",
        ),
        ({"rope_parameters": {"rope_type": "linear"}}, "factor"),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "low_freq"),
        (
            {
                "rope_parameters": LLAMA3 | {"original_max_position_embeddings": None},
            },
            "rope_parameters.original_max_position_embeddings >= 1; got None",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
        ({"sliding_window": 4}, "sliding_window"),
        ({"model_type": "qwen3", "layer_types": ["sliding_attention"]}, "layer_types"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"hidden_size": 26, "head_dim": None}, "d_model"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path, fields, named):
    make(tmp_path)
    edit(tmp_path, **fields)
    with pytest.raises(ValueError, match=named):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["vocab_size", "intermediate_size"])
def test_a_missing_field_is_named(tmp_path, name):
    make(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    del fields[name]
    with pytest.raises(ValueError, match=f"a field {name}"):
        read_config(fields)


def test_missing_extra_and_ill_shaped_tensors_are_named(tmp_path):
    make(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    key = "model.layers.1.self_attn.k_proj.weight"
    kept = {k: v for k, v in tensors.items() if k != key}
    save_file(kept, path)
    with pytest.raises(ValueError, match=f"missing: {key}; extra: none"):
        load_pretrained(tmp_path)
    save_file(tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(24)}, path)
    with pytest.raises(ValueError, match=r"extra: model\.layers\.0.*q_proj\.bias"):
        load_pretrained(tmp_path)
    save_file(tensors | {key: torch.ones(12, 24)}, path)
    with pytest.raises(ValueError, match=rf"{key} of shape \(24, 24\).*\(12, 24\)"):
        load_pretrained(tmp_path)
    # Frequencies in an old checkpoint are no weights.
    inv_freq = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save_file(tensors | {inv_freq: torch.ones(3)}, path)
    load_pretrained(tmp_path)


def test_a_tied_head_that_differs_is_refused(tmp_path):
    make(tmp_path, tie_word_embeddings=True)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    same = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors | {"lm_head.weight": same}, path)
    load_pretrained(tmp_path)
    save_file(tensors | {"lm_head.weight": same + 1}, path)
    with pytest.raises(ValueError, match="tie_word_embeddings"):
        load_pretrained(tmp_path)


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"config\.json"):
        load_pretrained(tmp_path)
    make(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="safetensors"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("package", ["safetensors", "pooch"])
def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch, package):
    make(tmp_path)
    for name in (package, f"{package}.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs {package}: .*mattn\[pretrained\]"):
        fetch_pretrained(tmp_path) if package == "pooch" else load_pretrained(tmp_path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A checkpoint behind a local server, in the place of the real one."""
    revision = tmp_path / "served" / pretrained.SMOLLM2_REVISION
    make(revision, tie_word_embeddings=True)
    (revision / "tokenizer.json").write_text("{}")
    digests = {
        name: hashlib.sha256((revision / name).read_bytes()).hexdigest()
        for name in pretrained.SMOLLM2_SHA256
    }

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Handler, directory=tmp_path / "served")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/"
    monkeypatch.setattr(pretrained, "SMOLLM2_URL", url)
    monkeypatch.setattr(pretrained, "SMOLLM2_SHA256", digests)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield digests
    server.shutdown()
    server.server_close()


def test_a_download_is_kept_and_loads(tmp_path, served):
    folder = fetch_pretrained(tmp_path / "cache")
    assert sorted(p.name for p in folder.iterdir()) == sorted(served)
    assert load_pretrained(folder).config.n_symbols == 53
    stamps = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    assert fetch_pretrained(tmp_path / "cache") == folder
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == stamps


def test_a_changed_download_is_refused(tmp_path, served):
    served["model.safetensors"] = "0" * 64
    with pytest.raises(ValueError, match="SHA256"):
        fetch_pretrained(tmp_path / "cache")
    assert not list((tmp_path / "cache").rglob("model.safetensors"))
