"""Models of transformers on the kernel: its arguments read as a rule.

Derived in chapter 10.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mattn.flash.operator import flash_attention
from mattn.masks import Mask, causal, documents, full, padding, window
from mattn.optional import needed

__all__ = ["register_in_transformers", "transformers_attention"]


# Long because: the signature is that of transformers; half is it and docstring.
def transformers_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **options,
) -> tuple[Tensor, None]:
    """:func:`flash_attention` with the signature that ``transformers`` calls.

    ``attention_mask`` is ``None`` or ``(B, S)``, 1 at tokens and 0 at padding,
    which stands on one side; S < Tk where a static cache has slots to spare.
    Packed documents are told apart by ``cu_seq_lens_q`` or by ``position_ids``
    (B, T), which begin anew with each. Raises ``ValueError`` for what it cannot
    tell: packed documents that go on in a cache, a bidirectional window.
    """
    unknown = [name for name in ("softcap", "s_aux") if options.get(name) is not None]
    if dropout or unknown:
        raise ValueError(
            f"mattn in transformers: dropout {dropout}, {unknown or 'no option'}; it "
            'has no dropout, softcap or sinks. Use attn_implementation="sdpa".'
        )
    in_order = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if sliding_window is not None and not in_order:
        raise ValueError(
            "mattn in transformers: expected a causal mask with sliding_window; got a "
            "bidirectional one, whose window ends on both sides. Use "
            'attn_implementation="sdpa".'
        )
    mask = causal if in_order else full
    if sliding_window is not None:
        mask = mask & window(sliding_window)
    real = None if attention_mask is None else _real(attention_mask, query, key)
    if real is not None:
        key, value = (t[:, :, : real.shape[1]] for t in (key, value))
        mask = mask & _padding_of(real)
    packed = _packed(query, key, real, in_order, options)
    if packed is not None:
        mask = mask & packed
    out = flash_attention(query, key, value, mask, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def _real(attention_mask: Tensor, query: Tensor, key: Tensor) -> Tensor:
    """Which keys are tokens, (B, S), S being those that a cache holds."""
    B, Tk = len(query), key.shape[2]
    shape = tuple(attention_mask.shape)
    if len(shape) != 2 or shape[0] != B or shape[1] > Tk:
        raise ValueError(
            f"mattn in transformers: expected a mask ({B}, {Tk}) of tokens, or of the "
            f"first of these; got {shape}. Call register_in_transformers() first."
        )
    return attention_mask != 0


def _padding_of(real: Tensor) -> Mask:
    """Padding on both sides: what is right of the tokens, and what is left."""
    real = real.cpu()  # where rules are asked
    first, length = _first(real), real.sum(-1)
    S = real.shape[1]
    slots = torch.arange(S)
    inside = (first[:, None] <= slots) & (slots < (first + length)[:, None])
    if not torch.equal(inside, real):
        raise ValueError(
            "mattn in transformers: expected the tokens of a row in one piece; got "
            "padding between them. Pad on one side."
        )
    left = padding(S - first, side="left", width=S)
    return padding(first + length) & left


def _first(real: Tensor) -> Tensor:
    return real.int().argmax(-1) if real.shape[1] else real.sum(-1)


def _packed(
    query: Tensor, key: Tensor, real: Tensor | None, is_causal: bool, options: dict
) -> Mask | None:
    """The documents that a row is packed of; ``None``: one."""
    (B, _, Tq, _), Tk = query.shape, key.shape[2]
    ends, positions = options.get("cu_seq_lens_q"), options.get("position_ids")
    if ends is not None:
        return _between(ends, options.get("cu_seq_lens_k"), B, Tq, Tk)
    if positions is None or not Tq or (Tq != Tk and not is_causal):
        return None
    if positions.ndim != 2 or len(positions) not in (1, B) or positions.shape[1] != Tq:
        raise ValueError(
            f"mattn in transformers: expected position_ids ({B}, {Tq}) or (1, {Tq}); "
            f"got {tuple(positions.shape)}."
        )
    begins = positions.diff(dim=-1) != 1
    if Tq == Tk:
        if not begins.any():
            return None
        ids = F.pad(begins.long().cumsum(-1), (1, 0)).cpu()
        return documents(ids if len(ids) > 1 else ids[0])
    # With a cache a row has to be one document, whose queries stand where their
    # keys do, counted from its first token.
    slots = torch.arange(Tk - Tq, Tk, device=positions.device)
    first = 0 if real is None else _first(real)[:, None]
    is_token = True if real is None else real[:, Tk - Tq :]
    if ((positions < slots - first) & is_token).any():
        raise ValueError(
            "mattn in transformers: expected one document in each row of a cache; got "
            f"position_ids {positions.tolist()} for the last {Tq} of {Tk} keys. Call "
            "register_in_transformers() for a static cache; decode packed documents "
            "one by one."
        )
    return None


def _between(ends: Tensor, ends_k: Tensor | None, B: int, Tq: int, Tk: int) -> Mask:
    """Documents that are said by where they begin and end in one row."""
    one_row = B == 1 and Tq == Tk == int(ends[-1]) and int(ends[0]) == 0
    if not one_row or not (ends_k is None or torch.equal(ends, ends_k)):
        raise ValueError(
            "mattn in transformers: expected cu_seq_lens from 0 to all of the "
            "tokens of one row, the same for queries and keys; got "
            f"{ends.tolist()} for {B} rows of {Tq} queries and {Tk} keys."
        )
    ids = torch.arange(len(ends) - 1)
    return documents(ids.repeat_interleave(ends.diff().cpu()))


def register_in_transformers(name: str = "mattn") -> None:
    """After this, ``attn_implementation="mattn"`` runs a model on this kernel."""
    transformers = needed("transformers", "gpu", "register_in_transformers")
    transformers.AttentionInterface.register(name, transformers_attention)
    transformers.AttentionMaskInterface.register(name, _transformers_mask)


def _transformers_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int | Tensor = 0,
    attention_mask: Tensor | None = None,
    device: torch.device | str | None = None,
    **rest,
) -> Tensor | None:
    """Which slots of a cache hold a token: the mask as the kernel is given it."""
    first, seen = int(kv_offset), int(q_offset) + q_length
    seen = min(seen, first + kv_length)
    if attention_mask is not None:
        # From the right: transformers calls this a second time with what it gave.
        return attention_mask[:, :seen][:, -(seen - first) :]
    if seen == first + kv_length:
        return None
    return torch.ones(batch_size, seen - first, dtype=torch.bool, device=device)
