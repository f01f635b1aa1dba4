"""What generation and its filters refuse, and in which words.

The cases run in a process of their own, without the checks of shapes: this
file, executed as a program.
"""

import json
import math
import re

import pytest
import torch
from refusals import messages, printed

from mattn import Config, Decoder, EncoderDecoder
from mattn.generation import (
    Conditioned,
    beam_search,
    generate,
    log_probs,
    min_p,
    repetition_penalty,
    stream,
    temperature,
    top_k,
    top_p,
    translate,
)

NO_TOKENS = torch.zeros(1, 0, dtype=torch.long)


def decoder(**options):
    return Decoder(Config(n_symbols=11, d_model=16, n_layers=1, n_heads=2, **options))


def translator():
    config, source = (
        Config(n_symbols=n, d_model=16, n_layers=1, n_heads=2) for n in (11, 5)
    )
    return EncoderDecoder(config, source)


def two_sources():
    return Conditioned(translator(), torch.tensor([[1, 2], [3, 4]]))


def gen(**given):
    return lambda: generate(
        **{"model": decoder(), "prompts": [[1]], "n_tokens": 3} | given
    )


def beams(**given):
    whole = {"model": decoder(), "prompts": [[1]], "n_tokens": 3, "n_beams": 2}
    return lambda: beam_search(**whole | given)


def streamed(**given):  # not one token is asked for
    return lambda: stream(**{"model": decoder(), "prompt": [1], "n_tokens": 3} | given)


def translated(**given):
    whole = {"sources": [[1]], "n_tokens": 3, "start": 1, "stop": 2}
    return lambda: translate(translator(), **whole | given)


def filtered(make, logits, tokens=NO_TOKENS):
    return lambda: make(torch.as_tensor(logits), tokens)


NAN, INF = float("nan"), math.inf
REFUSED = {
    "prompts without brackets": (gen(prompts=[1, 2, 3]), "prompt 0: .*got 1.*brackets"),
    "text": (gen(prompts=["abc"]), "prompt 0: .*got 'abc'.*Encode"),
    "one text": (gen(prompts="abc"), "prompts: .*got 'abc'.*Encode"),
    "no prompts": (gen(prompts=[]), "at least one prompt; got none"),
    "no tokens": (gen(prompts=torch.zeros(2, 0)), "at least one token in every"),
    "floats": (gen(prompts=torch.ones(1, 2)), "prompt 0: .*got 1.0"),
    "bools": (gen(prompts=[[True]]), "prompt 0: .*got True"),
    "-100": (gen(prompts=[[-100, 2, 1]]), "prompt 0: .*0 to 10; got -100"),
    "V": (gen(prompts=[[1], [11]]), "prompt 1: .*0 to 10; got 11"),
    "stop in letters": (gen(stop="ab"), "stop: .*got 'ab'"),
    "stop in rows": (gen(stop=[[1, 2]]), r"stop: .*got \[1, 2\]"),
    "stop V": (gen(stop=[11]), "stop: .*0 to 10; got 11"),
    "stop -1": (gen(stop=-1), "stop: .*0 to 10; got -1"),
    "stop None": (gen(stop=None), "stop: .*got None"),
    "half a token": (gen(n_tokens=2.5), "n_tokens >= 0; got 2.5"),
    "fewer than none": (gen(n_tokens=-1), "n_tokens >= 0; got -1"),
    "a seed": (gen(generator=0), r"a torch.Generator; got 0.*manual_seed"),
    "a number as filters": (gen(filters=0.5), "filters such as.*got 0.5"),
    "a number as filter": (gen(filters=[0.5]), "filters such as.*got 0.5"),
    "all removed": (
        gen(filters=lambda logits, tokens: logits - INF),
        "leave each row a token; got −∞ throughout for row 0",
    ),
    "another shape": (
        gen(filters=lambda logits, tokens: logits[:, :3]),
        r"logits \(1, 11\).*got \(1, 3\)",
    ),
    "rows and sources": (
        gen(model=two_sources(), prompts=[[1]] * 3),
        "as many prompts as sources, 2, or a multiple; got 3",
    ),
    "one row of two": (streamed(model=two_sources()), "sources, 2.*got 1"),
    "beams and sources": (
        beams(model=two_sources(), prompts=[[1]] * 3, n_beams=1),
        "sources, 2.*got 3",
    ),
    "scored beside sources": (lambda: log_probs(two_sources(), [1], [2]), "sources, 2"),
    "streamed text": (streamed(prompt="abc"), "prompt: .*got 'abc'"),
    "streamed rows": (streamed(prompt=[[1]]), r"prompt: .*got \[1\]"),
    "a streamed -1": (streamed(prompt=[-1]), "prompt: .*got -1"),
    "a streamed seed": (streamed(generator=0), "a torch.Generator; got 0"),
    "streamed, stop V": (streamed(stop=11), "stop: .*got 11"),
    "streamed, empty": (streamed(prompt=[]), "at least one token"),
    "beams of -1": (beams(prompts=[[-1]]), "prompt 0: .*got -1"),
    "beams to V": (beams(stop=11), "stop: .*got 11"),
    "no beams": (beams(n_beams=0), "n_beams >= 1; got 0"),
    "half a beam": (beams(n_beams=1.5), "n_beams >= 1; got 1.5"),
    "beams of nothing": (beams(n_tokens=0), "n_tokens >= 1; got 0"),
    "NaN for length": (beams(length_penalty=NAN), "length_penalty.*got nan"),
    "short is good": (beams(length_penalty=-1), "length_penalty.*got -1"),
    "scores of -1": (lambda: log_probs(decoder(), [1], [-1]), "continuation: .*got -1"),
    "scores of V": (lambda: log_probs(decoder(), [11], [1]), "prompt: .*got 11"),
    "scores of nothing": (lambda: log_probs(decoder(), [], [1]), "one token of prompt"),
    "scores beyond the context": (
        lambda: log_probs(decoder(context=4), [1], [2] * 5),
        "at most 4 tokens.*got 5",
    ),
    "no source": (translated(sources=[]), "expected sources; got none"),
    "an empty source": (translated(sources=[[1], []]), r"source \[1\]; got none"),
    "a source of -1": (translated(sources=[[1], [-1]]), "source 1: .*0 to 4; got -1"),
    "a source of V": (translated(sources=[[5]]), "source 0: .*0 to 4; got 5"),
    "start V": (translated(start=11), "start: .*0 to 10; got 11"),
    "stops": (translated(stop=[2]), r"stop: .*got \[2\]"),
    "translated by no beam": (translated(n_beams=0), "n_beams >= 1; got 0"),
    "translated by -1": (translated(n_tokens=-1), "n_tokens >= 0; got -1"),
    "nothing to read": (
        lambda: Conditioned(translator(), torch.zeros(0, 3).long()),
        r"at least one source of one token; got \(0, 3\)",
    ),
    "length 0": (
        lambda: Conditioned(translator(), torch.ones(1, 3).long(), torch.tensor([0])),
        r"source_lengths of 1 to 3.*got \[0\]",
    ),
    "one length too many": (
        lambda: Conditioned(
            translator(), torch.ones(1, 3).long(), torch.ones(2).long()
        ),
        r"one for each of 1 sources; got \[1, 1\]",
    ),
    "temperature NaN": (lambda: temperature(NAN), "t >= 0; got nan"),
    "temperature in words": (lambda: temperature("1"), "t >= 0; got '1'"),
    "temperature None": (lambda: temperature(None), "t >= 0; got None"),
    "half a token kept": (lambda: top_k(1.5), "k >= 1; got 1.5"),
    "p NaN": (lambda: top_p(NAN), "0 <= p <= 1; got nan"),
    "min_p NaN": (lambda: min_p(NAN), "0 <= p <= 1; got nan"),
    "penalty ∞": (lambda: repetition_penalty(INF), "penalty >= 1.*got inf"),
    "penalty NaN": (lambda: repetition_penalty(NAN), "penalty >= 1.*got nan"),
    "a token below -1": (
        filtered(repetition_penalty(2), [[1.0, 2]], torch.tensor([[-2]])),
        r"of 0 to 1, and −1.*got \[\[-2\]\]",
    ),
    "a token V": (
        filtered(repetition_penalty(2), [[1.0, 2]], torch.tensor([[2]])),
        "of 0 to 1.*got",
    ),
}
for name, make in {
    "temperature": temperature(0.5),
    "greedy": temperature(0),
    "top_k": top_k(2),
    "top_p": top_p(0.5),
    "all": top_p(1),
    "min_p": min_p(0.5),
    "penalty": repetition_penalty(2),
}.items():
    REFUSED |= {
        f"{name} of NaN": (filtered(make, [[1.0, NAN]]), "got NaN for row 0"),
        f"{name} of ∞": (filtered(make, [[1.0, INF]]), r"got \+∞ for row 0"),
        f"{name} of -∞": (
            filtered(make, [[-INF, -INF]]),
            "got −∞ throughout for row 0",
        ),
        f"{name} of integers": (filtered(make, [[1, 2]]), "floating-point.*got int64"),
        f"{name} of one axis": (
            filtered(make, [1.0, 2]),
            r"\(B, V\).*got float32 \(2,",
        ),
        f"{name} of nothing": (filtered(make, [[]]), r"V >= 1; got float32 \(1, 0\)"),
    }


@pytest.fixture(scope="module")
def raised():
    return printed(__file__)


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_at_once(raised, name):
    kind, message = raised[name]
    assert kind == "ValueError", message
    assert re.search(REFUSED[name][1], message), message
    assert "expected" in message


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages({name: call for name, (call, _) in REFUSED.items()})))
