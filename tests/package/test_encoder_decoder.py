"""The encoder–decoder: what source and target may see, exactly."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from decoders import BASE, T, V, tokens_like
from torch import nn

from mattn import causal, padding, record_weights
from mattn.checks import influence
from mattn.models import EncoderDecoder

S = 5
SOURCE = replace(BASE, n_symbols=11, n_layers=1)


@pytest.fixture(params=[False, True], ids=["shared", "own source"])
def translator(request):
    return EncoderDecoder(BASE, SOURCE if request.param else None).double().eval()


def test_the_target_is_causal_and_sees_the_whole_source(translator):
    source, target = tokens_like(1, S) % 11, tokens_like(T)
    memory = translator.encode(source)
    got = influence(
        lambda t: translator.decode(t[None], memory)[0], target, n_symbols=V
    )
    assert torch.equal(got, causal.matrix(T))
    of_source = influence(
        lambda s: translator(s[None], target[None])[0], source[0], n_symbols=11
    )
    assert of_source.all()
    encoded = influence(
        lambda s: translator.encode(s[None])[0], source[0], n_symbols=11
    )
    assert encoded.all()


@torch.no_grad()
def test_padding_and_batch_mates_change_nothing(translator):
    lengths = torch.tensor([3, 5, 1])
    source, target = tokens_like(3, S) % 11, tokens_like(3, T, seed=2)
    logits = translator(source, target, lengths)
    changed = source.clone()
    hidden = torch.arange(S) >= lengths[:, None]
    changed[hidden] = (changed[hidden] + 1) % 11
    assert torch.equal(translator(changed, target, lengths), logits)
    for b, n in enumerate(lengths.tolist()):
        alone = translator(source[b : b + 1, :n], target[b : b + 1])
        torch.testing.assert_close(logits[b : b + 1], alone)
    # The test can fail: without the lengths, padding is read.
    assert (translator(source, target) - logits)[0].abs().max() > 1e-3


@torch.no_grad()
def test_padding_right_of_a_target_changes_nothing(translator):
    source, target = tokens_like(2, S) % 11, tokens_like(2, T)
    longer = torch.cat([target, tokens_like(2, 3, seed=3)], dim=1)
    torch.testing.assert_close(
        translator(source, longer)[:, :T], translator(source, target)
    )


@torch.no_grad()
def test_cached_translation_equals_uncached_and_reads_the_source_once(translator):
    lengths = torch.tensor([4, 5])
    source, target = tokens_like(2, S) % 11, tokens_like(2, T)
    memory = translator.encode(source, lengths)
    calls = []
    key = translator.decoder.blocks[0].cross.key
    key.register_forward_hook(lambda *_: calls.append(1))
    for split in ([(0, T)], [(i, i + 1) for i in range(T)], [(0, 3), (3, 4), (4, T)]):
        calls.clear()
        cache = translator.new_cache(T, S)
        parts = [
            translator.decode(target[:, a:b], memory, lengths, cache=cache)
            for a, b in split
        ]
        assert len(calls) == 1
        torch.testing.assert_close(
            torch.cat(parts, dim=1), translator(source, target, lengths)
        )


@torch.no_grad()
def test_beams_reorder_every_cache_alike(translator):
    source = tokens_like(1, S).expand(3, S) % 11
    target = tokens_like(3, T)
    rows = torch.tensor([2, 0, 2])
    cache = translator.new_cache(T, S)
    memory = translator.encode(source)
    translator.decode(target[:, :4], memory, cache=cache)
    cache.reorder(rows)
    target = torch.cat([target[rows, :4], target[:, 4:]], dim=1)
    out = translator.decode(target[:, 4:], memory, cache=cache)
    torch.testing.assert_close(out, translator(source, target)[:, 4:])


@torch.no_grad()
def test_cross_attention_maps_hide_the_padding():
    model = EncoderDecoder(BASE)
    lengths = torch.tensor([2, 5])
    with record_weights(model) as weights:
        model(tokens_like(2, S), tokens_like(2, T), lengths)
    cross = weights["decoder.blocks.1.cross"]
    visible = padding(lengths).matrix(T, S)[:, None].expand(2, 4, T, S)
    assert torch.equal(cross > 0, visible)
    torch.testing.assert_close(cross.sum(dim=-1), torch.ones(2, 4, T))
    encoder = weights["encoder.blocks.0.attention"]
    assert torch.equal(encoder > 0, visible[:, :, :1].expand(2, 4, S, S))


def test_every_parameter_of_the_encoder_decoder_is_trained(translator):
    names = [n for n, m in translator.named_modules() if isinstance(m, nn.Linear)]
    assert len(names) == len(set(names))
    logits = translator(tokens_like(2, S) % 11, tokens_like(2, T))
    F.cross_entropy(logits.flatten(0, 1), tokens_like(2, T).flatten()).backward()
    for name, parameter in translator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_widths_of_encoder_and_decoder_must_agree():
    with pytest.raises(ValueError, match="d_model"):
        EncoderDecoder(BASE, replace(SOURCE, d_model=28))
