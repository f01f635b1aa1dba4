"""What attention, masks and caches refuse, and that it is said what to do instead.

As in test_errors.py the cases run in a process of their own, without the checks of
shapes that would speak first: this file, executed as a program.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
import torch
from refusals import messages, printed, refused_with

from mattn import (
    Config,
    Decoder,
    KVCache,
    Mask,
    MultiHeadAttention,
    Reach,
    attention,
    blockwise_attention,
    boolean_power,
    causal,
    documents,
    fused_attention,
    masked_softmax,
    padding,
    prefix,
    record_weights,
    to_additive,
    window,
)
from mattn.cache import Cache
from mattn.embedding import NGrams, RecentTokens, embed
from mattn.rotary import RopeScaling, Rotary
from mattn.softmax import partial

SIZES = {"n_symbols": 11, "d_model": 16, "n_layers": 2, "n_heads": 2}


class Undeclared(Mask):
    """Looks at the row of the batch, and does not say how many there are."""

    def allowed(self, b, q, k):
        return (k <= q) & (k < torch.tensor([4, 2])[b])


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.bool)


def zeros(*shape: int, dtype=torch.float32) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


def layer(*args, x=(2, 5, 8), **options) -> object:
    return MultiHeadAttention(8, 2)(zeros(*x), *args, **options)


def decoder(*shape: int, n_grams: int = 1, **given) -> object:
    model = Decoder(Config(**SIZES, n_grams=n_grams)).eval()
    return model(zeros(*shape or (1, 6), dtype=torch.long), **given)


def at(*numbers, dtype=torch.long) -> torch.Tensor:
    return torch.tensor(numbers, dtype=dtype)


def used(**options) -> KVCache:
    cache = KVCache(6, **options)
    cache.extend(zeros(2, 1, 3, 4), zeros(2, 1, 3, 5))
    return cache


def twice_used() -> KVCache:
    cache = used(reach=Reach(4, 0))
    cache.extend(zeros(2, 1, 3, 4), zeros(2, 1, 3, 5))
    return cache


def in_two(mask) -> None:
    model = Decoder(Config(**SIZES), mask).eval()
    cache, x = model.new_cache(6), zeros(2, 6, dtype=torch.long)
    for part in (x[:, :3], x[:, 3:]):
        model(part, cache=cache)


def recent(rows: int = 2) -> RecentTokens:
    cache = RecentTokens(2)
    cache.extend(zeros(rows, 3, dtype=torch.long))
    return cache


AXES = [
    "of shape (…, 4, 4)",
    "q (2, 2, 4, 3)",
    "two axes, or as many as",
    "mask[:, None]",
]
GROW = ["slots that grow from token to token", "`positions`, which may restart"]

# Name → what is called, and what its message must contain, in this order.
CASES: dict[str, tuple[Callable, list[str]]] = {
    # One value, two meanings.
    "slots that begin anew": (
        lambda: decoder(mask=documents([0, 0, 0, 1, 1, 1]), slots=at(0, 1, 2, 0, 1, 2)),
        [*GROW[:1], "got 0 for token 3 of [0, 1, 2, 0, 1, 2]", *GROW[1:]],
    ),
    "slots that begin anew, by row, n-grams": (
        lambda: decoder(2, 3, n_grams=2, slots=torch.tensor([[0, 1, 2], [-1, 0, 0]])),
        [*GROW[:1], "got 0 for token 2 of [-1, 0, 0]", *GROW[1:]],
    ),
    "slots backwards": (
        lambda: layer(causal, slots=at(4, 3, 2, 1, 0)),
        [*GROW[:1], "got 3 for token 1", *GROW[1:]],
    ),
    "slots that a cache has": (
        lambda: used().extend(zeros(2, 1, 2, 4), zeros(2, 1, 2, 5), at(2, 3)),
        [*GROW[:1], "got 2 for token 0", *GROW[1:]],
    ),
    "slots that n-grams have": (
        lambda: recent().extend(zeros(2, 1, dtype=torch.long), at(1)),
        [*GROW[:1], "got 1 for token 0", *GROW[1:]],
    ),
    "slots of five tokens for six": (
        lambda: decoder(slots=torch.arange(5)),
        ["integer slots (6,) or (1, 6)", "got int64 (5,)"],
    ),
    "slots of floats": (
        lambda: decoder(slots=torch.arange(6).bfloat16()),
        ["integer slots (6,)", "got bfloat16 (6,)"],
    ),
    "slots of bools, in a layer": (
        lambda: layer(causal, slots=ones(5)),
        ["integer slots (5,) or (2, 5)", "got bool (5,)"],
    ),
    "slots of another batch": (
        lambda: layer(causal, slots=torch.arange(15).view(3, 5)),
        ["integer slots (5,) or (2, 5)", "got int64 (3, 5)"],
    ),
    "rotary positions of floats": (
        lambda: Rotary(4, 100.0)(zeros(1, 1, 3, 4), torch.arange(3.0)),
        ["integer positions (3,) or (1, 3)", "torch.float32 (3,)", "16 bits"],
    ),
    "rotary positions of two for three": (
        lambda: Rotary(4, 100.0)(zeros(1, 1, 3, 4), torch.arange(2)),
        ["integer positions (3,)", "torch.int64 (2,)"],
    ),
    "rotary features": (
        lambda: Rotary(4, 100.0)(zeros(1, 1, 3, 6), torch.arange(3)),
        ["features (B, H, T, 4)", "got (1, 1, 3, 6)"],
    ),
    "a rule at floats": (
        lambda: causal.at(torch.arange(3.0), torch.arange(3)),
        ["slots of an integer dtype", "float32 (3,)", "torch.arange"],
    ),
    "a rule by row that does not say so": (
        lambda: Undeclared().matrix(4),
        ["say how many there are", "rule(…, batch=B)"],
    ),
    "such a rule in a combination": (
        lambda: (causal & Undeclared()).at(torch.arange(4), torch.arange(4)),
        ["say how many there are", "rule(…, batch=B)"],
    ),
    "such a rule, fused": (
        lambda: fused_attention(*[zeros(2, 1, 4, 3)] * 3, Undeclared()),
        ["say how many there are", "rule(…, batch=B)"],
    ),
    "such a rule, in blocks": (
        lambda: blockwise_attention(*[zeros(2, 1, 4, 3)] * 3, Undeclared()),
        ["say how many there are", "rule(…, batch=B)"],
    ),
    "such a rule, for n-grams": (
        lambda: decoder(2, 4, n_grams=2, mask=Undeclared()),
        ["say how many there are", "rule(…, batch=B)"],
    ),
    # Masks in a model.
    "a tensor for a rule, in a decoder": (
        lambda: decoder(2, 4, mask=ones(2, 4, 4)),
        ["expected a mask rule", "got Tensor", ".matrix(Tq, Tk)"],
    ),
    "three axes, in a layer": (
        lambda: layer(ones(2, 5, 5)),
        ["of shape (…, 5, 5)", "got bool (2, 5, 5)", "mask[:, None]"],
    ),
    "three axes, in a layer that records": (
        lambda: recorded(ones(2, 5, 5)),
        ["of shape (…, 5, 5)", "got bool (2, 5, 5)", "mask[:, None]"],
    ),
    "a rule for other rows, n-grams": (
        lambda: decoder(2, 4, n_grams=2, mask=padding([1, 2, 3])),
        ["the 2 rows of the batch", "for 3"],
    ),
    "too few ids, n-grams": (
        lambda: decoder(2, 4, n_grams=2, mask=documents([0, 1])),
        ["an id for each of 4 slots", "got 2", "Give an id for every token"],
    ),
    "masks of a layer too few": (
        lambda: Decoder(Config(**SIZES), [causal]),
        ["one for each of 2 layers", "got [causal]", "mattn.masks.rule"],
    ),
    "a mask that is no rule": (
        lambda: Decoder(Config(**SIZES), (causal, ones(4, 4))),
        ["one for each of 2 layers", "mattn.masks.rule"],
    ),
    "a token that a query waited for": (
        lambda: in_two(causal | prefix(4)),
        ["no query waits for", "got slot 3", "(causal | prefix(4))", "of slot 0"],
    ),
    # Masks by themselves.
    "window 2.5": (lambda: window(2.5), ["w >= 1", "got 2.5"]),
    "window nan": (lambda: window(float("nan")), ["w >= 1", "got nan"]),
    "window True": (lambda: window(True), ["w >= 1", "got True"]),
    "window of text": (lambda: window("3"), ["w >= 1", "got '3'"]),
    "prefix 1.0": (lambda: prefix(1.0), ["n >= 0", "got 1.0"]),
    "prefix None": (lambda: prefix(None), ["n >= 0", "got None"]),
    "prefix of a tensor": (lambda: prefix(torch.tensor(2)), ["n >= 0", "tensor(2)"]),
    "matrix 2.5": (lambda: causal.matrix(2.5), ["sizes >= 0", "got 2.5 queries"]),
    "matrix of -1 keys": (lambda: causal.matrix(2, -1), ["sizes >= 0", "-1 keys"]),
    "power 1.5": (
        lambda: boolean_power(causal.matrix(3), 1.5),
        ["n >= 0 layers", "got 1.5"],
    ),
    "additive in 8 bits": (
        lambda: to_additive(ones(3, 3), dtype=torch.float8_e4m3fn),
        ["floating-point dtype", "torch.float8_e4m3fn", "−∞"],
    ),
    "additive, complex": (
        lambda: causal.additive(3, dtype=torch.complex64),
        ["floating-point dtype", "torch.complex64", "−∞"],
    ),
    "complex ids": (
        lambda: documents(zeros(3, dtype=torch.complex64)),
        ["integer ids", "complex64 (3,)"],
    ),
    "ids of text": (lambda: documents(["a", "b"]), ["expected integers", "['a', 'b']"]),
    "ids of no shape": (lambda: documents([[0], [0, 1]]), ["rows of one length"]),
    "lengths None": (lambda: padding(None), ["expected integers", "None"]),
    "one length": (lambda: padding(3), ["shape (B,)", "got 3"]),
    "width 4.5": (
        lambda: padding([2], side="left", width=4.5),
        ["width >= the longest row, 2", "got 4.5"],
    ),
    # Softmax.
    "three axes, softmax": (
        lambda: masked_softmax(zeros(2, 2, 4, 4), ones(2, 4, 4)),
        ["two axes, or of all axes", "(2, 2, 4, 4)", "bool (2, 4, 4)", "[:, None]"],
    ),
    "three axes, partial": (
        lambda: partial(zeros(2, 2, 4, 4), zeros(4, 3), ones(2, 1, 4)),
        ["two axes, or of all axes", "(2, 2, 4, 4)", "bool (2, 1, 4)", "[:, None]"],
    ),
    "a mask of other keys, softmax": (
        lambda: masked_softmax(zeros(4, 4), ones(4, 3)),
        ["of their size or 1", "bool (4, 3)"],
    ),
    "scores of integers": (
        lambda: masked_softmax(zeros(4, 4, dtype=torch.long)),
        ["floating-point dtype", "int64 (4, 4)", ".to("],
    ),
    "partial, float mask": (
        lambda: partial(zeros(4, 4), zeros(4, 3), zeros(4, 4)),
        ["partial: expected allowed to be bool", "float32 (4, 4)", "mask == 0"],
    ),
    "partial, values of other keys": (
        lambda: partial(zeros(2, 4), zeros(3, 5)),
        ["values (…, 4, Dv)", "(2, 4)", "got (3, 5)"],
    ),
    # Caches.
    "capacity 2.5": (lambda: KVCache(2.5), ["capacity >= 1", "got 2.5"]),
    "another dtype in the cache": (
        lambda: used().extend(zeros(2, 1, 1, 4).half(), zeros(2, 1, 1, 5).half()),
        ["4 features of torch.float32", "got 4 of torch.float16", "make a new one"],
    ),
    "other features in the cache": (
        lambda: used(reach=Reach(4, 0)).extend(zeros(2, 1, 1, 4), zeros(2, 1, 1, 6)),
        ["5 features", "got 6", "make a new one"],
    ),
    "a cache, rows that are not there": (
        lambda: used().reorder(at(0, 2)),
        ["indices from 0 to 1", "got [0, 2]"],
    ),
    "a cache, rows from the end": (
        lambda: used().reorder(at(-1)),
        ["indices from 0 to 1", "got [-1]"],
    ),
    "n-grams, rows that are not there": (
        lambda: recent().reorder(at(2)),
        ["indices from 0 to 1", "got [2]"],
    ),
    "n-grams, reorder before use": (
        lambda: RecentTokens(2).reorder(at(0)),
        ["RecentTokens", "got none yet", "Call extend first"],
    ),
    "n-grams, another batch": (
        lambda: recent().extend(zeros(3, 1, dtype=torch.long)),
        ["RecentTokens: expected 2 rows", "got 3", "one batch"],
    ),
    "n-grams of floats": (
        lambda: RecentTokens(2).extend(zeros(3, 1)),
        ["tokens (B, T) of an integer dtype", "torch.float32 (3, 1)"],
    ),
    "n-grams of none": (lambda: RecentTokens(0), ["n_back >= 1", "got 0"]),
    "1-grams": (lambda: NGrams(5, 4, 1, 10), ["n >= 2", "10 and 1"]),
    "caches in a list": (
        lambda: decoder(cache=[KVCache(6), KVCache(6)]),
        ["a cache for the 2 layers", "got list", "new_cache()"],
    ),
    "a cache too few": (
        lambda: decoder(cache=Cache([KVCache(6)])),
        ["a cache for the 2 layers", "got Cache", "new_cache()"],
    ),
    "crop below nothing": (
        lambda: used().crop(-1),
        ["crop: expected a number of slots >= 0", "2 rows", "got -1"],
    ),
    "crop what was written over": (
        lambda: twice_used().crop(4),
        ["the last 3 are still held", "got 4", "after 6", "Copy the cache"],
    ),
    "keep what is not held": (
        lambda: used().keep(at(0, 5)),
        ["keep: expected slots that are held", "got [5]"],
    ),
    "keep slots of another batch": (
        lambda: used().keep(at(0, 1, 2).expand(3, 3)),
        ["integer slots (N,) or (2, N)", "(3, 3)"],
    ),
    # Tokens, features, numbers.
    "tokens of floats": (
        lambda: embed(torch.nn.Embedding(5, 2), zeros(1, 3)),
        ["tokens of an integer dtype", "torch.float32", ".long()"],
    ),
    "a token too large": (
        lambda: embed(torch.nn.Embedding(5, 2), torch.tensor([[0, 5]])),
        ["tokens from 0 to 4", "got 0 to 5"],
    ),
    "features of a layer": (
        lambda: layer(x=(2, 5, 7)),
        ["x (B, T, 8)", "got (2, 5, 7)"],
    ),
    "features without a batch": (lambda: layer(x=(5, 8)), ["x (B, T, 8)", "(5, 8)"]),
    "features of a context": (
        lambda: layer(context=zeros(2, 5, 7)),
        ["context (B, T, 8)", "got (2, 5, 7)"],
    ),
    "theta of a configuration": (
        lambda: Config(**SIZES, rope_theta=float("inf")),
        ["rope_theta > 0", "inf"],
    ),
    "an odd head": (lambda: Rotary(3, 10.0), ["an even d_head", "got 3 and 10.0"]),
    "theta 0": (lambda: Rotary(4, 0.0), ["theta > 0", "got 4 and 0.0"]),
    "a factor that is no number": (
        lambda: RopeScaling("linear", float("nan")),
        ["factor > 0", "nan"],
    ),
    "no key heads": (
        lambda: fused_attention(zeros(1, 2, 3, 4), *[zeros(1, 0, 3, 4)] * 2),
        ["(B, Hkv, Tk, D)", "(1, 0, 3, 4)", "Hkv divides H"],
    ),
    "block 1.5": (
        lambda: blockwise_attention(*[zeros(3, 4)] * 3, block=1.5),
        ["block >= 1", "got 1.5"],
    ),
}

for name, form in {
    "dense": attention,
    "blocks": blockwise_attention,
    "fused": fused_attention,
}.items():
    for shape in [(2, 4, 4), (2, 1, 4), (1, 4, 4), (4,)]:
        CASES[f"a mask {shape}, {name}"] = (
            lambda form=form, shape=shape: form(*[zeros(2, 2, 4, 3)] * 3, ones(*shape)),
            [*AXES[:2], f"got bool {shape}", *AXES[2:]],
        )
    for what, given, said in [
        (
            "a bool as bias",
            {"bias": ones(4, 4)},
            ["be a floating", "got bool", "mask="],
        ),
        (
            "a bias of three axes",
            {"bias": zeros(2, 4, 4)},
            ["two axes, or as many", "got"],
        ),
        ("a short bias", {"bias": zeros(4, 3)}, ["(2, 2, 4, 4)", "got float32 (4, 3)"]),
        ("a scale of NaN", {"scale": float("nan")}, ["finite", "got nan", "1/√D"]),
        ("a scale of ∞", {"scale": float("inf")}, ["finite", "got inf", "1/√D"]),
    ]:
        CASES[f"{what}, {name}"] = (
            lambda form=form, given=given: form(*[zeros(2, 2, 4, 3)] * 3, **given),
            said,
        )
    CASES[f"no features, {name}"] = (
        lambda form=form: form(*[zeros(1, 1, 3, 0)] * 3),
        ["expected q (", "got (1, 1, 3, 0)", "same features"],
    )


def recorded(mask) -> object:
    module = MultiHeadAttention(8, 2)
    with record_weights(module):
        return module(zeros(2, 5, 8), mask)


@pytest.fixture(scope="module")
def raised() -> dict[str, list[str]]:
    return printed(__file__)


@pytest.mark.parametrize("name", CASES)
def test_message(raised, name):
    refused_with(raised[name], CASES[name][1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(messages({name: call for name, (call, _) in CASES.items()})))
