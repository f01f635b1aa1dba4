"""Write mattn/records/audit_transformers.json: models of transformers, audited.

Each is built from a small configuration with random weights: nothing is
downloaded. The tests audit a part of the same list.

    python benchmarks/audit_transformers.py [NAME …]
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import measure
import torch
import transformers
from torch import nn

from mattn.audit import Report, audit

PATH = measure.RECORDS / "audit_transformers.json"
T = 10

WIDE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "vocab_size": 50,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
COMMON = WIDE | {"num_attention_heads": 4}
DENSE = COMMON | {"intermediate_size": 48, "max_position_embeddings": 128}
GROUPED = DENSE | {"num_key_value_heads": 2}
LEGACY = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "vocab_size": 50,
    "n_positions": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
BERT = DENSE | {"is_decoder": True}

DECODERS: dict[str, dict[str, Any]] = {
    "gpt2": LEGACY,
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 4},
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 8},
    "gemma": GROUPED | {"head_dim": 8},
    "gemma2": GROUPED | {"head_dim": 8, "sliding_window": 4},
    "gpt_neox": DENSE,
    "opt": COMMON
    | {"ffn_dim": 48, "max_position_embeddings": 128, "word_embed_proj_dim": 32},
    "falcon": COMMON,
    "bloom": WIDE | {"n_layer": 2, "n_head": 4},
    "phi": GROUPED,
    "mixtral": GROUPED | {"num_local_experts": 4},
    "mamba": WIDE | {"state_size": 8},
    # Beyond those that the tests audit each time:
    "mamba2": WIDE
    | {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 2, "chunk_size": 4},
    "phi3": GROUPED,
    "gemma3_text": GROUPED | {"head_dim": 8, "sliding_window": 4},
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "stablelm": GROUPED,
    "granite": GROUPED,
    "cohere": GROUPED,
    "starcoder2": GROUPED | {"sliding_window": 4},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 50,
        "max_position_embeddings": 128,
        "window_size": 4,
        "attention_types": [[["global", "local"], 1]],
        "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "gptj": LEGACY | {"rotary_dim": 4},
    "codegen": LEGACY | {"rotary_dim": 4},
    "gpt_bigcode": LEGACY,
    "biogpt": DENSE,
    "xglm": {
        "d_model": 32,
        "num_layers": 2,
        "attention_heads": 4,
        "ffn_dim": 48,
        "vocab_size": 50,
        "max_position_embeddings": 128,
    },
    "mpt": {"d_model": 32, "n_heads": 4, "n_layers": 2, "vocab_size": 50},
    "qwen2_moe": GROUPED
    | {
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
    },
    "olmoe": GROUPED | {"num_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": GROUPED
    | {
        "head_dim": 8,
        "sliding_window": 4,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
    },
    "deepseek_v3": GROUPED
    | {
        "num_key_value_heads": 4,
        "moe_intermediate_size": 16,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "kv_lora_rank": 8,
        "q_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
    "falcon_mamba": WIDE | {"state_size": 8},
    "lfm2": GROUPED | {"layer_types": ["conv", "full_attention"]},
    "nanochat": GROUPED,
    "modernbert-decoder": DENSE | {"local_attention": 4},
    "roformer": BERT | {"embedding_size": 32},
    "rembert": BERT | {"input_embedding_size": 32, "output_embedding_size": 32},
    "megatron-bert": BERT,
    "big_bird": BERT | {"attention_type": "original_full"},
    "doge": GROUPED,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": DENSE,
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 48,
        "vocab_size": 50,
        "max_position_embeddings": 128,
    },
    "t5": {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 48,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 50,
    },
}


def build(name: str) -> nn.Module:
    """The model with random weights, in eval mode."""
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    options = DECODERS.get(name) or ENCODERS[name]
    config = transformers.AutoConfig.for_model(name, **options)
    kinds = {
        "t5": transformers.T5EncoderModel,
        "bert": transformers.BertModel,
        "distilbert": transformers.DistilBertModel,
    }
    if name in kinds:
        return kinds[name](config).eval()
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(3, 50, (2, T), generator=generator)


def row(name: str, model: nn.Module, report: Report) -> dict[str, Any]:
    """What the record keeps of a report."""
    return {
        "name": name,
        "class": type(model).__name__,
        "parameters": measure.n_parameters(model),
        "window": getattr(model.config, "sliding_window", None),
        "ok": report.ok,
        "seen_by": sorted({leak.probe for leak in report.leaks}),
        "first": None if report.first is None else str(report.first),
        "likely": report.diagnosis if report.leaks else "",
        "missing": len(report.missing),
        "covered": report.covered,
        "not_covered": report.not_covered,
        "notes": report.notes,
        "hygiene": report.hygiene,
    }


def main(names: list[str]) -> None:
    measure.one_thread()
    warnings.simplefilter("ignore")
    rows = []
    for name in names or [*DECODERS, *ENCODERS]:
        model = build(name)
        seconds, report = measure.timed(lambda model=model: audit(model, tokens()))
        rows.append(row(name, model, report))
        print(
            f"{name:20} ok={report.ok} {rows[-1]['seen_by']} {seconds:.1f} s",
            flush=True,
        )
    if names:
        return
    head = measure.header()
    head["versions"]["transformers"] = transformers.__version__
    what = "audit(model, tokens) of models with random weights, as their configurations"
    measure.write({"what": what, **head, "length": T, "models": rows}, PATH)


if __name__ == "__main__":
    main(sys.argv[1:])
