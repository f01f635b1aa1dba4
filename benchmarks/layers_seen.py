"""Who sees whom in each layer of a model of transformers, measured.

In two ways: from the weights that `eager` attention gives, and by influence: the
input of one layer is changed at one place, and the outputs of that layer that
change are those that see it. Chapter 6 has both in models of the book.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mattn import Mask, documents, full
from mattn.masks.configs import Layers

LENGTHS = (3, 4, 5, 11)
PADDED = ((5, (0, 2)), (11, (0, 3)))
PACKED = ((11, (5, 6)),)
EXTRA = 2  # tokens by which an encoder's row is longer than the decoder's
LAYERS = ("layers", "layer", "h", "block")
"""What lists of layers are called in models of transformers."""


@dataclass
class Given:
    """Tokens as a model gets them, and the slots that they stand in."""

    how: str
    length: int
    inputs: dict[str, Tensor]
    slots: Tensor
    """(B, T); negative: no token."""
    of_encoder: Tensor
    """The same of an encoder's row."""
    ids: Tensor | None = None
    """Documents that were packed."""
    images: Tensor | None = None

    def expected(self, layers: Layers) -> dict[str, list[Tensor]]:
        """(B, Tq, Tk) of each layer, of each part of the model."""
        q, k = self.slots, self.of_encoder

        def of(rule: Mask, q: Tensor, k: Tensor) -> Tensor:
            rule = rule if self.ids is None else documents(self.ids, within=rule)
            return rule.at(q, k).expand(len(q), -1, -1)

        return {
            "own": [of(rule, q, q) for rule in layers],
            "encoder": [of(rule, k, k) for rule in layers.encoder],
            "cross": [full.at(q, k) for rule in layers.cross],
        }


def cases(model: nn.Module, *, images: bool) -> Iterator[Given]:
    """Every way in which the model takes tokens."""
    two = model.config.is_encoder_decoder
    taken = inspect.signature(model.forward).parameters
    for n in LENGTHS:
        yield _given("plain", [0], n, two)
    for n, pads in PADDED:
        yield _given("left padding", pads, n, two)
    if "position_ids" in taken and not two:
        for n, parts in PACKED:
            ids = torch.arange(len(parts)).repeat_interleave(torch.tensor(parts))
            one = _given("packed", [0], n, two)
            places = torch.cat([torch.arange(p) for p in parts])
            inputs = {**one.inputs, "position_ids": places[None]}
            inputs.pop("attention_mask", None)
            yield Given("packed", n, inputs, one.slots, one.of_encoder, ids)
    if images:
        one = _given("images", [0], 11, two)
        ids = torch.tensor([-1, 0, 0, 0, 0, 0, 0, -1, 1, 1, -1])
        inputs = {**one.inputs, "token_type_ids": (ids >= 0).long()[None]}
        yield Given("images", 11, inputs, one.slots, one.of_encoder, images=ids)


def _given(how: str, pads: Sequence[int], n: int, two: bool) -> Given:
    generator = torch.Generator().manual_seed(n)
    pad = torch.tensor(pads)[:, None]

    def row(length: int) -> tuple[Tensor, Tensor, Tensor]:
        slots = torch.arange(length) - pad
        tokens = torch.randint(3, 44, slots.shape, generator=generator)
        return tokens.masked_fill(slots < 0, 0), (slots >= 0).long(), slots

    tokens, real, slots = row(n)
    inputs, of_encoder = {"input_ids": tokens, "attention_mask": real}, slots
    if two:
        first, seen, of_encoder = row(n + EXTRA)
        inputs = {
            "input_ids": first,
            "attention_mask": seen,
            "decoder_input_ids": tokens,
            "decoder_attention_mask": real,
        }
    if how != "left padding":
        inputs = {k: v for k, v in inputs.items() if "mask" not in k}
    return Given(how, n, inputs, slots, of_encoder)


@torch.no_grad()
def by_weights(model: nn.Module, given: Given) -> dict[str, list[Tensor]]:
    """Pairs to which any head of an eager layer gives weight."""
    out = model(**given.inputs, **_crossed(model, given), output_attentions=True)
    own = "decoder_attentions" if model.config.is_encoder_decoder else "attentions"
    fields = {"own": own, "encoder": "encoder_attentions", "cross": "cross_attentions"}
    found = {part: getattr(out, name, None) or () for part, name in fields.items()}
    return {p: [(w > 0).any(dim=1) for w in ws] for p, ws in found.items()}


@torch.no_grad()
def by_influence(model: nn.Module, given: Given) -> dict[str, list[Tensor]]:
    """Pairs (output, input) of each layer alone that a change of the input shows."""
    calls: dict[str, list] = {"own": [], "encoder": []}
    hooks = []
    for name, module in model.named_modules():
        inner = "vision" in name or re.search(r"\.\d+\.", name)  # a part of a layer
        is_list = isinstance(module, nn.ModuleList) and not inner
        if not is_list or name.split(".")[-1] not in LAYERS:
            continue
        two = model.config.is_encoder_decoder
        part = "encoder" if two and name.startswith("encoder") else "own"

        def keep(layer, args, kwargs, part=part):
            calls[part].append((layer, args, kwargs))

        hooks += [m.register_forward_pre_hook(keep, with_kwargs=True) for m in module]
    model(**given.inputs, **_crossed(model, given))
    for hook in hooks:
        hook.remove()
    found = {
        p: [_changes(*call, "hidden_states") for call in c] for p, c in calls.items()
    }
    crossed = model.config.is_encoder_decoder or _crossed(model, given)
    of = calls["own"] if crossed else []
    return {**found, "cross": [_changes(*call, "encoder_hidden_states") for call in of]}


def _changes(layer: nn.Module, args: tuple, kwargs: dict, name: str) -> Tensor:
    """(B, T out, T in): does the output move when this place of the input does?"""
    names = list(inspect.signature(layer.forward).parameters)
    # The first argument is the hidden state, whatever it is called.
    at = 0 if name == "hidden_states" else names.index(name)
    by_place = at < len(args)
    x = args[at] if by_place else kwargs[name]

    def out(x: Tensor) -> Tensor:
        if by_place:
            result = layer(*args[:at], x, *args[at + 1 :], **kwargs)
        else:
            result = layer(*args, **{**kwargs, name: x})
        return result[0] if isinstance(result, tuple) else result

    noise = torch.randn(x.shape[-1], generator=torch.Generator().manual_seed(0))
    least = 1e-9 if x.dtype == torch.float64 else 2e-6
    base, columns = out(x), []
    for j in range(x.shape[1]):
        changed = x.clone()
        changed[:, j] += 3 * noise.to(x.dtype)
        columns.append((out(changed) - base).abs().amax(dim=-1) > least)
    return torch.stack(columns, dim=-1)


def _crossed(model: nn.Module, given: Given) -> dict[str, Tensor]:
    """What a lone decoder is given of an encoder to look at."""
    if not getattr(model.config, "add_cross_attention", False):
        return {}
    shape = (*given.of_encoder.shape, model.config.hidden_size)
    states = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    seen = (given.of_encoder >= 0).long()
    return {
        "encoder_hidden_states": states.to(model.dtype),
        "encoder_attention_mask": seen,
    }
