"""The built book as one file, to be unpacked and read without a server.

python -m book.site.archive [FILE]        default: _build/mattn.zip
"""

from __future__ import annotations

import sys
from pathlib import Path

from book import ROOT
from book.packing import pack

HTML = ROOT / "_build" / "html"
OUT = ROOT / "_build" / "mattn.zip"


def write(out: Path = OUT, html: Path = HTML) -> None:
    """Pack ``html`` into ``out``, everything under one folder, ``mattn``."""
    pack(html, out, top="mattn")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else OUT
    write(target)
    print(f"Unpack it and open mattn/index.html: {target.resolve().as_uri()}")
