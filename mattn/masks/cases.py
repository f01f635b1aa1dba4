"""Cases of the atlas that any engine can read, and anybody's mask run on them.

The atlas of masks is an appendix of the book; chapter 2 counts pairs.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.atlas import ENTRIES, atlas
from mattn.masks.compared import Difference, difference
from mattn.masks.entry import Entry
from mattn.masks.matrices import described

__all__ = ["FORMAT", "Conformed", "conform", "export", "from_mask_mod", "schema"]

FORMAT = 1
LENGTHS, EXPORTED = range(1, 13), (1, 2, 3, 4, 6, 8, 12)
Align = Literal["bottom-right", "top-left"]
Matrix = Callable[..., Any]
ALIGNED = "fewer queries than keys are aligned top-left"


@dataclass(frozen=True)
class Conformed:
    """Whether somebody's mask is an entry of the atlas, and the smallest case in
    which it is not."""

    entry: Entry
    n_cases: int
    parameters: dict[str, Any]
    """Those of the case that differs."""
    sizes: tuple[int, int] | None = None
    """Queries and keys of that case; ``None``: there is none."""
    difference: Difference | None = None
    slip: str | None = None
    """What it is instead, if that is known."""

    @property
    def ok(self) -> bool:
        """Whether no case differs."""
        return self.difference is None

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.entry.key}: the same in all {self.n_cases} cases"
        set_to = [f"{n} = {v}" for n, v in self.parameters.items() if _short(v)]
        where = [f"for {' and '.join(set_to)}"] if set_to else []
        assert self.sizes is not None
        if self.sizes[0] < self.sizes[1]:
            where.append(f"of {self.sizes[0]} queries and {self.sizes[1]} keys")
        verb = "also sees" if self.difference.also else "does not see"
        at = f"query {self.difference.query} {verb} key {self.difference.key}"
        said = ", ".join([*where, at])
        return f"{said}: {self.slip}" if self.slip else said

    __repr__ = __str__


def _short(value: Any) -> bool:
    return isinstance(value, int)


def conform(given: Matrix, key: str, *, align: Align = "bottom-right") -> Conformed:
    """Run somebody's mask on the cases of an entry of the atlas.

    ``given(n_queries, n_keys, **parameters)`` returns a matrix, boolean (True =
    may attend) or to be added to the scores (0 where allowed); the parameters are
    those of the entry. ``align`` says where its shorter blocks of queries stand. The
    case that comes back is the smallest: of the fewest keys.

    >>> def mine(n_queries, n_keys, w):
    ...     q, k = torch.arange(n_queries)[:, None], torch.arange(n_keys)
    ...     q = q + n_keys - n_queries
    ...     return (k <= q) & (q - k <= w)
    >>> print(conform(mine, "window"))
    for w = 1, query 1 also sees key 0: the window holds w + 1 keys

    Raises ``ValueError`` for a name that there is not, and for what is neither
    boolean nor additive.
    """
    entry = atlas(key)
    runs = list(_settings(entry))
    answers = [_first(entry, set_to, given, align) for set_to in runs]
    n_cases = len(runs) * sum(1 for _ in _sizes(entry))
    wrong = [
        (found, set_to)
        for found, set_to in zip(answers, runs, strict=True)
        if found is not None
    ]
    if not wrong:
        return Conformed(entry, n_cases, {})
    (n_keys, n_queries, found), set_to = min(wrong, key=lambda case: case[0][0])
    parameters = entry.parameters(n_keys, **set_to)
    slip = _slip(entry, runs, given, align)
    sizes = (n_queries, n_keys)
    return Conformed(entry, n_cases, parameters, sizes, found, slip)


def from_mask_mod(make: Callable[..., Callable], *, shift: bool = True) -> Matrix:
    """A ``given`` for :func:`conform` of a function of slots.

    ``make(**parameters)`` gives a ``mask_mod(b, h, q, k)``, as FlexAttention and the
    mask functions of transformers are. ``shift``: its q is the query's slot; else
    it counts the queries from 0.
    """

    def given(n_queries: int, n_keys: int, **parameters: Any) -> Tensor:
        first = n_keys - n_queries if shift else 0
        zero = torch.tensor(0)
        q, k = torch.arange(n_queries)[:, None] + first, torch.arange(n_keys)
        seen = make(**parameters)(zero, zero, q, k)
        return torch.as_tensor(seen).expand(n_queries, n_keys)

    return given


def _settings(entry: Entry) -> Iterator[dict[str, Any]]:
    """The parameters that are set by hand: as given, and all that is to be tried."""
    yield {}
    for values in itertools.product(*entry.tries.values()):
        yield dict(zip(entry.tries, values, strict=True))


def _sizes(entry: Entry) -> Iterator[tuple[int, int]]:
    """Keys and queries of every case, the fewest keys first, then the whole square."""
    for n_keys in LENGTHS:
        if n_keys % entry.step == 0:
            fewer = () if entry.cross else range(1, n_keys)
            yield from ((n_keys, n) for n in (n_keys, *fewer))


def _one_row(cells: Tensor) -> Tensor:
    return cells if cells.ndim == 2 else cells[0]


def _first(
    entry: Entry,
    set_to: dict[str, Any],
    given: Matrix,
    align: Align,
    rule: str | None = None,
) -> tuple[int, int, Difference] | None:
    """The smallest case in which it differs from the entry, or from another rule."""
    made: dict[int, tuple[dict, Tensor]] = {}
    for n_keys, n_queries in _sizes(entry):
        if n_keys not in made:
            parameters = entry.parameters(n_keys, **set_to)
            mask = entry.read(rule or entry.rule, n_keys, parameters)
            made[n_keys] = parameters, _one_row(mask.matrix(n_keys))
        parameters, expected = made[n_keys]
        theirs = _allowed(given(n_queries, n_keys, **parameters), n_queries, n_keys)
        late = n_keys - n_queries if align == "bottom-right" else 0
        if torch.equal(theirs, expected[late : late + n_queries]):
            continue
        whole = expected.clone()
        whole[late : late + n_queries] = theirs
        found = difference(_Matrix(expected), whole, n_keys)
        assert found is not None
        return n_keys, n_queries, found
    return None


class _Matrix(Mask):
    """Cells that are known, for the length that they have."""

    def __init__(self, cells: Tensor):
        self.cells = cells

    def allowed(self, b: Any, q: Tensor, k: Tensor) -> Tensor:
        return self.cells[q, k]


def _slip(
    entry: Entry, runs: list[dict[str, Any]], given: Matrix, align: Align
) -> str | None:
    """What it is in every case, if that has a name."""

    def is_always(rule: str, where: Align) -> bool:
        return all(_first(entry, s, given, where, rule) is None for s in runs)

    for said, rule in entry.slips.items():
        if is_always(rule, align):
            return said
    if align == "bottom-right" and is_always(entry.rule, "top-left"):
        return ALIGNED
    return None


def _allowed(given: Any, n_queries: int, n_keys: int) -> Tensor:
    """A boolean matrix of one that is boolean or additive."""
    cells = torch.as_tensor(given)
    while cells.ndim > 2 and cells.shape[0] == 1:
        cells = cells[0]
    if cells.shape != (n_queries, n_keys):
        raise ValueError(
            f"conform: expected a matrix ({n_queries}, {n_keys}); got "
            f"{described(cells)}. Give one sequence and one head."
        )
    if cells.dtype == torch.bool:
        return cells
    if not cells.is_floating_point() or bool((cells > 0).any()):
        raise ValueError(
            "conform: expected bool, True = may attend, or floats to add to the "
            f"scores, 0 where allowed; got {described(cells)} from "
            f"{float(cells.min()):g} to {float(cells.max()):g}. Of ones and zeros, "
            "give cells == 1."
        )
    return cells == 0


def export(folder: str | Path) -> list[Path]:
    """Write the cases of every entry that is a mask, one JSON file each.

    ``schema.json`` beside them describes the format. The bits of a case are one
    text a query, "1" = may attend; the hash is that of all cases of the file.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = [_write(folder / "schema.json", schema())]
    masks = (entry for entry in ENTRIES if not entry.instead)
    written += [_write(folder / f"{entry.key}.json", _data(entry)) for entry in masks]
    return written


def schema() -> dict[str, Any]:
    """The JSON schema of an exported file."""
    file = Path(__file__).with_name("cases.schema.json")
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file: Path, data: Any) -> Path:
    text = json.dumps(data, ensure_ascii=False, indent=1)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def _data(entry: Entry) -> dict[str, Any]:
    lengths = [n for n in EXPORTED if n % entry.step == 0]
    settings = itertools.product(_settings(entry), lengths)
    cases = [case for set_to, n_keys in settings for case in _at(entry, set_to, n_keys)]
    packed = json.dumps(cases, ensure_ascii=False, separators=(",", ":"))
    return {
        "format": FORMAT,
        "name": entry.key,
        "title": entry.title,
        "rule": entry.rule,
        "cross": entry.cross,
        "cases": cases,
        "sha256": hashlib.sha256(packed.encode()).hexdigest(),
    }


def _at(entry: Entry, set_to: dict[str, Any], n_keys: int) -> Iterator[dict]:
    """The whole square, and the last queries of it alone."""
    parameters = entry.parameters(n_keys, **set_to)
    cells = _one_row(entry.read(entry.rule, n_keys, parameters).matrix(n_keys))
    rows = ["".join("01"[cell] for cell in row) for row in cells.int().tolist()]
    fewer = set() if entry.cross else {1, n_keys // 2} - {0, n_keys}
    for n_queries in (n_keys, *sorted(fewer)):
        first = n_keys - n_queries
        yield {
            "parameters": parameters,
            "n_queries": n_queries,
            "n_keys": n_keys,
            "query_slots": list(range(first, n_keys)),
            "key_slots": list(range(n_keys)),
            "bits": rows[first:],
        }
