"""Is this attention right? A judge for anybody's function, module or mask.

    from mattn import judge

    print(judge.attention(my_attention))    # a function of (q, k, v)
    print(judge.mask(my_mask))              # a function of the number of tokens

It *measures* first: the factor on the scores, what a hidden score counts as,
the sum of a row, who sees whom, properties that every right one has. It names
second: it computes what one slip, then two, would give, and says a name only
if that explains every output. Verdicts are right · right, with limits · named ·
wrong, with what was measured · could not run. A convention is noted and never
called a mistake. Exercises of chapters 2 and 3 put it to work.

The rooms; each imports from those below it only:

    6  __main__
    5  asked · masking
    4  modules
    3  manners
    2  judging
    1  measured
    0  formulas · probes · subject · verdict
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mattn.judge.asked import attention
    from mattn.judge.masking import mask
    from mattn.judge.verdict import Verdict

__all__ = ["Verdict", "attention", "mask"]

_HOMES = {"attention": "asked", "mask": "masking", "Verdict": "verdict"}


def __getattr__(name: str) -> Any:
    """One of the names, on first use: the command need not wait for torch."""
    if name in _HOMES:
        home = import_module(f"{__name__}.{_HOMES[name]}")
        value = globals()[name] = getattr(home, name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
