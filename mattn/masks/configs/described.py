"""The layers of a model on one screen: what they see, keep and save.

Chapter 5 says what a cache must keep, chapter 2 counts pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf
from typing import Any

from mattn.masks.algebra import Mask
from mattn.masks.configs.families import Layers
from mattn.masks.configs.layers import masks_of
from mattn.masks.matrices import is_count
from mattn.masks.named import causal, full

__all__ = ["comparisons", "describe", "groups"]

_LISTED = 4  # runs of layers that are written out


def groups(layers: Sequence[Mask]) -> list[tuple[list[int], Mask]]:
    """Layers that share a rule, in the order in which rules first appear."""
    found: dict[int, tuple[list[int], Mask]] = {}
    for i, rule in enumerate(layers):
        found.setdefault(id(rule), ([], rule))[0].append(i)
    return list(found.values())


def describe(config: Any, *, length: int = 32_768) -> str:
    """What :func:`masks_of` reads out of a configuration, as text for a screen.

    For each kind of layer: which layers, their rule, the keys that a cache of
    ``length`` tokens keeps, and the pairs of query and key. The last line says
    what is saved against layers that hide nothing but the future.

    >>> print(describe({"model_type": "gpt_oss"}, length=4096))
    gpt_oss: 36 layers, 4,096 tokens
    layers                  sees                   cache keeps        pairs
    0, 2, 4, 6, … (18)      (causal & window(128))         128      516,160
    1, 3, 5, 7, … (18)      causal                       4,096    8,390,656
    in all: 160,322,688 of 302,063,616 pairs, 46.9 % saved; 76,032 of 147,456 keys kept
    a learned logit of each head joins the softmax and has no key: no mask

    Raises ``ValueError`` as :func:`masks_of` does, and for a length below 1.
    """
    if not is_count(length, least=1):
        raise ValueError(f"describe: expected a length >= 1 of tokens; got {length!r}.")
    layers = masks_of(config)
    parts = _parts(layers)
    n = " + ".join(f"{len(p)} {name}layers" for name, p in parts.items())
    lines = [f"{layers.family}: {n}, {length:,} tokens"]
    table = [("layers", "sees", "cache keeps", "pairs")]
    for name, part in parts.items():
        for numbers, rule in groups(part):
            kept = f"{_kept(rule, length, cross=name == 'cross '):,}"
            if rule.bound.ahead > 0 and name != "cross ":
                kept = "no cache"
            pairs = f"{rule.pairs(length):,}"
            table.append((f"{name}{runs(numbers)}", repr(rule), kept, pairs))
    widths = [max(len(row[i]) for row in table) for i in range(4)]
    widths[0] = max(widths[0], 22)
    widths[3] = max(widths[3], 11)
    for row in table:
        left, right = zip(row[:2], widths[:2], strict=True), row[2:]
        cells = [text.ljust(w) for text, w in left]
        cells += [t.rjust(w) for t, w in zip(right, widths[2:], strict=True)]
        lines.append(f"{cells[0]}  {' '.join(cells[1:3])}  {cells[3]}".rstrip())
    return "\n".join([*lines, *_saved(layers, length), *layers.notes])


def _parts(layers: Layers) -> dict[str, list[Mask]]:
    if not layers.encoder:
        halves = {"": list(layers), "cross ": layers.cross}
    else:
        own = list(layers)
        halves = {"encoder ": layers.encoder, "decoder ": own, "cross ": layers.cross}
    return {name: part for name, part in halves.items() if part}


def _kept(rule: Mask, length: int, *, cross: bool = False) -> int:
    """Keys of ``length`` that a cache must hold for later queries."""
    size = inf if cross else rule.reach().size
    return length if size >= length else int(size)


def _saved(layers: Layers, length: int) -> list[str]:
    """Pairs and cached keys of a decoder's own layers, or pairs of an encoder's."""
    seen = [(len(numbers), rule) for numbers, rule in groups(layers)]
    pairs = sum(n * rule.pairs(length) for n, rule in seen)
    cached = all(rule.bound.ahead <= 0 for rule in layers)
    whole = len(layers) * (causal if cached else full).pairs(length)
    said = f"in all: {pairs:,} of {whole:,} pairs, {1 - pairs / whole:.1%} saved"
    said = said.replace("%", " %")
    if cached:
        kept = sum(n * _kept(rule, length) for n, rule in seen)
        said += f"; {kept:,} of {len(layers) * length:,} keys kept"
    return [said]


def runs(numbers: Sequence[int]) -> str:
    """0, 1, 2, 5 as "0–2, 5"; of many runs the first, and how many layers.

    >>> runs([0, 1, 2, 5]), runs(list(range(0, 100_000, 2)))
    ('0–2, 5', '0, 2, 4, 6, … (50,000)')
    """
    ends = [i for i, (a, b) in enumerate(pairwise(numbers), start=1) if b != a + 1]
    parts = zip([0, *ends], [*ends, len(numbers)], strict=True)
    said = []
    for first, end in list(parts)[: _LISTED + 1]:
        low, high = numbers[first], numbers[end - 1]
        said.append(f"{low:,}" if low == high else f"{low:,}–{high:,}")
    if len(said) > _LISTED:
        return f"{', '.join(said[:_LISTED])}, … ({len(numbers):,})"
    return ", ".join(said)


def comparisons(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows for a page, of the record ``configurations``: one for each family and way
    of giving it tokens.

    ``family``, ``layers`` (the rules, in words), ``given`` (plain, left padding,
    packed), ``lengths``, ``cells`` (compared) and ``differ`` (of them), and ``why``
    where any differ.
    """
    return [
        {
            "family": model["family"],
            "layers": model["layers"],
            "given": case["given"],
            "lengths": case["lengths"],
            "cells": case["cells"],
            "differ": case["differ"],
            "why": case.get("why", ""),
        }
        for model in record["models"]
        for case in model["cases"]
    ]
