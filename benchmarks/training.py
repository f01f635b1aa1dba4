"""Loss against CPU time, two recipes by turns; write mattn/records/training_cpu.json.

Characters of tiny Shakespeare, the first 90 % to train, the last 10 % to
validate: nats per character over all non-overlapping windows of 64 characters,
each predicted from those before it in its window and the one before that.

reference: nanoGPT's recipe for a CPU, from its README (github.com/karpathy/nanoGPT),
           not tuned here. GPT-2 blocks (below), 4 layers, 4 heads, width 128,
           context 64, batch 12, 2000 steps, AdamW, cosine.
ours:      mattn's Decoder with embeddings of n-grams, trained with Muon, a run
           of its own for each share of the reference's CPU time.

All runs of a seed go on by turns in one process with one thread: each trains
for a moment, then waits for the others, so that whatever else the machine does
slows them all. What is counted is CPU time (user and system, children
included) from the first batch to the last step. The clock stands while a model
is validated. What was chosen for ours was chosen on the first ninth of the
training text, while the rest was trained on; here all of it is.

    python benchmarks/training.py --seeds 0 1 2
    python benchmarks/training.py --choose 0.5     what the choice rests on
"""

from __future__ import annotations

import itertools
import json
import math
import os
import statistics
import threading
from collections.abc import Iterator
from dataclasses import asdict

import measure
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mattn import Config, Decoder
from mattn.data import Characters, random_windows, tiny_shakespeare, windows
from mattn.losses import evaluate
from mattn.repro import start
from mattn.training import Recipe, fit

N_TURNS = 50
REFERENCE_STEPS, REFERENCE_LR = 2000, 1e-3
REFERENCE_BATCH = {"n_rows": 12, "length": 65}
REFERENCE_RECIPE = Recipe(
    betas=(0.9, 0.99), weight_decay=0.1, decay="cosine", final=0.1, warm_up=0.05
)
# Share of the reference's time → steps that fit into it, on the machine of the record.
OURS = {"1/8": 540, "1/4": 1080, "1": 4300}
OURS_CONFIG = {"n_grams": 4, "dropout": 0.0}
OURS_BATCH = {"n_rows": 16, "length": 64}
OURS_LR = 0.01
OURS_RECIPE = Recipe(muon_lr=0.04, head_lr=0.006, weight_decay=0.1)


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
    """The reference's model: learned positions, tied head, 0.80 M parameters."""

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


CHOICES = {"dropout": (0.0, 0.1), "n_grams": (4, 5)}


def ours(n_symbols: int, **options) -> Decoder:
    config = Config(
        n_symbols=n_symbols,
        d_model=64,
        n_layers=2,
        n_heads=2,
        activation="squared_relu",
        qk_norm=True,
        zero_head=True,
        **OURS_CONFIG | options,
    )
    return Decoder(config)


class Run:
    """A training run that waits for its turn: its model, its clock, its curve."""

    def __init__(self, model: nn.Module, batches: Iterator[Tensor], n_steps: int):
        self.model, self.n_steps = model, n_steps
        self.batches = batches
        self.seconds, self.done = 0.0, False
        self.clock: list[float] = []  # CPU seconds at the end of each turn
        self.error: BaseException | None = None
        self._mine, self._yours = threading.Semaphore(0), threading.Semaphore(0)

    def begin(self, **options) -> None:
        def train() -> None:
            self._mine.acquire()
            try:
                self.history = fit(
                    self.model, self._paced(), n_steps=self.n_steps, **options
                )
            except BaseException as error:
                self.error = error
            self.done = True
            self._yours.release()

        threading.Thread(target=train, daemon=True).start()

    def turn(self) -> None:
        before = measure.cpu_seconds(children=True)
        self._mine.release()
        self._yours.acquire()
        self.seconds += measure.cpu_seconds(children=True) - before
        self.clock.append(self.seconds)
        if self.error is not None:
            raise self.error

    def row(self, reference: float, held_out: Tensor) -> dict:
        """What the record keeps, beside the reference's seconds."""
        return {
            "steps": self.n_steps,
            "cpu_seconds": round(self.seconds, 2),
            "share": round(self.seconds / reference, 4),
            "loss": round(evaluate(self.model, held_out), 4),
        }

    def curve(self) -> list[tuple[float, float]]:
        """CPU seconds at the end of each turn, mean training loss in it."""
        every = max(1, self.n_steps // N_TURNS)
        parts = torch.tensor(self.history.losses).split(every)
        points = zip(self.clock, parts, strict=True)
        return [(round(s, 1), round(float(part.mean()), 3)) for s, part in points]

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


def one_seed(seed: int, scale: float) -> dict:
    n_symbols, train, validation = corpus()
    held_out = windows(validation, length=65, overlap=1)

    def batches(n_rows: int, length: int) -> Iterator[Tensor]:
        draws = torch.Generator().manual_seed(seed)
        return random_windows(train, n_rows=n_rows, length=length, generator=draws)

    def run(model: type, shape: dict, n_steps: int, **options) -> Run:
        torch.manual_seed(seed)
        made = Run(model(n_symbols), batches(**shape), int(n_steps * scale))
        made.begin(**options)
        return made

    runs = {
        "reference": run(
            Reference,
            REFERENCE_BATCH,
            REFERENCE_STEPS,
            lr=REFERENCE_LR,
            recipe=REFERENCE_RECIPE,
        )
    }
    for share, n_steps in OURS.items():
        runs[share] = run(ours, OURS_BATCH, n_steps, lr=OURS_LR, recipe=OURS_RECIPE)
    while waiting := [each for each in runs.values() if not each.done]:
        for each in waiting:
            each.turn()
    found = {}
    for name, each in runs.items():
        found[name] = each.row(runs["reference"].seconds, held_out)
        print(f"seed {seed}, {name}: {found[name]}", flush=True)
        found[name]["curve"] = each.curve()
    return found


def choose(scale: float) -> None:
    """Train on eight ninths of the training text, compare on the first ninth."""
    n_symbols, train, _ = corpus()
    n_chosen_on = len(train) // 9
    held_out = windows(train[:n_chosen_on], length=65, overlap=1)
    for options in itertools.product(*CHOICES.values()):
        chosen = dict(zip(CHOICES, options, strict=True))
        start(0)
        model = ours(n_symbols, **chosen)
        draws = torch.Generator().manual_seed(0)
        rest = train[n_chosen_on:]
        batches = random_windows(rest, **OURS_BATCH, generator=draws)
        n_steps, began = int(OURS["1"] * scale), measure.cpu_seconds(children=True)
        fit(model, batches, n_steps=n_steps, lr=OURS_LR, recipe=OURS_RECIPE)
        seconds = measure.cpu_seconds(children=True) - began
        loss = evaluate(model, held_out)
        print(f"{chosen}: {n_steps} steps, {seconds:.0f} s, {loss:.4f}", flush=True)


def summary(seeds: dict[str, dict]) -> dict:
    """Medians over the seeds, for each run."""
    names = next(iter(seeds.values()))
    return {
        name: {
            kind: round(statistics.median(s[name][kind] for s in seeds.values()), 4)
            for kind in ("cpu_seconds", "share", "loss")
        }
        for name in names
    }


def main() -> None:
    parser = measure.arguments(__doc__, "training_cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--scale", type=float, default=1.0, help="share of the steps")
    parser.add_argument(
        "--join", action="store_true", help="keep the seeds that the record has"
    )
    parser.add_argument("--choose", type=float, metavar="SHARE")
    options = parser.parse_args()
    os.environ["MATTN_PROGRESS"] = "0"
    measure.one_thread()
    if options.choose:
        choose(options.choose)
        return
    start(0)
    header, seeds = measure.header(note=options.note), {}
    if options.join and options.to.is_file():
        before = json.loads(options.to.read_text())
        seeds = before["seeds"]
        header["command"] = f"{before['command']} && {header['command']}"
    for seed in options.seeds:
        seeds[str(seed)] = one_seed(seed, options.scale)
        model, theirs = ours(65), Reference(65)
        measure.write(
            {
                **header,
                "what": "validation loss, nats per character, against CPU time",
                "reference": REFERENCE_BATCH
                | {"lr": REFERENCE_LR, "parameters": measure.n_parameters(theirs)},
                "reference_recipe": asdict(REFERENCE_RECIPE),
                "ours": asdict(model.config)
                | OURS_BATCH
                | {"lr": OURS_LR, "parameters": model.config.n_parameters},
                "ours_recipe": asdict(OURS_RECIPE),
                "seeds": seeds,
                "median": summary(seeds),
            },
            options.to,
        )
    print(json.dumps(summary(seeds), indent=1))


if __name__ == "__main__":
    main()
