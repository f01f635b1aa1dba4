"""What a function says where a package that only it needs is absent."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from book.site.editions import declared

# Who needs what → package, extra, a call.
CALLS = {
    "BytePairs": ("tokenizers", "text", "data.BytePairs(['a b'], 9)"),
    "multi30k": ("pooch", "text", "data.multi30k('val', download=True)"),
    "fetch_pretrained": ("pooch", "pretrained", "pretrained.fetch_pretrained()"),
    "load_pretrained": (
        *("safetensors", "pretrained"),
        "pretrained.load_pretrained(folder)",
    ),
    "checkpoint": (
        *("safetensors", "pretrained"),
        "training.fit(model, [x], n_steps=1, checkpoint=folder / 'c.safetensors')",
    ),
    "translation_scores": (
        *("sacrebleu", "translation"),
        "metrics.translation_scores(['a b'], ['a b'])",
    ),
    "flash_attention": ("triton", "gpu", "flash.flash_attention(q, q, q)"),
    "register_in_transformers": (
        *("transformers", "gpu"),
        "flash.register_in_transformers()",
    ),
}
WITHOUT = """
import importlib, json, os, sys
from pathlib import Path

for package in {packages}:
    sys.modules[package] = None
import torch
import mattn
from mattn import data, flash, metrics, pretrained, training

x, q = torch.zeros(1, 4, dtype=torch.long), torch.zeros(1, 1, 4, 8)
model = mattn.Decoder(mattn.Config(5, 4, n_layers=1, n_heads=1))
folder = Path({folder!r})
(folder / "config.json").write_text(json.dumps({llama}))
(folder / "model.safetensors").write_bytes(b"")
said = {{}}
for name, call in {calls}:
    try:
        eval(call)
    except Exception as error:
        said[name] = type(error).__name__ + ": " + str(error)
print(json.dumps(said))
"""
LLAMA = {
    "model_type": "llama",
    "vocab_size": 5,
    "hidden_size": 4,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "max_position_embeddings": 8,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}


def complaints(python: Path, folder: Path, blocked: set[str], **environment: str):
    """What ``CALLS`` raise in a Python, by name; some packages are not found."""
    program = WITHOUT.format(
        packages=sorted(blocked),
        folder=str(folder),
        llama=LLAMA,
        calls=[(name, call) for name, (_, _, call) in CALLS.items()],
    )
    done = subprocess.run(
        [python, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment | {"HOME": str(folder), "XDG_CACHE_HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def names_the_extra(said: dict[str, str], name: str) -> bool:
    package, extra, _ = CALLS[name]
    assert package in declared()[extra]
    line = f'needs {package}: python -m pip install "mattn[{extra}]"'
    return said[name].startswith(f"ImportError: {name} {line}")
