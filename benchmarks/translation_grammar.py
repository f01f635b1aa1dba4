"""English to Chinese by the book's grammar: train as chapter 8 does, record.

For each seed: exact match, BLEU and chrF on sentences with a combination of
words never seen in training and on sentences longer than any in training, with
two baselines beside them. Training alone is timed in CPU-seconds.
"""

from __future__ import annotations

import argparse
import time

import record as records
import torch

from mattn.data import Words, pair_batches, split_pairs, translation_grammar
from mattn.data.pairs import END, START
from mattn.generation import translate
from mattn.metrics import exact_match, translation_scores
from mattn.models import Config, EncoderDecoder
from mattn.repro import start
from mattn.training import Recipe, fit, translation_loss

LONGEST = 80  # tokens of a translation


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--seeds", type=int, nargs="+", default=[0])
    ask.add_argument("--pairs", type=int, default=30_000)
    ask.add_argument("--test", type=int, default=1000, help="pairs of each test split")
    ask.add_argument("--steps", type=int, default=1500)
    ask.add_argument("--tokens", type=int, default=1536, help="a batch, either side")
    ask.add_argument("--width", type=int, default=64)
    ask.add_argument("--layers", type=int, default=2)
    ask.add_argument("--heads", type=int, default=2)
    ask.add_argument("--lr", type=float, default=4e-3)
    ask.add_argument("--muon-lr", type=float, default=0.02)
    ask.add_argument("--to", default=str(records.RECORDS / "translation_grammar.json"))
    given = ask.parse_args()

    sizes = {"train": given.pairs, "new": given.test, "longer": given.test}
    splits = split_pairs(sizes, generator=start(0))
    runs = [run(seed, splits, given) for seed in given.seeds]
    settings = {k: v for k, v in vars(given).items() if k not in ("to", "seeds")}
    result = {
        "what": "English to Chinese by the synchronous grammar: unseen combinations "
        "(new), longer sentences (longer)",
        **records.header(
            note="a virtual machine shared with other work; CPU-seconds are those of "
            "this process"
        ),
        "settings": settings,
        "runs": runs,
        "baselines": baselines(splits),
    }
    records.write(result, records.Path(given.to))


def run(seed: int, splits: dict, given) -> dict:
    """Train from one seed; score both splits."""
    generator = start(seed)
    grammar = translation_grammar()
    english = Words(grammar.english_vocabulary)
    chinese = Words(grammar.chinese_vocabulary)
    sizes = {
        "d_model": given.width,
        "n_layers": given.layers,
        "n_heads": given.heads,
    }
    model = EncoderDecoder(
        Config(n_symbols=len(chinese), tied=True, **sizes),
        Config(n_symbols=len(english), **sizes),
    )
    pairs = [
        (english.encode(p.english), chinese.encode(p.chinese)) for p in splits["train"]
    ]
    began = time.process_time()
    history = fit(
        model,
        pair_batches(pairs, n_tokens=given.tokens, generator=generator),
        n_steps=given.steps,
        lr=given.lr,
        recipe=Recipe(muon_lr=given.muon_lr),
        loss=translation_loss,
    )
    found = {
        "seed": seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_cpu_seconds": round(time.process_time() - began, 1),
        "final_loss": round(sum(history.losses[-50:]) / 50, 4),
    }
    for split in ("new", "longer"):
        sources = [english.encode(p.english) for p in splits[split]]
        rows = translate(model, sources, LONGEST, start=START, stop=END)
        written = ["".join(chinese.decode(row)) for row in rows]
        found[split] = scores(written, [p.translation for p in splits[split]])
        print(seed, split, found[split], flush=True)
    return found


def baselines(splits: dict) -> dict:
    """The dictionary, word by word, and the nearest training sentence."""
    word_for = translation_grammar().dictionary
    bags = [set(p.english) for p in splits["train"]]
    known = sorted(set().union(*bags))
    trained = torch.zeros(len(bags), len(known))
    place = {word: i for i, word in enumerate(known)}
    for row, bag in zip(trained, bags, strict=True):
        row[[place[word] for word in bag]] = 1
    found: dict = {}
    for split in ("new", "longer"):
        right = [p.translation for p in splits[split]]
        by_word = [
            "".join(word_for.get(word, "") for word in p.english) for p in splits[split]
        ]
        nearest = []
        for p in splits[split]:
            own = torch.zeros(len(known))
            own[[place[word] for word in p.english]] = 1
            common = trained @ own
            share = common / (trained.sum(dim=1) + own.sum() - common)
            nearest.append(splits["train"][int(share.argmax())].translation)
        found[split] = {
            "dictionary": scores(by_word, right),
            "nearest": scores(nearest, right),
        }
    return found


def scores(written: list[str], right: list[str]) -> dict:
    """Exact match with its error, BLEU and chrF with interval and signature."""
    exact = exact_match(written, right)
    found = {"exact": {"share": round(exact.mean, 4), "error": round(exact.error, 4)}}
    for name, s in translation_scores(written, right, tokenize="zh").items():
        found[name] = {
            "score": round(float(s.score), 2),
            "low": round(float(s.low), 2),
            "high": round(float(s.high), 2),
            "signature": s.signature,
        }
    return found


if __name__ == "__main__":
    main()
