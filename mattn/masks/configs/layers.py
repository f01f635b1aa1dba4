"""From a configuration to the rule of each layer.

Chapter 2 derives the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mattn.masks.algebra import Mask
from mattn.masks.configs.families import FAMILIES, Family, Layers
from mattn.masks.configs.fields import Fields, known, read, refusal
from mattn.masks.configs.shapes import same_image
from mattn.masks.matrices import described
from mattn.masks.named import causal, window
from mattn.slots import is_integer

__all__ = ["masks_of"]


# Long because: half of it says what is read and what is refused.
def masks_of(config: Any, *, images: Tensor | None = None) -> Layers:
    """Who sees whom in a model, layer by layer, from its configuration.

    ``config`` is a configuration of transformers, its dict, a folder with
    ``config.json``, or that file; transformers itself is not needed. The answer
    is a list of rules, one for each layer. Of a model of two halves these are
    the decoder's own; ``.encoder`` and ``.cross`` hold the other two.

    >>> layers = masks_of({"model_type": "gemma2", "num_hidden_layers": 4})
    >>> layers[0], layers[1]
    ((causal & window(4096)), causal)
    >>> masks_of({"model_type": "t5"}).cross[0]
    full

    Slots count the tokens of a row: padding is to be added, or stands at
    negative slots (:meth:`~mattn.masks.Mask.at`); packed documents are
    ``documents(ids, within=rule)``. ``images`` numbers the images of models
    that see them in both directions, (T,) or (B, T), −1 for text; without it
    the rules are those of text alone.

    Fields that are absent are what the family's class of transformers 5.23 says.
    Raises ``ValueError`` with the field and its value for what contradicts
    itself, and for whatever is not known to be harmless.
    """
    values = read(config)
    name = known(values.get("model_type"), sorted(FAMILIES))
    family = FAMILIES[name]
    fields = Fields(values, name)
    layers = _of_text(fields, family) if family.text else family.rules(fields, family)
    fields.finish()
    layers.family = name
    layers.notes = [*family.notes]
    return layers if images is None else _with_images(layers, images, name)


def _of_text(root: Fields, family: Family) -> Layers:
    """The part of a model of text and images that reads the sequence."""
    values = root.take("text_config")
    values = {} if values is None else values
    if not isinstance(values, Mapping):
        raise root.refuse("text_config", "to be an object", "Give the whole file.")
    kind = values.get("model_type", family.text)
    if kind != family.text:
        raise refusal(
            root.family,
            "text_config.model_type",
            f"to be {family.text!r}",
            kind,
            "Other texts in this model were not read: say the rules yourself.",
        )
    fields = Fields(values, family.text)
    layers = family.rules(fields, replace(family, text=""))
    fields.finish()
    return layers


def _with_images(layers: Layers, images: Tensor, name: str) -> Layers:
    """Global layers: causal or the same image. Local ones: the window bounds both."""
    if name != "gemma3":
        raise ValueError(
            f"masks_of: expected images for a model that sees them in both directions, "
            f"gemma3; got them for {name!r}. Leave images out."
        )
    if not isinstance(images, Tensor) or not is_integer(images) or images.ndim > 2:
        got = described(images) if isinstance(images, Tensor) else repr(images)
        raise ValueError(
            "masks_of: expected images as an integer tensor (T,) or (B, T), −1 for "
            f"text; got {got}. Number the images 0, 1, 2, …"
        )
    shown = causal | same_image(images.long())
    rules: dict[int, Mask] = {}
    for rule in layers:
        if id(rule) in rules:
            continue
        if rule.bound.ahead > 0:
            raise ValueError(
                "masks_of: gemma3: expected use_bidirectional_attention to be false "
                "with images; got true. Every token sees every other already."
            )
        w = rule.bound.behind
        local = w != torch.inf
        rules[id(rule)] = shown & window(int(w)) if local else shown
    with_images = Layers((rules[id(rule)] for rule in layers), notes=layers.notes)
    with_images.family = name
    return with_images
