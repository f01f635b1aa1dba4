"""Attention in three forms, with one signature, for tests of all."""

import functools

import pytest
from oracles import KINDS

from mattn import attention, blockwise_attention, fused_attention


def dense(q, k, v, mask=None, **given):
    return attention(q, k, v, mask, **given)[0]


def blocks_of(n):
    return functools.partial(blockwise_attention, block=n)


FORMS = {"dense": dense, "fused": fused_attention} | {"blocks": blocks_of(3)}
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
every_kind = pytest.mark.parametrize("kind", KINDS)
