"""One mask over many processes: ring attention, and what belongs to it.

Every process holds some tokens of a sequence and the slots that they have in it, and
asks the same rule about them. ``torchrun --nproc-per-node 4 -m mattn.parallel
--check`` compares all of this with one process. Derived in chapter 12.
"""

from mattn.parallel.heads import all_to_all_attention
from mattn.parallel.layouts import LAYOUTS, collect, deal
from mattn.parallel.model import cached_attention, over_processes, sum_gradients
from mattn.parallel.parts import join, split
from mattn.parallel.planner import Cost, plan
from mattn.parallel.ring import ring_attention
from mattn.parallel.start import run
from mattn.parallel.talk import Counts

__all__ = [
    "LAYOUTS",
    "Cost",
    "Counts",
    "all_to_all_attention",
    "cached_attention",
    "collect",
    "deal",
    "join",
    "over_processes",
    "plan",
    "ring_attention",
    "run",
    "split",
    "sum_gradients",
]
