"""What a call that must be refused raises: the kind of the error, its message.

For processes that have not switched on the checks of shapes, which would speak
before the package does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


def messages(calls: Mapping[str, Callable[[], object]]) -> dict[str, list[str]]:
    """Name of the case → kind of the error and its message."""
    out = {}
    for name, call in calls.items():
        try:
            call()
            out[name] = ["no error", ""]
        except Exception as error:
            out[name] = [type(error).__name__, str(error)]
    return out
