"""What the heads of a model look at, and what of it the model needs.

Four questions that do not ask the same: where does a head look
(``interpret.patterns``); what changes if an edge is covered, a head
silenced, or its output taken from another run (``interpret.patching``);
what does it write towards a logit (``interpret.attribution``). All of it
goes through the model's own forward. Derived in chapter 11.
"""

from mattn.interpret.attribution import Attribution, attribution
from mattn.interpret.patching import (
    Change,
    attention_layers,
    freeze,
    knockout,
    patched,
    path,
    record_outputs,
    replace,
)
from mattn.interpret.patterns import (
    Effect,
    Score,
    diagonal,
    effect,
    first_token,
    induction,
    pattern_score,
    previous_token,
    same_token,
)

__all__ = [
    "Attribution",
    "Change",
    "Effect",
    "Score",
    "attention_layers",
    "attribution",
    "diagonal",
    "effect",
    "first_token",
    "freeze",
    "induction",
    "knockout",
    "patched",
    "path",
    "pattern_score",
    "previous_token",
    "record_outputs",
    "replace",
    "same_token",
]
