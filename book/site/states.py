"""What the widgets of the chapters show: each state that a reader can bring about.

Chapter 2 slides a window over the mask, chapter 3 rolls strangers, chapter 4 raises a
hidden score, chapter 5 changes a word under the card, over it and without it. A state
is found by what the controls are set to, joined by blanks, and holds what changes:

``bars``   for each bar its share of 1 and the number as it is said;
``grid``   a row a string: ``1`` allowed, ``0`` blocked, ``x`` a leak, ``.`` not asked;
``says``   what is seen, in a sentence or two, as HTML.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mattn import attention, causal, full, rule, window
from mattn.checks import influence
from mattn.toy import TOKENS, W_k, W_q, W_v, embed, verb

__all__ = ["WIDGETS", "Choice", "Roll", "Slider", "Switch", "Widget"]

MAT = TOKENS.index("mat")
SIZES = tuple(2**n for n in range(11))  # of the strangers' vectors
N_ROLLS = 8
HIGHEST = 110  # the hidden score of chapter 4
CARDS = {
    "where it belongs": causal,
    "one word too far": rule(lambda b, q, k: k <= q + 1, name="k <= q + 1"),
    "on the table": full,
}
State = dict[str, Any]


class Slider(NamedTuple):
    label: str
    values: Sequence[str]
    start: int = 0


class Switch(NamedTuple):
    label: str


class Choice(NamedTuple):
    label: str
    options: Sequence[str]


class Roll(NamedTuple):
    label: str
    of: int


class Widget(NamedTuple):
    """A widget: where it stands, its controls by name, its states by their values.

    ``figure`` is the name of the picture that it joins; ``None``: the text in
    ``<div class="mattn-card">``. ``bars`` and ``grid`` are the words that label them,
    ``asks`` is the row of the grid that is outlined.
    """

    figure: str | None
    label: str
    ask: str
    controls: dict[str, Slider | Switch | Choice | Roll]
    states: dict[str, State]
    bars: Sequence[str] = ()
    caption: str = ""
    grid: Sequence[str] = ()
    asks: int | None = None


def said(word: str) -> str:
    return f"<em>{html.escape(word)}</em>"


def listed(parts: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))


def signed(number: float) -> str:
    return f"{number:+.2f}".replace("-", "−")


def rows_of(matrix: Any) -> list[str]:
    return ["".join("1" if cell else "0" for cell in row) for row in matrix.tolist()]


def stencil(w: int) -> State:
    """Chapter 2: row *mat* under a causal window of ``w`` words."""
    x = embed()
    v = x @ W_v
    out, weights = attention(x @ W_q, x @ W_k, v, causal & window(w))
    allowed = (causal & window(w)).matrix(len(TOKENS))
    number = out[MAT, 0].item()
    seen = [*(said(TOKENS[j]) for j in range(MAT) if allowed[MAT, j]), "itself"]
    return {
        "bars": [
            [round(p, 4), f"{p:.2f}" if a else "blocked"]
            for p, a in zip(weights[MAT].tolist(), allowed[MAT].tolist(), strict=True)
        ],
        "grid": rows_of(allowed),
        "says": f"{said('mat')} sees {listed(seen)}. It fetches {signed(number)} and "
        f"writes {said(verb(number))}.",
    }


def strangers() -> dict[str, State]:
    """Chapter 3: one random query, six random keys, longer and longer vectors."""
    rng = np.random.default_rng(0)
    query = rng.standard_normal((N_ROLLS, 1, SIZES[-1]))
    keys = rng.standard_normal((N_ROLLS, 6, SIZES[-1]))
    dots = (query * keys).cumsum(axis=-1)  # (roll, key, d − 1)
    states = {}
    for n, d in enumerate(SIZES):
        for divided in (0, 1):
            scores = dots[..., d - 1] / (d**0.5 if divided else 1.0)
            e = np.exp(scores - scores.max(axis=-1, keepdims=True))
            for roll, p in enumerate(e / e.sum(axis=-1, keepdims=True)):
                first = "ABCDEF"[p.argmax()]
                states[f"{n} {divided} {roll}"] = {
                    "bars": [[round(share, 4), f"{share:.2f}"] for share in p.tolist()],
                    "says": f"Roll {roll + 1}: {first} takes {p.max():.2f}.",
                }
    return states


def never(hidden: int) -> State:
    """Chapter 4: the weight 0.8 beside a hidden score, hidden in three ways.

    Each step is rounded to 32 bits, as there.
    """
    visible = np.array([True, True, False])

    def softmax(scores: np.ndarray) -> np.ndarray:
        e = np.exp((scores - scores.max()).astype(float)).astype(np.float32)
        return e / e.sum()

    scores = np.array([0, np.log(4), hidden], np.float32)
    struck = softmax(scores) * visible
    first = softmax(np.where(visible, scores, np.float32(-np.inf)))
    left = struck.sum()
    divided = struck / left if left else np.full(3, np.nan)
    weights = [way[1].item() for way in (struck, divided, first)]
    if np.isnan(weights[1]):
        seen = "Nothing is left to divide by, and 0/0 is NaN, not a number."
    elif f"{weights[1]:.3f}" != "0.800":
        seen = (
            f"Divided afterwards, the word has {weights[1]:.3f} where 0.800 is right, "
            "and nothing has warned anybody."
        )
    else:
        seen = (
            "Struck out, the weights do not add up to 1; divided by what is left they "
            "do, and the word has its 0.800."
        )
    return {
        "bars": [
            [0 if np.isnan(p) else round(p, 4), "NaN" if np.isnan(p) else f"{p:.3f}"]
            for p in weights
        ],
        "says": seen,
    }


def cards() -> dict[str, State]:
    """Chapter 5: one word is changed, and some outputs move."""
    x = embed()
    states = {}
    for name, card in CARDS.items():

        def head(x: Any, card: Any = card) -> Any:
            return attention(x @ W_q, x @ W_k, x @ W_v, card)[0]

        moved = influence(head, x)
        for j, word in enumerate(TOKENS):
            grid = []
            for i in range(len(TOKENS)):
                sign = "0" if not moved[i, j] else "x" if j > i else "1"
                grid.append("." * j + sign + "." * (len(TOKENS) - 1 - j))
            heard = [said(TOKENS[i]) for i in range(j) if moved[i, j]]
            if heard:
                stand = "stands" if len(heard) == 1 else "stand"
                verdict = f"{listed(heard)} {stand} before it and should not know: "
                verdict += "a leak."
            else:
                verdict = "None of them stands before it."
            n_moved = int(moved[:, j].sum())
            count = f"{n_moved} of {len(TOKENS)} outputs move{'s' * (n_moved == 1)}"
            states[f"{name} {j}"] = {
                "grid": grid,
                "says": f"{said(word)} is changed, and {count}. {verdict}",
            }
    return states


WIDGETS = {
    "stencil": Widget(
        "fig-stencils",
        "A window over the mask",
        f"Slide the window over the matrix. When does {said('mat')} change its verb?",
        {"w": Slider("Words in sight:", [str(w) for w in range(1, 7)])},
        {str(w - 1): stencil(w) for w in range(1, 7)},
        bars=TOKENS,
        caption=f"The weights of row {said('mat')}",
        grid=TOKENS,
        asks=MAT,
    ),
    "strangers": Widget(
        "fig-strangers",
        "Six strangers",
        "Make the vectors longer, roll again, divide. Does the favourite deserve it?",
        {
            "d": Slider("d =", [f"{d:,}" for d in SIZES], SIZES.index(64)),
            "divided": Switch("divide by √d"),
            "roll": Roll("Roll again", N_ROLLS),
        },
        strangers(),
        bars="ABCDEF",
        caption="The weights of six random keys",
    ),
    "never": Widget(
        "fig-hidden-score",
        "A hidden score",
        "Raise the score that nobody may see. Which of the three ways hears of it?",
        {
            "hidden": Slider(
                "Hidden score:", [str(n) for n in range(HIGHEST + 1)], HIGHEST - 60
            )
        },
        {str(n): never(n) for n in range(HIGHEST + 1)},
        bars=("struck out", "and divided", "−∞ first"),
        caption="The weight of the word ln 4, which should be 0.800",
    ),
    "card": Widget(
        None,
        "Who lifted the card?",
        "Change one word, and look which outputs move.",
        {
            "card": Choice("The card lies", list(CARDS)),
            "word": Slider("Changed:", TOKENS, len(TOKENS) - 1),
        },
        cards(),
        grid=TOKENS,
        asks=MAT,
    ),
}
