"""The auditor on caches, padding, packing, beams, labels, and layer by layer."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from audited import FAST, C, Planted, T, V, allowed, good, left_padded, small, tokens
from torch import nn

from mattn import Config, Decoder, causal, documents, full, window
from mattn.audit import Adapter, audit, audit_beam, audit_labels, audit_layers
from mattn.generation import beam_search
from mattn.losses import next_token_loss

# Caches, padding, packing, beams, labels.


def test_cached_decoding_is_audited_and_its_faults_found():
    def skips(model, chunk, state, capacity):
        state = model.new_cache(capacity) if state is None else state
        read = state.length
        at = read + int(read > 0) + torch.arange(chunk.shape[1])
        return model(chunk, cache=state, positions=at), state

    def forgets(model, chunk, state, capacity):
        return model(chunk), state

    def only_steps(model, chunk, state, capacity):
        state = model.new_cache(capacity) if state is None else state
        if chunk.shape[1] == 1 or state.length == 0:
            return model(chunk, cache=state), state
        return model(chunk), state

    for step in (skips, forgets, only_steps):
        report = audit(small(), tokens(), forward=Adapter(step=step), probes=["cache"])
        seen = {leak.probe for leak in report.leaks}
        assert seen
        assert all(probe.startswith("cache") for probe in seen)
        assert ("cache, step by step" in seen) == (step is not only_steps)
        assert "cache" in report.diagnosis


def test_a_declared_window_is_crossed_also_with_the_cache():
    report = audit(
        small(causal & window(30)), tokens(), probes=["perturbation", "cache"]
    )
    assert "eval mode, T = 38: perturbation, cache" in report.covered


def test_declared_limits_are_respected():
    report = audit(small(context=T), tokens(), **FAST)
    assert any("declares no more" in line for line in report.not_covered)


def test_padding_is_audited_and_its_faults_found():
    assert audit(
        small(), tokens(), forward=Adapter(pad=left_padded), probes=["padding"]
    ).ok
    faults = {
        "no position ids": lambda model, x, real: model(x),
        "first row's for all": lambda model, x, real: left_padded(
            model, x, real[:1].expand_as(real)
        ),
    }
    for name, pad in faults.items():
        report = audit(small(), tokens(), forward=Adapter(pad=pad), probes=["padding"])
        assert {leak.probe for leak in report.leaks} & {
            "padding, left",
            "padding, right",
        }, name
        assert "padding" in report.diagnosis


def test_packing_is_audited_and_its_faults_found():
    def right(model, x, ids):
        return model(x, mask=documents(ids))

    assert audit(small(), tokens(), forward=Adapter(packed=right), probes=["packed"]).ok
    report = audit(
        small(),
        tokens(),
        forward=Adapter(packed=lambda m, x, ids: m(x)),
        probes=["packed"],
    )
    assert {leak.probe for leak in report.leaks} == {"packed"}
    assert "documents of a row see each other" in report.diagnosis


def test_empty_rows_in_half_precision_are_hygiene():
    class Padded(nn.Module):
        """A dense block whose padded queries see nothing, filled with −∞."""

        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(V, C)
            self.key = nn.Linear(C, C)

        def forward(self, t, real=None):
            x = self.embedding(t)
            mask = allowed(x)
            if real is not None:
                mask = mask & real[:, None, :]
            scores = x @ self.key(x).mT
            return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ x

    adapter = Adapter(pad=lambda model, x, real: model(x, real))
    report = audit(Padded(), tokens(), forward=adapter, probes=["finite"])
    assert report.ok
    assert "outputs not finite with padding on the left" in report.hygiene
    assert any("gradients not finite" in line for line in report.hygiene)
    assert "Hygiene (not leaks):" in str(report)


def test_overflow_and_random_numbers_in_eval_mode_are_hygiene():
    huge = audit(lambda x: (100 * x.cumsum(1)).exp(), 0.01 * torch.randn(1, 6, 2))
    assert any("for inputs × 100" in line for line in huge.hygiene)
    model = Planted(lambda m, x: F.dropout(good(m, x), 0.5))
    report = audit(model, tokens(), probes=["finite"])
    assert "random numbers act in eval mode" in report.hygiene


def test_nan_is_hygiene_and_never_a_leak():
    report = audit(lambda x: allowed(x).float() @ x, torch.randn(1, 6, 2))
    assert report.ok
    assert any("NaN at the last position" in line for line in report.hygiene)


def test_two_paths_that_disagree_are_noted():
    model = Planted(lambda m, x: good(m, x) * (1.5 if m.training else 1.0))
    report = audit(model, tokens(), **FAST)
    assert report.ok
    assert any("train and eval mode differ" in note for note in report.notes)


def test_beams_are_scored_again():
    model = small().eval()
    found = beam_search(model, [[1, 2, 3]], 5, n_beams=3)[0]
    report = audit_beam(model, [1, 2, 3], found)
    assert report.ok
    assert "All 3 log-probabilities were found again" in str(report)
    wrong = [(h.tokens, h.log_prob - 0.01 * i) for i, h in enumerate(found)]
    report = audit_beam(model, [1, 2, 3], wrong)
    assert sorted(leak.query for leak in report.leaks) == [1, 2]
    assert "not reordered" in report.diagnosis
    assert "hypothesis 1" in str(report)
    assert not audit_beam(model, [1], [([2], float("nan"))]).ok


def shifted_by(n: int):
    def loss(logits, t):
        kept = logits[:, : t.shape[1] - n]
        return F.cross_entropy(kept.flatten(0, 1), t[:, n:].flatten())

    return loss


def test_labels_are_asked_for_their_shift():
    assert audit_labels(next_token_loss).ok
    assert "is taught token t + 1" in str(audit_labels(shifted_by(1)))
    assert "not shifted" in audit_labels(shifted_by(0)).diagnosis
    assert "shifted twice" in audit_labels(shifted_by(2)).diagnosis
    assert "t + 3" in audit_labels(shifted_by(3)).diagnosis
    assert "WRONG TARGETS" in str(audit_labels(shifted_by(0)))
    silent = audit_labels(lambda logits, t: 0 * logits.sum())
    assert silent.nothing_shown
    assert "NOTHING SHOWN" in str(silent)
    half = audit_labels(lambda logits, t: shifted_by(1)(logits[:, :5], t[:, :5]))
    assert [pair[0] for pair in half.missing] == [4, 5, 6, 7]


# One layer at a time.


def test_layers_are_audited_by_themselves():
    reports = audit_layers(small(n_layers=2), tokens())
    assert list(reports) == ["blocks.0.attention", "blocks.1.attention"]
    assert all(report.ok for report in reports.values())
    config = Config(n_symbols=V, d_model=C, n_layers=2, n_heads=2)
    for report in audit_layers(
        Decoder(config, causal & window(3)), tokens(), expected=causal & window(3)
    ).values():
        assert report.ok
        assert not report.missing

    class Odd(Decoder):
        def run(self, x, **given):
            x = self.blocks[0](x, causal)
            return self.norm(self.blocks[1](x, full))

    broken = Odd(Config(n_symbols=V, d_model=C, n_layers=2, n_heads=2))
    ok = {name: report.ok for name, report in audit_layers(broken, tokens()).items()}
    assert ok == {"blocks.0.attention": True, "blocks.1.attention": False}


def test_layers_of_torch_and_their_other_inputs():
    layer = nn.TransformerDecoderLayer(C, 2, 32, batch_first=True)
    memory = torch.randn(2, 5, C)

    def forward(model, x):
        return model(x, memory[: len(x)], tgt_mask=~allowed(x))

    reports = audit_layers(layer, torch.randn(2, 6, C), forward=forward)
    assert reports["self_attn"].ok
    assert not reports["self_attn"].missing
    # Cross-attention: its queries do not see each other at all.
    cross = reports["multihead_attn"]
    assert len(cross.missing) == 15
    assert any("kept as given" in line for line in cross.not_covered)
