"""A model of transformers on the kernel: padding, packed documents, every cache."""

from __future__ import annotations

import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

pytest.importorskip("triton")
transformers = pytest.importorskip("transformers")

from mattn import attention, causal, documents, padding  # noqa: E402
from mattn.checks import same  # noqa: E402
from mattn.flash import (  # noqa: E402
    register_in_transformers,
    transformers_attention,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
V = 31
OPTIONS = {"llama": {}, "mistral": {"sliding_window": 4}}
every_kind = pytest.mark.parametrize("kind", OPTIONS)


def model_of(kind: str):
    config = transformers.AutoConfig.for_model(
        kind,
        vocab_size=V,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        **OPTIONS[kind],
    )
    torch.manual_seed(3)
    register_in_transformers()
    return transformers.AutoModelForCausalLM.from_config(config).eval().to(DEVICE)


def both(model, run) -> tuple[torch.Tensor, torch.Tensor]:
    """What ``run`` gives with PyTorch's attention, and with ours."""
    out = []
    for name in ("sdpa", "mattn"):
        model.set_attn_implementation(name)
        with torch.no_grad():
            out.append(run())
    return tuple(out)


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(V, shape, device=DEVICE)


def padded(T: int) -> torch.Tensor:
    real = torch.ones(2, T, dtype=torch.long, device=DEVICE)
    real[1, :4] = 0  # on the left
    return real


@every_kind
def test_one_pass(kind):
    model, x = model_of(kind), tokens(2, 9)
    a, b = both(model, lambda: model(x, attention_mask=padded(9)).logits)
    same(a[0], b[0], atol=1e-5)
    same(a[1, 4:], b[1, 4:], atol=1e-5)


PACKED = {
    "the same for all": [[0, 1, 2, 3, 0, 1, 2, 3, 4]],
    "by row": [[0, 1, 2, 3, 0, 1, 2, 3, 4], [0, 1, 0, 0, 1, 2, 3, 0, 1]],
}


@every_kind
@pytest.mark.parametrize("name", PACKED)
def test_packed_documents_are_separate_documents(kind, name):
    model, x = model_of(kind), tokens(2, 9)
    positions = torch.tensor(PACKED[name], device=DEVICE).expand(2, 9)

    def logits(x):
        return model(x, position_ids=positions, use_cache=False).logits

    a, b = both(model, lambda: logits(x))
    same(a, b, atol=1e-5)
    other = x.clone()
    other[:, 0] = (x[:, 0] + 1) % V
    with torch.no_grad():
        same(logits(other)[0, 4:], b[0, 4:], atol=0)
        alone = model(x[:1, 4:], use_cache=False).logits
    same(alone, b[:1, 4:], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "cache", "pads"),
    [
        ("llama", "dynamic", True),
        ("llama", "static", False),
        ("mistral", "dynamic", False),
        ("mistral", "static", True),
    ],
)
def test_generated_tokens_and_their_logits(kind, cache, pads):
    model, x = model_of(kind), tokens(2, 9)

    def generated():
        out = model.generate(
            x,
            attention_mask=padded(9) if pads else torch.ones_like(x),
            max_new_tokens=3,
            do_sample=False,
            pad_token_id=0,
            cache_implementation=cache,
            output_logits=True,
            return_dict_in_generate=True,
        )
        return torch.stack(out.logits, dim=1)

    a, b = both(model, generated)
    same(a, b, atol=1e-5)
    assert torch.equal(a.argmax(-1), b.argmax(-1))


@every_kind
def test_a_static_cache_has_slots_that_hold_nothing(kind):
    model, x = model_of(kind), tokens(2, 9)

    def in_chunks():
        cache = transformers.StaticCache(config=model.config, max_cache_len=20)
        parts = [model(part, past_key_values=cache) for part in x.split([5, 1, 3], 1)]
        return torch.cat([part.logits for part in parts], dim=1)

    a, b = both(model, in_chunks)
    same(a, b, atol=1e-5)
    with torch.no_grad():
        same(b, model(x).logits, atol=1e-5)


# What is called, without a model.


def qkv(B: int, Tq: int, Tk: int) -> list[torch.Tensor]:
    return [torch.randn(B, 2, T, 8, device=DEVICE) for T in (Tq, Tk, Tk)]


def called(q, k, v, attention_mask=None, **options) -> torch.Tensor:
    out, _ = transformers_attention(
        torch.nn.Identity(), q, k, v, attention_mask, **options
    )
    return out.transpose(1, 2)


def test_lengths_of_documents_in_one_row():
    q, k, v = qkv(1, 9, 9)
    ends = torch.tensor([0, 4, 5, 9], dtype=torch.int32, device=DEVICE)
    rule = causal & documents([0] * 4 + [1] + [2] * 4)
    out = called(q, k, v, cu_seq_lens_q=ends, cu_seq_lens_k=ends)
    same(out, attention(q, k, v, rule)[0], atol=1e-5)


def test_a_mask_shorter_than_the_keys_is_that_of_a_static_cache():
    q, k, v = qkv(2, 2, 9)
    k[:, :, 6:], v[:, :, 6:] = 100.0, 100.0
    real = torch.ones(2, 6, dtype=torch.bool, device=DEVICE)
    real[1, :2] = False
    rule = causal & padding([6, 4], side="left", width=6)
    expected = attention(q, k[:, :, :6], v[:, :, :6], rule)[0]
    same(called(q, k, v, real), expected, atol=1e-5)


def at(*rows) -> torch.Tensor:
    return torch.tensor(rows, device=DEVICE)


REFUSED = {
    "documents that go on in a cache": (
        (1, 1, 9),
        {"position_ids": at([3])},
        "one document in each row of a cache",
    ),
    "a static cache without a mask": (
        (1, 3, 9),
        {"position_ids": at([0, 1, 2])},
        r"register_in_transformers\(\) for a static cache",
    ),
    "documents that go on in a row with padding": (
        (2, 1, 9),
        {"position_ids": at([8], [3]), "real": at([1] * 9, [0] * 4 + [1] * 5)},
        "one document in each row of a cache",
    ),
    "positions in three": (
        (2, 4, 4),
        {"position_ids": torch.zeros(3, 2, 4, dtype=torch.long, device=DEVICE)},
        "expected position_ids",
    ),
    "lengths of another row": (
        (1, 5, 5),
        {"cu_seq_lens_q": at(0, 2, 4)},
        "from 0 to all of the tokens",
    ),
    "lengths that differ": (
        (1, 4, 4),
        {"cu_seq_lens_q": at(0, 2, 4), "cu_seq_lens_k": at(0, 3, 4)},
        "the same for queries and keys",
    ),
    "a window on both sides": (
        (1, 4, 4),
        {"sliding_window": 2, "is_causal": False},
        "bidirectional",
    ),
    "a mask of more keys": (
        (1, 4, 4),
        {"real": torch.ones(1, 5, dtype=torch.long, device=DEVICE)},
        "expected a mask",
    ),
    "a mask of another batch": (
        (2, 4, 4),
        {"real": torch.ones(3, 4, dtype=torch.long, device=DEVICE)},
        "expected a mask",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused(name):
    sizes, options, message = REFUSED[name]
    options = dict(options)
    real = options.pop("real", None)
    with pytest.raises(ValueError, match=message):
        called(*qkv(*sizes), real, **options)
