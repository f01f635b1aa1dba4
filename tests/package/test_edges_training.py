"""Training at the edges: schedules, recipes, Muon, and checkpoints that are none.

The messages come from a process without the checks of shapes, as for
test_errors: this file, executed as a program.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from refusals import messages, printed, refused_with
from torch import nn

from mattn.losses import (
    evaluate,
    held_out_losses,
    next_token_loss,
    token_losses,
    translation_loss,
)
from mattn.metrics import (
    NGram,
    bits_per_character,
    exact_match,
    loss_by_position,
    mean_loss,
    repetition,
    translation_scores,
)
from mattn.optimizers import Muon, orthogonalised
from mattn.training import Recipe, fit, optimizers, schedule

V = 5
NAN, INF = math.nan, math.inf


class Table(nn.Module):
    """The next token from the last one, by way of two tables of one shape."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.logits = nn.Parameter(torch.randn(V, V, generator=draw))

    def forward(self, tokens):
        return self.logits[tokens]


def rows(n=3, T=4) -> torch.Tensor:
    return torch.arange(n * T).reshape(n, T) % V


def trained(**options) -> Callable:
    return lambda: fit(Table(), [rows()] * 3, **{"n_steps": 3} | options)


def resumed(data: bytes) -> Callable:
    def call():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run.safetensors"
            path.write_bytes(data)
            trained(checkpoint=path)()

    return call


LOGITS = torch.zeros(3, 4, V)
SHAPES = ["floating-point logits (B, T, V) and integer tokens (B, T)", "got", "shift"]
NGRAM = NGram([[0, 1, 2]], 2, 3)

# Name → what is called, and what its message must contain, in this order.
CASES: dict[str, tuple[Callable, list[str]]] = {
    "float tokens": (
        lambda: token_losses(LOGITS, rows().float()),
        [*SHAPES[:2], "float32 (3, 4, 5) and float32 (3, 4)"],
    ),
    "bool tokens": (lambda: next_token_loss(LOGITS, rows() > 2), SHAPES),
    "integer logits": (lambda: next_token_loss(LOGITS.long(), rows()), SHAPES),
    "a list of tokens": (lambda: next_token_loss(LOGITS, [[1, 2, 3, 4]] * 3), SHAPES),
    "shifted before": (lambda: next_token_loss(LOGITS[:, :-1], rows()), SHAPES),
    "one row": (lambda: next_token_loss(LOGITS[0], rows()[0]), SHAPES),
    "no position": (lambda: token_losses(LOGITS[:, :0], rows()[:, :0]), SHAPES),
    "a target of uint8 that is no token": (
        lambda: next_token_loss(LOGITS, torch.full((3, 4), 156).byte(), ignore=-100),
        ["targets of 0 to 4, or ignore = -100", "got 156", "Give the padding"],
    ),
    "no vocabulary": (
        lambda: next_token_loss(LOGITS[..., :0], rows()),
        ["targets of 0 to -1", "got"],
    ),
    "translation of a tensor": (
        lambda: translation_loss(LOGITS, (rows(), rows().float(), rows())),
        SHAPES,
    ),
    "evaluate a list": (
        lambda: evaluate(Table(), rows().tolist()),
        ["evaluate: expected integer tokens (N, T)", "got list", "Pad"],
    ),
    "mean loss of one row": (
        lambda: mean_loss(Table(), rows()[0]),
        ["mean_loss: expected integer tokens (N, T)", "got int64 (4,)", "Pad"],
    ),
    "positions of no tokens": (
        lambda: loss_by_position(Table(), rows()[:, :0]),
        [
            "loss_by_position: expected integer tokens (N, T), T >= 1",
            "got int64 (3, 0)",
        ],
    ),
    "a batch of none": (
        lambda: held_out_losses(Table(), rows(), batch_size=0),
        ["batch_size >= 1", "got 0"],
    ),
    "a batch of half a row": (
        lambda: evaluate(Table(), rows(), batch_size=0.5),
        ["batch_size >= 1", "got 0.5", "integer"],
    ),
    "before the first step": (
        lambda: schedule(-1, 10),
        ["a step from 0 to n_steps = 10", "got -1", "as many steps"],
    ),
    "past the last step": (
        lambda: schedule(11, 10, Recipe(decay="cosine")),
        ["a step from 0 to n_steps = 10", "got 11", "as many steps"],
    ),
    "no number of a step": (lambda: schedule(NAN, 10), ["a step from 0", "got nan"]),
    "a schedule of no steps": (lambda: schedule(0, 0), ["n_steps >= 1", "got 0"]),
    "a lone beta": (lambda: Recipe(betas=(0.9,)), ["two betas", "got Recipe"]),
    "a step of Muon backwards": (
        lambda: Muon([nn.Parameter(LOGITS[0])], lr=-0.1),
        ["finite lr > 0", "got -0.1"],
    ),
    "a momentum of 1": (
        lambda: Muon([nn.Parameter(LOGITS[0])], lr=0.1, momentum=1.0),
        ["momentum of at least 0, below 1", "got 0.1 and 1.0"],
    ),
    "one matrix": (
        lambda: orthogonalised(LOGITS[0]),
        ["a stack of matrices (N, rows, columns)", "got (4, 5)", "x[None]"],
    ),
    "minus one iteration": (
        lambda: orthogonalised(LOGITS, n_steps=-1),
        ["n_steps >= 0", "got -1"],
    ),
    "half a step": (trained(n_steps=2.5), ["n_steps >= 1", "got 2.5", "integer"]),
    "no batches": (
        lambda: fit(Table(), [], n_steps=2),
        ["expected 2 batches", "got 0", "give more batches"],
    ),
    "a checkpoint in a folder that is not there": (
        trained(checkpoint="no/such/folder/run.safetensors"),
        ["a file in a folder that is there", "got no", "Make the folder"],
    ),
    "a folder for a checkpoint": (
        trained(checkpoint=tempfile.gettempdir()),
        ["a file in a folder that is there", "got"],
    ),
    "an empty checkpoint": (
        resumed(b""),
        ["fit: expected", "run.safetensors to be a file of safetensors", "got 0 bytes"],
    ),
    "a checkpoint that is text": (
        resumed(b"what is this? " * 9),
        ["to be a file of safetensors", "got 126 bytes", "copy or download"],
    ),
    "a pointer": (
        resumed(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        ["to be a file of safetensors", "the pointer of Git LFS", "git lfs pull"],
    ),
    "characters of no length": (
        lambda: bits_per_character(1.0, characters_per_token=0),
        ["characters_per_token > 0", "got 0", "mean length"],
    ),
    "a 0-gram": (lambda: NGram([[1]], 0, 3), ["NGram: n >= 1", "got 0"]),
    "half an n-gram": (lambda: NGram([[1]], 1.5, 3), ["NGram: n >= 1", "got 1.5"]),
    "no symbols": (lambda: NGram([[]], 1, 0), ["NGram: n_symbols >= 1", "got 0"]),
    "n-grams of padding": (
        lambda: NGram([[1, -100]], 1, 3),
        ["a token of 0 to 2", "got -100"],
    ),
    "n-grams of another vocabulary": (
        lambda: NGRAM.log_probs([1, 3]),
        ["a token of 0 to 2", "got 3"],
    ),
    "n-grams of text": (lambda: NGram(["abc"], 1, 3), ["expected a list", "Encode"]),
    "n-grams of floats": (lambda: NGRAM.log_probs([1.0]), ["an integer of 0 to 2"]),
    "nothing after the start": (
        lambda: NGRAM.mean_loss([[1, 2], [0]], skip=2),
        ["tokens to score", "got none in 2 rows after skip = 2", "longer rows"],
    ),
    "no rows of n-grams": (
        lambda: NGRAM.mean_loss([]),
        ["tokens to score", "got none"],
    ),
    "a start of minus one": (
        lambda: NGRAM.mean_loss([[1, 2]], skip=-1),
        ["skip >= 0", "got -1"],
    ),
    "no sentences": (lambda: exact_match([], []), ["at least one", "got 0 hypotheses"]),
    "a sentence for a list": (
        lambda: exact_match("abc", "abd"),
        ["hypotheses to be a list of texts", "got str", "in brackets"],
    ),
    "tokens for sentences": (
        lambda: exact_match(["a"], [[1, 2]]),
        ["references to be a list of texts", "Decode tokens"],
    ),
    "scores of unequal lists": (
        lambda: translation_scores(["a b c d e", "wrong"], ["a b c d e"]),
        ["one reference for each hypothesis", "got 2 hypotheses and 1 references"],
    ),
    "scores of no sentences": (
        lambda: translation_scores([], []),
        ["at least one", "got 0 hypotheses"],
    ),
    "a missing sentence": (
        lambda: translation_scores(["a", None], ["a", "b"]),
        ["hypotheses to be a list of texts"],
    ),
    "one resample": (
        lambda: translation_scores(["a"], ["a"], n_resamples=1),
        ["n_resamples >= 2", "got 1"],
    ),
    "no resample": (
        lambda: translation_scores(["a"], ["a"], n_resamples=0),
        ["n_resamples >= 2", "got 0"],
    ),
    "a tokenizer that is none": (
        lambda: translation_scores(["a"], ["a"], tokenize="chinese"),
        ["tokenize to be one of 13a, char", "got 'chinese'"],
    ),
    "repetition of 0-grams": (lambda: repetition([1, 2], 0), ["n >= 1", "got 0"]),
    "repetition of text": (lambda: repetition("abab"), ["expected a list", "Encode"]),
}
for lr in (0, -1e-3, NAN, INF):
    CASES[f"a rate of {lr}"] = (trained(lr=lr), ["a finite lr > 0", f"got {lr}"])
for field, expected, values in (
    ("muon_lr", "finite muon_lr > 0", (0.0, -1.0, NAN, INF)),
    ("head_lr", "finite head_lr > 0", (0.0, NAN, INF)),
    ("betas", "two betas", ((0.9, NAN), (-0.1, 0.9), (0.9, 0.9, 0.9))),
    ("weight_decay", "finite weight_decay >= 0", (-0.1, NAN, INF)),
    ("warm_up", "0 <= warm_up < 1", (-0.1, 1.0, NAN)),
    ("final", "0 <= final <= 1", (-0.1, 1.1, NAN)),
    ("clip", "clip > 0 or None", (0.0, -1.0, NAN)),
):
    for value in values:
        CASES[f"{field} = {value}"] = (
            lambda field=field, value=value: Recipe(**{field: value}),
            [f"Recipe: expected {expected}", "got Recipe"],
        )


@pytest.fixture(scope="module")
def raised() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", CASES)
def test_message(raised, name):
    refused_with(raised[name], CASES[name][1])


# --- Schedule -------------------------------------------------------------------------


@pytest.mark.parametrize("n_steps", [1, 2, 10, 1000])
@pytest.mark.parametrize("warm_up", [0.0, 0.05, 0.999])
@pytest.mark.parametrize("decay", ["linear", "cosine"])
def test_the_schedule_is_a_share_from_the_first_step_to_the_end(
    n_steps, warm_up, decay
):
    recipe = Recipe(warm_up=warm_up, decay=decay, final=0.1)
    shares = [schedule(step, n_steps, recipe) for step in range(n_steps + 1)]
    assert all(0 < share <= 1 for share in shares)
    assert max(shares[:-1]) == 1
    assert shares[-1] == 0.1


# --- Muon -----------------------------------------------------------------------------


def gradients(seed: int) -> torch.Tensor:
    return torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(seed))


def test_a_matrix_without_a_gradient_rests_and_the_others_do_not_notice():
    # Each of three matrices of one shape has its own history of gradients.
    together = [nn.Parameter(torch.zeros(4, 6)) for _ in range(3)]
    alone = [nn.Parameter(torch.zeros(4, 6)) for _ in range(3)]
    both = Muon(together, lr=0.1)
    each = [Muon([p], lr=0.1) for p in alone]
    for step, present in enumerate([(0, 1, 2), (1, 2), (0,), (), (0, 1, 2)]):
        for i in range(3):
            gradient = gradients(step)[i] if i in present else None
            together[i].grad = alone[i].grad = gradient
        both.step()
        for optimizer in each:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        assert a.abs().min() > 0
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_orthogonalised_in_float32(dtype):
    x = 200 * gradients(0)  # entries whose squares overflow float16
    got = orthogonalised(x.to(dtype))
    assert got.dtype == dtype
    expected = orthogonalised(x.to(dtype).float())
    torch.testing.assert_close(got.float(), expected, atol=1e-2, rtol=0)
    p = nn.Parameter(torch.zeros(4, 6, dtype=dtype))
    q = nn.Parameter(torch.zeros(4, 6))
    p.grad, q.grad = x[0].to(dtype), x[0]
    Muon([p, q], lr=0.1).step()
    torch.testing.assert_close(p.float(), q.detach(), atol=5e-3, rtol=0)


def test_other_strides_and_no_matrices_are_orthogonalised_alike():
    x = gradients(0)
    expected = orthogonalised(x)
    assert torch.equal(x, gradients(0))
    torch.testing.assert_close(orthogonalised(x.mT.contiguous().mT), expected)
    assert orthogonalised(x[:0]).shape == (0, 4, 6)


# --- Batches and checkpoints ----------------------------------------------------------


def test_a_list_of_tensors_is_a_batch_as_a_tuple_is(monkeypatch, capsys):
    monkeypatch.delenv("MATTN_PROGRESS", raising=False)
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(rows()), batch_size=3
    )
    assert isinstance(next(iter(loader)), list)
    options = {"n_steps": 1, "loss": lambda logits, batch: logits.square().mean()}
    expected = fit(Table(), [rows()], **options)
    assert fit(Table(), loader, **options) == expected
    # What is read is counted also where no part of the batch has two axes.
    lone = [(torch.arange(4),)]
    assert fit(Table(), lone, **options).losses[0] > 0
    assert "tokens/s" in capsys.readouterr().err


def state(model) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


OPTIONS = {"n_steps": 4, "recipe": Recipe(muon_lr=0.02)}


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Embedding(V, 4), nn.Linear(4, 4), nn.Linear(4, V))


def stopped(path: Path) -> None:
    """A run that was stopped after three of its four steps."""

    def batches():
        yield from [rows()] * 3
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(linear(), batches(), checkpoint=path, **OPTIONS)


def rewritten(path: Path, change: Callable, **metadata) -> None:
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    with safe_open(path, framework="pt") as file:
        before = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, before | metadata)


@pytest.mark.parametrize(
    ("change", "metadata", "message"),
    [
        (lambda t: None, {"format": "an older one"}, "a checkpoint of this version"),
        (lambda t: t.update({"model.0.weight": torch.ones(V, 5)}), {}, "another model"),
        (
            lambda t: t.update({"model.0.weight": torch.ones(V, 4).half()}),
            {},
            "another model",
        ),
        (lambda t: t.pop("model.0.weight"), {}, "another model"),
        (lambda t: None, {"last_batch": "1"}, "a generator of its own"),
    ],
)
def test_a_checkpoint_that_does_not_fit_changes_nothing(
    tmp_path, change, metadata, message
):
    path = tmp_path / "run.safetensors"
    stopped(path)
    rewritten(path, change, **metadata)
    data = path.read_bytes()
    model = linear().eval()
    before, random = state(model), torch.get_rng_state()
    with pytest.raises(ValueError, match=message):
        fit(model, [rows()] * 4, checkpoint=path, **OPTIONS)
    for a, b in zip(state(model), before, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), random)
    assert not model.training
    assert path.read_bytes() == data


def test_a_file_of_tensors_that_is_no_checkpoint_is_named(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "run.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(
        ValueError, match=r"run\.safetensors to be a checkpoint.*Delete"
    ):
        fit(linear(), [rows()] * 4, checkpoint=path, **OPTIONS)
    stopped(other := tmp_path / "whole.safetensors")
    path.write_bytes(other.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"run\.safetensors to be a file of safetens"):
        fit(linear(), [rows()] * 4, checkpoint=path, **OPTIONS)


def test_a_write_that_fails_leaves_no_file_behind(tmp_path, monkeypatch):
    import safetensors.torch

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(safetensors.torch, "save_file", half)
    with pytest.raises(OSError, match="no space"):
        fit(linear(), [rows()] * 4, checkpoint=tmp_path / "run.safetensors", **OPTIONS)
    assert not list(tmp_path.iterdir())


def test_batches_of_bfloat16_have_a_checkpoint_too(tmp_path):
    path = tmp_path / "run.safetensors"
    model = nn.Linear(4, 3).bfloat16()
    batches = [torch.ones(2, 4).bfloat16()] * 2
    options = {"n_steps": 2, "loss": lambda logits, batch: logits.square().mean()}
    history = fit(model, batches, checkpoint=path, **options)
    assert fit(nn.Linear(4, 3).bfloat16(), batches, checkpoint=path, **options) == (
        history
    )


def test_safetensors_is_asked_for_before_the_first_step(tmp_path, monkeypatch):
    model = Table()
    before = state(model)
    for name in ("safetensors", "safetensors.torch"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"checkpoint needs safetensors: .*mattn\["):
        fit(model, [rows()], n_steps=1, checkpoint=tmp_path / "run.safetensors")
    assert torch.equal(model.logits, before[0])


def test_a_model_without_parameters_has_no_optimizers():
    assert optimizers(nn.Module(), 0.1, Recipe()) == []


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages({name: call for name, (call, _) in CASES.items()})))
