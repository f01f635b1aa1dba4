"""A fixture for test suites: ``pytest_plugins = ["mattn.audit.pytest_plugin"]``.

def test_model_is_causal(assert_causal):
    assert_causal(MyModel(), torch.randint(0, 100, (2, 16)))

Chapter 9 writes such a test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mattn import audit


@pytest.fixture
def assert_causal() -> Callable[..., None]:
    """:func:`mattn.audit.assert_causal`: fails with the report of the audit."""
    return audit.assert_causal
