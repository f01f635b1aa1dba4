"""Loss against CPU time, nanoGPT and ours by turns; write records/training_cpu.json.

Characters of tiny Shakespeare, the first 90 % to train, the last 10 % to
validate: nats per character over all non-overlapping windows of 64 characters,
each predicted from those before it in its window and the one before that.

nanoGPT:   the recipe that its README gives for a CPU: GPT-2 blocks (below), 4
           layers, 4 heads, width 128, context 64, batch 12, 2000 steps, AdamW.
attention: mattn's Decoder for all of nanoGPT's CPU time, with Muon and without
           tables of n-grams; tables: the same with them.
1/7 …:     runs for a seventh of that time, each with one part changed.

All runs of a seed go on by turns in one process with one thread: each trains
for a moment, then waits for the others, so that whatever else the machine does
slows them all. What is counted is CPU time (user and system, children
included) from the first batch to the last step. The clock stands while a model
is validated. How many steps fit into a run's share is found first, by timing a
few steps of each by turns.

    python benchmarks/training.py --seeds 0 1 2
    python benchmarks/training.py --choose 20      what the choice rests on
"""

from __future__ import annotations

import json
import math
import os
import statistics
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace

import measure
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattn import Config, Decoder
from mattn.data import Characters, random_windows, tiny_shakespeare, windows
from mattn.losses import evaluate
from mattn.metrics import NGram
from mattn.repro import start
from mattn.training import Recipe, fit

N_TURNS, N_LOOKS = 50, 10
MARGIN = 0.95  # of a run's share, so that it does not take more
REFERENCE_STEPS = 2000
TUNING = {
    "nanoGPT": "none by us: the recipe as its README gives it",
    "ours": "sizes, windows and rates in 9 runs of 15 to 25 CPU seconds on eight "
    "ninths of the training text, compared on the rest of it, one seed; before that, "
    "depth and width in longer runs of one seed compared on the validation text. "
    "The tables and each changed part have the rates that were found without them, "
    "but for AdamW's, the better of two",
}
SOURCE = "https://github.com/karpathy/nanoGPT, README, recipe for a CPU"


@dataclass(frozen=True)
class Plan:
    """One run: what is trained, on what, how, and for which share of the time."""

    share: float
    model: dict = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)
    lr: float = 1e-2
    n_rows: int = 16
    length: int = 65  # with the target of the last character

    def changed(self, share: float | None = None, lr: float | None = None, **parts):
        """The same but for this share, rate, and parts of model or recipe."""
        of_recipe = {k: v for k, v in parts.items() if hasattr(self.recipe, k)}
        of_model = {k: v for k, v in parts.items() if k not in of_recipe}
        return replace(
            self,
            share=share or self.share,
            lr=lr or self.lr,
            model=self.model | of_model,
            recipe=replace(self.recipe, **of_recipe),
        )


REFERENCE = Plan(
    share=1.0,
    recipe=Recipe(
        betas=(0.9, 0.99), weight_decay=0.1, decay="cosine", final=0.1, warm_up=0.05
    ),
    lr=1e-3,
    n_rows=12,
)
OURS = Plan(
    share=1.0,
    model={
        "d_model": 64,
        "n_layers": 4,
        "n_heads": 2,
        "activation": "squared_relu",
        "qk_norm": True,
        "zero_head": True,
    },
    recipe=Recipe(muon_lr=0.04, head_lr=0.006, weight_decay=0.1),
)
SHORT = OURS.changed(share=1 / 7, n_layers=2)
PLANS = {
    "nanoGPT": REFERENCE,
    "attention": OURS,
    "tables": OURS.changed(n_grams=4),
    "1/7": SHORT,
    "1/7, tables": SHORT.changed(n_grams=4),
    "1/7, AdamW": SHORT.changed(muon_lr=None, head_lr=None, lr=8e-3),
    "1/7, no QK-norm": SHORT.changed(qk_norm=False),
    "1/7, random head": SHORT.changed(zero_head=False),
    "1/7, width 96": SHORT.changed(d_model=96),
}
FULL = [name for name, plan in PLANS.items() if plan.share == 1]
# What the choice of ours rests on: each for the same time, on a part of the
# training text.
CHOICES = {
    "2 layers": SHORT,
    "3 layers": SHORT.changed(n_layers=3),
    "4 layers": SHORT.changed(n_layers=4),
    "3 layers, 8 windows of 128": replace(
        SHORT.changed(n_layers=3), n_rows=8, length=129
    ),
    "higher rates": SHORT.changed(muon_lr=0.06, head_lr=0.009, lr=0.015),
    "AdamW 0.004": SHORT.changed(muon_lr=None, head_lr=None, lr=4e-3),
    "AdamW 0.008": SHORT.changed(muon_lr=None, head_lr=None, lr=8e-3),
}


class GPT2Block(nn.Module):
    """x + attention(norm(x)), then + MLP(norm(x)), as in GPT-2, without biases."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norm_1 = nn.LayerNorm(d_model, bias=False)
        self.qkv = nn.Linear(d_model, 3 * d_model, bias=False)
        self.output = nn.Linear(d_model, d_model, bias=False)
        self.norm_2 = nn.LayerNorm(d_model, bias=False)
        self.up = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            part.view(B, T, self.n_heads, -1).transpose(1, 2)
            for part in self.qkv(self.norm_1(x)).split(C, dim=2)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.output(out.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Reference(nn.Module):
    """nanoGPT's model in that recipe: learned positions, tied head, 0.80 M numbers."""

    def __init__(self, n_symbols: int):
        super().__init__()
        n_layers, n_heads, d_model, context = 4, 4, 128, 64
        self.token = nn.Embedding(n_symbols, d_model)
        self.position = nn.Embedding(context, d_model)
        blocks = (GPT2Block(d_model, n_heads) for _ in range(n_layers))
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.LayerNorm(d_model, bias=False)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                writes = name.endswith(("output.weight", "down.weight"))
                scale = math.sqrt(2 * n_layers) if writes else 1.0
                nn.init.normal_(p, std=0.02 / scale)

    def forward(self, tokens: Tensor) -> Tensor:
        # The last token of a window has no target: it is not read.
        read = tokens[:, :-1]
        x = self.token(read) + self.position.weight[: read.shape[1]]
        logits = F.linear(self.norm(self.blocks(x)), self.token.weight)
        return F.pad(logits, (0, 0, 0, 1))


def made(plan: Plan, n_symbols: int) -> nn.Module:
    if plan is REFERENCE:
        return Reference(n_symbols)
    return Decoder(Config(n_symbols=n_symbols, **plan.model))


class Run:
    """A training run that waits for its turn: its model, its clock, its curve."""

    def __init__(self, plan: Plan, n_symbols: int, text: Tensor, seed: int):
        torch.manual_seed(seed)
        self.plan, self.model = plan, made(plan, n_symbols)
        draws = torch.Generator().manual_seed(seed)
        shape = {"n_rows": plan.n_rows, "length": plan.length}
        self.batches = random_windows(text, **shape, generator=draws)
        self.seconds, self.done, self.n_turns = 0.0, False, 0
        self.curve: list[tuple[float, float]] = []  # CPU seconds, validation loss
        self.error: BaseException | None = None
        self._mine, self._yours = threading.Semaphore(0), threading.Semaphore(0)

    def train(self, batches: Iterator[Tensor], n_steps: int) -> None:
        fit(
            self.model,
            batches,
            n_steps=n_steps,
            lr=self.plan.lr,
            recipe=self.plan.recipe,
        )

    def begin(self, n_steps: int) -> None:
        self.n_steps = n_steps

        def all_of_it() -> None:
            self._mine.acquire()
            try:
                self.train(self._paced(), n_steps)
            except BaseException as error:
                self.error = error
            self.done = True
            self._yours.release()

        threading.Thread(target=all_of_it, daemon=True).start()

    def turn(self) -> None:
        before = measure.cpu_seconds(children=True)
        self._mine.release()
        self._yours.acquire()
        self.seconds += measure.cpu_seconds(children=True) - before
        self.n_turns += 1
        if self.error is not None:
            raise self.error

    def look(self, some: Tensor) -> None:
        """One more point of the curve."""
        point = round(self.seconds, 1), round(evaluate(self.model, some), 3)
        self.curve.append(point)
        self.model.train()

    def row(self, reference: float, held_out: Tensor) -> dict:
        """What the record keeps, beside the reference's seconds."""
        return {
            "steps": self.n_steps,
            "cpu_seconds": round(self.seconds, 2),
            "share": round(self.seconds / reference, 4),
            "loss": round(evaluate(self.model, held_out), 4),
        }

    def _paced(self) -> Iterator[Tensor]:
        every = max(1, self.n_steps // N_TURNS)
        for step in range(self.n_steps):
            if step and step % every == 0:
                self._yours.release()
                self._mine.acquire()
            yield next(self.batches)


def corpus() -> tuple[int, Tensor, Tensor]:
    """How many symbols there are, and the tokens to train and to validate on."""
    text = tiny_shakespeare()
    characters = Characters(text)
    tokens = characters.encode(text)
    cut = int(0.9 * len(tokens))
    return len(characters), tokens[:cut], tokens[cut:]


def in_windows(text: Tensor) -> Tensor:
    return windows(text, length=65, overlap=1)


def paced(plans: dict[str, Plan], scale: float) -> dict[str, float]:
    """CPU seconds of a step, over the first run's, from turns of a few steps."""
    n_symbols, text, _ = corpus()
    runs = {name: Run(plan, n_symbols, text, 0) for name, plan in plans.items()}
    for run in runs.values():
        run.train(run.batches, 2)
    n_steps, ratios = max(1, int(6 * scale)), {name: [] for name in runs}
    for _ in range(5):
        seconds = {
            name: measure.timed(lambda run=run: run.train(run.batches, n_steps))[0]
            for name, run in runs.items()
        }
        for name in runs:
            ratios[name].append(seconds[name] / seconds[next(iter(runs))])
    return {name: statistics.median(each) for name, each in ratios.items()}


def steps_that_fit(scale: float) -> dict[str, int]:
    """For each run, the steps that its share of the reference's time has room for."""
    n_steps = {}
    for name, ratio in paced(PLANS, scale).items():
        fits = REFERENCE_STEPS
        if name != "nanoGPT":
            fits = int(MARGIN * PLANS[name].share * REFERENCE_STEPS / ratio)
        n_steps[name] = max(1, int(fits * scale))
    return n_steps


def one_seed(seed: int, n_steps: dict[str, int]) -> dict:
    n_symbols, text, validation = corpus()
    held_out = in_windows(validation)
    load = [os.getloadavg()[0]]
    runs = {name: Run(plan, n_symbols, text, seed) for name, plan in PLANS.items()}
    for name, run in runs.items():
        run.begin(n_steps[name])
    while waiting := [name for name, run in runs.items() if not run.done]:
        for name in waiting:
            runs[name].turn()
            if name in FULL and runs[name].n_turns % (N_TURNS // N_LOOKS) == 0:
                runs[name].look(held_out[::8])
        load.append(os.getloadavg()[0])
    found = {}
    for name, run in runs.items():
        found[name] = run.row(runs["nanoGPT"].seconds, held_out)
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
        if name in FULL:
            found[name]["curve"] = run.curve
    return {"runs": found, "load": [round(f(load), 1) for f in (min, max)]}


def choose(seconds: float) -> None:
    """Train on eight ninths of the training text, compare on the first ninth."""
    n_symbols, text, _ = corpus()
    n_chosen_on = len(text) // 9
    held_out = in_windows(text[:n_chosen_on])
    for name, plan in CHOICES.items():
        run = Run(plan, n_symbols, text[n_chosen_on:], 0)
        one = measure.timed(lambda run=run: run.train(run.batches, 10))[0] / 10
        run = Run(plan, n_symbols, text[n_chosen_on:], 0)
        n_steps = int(seconds / one)
        used, _ = measure.timed(lambda run=run, n=n_steps: run.train(run.batches, n))
        loss = evaluate(run.model, held_out)
        print(f"{name}: {n_steps} steps, {used:.1f} s, {loss:.4f}", flush=True)


def baselines() -> dict[str, float]:
    """Nats per character without any training, on the same windows."""
    n_symbols, text, validation = corpus()
    rows, losses = in_windows(validation).tolist(), {"uniform": math.log(n_symbols)}
    for n, name in {1: "unigram", 3: "trigram", 5: "5-gram"}.items():
        model = NGram([text.tolist()], n, n_symbols)
        losses[name] = round(model.mean_loss(rows, skip=1).mean, 4)
    return losses


def summary(seeds: dict[str, dict]) -> dict:
    """Median over the seeds for each run, and its least and largest loss."""
    found = {}
    for name in PLANS:
        rows = [seed["runs"][name] for seed in seeds.values()]
        losses = [row["loss"] for row in rows]
        found[name] = {
            kind: round(statistics.median(row[kind] for row in rows), 4)
            for kind in ("cpu_seconds", "share", "loss")
        } | {"least": min(losses), "largest": max(losses)}
    return found


def described(name: str, plan: Plan, n_steps: int) -> dict:
    model = made(plan, corpus()[0])
    config = asdict(model.config) if isinstance(model, Decoder) else {"source": SOURCE}
    return {
        "share_at_most": plan.share,
        "steps": n_steps,
        "parameters": measure.n_parameters(model),
        "lr": plan.lr,
        "batch": [plan.n_rows, plan.length - 1],
        "recipe": asdict(plan.recipe),
        "model": config,
    }


def main() -> None:
    parser = measure.arguments(__doc__, "training_cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument(
        "--join", action="store_true", help="keep the seeds that the record has"
    )
    parser.add_argument("--choose", type=float, metavar="SECONDS")
    options = parser.parse_args()
    os.environ["MATTN_PROGRESS"] = "0"
    measure.one_thread()
    if options.choose:
        choose(options.choose)
        return
    start(0)
    record = measure.header(note=options.note)
    if options.join:
        before = json.loads(options.to.read_text())
        record["command"] = f"{before['command']} && {record['command']}"
        seeds, n_steps = before["seeds"], before["steps"]
    else:
        seeds, n_steps = {}, steps_that_fit(options.scale)
    record |= {
        "what": "validation loss, nats per character, against CPU time",
        "tuning": TUNING,
        "runs": {name: described(name, PLANS[name], n_steps[name]) for name in PLANS},
        "steps": n_steps,
        "baselines": baselines(),
    }
    for seed in options.seeds:
        seeds[str(seed)] = one_seed(seed, n_steps)
        record |= {"seeds": seeds, "summary": summary(seeds)}
        measure.write(record, options.to)
    print(json.dumps(summary(seeds), indent=1))


if __name__ == "__main__":
    main()
