"""Audits of what surrounds a language model: its labels, its beam search.

Chapter 9 audits labels and beams with it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from mattn.audit.asked import name_of
from mattn.audit.report import Leak, Report
from mattn.audit.run import guarded
from mattn.audit.subject import Subject

__all__ = ["BeamReport", "LabelReport", "audit_beam", "audit_labels"]


# Long because: a third is docstring; the loop reads one gradient.
def audit_labels(
    loss: Callable[[Tensor, Tensor], Tensor],
    *,
    n_symbols: int = 11,
    length: int = 9,
    batch: int = 2,
) -> Report:
    """Ask a loss which token it rewards the output at position t for.

    ``loss(logits, tokens)`` is given logits (B, T, V) and tokens (B, T) of
    the same positions. Its gradient is most negative at the class that it
    wants: that must be token t + 1. Wanting token t is a missing shift, the
    model is taught to copy what it sees; wanting t + 2 is a double shift.

    >>> import torch.nn.functional as F
    >>> unshifted = lambda logits, tokens: F.cross_entropy(logits.mT, tokens)
    >>> audit_labels(unshifted).diagnosis
    'labels not shifted: position t is taught token t, which it sees'
    """
    tokens = _neighbours_differ(n_symbols, length, batch)
    gradient = _gradient(loss, tokens, n_symbols)
    counted = gradient.abs().amax(dim=-1) > 0  # (B, T): positions that are scored
    wanted = gradient.argmin(dim=-1)
    measured = torch.zeros(length, length, dtype=torch.bool)
    leaks, missing = [], []
    expected = torch.diag(torch.ones(length - 1, dtype=torch.bool), 1)
    for t in range(length):
        if not counted[:, t].any():
            if t < length - 1:
                missing.append((t, t + 1))
            continue
        fits = [s for s in range(length) if (wanted[:, t] == tokens[:, s]).all()]
        near = min(fits, key=lambda s: abs(s - t - 1), default=None)
        strength = float(gradient[:, t].abs().max())
        if near is not None:
            measured[t, near] = True
        if near != t + 1:
            leaks.append(Leak(t, near, strength, "labels", "loss"))
    return LabelReport(
        name="the loss",
        expected=expected,
        measured=measured,
        leaks=leaks,
        missing=missing,
        covered=["the loss: labels"],
        not_covered=["labels that are shifted before the loss is called"],
        nothing_shown="" if counted.any() else "the loss has no gradient",
    )


def _neighbours_differ(n_symbols: int, length: int, batch: int) -> Tensor:
    """Tokens (B, T) in which each shift can be told apart."""
    for what, size, least in (
        ("n_symbols", n_symbols, 7),  # else t + 1 and t + 3 may hold one token
        ("length", length, 2),
        ("batch", batch, 1),
    ):
        if not isinstance(size, int) or size < least:
            raise ValueError(
                f"audit_labels: expected {what} >= {least}, an integer; got {size!r}. "
                "With less, shifts cannot be told apart."
            )
    generator = torch.Generator().manual_seed(0)
    first = torch.randint(n_symbols, (batch, 1), generator=generator)
    steps = torch.randint(1, 4, (batch, length - 1), generator=generator)
    return torch.cat([first, first + steps.cumsum(1)], dim=1) % n_symbols


def _gradient(
    loss: Callable[[Tensor, Tensor], Tensor], tokens: Tensor, n_symbols: int
) -> Tensor:
    """∂ loss / ∂ logits, (B, T, V), where all logits are 0."""
    with torch.enable_grad():
        logits = torch.zeros(*tokens.shape, n_symbols, requires_grad=True)
        value = loss(logits, tokens)
        if not isinstance(value, Tensor) or value.ndim != 0:
            got = getattr(value, "shape", type(value).__name__)
            raise ValueError(f"audit_labels: expected a scalar loss; got {got}.")
        (gradient,) = torch.autograd.grad(value, logits)
    return gradient


class LabelReport(Report):
    """The report of :func:`audit_labels`: rows are outputs, columns targets."""

    @property
    def diagnosis(self) -> str:
        shifts = Counter(
            leak.key - leak.query for leak in self.leaks if leak.key is not None
        )
        if not self.leaks:
            return ""
        if not shifts:
            return "position t is taught no token of the sequence"
        ((usual, _),) = shifts.most_common(1)
        if usual == 0:
            return "labels not shifted: position t is taught token t, which it sees"
        if usual == 2:
            return "labels shifted twice: position t is taught token t + 2"
        what = f"token t + {usual}" if usual > 0 else f"token t − {-usual}"
        return f"position t is taught {what} instead of t + 1"

    def __str__(self) -> str:
        lines = [f"Label audit of {self.name}", ""]
        if self.nothing_shown:
            lines.append(f"NOTHING SHOWN: {self.nothing_shown}.")
        elif self.leaks:
            lines.append(f"WRONG TARGETS at {len(self.leaks)} positions.")
            lines.append(f"  likely  {self.diagnosis}")
        else:
            lines.append("Every scored position t is taught token t + 1.")
        if self.missing and not self.nothing_shown:
            lines.append(f"  not scored: positions {[t for t, _ in self.missing]}")
        return "\n".join(lines + self._remarks())


def audit_beam(
    model: Callable[..., Any],
    prompt: Sequence[int] | Int[Tensor, " P"],
    hypotheses: Iterable[Any],
    *,
    forward: Callable[[Any, Tensor], Any] | None = None,
    atol: float = 1e-4,
) -> Report:
    """Score again, by teacher forcing, what a beam search returned.

    ``hypotheses`` are pairs (new tokens, Σ log p in nats), or begin with
    these two. The model reads prompt and continuation at once, without a
    cache; where its Σ log p is not the one that the search arrived at (by
    more than ``atol`` a token), the search has followed another text than it
    returned: a cache that was not reordered, a wrong position.
    """
    prompt, found = _searched(prompt, hypotheses, atol)
    scores = _scored(model, prompt, [tokens for tokens, _ in found], forward)
    leaks = []
    for index, ((tokens, claimed), score) in enumerate(zip(found, scores, strict=True)):
        difference = abs(score - claimed)
        if not difference <= atol * len(tokens):  # also when it is NaN
            size = math.inf if math.isnan(difference) else difference
            leaks.append(Leak(index, None, size, "beam", "eval mode"))
    n = len(found)
    report = BeamReport(
        name=name_of(model),
        expected=torch.ones(n, 1, dtype=torch.bool),
        measured=torch.ones(n, 1, dtype=torch.bool),
        leaks=sorted(leaks, key=lambda leak: -leak.size),
        covered=[f"{n} hypotheses scored again by teacher forcing"],
        not_covered=["whether the search found the most probable texts"],
    )
    report.scores = [
        (claimed, s) for (_, claimed), s in zip(found, scores, strict=True)
    ]
    return report


def _searched(
    prompt: Sequence[int] | Int[Tensor, " P"], hypotheses: Iterable[Any], atol: float
) -> tuple[Tensor, list[tuple[list[int], float]]]:
    """The prompt (P,), and the tokens and Σ log p of each hypothesis."""
    prompt = torch.as_tensor(prompt).flatten()
    if len(prompt) and (prompt.is_floating_point() or prompt.dtype == torch.bool):
        raise ValueError(
            f"audit_beam: expected a prompt of integer tokens; got {prompt.dtype}. "
            "Encode the text first."
        )
    if not atol >= 0:  # also when it is NaN
        raise ValueError(
            f"audit_beam: expected atol >= 0, in nats a token; got {atol}. The default "
            "fits float32."
        )
    found = [(list(h[0]), float(h[1])) for h in hypotheses]
    if not len(prompt) or not found or not all(tokens for tokens, _ in found):
        raise ValueError(
            "audit_beam: expected a prompt and hypotheses of at least one token each; "
            f"got {len(prompt)} tokens and {len(found)} hypotheses."
        )
    return prompt, found


def _scored(
    model: Callable[..., Any],
    prompt: Tensor,
    texts: list[list[int]],
    forward: Callable[[Any, Tensor], Any] | None,
) -> list[float]:
    """Σ log p of each text after the prompt, read at once."""
    scores = []
    with guarded(model):
        new = [torch.tensor(tokens).to(prompt) for tokens in texts]
        subject = Subject(model, torch.cat([prompt, new[0]])[None], forward)
        with subject.mode():
            for tokens in new:
                whole = torch.cat([prompt, tokens])[None]
                logits = subject.first_run(whole)[0].double()
                steps = logits[len(prompt) - 1 : -1].log_softmax(dim=-1)
                scores.append(float(steps.gather(-1, tokens[:, None]).sum()))
    return scores


class BeamReport(Report):
    """The report of :func:`audit_beam`; a leak's query is a hypothesis."""

    scores: list[tuple[float, float]]
    """Σ log p of each hypothesis: of the search, and scored again."""

    @property
    def diagnosis(self) -> str:
        if not self.leaks:
            return ""
        return (
            "the search followed another text than it returned: the cache is not "
            "reordered with the beams, positions are off, or scores were changed "
            "(a length penalty, a filter)"
        )

    def __str__(self) -> str:
        lines = [f"Beam audit of {self.name}", ""]
        wrong = sorted(leak.query for leak in self.leaks)
        if wrong:
            claimed, score = self.scores[wrong[0]]
            lines += [
                f"LEAK: {len(wrong)} of {len(self.scores)} hypotheses have another "
                "log-probability when scored again.",
                f"  first   hypothesis {wrong[0]}: {claimed:.4f} in the search, "
                f"{score:.4f} by teacher forcing",
                f"  likely  {self.diagnosis}",
            ]
        else:
            lines.append(f"All {len(self.scores)} log-probabilities were found again.")
        return "\n".join(lines + self._remarks())
