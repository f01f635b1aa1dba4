"""What the judge says, in a form that a person can act on.

A room of the judge, which exercises of chapters 3 and 4 put to work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Kind", "Verdict"]

Kind = Literal["right", "right, with limits", "named", "wrong", "could not run"]


@dataclass(frozen=True)
class Verdict:
    """What a function is, what was measured of it, and the case that shows it."""

    subject: str
    kind: Kind
    names: tuple[str, ...] = ()
    """The slips that explain every output; several cannot be told apart."""
    case: str = ""
    """The smallest case found in which it differs, in words."""
    measured: tuple[str, ...] = ()
    """What was measured, each a sentence."""
    notes: tuple[str, ...] = ()
    """Conventions and limits; none is a mistake."""

    @property
    def ok(self) -> bool:
        """Whether it is right, within limits that are told."""
        return self.kind in ("right", "right, with limits")

    def __bool__(self) -> bool:
        raise TypeError(
            "a verdict is no truth value: ask verdict.ok, or verdict.kind, which is "
            f"{self.kind!r}."
        )

    def __str__(self) -> str:
        head = f"{self.subject}: {self.kind}"
        if self.names:
            one_of = "one of: " if len(self.names) > 1 else ""
            head += f". {one_of}{'; '.join(self.names)}"
        lines = [head, *([f"  {self.case}"] if self.case else [])]
        lines += [f"  measured: {line}" for line in self.measured]
        return "\n".join([*lines, *(f"  note: {line}" for line in self.notes)])
