"""Who sees whom in a model, read from its configuration.

:func:`masks_of` takes a configuration of the package transformers and gives one
rule for each layer; it imports nothing of that package, and refuses whatever it
does not understand. :func:`describe` says the same on one screen. What they say
is held against the models themselves, layer by layer and cell by cell:
:func:`comparisons` gives the rows of that record.
Chapter 2 derives the rules.
"""

from mattn.masks.configs.described import comparisons, describe
from mattn.masks.configs.families import FAMILIES, Layers
from mattn.masks.configs.layers import masks_of

__all__ = ["FAMILIES", "Layers", "comparisons", "describe", "masks_of"]
