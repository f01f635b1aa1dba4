"""A browser for the tests that look at pages in one."""

from collections.abc import Iterator

import pytest
from browsers import BUILT, chromium, served


@pytest.fixture(scope="module")
def chrome() -> Iterator[object]:
    """A browser, whatever it is to show."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def browser(chrome: object) -> object:
    """A browser for the built book."""
    if not (BUILT / ".built").is_file():
        pytest.fail("the book is not built: `make book` first")
    return chrome


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of the built book, served on this machine."""
    with served() as address:
        yield address
