"""What is pinned, and the bounds that setup.sh keeps."""

from __future__ import annotations

import re

from roots import ROOT

SETUP = ROOT / "book" / "setup.sh"


def bound(name: str) -> int:
    """A number that setup.sh keeps: ``newest=14``."""
    text = SETUP.read_text(encoding="utf-8")
    return int(re.search(rf"^{name}=(\d+)$", text, re.MULTILINE)[1])


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line and not line.startswith(("#", "-c "))]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+(; .*)?", line) for line in lines)
    pairs = [line.split(";")[0].split("==") for line in lines]
    return {re.sub(r"[-_.]+", "-", n).lower(): version for n, version in pairs}
