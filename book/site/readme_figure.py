"""Draw the figure of the README: scores → rule → weights of the book's sentence.

    python -m book.site.readme_figure [FILE.svg]

The figure stands on an opaque white plate, so that it reads the same on a
light and on a dark page. The file does not change from run to run.
"""

import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.patches import FancyBboxPatch

from book import ROOT
from mattn import attention, causal
from mattn.plotting import show_attention
from mattn.toy import TOKENS, W_k, W_q, W_v, embed

FILE = ROOT / "book" / "static" / "scores-rule-weights.svg"


def draw(file: Path = FILE) -> None:
    x = embed()
    q, k = x @ W_q, x @ W_k
    weights = attention(q, k, x @ W_v, causal)[1]
    with mpl.rc_context({"svg.hashsalt": "mattn", "svg.fonttype": "path"}):
        figure = show_attention(q @ k.T / 2, causal.matrix(6), weights, TOKENS)
        width, height = figure.get_size_inches()
        figure.set_size_inches(width, height + 0.15)
        figure.subplots_adjust(left=0.11, bottom=0.06, right=0.95)
        figure.patch.set_alpha(0)
        plate = FancyBboxPatch(
            (0.01, 0.015),
            0.98,
            0.97,
            boxstyle="round,pad=0,rounding_size=0.03",
            mutation_aspect=width / height,
            transform=figure.transFigure,
            facecolor="white",
            edgecolor="#D0D7DE",
            zorder=-1,
        )
        figure.add_artist(plate)
        figure.savefig(file, metadata={"Date": None})


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
