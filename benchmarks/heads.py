"""What chapter 11 says of other seeds: heads that look, and what taking away costs.

1. agreement: the little model of chapter 1, twenty seeds: the verb's number, right
              or not, when the animal's cell is covered, split by the number.
2. repeats:   two layers of attention, three seeds, 300 steps; one layer, 900;
              one layer at a fixed period; two with the future visible, 100 steps.
3. cuts:      what it costs, in nats, to remove a head of layer 0, to cut an edge of
              it, and to swap one path from it into layer 1.
4. resting:   where heads of layer 1 look while nothing has come again, with and
              without a start symbol before the text.

    python benchmarks/heads.py

--quick makes all of it small, to check the program; --to names another file.
"""

from __future__ import annotations

import math
import os
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MATTN_PROGRESS"] = "0"

import measure
import torch
from torch import Tensor, nn

from mattn import Config, Decoder, causal, full, record_weights, rule
from mattn.data import agreement, repeats
from mattn.heads import MultiHeadAttention
from mattn.interpret import (
    diagonal,
    effect,
    first_token,
    induction,
    knockout,
    patched,
    path,
    pattern_score,
    previous_token,
    record_outputs,
    replace,
)
from mattn.losses import held_out_losses, next_token_loss
from mattn.repro import start
from mattn.training import Recipe, fit

V, T, PERIODS, ROWS, LR = 32, 48, (12, 24), 32, 0.01
RECIPE = Recipe(weight_decay=0.0)
SEEDS = (0, 1, 2)
N_TEST = 500


class Writer(nn.Module):
    """The model of chapter 1."""

    def __init__(self):
        super().__init__()
        self.word = nn.Embedding(25, 16)
        self.place = nn.Embedding(6, 16)
        self.attend = MultiHeadAttention(16, n_heads=2)
        self.read = nn.Linear(16, 25)

    def forward(self, text, mask=causal):
        x = self.word(text) + self.place.weight[: text.shape[1]]
        return self.read(x + self.attend(x, mask))


def train_writer(seed: int, n_steps: int) -> Writer:
    generator = start(seed)
    model = Writer()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0)
    for step in range(n_steps):
        text = agreement.sample(64, generator=generator)
        loss = next_token_loss(model(text), text)
        optimizer.param_groups[0]["lr"] = 0.01 * min(1, 2 - 2 * step / n_steps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


@torch.no_grad()
def of_writer(model: Writer, seed: int) -> dict:
    every = torch.stack([agreement.encode(s) for s in agreement.sentences()])
    many = torch.arange(len(every)) >= len(every) // 2
    verbs = (
        agreement.encode("sleep wait eat play"),
        agreement.encode("sleeps waits eats plays"),
    )

    def right(*changes) -> list[float]:
        with patched(model, *changes):
            p = model(every)[:, 4].softmax(dim=-1)
        says_many = p[:, verbs[0]].sum(dim=1) > p[:, verbs[1]].sum(dim=1)
        good = (says_many == many).float()
        return [good[~many].mean().item(), good[many].mean().item()]

    with record_weights(model) as weights:
        model(every)
    looks = weights["attend"][:, :, 4, 1]  # (1024, 2): from the noun to the animal
    covered = right(knockout(0, rule(lambda b, q, k: (q == 4) & (k == 1))))
    return {
        "seed": seed,
        "right": right(),
        "animal_covered": covered,
        "without_head": [right(replace(0, h)) for h in range(2)],
        "weight_on_animal": [
            looks[~many].mean(0).tolist(),
            looks[many].mean(0).tolist(),
        ],
    }


def attention_only(n_layers: int, mask=causal, n_symbols: int = V) -> Decoder:
    config = Config(n_symbols, 64, n_layers, n_heads=4, d_hidden=1, qk_norm=True)
    model = Decoder(config, mask)
    for block in model.blocks:  # an MLP that writes 0, and stays so
        nn.init.zeros_(block.mlp.down.weight).requires_grad_(False)
    return model


def train(
    seed: int,
    n_layers: int,
    n_steps: int,
    *,
    periods=PERIODS,
    mask=causal,
    begin: bool = False,
) -> Decoder:
    generator = start(seed)
    model = attention_only(n_layers, mask, V + begin)

    def batches():
        while True:
            yield draw(ROWS, periods, generator, begin)[0]

    fit(model, batches(), n_steps=n_steps, lr=LR, recipe=RECIPE)
    return model.eval()


def draw(n: int, periods, generator, begin: bool = False) -> tuple[Tensor, Tensor]:
    tokens, period = repeats(n, T, n_symbols=V, periods=periods, generator=generator)
    if begin:
        tokens = torch.cat([torch.full((n, 1), V), tokens], dim=1)
    return tokens, period


class Test:
    """Rows that no seed was trained on, and which targets are of which round."""

    def __init__(self, periods=PERIODS, begin: bool = False):
        generator = torch.Generator().manual_seed(1000)
        self.tokens, period = draw(N_TEST, periods, generator, begin)
        gone = torch.arange(self.tokens.shape[1]) - int(begin) - period[:, None]
        self.first = gone[:, 1:] < 0  # targets of the first round
        self.again = gone[:, 1:] >= 2  # two tokens have come again before
        self.queries = gone >= 1
        self.early = gone < 0

    def losses(self, model: Decoder) -> dict:
        losses = held_out_losses(model, self.tokens)
        return {
            name: losses[where].mean().item()
            for name, where in (("first", self.first), ("again", self.again))
        }

    @torch.no_grad()
    def looks(self, model: Decoder, *changes) -> tuple[Tensor, ...]:
        with patched(model, *changes), record_weights(model) as weights:
            model(self.tokens)
        return tuple(weights.values())


def scores(test: Test, model: Decoder, *changes) -> dict:
    """The best head of the first layer at looking back, of the last at induction."""
    maps, cells = test.looks(model, *changes), induction(test.tokens)
    back = pattern_score(maps[0], previous_token, causal)
    found = pattern_score(maps[-1], cells, causal, queries=test.queries)
    return {
        "previous": back.share.tolist(),
        "previous_null": back.null,
        "induction": found.share.tolist(),
        "induction_null": found.null,
    }


def cuts(test: Test, model: Decoder) -> dict:
    """Effects on the repeated round, in nats: mean and interval."""

    def cost(*changes):
        return effect(model, test.tokens, *changes, where=test.again)

    best = max(range(4), key=scores(test, model)["previous"].__getitem__)
    with torch.no_grad(), record_outputs(model) as outputs:
        model(test.tokens)
    mean = outputs["blocks.0.attention"].mean(dim=(0, 2))  # (H, D)
    found = {
        "heads": [cost(replace(0, h)) for h in range(4)],
        "heads_by_mean": [cost(replace(0, h, mean[h])) for h in range(4)],
        "edge_1": cost(knockout(0, previous_token)),
        "edge_2": cost(knockout(0, diagonal(2))),
        "scores_without_edge_1": scores(test, model, knockout(0, previous_token)),
        "head": best,
    }
    for part in ("query", "key", "value"):
        own = [path(0, {best: mean[best]}, (1, r, part)) for r in range(4)]
        found[f"path_{part}"] = cost(*own)
    return found


def resting(model: Decoder, seed: int, begin: bool) -> dict:
    test = Test(begin=begin)
    last = test.looks(model)[-1]
    share = pattern_score(last, first_token, causal, queries=test.early)
    return {
        "seed": seed,
        "begin": begin,
        **test.losses(model),
        "first_token": share.share.tolist(),
        "null": share.null,
    }


def of_seed(seed: int, n_steps: int) -> dict:
    test, fixed_test = Test(), Test((16, 16))
    began = time.process_time()
    model = train(seed, 2, n_steps)
    seconds = time.process_time() - began
    fixed = train(seed, 1, n_steps, periods=(16, 16))
    visible = train(seed, 2, -(-n_steps // 3), mask=full)
    begun = train(seed, 2, n_steps, begin=True)
    return {
        "seed": seed,
        "cpu_seconds": seconds,
        **test.losses(model),
        **scores(test, model),
        "cuts": cuts(test, model),
        "fixed_period": {
            "own": fixed_test.losses(fixed),
            "other": test.losses(fixed),
            **scores(fixed_test, fixed),
        },
        "future_visible": {**test.losses(visible), **scores(test, visible)},
        "resting": [resting(model, seed, False), resting(begun, seed, True)],
    }


def _arguments():
    parser = measure.arguments(__doc__, "heads_cpu")
    parser.add_argument("--quick", action="store_true", help="everything small")
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    scale = 100 if given.quick else 1
    out = {
        "what": "attention heads of small models: where they look, what cutting costs",
        **measure.header(note=given.note),
        "quick": given.quick,
        "threads": 1,
        "ln_V": math.log(V),
        "one_layer": Test().losses(train(0, 1, 900 // scale)),
    }
    seeds = range(20 if scale == 1 else 1)
    out["agreement"] = [of_writer(train_writer(s, 1000 // scale), s) for s in seeds]
    out["two_layers"] = [of_seed(seed, 300 // scale) for seed in SEEDS[: len(seeds)]]
    measure.write(out, given.to)


if __name__ == "__main__":
    main()
