"""The auditor's manners: a model comes back as it was, and nothing is a silent ok."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from audited import FAST, LEAKS, C, Planted, T, V, good, left_padded, small, tokens
from torch import Tensor, nn

from mattn import documents
from mattn.audit import PROBES, Adapter, assert_causal, audit, audit_beam, audit_layers
from mattn.audit.subject import preserved

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
