"""The Triton kernel: on a GPU where there is one, else in Triton's interpreter.

The interpreter is slow, so sizes are small. What needs a process of its own
(errors without the shape checks, no Triton, machine code for GPUs that are not
there) is at the end: this file, executed as a program.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import messages
from torch import nn

from mattn import Mask, attention, causal, documents, full, kernels, padding, window
from mattn.audit import audit
from mattn.checks import influence, same
from mattn.kernels import flash_attention, spans, tune

pytest.importorskip("triton")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
GPU = DEVICE == "cuda"
HALF = torch.bfloat16 if GPU else torch.float16


def rules(Tq: int, Tk: int) -> dict[str, Mask | None]:
    """Every kind of rule that the kernel takes, for two rows of a batch."""
    ids = torch.arange(Tk) * 4 // Tk + 5
    own = torch.stack([ids, torch.arange(Tk) // 3])
    return {
        "none": None,
        "full": full,
        "causal": causal,
        "causal window": causal & window(9),
        "window": window(9),
        "causal window of 1": window(1) & causal,
        "documents": documents(ids),
        "causal documents": causal & documents(ids),
        "causal documents by row": causal & documents(own),
        "padding": padding([Tk - 7, Tk]),
        "causal padding": causal & padding([Tk - 7, 3]),
        "causal left padding": causal & padding([Tk - 7, 3], side="left", width=Tk),
        "an empty row of the batch": causal & padding([0, Tk]),
        "all": causal & window(20) & documents(own) & padding([Tk, Tk // 2]),
    }


RULES = tuple(rules(8, 8))


def draw(B=2, H=2, Hkv=1, Tq=37, Tk=37, D=24, *, dtype=torch.float32):
    shapes = (B, H, Tq, D), (B, Hkv, Tk, D), (B, Hkv, Tk, D)
    return [torch.randn(s, device=DEVICE).to(dtype).requires_grad_() for s in shapes]


def both_passes(form, q, k, v, grad):
    out = form(q, k, v)
    return out, *torch.autograd.grad(out, (q, k, v), grad)


def dense(mask, H, scale=None):
    """mattn's readable form, for grouped heads."""

    def form(q, k, v):
        if scale is not None:
            q = q * (scale * math.sqrt(q.shape[-1]))
        k, v = (t.repeat_interleave(H // t.shape[1], dim=1) for t in (k, v))
        return attention(q, k, v, mask)[0]

    return form


def rms(t) -> float:
    return float(t.detach().double().square().mean().sqrt())


def check(mask, q, k, v, *, grad=None, **options) -> None:
    """Output and gradients: finite, and about as exact as plain PyTorch's.

    Errors are root mean squares. Where terms cancel, as at a weight of 1, plain
    PyTorch can be exact by luck; one rounding of a typical term is always granted.
    """
    inputs = [t.detach().requires_grad_() for t in (q, k, v)]
    grad = torch.randn_like(q) if grad is None else grad
    ours = both_passes(
        lambda q, k, v: flash_attention(q, k, v, mask, **options), q, k, v, grad
    )
    plainly = dense(mask, q.shape[1], options.get("scale"))
    plain = both_passes(plainly, *inputs, grad)
    wide = [t.detach().double().requires_grad_() for t in (q, k, v)]
    right = both_passes(plainly, *wide, grad.double())
    group = q.shape[1] // k.shape[1]
    d_weights = rms(grad.double() @ wide[2].detach().repeat_interleave(group, 1).mT)
    scale = options.get("scale", q.shape[-1] ** -0.5)
    terms = rms(v), d_weights * rms(k) * scale, d_weights * rms(q) * scale, rms(grad)
    names, limits = ("output", "dq", "dk", "dv"), (2, 3, 3, 3)
    for name, a, b, r, term, limit in zip(
        names, ours, plain, right, terms, limits, strict=True
    ):
        assert a.shape == r.shape
        assert a.dtype == q.dtype
        error, theirs = rms(a.double() - r), rms(b.double() - r)
        granted = max(theirs, torch.finfo(q.dtype).eps * term)
        assert error <= limit * granted, f"{name}: {error} against {theirs}"


@pytest.mark.parametrize("name", RULES)
def test_each_rule_forward_and_backward(name):
    check(rules(37, 53)[name], *draw(Tk=53))


@pytest.mark.parametrize("name", ["causal", "window", "causal documents", "all"])
def test_more_queries_than_keys(name):
    # Bottom-right alignment: the first queries stand before every key.
    mask = rules(40, 21)[name]
    q, k, v = draw(Tq=40, Tk=21)
    check(mask, q, k, v)
    out = flash_attention(q, k, v, mask)
    assert out[:, :, :18].eq(0).all() or name == "window"


@pytest.mark.parametrize("D", [1, 32, 59, 64, 96, 128, 256])
def test_each_head_size(D):
    check(causal & window(13), *draw(B=1, H=1, Tq=20, Tk=35, D=D))


@pytest.mark.parametrize("name", ["none", "causal", "all"])
def test_half_precision(name):
    check(rules(37, 37)[name], *draw(dtype=HALF))


@pytest.mark.parametrize(("H", "Hkv"), [(6, 6), (6, 3), (6, 1)])
def test_grouped_query_heads(H, Hkv):
    check(causal, *draw(B=1, H=H, Hkv=Hkv, Tq=9, Tk=17, D=16))


@pytest.mark.parametrize("T", [1, 2, 16, 33])
def test_small_and_round_sizes(T):
    check(causal, *draw(B=1, H=1, Tq=T, Tk=T, D=16))


def test_the_scale_is_an_argument():
    check(causal, *draw(B=1, H=1, Tq=9, Tk=9, D=16), scale=0.7)


def test_large_scores_neither_overflow_nor_vanish():
    q, k, v = draw(B=1, H=1, Tq=21, Tk=21, D=16)
    with torch.no_grad():
        q *= 300.0
    check(causal, q, k, v)
    # All scores of a query below any finite fill.
    q, k = q.detach(), k.detach().abs()
    q = -q.abs() * 1e6
    same(
        flash_attention(q, k, v.detach(), causal).cpu(),
        attention(q.double(), k.double(), v.detach().double(), causal)[0].cpu(),
        atol=1e-4,
    )


@st.composite
def cases(draw_):
    Tq, Tk = draw_(st.integers(1, 64)), draw_(st.integers(1, 64))
    Hkv, group = draw_(st.integers(1, 2)), draw_(st.integers(1, 2))
    mask = full
    if draw_(st.booleans()):
        mask = mask & causal
    if draw_(st.booleans()):
        mask = mask & window(draw_(st.integers(1, 70)))
    if draw_(st.booleans()):
        cuts = draw_(st.lists(st.integers(0, Tk), max_size=4))
        ids = torch.zeros(Tk, dtype=torch.long)
        for cut in cuts:
            ids[cut:] += 1
        mask = mask & documents(ids)
    if draw_(st.booleans()):
        lengths = [draw_(st.integers(0, Tk)) for _ in range(2)]
        side = draw_(st.sampled_from(["left", "right"]))
        mask = mask & padding(lengths, side=side, width=Tk if side == "left" else None)
    return Tq, Tk, Hkv, group, draw_(st.integers(1, 40)), mask


@settings(max_examples=12 if DEVICE == "cpu" else 100)
@given(cases())
def test_any_shape_and_rule(case):
    Tq, Tk, Hkv, group, D, mask = case
    torch.manual_seed(Tq * Tk + D)
    check(mask, *draw(H=Hkv * group, Hkv=Hkv, Tq=Tq, Tk=Tk, D=D))


@given(cases())
def test_spans_are_the_mask_read_by_rows_and_by_columns(case):
    Tq, Tk, *_, mask = case
    s = spans(mask, Tq, Tk)
    i, j = torch.arange(Tq)[:, None], torch.arange(Tk)
    seen = torch.ones(1, Tq, Tk, dtype=torch.bool)
    if s.causal:
        seen = seen & (j <= i + Tk - Tq)
    if s.window:
        seen = seen & (j > i + Tk - Tq - s.window)
    by_row, by_column = seen, seen
    if s.by_query is not None:
        first, end = s.by_query[:, 0, :, None], s.by_query[:, 1, :, None]
        by_row = seen & (first <= j) & (j < end)
        first, end = s.by_key[:, 0, None], s.by_key[:, 1, None]
        by_column = seen & (first <= i) & (i < end)
        for ends in (s.by_query, s.by_key):  # neither end ever moves back
            assert (ends.diff(dim=-1) >= 0).all()
    expected = mask.matrix(Tq, Tk)
    assert torch.equal(by_row, expected.expand_as(by_row))
    assert torch.equal(by_column, expected.expand_as(by_column))


def test_numbers_checked_by_hand():
    # All scores 0: each output is the mean of the visible values, 0, 1, 2, …
    v = torch.arange(6.0, device=DEVICE).reshape(1, 1, 6, 1)
    q = torch.zeros_like(v)
    means = flash_attention(q, q, v, causal).flatten()
    same(means.cpu(), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
    same(
        flash_attention(q, q, v, causal & window(2)).flatten().cpu(),
        [0.0, 0.5, 1.5, 2.5, 3.5, 4.5],
    )
    ids = [0, 0, 0, 1, 1, 1]
    same(
        flash_attention(q, q, v, causal & documents(ids)).flatten().cpu(),
        [0.0, 0.5, 1.0, 3.0, 3.5, 4.0],
    )


@pytest.mark.parametrize("name", ["causal", "causal window", "causal documents"])
def test_influence_equals_the_mask(name):
    mask, T = rules(20, 20)[name], 20
    q, k, v = (t.detach() for t in draw(B=1, H=1, Tq=T, Tk=T, D=16))

    def values(x):
        return flash_attention(q, k, x[None, None], mask)[0, 0]

    def keys(x):
        return flash_attention(q, x[None, None], v, mask)[0, 0]

    expected = mask.matrix(T)
    assert torch.equal(influence(values, v[0, 0], n_tries=1), expected)
    # A query that sees one key weighs it 1, whatever the key is.
    alone = expected.sum(-1, keepdim=True) == 1
    assert torch.equal(influence(keys, k[0, 0], n_tries=1), expected & ~alone)


def test_empty_rows_have_output_and_gradients_of_exactly_0():
    q, k, v = draw(Tq=18, Tk=18)
    out = flash_attention(q, k, v, causal & padding([18, 4], side="left", width=18))
    assert out[1, :, :14].eq(0).all()
    assert out[1, :, 14:].ne(0).any()
    dq, dk, dv = torch.autograd.grad(out.square().sum(), (q, k, v))
    assert dq[1, :, :14].eq(0).all()
    assert dk[1, :, :14].eq(0).all()
    assert dv[1, :, :14].eq(0).all()
    out = flash_attention(q, k, v, padding([0, 0]))
    gradients = torch.autograd.grad(out.sum(), (q, k, v))
    assert all(t.eq(0).all() for t in (out, *gradients))


def test_no_keys_or_no_queries():
    q, k, v = draw(Tq=5, Tk=0, D=16)
    out = flash_attention(q, k, v, causal)
    assert out.eq(0).all()
    assert all(t.eq(0).all() for t in torch.autograd.grad(out.sum(), (q, k, v)))
    q, k, v = draw(Tq=0, Tk=5, D=16)
    out = flash_attention(q, k, v, causal)
    assert out.shape == q.shape
    assert (out == 0).all()
    assert all(t.eq(0).all() for t in torch.autograd.grad(out.sum(), (q, k, v)))


def test_strided_inputs_and_gradients():
    packed = torch.randn(2, 19, 3, 4, 32, device=DEVICE)  # (B, T, q/k/v, H, D)
    q, k, v = (t.requires_grad_() for t in packed.transpose(1, 3).unbind(2))
    assert not q.is_contiguous()
    check(causal, q, k, v, grad=torch.ones((), device=DEVICE).expand(q.shape))
    turned = [t.detach().mT.contiguous().mT.requires_grad_() for t in (q, k, v)]
    assert turned[0].stride(-1) != 1
    check(causal, *turned, grad=torch.randn(2, 4, 32, 19, device=DEVICE).mT)


def test_inputs_are_not_changed():
    q, k, v = draw(Tq=9, Tk=9, D=16)
    before = [t.detach().clone() for t in (q, k, v)]
    flash_attention(q, k, v, causal).sum().backward()
    for t, old in zip((q, k, v), before, strict=True):
        assert torch.equal(t, old)


def test_twice_the_same_bits():
    q, k, v = draw(Tq=33, Tk=33)
    grad = torch.randn_like(q)
    first, second = (
        both_passes(lambda q, k, v: flash_attention(q, k, v, causal), q, k, v, grad)
        for _ in range(2)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ------------------------------------------------ what is read, and how


@pytest.mark.skipif(GPU, reason="looks into the interpreter")
@pytest.mark.parametrize("name", [n for n in RULES if n != "an empty row of the batch"])
def test_only_blocks_that_are_seen_are_read_and_only_cut_ones_masked(name, monkeypatch):
    """Forward, by rows, and dk/dv, by columns, against the mask itself."""
    Tq, Tk = 40, 70
    mask = rules(Tq, Tk)[name]
    q, k, v = draw(H=1, Tq=Tq, Tk=Tk, D=16)
    kernels._load()
    visits = {"_merge_keys": {}, "_add_queries": {}, "_add_keys": {}}

    def spied(part):
        original = getattr(kernels, part)
        where = inspect.signature(original).parameters

        def spy(*args):
            given_ = dict(zip(where, args, strict=False))
            size = given_["BLOCK_Q" if part == "_add_queries" else "BLOCK_K"]
            seen = visits[part].setdefault(int(kernels.tl.program_id(0)), {})
            for block in range(int(given_["start"]), int(given_["stop"]), int(size)):
                assert block not in seen, "a block read twice"
                seen[block] = bool(given_["MASKED"])
            return original(*args)

        monkeypatch.setattr(kernels, part, spy)

    for part in visits:
        spied(part)
    flash_attention(q, k, v, mask).sum().backward()

    tiles = kernels._INTERPRETED["forward"]
    allowed = (full if mask is None else mask).matrix(Tq, Tk).expand(2, Tq, Tk)
    for part, seen in visits.items():
        by_column = part == "_add_queries"
        own, other = tiles[:2][::-1] if by_column else tiles[:2]
        heads = allowed.mT if by_column else allowed
        n_blocks = -(-heads.shape[1] // own)
        assert {program // n_blocks for program in seen} == {0, 1}
        for program, blocks in seen.items():
            b, block = divmod(program, n_blocks)  # block after block of each head
            if not by_column and spans(mask, Tq, Tk).causal:
                block = n_blocks - 1 - block  # heavy blocks first
            rows = heads[b, block * own : (block + 1) * own]
            parts = {
                start: rows[:, start : start + other]
                for start in range(0, rows.shape[1], other)
            }
            needed = {s for s, part in parts.items() if part.any()}
            # Padding that cuts a document leaves a gap, which two ends do not show.
            assert set(blocks) >= needed
            assert set(blocks) == needed or name == "all"
            whole = {
                s for s, part in parts.items() if part.all() and part.shape[1] == other
            }
            assert {s for s, masked in blocks.items() if not masked} == whole


def test_what_is_not_seen_is_not_loaded():
    # NaN in keys and values of later blocks: 0 · NaN is NaN, so a block that was
    # loaded, though masked, would show.
    q, k, v = (
        t.detach() for t in draw(B=1, H=1, Tq=512 if GPU else 96, Tk=512 if GPU else 96)
    )
    half = q.shape[2] // 2
    k[:, :, half:], v[:, :, half:] = torch.nan, torch.nan
    out = flash_attention(q, k, v, causal)
    assert out[:, :, : half // 2].isfinite().all()
    assert out[:, :, half:].isnan().all()


# ------------------------------------------------ as an operator


def test_opcheck():
    q, k, v = draw(B=1, H=2, Tq=9, Tk=9, D=16)
    s = spans(causal & documents([0] * 4 + [1] * 5), 9, device=DEVICE)
    arguments = (q, k, v, s.by_query, s.by_key, True, 0, 0.25)
    torch.library.opcheck(torch.ops.mattn.flash_attention.default, arguments)
    out, lse = (t.detach() for t in kernels._flash(*arguments))
    torch.library.opcheck(
        torch.ops.mattn.flash_attention_backward.default,
        (
            torch.randn_like(out),
            *(t.detach() for t in (q, k, v)),
            out,
            lse,
            *arguments[3:],
        ),
    )


def graph_breaks() -> str:
    """In a process without the shape checks, which Dynamo cannot read."""
    q, k, v = draw(B=1, Tq=9, Tk=9, D=16)
    grad = torch.randn_like(q)
    rule = causal & window(4)
    listed = spans(rule & documents([0] * 4 + [1] * 5), 9, device=DEVICE)
    for mask in (rule, listed):

        def layer(q, k, v, mask=mask):
            return flash_attention(q * 2, k, v, mask).relu()

        one_graph = torch.compile(layer, fullgraph=True, backend="eager")
        for a, b in zip(
            both_passes(one_graph, q, k, v, grad),
            both_passes(layer, q, k, v, grad),
            strict=True,
        ):
            assert torch.equal(a, b)
    return "none"


# ------------------------------------------------ in models


class Layer(nn.Module):
    def __init__(self, mask):
        super().__init__()
        self.mask, self.maps = mask, nn.Linear(8, 24, bias=False)

    def forward(self, x):
        q, k, v = self.maps(x).unflatten(-1, (3, 1, 8)).permute(2, 0, 3, 1, 4)
        return flash_attention(q, k, v, self.mask).transpose(1, 2).flatten(2)


PROBES = ("perturbation", "truncation")


@pytest.mark.skipif(GPU, reason="the same module; the audit runs on the CPU")
def test_the_auditor_passes_it_and_sees_a_mask_that_is_missing():
    x = torch.randn(1, 4, 8)
    report = audit(Layer(causal), x, expected=causal, probes=PROBES)
    assert report.ok, report
    assert not audit(Layer(None), x, expected=causal, probes=PROBES[:1]).ok


@pytest.mark.parametrize("sizes", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (0, 0, 0)])
@pytest.mark.parametrize("name", ["none", "causal", "window", "documents", "padding"])
def test_of_nothing_comes_the_right_nothing(name, sizes):
    B, Tq, Tk = sizes
    mask = {
        "none": None,
        "causal": causal,
        "window": causal & window(2),
        "documents": documents(torch.zeros(B, Tk + 1, dtype=torch.long)),
        "padding": causal & padding([1] * B),
    }[name]
    q, k, v = draw(B=B, Tq=Tq, Tk=Tk)
    out = flash_attention(q, k, v, mask)
    assert out.shape == q.shape
    assert (out == 0).all()
    for t, grad in zip(
        (q, k, v), torch.autograd.grad(out.sum(), (q, k, v)), strict=True
    ):
        assert grad.shape == t.shape
        assert (grad == 0).all()


@pytest.mark.parametrize("sizes", [(1, 1, 16), (4096, 131_072, 64), (33, 70_000, 32)])
def test_a_grid_fits_every_gpu(sizes):
    """Batch × heads may pass 65,535, where all axes but the first end."""
    n_rows, n_heads, block = sizes
    launched = {}

    class Kernel:
        def __getitem__(self, grid):
            launched["grid"] = grid
            return dict

    kernels._launch(Kernel(), n_rows, n_heads, block, {})
    first, *others = launched["grid"]
    assert first <= 2**31 - 1
    assert all(n <= 65_535 for n in others)
    assert math.prod(launched["grid"]) == -(-n_rows // block) * n_heads


@pytest.mark.skipif(GPU, reason="with the interpreter, programs are counted")
def test_every_program_of_a_grid_has_work_of_its_own(monkeypatch):
    grids, launch = [], kernels._launch

    def counted(kernel, n_rows, n_heads, block, arguments):
        grids.append((n_rows, n_heads, block))
        return launch(kernel, n_rows, n_heads, block, arguments)

    monkeypatch.setattr(kernels, "_launch", counted)
    q, k, v = draw(B=3, H=4, Hkv=2, Tq=19, Tk=35, D=8)
    out = flash_attention(q, k, v, causal)
    grads = torch.autograd.grad(out.sum(), (q, k, v))
    # (queries or keys, batch × heads, block): forward, delta, keys, queries.
    tiles = kernels._INTERPRETED["forward"]
    assert grids[0] == (19, 12, tiles.block_q)
    assert [(n, heads) for n, heads, _ in grids[1:]] == [(19, 12), (35, 6), (19, 12)]
    group = [t.repeat_interleave(2, dim=1) for t in (k, v)]
    expected = attention(q, *group, causal)[0]
    same(out, expected, atol=1e-5)
    for a, b in zip(grads, torch.autograd.grad(expected.sum(), (q, k, v)), strict=True):
        same(a, b, atol=1e-5)


# ------------------------------------------------ errors, and other processes


def child(program: str, **environment: str | None) -> subprocess.CompletedProcess:
    """This file as a program, or another, with variables set or (None) removed."""
    env = os.environ | {k: v for k, v in environment.items() if v is not None}
    for name in (k for k, v in environment.items() if v is None):
        env.pop(name, None)
    command = [
        sys.executable,
        *((__file__, program) if program.isalpha() else ("-c", program)),
    ]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=DEVICE)


def call(
    mask=None, q=(2, 4, 5, 8), k=(2, 2, 5, 8), v=None, dtype=torch.float32, **options
):
    v = k if v is None else v
    return lambda: flash_attention(
        *(zeros(*s, dtype=dtype) for s in (q, k, v)), mask, **options
    )


CASES = {
    "or": (
        call(causal | window(2)),
        ["expected causal", "(causal | window(2))", "FlexAttention"],
    ),
    "not": (call(~causal), ["combined by &", "~causal", "FlexAttention"]),
    "deep": (call(causal & (window(2) & ~causal)), ["~causal", "FlexAttention"]),
    "matrix": (call(torch.ones(5, 5).bool()), ["got Tensor", "fused_attention"]),
    "ids again": (call(documents([0, 1, 1, 0, 0])), ["in one piece", "FlexAttention"]),
    "ids too few": (call(documents([0, 1])), ["5 key positions", "got 2 ids"]),
    "rows": (call(padding([1, 2, 3])), ["3 rows", "q (2, 4, 5, 8)", "same batch"]),
    "rows differ": (
        call(padding([1, 2, 3]) & documents([[0] * 5] * 2)),
        ["[2, 3] rows", "same batch"],
    ),
    "spans": (call(spans(causal, 4)), ["4 queries and 4 keys", "for these sizes"]),
    "three axes": (call(q=(4, 5, 8)), ["(B, H, Tq, D)", "(4, 5, 8)"]),
    "features": (
        call(k=(2, 2, 5, 9)),
        ["(2, 4, 5, 8), (2, 2, 5, 9)", "fused_attention"],
    ),
    "values": (call(v=(2, 2, 5, 9)), ["(2, 2, 5, 9)", "fused_attention"]),
    "heads": (call(k=(2, 3, 5, 8)), ["dividing H", "(2, 3, 5, 8)"]),
    "batch": (call(k=(1, 2, 5, 8)), ["(1, 2, 5, 8)"]),
    "large heads": (
        call(q=(1, 1, 5, 257), k=(1, 1, 5, 257)),
        ["256", "257", "more heads"],
    ),
    "float64": (
        call(dtype=torch.float64),
        ["float32", "got torch.float64", ".to(dtype)"],
    ),
    "integers": (call(dtype=torch.int64), ["got torch.int64", ".to(dtype)"]),
    "scale": (call(scale=0.0), ["scale > 0", "got 0.0"]),
    "meta": (
        lambda: flash_attention(
            zeros(1, 1, 2, 4), *(zeros(1, 1, 2, 4).to("meta"),) * 2
        ),
        ["on one device", "meta", ".to(device)"],
    ),
}
if not GPU:
    CASES["bfloat16"] = (
        call(causal, dtype=torch.bfloat16),
        ["interpreter", "float16 or float32", "GPU"],
    )
    CASES["tune"] = (lambda: tune(*(zeros(1, 1, 2, 4),) * 3), ["on a GPU", "got cpu"])


@pytest.fixture(scope="module")
def unchecked():
    done = child("unchecked")
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def test_no_graph_break_under_compile(unchecked):
    assert unchecked["graph breaks"] == "none"


@pytest.mark.parametrize("name", CASES)
def test_message(unchecked, name):
    kind, message = unchecked["messages"][name]
    assert kind == "ValueError", message
    rest = message
    for part in CASES[name][1]:
        assert part in rest, message
        rest = rest.partition(part)[2]


CALL = """
import torch
from mattn import causal
from mattn.kernels import flash_attention
x = torch.zeros(1, 1, 2, 16)
try:
    flash_attention(x, x, x, causal)
except Exception as error:
    print(type(error).__name__, error)
"""


def test_without_triton_importing_works_and_calling_says_what_is_missing():
    done = child(f"import sys\nsys.modules['triton'] = None\n{CALL}")
    assert done.stdout.startswith("ImportError")
    assert 'pip install "mattn[gpu]"' in done.stdout
    assert "fused_attention" in done.stdout


def test_on_a_cpu_without_the_interpreter_calling_says_what_to_do():
    done = child(CALL, TRITON_INTERPRET=None)
    assert done.stdout.startswith("ValueError")
    assert "GPU" in done.stdout
    assert "fused_attention" in done.stdout
    assert "TRITON_INTERPRET=1" in done.stdout


def test_importing_the_module_imports_no_triton():
    done = child("import sys, mattn.kernels\nprint('triton' in sys.modules)")
    assert done.stdout == "False\n", done.stderr


def test_the_table_of_tiles_fits_what_it_is_keyed_by():
    for (capability, dtype, columns), passes in kernels.TILES.items():
        assert capability >= (7, 0)
        assert dtype in (torch.float16, torch.bfloat16, torch.float32)
        assert columns == kernels._columns(columns)
        assert set(passes) == set(kernels.PASSES)


def test_the_kernels_compile_for_a_gpu_that_is_not_there():
    """Triton's compiler accepts them, and gives them Hopper's matrix unit."""
    done = child("compiled", TRITON_INTERPRET=None)
    assert not done.returncode, done.stderr[-2000:]
    for name, found in json.loads(done.stdout).items():
        assert found["wgmma"] > 0, name
        assert found["local"] == 0, name  # memory for registers that did not fit


def compiled(name: str) -> dict:
    """Machine code of one kernel for compute capability 9.0."""
    import re

    import triton
    from triton.backends.compiler import GPUTarget

    kernels._load()
    function = getattr(kernels, name)
    fixed = {
        "GROUP": 1, "D": 64, "COLUMNS": 64, "BLOCK_Q": 64, "BLOCK_K": 64,
        "CAUSAL": True, "WINDOW": False, "LISTED": False,
    }  # fmt: skip
    signature, constants, aligned = {}, {}, {}
    for index, argument in enumerate(function.arg_names):
        kind = "i32"
        if argument in fixed:
            kind, constants[(index,)] = "constexpr", fixed[argument]
        elif argument.endswith("_ptr"):
            special = {"lse_ptr": "*fp32", "delta_ptr": "*fp32", "spans_ptr": "*i32"}
            kind = special.get(argument, "*fp16")
            aligned[(index,)] = [["tt.divisibility", 16]]
        elif argument.endswith("_stride") and argument != "spans_stride":
            kind = ("i32",) * 3
            aligned |= {(index, n): [["tt.divisibility", 16]] for n in range(3)}
        elif argument.startswith("scale"):
            kind = "fp32"
        signature[argument] = kind
    made = triton.compile(
        triton.compiler.ASTSource(function, signature, constants, aligned),
        target=GPUTarget("cuda", 90, 32),
        options={"num_warps": 4, "num_stages": 2},
    )
    ptx = made.asm["ptx"]
    return {
        "wgmma": len(re.findall(r"wgmma\.mma_async", ptx)),
        "local": len(re.findall(r"\.local", ptx)),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "unchecked":
        calls = {name: run for name, (run, _) in CASES.items()}
        found = {"messages": messages(calls), "graph breaks": graph_breaks()}
    else:
        found = {
            n: compiled(n) for n in ("_forward_kernel", "_dk_dv_kernel", "_dq_kernel")
        }
    print(json.dumps(found))
