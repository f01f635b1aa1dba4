"""The auditor on models that others wrote: none that looks back only is accused.

Built from configurations with random weights; nothing is downloaded.
"""

from __future__ import annotations

import sys

import pytest
import torch
from roots import ROOT
from torch import nn

from mattn import Config, Decoder, EncoderDecoder, causal, full, window
from mattn.audit import Adapter, audit, audit_labels, audit_layers

transformers = pytest.importorskip("transformers")
sys.path.insert(0, str(ROOT / "benchmarks"))
import audit_transformers as models  # noqa: E402

EVERY_TIME = [
    "gpt2",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "gemma",
    "gpt_neox",
    "opt",
    "falcon",
    "bloom",
    "phi",
    "mixtral",
    "mamba2",
]
WITH_CACHE = "perturbation, jacobian, truncation, batch, cache"


@pytest.mark.parametrize("name", EVERY_TIME)
def test_a_causal_language_model_is_not_accused(name):
    report = audit(models.build(name), models.tokens())
    assert report.ok, report
    assert not report.nothing_shown
    eval_mode, random_weights, large, train, longer = report.covered
    assert eval_mode.startswith(f"eval mode: {WITH_CACHE}, padding")
    assert random_weights.endswith(WITH_CACHE)
    assert large == "eval mode, weights × 300: perturbation"
    assert train == "train mode: perturbation, batch"
    assert longer.startswith("eval mode, T = 23: perturbation")
    if name == "mistral":  # beyond two windows of 4 keys nothing is reached
        assert min(i - j for i, j in report.missing) == 2 * (4 - 1) + 1
        rule = causal & window(4)
        fast = {"probes": ["perturbation"], "strict": True}
        model = models.build(name)
        assert audit(model, models.tokens(), expected=rule, n_layers=2, **fast).ok
    else:
        assert not report.missing


def test_a_state_space_model_that_starts_its_second_chunk_from_nothing():
    """The finding of this book on transformers 5.23: Mamba, not Mamba-2."""
    report = audit(models.build("mamba"), models.tokens())
    seen = {leak.probe for leak in report.leaks}
    assert seen <= {"cache, chunks of 1, 4, rest"}
    if seen:
        assert "a chunk read through the cache" in report.diagnosis
    assert "eval mode, random weights: " + WITH_CACHE in report.covered


@pytest.mark.parametrize("name", ["bert", "t5"])
def test_encoders_are_reported_as_seeing_the_future(name):
    model = models.build(name)
    fast = {"probes": ["perturbation", "jacobian"]}
    report = audit(model, models.tokens(), **fast)
    assert not report.ok
    assert {leak.probe for leak in report.leaks} == set(fast["probes"])
    n_pairs = models.T * (models.T - 1) // 2
    assert f"LEAK: {n_pairs} pairs" in str(report)
    assert audit(model, models.tokens(), expected=full, strict=True, **fast).ok


def test_an_encoder_decoder_is_called_through_forward():
    options = models.ENCODERS["t5"] | {"decoder_start_token_id": 0}
    torch.manual_seed(0)
    model = transformers.T5ForConditionalGeneration(transformers.T5Config(**options))
    source = models.tokens()[:1, :7]

    def forward(model, target):
        sources = source.expand(len(target), -1)
        return model(input_ids=sources, decoder_input_ids=target, use_cache=False)

    fast = {"probes": ["perturbation", "jacobian", "truncation"]}
    report = audit(model, models.tokens(), forward=forward, **fast)
    assert report.ok, report
    assert not report.missing


def test_packing_by_positions_is_audited_when_an_adapter_says_how():
    def packed(model, tokens, ids):
        start = torch.searchsorted(ids[0].contiguous(), ids[0].contiguous())
        positions = (torch.arange(len(start)) - start).expand_as(ids)
        return model(tokens, position_ids=positions, use_cache=False)

    model = models.build("llama")
    adapter = Adapter(packed=packed)
    assert audit(model, models.tokens(), forward=adapter, probes=["packed"]).ok
    blind = Adapter(packed=lambda model, x, ids: model(x, use_cache=False))
    report = audit(model, models.tokens(), forward=blind, probes=["packed"])
    assert not report.ok


def test_the_loss_that_transformers_computes_shifts_once():
    from transformers.loss.loss_utils import ForCausalLMLoss

    def loss(logits, tokens):
        return ForCausalLMLoss(logits, tokens, vocab_size=logits.shape[-1])

    assert audit_labels(loss).ok
    twice = audit_labels(lambda logits, tokens: loss(logits, tokens.roll(-1, 1)))
    assert "shifted twice" in twice.diagnosis


def test_one_layer_of_gpt2_and_of_bert():
    for name, ok in (("gpt2", True), ("bert", False)):
        reports = audit_layers(models.build(name), models.tokens())
        assert len(reports) == 2
        assert all(report.ok == ok for report in reports.values())
        assert not any(report.missing for report in reports.values())


# PyTorch's own.

X = torch.randn(2, 8, 16, generator=torch.Generator().manual_seed(0))


def future(x: torch.Tensor) -> torch.Tensor:
    return nn.Transformer.generate_square_subsequent_mask(x.shape[1])


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


def decoder() -> nn.Module:
    layer = nn.TransformerDecoderLayer(16, 2, 32, batch_first=True)
    return nn.TransformerDecoder(layer, 2)


MEMORY = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(1))


def decode(model, x, **mask):
    return model(x, MEMORY.to(x.dtype).expand(len(x), -1, -1), **mask)


TORCH = {
    "encoder": (
        encoder,
        lambda model, x: model(x, mask=future(x), is_causal=True),
        lambda model, x: model(x),
    ),
    "decoder": (
        decoder,
        lambda model, x: decode(model, x, tgt_mask=future(x), tgt_is_causal=True),
        lambda model, x: decode(model, x),
    ),
    "attention": (
        lambda: nn.MultiheadAttention(16, 2, batch_first=True),
        lambda model, x: model(x, x, x, attn_mask=future(x), is_causal=True),
        lambda model, x: model(x, x, x),
    ),
}


@pytest.mark.parametrize("name", TORCH)
def test_the_modules_of_pytorch_with_the_mask_and_without(name):
    make, masked, bare = TORCH[name]
    report = audit(make(), X, forward=masked)
    assert report.ok, report
    assert not report.missing
    report = audit(make(), X, forward=bare, probes=["perturbation"])
    assert not report.ok
    assert "every later position" in report.diagnosis


# Ours.


def test_the_models_of_the_book_are_not_accused():
    config = Config(n_symbols=50, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2)
    assert audit(Decoder(config), models.tokens()).ok
    source = models.tokens()[:1, :6]
    report = audit(
        EncoderDecoder(config),
        models.tokens(),
        forward=lambda model, target: model(source.expand(len(target), -1), target),
    )
    assert report.ok
    assert not report.missing
