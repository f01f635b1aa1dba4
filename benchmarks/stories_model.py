"""Train the models that the book's pages run; write them and what they can do.

Two decoders of 31,264 weights on the book's stories, from the same seed and the
same batches: one covered (causal), one not (full). Their weights go, in float16,
to mattn/web/stories_covered.js and stories_uncovered.js, and what follows is
measured on those, to mattn/records/stories_model.json:

1. loss:      nats a token on stories never seen, beside the least possible one.
2. faultless: the share of written stories that the grammar accepts, and the
              first ones, seed after seed.
3. one cell:  every story of the shortest kind, up to the word before its number:
              the number's probability, and what is likeliest when the last word
              may not look at the number, one cell of 28 × 28.
4. forward:   milliseconds of one forward pass in JavaScript (Node), T = 28:
              median of 15 means of 20.

    python benchmarks/stories_model.py

Another processor trains other weights, alike in what they can do. --to names a
folder for all that is written; --quick makes all of it small, to check the program.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import itertools
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MATTN_PROGRESS"] = "0"

import measure
import playwright
import torch
from torch import Tensor

import mattn
from mattn import Config, Decoder, causal, full, rule
from mattn.data import padded, stories, story_batches
from mattn.generation import generate
from mattn.losses import evaluate, next_token_loss
from mattn.repro import start
from mattn.training import Recipe, fit

SEED, N_STEPS, LR, N_ROWS = 0, 1000, 0.01, 16
RECIPE = Recipe(muon_lr=0.03, weight_decay=0.0)
N_TRAIN, N_HELD_OUT, N_WRITTEN, N_SAMPLES, LONGEST = 6000, 1000, 200, 3, 250
SOURCE = stories()
V = len(SOURCE.vocabulary)  # also the number of the token that begins a story
CONFIG = Config(V + 1, 32, n_layers=2, n_heads=2, qk_norm=True, zero_head=True)
WEB = Path(mattn.__file__).parent / "web"
HEAD = """\
// The decoder that {this}: {n} weights in float16, base64.
// Written by benchmarks/stories_model.py; mattn.pretrained.stories_model reads it,
// and decoder.js, which a page loads beside it. See tests/book/test_stories_model.py.
(globalThis.mattnStories ??= {{}}).{name} = """
TIMED = """
require(process.argv[1]); require(process.argv[2]);
const { read } = mattnDecoder(mattnStories.covered);
const T = 28, mask = Array.from({ length: T }, (_, i) =>
  Array.from({ length: T }, (_, j) => j <= i));
const tokens = Array.from({ length: T }, (_, i) => i);
const runs = (n) => {
  const [cpu, wall] = [process.cpuUsage().user, performance.now()];
  for (let i = 0; i < n; i++) read(tokens, [mask, mask]);
  return [(process.cpuUsage().user - cpu) / 1000 / n, (performance.now() - wall) / n];
};
const [first] = runs(1);
const each = Array.from({ length: 15 }, () => runs(20));
const middle = (c) => each.map((pair) => pair[c]).sort((a, b) => a - b)[7];
console.log(JSON.stringify({ T, node: process.version, first_cpu_ms: first,
  cpu_ms: middle(0), wall_ms: middle(1) }));
"""


def train(covered: bool, n_steps: int) -> tuple[Decoder, float]:
    """The model, and its CPU seconds; the same stories for both kinds."""
    generator = start(SEED)
    sample = SOURCE.sample(N_TRAIN, generator=generator)
    model = Decoder(CONFIG, causal if covered else full)
    draws = torch.Generator().manual_seed(SEED)
    batches = story_batches(sample, n_rows=N_ROWS, filler=V, start=V, generator=draws)
    began = time.process_time()
    fit(model, batches, n_steps=n_steps, lr=LR, recipe=RECIPE, loss=score)
    return model, time.process_time() - began


def score(logits: Tensor, tokens: Tensor) -> Tensor:
    return next_token_loss(logits, tokens, ignore=V)


def name_of(covered: bool) -> str:
    return "covered" if covered else "uncovered"


def store(model: Decoder, covered: bool, folder: Path) -> Path:
    """The weights as a script that a page loads, which is also JSON to cut out."""
    state = model.state_dict()
    flat = torch.cat([tensor.flatten() for tensor in state.values()])
    stored = {
        "config": asdict(model.config),
        "vocabulary": [*SOURCE.vocabulary, "<start>"],
        "tensors": [[name, list(tensor.shape)] for name, tensor in state.items()],
        "weights": base64.b64encode(flat.numpy().astype("<f2").tobytes()).decode(),
    }
    lines = [f'"{key}": {json.dumps(value)}' for key, value in stored.items()]
    kind = "may not look ahead" if covered else "was trained without a mask"
    head = HEAD.format(this=kind, n=f"{len(flat):,}", name=name_of(covered))
    path = folder / f"stories_{name_of(covered)}.js"
    path.write_text(head + "{\n" + ",\n".join(lines) + "\n};\n", encoding="utf-8")
    return path


def losses(model: Decoder, n_stories: int) -> dict:
    """Nats a token on unseen stories: the model's, and those of the grammar."""
    held_out = SOURCE.sample(n_stories, generator=torch.Generator().manual_seed(1))
    total = n_tokens = 0
    for i in range(0, n_stories, N_ROWS):  # as it was trained: rows of like lengths
        rows = sorted(held_out, key=len)[i : i + N_ROWS]
        n = sum(map(len, rows))
        tokens, _ = padded([[V, *story] for story in rows], filler=V)
        total += n * evaluate(model, tokens, ignore=V)
        n_tokens += n
    true = -sum(sum(SOURCE.log_probs(story)) for story in held_out)
    return {"loss": total / n_tokens, "least_on_these": true / n_tokens}


def write(model: Decoder, n: int, seed: int) -> list[list[int]]:
    draws = torch.Generator().manual_seed(seed)
    given = {"generator": draws, "stop": [0], "cached": model.mask is causal}
    return generate(model, [[V]] * n, LONGEST, **given)


def written(model: Decoder, n: int) -> dict:
    """How many stories are faultless, and the first of each of some seeds."""
    texts = write(model, n, SEED)
    faultless = sum(
        len(text) < LONGEST and SOURCE.accepts([*text, 0]) for text in texts
    )
    first = [write(model, 1, seed)[0] for seed in range(N_SAMPLES)]
    return {
        "n_written": n,
        "faultless": faultless / n,
        "samples": [
            {"seed": seed, "text": SOURCE.text(text), "ended": len(text) < LONGEST}
            for seed, text in enumerate(first)
        ],
    }


def shortest() -> Iterator[tuple[list[str], str]]:
    """Every story of the shortest kind up to its last number, and that number."""
    rules, pronoun = SOURCE.rules, SOURCE.tables["pronoun"]
    names = ("NAME", "PLACE", "DAY", "NUMBER", "THING", "PLACE")
    options = [[" ".join(items) for _, items in rules[name]] for name in names]
    for who, home, day, number, thing, place in itertools.product(*options):
        text = (
            f"{who} lived {home} . one {day} {pronoun[who]} found {number} {thing} "
            f"{place} . at last {who} counted the {thing} again . there were still"
        )
        yield text.split(), number


def one_cell(model: Decoder, every: int) -> dict:
    """What the last word makes of each story, and what without the number's cell."""
    told = list(shortest())[::every]
    assert all(SOURCE.accepts(SOURCE.encode(f"{' '.join(w)} {n} .")) for w, n in told)
    tokens = torch.tensor([[V, *SOURCE.encode(" ".join(w))[:-1]] for w, _ in told])
    numbers = torch.tensor([SOURCE.encode(n)[0] for _, n in told])
    T, cell = tokens.shape[1], 1 + told[0][0].index(told[0][1])
    blocked = rule(lambda b, q, k: (q != T - 1) | (k != cell), name="one cell less")
    shares = {}
    with torch.no_grad():
        for name, mask in {"seen": None, "blocked": blocked}.items():
            parts = [model(rows, mask=mask)[:, -1] for rows in tokens.split(1024)]
            shares[name] = torch.cat(parts).softmax(dim=-1)  # (stories, V + 1)
    found = {"n_stories": len(told), "T": T, "cell": [T - 1, cell]}
    for name, p in shares.items():
        likeliest = Counter(SOURCE.vocabulary[i] for i in p.argmax(dim=-1))
        right = p.gather(1, numbers[:, None])
        found[name] = {
            "n_right": int((p.argmax(dim=-1) == numbers).sum()),
            "likeliest": dict(likeliest.most_common()),
            "least_likely_of_these": p.max(dim=-1).values.min().item(),
            "p_number": {
                word: right[[n == word for _, n in told]].mean().item()
                for word in dict.fromkeys(n for _, n in told)
            },
        }
    return found


def forward(folder: Path) -> dict:
    """Times in the Node that comes with Playwright."""
    node = Path(playwright.__file__).parent / "driver" / "node"
    files = [WEB / "decoder.js", folder / "stories_covered.js"]
    run = [node, "-e", TIMED, *files]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, help="a folder for everything")
    parser.add_argument("--quick", action="store_true", help="everything small")
    given = parser.parse_args()
    web, records = given.to or WEB, given.to or measure.RECORDS
    web.mkdir(parents=True, exist_ok=True)
    scale = 50 if given.quick else 1
    out = {
        "what": "two decoders of the book's stories, measured as stored, in float16",
        **measure.header(),
        "quick": given.quick,
        "seed": SEED,
        "n_steps": N_STEPS // scale,
        "n_parameters": CONFIG.n_parameters,
        "floor": SOURCE.entropy_per_token,
    }
    for covered in (True, False):
        model, seconds = train(covered, N_STEPS // scale)
        model = model.half().float().eval()
        path = store(model, covered, web)
        out[name_of(covered)] = {
            "cpu_seconds": seconds,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "gzip_bytes": len(gzip.compress(path.read_bytes())),
            **losses(model, N_HELD_OUT // scale),
            **written(model, N_WRITTEN // scale),
        }
        if covered:
            out["one_cell"] = one_cell(model, every=scale**2)
    out["forward"] = forward(web)
    measure.write(out, records / "stories_model.json")


if __name__ == "__main__":
    main()
