"""A configuration as fields that are read one by one; what is left is looked at.

Nothing of transformers is imported: a configuration is a table of names and
values, as its `config.json` holds them. Chapter 2 derives the rules that are
read out of it.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mattn.masks.configs.names import HARMLESS, NAMES, WORDS
from mattn.masks.matrices import is_count

__all__ = ["Fields", "read", "refusal"]

_READ = "what this module has read of transformers 5.23"


def refusal(family: str, name: str, expected: str, got: Any, remedy: str) -> ValueError:
    """What is raised: the field, what it may be, what it is, and what to do."""
    shown = repr(got)
    shown = shown if len(shown) <= 80 else f"{shown[:77]}…"
    return ValueError(
        f"masks_of: {family}: expected {name} {expected}; got {shown}. {remedy}"
    )


class Fields:
    """The fields of one configuration; those that are read are remembered."""

    def __init__(self, values: Mapping[str, Any], family: str):
        self.family = family
        self._values = values
        self._read = {"model_type"}

    def take(self, name: str, default: Any = None) -> Any:
        """The value, or what the family's class gives a field that is absent."""
        self._read.add(name)
        return self._values.get(name, default)

    def given(self, name: str) -> bool:
        """Whether the configuration has the field, ``null`` aside."""
        return self._values.get(name) is not None

    def refuse(self, name: str, expected: str, remedy: str) -> ValueError:
        got = self._values.get(name, "no such field")
        return refusal(self.family, name, expected, got, remedy)

    def count(self, names: Sequence[str], default: int) -> int:
        """How many layers: the first name is the family's own, others mean the same."""
        values = {n: self.take(n) for n in names}
        given = {n: v for n, v in values.items() if v is not None}
        for name, value in given.items():
            if not is_count(value, least=1):
                raise self.refuse(name, "to be an int >= 1", "Say how many layers.")
            if value != next(iter(given.values())):
                first = next(iter(given))
                raise self.refuse(
                    name,
                    f"to agree with {first}={given[first]}, which means the same",
                    "Keep one of the two.",
                )
        return int(next(iter(given.values()), default))

    def size(self, name: str, default: int | None) -> int | None:
        """Of a window or a chunk; ``None``: there is none."""
        value = self.take(name, default)
        if value is None or is_count(value, least=1):
            return value if value is None else int(value)
        raise self.refuse(
            name,
            "to be an int >= 1, or null",
            "A window of w shows w keys, the query's own included; none is null.",
        )

    def flag(self, name: str, default: bool) -> bool:
        value = self.take(name, default)
        if value in (True, False) and isinstance(value, bool):
            return value
        if value is None:
            return False
        raise self.refuse(name, "to be true or false", "Write it as JSON does.")

    def types(
        self,
        n: int,
        default: Callable[[int], str],
        allowed: Sequence[str],
        name: str = "layer_types",
    ) -> list[str]:
        """The type of each of ``n`` layers; older files say "attention" for full."""
        value = self.take(name)
        if value is None:
            return [default(i) for i in range(n)]
        if not isinstance(value, list | tuple) or len(value) != n:
            length = f" of {len(value)}" if isinstance(value, list | tuple) else ""
            raise self.refuse(
                f"{name}{length}",
                f"to be a list with a type for each of {n} layers",
                f"Give {n} types, or leave the field out.",
            )
        value = ["full_attention" if t == "attention" else t for t in value]
        for i, kind in enumerate(value):
            if kind not in allowed:
                raise refusal(
                    self.family,
                    f"{name}[{i}]",
                    f"to be one of {', '.join(allowed)}",
                    kind,
                    f"Other layers are beyond {_READ} for this family.",
                )
        return value

    def finish(self) -> None:
        """Refuse what may say who sees whom, and was not read."""
        for name, value in self._values.items():
            if name in self._read or name in HARMLESS or name.startswith("_"):
                continue
            if name == "is_causal" and value is False:
                raise self.refuse(
                    name,
                    "to be true",
                    "With false, transformers 5.23 answers by back end: `eager` builds "
                    "a full mask, `sdpa` leaves it out and its layers stay causal. Say "
                    "the rule yourself.",
                )
            tells = name in NAMES or WORDS & set(re.split(r"[_.]", name.lower()))
            off = value is None or value is False or value in ([], {}, "")
            if tells and not off and (name, value) != ("is_causal", True):
                raise self.refuse(
                    name,
                    "not to be there",
                    f"It may say who sees whom, and {_READ} for {self.family} does not "
                    "look at it. Take it out if it is idle, or say the rules yourself.",
                )


def read(config: Any) -> dict[str, Any]:
    """The table of a configuration: an object's, a dict, or that of a file."""
    if isinstance(config, Mapping):
        return dict(config)
    if isinstance(config, str | Path):
        return _from_file(Path(config))
    if callable(getattr(config, "to_dict", None)) and not isinstance(config, type):
        return dict(config.to_dict())  # as it is saved: what loading derives is undone
    raise ValueError(
        "masks_of: expected a configuration of transformers, its dict, or the path of "
        f"a folder or file; got {type(config).__name__}. Of a model, give model.config."
    )


def _from_file(path: Path) -> dict[str, Any]:
    file = path / "config.json" if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"masks_of: expected a folder with config.json, or such a file; got "
            f"{str(path)!r} ({error}). Nothing is downloaded: give a path."
        ) from None
    if not isinstance(values, dict):
        raise ValueError(
            f"masks_of: expected {file.name} to hold a JSON object; got "
            f"{type(values).__name__}. Give the configuration of a model."
        )
    return values


def known(name: Any, families: Sequence[str]) -> str:
    """The family, or an error that names those that look like it."""
    if isinstance(name, str) and name in families:
        return name
    near = difflib.get_close_matches(str(name), families, n=3)
    alike = f"Those that sound like it: {', '.join(near)}. " if near else ""
    raise ValueError(
        f"masks_of: expected model_type to be one of {len(families)} families "
        f"(mattn.masks.configs.FAMILIES); got {name!r}. {alike}For others, say the "
        "rule of each layer yourself."
    )
