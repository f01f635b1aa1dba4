"""Draws the image that a link to the book is shown with, 1200×630 pixels.

    python -m book.site.preview [FILE]

The image is stored; run this again when the words change.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from book import ROOT
from mattn import attention, causal
from mattn.plotting import show_sentence
from mattn.toy import TOKENS, W_k, W_q, W_v, embed, verb

OUT = ROOT / "book" / "static" / "preview.png"
INK, SOFT = "#1b2733", "#51606e"


def draw(path: Path) -> None:
    x = embed()
    _, weights = attention(x @ W_q, x @ W_k, x @ W_v, causal)
    figure = plt.figure(figsize=(6, 3.15), dpi=200, facecolor="#fbfcfd")
    axes = figure.add_axes((0.03, 0.05, 0.94, 0.62))
    show_sentence(TOKENS, weights[-2], query=len(TOKENS) - 2, card=5, ax=axes)
    figure.text(0.06, 0.85, "mattn", size=30, weight="bold", color=INK, va="center")
    figure.text(0.40, 0.89, "Masked self-attention", size=14, color=INK, va="center")
    question = f"{verb(1)} or {verb(-1)}? Which word tells you?"
    figure.text(0.40, 0.80, question, size=12, color=SOFT, va="center")
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
