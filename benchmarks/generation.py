"""Measure generation with a cache on the CPU; write mattn/records/generation_cpu.json.

1. cache:  512 new tokens with the preallocated cache and without any, the same
           tokens both times.
2. steps:  one step with the cache at position 50 and at position 500.
3. batch:  tokens a second of 16 prompts of different lengths, left-padded, and
           of one.

The model has 6 layers of width 512 and random weights: time does not depend
on what it has learned. Times are CPU times of one thread; what is compared
runs by turns in one process, and a ratio is the median of the ratios of
neighbouring runs. --quick: a small model and few tokens, to check the program.
"""

from __future__ import annotations

import statistics

import measure

from mattn import Config, Decoder
from mattn.generation import generate, stream
from mattn.repro import start

CONFIG = Config(n_symbols=256, d_model=512, n_layers=6, n_heads=8)
QUICK = Config(n_symbols=256, d_model=64, n_layers=2, n_heads=2)
N_TOKENS, PLACES, N_NEAR, N_PROMPTS = 512, (50, 500), 20, 16


def cache(model: Decoder, n_tokens: int, n_rounds: int) -> dict:
    """Many tokens from one prompt, with and without the cache."""
    runs = {
        "cached": lambda: generate(model, [[1]], n_tokens),
        "uncached": lambda: generate(model, [[1]], n_tokens, cached=False),
    }
    found = measure.by_turns(runs, least=n_rounds)
    assert found["cached"][0][1] == found["uncached"][0][1]
    return {
        "n_tokens": n_tokens,
        "seconds": {name: measure.least_seconds(t) for name, t in found.items()},
        "times_as_fast": measure.median_ratio(found["uncached"], found["cached"]),
    }


def steps(model: Decoder, places: tuple[int, int], n_rounds: int) -> dict:
    """One step at two places of a text: median of the steps around each."""
    n_tokens = places[1] + N_NEAR // 2 + 1
    medians, curve = [], []
    for _ in range(n_rounds):
        tokens = stream(model, [1], n_tokens)
        times = [measure.timed(lambda t=tokens: next(t))[0] for _ in range(n_tokens)]
        near = [times[p - N_NEAR // 2 : p + N_NEAR // 2] for p in places]
        medians.append([statistics.median(part) for part in near])
        curve.append(times)
    every = [statistics.median(each) for each in zip(*curve, strict=True)]
    return {
        "positions": list(places),
        "seconds": [statistics.median(m) for m in zip(*medians, strict=True)],
        "ratio": statistics.median(late / early for early, late in medians),
        "curve": [
            [p, statistics.median(every[p : p + N_NEAR])]
            for p in range(1, n_tokens - N_NEAR, N_NEAR)
        ],
    }


def batch(model: Decoder, n_tokens: int, n_rounds: int) -> dict:
    """Tokens a second of many prompts at once, against one."""
    lengths = [8 + 3 * i for i in range(N_PROMPTS)]
    prompts = [[(7 * i + t) % 256 for t in range(n)] for i, n in enumerate(lengths)]
    one = prompts[N_PROMPTS // 2]
    found = measure.by_turns(
        {
            "one": lambda: generate(model, [one], n_tokens),
            "all": lambda: generate(model, prompts, n_tokens),
        },
        least=n_rounds,
    )
    return {
        "n_prompts": N_PROMPTS,
        "prompt_lengths": lengths,
        "n_tokens": n_tokens,
        "tokens_per_second": {
            "one": n_tokens / measure.least_seconds(found["one"]),
            "all": N_PROMPTS * n_tokens / measure.least_seconds(found["all"]),
        },
        "times_as_many": N_PROMPTS * measure.median_ratio(found["one"], found["all"]),
    }


def main() -> None:
    parser = measure.arguments(__doc__, "generation_cpu")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measure.one_thread()
    start(0)
    config = QUICK if options.quick else CONFIG
    model = Decoder(config)
    n_tokens = 48 if options.quick else N_TOKENS
    places = (11, 40) if options.quick else PLACES
    for _ in range(2):
        generate(model, [[1]], 8)
    found = {
        **measure.header(note=options.note),
        "what": "generation by mattn's Decoder, float32, greedy, CPU seconds",
        "model": {"layers": config.n_layers, "width": config.d_model}
        | {"heads": config.n_heads, "parameters": config.n_parameters},
        "cache": cache(model, n_tokens, options.rounds),
        "steps": steps(model, places, options.rounds),
        "batch": batch(model, n_tokens, options.rounds),
    }
    for name in ("cache", "steps", "batch"):
        shown = {k: v for k, v in found[name].items() if k != "curve"}
        print(f"{name}: {shown}")
    measure.write(rounded(found), options.to)


def rounded(value):
    """Four significant digits are enough, and keep the record readable."""
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return measure.digits(value) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
