"""How far a rule looks: the tuple alone, so that a cache need not import masks.

A cache has to know which keys a later query can still ask for, and a step of
generation whether a query waits for a key that is yet to come. Both follow
from three numbers. What finds them for a rule is in :mod:`mattn.masks`.
Derived in chapter 5.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

__all__ = ["Reach"]


class Reach(NamedTuple):
    """A bound: query slot q sees key slot k only where ``k − q <= ahead`` and
    (``q − k < behind`` or ``k < sinks``).

    A bound of both of two rules, or of either, is a bound again. Of the bounds
    that ``&`` could give, it takes the one that keeps the fewest keys.

    >>> Reach(behind=4, ahead=0) | Reach(behind=-inf, ahead=1, sinks=2)
    Reach(behind=4, ahead=1, sinks=2)
    """

    behind: float = inf
    """The query's own slot counts as one; ``−inf``: only the sinks are seen."""
    ahead: float = inf
    """Slots later than the query's own; 0 for a causal rule."""
    sinks: int = 0
    """First slots that every later query may see, however far behind they are."""

    @property
    def size(self) -> float:
        """Keys that a cache must keep, so that no later query misses one."""
        return max(self.behind, 0) + self.sinks

    def __and__(self, other: Reach) -> Reach:
        ahead = min(self.ahead, other.ahead)
        either = max(self.behind, other.behind), min(self.sinks, other.sinks)
        bounds = [(self.behind, self.sinks), (other.behind, other.sinks), either]
        behind, sinks = min(bounds, key=lambda bound: max(bound[0], 0) + bound[1])
        return Reach(behind, ahead, sinks)

    def __or__(self, other: Reach) -> Reach:
        behind, ahead = max(self.behind, other.behind), max(self.ahead, other.ahead)
        sinks = max(self.sinks, other.sinks)
        return Reach(behind, ahead, sinks if behind < inf else 0)
