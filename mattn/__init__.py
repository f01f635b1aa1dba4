"""mattn: masked (causal) self-attention, derived, executed and checked.

One chapter of the book, one module of the package. Layers; imports only
point down, and a test holds the modules to this drawing:

    7  judge
    6  audit · metrics · interpret
    5  generation · training · pretrained · parallel · atlas
    4  models · playground · reader
    3  heads
    2  attention · flash · embedding · config · checkpoint · repro
    1  masks · softmax · cache · rotary · filters · data · files
    1  losses · optimizers · plotting
    0  reach · slots · inputs · toy · checks · tables · optional · shares

The names below, and the modules above, are loaded when they are first used:
`import mattn` itself loads neither torch nor matplotlib.
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what checkers of types, and editors, see
    from mattn import atlas as atlas
    from mattn import audit as audit
    from mattn import cache as cache
    from mattn import checkpoint as checkpoint
    from mattn import checks as checks
    from mattn import config as config
    from mattn import data as data
    from mattn import embedding as embedding
    from mattn import files as files
    from mattn import filters as filters
    from mattn import flash as flash
    from mattn import generation as generation
    from mattn import heads as heads
    from mattn import inputs as inputs
    from mattn import interpret as interpret
    from mattn import judge as judge
    from mattn import losses as losses
    from mattn import masks as masks
    from mattn import metrics as metrics
    from mattn import models as models
    from mattn import optimizers as optimizers
    from mattn import optional as optional
    from mattn import parallel as parallel
    from mattn import playground as playground
    from mattn import plotting as plotting
    from mattn import pretrained as pretrained
    from mattn import reach as reach
    from mattn import reader as reader
    from mattn import repro as repro
    from mattn import rotary as rotary
    from mattn import shares as shares
    from mattn import slots as slots
    from mattn import softmax as softmax
    from mattn import tables as tables
    from mattn import toy as toy
    from mattn import training as training
    from mattn.attention import attention, blockwise_attention, fused_attention
    from mattn.cache import KVCache
    from mattn.config import Config
    from mattn.heads import MultiHeadAttention, record_weights
    from mattn.masks import (
        Mask,
        Reach,
        boolean_power,
        causal,
        documents,
        full,
        masks_of,
        padding,
        prefix,
        rule,
        to_additive,
        window,
    )
    from mattn.models import Decoder, EncoderDecoder
    from mattn.softmax import masked_softmax

# In the order of the chapters that derive them, and no other.
__all__ = [  # noqa: RUF022
    # 1, the concept
    "attention",
    # 2, the mask matrix
    "causal",
    "window",
    "prefix",
    "documents",
    "padding",
    "full",
    "rule",
    "Mask",
    "Reach",
    "to_additive",
    "masks_of",
    # 3, scores
    "MultiHeadAttention",
    "record_weights",
    # 4, softmax
    "masked_softmax",
    "blockwise_attention",
    "fused_attention",
    # 5, autoregression
    "KVCache",
    # 6, the decoder
    "Config",
    "Decoder",
    "boolean_power",
    # 8, translation
    "EncoderDecoder",
]

__version__ = "0.2.0"

_HOMES = ("masks", "softmax", "cache", "attention", "heads", "config", "models")


if not TYPE_CHECKING:  # to a checker it would say that there is every name

    def __getattr__(name: str) -> Any:
        """One of the names, or a module, on first use."""
        if name in __all__:
            home = next(m for m in map(_module, _HOMES) if name in m.__all__)
            value = globals()[name] = getattr(home, name)
            return value
        if not name.startswith("_") and find_spec(f"{__name__}.{name}"):
            return _module(name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """A package in which a name that is a function stays one.

    Python binds a module to its package after each first import, whoever asks
    for it. Without this, `mattn.attention` would be the function or the module,
    as the order of imports has it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
