"""A playground on a page of its own, read as a reader reads it."""

from __future__ import annotations

import math

import pytest
import torch
from browsers import NARROW, WIDE

from mattn import attention
from mattn.checks import same
from mattn.playground import project
from mattn.toy import TOKENS

T = len(TOKENS)
# Each width and each scheme; the two that cross them run weekly.
LOOKS = [
    pytest.param(WIDE, "light", id="1280-light"),
    pytest.param(WIDE, "dark", id="1280-dark", marks=pytest.mark.weekly),
    pytest.param(NARROW, "light", id="390-light", marks=pytest.mark.weekly),
    pytest.param(NARROW, "dark", id="390-dark"),
]
GROUND = {"light": ("#222", "#fff"), "dark": ("#ced6dd", "#121212")}


class Play:
    """One playground on a page of its own, read as a reader reads it."""

    def __init__(self, page, errors: list[str], asked: list[str]) -> None:
        self.page, self.errors, self.asked = page, errors, asked

    def find(self, selector: str):
        return self.page.locator(f".mattn-playground {selector}")

    @property
    def says(self) -> str:
        return self.find("[role=status]").inner_text()

    @property
    def rule(self) -> str:
        return self.find(".rule").inner_text()

    def cell(self, i: int, j: int):
        return self.find(f'.grid [data-cell="{i},{j}"]')

    def cells(self, what: str = "textContent") -> list[list[str]]:
        flat = self.find(".grid [data-cell]").evaluate_all(
            f"cells => cells.map(c => c.{what})"
        )
        n = math.isqrt(len(flat))
        return [flat[n * i : n * i + n] for i in range(n)]

    @property
    def allowed(self) -> torch.Tensor:
        return torch.tensor(
            [[": allowed" in s for s in row] for row in self.cells("ariaLabel")]
        )

    @property
    def weights(self) -> torch.Tensor:
        return torch.tensor(
            [[float(s.replace("−", "-") or 0) for s in row] for row in self.cells()],
            dtype=torch.float64,
        )

    @property
    def sums(self) -> list[str]:
        return self.find(".sum").all_inner_texts()

    @property
    def focused(self) -> str:
        return self.page.evaluate(
            """() => {
              const e = document.activeElement?.shadowRoot?.activeElement;
              return e?.dataset.cell ?? e?.dataset.do ?? e?.value ?? e?.localName ?? '';
            }"""
        )

    def shows(self, mask: torch.Tensor, tokens: list[str] = TOKENS) -> None:
        """The weights on the page are mattn's, to the two digits printed."""
        assert self.allowed.equal(mask)
        expected = attention(*project(tokens).values(), mask)[1]
        same(self.weights, expected, atol=0.005 + 1e-9)

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)


def matrix(rule) -> torch.Tensor:
    return rule.matrix(T).reshape(T, T)
