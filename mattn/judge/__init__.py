"""Is this attention right?"""

from mattn.judge.asked import attention
from mattn.judge.verdict import Verdict

__all__ = ["Verdict", "attention"]
