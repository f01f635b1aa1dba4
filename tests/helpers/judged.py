"""Who is judged, in two halves, and how the judge does on each.

A name falls into a half by its checksum, fixed before the judge was tuned to
half 0. On half 1 it named 29 of 34 when it first saw it, and told all 36; the
five were mended since, and `adds_the_query`, which the judge named "query added",
got that name in the set: its figure is no longer blind. To print today's:

    PYTHONPATH=tests/helpers python tests/helpers/judged.py
"""

import functools
import zlib

import judged_wrong_modules  # noqa: F401 - registers its modules
import torch
from judged_right import RIGHT
from judged_wrong import WRONG

from mattn import causal, judge, padding

HALVES = (0, 1)


def half(name):
    return zlib.crc32(name.encode()) % 2


@functools.cache
def verdict(name):
    """The verdict, and the names that may be said; None: it is right."""
    function, names, options = WRONG.get(name) or (RIGHT[name][0], None, RIGHT[name][1])
    options = dict(options)
    if options.get("mask") == "rows":
        options["mask"] = causal & padding([4, 3])
    torch.manual_seed(0)
    given = function() if isinstance(function, type) else function
    return judge.attention(given, **options), names


def figures(which):
    """Of the wrong ones of a half: told, named, of how many with a name."""
    of_half = [verdict(name) for name in WRONG if half(name) == which]
    told = sum(v.kind in ("named", "wrong") for v, _ in of_half)
    named = sum(bool(names & {*v.names}) for v, names in of_half)
    return told, len(of_half), named, sum(bool(names) for _, names in of_half)


if __name__ == "__main__":
    for which in HALVES:
        told, n, named, n_names = figures(which)
        print(f"half {which}: told {told} of {n}, named {named} of {n_names}")
    accused = [name for name in RIGHT if not verdict(name)[0].ok]
    print(f"right and unusual: {len(RIGHT)}, accused: {accused or 'none'}")
