"""mattn: masked (causal) self-attention, derived, executed and checked.

One chapter of the book, one module of the package. Layers; imports only
point down, and a test holds the modules to this drawing:

    5  audit · metrics
    4  generation · training · pretrained · plotting
    3  models · playground
    2  attention · kernels · embedding
    1  masks · softmax · cache · rotary
    0  data · checks · repro
"""

from mattn.attention import (
    MultiHeadAttention,
    attention,
    blockwise_attention,
    fused_attention,
    record_weights,
)
from mattn.cache import KVCache
from mattn.masks import (
    Mask,
    boolean_power,
    causal,
    documents,
    full,
    padding,
    prefix,
    to_additive,
    window,
)
from mattn.models import Config, Decoder, EncoderDecoder
from mattn.softmax import masked_softmax

__all__ = [
    "Config",
    "Decoder",
    "EncoderDecoder",
    "KVCache",
    "Mask",
    "MultiHeadAttention",
    "attention",
    "blockwise_attention",
    "boolean_power",
    "causal",
    "documents",
    "full",
    "fused_attention",
    "masked_softmax",
    "padding",
    "prefix",
    "record_weights",
    "to_additive",
    "window",
]

__version__ = "0.1.0"
