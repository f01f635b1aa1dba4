"""The same numbers every time: from the same seed, or as they were recorded.

Every chapter begins with ``start``.
"""

from __future__ import annotations

import json
import random
import sys
from importlib.resources import files
from typing import Any

import numpy as np
import torch

__all__ = ["recorded", "start"]


def start(seed: int, *, n_threads: int = 1) -> torch.Generator:
    """Seed every source of randomness, fix threads and print options.

    Seeds Python, NumPy and torch; sets the threads of torch, its default dtype
    to float32, and how torch and NumPy print. In a notebook, figures are shown
    as SVG from here on. Nothing else in the package changes any of this, and
    importing it does not.

    Returns a generator with the same seed, for the functions that take one.
    One thread by default: with more, sums are taken in another order, and
    on a busy machine the threads wait for each other. ``ValueError``, before
    anything is changed, for a seed that NumPy does not take.
    """
    for name, value, least, most in (
        ("seed", seed, 0, 2**32 - 1),
        ("n_threads", n_threads, 1, 2**31 - 1),
    ):
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not least <= value <= most:
            raise ValueError(
                f"start: expected {name} to be an integer from {least} to {most}; "
                f"got {value!r}."
            )
    seed, n_threads = int(seed), int(n_threads)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.set_num_threads(n_threads)
    torch.set_default_dtype(torch.float32)
    torch.set_printoptions(precision=3, sci_mode=False, linewidth=75)
    np.set_printoptions(precision=3, suppress=True, linewidth=75)
    if "IPython" in sys.modules:
        from mattn.plotting import show_as_svg  # brings matplotlib

        show_as_svg()
    return torch.Generator().manual_seed(seed)


def recorded(name: str) -> dict[str, Any]:
    """A record of the package, by its name without suffix: ``"training_cpu"``.

    What a program of ``benchmarks/`` measured once, with machine, versions,
    command and date. ``ValueError`` names the records that there are.
    """
    folder = files("mattn") / "records"
    path = folder / f"{name}.json"
    if not path.is_file():
        known = sorted(p.name.removesuffix(".json") for p in folder.iterdir())
        raise ValueError(
            f"expected the name of a record: {', '.join(known)}; got {name!r}."
        )
    return json.loads(path.read_text(encoding="utf-8"))
