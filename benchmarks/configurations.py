"""Write mattn/records/configurations.json: masks_of, held against the models.

Of each family a tiny model of transformers is built with random weights, and who
sees whom in each of its layers is measured in two ways: from the weights that
its `eager` attention gives, and by influence: the input of one layer is changed
at one place, and the outputs of that layer that change are those that see it
(back end `sdpa`). Lengths lie below, at and above windows and chunks of 4; tokens
are given alone, with padding on the left, and packed. Where transformers offers
masks of its own, and where FlexAttention takes our predicate, these are compared
too. Nothing is downloaded.

    python benchmarks/configurations.py [NAME …]
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import measure
import torch
import transformers
from audit_transformers import BERT, DECODERS, DENSE, ENCODERS, GROUPED, LEGACY
from layers_seen import LENGTHS, Given, by_influence, by_weights, cases
from torch import Tensor, nn
from torch.nn.attention.flex_attention import create_block_mask, create_mask
from transformers.masking_utils import create_masks_for_generate

from mattn.masks.configs import Layers, masks_of
from mattn.masks.configs.described import groups, runs

PATH = measure.RECORDS / "configurations.json"
BLOCK = 4
SLIDING = {"sliding_window": 4}
HALVES = {
    "d_model": 32,
    "vocab_size": 50,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 0,
    "forced_eos_token_id": None,
}
EIGHT = GROUPED | {"head_dim": 8}
QWEN2_MOE = DECODERS["qwen2_moe"] | {"num_hidden_layers": 4}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
AS_AUDITED = (
    "gpt2",
    "gptj",
    "codegen",
    "gpt_bigcode",
    "bloom",
    "gpt_neox",
    "opt",
    "falcon",
    "biogpt",
    "xglm",
    "llama",
    "phi",
    "cohere",
    "olmo",
    "olmo2",
    "stablelm",
    "granite",
    "nanochat",
    "gemma",
    "mistral",
    "starcoder2",
    "qwen2",
    "qwen3",
    "gemma2",
    "gpt_oss",
    "gpt_neo",
)

#: name → (model_type, options); more than one of a family where a switch has two ways
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        name: (name, DECODERS[name])
        for name in AS_AUDITED
    },
    "gpt2, cross": ("gpt2", LEGACY | {"add_cross_attention": True}),
    "mistral, no window": ("mistral", GROUPED | {"sliding_window": None}),
    "mixtral": ("mixtral", DECODERS["mixtral"] | SLIDING),
    "phi3": ("phi3", GROUPED | SLIDING),
    "ministral": ("ministral", EIGHT | SLIDING),
    "qwen2, windows": (
        "qwen2",
        GROUPED | SLIDING | {"use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen3, windows": (
        "qwen3",
        EIGHT | SLIDING | {"use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen2_moe, windows": (
        "qwen2_moe",
        QWEN2_MOE | SLIDING | {"use_sliding_window": True, "max_window_layers": 3},
    ),
    "qwen3_moe, windows": (
        "qwen3_moe",
        EIGHT
        | SLIDING
        | {"use_sliding_window": True, "num_experts": 4, "num_experts_per_tok": 2}
        | {"moe_intermediate_size": 16},
    ),
    "cohere2": ("cohere2", GROUPED | SLIDING | {"num_hidden_layers": 4}),
    "olmo3": ("olmo3", GROUPED | SLIDING | {"num_hidden_layers": 4}),
    "smollm3": ("smollm3", GROUPED | {"num_hidden_layers": 4}),
    "smollm3, windows": (
        "smollm3",
        GROUPED | SLIDING | {"use_sliding_window": True, "num_hidden_layers": 4},
    ),
    "gemma3_text": ("gemma3_text", EIGHT | SLIDING | {"num_hidden_layers": 6}),
    "gemma3_text, both directions": (
        "gemma3_text",
        EIGHT | SLIDING | {"num_hidden_layers": 6, "use_bidirectional_attention": True},
    ),
    "gemma3, images": (
        "gemma3",
        {
            "text_config": EIGHT | SLIDING | {"sliding_window_pattern": 2},
            "vision_config": VISION,
            "mm_tokens_per_image": 4,
            **{f"{kind}_token_index": 45 + i for i, kind in enumerate(("boi", "eoi"))},
            "image_token_index": 49,
        },
    ),
    "llama4_text": (
        "llama4_text",
        EIGHT
        | {"num_hidden_layers": 4, "attention_chunk_size": 4, "num_local_experts": 2}
        | {"intermediate_size_mlp": 48},
    ),
    "bert": ("bert", DENSE),
    "bert, decoder": ("bert", BERT | {"add_cross_attention": True}),
    "roberta": ("roberta", DENSE | {"pad_token_id": 0}),
    "xlm-roberta": ("xlm-roberta", DENSE),
    "camembert": ("camembert", DENSE),
    "electra": ("electra", DENSE | {"embedding_size": 32}),
    "distilbert": ("distilbert", ENCODERS["distilbert"]),
    "modernbert": (
        "modernbert",
        DENSE | {"local_attention": 5, "num_hidden_layers": 4, "cls_token_id": 1}
        | {"sep_token_id": 2},
    ),
    "t5": ("t5", ENCODERS["t5"] | {"decoder_start_token_id": 0}),
    "mt5": ("mt5", ENCODERS["t5"] | {"decoder_start_token_id": 0}),
    **{
        name: (name, HALVES)
        for name in ("bart", "mbart", "pegasus", "m2m_100", "marian")
    },
}  # fmt: skip


def _no_positions(file: str, line: int, more: str = "") -> str:
    return f"the mask is built without position_ids, models/{file}:{line}{more}"


_BOTH = "a mask of both directions is built without position_ids, masking_utils.py:1076"

#: (name, given) → why cells differ, with the place in transformers 5.23
WHY: dict[tuple[str, str], str] = {
    ("opt", "packed"): _no_positions("opt/modeling_opt.py", 359),
    ("falcon", "packed"): _no_positions("falcon/modeling_falcon.py", 755),
    ("biogpt", "packed"): _no_positions("biogpt/modeling_biogpt.py", 376),
    ("xglm", "packed"): _no_positions("xglm/modeling_xglm.py", 437),
    ("gpt_oss", "packed"): _no_positions(
        "gpt_oss/modeling_gpt_oss.py", 460, "; huggingface/transformers#39997 is open"
    ),
    ("bert, decoder", "packed"): _no_positions("bert/modeling_bert.py", 697),
    **{
        (name, "packed"): _BOTH
        for name in ("bert", "roberta", "xlm-roberta", "camembert", "electra")
    },
    ("distilbert", "packed"): _BOTH,
    ("modernbert", "packed"): f"{_BOTH} and 1312",
    ("gpt_neo", "masks of transformers"): (
        "windows lie in a buffer of the layer, models/gpt_neo/modeling_gpt_neo.py:67, "
        "and no mask that is built knows of them"
    ),
}


@dataclass
class Tally:
    """Cells that were compared, and the first that differs."""

    cells: int = 0
    differ: int = 0
    first: str = ""
    lengths: list[int] = field(default_factory=list)

    def add(self, expected: Tensor, found: Tensor, among: Tensor, where: str) -> None:
        wrong = (expected != found) & among
        self.cells += int(among.sum())
        self.differ += int(wrong.sum())
        if wrong.any() and not self.first:
            row, q, k = wrong.nonzero()[0].tolist()
            verb = "sees" if found[row, q, k] else "does not see"
            self.first = f"{where}, row {row}: slot {q} {verb} slot {k}"


def build(name: str, *, fused: bool) -> nn.Module:
    """The base model with random weights, in eval mode.

    `sdpa` runs in float64, where rounding cannot pass for influence. `eager` takes
    its softmax in float32, where the smallest float64 that fills its masks is −∞: a
    padded query then has the weights NaN. So it stays in float32.
    """
    transformers.logging.set_verbosity_error()
    torch.manual_seed(0)
    kind, options = MODELS[name]
    config = transformers.AutoConfig.for_model(kind, **options)
    config.use_cache = config.get_text_config().use_cache = False
    cls = transformers.AutoModel._model_mapping[type(config)]
    fused = fused and cls._supports_sdpa
    config._attn_implementation = "sdpa" if fused else "eager"
    config._experts_implementation = "eager"
    model = transformers.AutoModel.from_config(config).eval()
    return model.double() if fused else model


# ------------------------------------------------------------------- compared


def compare(name: str) -> dict[str, Any]:
    """All of one model, as the record keeps it."""
    eager, fused = build(name, fused=False), build(name, fused=True)
    tallies: dict[str, Tally] = {}
    for given in cases(eager, images=name.startswith("gemma3, ")):
        layers = masks_of(eager.config, images=given.images)
        tally = tallies.setdefault(given.how, Tally())
        tally.lengths.append(given.length)
        expected = given.expected(layers)
        for how, found in (
            ("weights", by_weights(eager, given)),
            ("influence", by_influence(fused, given)),
        ):
            _add(tally, given, expected, found, how)
    layers = masks_of(eager.config)
    if not eager.config.is_encoder_decoder and layers[0].bound.ahead <= 0:
        tallies["masks of transformers"] = offered(eager.config, layers)
    tallies["FlexAttention"] = flex(layers)
    return {
        "family": MODELS[name][0],
        "name": name,
        "class": type(eager).__name__,
        "layers": [f"{runs(n)}: {rule!r}" for n, rule in groups(layers)],
        "encoder": [f"{runs(n)}: {rule!r}" for n, rule in groups(layers.encoder)],
        "cases": [_case(name, how, tally) for how, tally in tallies.items()],
    }


def _case(name: str, how: str, tally: Tally) -> dict[str, Any]:
    case = {
        "given": how,
        "lengths": tally.lengths,
        "cells": tally.cells,
        "differ": tally.differ,
    }
    if tally.differ:
        case |= {"first": tally.first, "why": WHY.get((name, how), "")}
    return case


def _add(tally: Tally, given: Given, expected: dict, found: dict, how: str) -> None:
    """Cells of real queries; a residual adds the diagonal to an influence."""
    for part, rules in expected.items():
        if len(rules) != len(found[part]):
            raise RuntimeError(
                f"{how}: expected {len(rules)} layers of {part}; got {len(found[part])}"
            )
        real = given.of_encoder if part == "encoder" else given.slots
        for i, (rule, seen) in enumerate(zip(rules, found[part], strict=True)):
            among = (real >= 0)[:, :, None].expand_as(rule).clone()
            if how == "influence" and part != "cross":
                among &= ~torch.eye(rule.shape[-1], dtype=torch.bool)
            where = f"{given.length} tokens, {part} layer {i}, {how}"
            tally.add(rule, seen, among, where)


def offered(config: Any, layers: Layers) -> Tally:
    """The masks that transformers builds for `generate`, from the configuration."""
    tally = Tally(lengths=list(LENGTHS))
    text = config.get_text_config()
    for n in LENGTHS:
        embedded = torch.zeros(1, n, text.hidden_size)
        masks = create_masks_for_generate(config, embedded, None, None)
        for i, rule in enumerate(layers):
            mask = masks[text.layer_types[i]] if isinstance(masks, dict) else masks
            where = f"{n} tokens, layer {i}"
            expected = rule.matrix(n)[None]
            tally.add(expected, mask[0] == 0, torch.ones_like(expected), where)
    return tally


def flex(layers: Layers) -> Tally:
    """FlexAttention's mask and block mask, of our predicate."""
    tally = Tally(lengths=list(LENGTHS))
    rules = {id(rule): rule for rule in [*layers, *layers.encoder, *layers.cross]}
    for n in LENGTHS:
        for rule in rules.values():
            predicate, expected = rule.predicate(n), rule.matrix(n)[None]

            def mod(b, h, q, k, predicate=predicate):  # a function of four, no more
                return predicate(b, h, q, k)

            cells = create_mask(mod, 1, 1, n, n, device="cpu")[0]
            everywhere = torch.ones_like(expected)
            tally.add(expected, cells, everywhere, f"{n} tokens, {rule!r}")
            blocks = create_block_mask(
                mod, None, None, n, n, device="cpu", BLOCK_SIZE=BLOCK
            )
            touched = nn.functional.max_pool2d(
                expected.float(), BLOCK, ceil_mode=True
            ).bool()
            found = blocks.to_dense()[0].bool()
            where = f"{n} tokens, blocks of {rule!r}"
            tally.add(touched, found, torch.ones_like(touched), where)
    return tally


def main() -> None:
    parser = measure.arguments(__doc__, PATH.stem)
    parser.add_argument("names", nargs="*", metavar="NAME", help="these alone, unsaved")
    options = parser.parse_args()
    measure.one_thread()
    warnings.simplefilter("ignore")
    rows = []
    for name in options.names or MODELS:
        seconds, row = measure.timed(lambda name=name: compare(name))
        rows.append(row)
        said = ", ".join(
            f"{c['given']} {c['differ']}/{c['cells']}" for c in row["cases"]
        )
        print(f"{name:28} {seconds:4.1f} s  {said}", flush=True)
        for case in row["cases"]:
            if case["differ"]:
                print(f"    {case['given']}: {case['first']}. {case['why']}")
    if options.names:
        return
    head = measure.header(note=options.note)
    head["versions"]["transformers"] = transformers.__version__
    what = "masks_of(config) against models of that configuration, cell by cell"
    measure.write({"what": what, **head, "models": rows}, options.to)


if __name__ == "__main__":
    main()
