"""German to English on Multi30k: train, translate the test set, record.

One command repeats it, with the data in the folder that MATTN_DATA names, or
downloaded (--download). Training alone is timed, in CPU-seconds: the clock
stands while the model is validated.
"""

from __future__ import annotations

import functools
from argparse import Namespace
from collections.abc import Iterable, Iterator

import measure
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
from mattn.training import History, Recipe, fit

LONGEST = 60  # tokens of a translation
SMOOTHING = 0.1
TEST = "test_2016_flickr"


def main() -> None:
    given = _options()
    generator = start(given.seed)
    data = sentences(given)
    joint = BytePairs((text for pair in data["train"] for text in pair), given.symbols)
    tokens = {
        split: [(joint.encode(german), joint.encode(english)) for german, english in p]
        for split, p in data.items()
    }
    model = build(given, len(joint))
    training = Training(model, tokens["val"])
    history = training.run(
        pair_batches(tokens["train"], n_tokens=given.tokens, generator=generator), given
    )
    references = [english for _, english in data[TEST]]
    scores, greedy = translated(model, joint, tokens[TEST], references, given.beams)
    stride = max(1, given.steps // 200)
    hidden = ("checkpoint", "download", "quick", "to", "note")
    result = {
        "what": "German to English, Multi30k, test_2016_flickr, whole test set, cased, "
        "detokenised",
        **measure.header(note=given.note),
        "quick": given.quick,
        "settings": {k: v for k, v in vars(given).items() if k not in hidden},
        "parameters": measure.n_parameters(model),
        "training_cpu_seconds": round(training.seconds, 1),
        "test_sentences": len(references),
        "scores": scores,
        "exposure": exposure(model, tokens[TEST], greedy),
        "curve": training.curve,
        "training_loss": {
            "stride": stride,
            "smoothing": SMOOTHING,
            "nats_per_token": [round(x, 3) for x in history.losses[::stride]],
        },
        "gpu": "not measured: what this model reaches when trained to convergence",
    }
    measure.write(result, given.to)


def _options() -> Namespace:
    ask = measure.arguments(__doc__, "translation_cpu")
    ask.set_defaults(
        note="a virtual machine shared with other work; CPU-seconds are those of "
        "this process"
    )
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
    return ask.parse_args()


def sentences(given: Namespace) -> dict[str, list[tuple[str, str]]]:
    """Split → pairs (German, English); a few of them for a trial."""
    data = {
        split: multi30k(split, download=given.download)
        for split in ("train", "val", TEST)
    }
    return {s: pairs[:20] for s, pairs in data.items()} if given.quick else data


def build(given: Namespace, n_symbols: int) -> EncoderDecoder:
    config = Config(
        n_symbols=n_symbols,
        d_model=given.width,
        n_layers=given.layers,
        n_heads=given.width // 32,
        tied=True,
        dropout=given.dropout,
    )
    return EncoderDecoder(config)


class Training:
    """A training run, its clock, which stands during validation, and its curve."""

    def __init__(self, model: EncoderDecoder, validation: list):
        self.model, self.validation = model, validation
        self.seconds = 0.0
        self.curve: list[dict] = []

    def run(self, batches: Iterable, given: Namespace) -> History:
        self._began = measure.cpu_seconds()
        recipe = Recipe(muon_lr=given.muon_lr, betas=(0.9, 0.98), weight_decay=0.01)
        history = fit(
            self.model,
            self._noted(batches),
            n_steps=given.steps,
            lr=given.lr,
            recipe=recipe,
            loss=functools.partial(translation_loss, ignore=PAD, smoothing=SMOOTHING),
            checkpoint=given.checkpoint,
        )
        self._note(given.steps)
        return history

    def _noted(self, batches: Iterable) -> Iterator:
        """The batches; every 300 steps the validation loss is noted."""
        for step, batch in enumerate(batches):
            if step and step % 300 == 0:
                self._note(step)
            yield batch

    def _note(self, step: int) -> None:
        self.seconds += measure.cpu_seconds() - self._began
        loss = teacher_forced(self.model, self.validation)[0]
        self._began = measure.cpu_seconds()
        self.curve.append(
            {
                "step": step,
                "cpu_seconds": round(self.seconds, 1),
                "validation_nats_per_token": round(loss, 4),
            }
        )
        print(self.curve[-1], flush=True)


def translated(
    model: EncoderDecoder, joint: BytePairs, pairs: list, references: list, n_beams: int
) -> tuple[dict, list]:
    """Scores of greedy and of beam search, and what the greedy one wrote."""
    sources = [source for source, _ in pairs]
    scores, written = {}, {}
    for name, n in (("greedy", 1), (f"beam {n_beams}", n_beams)):

        def search(name=name, n=n) -> dict:
            written[name] = translate(
                model, sources, LONGEST, start=START, stop=END, n_beams=n
            )
            texts = [joint.decode(row) for row in written[name]]
            return translation_scores(texts, references)

        seconds, metrics = measure.timed(search)
        scores[name] = {
            m: {
                "score": round(float(s.score), 2),
                "low": round(float(s.low), 2),
                "high": round(float(s.high), 2),
                "signature": s.signature,
            }
            for m, s in metrics.items()
        }
        scores[name]["cpu_seconds"] = round(seconds, 1)
        print(name, *(str(s) for s in metrics.values()), flush=True)
    return scores, written["greedy"]


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
