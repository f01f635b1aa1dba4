"""A call that raises leaves every cache of the model as it was; where tokens stand."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from mattn import (
    Config,
    Decoder,
    EncoderDecoder,
    KVCache,
    MultiHeadAttention,
    causal,
    documents,
    full,
    padding,
    record_weights,
    window,
)
from mattn.cache import Cache
from mattn.checks import same
from mattn.embedding import RecentTokens
from mattn.rotary import Rotary

V, T, ROOM = 11, 7, 9
SIZES = {"n_symbols": V, "d_model": 16, "n_layers": 2, "n_heads": 2}
REFUSED = (ValueError, TypeCheckError)  # the checks of shapes may speak first


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(V, shape)


class Reading:
    """A model that has read ``T`` tokens of a batch of two."""

    def __init__(self, kind: str):
        options = {"n_grams": 3} if "n-grams" in kind else {}
        config = Config(**SIZES, **options)
        mask = causal & window(4) if "ring" in kind else causal
        self.x, source = tokens(2, T + 1), tokens(2, 5)
        if kind == "encoder–decoder":
            self.model = EncoderDecoder(config).double().eval()
            memory = self.model.encode(source)
            self.step = lambda x, **given: self.model.decode(
                x, memory[: len(x)], **given
            )
            self.cache = self.model.new_cache(ROOM, 5)
            self.blocks = self.model.decoder.blocks
        else:
            self.model = Decoder(config, mask).double().eval()
            self.step, self.blocks = self.model, self.model.blocks
            self.cache = self.model.new_cache(ROOM)
            if self.model.n_grams:
                for table in self.model.n_grams.tables:
                    torch.nn.init.normal_(table.weight)
        self.read = self.step(self.x[:, :T], cache=self.cache)

    def goes_on(self) -> None:
        """The next token's logits are those of all tokens read at once."""
        assert {part.length for part in self.cache.parts} <= {T, 5}
        last = self.step(self.x[:, T:], cache=self.cache)
        same(last[:, -1], self.step(self.x)[:, -1])


KINDS = ["plain", "n-grams", "ring", "ring and n-grams", "encoder–decoder"]
every_kind = pytest.mark.parametrize("kind", KINDS)


def broken(*_):
    raise KeyboardInterrupt


CALLS = {
    "another batch": lambda r: r.step(r.x[:1, T:], cache=r.cache),
    "a token that is none": lambda r: r.step(r.x[:, T:] * 0 + V, cache=r.cache),
    "a slot that was read": lambda r: r.step(
        r.x[:, T:], cache=r.cache, slots=torch.tensor([3])
    ),
    "slots of three rows": lambda r: r.step(
        r.x[:, T:], cache=r.cache, slots=torch.full((3, 1), T)
    ),
    "slots of two tokens": lambda r: r.step(
        r.x[:, T:], cache=r.cache, slots=torch.tensor([T, T + 1])
    ),
    "a cache too few": lambda r: r.step(r.x[:, T:], cache=Cache(r.cache.own[:-1])),
}


@torch.no_grad()
@every_kind
@pytest.mark.parametrize("name", CALLS)
def test_what_is_refused_was_not_read(kind, name):
    reading = Reading(kind)
    with pytest.raises(REFUSED):
        CALLS[name](reading)
    reading.goes_on()


@torch.no_grad()
@pytest.mark.parametrize("kind", [k for k in KINDS if "ring" not in k])
def test_what_has_no_room_was_not_read(kind):
    reading = Reading(kind)
    with pytest.raises(ValueError, match=f"at most {ROOM} tokens"):
        reading.step(tokens(2, 3), cache=reading.cache)
    reading.goes_on()


@torch.no_grad()
@pytest.mark.parametrize("kind", [k for k in KINDS if k != "encoder–decoder"])
@pytest.mark.parametrize(
    "mask",
    [padding([1, 2, 3]), documents([0] * T), padding([1, 2, 3]) & causal],
    ids=["rows", "ids", "rows, combined"],
)
def test_what_a_mask_refuses_was_not_read(kind, mask):
    reading = Reading(kind)
    with pytest.raises(ValueError, match=r"rows|an id|mask must be"):
        reading.step(reading.x[:, T:], cache=reading.cache, mask=mask)
    reading.goes_on()


@torch.no_grad()
@every_kind
@pytest.mark.parametrize("n", [1, 2, 6])
def test_what_breaks_in_the_last_layer_was_not_read_by_the_first(kind, n):
    """Whatever raises, Ctrl-C too; a ring has written over tokens by then."""
    reading = Reading(kind)
    if kind in ("plain", "n-grams", "encoder–decoder"):
        n = min(n, ROOM - T)
    hook = reading.blocks[-1].mlp.register_forward_pre_hook(broken)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            reading.step(tokens(2, n), cache=reading.cache)
    hook.remove()
    reading.goes_on()


@torch.no_grad()
def test_a_first_call_that_is_refused_leaves_new_caches():
    model = Decoder(Config(**SIZES, n_grams=2))
    cache = model.new_cache(4)
    with pytest.raises(ValueError, match="at most 4"):
        model(tokens(3, 5), cache=cache)
    assert model.double()(tokens(2, 3), cache=cache).dtype == torch.float64
    assert [part.length for part in cache.parts] == [3, 3, 3]


@torch.no_grad()
@pytest.mark.parametrize("capacity", [7, 4])
def test_a_layer_that_is_refused_by_its_mask_has_read_nothing(capacity):
    layer, x = MultiHeadAttention(8, 2).double(), torch.randn(2, 7, 8).double()
    rule = causal & window(4)
    cache = KVCache(capacity, reach=rule.reach())
    layer(x[:, :5], rule, cache=cache)
    with pytest.raises(ValueError, match="an id"):
        layer(x[:, 5:], documents([0] * 5), cache=cache)
    assert cache.length == 5
    same(layer(x[:, 5:], rule, cache=cache), layer(x, rule)[:, 5:])


# --- A cache is no way to train ----------------------------------------------


def test_a_backward_pass_through_a_cache_is_refused():
    model = Decoder(Config(**SIZES))
    for given in ({"capacity": 6}, {"capacity": 6, "cut": 3}):
        cache, x = model.new_cache(given["capacity"]), tokens(1, 6)
        parts = [model(part, cache=cache) for part in x.split(given.get("cut", 6), 1)]
        with pytest.raises(ValueError, match="Train without a cache"):
            torch.cat(parts, dim=1).sum().backward()
    windowed = Decoder(Config(**SIZES), causal & window(3))
    with pytest.raises(ValueError, match="Train without a cache"):
        windowed(x, cache=windowed.new_cache()).sum().backward()
    with torch.no_grad():  # decoding is what it is for
        same(model(x, cache=model.new_cache(6)), model(x))


def test_frozen_keys_and_values_have_no_gradient_to_lose():
    layer, x = MultiHeadAttention(8, 2), torch.randn(1, 4, 8)
    for part in (layer.key, layer.value):
        part.weight.requires_grad_(False)
    layer(x, causal, cache=KVCache(4)).sum().backward()
    found = layer.query.weight.grad.clone()
    layer.zero_grad()
    layer(x, causal).sum().backward()
    same(found, layer.query.weight.grad)


# --- Which tokens, and where they stand --------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("n_grams", [1, 3])
@pytest.mark.parametrize("mask", [causal, causal & window(4)], ids=repr)
def test_without_slots_tokens_follow_those_read(n_grams, mask):
    """Also after slots that were given, with padding, by row."""
    model = Decoder(Config(**SIZES, n_grams=n_grams), mask).double().eval()
    for table in model.n_grams.tables if n_grams > 1 else ():
        torch.nn.init.normal_(table.weight)
    x = tokens(2, 8)
    slots = torch.arange(8) - torch.tensor([[0], [3]])
    expected = model(x, slots=slots)
    cache = model.new_cache(8)
    parts = [model(x[:, :4], slots=slots[:, :4], cache=cache)]
    parts += [model(part, cache=cache) for part in x[:, 4:].split([1, 3], dim=1)]
    same(torch.cat(parts, dim=1)[0], expected[0])
    same(torch.cat(parts, dim=1)[1, 3:], expected[1, 3:])
    same(expected[1, 3:], model(x[1:, 3:])[0])


def test_slots_may_leave_gaps_and_padding_may_stand_anywhere():
    layer, x = MultiHeadAttention(8, 2).double(), torch.randn(1, 5, 8).double()
    expected = layer(x, causal)
    same(layer(x, causal, slots=torch.tensor([0, 2, 3, 7, 90])), expected)
    out = layer(x, causal, slots=torch.tensor([0, -1, 1, -5, 2]))
    real = [0, 2, 4]
    same(out[:, real], layer(x[:, real], causal))
    signed = torch.tensor([-1, 0, 1, 2, 3], dtype=torch.int8)
    same(layer(x, causal, slots=signed)[:, 1:], layer(x[:, 1:], causal))


@torch.no_grad()
@pytest.mark.parametrize("mask", [causal, causal & window(3), full], ids=repr)
@pytest.mark.parametrize("n_grams", [1, 3])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("way", ["at once", "cached", "recorded", "padded"])
def test_packed_documents_are_what_each_is_alone(mask, n_grams, restart, way):
    """Whether positions restart or not: the mask goes by slots."""
    model = Decoder(Config(**SIZES, n_grams=n_grams), mask).double().eval()
    for table in model.n_grams.tables if n_grams > 1 else ():
        torch.nn.init.normal_(table.weight)
    x, ids = tokens(2, 7), [0, 0, 0, 1, 1, 1, 1]
    where = torch.tensor([0, 1, 2, 0, 1, 2, 3]) if restart else torch.arange(7)
    given = {"mask": documents(ids), "positions": where}
    if way == "at once":
        packed = model(x, **given)
    elif way == "recorded":
        with record_weights(model):
            packed = model(x, **given)
    elif way == "cached":
        cache = model.new_cache(7)
        if mask is full:  # its first queries wait for the rest of their document
            model(x[:, :2], cache=cache, **given | {"positions": where[:2]})
            with pytest.raises(ValueError, match="no query waits for; got slot 2"):
                model(x[:, 2:], cache=cache, **given | {"positions": where[2:]})
            return
        packed = torch.cat(
            [
                model(
                    x[:, part], cache=cache, mask=given["mask"], positions=where[part]
                )
                for part in (slice(2), slice(2, 6), slice(6, 7))
            ],
            dim=1,
        )
    else:
        x = torch.cat([tokens(2, 2), x], dim=1)
        slots = torch.arange(9) - 2
        given["positions"] = torch.cat([torch.tensor([0, 0]), where])
        packed = model(x, slots=slots, **given)[:, 2:]
        x = x[:, 2:]
    same(packed[:, :3], model(x[:, :3]))
    same(packed[:, 3:], model(x[:, 3:]))


def test_ids_of_tokens_to_come_are_known_from_the_first_call_on():
    model, x = Decoder(Config(**SIZES)).double(), tokens(1, 6)
    rule = documents([0, 0, 1, 1, 1, 2])
    cache = model.new_cache(6)
    parts = [model(part, mask=rule, cache=cache) for part in x.split([3, 1, 2], dim=1)]
    same(torch.cat(parts, dim=1), model(x, mask=rule))


def test_recent_tokens_of_any_integer_dtype():
    recent = RecentTokens(2)
    recent.extend(torch.tensor([[1, 2, 3]], dtype=torch.int8))
    seen, at = recent.extend(torch.tensor([[4]], dtype=torch.int32))
    assert (seen.tolist(), at.tolist()) == ([[2, 3, 4]], [1, 2, 3])
    assert seen.dtype == torch.int64


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.int32])
def test_tokens_of_any_integer_dtype(dtype):
    model = Decoder(Config(**SIZES, n_grams=5, n_gram_rows=300)).double()
    for table in model.n_grams.tables:
        torch.nn.init.normal_(table.weight)
    x = tokens(2, 6)
    same(model(x.to(dtype)), model(x))


@pytest.mark.parametrize(("B", "T"), [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("n_grams", [1, 3])
def test_models_and_caches_read_nothing(B, T, n_grams):
    model = Decoder(Config(**SIZES, n_grams=n_grams), causal & window(3))
    x = torch.zeros(B, T, dtype=torch.long)
    masks = [None, padding([2] * B), documents(torch.zeros(B, T, dtype=torch.long))]
    for mask in masks:
        out = model(x, mask=mask)
        assert out.shape == (B, T, V)
        out.sum().backward()
        assert model.head.weight.grad.eq(0).all()
    for cache in (model.new_cache(7), model.new_cache()):
        with torch.no_grad():
            assert model(x, cache=cache).shape == (B, T, V)
            assert model(torch.zeros(B, 4).long(), cache=cache).shape == (B, 4, V)
        assert {part.length for part in cache.parts} == {T + 4}
    translator = EncoderDecoder(Config(**SIZES, n_grams=n_grams))
    assert translator(x, x, torch.zeros(B, dtype=torch.long)).shape == (B, T, V)


# --- Angles ------------------------------------------------------------------


def test_angles_are_computed_where_there_are_floats_of_64_bits(monkeypatch):
    """As for Apple's GPUs: features elsewhere, and no float64 there."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class NoFloat64OnMeta(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **kwargs or {})
            if isinstance(out, torch.Tensor) and out.device.type == "meta":
                assert out.dtype != torch.float64, func
            return out

    rotary = Rotary(4, 100.0)
    x = torch.zeros(2, 3, 5, 4, device="meta")
    with NoFloat64OnMeta():
        turned = rotary(x, torch.arange(5))
    assert (turned.device.type, turned.shape) == ("meta", x.shape)
    # A device that is not known to have them: the same angles, from the CPU.
    x = torch.randn(2, 3, 5, 4)
    before = rotary(x, torch.arange(5) + 10**6)
    monkeypatch.setattr("mattn.rotary._HAVE_FLOAT64", ())
    same(rotary(x, torch.arange(5) + 10**6), before, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_angles_of_late_positions_keep_their_precision(dtype):
    rotary, x = Rotary(8, 10_000.0), torch.randn(1, 1, 4, 8).to(dtype)
    late = torch.arange(4) + 10**6
    exact = rotary(x.double(), late)
    error = (rotary(x, late).double() - exact).abs().max()
    assert error <= 4 * torch.finfo(dtype).eps * x.abs().max()
