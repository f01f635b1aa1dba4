"""Open checkpoints of the Llama family, read into the book's own decoder.

The decoder has the architecture of those models, so their weights load into
it and its logits can be held against an independent implementation. Only
weights and configuration are read; no code comes with them.
Used in chapters 6 and 7.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from mattn.models import Config, Decoder
from mattn.rotary import RopeScaling

__all__ = ["fetch_pretrained", "load_pretrained"]

# Name in Decoder → name in a checkpoint, within one layer and outside of all.
_IN_LAYER = {
    "attention_norm": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention.query_norm": "self_attn.q_norm",
    "attention.key_norm": "self_attn.k_norm",
    "mlp_norm": "post_attention_layernorm",
    "mlp.gate": "mlp.gate_proj",
    "mlp.up": "mlp.up_proj",
    "mlp.down": "mlp.down_proj",
}
_OUTSIDE = {
    "embedding": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
}
_TYPES = ("llama", "mistral", "qwen3")

SMOLLM2_REVISION = "93efa2f097d58c2a74874c7e644dbc9b0cee75a2"
SMOLLM2_URL = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M/resolve/"
SMOLLM2_SHA256 = {
    "config.json": "1d556eab73b69c7f11f64c557a2f9c6f440bd4c6b89bb2584a6b498c92603843",
    "tokenizer.json": (
        "9ca9acddb6525a194ec8ac7a87f24fbba7232a9a15ffa1af0c1224fcd888e47c"
    ),
    "model.safetensors": (
        "80521b40281d6ce74e35c9282c22539e75aa0ac8578892b2a59955ef78d55da1"
    ),
}


def load_pretrained(
    folder: str | Path, *, dtype: torch.dtype = torch.float32
) -> Decoder:
    """A decoder in eval mode with the weights of the checkpoint in ``folder``.

    ``folder`` holds ``config.json`` of model type llama, mistral or qwen3
    and ``model.safetensors``, or shards with ``model.safetensors.index.json``.
    A field of the configuration that the decoder has no equal for raises
    ``ValueError`` and is named; so are missing, extra and ill-shaped tensors.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"load_pretrained: expected a file config.json in {folder}.")
    config = read_config(json.loads(path.read_text(encoding="utf-8")))
    with torch.device("meta"):  # no memory and no time for weights to be replaced
        model = Decoder(config)
    expected = {_name(name): name for name in model.state_dict()}
    tensors = _checked(_tensors(folder), expected, model)
    state = {expected[name]: tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


def read_config(fields: dict) -> Config:
    """The fields of a ``config.json`` as a :class:`~mattn.models.Config`."""
    kind = fields.get("model_type")
    _supported("model_type", kind, _TYPES, fields)
    _supported("hidden_act", fields.get("hidden_act", "silu"), ("silu", "swish"))
    for name in ("attention_bias", "mlp_bias", "rope_interleaved"):
        _supported(name, fields.get(name, False), (False, None))
    _supported("quantization_config", fields.get("quantization_config"), (None,))
    # Mistral and Qwen 3 have defaults of their own, which config.json states.
    if kind == "mistral":
        _required(fields, "num_key_value_heads", "sliding_window")
    if kind == "qwen3":
        _required(fields, "num_key_value_heads", "head_dim")
    _required(fields, "vocab_size", "hidden_size", "num_hidden_layers")
    _required(fields, "num_attention_heads", "intermediate_size")
    theta, scaling = _rope(fields)
    return Config(
        n_symbols=fields["vocab_size"],
        d_model=fields["hidden_size"],
        n_layers=fields["num_hidden_layers"],
        n_heads=fields["num_attention_heads"],
        n_kv_heads=fields.get("num_key_value_heads"),
        d_head=fields.get("head_dim"),
        d_hidden=fields["intermediate_size"],
        window=_window(fields),
        context=fields.get("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        qk_norm=kind == "qwen3",
        tied=fields.get("tie_word_embeddings", False),
        norm_eps=fields.get("rms_norm_eps", 1e-6),
    )


def fetch_pretrained(cache: str | Path | None = None) -> Path:
    """Download SmolLM2-135M (Apache-2.0), 271 MB, once; return its folder.

    A base model of 135 million parameters by Hugging Face (Allal et al.
    2025, arXiv:2502.02737): configuration, tokenizer and weights of one
    fixed revision, each held to its SHA-256. The folder is for
    :func:`load_pretrained`; ``tokenizer.json`` is read by the package
    tokenizers. ``cache`` is where files are kept, by default the user's
    cache folder. Needs a network the first time.
    """
    try:
        import pooch
    except ImportError:
        raise ImportError(
            "fetch_pretrained needs the package pooch: pip install pooch"
        ) from None
    folder = Path(pooch.os_cache("mattn") if cache is None else cache)
    folder = folder / f"SmolLM2-135M-{SMOLLM2_REVISION[:8]}"
    files = pooch.create(
        path=folder,
        base_url=SMOLLM2_URL + SMOLLM2_REVISION + "/",
        registry={name: f"sha256:{sha}" for name, sha in SMOLLM2_SHA256.items()},
    )
    for name in files.registry:
        files.fetch(name)
    return folder


def _supported(name: str, value: object, known: tuple, fields: dict | None = None):
    if value not in known:
        expected = " or ".join(json.dumps(k) for k in known if k is not None) or "null"
        raise ValueError(
            f"config.json: {name} = {json.dumps(value)} is not supported; expected "
            f"{expected}. The book's decoder would compute something else."
        )


def _required(fields: dict, *names: str) -> None:
    for name in names:
        if name not in fields:
            raise ValueError(f"config.json: expected a field {name}; found none.")


def _window(fields: dict) -> int | None:
    window = fields.get("sliding_window")
    if fields["model_type"] == "llama":
        _supported("sliding_window", window, (None,))
    elif fields["model_type"] == "qwen3" and not fields.get("use_sliding_window"):
        window = None
    elif fields["model_type"] == "qwen3":
        # Layers before this one see everything; ours are all alike.
        _supported("max_window_layers", fields.get("max_window_layers"), (0,))
    kind = "full_attention" if window is None else "sliding_attention"
    for layer in fields.get("layer_types") or ():
        _supported("layer_types", layer, (kind,))
    return window


def _rope(fields: dict) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from ``rope_parameters`` or its two older fields."""
    newer = fields.get("rope_parameters")
    name = "rope_scaling" if newer is None else "rope_parameters"
    rope = dict(fields.get(name) or {})
    theta = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    for place, values in (("", fields), (f"{name}.", rope)):
        partial = values.get("partial_rotary_factor", 1.0)
        _supported(f"{place}partial_rotary_factor", partial, (1.0, None))
    kind = rope.get("rope_type", rope.get("type", "default"))
    _supported(f"{name}.rope_type", kind, ("default", "linear", "llama3"))
    if kind == "default":
        return theta, None
    _required(rope, "factor")
    if kind == "linear":
        return theta, RopeScaling("linear", rope["factor"])
    _required(rope, "low_freq_factor", "high_freq_factor")
    longest = fields.get("max_position_embeddings")
    return theta, RopeScaling(
        "llama3",
        rope["factor"],
        low=rope["low_freq_factor"],
        high=rope["high_freq_factor"],
        original_context=rope.get("original_max_position_embeddings", longest),
    )


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ImportError(
            "load_pretrained needs the package safetensors: pip install safetensors"
        ) from None
    index = folder / "model.safetensors.index.json"
    names = ["model.safetensors"]
    if index.is_file():
        shards = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = sorted(set(shards.values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        if not (folder / name).is_file():
            raise ValueError(
                f"load_pretrained: expected the weights in {folder / name}; found "
                "none. Weights in another format than safetensors are not read."
            )
        tensors |= load_file(folder / name)
    return tensors


def _name(name: str) -> str:
    """What a checkpoint calls the tensor that the decoder calls ``name``."""
    part, _, leaf = name.rpartition(".")
    if not part.startswith("blocks."):
        return f"{_OUTSIDE[part]}.{leaf}"
    _, number, part = part.split(".", 2)
    return f"model.layers.{number}.{_IN_LAYER[part]}.{leaf}"


def _checked(
    tensors: dict[str, Tensor], expected: dict[str, str], model: Decoder
) -> dict[str, Tensor]:
    """The tensors that the decoder needs: all of them, no others, well shaped."""
    # Old checkpoints store rotary frequencies, which the configuration states.
    tensors = {k: v for k, v in tensors.items() if not k.endswith(".inv_freq")}
    embedding = tensors.get("model.embed_tokens.weight")
    if model.config.tied and embedding is not None:
        head = tensors.pop("lm_head.weight", embedding)
        if not torch.equal(head, embedding):
            raise ValueError(
                "config.json: tie_word_embeddings = true is contradicted by the "
                "weights: lm_head.weight differs from model.embed_tokens.weight."
            )
    missing = sorted(expected.keys() - tensors)
    extra = sorted(tensors.keys() - expected)
    if missing or extra:
        raise ValueError(
            f"load_pretrained: expected {len(expected)} tensors, as config.json has "
            f"it; missing: {_listed(missing)}; extra: {_listed(extra)}."
        )
    for name, parameter in model.state_dict().items():
        got = tensors[_name(name)].shape
        if got != parameter.shape:
            raise ValueError(
                f"load_pretrained: expected {_name(name)} of shape "
                f"{tuple(parameter.shape)}, as config.json has it; got {tuple(got)}."
            )
    return tensors


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:4]) or "none"
    return shown + (f" and {len(names) - 4} more" if len(names) > 4 else "")
