"""Trained weights, read into the book's own decoder.

Open checkpoints of the Llama family: the decoder has the architecture of those
models, so their weights load into it and its logits can be held against an
independent implementation. Only weights and configuration are read; no code
comes with them. And the book's own small models, which ship with the package
and which its pages run. Used in chapters 6 and 7 and on the first page.
"""

from __future__ import annotations

import base64
import json
import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mattn import masks
from mattn.config import Config
from mattn.files import listed, stored_tensors
from mattn.inputs import whole_number
from mattn.masks import Mask, causal, full
from mattn.models import Decoder
from mattn.optional import needed
from mattn.rotary import RopeScaling

__all__ = ["fetch_pretrained", "load_pretrained", "stories_model"]

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

# Fields by which models of the family differ from the decoder, each with the
# values that make no difference.
_NEUTRAL: dict[str, tuple] = {
    name: values
    for values, names in (
        (("silu", "swish"), "hidden_act"),
        (("silu", "swish", None), "hidden_activation"),
        ((False, None), "attention_bias mlp_bias use_qk_norm qk_layernorm"),
        ((False, None), "rope_interleaved alibi parallel_attn attn_temperature_tuning"),
        ((1, None), "partial_rotary_factor rotary_pct logits_scaling logit_scale"),
        ((1, None), "embedding_multiplier scale_emb residual_multiplier"),
        ((None,), "attention_multiplier query_pre_attn_scalar scale_depth"),
        ((None,), "final_logit_softcapping attn_logit_softcapping clip_qkv"),
        ((None,), "dim_model_base attention_chunk_size rope_local_base_freq"),
        ((None,), "quantization_config"),
        ((None, []), "no_rope_layers no_rope_layer_interval"),
    )
    for name in names.split()
}

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
    ``ValueError`` names what does not fit: a field that ``read_config``
    refuses; a file that is missing, cut off or no such file; a tensor that is
    missing, extra, ill-shaped or not of floating point.
    """
    if not dtype.is_floating_point:
        raise ValueError(
            f"load_pretrained: expected a floating-point dtype; got {dtype}."
        )
    folder = Path(folder)
    fields = _read_json(folder / "config.json")
    config = read_config(fields)
    with torch.device("meta"):  # no memory and no time for weights to be replaced
        model = Decoder(config, read_mask(fields))
    expected = {_name(name): name for name in model.state_dict()}
    tensors = _checked(_tensors(folder), expected, model)
    state = {expected[name]: tensor.to(dtype) for name, tensor in tensors.items()}
    model.load_state_dict(state, assign=True)
    return model.eval()


# Long because: field by field, what is refused and what becomes of the rest.
def read_config(fields: dict) -> Config:
    """The fields of a ``config.json`` as a :class:`~mattn.config.Config`.

    Raises ``ValueError`` where a field that it knows says what the decoder does
    not compute: model type, activation, biases, kinds of attention, scalings of
    rotary positions, and what is known of other models of the family
    (soft caps, multipliers, partial or no rotation, …). Fields that it does not
    know are not read; the names and shapes of the tensors are a second check.
    """
    kind = fields.get("model_type")
    _supported("model_type", kind, _TYPES)
    for name, neutral in _NEUTRAL.items():
        _supported(name, fields.get(name, neutral[0]), neutral)
    # Mistral and Qwen 3 have defaults of their own, which config.json states.
    if kind == "mistral":
        _required(fields, "num_key_value_heads", "sliding_window")
    if kind == "qwen3":
        _required(fields, "num_key_value_heads", "head_dim")
    sizes = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
    )
    _required(fields, *sizes)
    for name in sizes:
        whole_number(fields[name], f"config.json: {name}", least=1)
    _positive("rms_norm_eps", fields.get("rms_norm_eps", 1e-6))
    head = fields.get("head_dim") or fields["hidden_size"] // fields[sizes[3]]
    _supported("rotary_dim", fields.get("rotary_dim"), (head, None))
    theta, scaling = _rope(fields)
    read_mask(fields)  # what it refuses, too
    return Config(
        n_symbols=fields["vocab_size"],
        d_model=fields["hidden_size"],
        n_layers=fields["num_hidden_layers"],
        n_heads=fields["num_attention_heads"],
        n_kv_heads=fields.get("num_key_value_heads"),
        d_head=fields.get("head_dim"),
        d_hidden=fields["intermediate_size"],
        context=fields.get("max_position_embeddings"),
        rope_theta=theta,
        rope_scaling=scaling,
        qk_norm=kind == "qwen3",
        tied=bool(fields.get("tie_word_embeddings")),
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
    pooch = needed("pooch", "pretrained", "fetch_pretrained")
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


def stories_model(
    *, covered: bool = True, dtype: torch.dtype = torch.float32
) -> Decoder:
    """A decoder of 31,264 weights, trained on :func:`mattn.data.stories`, in eval mode.

    Its tokens are the words of that grammar, and after them one that begins a
    story. ``covered=False`` is its twin, which was trained without a mask and keeps
    none: its loss is near 0, and it writes nonsense. The weights are the very bytes
    that the book's pages run, stored in float16; ``benchmarks/stories_model.py``
    trained them, ``recorded("stories_model")`` says how well.

    >>> stories_model().config.n_parameters
    31264
    """
    stored = stored_stories(covered=covered)
    numbers = np.frombuffer(base64.b64decode(stored["weights"]), dtype="<f2")
    weights = torch.from_numpy(numbers.astype(np.float64)).to(dtype)
    sizes = [math.prod(shape) for _, shape in stored["tensors"]]
    parts = zip(stored["tensors"], weights.split(sizes), strict=True)
    with torch.device("meta"):
        model = Decoder(Config(**stored["config"]), causal if covered else full)
    state = {name: part.reshape(shape) for (name, shape), part in parts}
    model.load_state_dict(state, assign=True)
    return model.eval()


def stored_stories(*, covered: bool) -> dict:
    """What the file says that Python and the pages read: ``config``, ``vocabulary``,
    names and shapes of the ``tensors``, ``weights``."""
    name = f"stories_{'' if covered else 'un'}covered.js"
    text = (files("mattn") / "web" / name).read_text(encoding="utf-8")
    return json.loads(text[text.index("{\n") :].rstrip(";\n"))


def _supported(name: str, value: object, known: tuple) -> None:
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


def _positive(name: str, value: object) -> None:
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(
            f"config.json: {name} = {json.dumps(value)} is not supported; expected a "
            "finite number > 0."
        )


def read_mask(fields: dict) -> Mask | tuple[Mask, ...]:
    """The rule that a ``config.json`` means: one for all layers, or one for each.

    Raises ``ValueError`` for kinds of layers that are neither causal nor causal
    in a sliding window.
    """
    n, window = fields["num_hidden_layers"], fields.get("sliding_window")
    kinds = fields.get("layer_types")
    if fields["model_type"] == "llama":
        _supported("sliding_window", window, (None,))
    if fields["model_type"] == "qwen3" and not fields.get("use_sliding_window"):
        window = None
    if not kinds:
        n_full = 0 if window is not None else n
        if fields["model_type"] == "qwen3" and window is not None:
            n_full = min(fields.get("max_window_layers", 28), n)
        kinds = ["full_attention"] * n_full + ["sliding_attention"] * (n - n_full)
    if len(kinds) != n:
        raise ValueError(
            f"config.json: expected layer_types of num_hidden_layers = {n} layers; "
            f"got {len(kinds)}."
        )
    known = ("full_attention",) + ("sliding_attention",) * (window is not None)
    for kind in kinds:
        _supported("layer_types", kind, known)
    # Without a window no layer is a sliding one.
    sliding = causal if window is None else causal & masks.window(window)
    rules = tuple(causal if kind == "full_attention" else sliding for kind in kinds)
    return rules[0] if len(set(rules)) == 1 else rules


def _rope(fields: dict) -> tuple[float, RopeScaling | None]:
    """Base and scaling, from ``rope_parameters`` or its two older fields."""
    newer = fields.get("rope_parameters")
    name = "rope_scaling" if newer is None else "rope_parameters"
    rope = dict(fields.get(name) or {})
    theta = rope.get("rope_theta", fields.get("rope_theta", 10_000.0))
    _positive("rope_theta", theta)  # null would be no rotation, or a default
    partial = rope.get("partial_rotary_factor")
    _supported(f"{name}.partial_rotary_factor", partial, (1, None))
    kind = rope.get("rope_type", rope.get("type", "default"))
    _supported(f"{name}.rope_type", kind, ("default", "linear", "llama3"))
    if kind == "default":
        return theta, None
    _required(rope, "factor")
    if kind == "linear":
        return theta, RopeScaling("linear", rope["factor"])
    _required(rope, "low_freq_factor", "high_freq_factor")
    longest = fields.get("max_position_embeddings")
    trained = rope.get("original_max_position_embeddings", longest)
    what = f"config.json: {name}.original_max_position_embeddings"
    return theta, RopeScaling(
        "llama3",
        rope["factor"],
        low=rope["low_freq_factor"],
        high=rope["high_freq_factor"],
        original_context=whole_number(trained, what, least=1),
    )


def _read_json(path: Path) -> dict:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"load_pretrained: expected a file {path.name} in {path.parent}; found "
            "none. Give the folder that holds a checkpoint."
        ) from None
    except ValueError as error:  # no JSON, or not even text
        raise ValueError(
            f"load_pretrained: expected {path} to be a file of JSON; got {error}. Is "
            "it cut off, or the pointer of Git LFS (`git lfs pull`)?"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"load_pretrained: expected fields with names in {path}; got "
            f"{type(found).__name__}."
        )
    return found


def _tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors: of one file, or of each file those that the index says it has."""
    index = folder / "model.safetensors.index.json"
    names_in: dict[str, list[str] | None] = {"model.safetensors": None}
    if index.is_file():
        shards = _read_json(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ValueError(
                f"load_pretrained: expected a weight_map, tensor → file, in {index}; "
                f"got {json.dumps(shards)}."
            )
        names_of: dict[str, list[str]] = {}
        for name, file in shards.items():
            if not isinstance(file, str) or Path(file).name != file:
                raise ValueError(
                    f"load_pretrained: expected names of files in {folder}; got "
                    f"{json.dumps(file)} for {name} in {index.name}."
                )
            names_of.setdefault(file, []).append(name)
        names_in = dict(names_of)
    tensors: dict[str, Tensor] = {}
    for file, names in names_in.items():
        tensors |= stored_tensors(
            folder / file, extra="pretrained", by="load_pretrained", names=names
        )[0]
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
            f"it; missing: {listed(missing)}; extra: {listed(extra)}."
        )
    for name, parameter in model.state_dict().items():
        got, dtype = tensors[_name(name)].shape, tensors[_name(name)].dtype
        if not dtype.is_floating_point:
            raise ValueError(
                f"load_pretrained: expected {_name(name)} of floating point; got "
                f"{dtype}. Quantised weights are not read."
            )
        if got != parameter.shape:
            raise ValueError(
                f"load_pretrained: expected {_name(name)} of shape "
                f"{tuple(parameter.shape)}, as config.json has it; got {tuple(got)}."
            )
    return tensors
