"""Write mattn/records/golden_decoder.json: what an independent decoder computes.

A small Llama of the package transformers, with every option that a decoder
can get wrong: grouped-query heads, a head size other than width ÷ heads,
scaled rotary positions. Its weights are whole numbers ÷ 64, so that they
are stored exactly; beside them tokens, logits (float32) and greedy tokens.

    python benchmarks/golden_decoder.py
"""

import platform

import measure
import numpy as np
import torch
import transformers

RECORD = measure.RECORDS / "golden_decoder.json"
CONFIG = {
    "model_type": "llama",
    "vocab_size": 29,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 6,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 10.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 2.0,
        "original_max_position_embeddings": 16,
    },
}
UNIT = 64
N_TOKENS, N_WRITTEN = 24, 16


def main() -> None:
    config = transformers.LlamaConfig(**CONFIG, attn_implementation="eager")
    model = transformers.LlamaForCausalLM(config).eval()
    rng = np.random.default_rng(0)
    weights = {}
    for name, parameter in sorted(model.named_parameters()):
        centre = 1.0 if parameter.ndim == 1 else 0.0
        drawn = rng.normal(centre, 0.3, tuple(parameter.shape))
        whole = np.rint(drawn * UNIT).astype(int)
        weights[name] = whole.tolist()
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(whole / UNIT))
    tokens = torch.from_numpy(rng.integers(CONFIG["vocab_size"], size=(1, N_TOKENS)))
    with torch.no_grad():
        logits = model(tokens).logits[0]
        written = model.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            max_new_tokens=N_WRITTEN,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )[0, N_TOKENS:]
    record = {
        "what": "logits of transformers' LlamaForCausalLM, float32, eager attention",
        "command": "python benchmarks/golden_decoder.py",
        "versions": measure.versions(torch, transformers),
        "machine": platform.machine(),
        "date": measure.today(),
        "config": CONFIG,
        "unit": UNIT,
        "weights": weights,
        "tokens": tokens[0].tolist(),
        "logits": [[round(value, 6) for value in row] for row in logits.tolist()],
        "greedy": written.tolist(),
    }
    measure.write(record, RECORD, compact=True)


if __name__ == "__main__":
    main()
