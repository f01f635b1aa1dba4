"""The auditor: every planted leak is found, no correct model is accused."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from refusals import messages, printed
from roots import ROOT
from torch import Tensor, nn

from mattn import (
    Config,
    Decoder,
    EncoderDecoder,
    MultiHeadAttention,
    causal,
    documents,
    full,
    prefix,
    window,
)
from mattn.audit import (
    PROBES,
    Adapter,
    Report,
    assert_causal,
    audit,
    audit_beam,
    audit_labels,
    audit_layers,
)
from mattn.audit.subject import preserved
from mattn.generation import beam_search
from mattn.losses import next_token_loss

pytest_plugins = ["mattn.audit.pytest_plugin"]

V, C, T = 20, 16, 8
SIZES = {"n_symbols": V, "d_model": C, "n_layers": 1, "n_heads": 2}
FAST = {"probes": ["perturbation"]}


def tokens(B: int = 2, n: int = T) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, V, (B, n), generator=generator)


class Planted(nn.Module):
    """Embedding, a part that attends, an MLP, logits: the part is exchanged."""

    def __init__(self, part):
        super().__init__()
        self.embedding = nn.Embedding(V, C)
        self.attention = MultiHeadAttention(C, 4)
        self.mlp = nn.Linear(C, C)
        self.norm = nn.BatchNorm1d(C)
        self.gate = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(C, V, bias=False)
        self.part = part

    def forward(self, t: Tensor) -> Tensor:
        x = self.embedding(t)
        x = x + self.part(self, x)
        return self.head(x + self.mlp(x).tanh())


def good(m, x):
    return m.attention(x, causal)


def allowed(x: Tensor, diagonal: int = 0) -> Tensor:
    """Written by hand: what a causal mask allows, and ``diagonal`` more."""
    n = x.shape[1]
    return torch.ones(n, n, dtype=torch.bool).tril(diagonal)


def one_head(m, x):
    mask = allowed(x).repeat(4, 1, 1)
    mask[0] = True
    return m.attention(x, mask[None])


def filled(m, x, fill: float):
    scores = x @ m.mlp(x).mT / C**0.5
    return scores.masked_fill(~allowed(x), fill).softmax(-1) @ x


def late(m, x):
    mask = allowed(x)
    mask[15:] = True
    return m.attention(x, mask)


def top_k(m, x):
    chosen = x.norm(dim=-1).topk(3, dim=1).indices
    return good(m, x) * (
        1 + torch.zeros(x.shape[:2]).scatter(1, chosen, 1.0)[..., None]
    )


def denominator(m, x):
    e = (x @ x.mT / C**0.5).exp()
    return e * allowed(x) @ x / e.sum(-1, keepdim=True)


def mean(x):
    return x.mean(1, keepdim=True)


# Name → the part that leaks, probes that must see it, a word of the diagnosis.
LEAKS = {
    "no mask": (lambda m, x: m.attention(x), {"perturbation", "jacobian"}, "no mask"),
    "inverted": (
        lambda m, x: m.attention(x, ~causal),
        {"perturbation", "jacobian"},
        "inverted",
    ),
    "one diagonal": (
        lambda m, x: m.attention(x, allowed(x, 1)),
        {"perturbation", "jacobian", "truncation"},
        "1 diagonal too many",
    ),
    "one head of many": (one_head, {"perturbation", "jacobian"}, "every later"),
    "fill −10": (lambda m, x: filled(m, x, -10), {"perturbation"}, "finite fill"),
    "fill −1e4": (lambda m, x: filled(m, x, -1e4), {"perturbation"}, "finite fill"),
    "detach": (
        lambda m, x: good(m, x) + mean(x).detach(),
        {"perturbation", "truncation"},
        "no gradient carries it",
    ),
    "rounding": (
        lambda m, x: good(m, x) + (10 * mean(x)).round(),
        {"perturbation", "truncation"},
        "no gradient carries it",
    ),
    "top-k routing": (top_k, {"perturbation"}, "no gradient carries it"),
    "zero gate": (
        lambda m, x: good(m, x) + m.gate * mean(x),
        {"perturbation", "jacobian"},
        "behind a zero or a gate",
    ),
    "only when i ≥ 15": (late, {"perturbation"}, "from query 15 on"),
    "depends on total length": (
        lambda m, x: good(m, x) * (1 + 0.01 * x.shape[1]),
        {"truncation"},
        "whole length",
    ),
    "mixes the batch": (
        lambda m, x: good(m, x) + 0.1 * x.mean(0, keepdim=True),
        {"batch"},
        "rows of the batch mix",
    ),
    "BatchNorm in train mode": (
        lambda m, x: good(m, m.norm(x.mT).mT),
        {"batch", "perturbation"},
        "only in train mode",
    ),
    "denominator only": (denominator, {"perturbation", "jacobian"}, "after softmax"),
    "norm over time": (
        lambda m, x: good(m, x) / (x.square().mean(1, keepdim=True) + 1),
        {"perturbation", "jacobian"},
        "a norm",
    ),
    "mask in train mode only": (
        lambda m, x: m.attention(x, causal if m.training else None),
        {"perturbation"},
        "only in eval mode",
    ),
    "mask in eval mode only": (
        lambda m, x: m.attention(x, None if m.training else causal),
        {"perturbation"},
        "only in train mode",
    ),
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_planted_leak_is_found_and_diagnosed(name):
    part, probes, word = LEAKS[name]
    report = audit(Planted(part), tokens())
    assert not report.ok
    seen = {leak.probe for leak in report.leaks}
    assert probes <= seen, seen
    assert word in report.diagnosis, report.diagnosis
    assert report.first.probe in str(report)
    assert "LEAK" in str(report)


def test_modes_and_lengths_name_where_a_leak_lives():
    modes = {
        "mask in train mode only": "eval mode",
        "mask in eval mode only": "train mode",
        "BatchNorm in train mode": "train mode",
        "zero gate": "eval mode, random weights",
        "fill −1e4": "eval mode, weights × 300",
        "only when i ≥ 15": f"eval mode, T = {2 * T + 3}",
    }
    for name, mode in modes.items():
        leaks = audit(Planted(LEAKS[name][0]), tokens(), **FAST).leaks
        others = {leak.mode for leak in leaks} - {mode}
        assert mode in {leak.mode for leak in leaks}
        if name != "mask in train mode only":
            assert not others, name


def test_the_first_pair_and_the_worst_are_the_ones_planted():
    def peeks(x):
        out = x.cumsum(1)
        out[:, 2] = out[:, 2] + x[:, 5]
        out[:, 4] = out[:, 4] + 100 * x[:, 7]
        return out

    report = audit(peeks, torch.randn(1, T, 3))
    assert (report.first.query, report.first.key) == (2, 5)
    pairs = {(leak.query, leak.key) for leak in report.leaks if leak.key is not None}
    assert pairs == {(2, 5), (4, 7)}
    assert report.leaks[0].query == 4
    assert (report.measured & ~report.expected).nonzero().tolist() == [[2, 5], [4, 7]]
    assert report.leaks[0]._fields == ("query", "key", "size", "probe", "mode")
    sizes = [leak.size for leak in report.leaks]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(AssertionError, match="query position 2 depends on key pos"):
        assert_causal(peeks, torch.randn(1, T, 3))


def fft_convolution(x: Tensor) -> Tensor:
    """Correct, but each output is rounded by all inputs."""
    n = x.shape[1]
    kernel = 0.9 ** torch.arange(n)[:, None]
    spectrum = torch.fft.rfft(x, 2 * n, dim=1) * torch.fft.rfft(kernel, 2 * n, dim=0)
    return torch.fft.irfft(spectrum, 2 * n, dim=1)[:, :n]


class Experts(nn.Module):
    """Correct, but a token's numerics depend on how many others are routed along."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(V, 32)
        self.attention = MultiHeadAttention(32, 4)
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))

    def forward(self, t):
        x = self.embedding(t)
        x = x + self.attention(x, causal)
        out = torch.zeros_like(x)
        for index, expert in enumerate(self.experts):
            rows = (x[..., 0] > 0) == bool(index)
            out[rows] = expert(x[rows])
        return x + out


def small(mask=causal, **options) -> Decoder:
    return Decoder(Config(**{**SIZES, **options}), mask)


def encoder_decoder(model, t):
    source = torch.arange(7).expand(len(t), -1)
    return model(source, t)


CORRECT = {
    "planted, without a leak": (lambda: Planted(good), {}),
    "dropout": (
        lambda: Planted(lambda m, x: F.dropout(good(m, x), 0.5, m.training)),
        {},
    ),
    "fill −∞": (lambda: Planted(lambda m, x: filled(m, x, -torch.inf)), {}),
    "decoder": (small, {}),
    "decoder that starts at zero": (lambda: small(zero_head=True), {}),
    "decoder in float64": (lambda: small().double(), {}),
    "windowed decoder": (lambda: small(causal & window(4)), {}),
    "encoder–decoder": (
        lambda: EncoderDecoder(Config(**SIZES)),
        {"forward": encoder_decoder},
    ),
    "experts": (Experts, {}),
    "convolution by FFT": (lambda: fft_convolution, {}),
    "running mean": (
        lambda: lambda x: x.cumsum(1) / torch.arange(1, x.shape[1] + 1)[:, None],
        {},
    ),
}


@pytest.mark.parametrize("name", CORRECT)
def test_a_correct_model_is_not_accused(name):
    make, options = CORRECT[name]
    model = make()
    x = tokens() if isinstance(model, nn.Module) else torch.randn(2, T, 3)
    report = audit(model, x, **options)
    assert report.ok, report
    assert not report.nothing_shown
    assert "No leak found under:" in str(report)
    if name == "convolution by FFT":
        assert any("shrank with the precision" in note for note in report.notes)


def test_what_was_covered_is_said_mode_by_mode():
    report = audit(small(), tokens())
    covered = dict(line.split(": ") for line in report.covered)
    assert list(covered) == [
        "eval mode",
        "eval mode, random weights",
        "eval mode, weights × 300",
        "train mode",
        f"eval mode, T = {2 * T + 3}",
    ]
    probes = set(PROBES) - {"padding", "packed"}
    assert set(covered["eval mode"].split(", ")) == probes
    assert any(line.startswith("padding: ") for line in report.not_covered)
    assert any(line.startswith("packed: ") for line in report.not_covered)
    assert any("inputs other than" in line for line in report.not_covered)
    assert not report.missing


def test_no_report_ever_says_that_a_model_is_causal():
    for text in (
        str(audit(small(), tokens(), **FAST)),
        str(audit(Planted(LEAKS["no mask"][0]), tokens(), **FAST)),
        str(audit_labels(next_token_loss)),
    ):
        for verdict in ("is causal", "causal: yes", "is safe", "passed"):
            assert verdict not in text.lower()


# Expected dependencies other than the default.


def test_expected_by_rule_matrix_and_number_of_layers():
    model = small(causal & window(4), n_layers=2)
    rule = causal & window(4)
    assert audit(model, tokens(), expected=rule, n_layers=2, strict=True, **FAST).ok
    reach = torch.arange(T)[:, None] - torch.arange(T)
    by_hand = (reach >= 0) & (reach <= 2 * 3)
    assert audit(model, tokens(), expected=by_hand, strict=True, **FAST).ok
    # Taken for one layer, its reach is a leak; taken for three, it falls short.
    assert not audit(model, tokens(), expected=rule, **FAST).ok
    report = audit(model, tokens(), expected=rule, n_layers=3, **FAST)
    assert report.ok
    assert report.missing
    strict = audit(model, tokens(), expected=rule, n_layers=3, strict=True, **FAST)
    assert not strict.ok
    assert "MISSING" in str(strict)
    with pytest.raises(AssertionError, match="is missing"):
        assert_causal(model, tokens(), expected=rule, n_layers=3, strict=True, **FAST)


def test_a_window_one_key_too_wide_is_named():
    rule, wider = causal & window(3), causal & window(4)
    config = Config(n_symbols=V, d_model=C, n_layers=2, n_heads=2)
    report = audit(
        Decoder(config, mask=wider), tokens(), expected=rule, n_layers=2, **FAST
    )
    assert "window 2 keys too wide" in report.diagnosis


def test_encoders_prefixes_and_documents_are_expected_as_such():
    encoder = Decoder(Config(**SIZES), mask=full)
    assert audit(encoder, tokens(), expected=full, strict=True, **FAST).ok
    assert not audit(encoder, tokens(), **FAST).ok
    rule = causal | prefix(3)
    assert audit(
        Planted(lambda m, x: m.attention(x, rule)), tokens(), expected=rule, **FAST
    ).ok
    ids = [0] * 5 + [1] * (T - 5)
    rule = causal & documents(ids)

    def packed(model, t):
        return model(t, mask=documents(ids[: t.shape[1]]))

    names = ["perturbation", "jacobian"]
    report = audit(small(), tokens(), expected=rule, forward=packed, probes=names)
    assert report.ok
    assert any("this length only" in line for line in report.not_covered)
    report = audit(small(), tokens(), expected=rule, **FAST)
    assert "documents of a row see each other" in report.diagnosis


def test_a_rule_that_tells_rows_apart_is_measured_row_by_row():
    ids = torch.tensor([[0] * 4 + [1] * (T - 4), [0] * 6 + [1] * (T - 6)])
    rule = causal & documents(ids)

    def right(model, t):
        return model(t, mask=documents(ids))

    def first_row_for_all(model, t):
        return model(t, mask=documents(ids[:1].expand(2, -1)))

    for forward, ok in ((right, True), (first_row_for_all, False)):
        report = audit(small(), tokens(), expected=rule, forward=forward, **FAST)
        assert report.ok == ok


def test_missing_links_are_reported_and_fail_only_when_strict():
    model = Planted(lambda m, x: 0 * x)
    report = audit(model, tokens(), **FAST)
    assert report.ok
    assert len(report.missing) == T * (T - 1) // 2
    assert "sees itself alone" in report.diagnosis
    assert not audit(model, tokens(), strict=True, **FAST).ok

    def shifted(x):
        return F.pad(x.cumsum(1), (0, 0, 1, -1))

    report = audit(shifted, torch.randn(1, 6, 2), **FAST)
    assert report.missing == [(i, i) for i in range(6)]
    assert "no position sees itself" in report.diagnosis


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


def left_padded(model, x, real):
    slots = torch.where(real, real.cumsum(-1) - 1, -1)
    return model(x, slots=slots)


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


# The model comes back as it was.


def state_of(model: nn.Module) -> list:
    tensors = [*model.parameters(), *model.buffers()]
    return [
        [(id(t), t.data_ptr(), t.dtype, t.requires_grad, t.clone()) for t in tensors],
        [None if p.grad is None else (id(p.grad), p.grad.clone()) for p in tensors],
        [
            (m.training, len(m._forward_hooks), len(m._forward_pre_hooks))
            for m in model.modules()
        ],
        [sorted(vars(m)) for m in model.modules()],
        torch.get_rng_state(),
        torch.get_default_dtype(),
    ]


def same_state(a: list, b: list) -> bool:
    def equal(x, y):
        if isinstance(x, Tensor):
            return x.dtype == y.dtype and torch.equal(x, y)
        if isinstance(x, list | tuple):
            return len(x) == len(y) and all(map(equal, x, y))
        return x == y

    return equal(a, b)


class Restless(Planted):
    """Changes whatever a forward pass can change, and may fail."""

    def __init__(self, fail_after: int | None = None):
        super().__init__(good)
        self.register_buffer("n_calls", torch.zeros((), dtype=torch.long))
        self.plain = torch.zeros(3)
        self.seen: list[int] = []
        self.fail_after = fail_after

    def forward(self, t):
        self.n_calls += 1
        self.plain += 1
        self.seen.append(len(t))
        self.latest = t
        if self.fail_after is not None and len(self.seen) > self.fail_after:
            raise RuntimeError("enough")
        return super().forward(
            self.norm(t.float()[:, None].repeat(1, C, 1))[:, 0].long() * 0 + t
        )


@pytest.mark.parametrize(
    ("fail_after", "training"), [(None, True), (0, True), (1, False), (40, False)]
)
def test_the_model_comes_back_as_it_was(fail_after, training):
    model = Restless(fail_after).train(training)
    model.mlp.eval()
    model.gate.requires_grad_(False)
    model.head.weight.grad = torch.randn_like(model.head.weight)
    model.head.register_forward_hook(lambda *args: None)
    before, rng = state_of(model), torch.get_rng_state()
    numbers = list(model.seen), model.plain.clone()
    try:
        audit(model, tokens())
        audit_layers(model, tokens())
        audit_beam(model, [1, 2], [([3], -1.0)])
    except (ValueError, RuntimeError):
        assert fail_after is not None
    assert same_state(before, state_of(model))
    assert torch.equal(rng, torch.get_rng_state())
    assert list(model.seen) == numbers[0]
    assert torch.equal(model.plain, numbers[1])
    assert not hasattr(model, "latest")


def test_preserved_undoes_every_change_of_dtype_and_storage():
    model = Planted(good)
    before = state_of(model)
    with preserved(model):
        model.double()
        model.half()
        model.register_parameter("new", nn.Parameter(torch.zeros(2)))
        del model.head
    assert same_state(before, state_of(model))


# Non-determinism, budget, bad input.


def test_a_model_that_does_not_repeat_itself_is_reported_as_such():
    generator = torch.Generator().manual_seed(0)

    def noisy(x):
        return x.cumsum(1) + 1e-3 * torch.randn(x.shape, generator=generator)

    report = audit(noisy, torch.randn(1, 6, 2), probes=["perturbation"])
    assert report.ok
    assert any("not deterministic" in note for note in report.notes)
    report = audit(
        lambda x: noisy(x) + x.mean(1, keepdim=True),
        torch.randn(1, 6, 2),
        probes=["perturbation"],
    )
    assert not report.ok


def test_a_budget_stops_early_and_says_what_was_left_out():
    report = audit(small(), tokens(), budget=0)
    assert report.nothing_shown == "no probe ran to its end"
    left = [line for line in report.not_covered if "budget of 0 s" in line]
    assert "perturbation, batch in train mode" in " ".join(left)
    assert len(left) == 5
    with pytest.raises(AssertionError, match="nothing was shown"):
        assert_causal(small(), tokens(), budget=0)
    assert not any(
        "budget" in s for s in audit(small(), tokens(), budget=60).not_covered
    )


def test_leaks_found_before_the_budget_was_used_up_are_kept(monkeypatch):
    clock = iter(range(10**6))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    leaky = Planted(LEAKS["no mask"][0])
    report = audit(leaky, tokens(), budget=20)
    assert any("budget of 20 s" in line for line in report.not_covered)
    assert not report.ok
    assert not report.nothing_shown


def test_nothing_to_show_is_never_a_silent_ok():
    constant = lambda t: torch.zeros(*t.shape, 3)  # noqa: E731
    report = audit(constant, tokens())
    assert report.nothing_shown
    assert "NOTHING SHOWN: the output did not move" in str(report)
    with pytest.raises(AssertionError, match="did not move"):
        assert_causal(constant, tokens())
    report = audit(lambda x: x * torch.nan, torch.randn(1, 5, 2))
    assert report.nothing_shown
    assert any("not finite before anything is changed" in s for s in report.not_covered)


def test_a_model_that_sometimes_fails_is_reported():
    def picky(t):
        if (t[:, 0] == 3).any():
            raise RuntimeError("token 3 may not come first")
        return F.one_hot(t, V).float().cumsum(1)

    x = torch.full((1, 6), 5)
    x[0, 3] = 19
    report = audit(picky, x)
    text = "\n".join(report.not_covered)
    assert report.ok
    assert "token 3 may not come first" in text or "perturbation" in report.covered[0]


@pytest.mark.parametrize("probe", PROBES)
def test_each_probe_runs_alone(probe):
    def packed(model, x, ids):
        return model(x, mask=documents(ids))

    adapter = Adapter(pad=left_padded, packed=packed)
    report = audit(small(), tokens(), forward=adapter, probes=[probe])
    assert report.ok
    assert not report.nothing_shown
    assert report.covered[0] == f"eval mode: {probe}"


def test_outputs_of_many_forms_are_understood():
    class Output:
        def __init__(self, logits):
            self.logits = logits

    forms = [
        lambda y: (y, None),
        lambda y: {"loss": None, "logits": y},
        lambda y: {"out": y},
        Output,
        lambda y: y[..., 0],
        lambda y: y[..., None],
    ]
    for form in forms:
        assert audit(lambda x, form=form: form(x.cumsum(1)), torch.randn(1, 5, 3)).ok
        assert not audit(lambda x, form=form: form(x.flip(1)), torch.randn(1, 5, 3)).ok


def test_tokens_that_equal_the_positions_are_still_found():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.position = nn.Embedding(50, C)
            self.token = nn.Embedding(V, C)

        def forward(self, t):
            x = self.position(torch.arange(t.shape[1]).expand_as(t)) + self.token(t)
            return x.cumsum(1)

    report = audit(Positions(), torch.arange(T)[None])
    assert report.ok
    assert not report.missing


def test_the_report_draws_itself():
    figure = audit(Planted(LEAKS["one diagonal"][0]), tokens(), **FAST).plot()
    marks = [text.get_text() for text in figure.axes[0].texts]
    assert marks.count("✕") == T - 1


# Bad input, in a process without the shape checks of these tests.

X = "torch.randn(2, 5, 3)"
BAD = {
    "not a tensor": ("audit(F, [[1, 2]])", "expected tokens (B, T) or features"),
    "one dimension": ("audit(F, torch.zeros(4).long())", "tokens[None]"),
    "integer features": ("audit(F, torch.zeros(2, 5, 3).long())", "floating-point"),
    "float tokens": ("audit(F, torch.zeros(2, 5))", "expected integer tokens"),
    "bool tokens": ("audit(F, torch.zeros(2, 5).bool())", "expected integer tokens"),
    "one position": ("audit(F, torch.zeros(2, 1, 3))", "at least 2 positions"),
    "no rows": ("audit(F, torch.zeros(0, 4, 3))", "at least 2 positions"),
    "other length": (f"audit(lambda x: x[:, 1:], {X})", "one output for each input"),
    "no tensor": (f"audit(lambda x: 'text', {X})", "expected an output that is"),
    "fails": (
        f"audit(lambda x: x @ torch.ones(4), {X})",
        "the model fails on the given",
    ),
    "token out of range": (
        "audit(torch.nn.Embedding(3, 4), torch.full((1, 5), 7))",
        "the model fails on the given tokens",
    ),
    "vocabulary of one": (
        "audit(torch.nn.Embedding(1, 4), torch.zeros(1, 5).long())",
        "at least 2 symbols",
    ),
    "expected of another length": (
        f"audit(F, {X}, expected=torch.ones(4, 4).bool())",
        "shape (5, 5)",
    ),
    "float expected": (f"audit(F, {X}, expected=torch.ones(5, 5))", "boolean matrix"),
    "expected for other rows": (
        f"audit(F, {X}, expected=torch.ones(3, 5, 5).bool())",
        "the 2 rows of this batch",
    ),
    "no layers": (f"audit(F, {X}, n_layers=0)", "n_layers >= 1"),
    "unknown probe": (f"audit(F, {X}, probes=['magic'])", "['magic']"),
    "no probe": (f"audit(F, {X}, probes=[])", "got none"),
    "no attention": (
        f"audit_layers(torch.nn.Linear(3, 3), {X})",
        "found no attention module",
    ),
    "layer without states": (
        "audit_layers(torch.nn.Embedding(9, 3), torch.zeros(1, 5).long(), "
        "layers=lambda name, module: True)",
        "expected hidden states",
    ),
    "loss not a scalar": (
        "audit_labels(lambda logits, tokens: logits)",
        "expected a scalar loss",
    ),
    "no hypothesis": ("audit_beam(F, [1], [])", "a prompt and hypotheses"),
    "empty hypothesis": ("audit_beam(F, [1], [([], 0.0)])", "a prompt and hypotheses"),
}


def calls() -> dict[str, Callable]:
    names = globals() | {"F": lambda x: x.cumsum(1)}
    return {
        name: functools.partial(eval, call, names) for name, (call, _) in BAD.items()
    }


@pytest.fixture(scope="module")
def raised() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_a_clear_error(raised, name):
    kind, message = raised[name]
    assert kind == "ValueError", message
    assert BAD[name][1] in message


# From the shell, and as a fixture.

FACTORIES = """
import torch
from torch import nn

class Mean(nn.Module):
    def __init__(self, leaks):
        super().__init__()
        self.table, self.leaks = nn.Embedding(11, 4), leaks
    def forward(self, tokens):
        x = self.table(tokens)
        return x.mean(1, keepdim=True) + x if self.leaks else x.cumsum(1)

def good(): return Mean(False)
def leaky(): return Mean(True)
def features(): return nn.Linear(3, 3), torch.randn(1, 5, 3)
def unknown(): return nn.Linear(3, 3)
def constant(): return lambda x: 0 * x, torch.randn(1, 5, 3)
def broken(): raise RuntimeError("no weights here")
"""


@pytest.fixture
def shell(tmp_path, monkeypatch, capsys):
    from mattn.audit.__main__ import main

    (tmp_path / "factories.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)

    def run(*arguments: str):
        sys.modules.pop("factories", None)
        status = main([*arguments, "--length", "8"])
        return status, *capsys.readouterr()

    return run


def test_the_shell_reports_and_returns_a_status(shell):
    status, out, err = shell("factories:good")
    assert (status, err) == (0, "")
    assert "No leak found under:" in out
    status, out, _ = shell("factories:leaky")
    assert status == 1
    assert "query position 0 depends on key position 1" in out
    assert shell("factories:leaky", "--expected", "full")[0] == 0
    window = "--expected", "window", "--window", "3"
    assert shell("factories:good", *window)[0] == 1
    assert shell("factories:good", *window, "--layers", "9")[0] == 0
    assert shell("factories:features", "--strict")[0] == 1
    assert shell("factories:features")[0] == 0
    status, out, _ = shell("factories:constant")
    assert status == 2
    assert "NOTHING SHOWN" in out


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("factories", "expected package.module:factory"),
        ("no_such_module:f", "No module named"),
        ("factories:nothing", "has no attribute"),
        ("factories:unknown", "without an embedding"),
        ("factories:broken", "no weights here"),
    ],
)
def test_the_shell_says_what_is_wrong(shell, factory, message):
    status, out, err = shell(factory)
    assert status == 2
    assert message in err
    assert not out


def test_the_module_runs_as_a_program(tmp_path):
    (tmp_path / "factories.py").write_text(FACTORIES)
    done = subprocess.run(
        [sys.executable, "-m", "mattn.audit", "factories:leaky", "--length", "6"],
        cwd=tmp_path,
        env=os.environ | {"MATTN_PROGRESS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "LEAK" in done.stdout
    assert not done.stderr


HELP = """
import importlib.metadata, sys, tomllib

with open({pyproject!r}, "rb") as file:
    scripts = tomllib.load(file)["project"]["scripts"]
entry = importlib.metadata.EntryPoint("mattn-audit", scripts["mattn-audit"], "")
try:
    entry.load()(["--help"])
except SystemExit as end:
    assert not end.code
loaded = {{name.partition(".")[0] for name in sys.modules}}
assert not loaded & {{"jaxtyping", "numpy", "torch"}}, loaded
"""


def test_help_is_there_at_once():
    pyproject = ROOT / "pyproject.toml"
    done = subprocess.run(
        [sys.executable, "-c", HELP.format(pyproject=str(pyproject))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: mattn-audit ")


def test_the_fixture_is_the_function(assert_causal):
    assert_causal(small(), tokens(), probes=["perturbation"])
    with pytest.raises(AssertionError, match="query position 0 depends on"):
        assert_causal(Planted(LEAKS["no mask"][0]), tokens(), **FAST)


def test_reports_are_reports():
    assert isinstance(audit_labels(next_token_loss), Report)
    assert Path(__file__).name == "test_audit.py"


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages(calls())))
