"""What a chapter derives by hand is what mattn does.

Every function named ``*_by_hand`` is lifted out of its notebook, with nothing
else but that notebook's imports, and held against mattn on random inputs. One
without an entry in ``COUNTERPARTS`` fails, and so does an entry without one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from mattn import (
    KVCache,
    Mask,
    MultiHeadAttention,
    attention,
    blockwise_attention,
    boolean_power,
    causal,
    documents,
    full,
    masked_softmax,
    padding,
    prefix,
    softmax,
    to_additive,
    window,
)
from mattn.audit import audit
from mattn.checks import influence, same
from mattn.config import Config
from mattn.data import MarkovSource
from mattn.generation import beam_search, min_p, repetition_penalty, top_p
from mattn.heads import merge_heads, split_heads
from mattn.losses import next_token_loss, translation_loss
from mattn.masks import default_slots
from mattn.models import MLP, Decoder
from mattn.rotary import Rotary

CHAPTERS = Path(__file__).parent.parent / "chapters"
LIBRARIES = {"numpy", "torch", "math"}
MARK = "_by_hand"
SEEDS = range(5)


def lift(notebook: nbformat.NotebookNode) -> dict[str, Callable]:
    """Its by-hand functions, defined by themselves and the libraries alone."""
    kept = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                if module.split(".")[0] in LIBRARIES:
                    kept.append(node)
            elif isinstance(node, ast.FunctionDef) and node.name.endswith(MARK):
                kept.append(node)
    names = [node.name for node in kept if isinstance(node, ast.FunctionDef)]
    assert len(names) == len(set(names)), f"defined twice: {names}"
    space: dict = {}
    exec(compile(ast.Module(kept, type_ignores=[]), "by hand", "exec"), space)
    return {name: space[name] for name in names}


# --- The counterparts: each takes the lifted function and a random generator ---


def sizes(rng, n: int) -> list[int]:
    """``n`` sizes from 1 to 9, all different."""
    return [int(s) for s in rng.permutation(np.arange(1, 10))[:n]]


def normal(rng, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal(shape))


def some_allowed(rng, *shape: int, empty: bool) -> torch.Tensor:
    """A random mask; its last row empty, or no row."""
    allowed = rng.random(shape) < 0.5
    allowed[..., 0] = True
    allowed[..., -1, :] &= not empty
    return torch.from_numpy(allowed)


def qkv(rng, *batch: int, Tq: int | None = None) -> list[torch.Tensor]:
    """With fewer queries than keys, or ``Tq`` of both."""
    few, many, D, Dv = (s + 2 for s in sizes(rng, 4))
    Tq, Tk = (Tq, Tq) if Tq else sorted((few, many))
    shapes = (Tq, D), (Tk, D), (Tk, Dv)
    return [normal(rng, *batch, *s) for s in shapes]


def arrays(tensors) -> list[np.ndarray]:
    return [t.numpy() for t in tensors]


def is_attention(f, rng, *, empty=False, heads=True):
    for batch in [(), (2, 3)] if heads else [()]:
        q, k, v = qkv(rng, *batch)
        shape = q.shape[-2], k.shape[-2]
        for allowed in (causal.matrix(*shape), some_allowed(rng, *shape, empty=empty)):
            expected = attention(q, k, v, allowed)
            got = f(*arrays([q, k, v, allowed]))
            for a, b in zip(got, expected, strict=True):
                same(a, b)


def is_masked_softmax(f, rng, *, empty=False):
    scores = 10 * normal(rng, *sizes(rng, 2))
    allowed = some_allowed(rng, *scores.shape, empty=empty)
    same(f(*arrays([scores, allowed])), masked_softmax(scores, allowed))


def is_softmax(f, rng, *, shift=0.0):
    scores = 10 * normal(rng, *sizes(rng, 3)) + shift
    same(f(scores.numpy()), masked_softmax(scores))


def is_running_mean(f, rng):
    T, C = sizes(rng, 2)
    zeros, v = torch.zeros(T, 3, dtype=torch.float64), normal(rng, T, C)
    same(f(v.numpy()), attention(zeros, zeros, v, causal)[0])


def is_slots(f, rng):
    for got, expected in zip(f(*(s := sizes(rng, 2))), default_slots(*s), strict=True):
        same(got, expected)


def is_rule(make, *, own=lambda rng: (), square=False):
    """``f(*own, Tq, Tk)`` is the matrix of ``make(*own)``."""

    def check(f, rng):
        arguments, (Tq, Tk) = own(rng), sizes(rng, 2)
        if square:
            same(f(*arguments, Tq), make(*arguments).matrix(Tq))
        else:
            same(f(*arguments, Tq, Tk), make(*arguments).matrix(Tq, Tk))

    return check


def a_number(rng):
    return (int(rng.integers(1, 8)),)


def is_documents(f, rng):
    ids = rng.integers(0, 3, size=sizes(rng, 1)[0]).tolist()
    same(f(ids), documents(ids).matrix(len(ids)))


def is_additive(f, rng):
    allowed = some_allowed(rng, *sizes(rng, 2), empty=True)
    same(f(allowed.numpy()), to_additive(allowed))
    for dtype in (np.float16, np.float32, np.float64):
        got = f(allowed.numpy(), dtype)
        assert got.dtype == dtype
        same(got, to_additive(allowed))


def is_split_heads(f, rng):
    B, T, H, D = sizes(rng, 4)
    x = normal(rng, B, T, H * D)
    same(f(x.numpy(), H), split_heads(x, H))


def is_merge_heads(f, rng):
    x = normal(rng, *sizes(rng, 4))
    same(f(x.numpy()), merge_heads(x))


def is_multi_head_attention(f, rng):
    B, T, H, D = sizes(rng, 4)
    layer = MultiHeadAttention(H * D, H).double()
    x = normal(rng, B, T, H * D)
    linear = layer.query, layer.key, layer.value, layer.output
    weights = arrays(m.weight.detach().T for m in linear)
    for allowed in (causal.matrix(T), some_allowed(rng, T, T, empty=False)):
        same(f(x.numpy(), *weights, H, allowed.numpy()), layer(x, allowed))


def is_softmax_backward(f, rng):
    scores = normal(rng, *sizes(rng, 2)).requires_grad_()
    allowed = some_allowed(rng, *scores.shape, empty=True)
    weights, up = masked_softmax(scores, allowed), normal(rng, *scores.shape)
    (expected,) = torch.autograd.grad(weights, scores, up)
    same(f(*arrays([weights.detach(), up])), expected)


def some_parts(rng, n: int) -> list[tuple[torch.Tensor, ...]]:
    """``n`` blocks of scores, values and what is allowed; the last row is empty."""
    Tq, Dv, *Tk = sizes(rng, 2 + n)
    return [
        (
            10 * normal(rng, Tq, m),
            normal(rng, m, Dv),
            some_allowed(rng, Tq, m, empty=True),
        )
        for m in Tk
    ]


def are_same_parts(a, b):
    for got, expected in zip(a, b, strict=True):
        same(got, expected)


def is_partial(f, rng):
    (part,) = some_parts(rng, 1)
    are_same_parts(f(*arrays(part)), softmax.partial(*part))


def is_merge(f, rng):
    a, b = (softmax.partial(*part) for part in some_parts(rng, 2))
    are_same_parts(f(arrays(a), arrays(b)), softmax.merge(a, b))


def is_finish(f, rng):
    (part,) = some_parts(rng, 1)
    part = softmax.partial(*part)
    same(f(arrays(part)), softmax.finish(part))


def is_blockwise_attention(f, rng):
    q, k, v = qkv(rng)
    for block in (1, 2, 3, 100):
        expected = blockwise_attention(q, k, v, causal, block=block)
        got, n_blocks = f(*arrays([q, k, v]), block)
        same(got, expected)
        same(got, attention(q, k, v, causal)[0])
        allowed = causal.matrix(len(q), len(k))
        visited = [
            allowed[i : i + block, j : j + block].any()
            for i in range(0, len(q), block)
            for j in range(0, len(k), block)
        ]
        assert n_blocks == sum(visited)


def is_next_token_loss(f, rng):
    B, T, V = (s + 1 for s in sizes(rng, 3))
    logits = normal(rng, B, T, V)
    tokens = torch.from_numpy(rng.integers(0, V, (B, T)))
    same(f(logits, tokens), next_token_loss(logits, tokens))


def is_influence(f, rng):
    T, C = sizes(rng, 2)
    x = normal(rng, T, C)
    for mask in (causal, causal & window(2), ~causal, causal | prefix(2)):
        # Values alone, so that what is visible is what has influence.
        zeros = torch.zeros(T, 3, dtype=torch.float64)

        def layer(v, mask=mask, zeros=zeros):
            return attention(zeros, zeros, v, mask)[0]

        same(f(layer, x), influence(layer, x))
        same(f(layer, x), mask.matrix(T))


def is_leaks(f, rng):
    T, C = (s + 1 for s in sizes(rng, 2))
    x = normal(rng, T, C)
    for mask in (causal, ~causal, causal | prefix(2), causal | window(2)):

        def layer(v, mask=mask):
            zeros = torch.zeros(*v.shape[:-1], 3, dtype=v.dtype)
            return attention(zeros, zeros, v, mask)[0]

        report = audit(layer, x[None], probes=["perturbation"])
        found = (report.measured & ~report.expected).nonzero().tolist()
        assert f(layer, x) == [tuple(pair) for pair in found]


def is_entropy_rate(f, rng):
    V = sizes(rng, 1)[0] % 5 + 2
    # One that soon forgets where it began, as the iteration by hand must.
    source = MarkovSource(V, 2, concentration=1.0, seed=int(rng.integers(99)))
    same(f(source.transition), torch.tensor(source.entropy_rate).double(), atol=1e-6)


def is_cached_attention(f, rng):
    q, k, v = qkv(rng, Tq=sizes(rng, 1)[0])
    got = f(q, k, v)
    same(got, attention(q, k, v, causal)[0])
    cache, rows = KVCache(len(k)), []
    for t in range(len(k)):
        step = (x[None, None, t : t + 1] for x in (k, v))
        keys, values, _ = cache.extend(*step, torch.tensor([t]))
        rows.append(attention(q[t : t + 1], keys[0, 0], values[0, 0])[0])
    same(got, torch.cat(rows))


def is_boolean_power(f, rng):
    allowed = some_allowed(rng, *[sizes(rng, 1)[0]] * 2, empty=True)
    for n in range(5):
        same(f(allowed, n), boolean_power(allowed, n))


def is_rotary(f, rng):
    T, pairs = sizes(rng, 2)
    x, positions = normal(rng, T, 2 * pairs), torch.from_numpy(rng.permutation(30)[:T])
    expected = Rotary(2 * pairs, 50.0)(x[None, None], positions)
    same(f(x, positions, 50.0), expected[0, 0])


def is_rms_norm(f, rng):
    T, C = sizes(rng, 2)
    x, gain = normal(rng, T, C), normal(rng, C)
    same(f(x, gain, 0.1), torch.nn.functional.rms_norm(x, (C,), gain, 0.1))


def is_swiglu(f, rng):
    T, C, hidden = sizes(rng, 3)
    config = Config(2, C, 1, 1, d_hidden=hidden, rope_theta=None)
    mlp, x = MLP(config).double(), normal(rng, T, C)
    same(f(x, mlp.gate.weight, mlp.up.weight, mlp.down.weight), mlp(x[None])[0])


def is_filter(make):
    """``f(logits, number)`` for one row is mattn's filter for a batch of one."""

    def check(f, rng):
        logits = 3 * normal(rng, sizes(rng, 1)[0])
        for number in (0.0, 0.3, float(rng.random()), 0.9, 1.0):
            expected = make(number)(logits[None], torch.zeros(1, 0).long())[0]
            got = f(logits, number)
            if make is top_p and number == 1.0:  # by hand, rounding may cut the tail
                got = torch.where(logits.softmax(-1) < 1e-6, expected, got)
            same(got, expected)

    return check


def is_repetition_penalty(f, rng):
    V, T = sizes(rng, 2)
    logits, tokens = normal(rng, V), torch.from_numpy(rng.integers(0, V, T))
    expected = repetition_penalty(1.3)(logits[None], tokens[None])[0]
    same(f(logits, tokens, 1.3), expected)


def is_beam_search(f, rng):
    torch.manual_seed(int(rng.integers(99)))
    model = Decoder(Config(5, 8, 1, 2)).double()

    @torch.no_grad()
    def next_log_probs(tokens):
        return model(torch.tensor([tokens]))[0, -1].log_softmax(-1)

    for n_beams in (1, 3):
        expected = beam_search(model, [[1, 2]], 4, n_beams=n_beams)[0]
        got = f(next_log_probs, [1, 2], 4, n_beams)
        assert [tokens for _, tokens in got] == [h.tokens for h in expected]
        for (total, _), h in zip(got, expected, strict=True):
            assert abs(total - h.log_prob) < 1e-9


def with_options(check, **options):
    return lambda f, rng: check(f, rng, **options)


def some_spans(rng) -> tuple[dict, int, int, Mask]:
    """Options of spans_by_hand, Tq, Tk and the same rule."""
    (Tq, Tk), w = sizes(rng, 2), int(rng.integers(1, 12))
    options, rule = {}, causal
    if rng.random() < 0.5:
        options["w"], rule = w, rule & window(w)
    if rng.random() < 0.5:
        ids = torch.from_numpy(np.sort(rng.integers(0, 4, Tk)))
        options["ids"], rule = ids, rule & documents(ids)
    return options, Tq, Tk, rule


def is_spans(f, rng):
    options, Tq, Tk, rule = some_spans(rng)
    first, end = (t[:, None] for t in f(Tq, Tk, **options))
    j = torch.arange(Tk)
    same((first <= j) & (j < end), rule.matrix(Tq, Tk))


def is_flash_attention(f, rng):
    """Its keys are those of mattn's own spans."""
    _, Tq, Tk, rule = some_spans(rng)
    D, Dv = (s + 1 for s in sizes(rng, 2))
    q, k, v = normal(rng, Tq, D), normal(rng, Tk, D), normal(rng, Tk, Dv)
    allowed = rule.matrix(Tq, Tk)
    end = torch.where(allowed.any(-1), allowed.long().cumsum(-1).argmax(-1) + 1, 0)
    first = end - allowed.sum(-1)
    first, end = (t.cummax(0).values for t in (first, end))
    for block in (1, 3, 16):
        out, L = f(q, k, v, first, end, block)
        same(out, attention(q, k, v, rule)[0])
        scores = (q @ k.T / D**0.5).masked_fill(~allowed, -torch.inf)
        expected = scores.logsumexp(-1) / np.log(2)
        same(L, expected.masked_fill(~allowed.any(-1), torch.inf))


def is_flash_attention_backward(f, rng):
    _, Tq, Tk, rule = some_spans(rng)
    D, Dv = (s + 1 for s in sizes(rng, 2))
    q, k, v = normal(rng, Tq, D), normal(rng, Tk, D), normal(rng, Tk, Dv)
    tracked = [t.clone().requires_grad_() for t in (q, k, v)]
    out, g = attention(*tracked, rule)[0], normal(rng, Tq, Dv)
    allowed = rule.matrix(Tq, Tk)
    scores = (q @ k.T / D**0.5).masked_fill(~allowed, -torch.inf)
    L = (scores.logsumexp(-1) / np.log(2)).masked_fill(~allowed.any(-1), torch.inf)
    expected = torch.autograd.grad(out, tracked, g)
    for a, b in zip(f(q, k, v, out.detach(), L, g, allowed), expected, strict=True):
        same(a, b)


def are_translation_masks(f, rng):
    B, S, T = sizes(rng, 3)
    lengths = torch.from_numpy(rng.integers(1, S + 1, B))
    encoder, decoder, cross = f(lengths, S, T)
    same(encoder, (full & padding(lengths)).matrix(S))
    same(decoder, causal.matrix(T))
    same(cross, padding(lengths).matrix(T, S))


def is_cross_attention(f, rng):
    B, T, S, C, D = sizes(rng, 5)
    x, memory, weights = (
        normal(rng, *shape) for shape in ((B, T, C), (B, S, C), (3, C, D))
    )
    lengths = torch.from_numpy(rng.integers(1, S + 1, B))
    q, k, v = x @ weights[0], memory @ weights[1], memory @ weights[2]
    real = torch.arange(S) < lengths[:, None]
    expected = attention(q, k, v, padding(lengths))[0]
    same(f(x, memory, *weights, real), expected)


def is_translation_loss(f, rng):
    B, T, V = (s + 1 for s in sizes(rng, 3))
    logits, tokens = normal(rng, B, T, V), rng.integers(0, V, (B, T))
    tokens[:, 1] = 1  # a target that counts
    tokens = torch.from_numpy(tokens)
    for smoothing in (0.0, 0.1, 1.0):
        expected = translation_loss(
            logits, (tokens, tokens, tokens[:, 0]), ignore=0, smoothing=smoothing
        )
        same(f(logits, tokens, 0, smoothing), expected)


COUNTERPARTS: dict[str, dict[str, Callable]] = {
    "01_concept": {
        "causal_mask_by_hand": is_rule(lambda: causal, square=True),
        "running_mean_by_hand": is_running_mean,
        "masked_softmax_by_hand": is_masked_softmax,
        "attention_by_hand": with_options(is_attention, heads=False),
    },
    "02_mask_matrix": {
        "slots_by_hand": is_slots,
        "causal_mask_by_hand": is_rule(lambda: causal),
        "window_mask_by_hand": is_rule(window, own=a_number),
        "prefix_mask_by_hand": is_rule(prefix, own=a_number),
        "documents_mask_by_hand": is_documents,
        "padding_mask_by_hand": is_rule(
            padding, own=lambda rng: (rng.integers(0, 8, 3).tolist(),)
        ),
        "to_additive_by_hand": is_additive,
    },
    "03_scores": {
        "softmax_by_hand": is_softmax,
        "attention_by_hand": is_attention,
        "split_heads_by_hand": is_split_heads,
        "merge_heads_by_hand": is_merge_heads,
        "multi_head_attention_by_hand": is_multi_head_attention,
    },
    "04_softmax": {
        "softmax_by_hand": with_options(is_softmax, shift=1e4),
        "masked_softmax_by_hand": with_options(is_masked_softmax, empty=True),
        "attention_by_hand": with_options(is_attention, empty=True),
        "masked_softmax_backward_by_hand": is_softmax_backward,
        "partial_by_hand": is_partial,
        "merge_by_hand": is_merge,
        "finish_by_hand": is_finish,
        "blockwise_attention_by_hand": is_blockwise_attention,
    },
    "05_autoregression": {
        "next_token_loss_by_hand": is_next_token_loss,
        "influence_by_hand": is_influence,
        "entropy_rate_by_hand": is_entropy_rate,
        "cached_attention_by_hand": is_cached_attention,
    },
    "06_decoder": {
        "boolean_power_by_hand": is_boolean_power,
        "rotary_by_hand": is_rotary,
        "rms_norm_by_hand": is_rms_norm,
        "swiglu_by_hand": is_swiglu,
    },
    "07_text_generation": {
        "top_p_by_hand": is_filter(top_p),
        "min_p_by_hand": is_filter(min_p),
        "repetition_penalty_by_hand": is_repetition_penalty,
        "beam_search_by_hand": is_beam_search,
    },
    "08_translation": {
        "masks_by_hand": are_translation_masks,
        "cross_attention_by_hand": is_cross_attention,
        "smoothed_loss_by_hand": is_translation_loss,
    },
    "09_masks_that_went_wrong": {"leaks_by_hand": is_leaks},
    "10_gpu": {
        "spans_by_hand": is_spans,
        "flash_attention_by_hand": is_flash_attention,
        "flash_attention_backward_by_hand": is_flash_attention_backward,
    },
}

FOUND = {
    path.stem: lift(nbformat.read(path, 4)) for path in sorted(CHAPTERS.glob("*.ipynb"))
}


@pytest.mark.parametrize(
    ("chapter", "name"),
    [(chapter, name) for chapter, lifted in FOUND.items() for name in lifted],
)
def test_by_hand_equals_mattn(chapter, name):
    check = COUNTERPARTS.get(chapter, {}).get(name)
    assert check is not None, (
        f"{name} of {chapter} is held against nothing: add it to COUNTERPARTS"
    )
    for seed in SEEDS:
        check(FOUND[chapter][name], np.random.default_rng(seed))


@pytest.mark.parametrize("chapter", COUNTERPARTS)
def test_every_entry_is_of_a_function_that_exists(chapter):
    assert set(COUNTERPARTS[chapter]) <= set(FOUND[chapter])


# --- The mechanism itself ------------------------------------------------------


def notebook(*sources: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(s) for s in sources]
    return nbformat.v4.new_notebook(cells=cells)


RIGHT = "import numpy as np\n\ndef causal_mask_by_hand(n, m):\n    return "
RIGHT += "np.arange(m) <= np.arange(m - n, m)[:, None]"


def test_only_imports_and_by_hand_functions_are_executed():
    lifted = lift(notebook("import mattn.nothing\n1 / 0", RIGHT, "def other(): pass"))
    assert set(lifted) == {"causal_mask_by_hand"}
    is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))


def test_a_function_that_leans_on_the_notebook_fails():
    source = RIGHT.replace("np.arange(m)", "keys")
    lifted = lift(notebook("keys = 3", source))
    with pytest.raises(NameError, match="keys"):
        is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("<=", "<"), ("<=", ">="), ("<= ", "<= 1 + "), ("m - n, m", "0, n")],
)
def test_a_wrong_mask_is_caught(right, wrong):
    lifted = lift(notebook(RIGHT.replace(right, wrong)))
    with pytest.raises(AssertionError):
        is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))
