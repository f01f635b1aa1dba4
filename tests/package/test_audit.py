"""The auditor: every planted leak is found, no correct model is accused."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from audited import FAST, LEAKS, SIZES, C, Planted, T, V, filled, good, small, tokens
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
from mattn.audit import PROBES, Report, assert_causal, audit, audit_labels
from mattn.losses import next_token_loss


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


def test_reports_are_reports():
    assert isinstance(audit_labels(next_token_loss), Report)
