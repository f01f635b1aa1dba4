"""Random states of the playground, for Node and for a browser."""

from __future__ import annotations

from functools import cache

import numpy as np

from mattn.playground import project

WORDS = ["the", "cat", "sat", "on", "a", "mat", "x"]
WORDS += ["naïve", "掩码", "注意力", "🙂", "Ünïcode"]


@cache
def states(n: int = 200) -> list[dict]:
    """Random sentences, masks with empty rows, temperatures, both orders."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(n):
        T = int(rng.integers(1, 11))
        allowed = rng.random((T, T)) < rng.choice([0.2, 0.5, 0.9])
        if number % 3 == 0:
            allowed &= np.tri(T, dtype=bool)
        tokens = [str(rng.choice(WORDS)) for _ in range(T)]
        own = number % 4 == 0
        D, Dv = (int(d) for d in rng.integers(1, 7, size=2))
        shapes = {"q": (T, D), "k": (T, D), "v": (T, Dv)}
        qkv = (
            {name: rng.normal(size=shape) for name, shape in shapes.items()}
            if own
            else {name: t.numpy() for name, t in project(tokens).items()}
        )
        made.append(
            {
                "tokens": tokens,
                "own": own,
                "problem": {name: t.tolist() for name, t in qkv.items()}
                | {
                    "allowed": allowed.tolist(),
                    "temperature": round(float(rng.uniform(0.2, 4)), 1),
                    "late": bool(number % 5 == 0),
                },
            }
        )
    return made
