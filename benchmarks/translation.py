"""German to English on Multi30k: train, translate the test set, record.

One command repeats it, with the data in the folder that MATTN_DATA names, or
downloaded (--download). Training alone is timed, in CPU-seconds: the clock
stands while the model is validated.
"""

from __future__ import annotations

import argparse
import functools
import time

import record as records
import torch

from mattn.config import Config
from mattn.data.corpora import multi30k
from mattn.data.pairs import END, PAD, START, BytePairs, pair_batches
from mattn.data.tokens import padded
from mattn.generation import translate
from mattn.losses import translation_loss
from mattn.metrics import translation_scores
from mattn.models import EncoderDecoder
from mattn.repro import start
from mattn.training import Recipe, fit

LONGEST = 60  # tokens of a translation


def main() -> None:
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--steps", type=int, default=2000)
    ask.add_argument("--tokens", type=int, default=1024, help="a batch, either side")
    ask.add_argument("--width", type=int, default=128)
    ask.add_argument("--layers", type=int, default=2)
    ask.add_argument("--symbols", type=int, default=3000)
    ask.add_argument("--dropout", type=float, default=0.0)
    ask.add_argument("--lr", type=float, default=4e-3)
    ask.add_argument("--muon-lr", type=float, default=0.02)
    ask.add_argument("--beams", type=int, default=5)
    ask.add_argument("--seed", type=int, default=0)
    ask.add_argument("--download", action="store_true")
    ask.add_argument("--checkpoint", help="a file to go on from if it is there")
    ask.add_argument("--quick", action="store_true", help="20 sentences: a trial")
    ask.add_argument("--to", default=str(records.RECORDS / "translation_cpu.json"))
    given = ask.parse_args()

    generator = start(given.seed)
    data = {
        split: multi30k(split, download=given.download)
        for split in ("train", "val", "test_2016_flickr")
    }
    if given.quick:
        data = {split: pairs[:20] for split, pairs in data.items()}
    joint = BytePairs((text for pair in data["train"] for text in pair), given.symbols)
    tokens = {
        split: [(joint.encode(german), joint.encode(english)) for german, english in p]
        for split, p in data.items()
    }
    config = Config(
        n_symbols=len(joint),
        d_model=given.width,
        n_layers=given.layers,
        n_heads=given.width // 32,
        tied=True,
        dropout=given.dropout,
    )
    model = EncoderDecoder(config)
    recipe = Recipe(muon_lr=given.muon_lr, betas=(0.9, 0.98), weight_decay=0.01)
    curve: list[dict] = []
    began, validating = time.process_time(), 0.0

    def trained_for() -> float:
        return time.process_time() - began - validating

    def batches():
        """The training batches; every 300 steps the validation loss is noted."""
        source = pair_batches(
            tokens["train"], n_tokens=given.tokens, generator=generator
        )
        for step, batch in enumerate(source):
            if step and step % 300 == 0:
                note(step)
            yield batch

    def note(step: int) -> None:
        nonlocal validating
        seconds, before = trained_for(), time.process_time()
        loss = teacher_forced(model, tokens["val"])[0]
        validating += time.process_time() - before
        curve.append(
            {
                "step": step,
                "cpu_seconds": round(seconds, 1),
                "validation_nats_per_token": round(loss, 4),
            }
        )
        print(curve[-1], flush=True)

    history = fit(
        model,
        batches(),
        n_steps=given.steps,
        lr=given.lr,
        recipe=recipe,
        loss=functools.partial(translation_loss, ignore=PAD, smoothing=0.1),
        checkpoint=given.checkpoint,
    )
    training_seconds = trained_for()
    note(given.steps)

    test = data["test_2016_flickr"]
    sources = [source for source, _ in tokens["test_2016_flickr"]]
    references = [english for _, english in test]
    scores, outputs, found_by = {}, {}, {}
    for name, n_beams in (("greedy", 1), (f"beam {given.beams}", given.beams)):
        before = time.process_time()
        found = translate(
            model, sources, LONGEST, start=START, stop=END, n_beams=n_beams
        )
        found_by[name] = found
        outputs[name] = [joint.decode(row) for row in found]
        metrics = translation_scores(outputs[name], references)
        scores[name] = {
            m: {
                "score": round(float(s.score), 2),
                "low": round(float(s.low), 2),
                "high": round(float(s.high), 2),
                "signature": s.signature,
            }
            for m, s in metrics.items()
        }
        scores[name]["cpu_seconds"] = round(time.process_time() - before, 1)
        print(name, *(str(s) for s in metrics.values()), flush=True)

    stride = max(1, given.steps // 200)
    hidden = ("checkpoint", "download", "quick", "to")
    result = {
        "what": "German to English, Multi30k, test_2016_flickr, whole test set, cased, "
        "detokenised",
        **records.header(
            note="a virtual machine shared with other work; CPU-seconds are those of "
            "this process"
        ),
        "quick": given.quick,
        "settings": {k: v for k, v in vars(given).items() if k not in hidden},
        "parameters": sum(p.numel() for p in model.parameters()),
        "training_cpu_seconds": round(training_seconds, 1),
        "test_sentences": len(test),
        "scores": scores,
        "exposure": exposure(model, tokens["test_2016_flickr"], found_by["greedy"]),
        "curve": curve,
        "training_loss": {
            "stride": stride,
            "smoothing": 0.1,
            "nats_per_token": [round(x, 3) for x in history.losses[::stride]],
        },
        "gpu": "not measured: what this model reaches when trained to convergence",
    }
    records.write(result, records.Path(given.to))


@torch.no_grad()
def teacher_forced(model, pairs) -> tuple[float, float, float]:
    """Mean loss in nats, share of tokens right, share of sentences all right."""
    model.eval()
    loss = n_right = n_tokens = n_sentences = 0
    for i in range(0, len(pairs), 128):
        some = pairs[i : i + 128]
        source, lengths = padded([s for s, _ in some], filler=PAD)
        target, _ = padded([[START, *t, END] for _, t in some], filler=PAD)
        logits = model(source, target, lengths)
        counted = target[:, 1:] != PAD
        n = int(counted.sum())
        batch = (source, target, lengths)
        loss += n * float(translation_loss(logits, batch, ignore=PAD, smoothing=0.0))
        right = logits[:, :-1].argmax(dim=-1) == target[:, 1:]
        n_right += int((right & counted).sum())
        n_sentences += int((right | ~counted).all(dim=1).sum())
        n_tokens += n
    model.train()
    return loss / n_tokens, n_right / n_tokens, n_sentences / len(pairs)


def exposure(model, pairs, outputs) -> dict:
    """Right tokens by position, with the reference's past and with the model's own.

    Sentences that are right throughout are the same ones either way.
    """
    _, tokens_right, sentences_right = teacher_forced(model, pairs)
    n_tokens = n_right = n_sentences = 0
    for (_, target), output in zip(pairs, outputs, strict=True):
        expected, got = [*target, END], [*output, END]
        n_right += sum(a == b for a, b in zip(expected, got, strict=False))
        n_tokens += len(expected)
        n_sentences += expected == got
    return {
        "teacher_forced_tokens_right": round(tokens_right, 4),
        "free_running_tokens_right_in_place": round(n_right / n_tokens, 4),
        "teacher_forced_sentences_right": round(sentences_right, 4),
        "free_running_sentences_right": round(n_sentences / len(pairs), 4),
    }


if __name__ == "__main__":
    main()
