"""What a call that must be refused raises: the kind of the error, its message.

For processes that have not switched on the checks of shapes, which would speak
before the package does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from roots import HELPERS


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


def with_helpers() -> dict[str, str]:
    """The environment in which a test file, run as a program, finds its helpers."""
    path = [str(HELPERS), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


def printed(file: str, *arguments: str) -> Any:
    """The JSON on the last line that ``file`` prints, run as a program."""
    done = subprocess.run(
        [sys.executable, file, *arguments],
        env=with_helpers(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def refused_with(raised: Iterable[str], parts: Iterable[str]) -> None:
    """A ``ValueError`` came, and its message has these parts, in this order."""
    kind, message = raised
    assert kind == "ValueError", message
    rest = message
    for part in parts:
        assert part in rest, message
        rest = rest.partition(part)[2]
