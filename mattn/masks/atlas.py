"""The atlas: the masks that are in use, one entry each.

To add a mask, add an :class:`~mattn.masks.entry.Entry` here: a rule in the names of
:mod:`mattn.masks`, why anyone wants it, who uses it, its source, and its number of
pairs. A test runs the rule, counts the pairs and says what is missing; the page of the
atlas, an appendix of the book, the exported cases and ``conform`` are made from it.
"""

from __future__ import annotations

from typing import Any

from mattn.masks.entry import Entry

__all__ = ["ENTRIES", "atlas"]

#: Pairs of a causal mask, and of a causal window of w keys.
CAUSAL = "T * (T + 1) // 2"
WINDOW = "sum(min(i + 1, w) for i in range(T))"
W: dict[str, Any] = {
    "given": {"w": "3"},
    "large": {"w": "512"},
    "tries": {"w": (1, 2, 4)},
}
OFF_BY_ONE = {
    "the window holds w + 1 keys": "causal & window(w + 1)",
    "the window holds w - 1 keys": "causal & window(max(1, w - 1))",
    "it looks ahead, too: the window has no causal mask": "window(w)",
}
GROUPS = "[-1 if i % 8 in (0, 4, 7) else i // 4 for i in range(T)]"
DOCUMENTS = "[0 if i < 3 * T // 8 else 1 if i < 6 * T // 8 else 2 for i in range(T)]"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        "causal", "causal", "causal",
        "Each token may be predicted from the ones before it, all in one pass.",
        "every decoder", "vaswani2017attention", CAUSAL,
        slips={
            "True means hidden": "~causal",
            "it is shifted by one: a query does not see its own key":
                "causal & ~near(0)",
            "it is shifted by one: a query sees the next key": "wait(2)",
            "nothing is hidden": "full",
        },
    ),
    Entry(
        "bottom-right", "causal, fewer queries than keys", "causal",
        "With a cache the queries are the last tokens, so the last query stands at "
        "the last key.",
        "every cache (PyTorch's is_causal is aligned top-left instead)",
        "paszke2019pytorch (pytorch #108108, mlx #2967, onnx #8068)", CAUSAL,
    ),
    Entry(
        "full", "bidirectional", "full",
        "A text that is all there may be read in both directions.",
        "BERT, encoders, LLaDA", "devlin2019bert", "T * T",
        slips={"later keys are hidden": "causal"},
    ),
    Entry(
        "padding", "padding", "padding([n])",
        "Rows of a batch are filled up to one length, and nobody may read the filling.",
        "every batch of unequal texts", "vaswani2017attention", "n * T",
        {"n": "T - T // 4"},
    ),
    Entry(
        "documents", "packed documents", "causal & documents(ids)",
        "Short texts share a row, and none may read its neighbour.",
        "torchtitan, SmolLM 3, variable-length kernels", "krell2021efficient",
        "sum(ids.count(d) * (ids.count(d) + 1) // 2 for d in set(ids))",
        {"ids": DOCUMENTS},
        slips={"documents are not told apart": "causal",
               "later keys of a document are seen": "documents(ids)"},
    ),
    Entry(
        "window", "sliding window of w keys", "causal & window(w)",
        "The cost of a token, and its cache, stop growing with the text.",
        "Mistral, Gemma, GPT-OSS in transformers",
        "beltagy2020longformer (transformers: sliding_window_overlay)",
        WINDOW, **W, slips=OFF_BY_ONE,
    ),
    Entry(
        "window-left", "sliding window of w keys and its own",
        "causal & window(w + 1)",
        "The same, counted as keys to the left: 0 ≤ q − k ≤ w.",
        "flash-attn's window_size=(w, 0), attention-gym, nanochat",
        "dao2023flashattention (Megatron-Bridge #2656, transformers #39408)",
        "sum(min(i, w) + 1 for i in range(T))", **W,
        slips={"the window holds w keys": "causal & window(w)"},
    ),
    Entry(
        "local-global", "local and global layers", "causal & window(w)",
        "A few layers see everything, so that the others need not.",
        "Gemma 3 (5 : 1), GPT-OSS (1 : 1), OLMo 3, nanochat",
        "beltagy2020longformer (transformers: layer_types; Megatron-Bridge #4875)",
        WINDOW, **W, slips={"local and global layers are swapped": "causal"},
        alternates="causal",
    ),
    Entry(
        "near", "symmetric window", "near(w)",
        "An encoder reads some neighbours on both sides.",
        "ModernBERT, embedding models", "beltagy2020longformer",
        "sum(min(T, i + w + 1) - max(0, i - w) for i in range(T))",
        {"w": "2"}, {"w": "64"}, {"w": (0, 1, 3)},
        {"one neighbour too few on each side": "near(max(0, w - 1))",
         "one neighbour too many on each side": "near(w + 1)"},
    ),
    Entry(
        "chunked", "chunks", "causal & chunks(c)",
        "The text falls into pieces that are read alone; other layers join them.",
        "Llama 4 (8,192 tokens, three layers of four)",
        "touvron2023llama (transformers: chunked_overlay, #37351; llama.cpp #12774)",
        "sum(i % c + 1 for i in range(T))",
        {"c": "3"}, {"c": "512"}, {"c": (1, 2, 4)},
        {"it is a window that slides, not a chunk": "causal & window(c)"},
    ),
    Entry(
        "dilated", "dilated window", "near(w) & dilated(d)",
        "The same number of keys reaches d times as far.",
        "Longformer", "beltagy2020longformer (attention-gym: dilated_sliding_window)",
        "sum(abs(i - j) <= w and (i - j) % d == 0 for i in range(T) for j in range(T))",
        {"w": "4", "d": "2"}, {"w": "512"}, {"w": (3, 5)},
    ),
    Entry(
        "global-window", "window and global tokens", "near(w) | global_tokens(g)",
        "A few tokens, as a question, are read by all and read all.",
        "Longformer", "beltagy2020longformer",
        "sum(abs(i - j) <= w or i in g or j in g for i in range(T) for j in range(T))",
        {"w": "1", "g": "[0]"}, {"w": "256", "g": "[0, 1]"}, {"w": (0, 2)},
    ),
    Entry(
        "bigbird", "window, global and random blocks",
        "near(w) | global_tokens(g) | random_blocks(T, c, n)",
        "Random links bring any two tokens together in a few layers.",
        "BigBird", "zaheer2020big",
        "(near(w) | global_tokens(g) | random_blocks(T, c, n)).matrix(T).sum()",
        {"w": "1", "g": "[0]", "c": "2", "n": "1"},
        {"w": "192", "g": "list(range(128))", "c": "64", "n": "3"},
    ),
    Entry(
        "sinks", "window and sinks", "causal & (window(w) | prefix(s))",
        "Softmax has to leave its weight somewhere, and the first tokens are where.",
        "StreamingLLM", "xiao2024efficient",
        "sum(min(i + 1, w + min(s, max(0, i + 1 - w))) for i in range(T))",
        {"w": "3", "s": "1"}, {"w": "512", "s": "4"}, {"s": (2,)},
        {"the sinks are lost": "causal & window(w)",
         "the sinks count among the w keys": "causal & (window(w - s) | prefix(s))"},
    ),
    Entry(
        "learned-sink", "learned sinks", "causal",
        "A head that has nothing to say need not say it of any token.",
        "GPT-OSS, DeepSeek-V4", "xiao2024efficient (transformers: gpt_oss)", CAUSAL,
        instead="One more logit a head, without a value, joins the normaliser.",
    ),
    Entry(
        "meta-tokens", "window and meta tokens", "causal & (window(w) | prefix(m))",
        "Learned tokens before the text hold what every query may need.",
        "Hymba", "dong2024hymba",
        "sum(min(i + 1, w + min(m, max(0, i + 1 - w))) for i in range(T))",
        {"w": "2", "m": "2"}, {"w": "1024", "m": "128"},
    ),
    Entry(
        "prefix", "prefix", "causal | prefix(n)",
        "A question is read in both directions, its answer is written causally.",
        "PaliGemma, T5's prefix models", "raffel2020exploring (transformers #30993)",
        "sum(max(i + 1, min(n, T)) for i in range(T))",
        {"n": "3"}, {"n": "1024"}, {"n": (0, 1, 4)},
        {"the prefix is read causally": "causal"},
    ),
    Entry(
        "images", "images in a window", "(causal | groups(images)) & window(w)",
        "The patches of a picture have no order; the window still holds for them.",
        "Gemma 3 and 4, local layers",
        "dong2024flex (transformers: blockwise_overlay, #46850; vLLM #47217)",
        "sum(i - w < j and (j <= i or images[i] == images[j] >= 0) for i in range(T) "
        "for j in range(T))",
        {"images": GROUPS, "w": "2"}, {"w": "512"}, {"w": (3,)},
        {"the window does not hold for images":
            "(causal & window(w)) | groups(images)",
         "two images are read as one":
            "(causal | groups([min(i, 0) for i in images])) & window(w)"},
    ),
    Entry(
        "mixed", "text and images", "causal | groups(images)",
        "One model writes text token by token and pictures as a whole.",
        "Transfusion, LMFusion", "shi2024lmfusion (transformers #38080)",
        "sum(j <= i or images[i] == images[j] >= 0 for i in range(T) "
        "for j in range(T))",
        {"images": GROUPS},
        slips={"two images are read as one":
            "causal | groups([min(i, 0) for i in images])"},
    ),
    Entry(
        "cumulative", "cumulative blocks", "cumulative(opens)",
        "Images, state and actions are blocks; each sees itself and those before.",
        "π0 and openpi, big_vision", "black2024pi (openpi: make_attn_mask)",
        "sum(sum(opens[:j + 1]) <= sum(opens[:i + 1]) for i in range(T) "
        "for j in range(T))",
        {"opens": "[int(i % 8 in (3, 4, 6)) for i in range(T)]"},
        {"opens": "[int(i % 1024 == 0) for i in range(T)]"},
    ),
    Entry(
        "intervals", "interval cross-attention", "intervals(first, end)",
        "Words after a picture look at that picture, until the next one comes.",
        "Flamingo", "alayrac2022flamingo (attention-gym: flamingo)",
        "sum(min(b, T) - a for a, b in zip(first, end))",
        {"first": "[i // 4 * 4 for i in range(T)]", "end": "[a + 4 for a in first]"},
        {"first": "[i // 512 * 512 for i in range(T)]",
         "end": "[a + 512 for a in first]"},
        cross=True,
    ),
    Entry(
        "wait", "wait-k", "wait(n)",
        "An interpreter begins before the sentence ends, n words behind.",
        "simultaneous translation", "ma2019stacl",
        "sum(min(T, i + n) for i in range(T))",
        {"n": "2"}, {"n": "5"}, {"n": (1, 3)},
        {"it waits for one word too many": "wait(n + 1)"}, cross=True,
    ),
    Entry(
        "streaming", "chunks with left context", "chunks(c, left=n)",
        "Speech is answered chunk by chunk: no waiting beyond the chunk's end.",
        "NeMo and SpeechBrain recognisers", "dong2024flex (NeMo: conformer_encoder)",
        "sum(min(T, (i // c + 1) * c) - max(0, (i // c - n) * c) for i in range(T))",
        {"c": "2", "n": "1"}, {"c": "64", "n": "4"}, {"c": (3,), "n": (0, 2)},
        {"the chunk is read causally": "causal & chunks(c, left=n)"},
    ),
    Entry(
        "tree", "a tree of drafted tokens", "tree(parents)",
        "Many continuations are checked in one pass; a branch sees itself alone.",
        "SpecInfer, Medusa, EAGLE", "miao2024specinfer (vLLM #18327, Medusa #88)",
        "sum(i + 1 if i < T // 2 else T // 2 + (i - T // 2 + 2).bit_length() - 1 "
        "for i in range(T))",
        {"parents": "[i - 1 if i < T // 2 else (i - T // 2) // 2 + T // 2 - 1 "
         "for i in range(T)]"},
        slips={"branches see each other": "causal"},
    ),
    Entry(
        "tree-packing", "a tree of shared beginnings", "tree(parents)",
        "Texts with a common beginning share its tokens; two numbers a token do.",
        "TRL's tree packing", "krell2021efficient (trl #7328)",
        "sum(i + 1 if i < T // 2 else T // 4 + 2 + i % (T // 4) for i in range(T))",
        {"parents": "[-1 if i == 0 else T // 4 if i in (T // 2, 3 * T // 4) else i - 1 "
         "for i in range(T)]"},
        step=4,
        slips={"branches see each other": "causal"},
    ),
    Entry(
        "shared-prefix", "a shared prompt", "shared_prefix(ids, [-1, 0, 0])",
        "One prompt, many answers: the prompt is computed once.",
        "GRPO in verl, TRL and unsloth",
        "dong2024flex (attention-gym: shared_prefix; verl #6401)",
        "sum(ids[j] in (0, ids[i]) for i in range(T) for j in range(i + 1))",
        {"ids": DOCUMENTS},
        slips={"answers see each other": "causal",
               "answers do not see the prompt": "causal & documents(ids)"},
    ),
    Entry(
        "cascade", "cascade", "shared_prefix(ids, [-1, 0, 0])",
        "The shared part is read once for all answers.", "FlashInfer",
        "dao2022flashattention (flashinfer: cascade)",
        "sum(ids[j] in (0, ids[i]) for i in range(T) for j in range(i + 1))",
        {"ids": DOCUMENTS},
        instead="No new mask: the shared prompt in two parts, merged by their sums.",
    ),
    Entry(
        "block-causal", "block-causal", "block_causal(c)",
        "A block of tokens, or a frame, is written at once, block after block.",
        "diffusion decoders, video", "arriola2025block (xformers #1093)",
        "sum(min(T, (i // c + 1) * c) for i in range(T))",
        {"c": "3"}, {"c": "128"}, {"c": (1, 2, 4)}, {"blocks are causal": "causal"},
    ),
    Entry(
        "block-diffusion", "block diffusion, in training", "block_diffusion(T // 2, c)",
        "Noised blocks learn from clean ones before them, all in one pass.",
        "BD3-LM, Fast-dLLM v2, SDAR",
        "arriola2025block (attention-gym: block_diffusion)",
        "2 * sum(min(T // 2, (i // c + 1) * c) for i in range(T // 2))",
        {"c": "2"}, {"c": "128"}, {"c": (1, 4)}, step=2,
    ),
    Entry(
        "draft", "training a draft", "draft(n, c)",
        "Guesses of several steps are trained at once after one prefix.",
        "JetSpec, P-EAGLE", "miao2024specinfer (attention-gym: jetspec)",
        "sum(min(i + 1, n) + (max(0, i - n) % c + 1) * (i >= n) for i in range(T))",
        {"n": "2", "c": "3"}, {"n": "1024", "c": "128"}, {"n": (0, 3), "c": (2,)},
    ),
    Entry(
        "multi-token", "multi-token prediction", "causal",
        "Several later tokens are predicted from one place.", "DeepSeek-V3",
        "vaswani2017attention (FlagScale #337, speculators #627)", CAUSAL,
        instead="No new mask: the inputs are rolled by the depth.",
    ),
    Entry(
        "nsa", "native sparse attention", "causal",
        "Each query reads summaries, the best blocks and a window.", "DeepSeek",
        "yuan2025native", CAUSAL,
        instead="A selection from the values, mixed by gates.",
    ),
    Entry(
        "dsa", "top-k of an indexer", "causal",
        "A cheap score picks the keys that the dear one reads.",
        "DeepSeek-V3.2, GLM", "yuan2025native (transformers #41251)", CAUSAL,
        instead="A selection from the values: the 2,048 keys of best index.",
    ),
    Entry(
        "compressed", "compressed keys", "causal",
        "Old keys are merged, so the cache grows slowly.", "DeepSeek-V4",
        "yuan2025native (transformers #45892)", CAUSAL,
        instead="Keys that are no tokens: entries of 4 or 128 of them.",
    ),
    Entry(
        "moba", "mixture of block attention", "causal",
        "A query reads the blocks whose mean key suits it.", "Kimi", "lu2025moba",
        CAUSAL, instead="A selection from the values: top-k of blocks.",
    ),
    Entry(
        "neighbourhood", "neighbourhood in a picture",
        "neighbourhood(2, T // 2, c)",
        "A pixel looks at the pixels around it.", "NATTEN",
        "hassani2023neighborhood (attention-gym: natten)",
        "T * min(c, 2) * min(c, T // 2)", {"c": "3"}, {"c": "31"}, {"c": (1, 2)},
        step=2,
    ),
    Entry(
        "video-heads", "heads for space and for time", "near(w)",
        "In a video some heads stay in the frame and some at the place.",
        "Sparse VideoGen, VSA", "xi2025sparse (attention-gym: svg)",
        "sum(min(T, i + w + 1) - max(0, i - w) for i in range(T))", {"w": "2"},
        {"w": "256"}, instead="A mask for each head, or a selection of tiles.",
    ),
    Entry(
        "tiles", "tiles of a picture", "tiles(2, T // 2, c)",
        "Tiles are what hardware likes: whole blocks are seen, or not at all.",
        "Swin, sliding tiles", "liu2021swin (attention-gym: sta)",
        "sum(min(c, 2 - y) ** 2 for y in range(0, 2, c)) "
        "* sum(min(c, T // 2 - x) ** 2 for x in range(0, T // 2, c))",
        {"c": "2"}, {"c": "16"}, {"c": (1, 3)}, step=2,
    ),
    Entry(
        "permutation", "another order", "permutation(order)",
        "Every order of prediction is trained, so both sides are used.", "XLNet",
        "yang2019xlnet", CAUSAL,
        {"order": "[i for s in (1, 0) for i in range(s, T, 2)]"},
        slips={"the text's own order is taken": "causal"},
    ),
    Entry(
        "alibi", "ALiBi and T5's bias", "causal",
        "Distance lowers a score, so that longer texts can be read.", "MPT, T5",
        "press2022train, raffel2020exploring", CAUSAL,
        instead="A bias: −m (q − k), or a learned number for each range of distance.",
    ),
    Entry(
        "softcap", "softcap", "causal",
        "Scores stay in a range.", "Gemma 2", "dong2024flex", CAUSAL,
        instead="A monotone map c tanh(s / c); it must come before the mask.",
    ),
    Entry(
        "forget-gate", "forget gate", "causal",
        "What the text has left behind fades.", "FoX", "lin2025forgetting", CAUSAL,
        instead="A bias: the sum of log f between key and query, from the values.",
    ),
    Entry(
        "retention", "decay", "causal",
        "A sum with decay can be carried as a state.", "RetNet", "sun2023retentive",
        CAUSAL, instead="A factor γ^(q − k) instead of softmax.",
    ),
    Entry(
        "semiseparable", "state space duality", "causal",
        "The same with a decay that the input chooses.", "Mamba-2",
        "dao2024transformers", CAUSAL,
        instead="A factor: the product of a between key and query, no softmax.",
    ),
)  # fmt: skip


def atlas(key: str) -> Entry:
    """The entry of that name.

    >>> atlas("window").rule
    'causal & window(w)'

    Raises ``ValueError`` for a name that there is not.
    """
    for entry in ENTRIES:
        if entry.key == key:
            return entry
    known = ", ".join(entry.key for entry in ENTRIES)
    raise ValueError(f"atlas: expected one of {known}; got {key!r}.")
