"""Families of models: which fields of each say who sees whom, and how.

Read in transformers 5.23, where defaults are those of the family's
configuration class. Adding a family is adding a line to :data:`FAMILIES`; the
record of comparisons then says what is missing. Chapter 2 derives the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mattn.masks.algebra import Mask
from mattn.masks.configs.fields import Fields
from mattn.masks.matrices import is_count
from mattn.masks.named import causal, full, window
from mattn.masks.patterns import chunks, near

__all__ = ["FAMILIES", "Family", "Layers"]

FULL, SLIDING, CHUNKED = "full_attention", "sliding_attention", "chunked_attention"


class Layers(list[Mask]):
    """One rule for each layer, in order; layers that see the same share a rule.

    Of a model of two halves these are the decoder's own; what its encoder sees
    is in ``encoder``, what the decoder sees of the encoder in ``cross``.
    """

    def __init__(
        self,
        rules: Iterable[Mask],
        *,
        encoder: Sequence[Mask] = (),
        cross: Sequence[Mask] = (),
        notes: Sequence[str] = (),
    ):
        super().__init__(rules)
        self.encoder, self.cross = list(encoder), list(cross)
        self.notes = list(notes)
        """What acts on the scores and is no mask, in words."""
        self.family = ""


@dataclass(frozen=True)
class Family:
    """How the rules of a family are read, and its class's default of layers."""

    rules: Callable[[Fields, Family], Layers]
    n_layers: int
    names: tuple[str, ...] = ("num_hidden_layers",)
    """Fields that count the layers, the family's own first."""
    window: int | None = None
    """Of the field sliding_window, where it is absent."""
    every: int = 0
    """Every so many layers one is global, unless layer_types says otherwise."""
    notes: tuple[str, ...] = ()
    text: str = ""
    """For a model of several kinds of input: the family of its text_config."""

    def count(self, f: Fields) -> int:
        return f.count(self.names, self.n_layers)


# -------------------------------------------------------- every layer the same


def _causal(f: Fields, family: Family) -> Layers:
    n = family.count(f)
    # GPT-2 and its like can be given an encoder to look at.
    crossed = f.flag("add_cross_attention", False)
    f.take("is_decoder")  # causal with it and without
    return Layers([causal] * n, cross=[full] * n if crossed else ())


def _one_way(f: Fields, family: Family) -> Layers:
    """Gemma, Gemma 2: their switch to both directions is half wired."""
    if f.flag("use_bidirectional_attention", False):
        raise f.refuse(
            "use_bidirectional_attention",
            "to be false",
            "With true, transformers 5.23 answers by back end: masks that are built "
            "stay causal, and a back end that leaves them out, `sdpa` or flash, sees "
            "all. Say the rule yourself.",
        )
    return _by_type(f, family) if family.every else _causal(f, family)


def _one_window(f: Fields, family: Family) -> Layers:
    """The same window in every layer, or none in any."""
    w = f.size("sliding_window", family.window)
    return Layers([_windowed(w)] * family.count(f))


def _switched_window(f: Fields, family: Family) -> Layers:
    """Qwen 3 MoE: a window in every layer, where it is switched on."""
    on = f.flag("use_sliding_window", False)
    if not on:
        f.take("max_window_layers")  # idle in files that say so
    w = f.size("sliding_window", family.window)
    return Layers([_windowed(w if on else None)] * family.count(f))


def _windowed(w: int | None) -> Mask:
    return causal if w is None else causal & window(w)


# ------------------------------------------------------------- layer by layer


def _by_type(f: Fields, family: Family) -> Layers:
    """Windows in all layers but every ``every``-th."""
    n = family.count(f)
    w = f.size("sliding_window", family.window)
    every = _pattern(f, family.every)
    types = f.types(n, lambda i: SLIDING if (i + 1) % every else FULL, (FULL, SLIDING))
    _agree(f, types, every)
    return _typed(f, types, {FULL: causal, SLIDING: w and causal & window(w)})


def _pattern(f: Fields, default: int) -> int:
    every = f.take("sliding_window_pattern", default)
    if not is_count(every, least=1):
        raise f.refuse(
            "sliding_window_pattern",
            "to be an int >= 1",
            "With n, every n-th layer is global; layer_types says it layer by layer.",
        )
    return int(every)


def _agree(f: Fields, types: list[str], every: int) -> None:
    if not f.given("sliding_window_pattern"):
        return
    for i, kind in enumerate(types):
        if (kind == SLIDING) is not bool((i + 1) % every):
            raise f.refuse(
                "sliding_window_pattern",
                f"to agree with layer_types, where layer {i} is {kind}",
                "Keep the one that is right; layer_types is what transformers follows.",
            )


def _all_or_none(f: Fields, family: Family) -> Layers:
    """Ministral: windows in every layer, unless layer_types says otherwise."""
    w = f.size("sliding_window", family.window)
    usual = FULL if w is None else SLIDING
    types = f.types(family.count(f), lambda i: usual, (FULL, SLIDING))
    return _typed(f, types, {FULL: causal, SLIDING: w and causal & window(w)})


def _qwen(f: Fields, family: Family) -> Layers:
    """Qwen 2 and 3: windows from layer max_window_layers on; in the MoE of Qwen 2
    in every other layer *before* it."""
    n, on = family.count(f), f.flag("use_sliding_window", False)
    first = f.take("max_window_layers", 28)
    if not is_count(first, least=0):
        raise f.refuse("max_window_layers", "to be an int >= 0", "0: in all layers.")
    # Where it is switched off, objects of Qwen 2 MoE hold a 0.
    w = f.size("sliding_window", family.window) if on else f.take("sliding_window")

    def usual(i: int) -> str:
        late = i >= first if not family.every else (i + 1) % 2 and i < first
        return SLIDING if on and w is not None and late else FULL

    types = f.types(n, usual, (FULL, SLIDING))
    if SLIDING in types and not on:
        raise f.refuse(
            "use_sliding_window",
            f"to be true where layer {types.index(SLIDING)} is {SLIDING}",
            "Switch it on, or make all layer_types full_attention.",
        )
    return _typed(f, types, {FULL: causal, SLIDING: on and w and causal & window(w)})


def _smollm(f: Fields, family: Family) -> Layers:
    """SmolLM 3: where switched on, windows in the layers *without* rotation."""
    n, on = family.count(f), f.flag("use_sliding_window", False)
    rotated = _rotated(f, n)
    w = f.size("sliding_window", family.window)
    slides = on and w is not None
    usual = [SLIDING if slides and not r else FULL for r in rotated]
    types = f.types(n, usual.__getitem__, (FULL, SLIDING))
    if SLIDING in types and not on:
        raise f.refuse(
            "use_sliding_window",
            f"to be true where layer {types.index(SLIDING)} is {SLIDING}",
            "Switch it on, or make all layer_types full_attention.",
        )
    return _typed(f, types, {FULL: causal, SLIDING: w and causal & window(w)})


def _llama4(f: Fields, family: Family) -> Layers:
    """Llama 4: chunks in the layers *with* rotation."""
    n = family.count(f)
    c = f.size("attention_chunk_size", 8192)
    usual = [CHUNKED if r else FULL for r in _rotated(f, n)]
    types = f.types(n, usual.__getitem__, (FULL, CHUNKED))
    rules = {FULL: causal, CHUNKED: c and causal & chunks(c)}
    return _typed(f, types, rules, size="attention_chunk_size")


def _rotated(f: Fields, n: int) -> list[bool]:
    """no_rope_layers holds 1 for layers *with* rotation, despite its name."""
    every = f.take("no_rope_layer_interval", 4)
    if not is_count(every, least=1):
        raise f.refuse("no_rope_layer_interval", "to be an int >= 1", "The usual is 4.")
    given = f.take("no_rope_layers")
    if given is None or given == []:  # absent, or empty as in files of Llama 4
        return [bool((i + 1) % every) for i in range(n)]
    zeros_and_ones = isinstance(given, list | tuple) and set(given) <= {0, 1}
    if not zeros_and_ones or len(given) != n:
        length = f" of {len(given)}" if isinstance(given, list | tuple) else ""
        raise f.refuse(
            f"no_rope_layers{length}",
            f"to hold a 1 or a 0 for each of {n} layers",
            "1: this layer rotates. Give all, or leave the field out.",
        )
    return [bool(r) for r in given]


def _gpt_neo(f: Fields, family: Family) -> Layers:
    n, w = family.count(f), f.size("window_size", 256)
    types = _expanded(f, f.take("attention_types"), n)
    listed = f.take("attention_layers", types)  # objects hold both
    if list(listed) != types:
        raise f.refuse(
            "attention_layers", "to be attention_types, written out", "Keep one."
        )
    rules = {"global": causal, "local": w and causal & window(w)}
    return _typed(f, types, rules, size="window_size")


def _expanded(f: Fields, given: Any, n: int) -> list[str]:
    """[[["global", "local"], 12]] as 24 types."""
    given = [[["global", "local"], 12]] if given is None else given
    parts: list[tuple[list, int]] = []
    try:
        parts = [(list(kinds), times) for kinds, times in given]
        length = sum(len(kinds) * times for kinds, times in parts)
        right = {k for kinds, _ in parts for k in kinds} <= {"global", "local"}
    except (TypeError, ValueError):
        right, length = False, None
    if not right or length != n:
        says = "" if length is None else f" for {length} layers"
        raise f.refuse(
            f"attention_types{says}",
            f'to be pairs like [["global", "local"], 12], for {n} layers in all',
            "Repeat the types so often that there is one for each layer.",
        )
    return [kind for kinds, times in parts for _ in range(times) for kind in kinds]


def _typed(
    f: Fields, types: list[str], rules: dict[str, Any], *, size: str = "sliding_window"
) -> Layers:
    for i, kind in enumerate(types):
        if not isinstance(rules[kind], Mask):
            raise f.refuse(
                size,
                f"to be an int >= 1 where layer {i} is {kind}",
                "Say how many keys it shows, or make the layer full_attention.",
            )
    return Layers(rules[kind] for kind in types)


# --------------------------------------------------------------- both directions


def _gemma3(f: Fields, family: Family) -> Layers:
    """Gemma 3: with use_bidirectional_attention a window of w is one of ⌊w/2⌋ to
    either side, which the class works out and its dict undoes."""
    if not f.flag("use_bidirectional_attention", False):
        return _by_type(f, family)
    w = f.size("sliding_window", family.window)
    n, every = family.count(f), _pattern(f, family.every)
    types = f.types(n, lambda i: SLIDING if (i + 1) % every else FULL, (FULL, SLIDING))
    _agree(f, types, every)
    return _typed(f, types, {FULL: full, SLIDING: w and near(w // 2)})


def _modernbert(f: Fields, family: Family) -> Layers:
    """ModernBERT: ⌊local_attention/2⌋ to either side, and every third layer, from
    the first on, full."""
    n, w = family.count(f), f.size("local_attention", 128)
    every = f.take("global_attn_every_n_layers", 3)
    if not is_count(every, least=1):
        raise f.refuse("global_attn_every_n_layers", "to be an int >= 1", "Usual is 3.")
    types = f.types(n, lambda i: SLIDING if i % every else FULL, (FULL, SLIDING))
    rules = {FULL: full, SLIDING: w and near(w // 2)}
    return _typed(f, types, rules, size="local_attention")


def _encoder(f: Fields, family: Family) -> Layers:
    n = family.count(f)
    if not f.flag("is_decoder", False):
        if f.flag("add_cross_attention", False):
            raise f.refuse(
                "add_cross_attention",
                "to be false where is_decoder is",
                "transformers builds cross-attention for decoders alone.",
            )
        return Layers([full] * n)
    crossed = f.flag("add_cross_attention", False)
    return Layers([causal] * n, cross=[full] * n if crossed else ())


def _two_halves(f: Fields, family: Family) -> Layers:
    """An encoder that sees all, a decoder that looks back, and sees the encoder."""
    first = family.names[0]
    n = family.count(f)
    own = "num_decoder_layers" if first == "num_layers" else "decoder_layers"
    default = n if first == "num_layers" else family.n_layers
    decoder = f.count((own,), default)
    for name, right in (("is_encoder_decoder", True), ("is_decoder", False)):
        if f.flag(name, right) is not right:
            raise f.refuse(
                name,
                f"to be {str(right).lower()}",
                "Give the configuration of the whole model, not of one half.",
            )
    return Layers([causal] * decoder, encoder=[full] * n, cross=[full] * decoder)


# ------------------------------------------------------------------- the table

_SINKS = "a learned logit of each head joins the softmax and has no key: no mask"
_CAP = "scores are capped by a tanh before the mask: no mask"
_BIAS = "a learned bias of q − k is added to the scores: no mask"
_ALIBI = "a bias that falls with q − k is added to the scores: no mask"
_CHUNKS = "chunks are counted from a row's first token: with left padding, by slot"
_IMAGES = "tokens of one image see each other: masks_of(config, images=ids)"
_GPT = ("n_layer", "num_hidden_layers")
_SEQ = ("encoder_layers", "num_hidden_layers")
_T5 = ("num_layers", "num_hidden_layers")

FAMILIES: dict[str, Family] = {
    # model_type: how it is read, layers by default, …
    "gpt2": Family(_causal, 12, _GPT),
    "gptj": Family(_causal, 28, _GPT),
    "codegen": Family(_causal, 28, _GPT),
    "gpt_bigcode": Family(_causal, 12, _GPT),
    "bloom": Family(_causal, 2, _GPT, notes=(_ALIBI,)),
    "gpt_neox": Family(_causal, 44),
    "opt": Family(_causal, 12),
    "falcon": Family(_causal, 32),
    "biogpt": Family(_causal, 24),
    "xglm": Family(_causal, 24, _T5),
    "llama": Family(_causal, 32),
    "phi": Family(_causal, 24),
    "cohere": Family(_causal, 40),
    "olmo": Family(_causal, 32),
    "olmo2": Family(_causal, 32),
    "stablelm": Family(_causal, 32),
    "granite": Family(_causal, 32),
    "nanochat": Family(_causal, 12),
    "gemma": Family(_one_way, 28),
    "mistral": Family(_one_window, 32, window=4096),
    "mixtral": Family(_one_window, 32),
    "phi3": Family(_one_window, 32),
    "starcoder2": Family(_one_window, 30),
    "qwen3_moe": Family(_switched_window, 24, window=4096),
    "ministral": Family(_all_or_none, 32, window=4096),
    "qwen2": Family(_qwen, 32, window=4096),
    "qwen3": Family(_qwen, 32, window=4096),
    "qwen2_moe": Family(_qwen, 24, window=4096, every=2),
    "smollm3": Family(_smollm, 36),
    "gemma2": Family(_one_way, 26, window=4096, every=2, notes=(_CAP,)),
    "cohere2": Family(_by_type, 40, window=4096, every=4),
    "olmo3": Family(_by_type, 32, window=4096, every=4),
    "gpt_oss": Family(_by_type, 36, window=128, every=2, notes=(_SINKS,)),
    "gemma3_text": Family(_gemma3, 26, window=4096, every=6),
    "gemma3": Family(
        _gemma3, 26, window=4096, every=6, notes=(_IMAGES,), text="gemma3_text"
    ),
    "llama4_text": Family(_llama4, 48, notes=(_CHUNKS,)),
    "llama4": Family(_llama4, 48, notes=(_CHUNKS,), text="llama4_text"),
    "gpt_neo": Family(_gpt_neo, 24, _T5),
    "bert": Family(_encoder, 12),
    "roberta": Family(_encoder, 12),
    "xlm-roberta": Family(_encoder, 12),
    "camembert": Family(_encoder, 12),
    "electra": Family(_encoder, 12),
    "distilbert": Family(_encoder, 6, ("n_layers", "num_hidden_layers")),
    "modernbert": Family(_modernbert, 22),
    "t5": Family(_two_halves, 6, _T5, notes=(_BIAS,)),
    "mt5": Family(_two_halves, 8, _T5, notes=(_BIAS,)),
    "bart": Family(_two_halves, 12, _SEQ),
    "mbart": Family(_two_halves, 12, _SEQ),
    "pegasus": Family(_two_halves, 12, _SEQ),
    "m2m_100": Family(_two_halves, 12, _SEQ),
    "marian": Family(_two_halves, 12, _SEQ),
}
