"""What no single output shows: dropout, memory, writing into the input.

A room of the judge, which exercises of chapters 3 and 4 put to work.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from mattn.judge.judging import Answer, Trial
from mattn.judge.subject import CouldNotRun

__all__ = ["again", "equal", "manners"]


def manners(trial: Trial) -> str | None:
    """The slip, or ``None``."""
    if trial.subject.changed:
        return "changes its input"
    answer = trial.all[0]
    outs = again(trial, answer)
    if outs is None or equal(outs, answer.outs):
        return _remembers(trial)
    with _without_dropout():
        first, second = again(trial, answer), again(trial, answer)
    still = first is None or second is None or not equal(first, second)
    return "random numbers act" if still else "dropout acts"


def again(trial: Trial, answer: Answer) -> list[Tensor] | None:
    """The same call once more; ``None`` where it does not run."""
    with contextlib.suppress(CouldNotRun):
        return trial.subject(*answer.inputs, mask=answer.handed)
    return None


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    """To the last bit, NaN in place."""
    return len(a) == len(b) and all(
        s.shape == t.shape and torch.equal(s.nan_to_num(0.5), t.nan_to_num(0.5))
        for s, t in zip(a, b, strict=True)
    )


@contextlib.contextmanager
def _without_dropout() -> Iterator[None]:
    """Inside, the dropout of torch.nn.functional does nothing."""
    sdpa = F.scaled_dot_product_attention

    def kept(x: Tensor, *args: Any, **options: Any) -> Tensor:
        return x

    def exact(*args: Any, **options: Any) -> Tensor:
        return sdpa(*args[:4], **{**options, "dropout_p": 0.0})

    with (
        mock.patch.object(F, "dropout", kept),
        mock.patch.object(F, "scaled_dot_product_attention", exact),
    ):
        yield


def _remembers(trial: Trial) -> str | None:
    """Whether a call of another length before changes the answer."""
    found = trial.answers[trial.right or min(trial.answers)]
    if not trial.subject.is_module or not {"plain", "long"} <= set(found):
        return None
    short, long = found["plain"], found["long"]
    if not _changes(trial, short, long):
        return "keeps state between calls" if _changes(trial, long, short) else None
    return "mask kept from the first call"


def _changes(trial: Trial, first: Answer, second: Answer) -> bool:
    """Whether the second answer is another one after the first call."""
    with trial.subject.remembering():
        again(trial, first)
        outs = again(trial, second)
    return outs is None or not equal(outs, second.outs)
