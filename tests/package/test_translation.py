"""Translating: the three masks, batch-mates, beams, and the smoothed loss."""

import functools
import importlib
import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from roots import ROOT

import mattn
from mattn.checks import influence
from mattn.config import Config
from mattn.data.pairs import END, PAD, START, pair_batches
from mattn.generation import Conditioned, beam_search, log_probs, translate
from mattn.losses import translation_loss
from mattn.models import EncoderDecoder
from mattn.training import Recipe, fit

V = 13
WAYS = ("teacher_forced", "free_running")
RECORDS = Path(mattn.__file__).parent / "records"


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(seed=0, **more):
    torch.manual_seed(seed)
    target = Config(n_symbols=V, d_model=24, n_layers=2, n_heads=2, **more)
    source = Config(n_symbols=17, d_model=24, n_layers=1, n_heads=2)
    return EncoderDecoder(target, source).eval()


def reversals(n, seed=0):
    """Sources of 1 to 5 symbols; the target is the source reversed."""
    generator = draw(seed)
    rows = []
    for _ in range(n):
        length = int(torch.randint(1, 6, (), generator=generator))
        row = torch.randint(4, V, (length,), generator=generator).tolist()
        rows.append((row, row[::-1]))
    return rows


@pytest.fixture(scope="module")
def trained():
    model = tiny()
    batches = pair_batches(reversals(600), n_tokens=256, generator=draw(1))
    loss = functools.partial(translation_loss, ignore=PAD, smoothing=0.1)
    recipe = Recipe(muon_lr=0.02)
    fit(model, batches, n_steps=250, lr=5e-3, recipe=recipe, loss=loss)
    return model.eval()


def test_training_goes_on_from_a_checkpoint_with_the_same_curve(tmp_path):
    def train(stop_at=None, **more):
        def batches():
            source = pair_batches(reversals(80), n_tokens=64, generator=draw(1))
            for step, batch in enumerate(source):
                if step == stop_at:
                    raise KeyboardInterrupt
                yield batch

        model, recipe = tiny(), Recipe(muon_lr=0.02)
        options = {"n_steps": 12, "lr": 5e-3, "recipe": recipe} | more
        return fit(model, batches(), loss=translation_loss, **options), model

    whole, model = train()
    file = tmp_path / "run.safetensors"
    with pytest.raises(KeyboardInterrupt):
        train(stop_at=7, checkpoint=file)
    again, other = train(checkpoint=file)
    assert again.losses == whole.losses
    pairs = zip(model.parameters(), other.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_what_each_part_may_see():
    """Encoder: everything. Decoder: the past. Cross-attention: the whole source."""
    model = tiny()
    source = torch.tensor([5, 6, 7, 8])
    tokens = torch.tensor([1, 9, 4, 10, 6])
    given = {"n_symbols": V, "generator": draw(), "n_tries": 4}
    encoded = influence(lambda s: model.encode(s[None])[0], source, **given)
    assert encoded.all()
    past = influence(lambda t: model(source[None], t[None])[0], tokens, **given)
    assert torch.equal(past, torch.ones(5, 5).tril().bool())
    crossed = influence(lambda s: model(s[None], tokens[None])[0], source, **given)
    assert crossed.shape == (5, 4)
    assert crossed.all()


def test_padding_reaches_nothing():
    model = tiny()
    source = torch.tensor([[5, 6, 7, 8, 9]])
    tokens = torch.tensor([[1, 9, 4]])
    short = torch.tensor([3])
    reached = influence(
        lambda s: model(s[None], tokens, short)[0],
        source[0],
        n_symbols=V,
        generator=draw(),
        n_tries=4,
    )
    assert reached[:, :3].all()
    assert not reached[:, 3:].any()
    # Without the lengths, the padding is read as if it were source.
    missing = influence(
        lambda s: model(s[None], tokens)[0],
        source[0],
        n_symbols=V,
        generator=draw(),
        n_tries=4,
    )
    assert missing[:, 3:].all()


def test_it_learns_and_batch_mates_change_nothing(trained):
    pairs = reversals(40, seed=9)
    sources = [source for source, _ in pairs]
    ask = functools.partial(translate, trained, n_tokens=8, start=START, stop=END)
    together = ask(sources)
    right = sum(out == target for out, (_, target) in zip(together, pairs, strict=True))
    assert right >= 10  # by chance, next to none
    assert together == [ask([source])[0] for source in sources]
    assert together == ask(sources[::-1])[::-1]
    beams = ask(sources[:8], n_beams=3)
    assert beams == [ask([source], n_beams=3)[0] for source in sources[:8]]


def test_cached_equals_uncached(trained):
    source, lengths = torch.tensor([[5, 6, 7, 0], [8, 9, 4, 11]]), torch.tensor([3, 4])
    reader = Conditioned(trained, source, lengths)
    found = [
        beam_search(reader, [[START]] * 2, 7, n_beams=3, stop=[END], cached=cached)
        for cached in (True, False)
    ]
    for cached, plain in zip(*found, strict=True):
        assert [h.tokens for h in cached] == [h.tokens for h in plain]


def test_beams_rescored_by_teacher_forcing_agree(trained):
    source, lengths = torch.tensor([[5, 6, 7, 0], [8, 9, 4, 11]]), torch.tensor([3, 4])
    found = beam_search(
        Conditioned(trained, source, lengths), [[START]] * 2, 7, n_beams=4, stop=[END]
    )
    for b, hypotheses in enumerate(found):
        alone = Conditioned(trained, source[b : b + 1], lengths[b : b + 1])
        for hypothesis in hypotheses:
            again = log_probs(alone, [START], hypothesis.tokens).sum().item()
            assert abs(again - hypothesis.log_prob) < 1e-4


def test_a_beam_of_full_width_is_exhaustive_search():
    torch.manual_seed(3)
    config = Config(n_symbols=4, d_model=8, n_layers=1, n_heads=1)
    model = EncoderDecoder(config).eval()
    reader = Conditioned(model, torch.tensor([[3, 1, 3]]))
    best = beam_search(reader, [[START]], 3, n_beams=64, stop=[END])[0][0]
    every = []
    for n in (1, 2, 3):
        for text in itertools.product(range(4), repeat=n):
            ended = text[-1] == END or n == 3
            if ended and END not in text[:-1]:
                every.append((log_probs(reader, [START], text).sum().item(), [*text]))
    assert best.tokens == max(every)[1]
    assert best.log_prob == pytest.approx(max(every)[0], abs=1e-4)


def test_smoothed_loss_by_hand():
    """Two targets, the second of them padding, three symbols."""
    logits = torch.log(torch.tensor([[[0.1, 0.2, 0.7], [0.5, 0.4, 0.1], [1, 1, 1.0]]]))
    tokens = torch.tensor([[1, 2, 0]])
    batch = (tokens, tokens, torch.tensor([3]))
    plain = translation_loss(logits, batch, ignore=0, smoothing=0.0)
    assert plain.item() == pytest.approx(-math.log(0.7), abs=1e-6)
    smooth = translation_loss(logits, batch, ignore=0, smoothing=0.3)
    by_hand = -(0.8 * math.log(0.7) + 0.1 * math.log(0.1) + 0.1 * math.log(0.2))
    assert smooth.item() == pytest.approx(by_hand, abs=1e-6)


def test_padding_of_targets_does_not_count():
    torch.manual_seed(0)
    logits, tokens = torch.randn(2, 4, V), torch.tensor([[1, 5, 2, 0], [1, 6, 7, 2]])
    batch = (tokens, tokens, torch.tensor([3, 4]))
    other = logits.clone()
    other[0, 2:] += 100 * torch.randn(2, V)  # scores padding, or nothing
    both = [translation_loss(x, batch, ignore=PAD) for x in (logits, other)]
    assert both[0] == both[1]


def test_empty_sources_are_refused():
    with pytest.raises(ValueError, match="source"):
        translate(tiny(), [[5], []], 4, start=START, stop=END)
    with pytest.raises(ValueError, match="sources"):
        translate(tiny(), [], 4, start=START, stop=END)


def test_sources_longer_than_the_context_are_refused():
    config = Config(n_symbols=V, d_model=8, n_layers=1, n_heads=1, context=4)
    model = EncoderDecoder(config)
    ask = functools.partial(translate, model, n_tokens=3, start=START, stop=END)
    assert len(ask([[5, 6, 7, 8]])) == 1
    with pytest.raises(ValueError, match=r"at most 4 tokens.*got 5"):
        ask([[5, 6], [5, 6, 7, 8, 9]])


def shape_of(value):
    """The names in a record, whatever the numbers; of a list, its first entry."""
    if isinstance(value, dict):
        return {name: shape_of(each) for name, each in value.items()}
    return [shape_of(value[0])] if isinstance(value, list) else None


def test_the_benchmark_writes_what_the_record_holds(tmp_path, monkeypatch):
    """On sentences of our own, as Multi30k is not in the tree."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    program = importlib.import_module("translation")
    pairs = [(f"Ein {w} läuft .", f"A {w} runs .") for w in ("Hund", "Kind", "Mann")]
    monkeypatch.setattr(program, "multi30k", lambda split, download: pairs * 3)
    path = tmp_path / "made.json"
    small = "--quick --steps 4 --width 32 --layers 1 --symbols 60"
    monkeypatch.setattr(sys, "argv", ["translation.py", *small.split(), f"--to={path}"])
    monkeypatch.setenv("MATTN_PROGRESS", "0")
    program.main()
    made = json.loads(path.read_text())
    assert made["quick"]
    assert made["test_sentences"] == 9
    assert made["command"] == f"python benchmarks/translation.py {small}"
    held = json.loads((RECORDS / "translation_cpu.json").read_text())
    assert shape_of(made) == shape_of(held)


def test_the_record_is_of_the_whole_test_set_and_reaches_its_goal():
    record = json.loads((RECORDS / "translation_cpu.json").read_text())
    assert not record["quick"]
    assert record["test_sentences"] == 1000
    assert record["threads"] == 1
    assert record["training_cpu_seconds"] < 600
    assert record["scores"]["beam 5"]["BLEU"]["score"] >= 34
    for scores in record["scores"].values():
        assert "case:mixed" in scores["BLEU"]["signature"]
        assert "tok:13a" in scores["BLEU"]["signature"]
        for metric in ("BLEU", "chrF"):
            score = scores[metric]
            assert score["low"] < score["score"] < score["high"]
    exposure = record["exposure"]
    forced, free = (exposure[f"{way}_sentences_right"] for way in WAYS)
    assert abs(forced - free) < 0.005
    seconds = [point["cpu_seconds"] for point in record["curve"]]
    assert seconds == sorted(seconds)
