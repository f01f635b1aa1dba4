"""What a chapter derives by hand is what mattn does.

Every function named ``*_by_hand`` is lifted out of its notebook, with nothing
else but that notebook's imports, and held against mattn on random inputs. One
without an entry in ``COUNTERPARTS`` fails, and so does an entry without one.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

import nbformat
import numpy as np
import pytest
from counterparts import (
    a_number,
    is_additive,
    is_attention,
    is_blockwise_attention,
    is_documents,
    is_finish,
    is_flash_attention,
    is_flash_attention_backward,
    is_masked_softmax,
    is_merge,
    is_merge_heads,
    is_multi_head_attention,
    is_partial,
    is_ring,
    is_rule,
    is_running_mean,
    is_slots,
    is_softmax,
    is_softmax_backward,
    is_spans,
    is_split_heads,
    with_options,
)
from counterparts_models import (
    are_translation_masks,
    is_beam_search,
    is_bleu,
    is_boolean_power,
    is_cached_attention,
    is_cross_attention,
    is_entropy_rate,
    is_filter,
    is_influence,
    is_leaks,
    is_next_token_loss,
    is_repetition_penalty,
    is_rms_norm,
    is_rotary,
    is_swiglu,
    is_translation_loss,
)
from roots import ROOT

from mattn import causal, padding, prefix, window
from mattn.generation import min_p, top_p

CHAPTERS = ROOT / "chapters"
LIBRARIES = {"numpy", "torch", "math"}
MARK = "_by_hand"
SEEDS = range(5)


def lift(notebook: nbformat.NotebookNode) -> dict[str, Callable]:
    """Its by-hand functions, defined by themselves and the libraries alone."""
    kept = []
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for node in ast.parse(cell.source).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                if module.split(".")[0] in LIBRARIES:
                    kept.append(node)
            elif isinstance(node, ast.FunctionDef) and node.name.endswith(MARK):
                kept.append(node)
    names = [node.name for node in kept if isinstance(node, ast.FunctionDef)]
    assert len(names) == len(set(names)), f"defined twice: {names}"
    space: dict = {}
    exec(compile(ast.Module(kept, type_ignores=[]), "by hand", "exec"), space)
    return {name: space[name] for name in names}


COUNTERPARTS: dict[str, dict[str, Callable]] = {
    "01_concept": {
        "causal_mask_by_hand": is_rule(lambda: causal, square=True),
        "running_mean_by_hand": is_running_mean,
        "masked_softmax_by_hand": is_masked_softmax,
        "attention_by_hand": with_options(is_attention, heads=False),
    },
    "02_mask_matrix": {
        "slots_by_hand": is_slots,
        "causal_mask_by_hand": is_rule(lambda: causal),
        "window_mask_by_hand": is_rule(window, own=a_number),
        "prefix_mask_by_hand": is_rule(prefix, own=a_number),
        "documents_mask_by_hand": is_documents,
        "padding_mask_by_hand": is_rule(
            padding, own=lambda rng: (rng.integers(0, 8, 3).tolist(),)
        ),
        "to_additive_by_hand": is_additive,
    },
    "03_scores": {
        "softmax_by_hand": is_softmax,
        "attention_by_hand": is_attention,
        "split_heads_by_hand": is_split_heads,
        "merge_heads_by_hand": is_merge_heads,
        "multi_head_attention_by_hand": is_multi_head_attention,
    },
    "04_softmax": {
        "softmax_by_hand": with_options(is_softmax, shift=1e4),
        "masked_softmax_by_hand": with_options(is_masked_softmax, empty=True),
        "attention_by_hand": with_options(is_attention, empty=True),
        "masked_softmax_backward_by_hand": is_softmax_backward,
        "partial_by_hand": is_partial,
        "merge_by_hand": is_merge,
        "finish_by_hand": is_finish,
        "blockwise_attention_by_hand": is_blockwise_attention,
    },
    "05_autoregression": {
        "next_token_loss_by_hand": is_next_token_loss,
        "influence_by_hand": is_influence,
        "entropy_rate_by_hand": is_entropy_rate,
        "cached_attention_by_hand": is_cached_attention,
    },
    "06_decoder": {
        "boolean_power_by_hand": is_boolean_power,
        "rotary_by_hand": is_rotary,
        "rms_norm_by_hand": is_rms_norm,
        "swiglu_by_hand": is_swiglu,
    },
    "07_text_generation": {
        "top_p_by_hand": is_filter(top_p),
        "min_p_by_hand": is_filter(min_p),
        "repetition_penalty_by_hand": is_repetition_penalty,
        "beam_search_by_hand": is_beam_search,
    },
    "08_translation": {
        "masks_by_hand": are_translation_masks,
        "cross_attention_by_hand": is_cross_attention,
        "smoothed_loss_by_hand": is_translation_loss,
        "bleu_by_hand": is_bleu,
    },
    "09_masks_that_went_wrong": {"leaks_by_hand": is_leaks},
    "10_gpu": {
        "spans_by_hand": is_spans,
        "flash_attention_by_hand": is_flash_attention,
        "flash_attention_backward_by_hand": is_flash_attention_backward,
    },
    "12_many_devices": {"ring_by_hand": is_ring},
}

FOUND = {
    path.stem: lift(nbformat.read(path, 4)) for path in sorted(CHAPTERS.glob("*.ipynb"))
}


@pytest.mark.parametrize(
    ("chapter", "name"),
    [(chapter, name) for chapter, lifted in FOUND.items() for name in lifted],
)
def test_by_hand_equals_mattn(chapter, name):
    check = COUNTERPARTS.get(chapter, {}).get(name)
    assert check is not None, (
        f"{name} of {chapter} is held against nothing: add it to COUNTERPARTS"
    )
    for seed in SEEDS:
        check(FOUND[chapter][name], np.random.default_rng(seed))


@pytest.mark.parametrize("chapter", COUNTERPARTS)
def test_every_entry_is_of_a_function_that_exists(chapter):
    assert set(COUNTERPARTS[chapter]) <= set(FOUND[chapter])


# --- The mechanism itself ------------------------------------------------------


def notebook(*sources: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(s) for s in sources]
    return nbformat.v4.new_notebook(cells=cells)


RIGHT = "import numpy as np\n\ndef causal_mask_by_hand(n, m):\n    return "
RIGHT += "np.arange(m) <= np.arange(m - n, m)[:, None]"


def test_only_imports_and_by_hand_functions_are_executed():
    lifted = lift(notebook("import mattn.nothing\n1 / 0", RIGHT, "def other(): pass"))
    assert set(lifted) == {"causal_mask_by_hand"}
    is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))


def test_a_function_that_leans_on_the_notebook_fails():
    source = RIGHT.replace("np.arange(m)", "keys")
    lifted = lift(notebook("keys = 3", source))
    with pytest.raises(NameError, match="keys"):
        is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("<=", "<"), ("<=", ">="), ("<= ", "<= 1 + "), ("m - n, m", "0, n")],
)
def test_a_wrong_mask_is_caught(right, wrong):
    lifted = lift(notebook(RIGHT.replace(right, wrong)))
    with pytest.raises(AssertionError):
        is_rule(lambda: causal)(lifted["causal_mask_by_hand"], np.random.default_rng(0))
